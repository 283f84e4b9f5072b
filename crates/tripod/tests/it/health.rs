//! Health: who is late is seen by the reader, by the server's clock.

use std::time::Duration;

use serde_json::json;
use tripod::Error;
use tripod::health::{Health, Status};
use tripod::settings::{Change, Settings};

use crate::postgres_server::{Database, wait_until};

const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_heartbeat_that_stops_is_seen_by_whoever_reads() {
    let database = Database::migrated().await;
    let health = Health::new(database.bot());
    health.heartbeat("bot-1/quick", Status::Ok, &json!({"lag": 3}), Duration::from_millis(50)).await.unwrap();
    health.heartbeat("bot-1/slow", Status::Ok, &json!({}), LONG).await.unwrap();
    health.heartbeat("bot-1/gone", Status::Stopped, &json!({}), Duration::from_millis(50)).await.unwrap();
    let stale = async || -> Vec<String> {
        health.list().await.unwrap().into_iter().filter(|c| c.is_stale()).map(|c| c.name).collect()
    };
    wait_until("the quick one is overdue", async || stale().await == ["bot-1/quick"]).await;

    let quick = &health.list().await.unwrap()[1];
    assert_eq!((quick.name.as_str(), quick.status, &quick.details), ("bot-1/quick", Status::Ok, &json!({"lag": 3})));
    assert!(quick.age >= Duration::from_millis(50));
    health.heartbeat("bot-1/quick", Status::Ok, &json!({}), LONG).await.unwrap();
    assert!(stale().await.is_empty());

    // The age is the server's, so a heartbeat that the server dates back is late whatever this machine's clock says.
    let superuser = database.superuser().await;
    let back =
        "UPDATE tripod.health SET heartbeat_at = clock_timestamp() - interval '2 hours' WHERE component = 'bot-1/slow'";
    superuser.batch_execute(back).await.unwrap();
    assert_eq!(stale().await, ["bot-1/slow"]);
}

#[tokio::test]
async fn a_change_of_status_is_kept_and_a_heartbeat_is_not() {
    let database = Database::migrated().await;
    let health = Health::new(database.bot());
    for status in [Status::Ok, Status::Ok, Status::Degraded, Status::Degraded, Status::Failed, Status::Ok] {
        health.heartbeat("feed", status, &json!({"now": status.as_str()}), LONG).await.unwrap();
    }
    let superuser = database.superuser().await;
    let rows = superuser
        .query("SELECT coalesce(before, '-') || ' > ' || after || ' ' || (details ->> 'now') FROM tripod.health_changes ORDER BY id", &[])
        .await
        .unwrap();
    let changes: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
    assert_eq!(changes, ["- > ok ok", "ok > degraded degraded", "degraded > failed failed", "failed > ok ok"]);

    let before = health.list().await.unwrap().remove(0);
    health.heartbeat("feed", Status::Ok, &json!({}), LONG).await.unwrap();
    let after = health.list().await.unwrap().remove(0);
    assert_eq!(after.since, before.since, "the status did not change");
    assert!(after.heartbeat_at > before.heartbeat_at);
}

#[tokio::test]
async fn a_heartbeat_touches_no_index() {
    let mut database = Database::migrated().await;
    database.config.pool_size = 1;
    let bot = database.bot();
    let health = Health::new(bot.clone());
    for n in 0..50 {
        health.heartbeat("feed", Status::Ok, &json!({ "n": n }), LONG).await.unwrap();
    }
    // The same connection hands in its counts now instead of when it has been idle for a while.
    bot.call("flush", async |c| Ok(c.batch_execute("SELECT pg_stat_force_next_flush()").await?)).await.unwrap();
    let superuser = database.superuser().await;
    let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'health'";
    wait_until("the server counted the 49 updates, all of them HOT", async || {
        let row = superuser.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1)) == (49, 49)
    })
    .await;
}

#[tokio::test]
async fn what_is_no_heartbeat_is_refused() {
    let database = Database::migrated().await;
    let health = Health::new(database.bot());
    let details = json!({});
    for name in ["", "Feed", "a b", &"a".repeat(65)] {
        let error = health.heartbeat(name, Status::Ok, &details, LONG).await.unwrap_err();
        assert!(matches!(&error, Error::Refused { code: Some(code), .. } if code == "23514"), "{error:?}");
    }
    let never = health.heartbeat("feed", Status::Ok, &details, Duration::ZERO).await.unwrap_err();
    assert!(matches!(never, Error::Invalid { .. }), "{never:?}");
    let large = health.heartbeat("feed", Status::Ok, &json!("x".repeat(20_000)), LONG).await.unwrap_err();
    assert!(matches!(large, Error::Invalid { .. }), "{large:?}");
}

#[tokio::test]
async fn a_heartbeat_from_the_future_proves_nothing_until_the_next() {
    let database = Database::migrated().await;
    let health = Health::new(database.bot());
    let minute = Duration::from_secs(60);
    health.heartbeat("feed", Status::Ok, &json!({}), minute).await.unwrap();
    let superuser = database.superuser().await;
    // What a server whose clock went back by two hours has.
    let ahead = "UPDATE tripod.health SET heartbeat_at = clock_timestamp() + interval '2 hours'";
    superuser.batch_execute(ahead).await.unwrap();
    let feed = health.list().await.unwrap().remove(0);
    assert!(feed.is_stale() && feed.age.is_zero() && feed.ahead > minute, "{feed:?}");
    health.heartbeat("feed", Status::Ok, &json!({}), minute).await.unwrap();
    let feed = health.list().await.unwrap().remove(0);
    assert!(!feed.is_stale() && feed.ahead < minute, "{feed:?}");
}

#[tokio::test]
async fn the_days_are_kept_by_whoever_sends_heartbeats_and_a_missing_one_loses_nothing() {
    let database = Database::migrated().await;
    let health = Health::new(database.bot());
    let superuser = database.superuser().await;
    let parts = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'tripod.health_changes'::regclass";
    let parts = async || superuser.query_one(parts, &[]).await.unwrap().get::<_, i64>(0);
    // As if nobody had called for weeks: no day is there, but the default.
    let days = "SELECT string_agg(format('DROP TABLE %s', inhrelid::regclass), ';') FROM pg_inherits
                WHERE inhparent = 'tripod.health_changes'::regclass AND inhrelid <> 'tripod.health_changes_default'::regclass";
    let drop: Option<String> = superuser.query_one(days, &[]).await.unwrap().get(0);
    superuser.batch_execute(&drop.expect("`migrate` has made days")).await.unwrap();
    assert_eq!(parts().await, 1);
    superuser
        .batch_execute(
            "INSERT INTO tripod.health (component, status, details, deadline_ms) VALUES ('net', 'ok', '{}', 1000);
             INSERT INTO tripod.health (component, status, details, deadline_ms, heartbeat_at) VALUES
                ('future', 'ok', '{}', 1000, now() + interval '50 days'), ('old', 'ok', '{}', 1000, now() - interval '100 days')",
        )
        .await
        .unwrap();
    assert_eq!(health.changes(None, 10).await.unwrap().len(), 3, "the default partition took all");

    health.heartbeat("feed", Status::Ok, &json!({}), LONG).await.unwrap();
    wait_until("the days are made", async || parts().await == 9).await;
    let place = "SELECT tableoid::regclass::text, component FROM tripod.health_changes ORDER BY component";
    let rows = superuser.query(place, &[]).await.unwrap();
    let found: Vec<(String, String)> = rows.iter().map(|row| (row.get(1), row.get(0))).collect();
    let names: Vec<&str> = found.iter().map(|(component, _)| component.as_str()).collect();
    assert_eq!(names, ["feed", "future", "net"], "the one beyond retention is gone: {found:?}");
    assert_eq!(found[1].1, "tripod.health_changes_default");
    assert!(found[2].1.starts_with("tripod.health_changes_2"), "moved into its day: {found:?}");

    // Retention is the operator's, and the bot cannot shorten it.
    superuser
        .batch_execute(
            "SET ROLE tripod_owner;
             CREATE TABLE tripod.health_changes_20200101 PARTITION OF tripod.health_changes
             FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-01-02 00:00+00'); RESET ROLE",
        )
        .await
        .unwrap();
    let operator = Settings::new(database.operator());
    let change = Change { expected: None, who: "ada", why: "disk" };
    operator.set("health", "keep_days", &json!("many"), change).await.unwrap();
    assert_eq!(health.keep_days().await.unwrap(), (0, 1), "a setting that is no number is not followed: 90 days");
    let one = health.changes(Some("feed"), 10).await.unwrap();
    assert_eq!((one.len(), one[0].before, one[0].after), (1, None, Status::Ok));
}

#[tokio::test]
async fn whoever_reads_while_days_are_made_misses_no_change() {
    let database = Database::migrated().await;
    let health = Health::new(database.bot());
    let (keeper, superuser) = (database.superuser().await, database.superuser().await);
    let days = "SELECT string_agg(format('DROP TABLE %s', inhrelid::regclass), ';') FROM pg_inherits
                WHERE inhparent = 'tripod.health_changes'::regclass AND inhrelid <> 'tripod.health_changes_default'::regclass";
    let drop: String = superuser.query_one(days, &[]).await.unwrap().get(0);
    superuser.batch_execute(&drop).await.unwrap();
    let insert =
        "INSERT INTO tripod.health (component, status, details, deadline_ms) VALUES ('feed', 'ok', '{}', 1000)";
    superuser.batch_execute(insert).await.unwrap();
    assert_eq!(health.changes(None, 10).await.unwrap().len(), 1, "in the default partition");

    keeper.batch_execute("BEGIN").await.unwrap();
    let made: i32 = keeper.query_one("SELECT made FROM tripod.keep_health_days()", &[]).await.unwrap().get(0);
    assert_eq!(made, 8);
    let reader = tokio::spawn(async move { health.changes(None, 10).await });
    let waiting = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
                   WHERE d.datname = current_database() AND NOT l.granted";
    wait_until("the reader waits for the days", async || {
        superuser.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    keeper.batch_execute("COMMIT").await.unwrap();
    let seen = reader.await.unwrap().unwrap();
    assert_eq!(seen.len(), 1, "moved into its day, and read from there");
}
