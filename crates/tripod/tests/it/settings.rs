//! Settings: revisions, conflicts, and a history that holds everything.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tripod::settings::{Change, Settings, SettingsWatch};
use tripod::{Config, Error};

use crate::postgres_server::{ADMIN, Database, wait_until};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Limits {
    max_position: String,
    slippage_bps: u16,
}

fn limits(slippage_bps: u16) -> Limits {
    // A number beyond i64 and beyond a float's digits, as text: that is how it must come back.
    Limits { max_position: "18446744073709551615".into(), slippage_bps }
}

fn change(expected: Option<i64>, why: &str) -> Change<'_> {
    Change { expected, who: "ada", why }
}

#[tokio::test]
async fn every_write_is_a_revision_with_who_when_and_why() {
    let database = Database::migrated().await;
    let settings = Settings::new(database.operator());
    assert!(settings.get::<Limits>("bot", "limits").await.unwrap().is_none());

    let first = settings.set("bot", "limits", &limits(50), change(None, "first")).await.unwrap();
    assert_eq!((first.revision, &first.value), (1, &limits(50)));
    let second = settings.set("bot", "limits", &limits(30), change(Some(1), "calmer market")).await.unwrap();
    assert_eq!(second.revision, 2);

    // The bot reads what the operator wrote.
    let read = Settings::new(database.bot()).get::<Limits>("bot", "limits").await.unwrap().unwrap();
    assert_eq!(read, second);

    let history = settings.history("bot", "limits", 10).await.unwrap();
    let told: Vec<_> = history.iter().map(|r| (r.revision, r.reason.as_str(), r.changed_by.as_str())).collect();
    assert_eq!(told, [(2, "calmer market", "ada"), (1, "first", "ada")]);
    assert_eq!(history[0].before, Some(json!({"max_position": "18446744073709551615", "slippage_bps": 50})));
    assert_eq!(history[1].before, None);
    assert_eq!(history[0].login, ADMIN);
    assert!(history[0].changed_at >= history[1].changed_at);

    // A change by hand is in the history too, with the login that the server saw.
    let superuser = database.superuser().await;
    superuser
        .batch_execute("UPDATE tripod.settings SET value = '{}', changed_by = 'bob', reason = 'by hand'")
        .await
        .unwrap();
    let history = settings.history("bot", "limits", 1).await.unwrap();
    assert_eq!((history[0].revision, history[0].login.as_str()), (3, "tripod_admin"));
}

#[tokio::test]
async fn a_write_on_an_old_revision_changes_nothing() {
    let database = Database::migrated().await;
    let settings = Settings::new(database.operator());
    settings.set("bot", "limits", &1_u32, change(None, "first")).await.unwrap();
    settings.set("bot", "limits", &2_u32, change(Some(1), "second")).await.unwrap();
    for (expected, what) in [(None, "revision 2"), (Some(1), "revision 2"), (Some(7), "revision 2")] {
        let error = settings.set("bot", "limits", &9_u32, change(expected, "late")).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
    let absent = settings.set("bot", "absent", &9_u32, change(Some(1), "late")).await.unwrap_err();
    assert!(matches!(absent, Error::Conflict { .. }), "{absent:?}");
    assert_eq!(settings.get::<u32>("bot", "limits").await.unwrap().unwrap().value, 2);
    assert_eq!(settings.history("bot", "limits", 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn of_ten_writers_on_one_revision_one_wins() {
    let database = Database::migrated().await;
    let settings = Settings::new(database.operator());
    settings.set("bot", "limits", &0_u32, change(None, "first")).await.unwrap();
    let writers: Vec<_> = (1..=10_u32)
        .map(|n| {
            let settings = settings.clone();
            tokio::spawn(async move { settings.set("bot", "limits", &n, change(Some(1), "race")).await })
        })
        .collect();
    let mut won = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            Ok(setting) => won.push(setting.value),
            Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error:?}"),
        }
    }
    assert_eq!(won.len(), 1);
    let standing = settings.get::<u32>("bot", "limits").await.unwrap().unwrap();
    assert_eq!((standing.value, standing.revision), (won[0], 2));
}

#[tokio::test]
async fn a_write_that_is_repeated_finds_itself() {
    let database = Database::migrated().await;
    let settings = Settings::new(database.operator());
    let first = settings.set("bot", "limits", &limits(50), change(None, "first")).await.unwrap();
    let again = settings.set("bot", "limits", &limits(50), change(None, "first")).await.unwrap();
    assert_eq!(first, again);
    let second = settings.set("bot", "limits", &limits(40), change(Some(1), "lower")).await.unwrap();
    assert_eq!(settings.set("bot", "limits", &limits(40), change(Some(1), "lower")).await.unwrap(), second);
    assert_eq!(settings.history("bot", "limits", 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_a_setting_is_refused_with_the_reason() {
    let database = Database::migrated().await;
    let settings = Settings::new(database.operator());
    let refused = |error: Error, expected: &str| {
        assert!(matches!(&error, Error::Refused { code: Some(code), .. } if code == expected), "{error:?}");
    };
    for (namespace, key) in [("", "a"), ("a", ""), ("A", "a"), ("a", "a b"), ("a", &"a".repeat(65))] {
        refused(settings.set(namespace, key, &1_u32, change(None, "x")).await.unwrap_err(), "23514");
    }
    refused(settings.set("a", "a", &1_u32, change(None, "")).await.unwrap_err(), "23514");
    let large = settings.set("a", "a", &"x".repeat(70_000), change(None, "x")).await.unwrap_err();
    assert!(matches!(large, Error::Invalid { .. }), "{large:?}");

    let bot = Settings::new(database.bot());
    refused(bot.set("a", "b", &1_u32, change(None, "x")).await.unwrap_err(), "42501");
    settings.set("a", "c", &"text".to_owned(), change(None, "x")).await.unwrap();
    let mistyped = bot.get::<Limits>("a", "c").await.unwrap_err();
    assert!(mistyped.to_string().contains("setting a/c") && mistyped.to_string().contains("revision 1"), "{mistyped}");
    assert_eq!(bot.list("a").await.unwrap().len(), 1);
}

fn watched(database: &Database, bot: &str) -> Config {
    let mut config = Config::default();
    config.postgres = database.config.clone();
    config.bot = bot.into();
    config
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Strategy {
    slippage_bps: u16,
    #[serde(default)]
    paused: bool,
}

#[tokio::test]
async fn a_bot_runs_its_settings_as_its_own_type_and_keeps_the_last_good_one() {
    let database = Database::migrated().await;
    let settings = Settings::new(database.operator());
    let poll = Duration::from_secs(3_600);
    let config = watched(&database, "bot-1");
    let early = SettingsWatch::<Strategy>::open(&config, "strategy", poll).await.unwrap_err();
    assert!(matches!(&early, Error::Invalid { .. }) && early.to_string().contains("slippage_bps"), "{early:?}");

    settings.set("strategy", "slippage_bps", &50_u16, change(None, "first")).await.unwrap();
    let watch = SettingsWatch::<Strategy>::open(&config, "strategy", poll).await.unwrap();
    let other = SettingsWatch::<Value>::open(&watched(&database, "bot-2"), "strategy", poll).await.unwrap();
    wait_until("they listen", async || watch.is_listening() && other.is_listening()).await;
    // The poll is an hour away: only the notice can bring this.
    settings.set("strategy", "slippage_bps", &30_u16, change(Some(1), "calm")).await.unwrap();
    wait_until("the change arrives", async || watch.get().slippage_bps == 30).await;

    // One key of a wrong type, one good: the good one is not held back.
    settings.set("strategy", "slippage_bps", &json!("a lot"), change(Some(2), "slip of the hand")).await.unwrap();
    settings.set("strategy", "paused", &true, change(None, "maintenance")).await.unwrap();
    wait_until("the good one is taken", async || watch.get().paused && !watch.refused().is_empty()).await;
    assert_eq!(*watch.get(), Strategy { slippage_bps: 30, paused: true });
    let refused = &watch.refused()[0];
    assert_eq!((refused.key.as_str(), refused.revision), ("slippage_bps", 3));
    assert_eq!(watch.revisions(), BTreeMap::from([("paused".into(), 1), ("slippage_bps".into(), 2)]));

    // The operator sees who runs what: bot-2 takes any JSON, bot-1 is one revision behind and says why.
    let skew = async || settings.applied().await.unwrap();
    wait_until("both have said what they run", async || {
        let found = skew().await;
        found.len() == 2 && found[0].behind == ["slippage_bps"] && found[1].behind.is_empty()
    })
    .await;
    let found = skew().await;
    assert_eq!((found[0].bot.as_str(), found[1].bot.as_str()), ("bot-1", "bot-2"));
    assert!(found[0].refused[0].why.contains("a lot") && !found[0].is_gone(), "{found:?}");

    let back = settings.roll_back("strategy", "slippage_bps", 1, change(Some(3), "as it was")).await.unwrap();
    assert_eq!((back.revision, &back.value), (4, &json!(50)));
    wait_until("the old value is back", async || watch.get().slippage_bps == 50 && watch.refused().is_empty()).await;
    let never = settings.roll_back("strategy", "slippage_bps", 9, change(Some(4), "x")).await.unwrap_err();
    assert!(never.to_string().contains("no revision 9"), "{never}");
    let late = settings.roll_back("strategy", "slippage_bps", 1, change(Some(3), "late")).await.unwrap_err();
    assert!(matches!(late, Error::Conflict { .. }), "{late:?}");
}

#[tokio::test]
async fn without_notices_a_change_comes_by_the_clock_and_the_listener_comes_back() {
    let database = Database::migrated().await;
    let settings = Settings::new(database.operator());
    settings.set("strategy", "slippage_bps", &1_u16, change(None, "first")).await.unwrap();
    let config = watched(&database, "bot-1");
    let watch = SettingsWatch::<Strategy>::open(&config, "strategy", Duration::from_millis(200)).await.unwrap();
    wait_until("it listens", async || watch.is_listening()).await;
    let superuser = database.superuser().await;
    // Nobody says anything any more, and the one who would listen is ended.
    superuser.batch_execute("ALTER TABLE tripod.settings DISABLE TRIGGER announce").await.unwrap();
    let listener = async || -> Option<i32> {
        let pids = "SELECT pid FROM pg_stat_activity
                    WHERE datname = current_database() AND (query LIKE 'LISTEN%' OR query = 'SHOW transaction_read_only')";
        superuser.query(pids, &[]).await.unwrap().first().map(|row| row.get(0))
    };
    let before = listener().await.expect("somebody listens");
    superuser.execute("SELECT pg_terminate_backend($1)", &[&before]).await.unwrap();
    settings.set("strategy", "slippage_bps", &2_u16, change(Some(1), "second")).await.unwrap();
    wait_until("the clock brings it", async || watch.get().slippage_bps == 2).await;
    wait_until("it listens again", async || watch.is_listening() && listener().await.is_some_and(|pid| pid != before))
        .await;
    assert!(watch.age() < Duration::from_secs(10));
}
