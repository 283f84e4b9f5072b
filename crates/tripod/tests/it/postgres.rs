//! The pool, the migrations and the rights, asked of the server itself.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tripod::postgres::{Login, Postgres, migrations};
use tripod::{Advice, Error, Server};

use tripod_stack::ServerName;

use crate::postgres_server::{Database, stack, wait_until};

async fn text(client: &Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The SQLSTATE that `sql` ends with.
async fn code(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => "00000".into(),
        Err(e) => e.code().map_or_else(|| e.to_string(), |c| c.code().to_owned()),
    }
}

async fn backend(postgres: &Postgres) -> Result<i32, Error> {
    postgres.call("ask", async |client| Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))).await
}

#[tokio::test]
async fn of_ten_runners_at_once_one_applies_and_nine_find_nothing() {
    let database = Database::empty().await;
    let planned = migrations::plan(&database.config).await.unwrap();
    assert_eq!(planned.iter().filter(|s| s.object.starts_with("migration")).count(), 9, "{planned:?}");
    let superuser = database.superuser().await;
    let schemas = "SELECT nspname::text FROM pg_namespace WHERE nspname = 'tripod'";
    assert!(text(&superuser, schemas).await.is_empty(), "the plan changed something");

    let runners: Vec<_> = (0..10)
        .map(|_| {
            let config = database.config.clone();
            tokio::spawn(async move { migrations::apply(&config).await })
        })
        .collect();
    let mut applied = Vec::new();
    for runner in runners {
        let steps = runner.await.unwrap().expect("every runner ends well");
        applied.push(steps.iter().filter(|s| s.object.starts_with("migration")).count());
    }
    applied.sort_unstable();
    assert_eq!(applied, [0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    let history = text(&superuser, "SELECT version || ' ' || name FROM tripod.migrations ORDER BY version").await;
    let files = [
        "1 access",
        "2 tokens",
        "3 settings",
        "4 health",
        "5 token_sync",
        "6 settings_watch",
        "7 health_days",
        "10 token_questions",
        "11 health_days_whole",
    ];
    assert_eq!(history, files);
    let owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'tripod'::regnamespace";
    assert_eq!(text(&superuser, owners).await, ["tripod_owner"]);
    assert!(migrations::plan(&database.config).await.unwrap().is_empty());
    migrations::check(&database.bot()).await.unwrap();
}

/// `TRIPOD_BLESS=1` writes the file; its difference in version control is then the review.
#[tokio::test]
async fn an_empty_database_migrates_to_exactly_the_expected_schema() {
    let database = Database::empty().await;
    migrations::apply(&database.config).await.unwrap();
    let found = dump(&database);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres/schema.sql");
    let header = "-- What a migrated database holds: pg_dump of the schema, without comments and session settings.\n\
                  -- Compared by a test; never edited by hand, never run.\n\n";
    if std::env::var_os("TRIPOD_BLESS").is_some() {
        std::fs::write(&file, format!("{header}{found}")).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    let expected = expected.strip_prefix(header).expect("the file keeps its header");
    for (at, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "schema.sql differs at line {}; TRIPOD_BLESS=1 rewrites it", at + 4);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "one of the two goes on");
}

/// The schema of a database, in pg_dump's words.
pub(crate) fn dump(database: &Database) -> String {
    let (directory, port) = database.config.hosts[0].rsplit_once(':').unwrap();
    let admin = stack().admin(ServerName::Postgres);
    let dump = Command::new("pg_dump")
        .env("PGPASSWORD", admin.password())
        .args([
            "--schema-only",
            "--schema=tripod",
            "--exclude-table=tripod.health_changes_2*",
            "-U",
            admin.user,
            "-h",
            directory,
            "-p",
            port,
        ])
        .arg(&database.config.database)
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    normalised(&String::from_utf8(dump.stdout).unwrap())
}

/// Without what differs between minor versions of pg_dump: comments, session settings, random restrict keys.
fn normalised(dump: &str) -> String {
    let noise = ["--", "SET ", "SELECT pg_catalog.set_config", "\\restrict", "\\unrestrict"];
    let mut lines: Vec<&str> = Vec::new();
    for line in dump.lines().map(str::trim_end).filter(|l| !noise.iter().any(|n| l.starts_with(n))) {
        if !line.is_empty() || lines.last().is_some_and(|last| !last.is_empty()) {
            lines.push(line);
        }
    }
    format!("{}\n", lines.join("\n").trim_end())
}

#[tokio::test]
async fn the_bot_refuses_a_schema_that_is_not_its_own_and_says_what_to_do() {
    let empty = Database::empty().await;
    let missing = migrations::check(&empty.bot()).await.unwrap_err();
    assert!(matches!(missing, Error::Schema { server: Server::Postgres, .. }), "{missing}");
    assert!(missing.to_string().contains("`tripod migrate`"), "{missing}");

    let database = Database::migrated().await;
    let bot = database.bot();
    migrations::check(&bot).await.unwrap();
    let superuser = database.superuser().await;
    superuser.batch_execute("INSERT INTO tripod.migrations VALUES (99, 'from_the_future', '', '1')").await.unwrap();
    for error in [
        migrations::check(&bot).await.unwrap_err(),
        migrations::plan(&database.config).await.unwrap_err(),
        migrations::apply(&database.config).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("upgrade the program"), "{error}");
    }
    superuser
        .batch_execute("DELETE FROM tripod.migrations WHERE version = 99; UPDATE tripod.migrations SET checksum = '1' WHERE version = 2")
        .await
        .unwrap();
    let divergent = migrations::apply(&database.config).await.unwrap_err();
    assert!(divergent.to_string().contains("migration 2 (tokens) was changed"), "{divergent}");
}

#[tokio::test]
async fn each_login_is_stopped_at_what_it_must_not_do() {
    let database = Database::migrated().await;
    let superuser = database.superuser().await;
    superuser
        .batch_execute(
            "INSERT INTO tripod.tokens (mint, decimals, slot, write_version, source) VALUES (decode(repeat('01', 32), 'hex'), 6, 0, 0, 'x');
             INSERT INTO tripod.settings (namespace, key, value, changed_by, reason) VALUES ('limits', 'size', '1', 'me', 'first');
             UPDATE tripod.tokens SET decimals = 7",
        )
        .await
        .unwrap();
    let bot = database.bot_login().await;
    for sql in [
        "CREATE TABLE tripod.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "ALTER TABLE tripod.tokens ADD COLUMN mine int",
        "DROP TABLE tripod.health",
        "TRUNCATE tripod.tokens",
        "DELETE FROM tripod.tokens",
        "INSERT INTO tripod.token_changes (mint, field, slot, source) VALUES ('', 'x', 0, 'x')",
        "UPDATE tripod.token_changes SET field = 'x'",
        "DELETE FROM tripod.token_changes",
        "UPDATE tripod.settings SET value = '2'",
        "INSERT INTO tripod.settings_history SELECT * FROM tripod.settings_history",
        "UPDATE tripod.settings_history SET after = '2'",
        "DELETE FROM tripod.settings_history",
        "INSERT INTO tripod.health_changes (component, after, details, changed_at) VALUES ('x', 'ok', '{}', now())",
        "UPDATE tripod.health_changes SET after = 'ok'",
        "DELETE FROM tripod.health_changes",
        "INSERT INTO tripod.health_changes_default SELECT * FROM tripod.health_changes",
        "DELETE FROM tripod.health_changes_default",
        "DELETE FROM tripod.health",
        "DELETE FROM tripod.settings",
        "DELETE FROM tripod.settings_applied",
        "TRUNCATE tripod.settings_applied",
        "DELETE FROM tripod.migrations",
        "INSERT INTO tripod.settings (namespace, key, value, changed_by, reason) VALUES ('a', 'b', '1', 'me', 'x')",
        "SELECT tripod.announce_settings()",
        "SELECT tripod.refuse_change()",
        "UPDATE tripod.migrations SET checksum = '1'",
        "SELECT tripod.record_setting()",
        "SET ROLE tripod_owner",
        "SET ROLE tripod_operator",
    ] {
        assert_eq!(code(&bot, sql).await, "42501", "the bot may {sql}");
    }
    for sql in [
        "SELECT * FROM tripod.tokens",
        "UPDATE tripod.tokens SET decimals = 8",
        "SELECT * FROM tripod.settings_history",
        "SELECT * FROM tripod.migrations",
        "SELECT * FROM tripod.health_changes",
        "SELECT tripod.keep_health_days()",
        "INSERT INTO tripod.settings_applied (bot, namespace, revisions, refused, deadline_ms) VALUES ('b', 'n', '{}', '[]', 1)",
        "UPDATE tripod.settings_applied SET seen_at = now()",
    ] {
        assert_eq!(code(&bot, sql).await, "00000", "the bot must be able to {sql}");
    }
    let admin = database.admin_login().await;
    admin.batch_execute("SET ROLE tripod_operator").await.unwrap();
    assert_eq!(code(&admin, "UPDATE tripod.settings SET value = '2', changed_by = 'me', reason = 'x'").await, "00000");
    for sql in [
        "UPDATE tripod.settings SET revision = 9",
        "UPDATE tripod.settings_history SET after = '3'",
        "DELETE FROM tripod.settings_history",
        "DELETE FROM tripod.health_changes",
        "DELETE FROM tripod.settings",
        "DROP TABLE tripod.health",
    ] {
        assert_eq!(code(&admin, sql).await, "42501", "the operator may {sql}");
    }
    admin.batch_execute("RESET ROLE; SET ROLE tripod_reader").await.unwrap_err();
    superuser.batch_execute("SET ROLE tripod_reader").await.unwrap();
    assert_eq!(code(&superuser, "SELECT * FROM tripod.tokens, tripod.health, tripod.settings").await, "00000");
    assert_eq!(code(&superuser, "UPDATE tripod.tokens SET decimals = 1").await, "42501");

    // And that of every table and function there is, not only of those above: a new one without its line here fails.
    superuser.batch_execute("RESET ROLE").await.unwrap();
    let rights = "
        SELECT c.relname || ' ' || r.rolname || ': ' ||
               concat_ws(' ', CASE WHEN has_any_column_privilege(r.oid, c.oid, 'INSERT') THEN 'insert' END,
                              CASE WHEN has_any_column_privilege(r.oid, c.oid, 'UPDATE') THEN 'update' END,
                              CASE WHEN has_table_privilege(r.oid, c.oid, 'DELETE') THEN 'delete' END,
                              CASE WHEN has_table_privilege(r.oid, c.oid, 'TRUNCATE') THEN 'truncate' END)
        FROM pg_class AS c, pg_roles AS r
        WHERE c.relnamespace = 'tripod'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
          AND r.rolname IN ('tripod_writer', 'tripod_reader', 'tripod_operator')
          AND (has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE') OR has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE')
               OR NOT has_table_privilege(r.oid, c.oid, 'SELECT'))
        ORDER BY 1";
    assert_eq!(
        text(&superuser, rights).await,
        [
            "health tripod_operator: insert update",
            "health tripod_writer: insert update",
            "settings tripod_operator: insert update",
            "settings_applied tripod_operator: insert update delete",
            "settings_applied tripod_writer: insert update",
            "token_extensions tripod_operator: insert update delete",
            "token_extensions tripod_writer: insert update delete",
            "tokens tripod_operator: insert update",
            "tokens tripod_writer: insert update",
        ]
    );
    let callable = "
        SELECT p.proname || ' ' || r.rolname FROM pg_proc AS p, pg_roles AS r
        WHERE p.pronamespace = 'tripod'::regnamespace AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
          AND r.rolname IN ('tripod_writer', 'tripod_reader', 'tripod_operator') ORDER BY 1";
    assert_eq!(
        text(&superuser, callable).await,
        [
            "extension_keys tripod_operator",
            "extension_keys tripod_reader",
            "extension_keys tripod_writer",
            "keep_health_days tripod_operator",
            "keep_health_days tripod_writer",
        ]
    );

    // Even the owner, by the triggers.
    superuser.batch_execute("SET ROLE tripod_owner").await.unwrap();
    for table in ["settings_history", "token_changes", "health_changes"] {
        for sql in [format!("DELETE FROM tripod.{table}"), format!("TRUNCATE tripod.{table}")] {
            let error = superuser.batch_execute(&sql).await.unwrap_err();
            let error = error.as_db_error().unwrap();
            assert!(error.message().contains("append-only"), "{sql}: {error}");
        }
    }
    let kept =
        "SELECT (SELECT count(*) FROM tripod.settings_history) || ' ' || (SELECT count(*) FROM tripod.token_changes)";
    assert_eq!(text(&superuser, kept).await, ["2 2"]);
}

#[tokio::test]
async fn a_frozen_server_costs_a_deadline_and_no_more_and_it_heals_by_itself() {
    let mut database = Database::migrated().await;
    database.config.deadline_ms = 1_000;
    database.config.pool_size = 2;
    let bot = database.bot();
    // Both connections exist and are idle, then both processes behind them stop.
    let (one, two) = tokio::join!(
        bot.call("warm", async |c| Ok(c
            .query_one("SELECT pg_backend_pid(), pg_sleep(0.2)", &[])
            .await?
            .get::<_, i32>(0))),
        bot.call("warm", async |c| Ok(c
            .query_one("SELECT pg_backend_pid(), pg_sleep(0.2)", &[])
            .await?
            .get::<_, i32>(0))),
    );
    let frozen = [one.unwrap(), two.unwrap()];
    assert_ne!(frozen[0], frozen[1]);
    signal("STOP", &frozen);
    let started = Instant::now();
    let (one, two) = tokio::join!(backend(&bot), backend(&bot));
    let waited = started.elapsed();
    signal("CONT", &frozen);
    for outcome in [one, two] {
        let error = outcome.expect_err("nobody could have answered");
        assert!(matches!(error, Error::Deadline { server: Server::Postgres, .. }), "{error:?}");
        assert_eq!(error.advice(), Advice::Retry);
    }
    assert!(waited >= Duration::from_millis(900), "gave up early: {waited:?}");
    assert!(waited < Duration::from_secs(4), "one second was promised: {waited:?}");
    assert!(bot.down_for().is_some());

    wait_until("the pool answers again", async || backend(&bot).await.is_ok()).await;
    assert!(bot.down_for().is_none());
    assert!(!frozen.contains(&backend(&bot).await.unwrap()), "a connection that was cut short came back");
    let superuser = database.superuser().await;
    wait_until("the server drops the old connections", async || {
        let left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)";
        superuser.query_one(left, &[&&frozen[..]]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

fn signal(name: &str, pids: &[i32]) {
    for pid in pids {
        let done = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
        assert!(done.success(), "kill -{name} {pid}");
    }
}

#[tokio::test]
async fn the_server_ends_a_long_statement_itself_and_the_connection_stays() {
    let mut database = Database::migrated().await;
    database.config.deadline_ms = 1_500;
    database.config.pool_size = 1;
    let bot = database.bot();
    let before = backend(&bot).await.unwrap();
    let error = bot.call("sleep", async |c| Ok(c.query_one("SELECT pg_sleep(60)", &[]).await?)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert_eq!(backend(&bot).await.unwrap(), before, "the server said 57014; the connection is good");
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_busy_connection_behind() {
    let mut database = Database::migrated().await;
    database.config.pool_size = 1;
    let bot = database.bot();
    let before = backend(&bot).await.unwrap();
    let cut = bot.call("sleep", async |c| Ok(c.query_one("SELECT pg_sleep(10)", &[]).await?));
    tokio::time::timeout(Duration::from_millis(200), cut).await.expect_err("it sleeps longer");
    let started = Instant::now();
    assert_ne!(backend(&bot).await.unwrap(), before);
    assert!(started.elapsed() < Duration::from_secs(8), "waited for the abandoned statement");
}

#[tokio::test]
async fn a_terminated_connection_is_classed_and_replaced() {
    let mut database = Database::migrated().await;
    database.config.pool_size = 1;
    let bot = database.bot();
    let superuser = database.superuser().await;
    let pid = backend(&bot).await.unwrap();
    let work = bot.call("sleep", async |c| Ok(c.query_one("SELECT pg_sleep(10)", &[]).await?));
    let kill = async {
        wait_until("the statement runs", async || {
            let active = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
            superuser.query_one(active, &[&pid]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
        superuser.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(work, kill);
    let error = outcome.expect_err("its process was ended");
    assert!(matches!(error, Error::Busy { .. }), "57P01 is a retry: {error:?}");
    assert_ne!(backend(&bot).await.unwrap(), pid);
}

#[tokio::test]
async fn what_the_caller_can_only_fix_says_what_and_never_the_password() {
    let database = Database::migrated().await;
    let refusal = async |change: &dyn Fn(&mut tripod::config::Postgres)| {
        let mut config = database.config.clone();
        config.deadline_ms = 5_000;
        change(&mut config);
        backend(&Postgres::open(&config).unwrap()).await.unwrap_err()
    };
    let login = refusal(&|c| c.password = "a-wrong-secret".to_owned().into()).await;
    assert!(matches!(&login, Error::Refused { code: Some(code), .. } if code == "28P01"), "{login:?}");
    assert!(!format!("{login:?} {login}").contains("a-wrong-secret"));
    let nowhere = refusal(&|c| c.database = "nowhere".into()).await;
    assert!(matches!(&nowhere, Error::Refused { code: Some(code), .. } if code == "3D000"), "{nowhere:?}");
    assert!(nowhere.to_string().contains("postgres.database"), "{nowhere}");
    let absent = refusal(&|c| c.hosts = vec!["127.0.0.1:1".into()]).await;
    assert!(matches!(absent, Error::Unreachable { .. }), "{absent:?}");
    assert_eq!(absent.advice(), Advice::Wait);
}

#[tokio::test]
async fn tls_that_the_server_does_not_have_is_an_error_not_a_plain_connection() {
    let database = Database::migrated().await;
    let (_, port) = database.config.hosts[0].rsplit_once(':').unwrap();
    let mut config = database.config.clone();
    config.hosts = vec![format!("127.0.0.1:{port}")];
    backend(&Postgres::open(&config).unwrap()).await.expect("plain, it answers");
    config.tls = true;
    config.deadline_ms = 5_000;
    let error = backend(&Postgres::open_as(&config, Login::Bot, config.deadline()).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("TLS"), "{error}");
}
