//! `tripod doctor`: each thing broken on purpose on live servers is found, with its remedy; a healthy stack has nothing. What
//! of a machine cannot be broken without harm to others is judged in `commands/doctor/machine.rs`, from facts.

mod around;
mod proofs;
mod replicated;

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Barrier;
use tripod::Config;
use tripod::postgres::{Login, Postgres};
use tripod::tape::questdb::QuestDbHttp;
use tripod_stack::{PostgresPlace, ServerName, Servers, TestStack};

use crate::run::{Said, run, tripod};

/// A stack with its schema.
fn stack(servers: Servers) -> TestStack {
    let stack = TestStack::start(servers).unwrap();
    let said = run(stack.data_dir(), &["--data", ".", "migrate", "-q"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    // What a stack for tests leaves out for speed, and the doctor would rightly miss.
    let (fsync, pages) = ("ALTER SYSTEM SET fsync = on", "ALTER SYSTEM SET full_page_writes = on");
    sql(stack.data_dir(), &[fsync, pages, "SELECT pg_reload_conf()"]);
    stack
}

/// With budgets that fit any disk that tests run on.
fn doctor(data: &Path) -> Said {
    doctor_with(data, &[])
}

fn doctor_with(data: &Path, variables: &[(&str, &str)]) -> Said {
    let mut command = tripod();
    for class in ["CRITICAL", "STANDARD", "DEBUG"] {
        command.env(format!("TRIPOD__JOURNAL__{class}_BUDGET_MIB"), "64");
    }
    command.envs(variables.iter().copied());
    command.current_dir(data).args(["--data", ".", "doctor", "--json"]).output().unwrap().into()
}

/// What it finds beyond the machine's own settings, and that a stack for tests does not wait for its disk.
fn found(data: &Path) -> Vec<(String, String)> {
    found_in(&doctor(data))
}

fn found_in(said: &Said) -> Vec<(String, String)> {
    let json = said.json();
    let findings = json["findings"].as_array().unwrap();
    for finding in findings {
        for field in ["id", "severity", "what", "why", "remedy"] {
            assert!(finding[field].as_str().is_some_and(|words| !words.is_empty()), "{field}: {finding}");
        }
    }
    let wrong = findings.iter().filter(|finding| finding["severity"] == "wrong").count();
    assert_eq!((json["ok"].as_bool(), said.code), (Some(wrong == 0), Some(i32::from(wrong > 0))), "{said:?}");
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    findings
        .iter()
        .filter(|finding| finding["severity"] == "wrong" || !text(finding, "id").starts_with("machine."))
        .filter(|finding| finding["id"] != "redis.append-sync")
        .map(|finding| (text(finding, "id"), text(finding, "remedy")))
        .collect()
}

fn ids(found: &[(String, String)]) -> Vec<&str> {
    let mut ids: Vec<_> = found.iter().map(|(id, _)| id.as_str()).collect();
    ids.dedup();
    ids
}

fn sql(data: &Path, statements: &[&str]) {
    let config = Config::local(data).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let postgres = Postgres::open_as(&config.postgres, Login::Admin, Duration::from_secs(30)).unwrap();
        for statement in statements {
            // One by one: ALTER SYSTEM runs in no transaction.
            postgres.call("break it", async |client| Ok(client.batch_execute(statement).await?)).await.unwrap();
        }
    });
}

#[test]
fn what_is_wrong_with_postgresql_is_found_and_its_remedy_mends_it() {
    let stack = stack(Servers::ALL);
    let data = stack.data_dir();
    assert_eq!(found(data), [], "a healthy stack");
    sql(
        data,
        &[
            "ALTER SYSTEM SET fsync = off",
            "ALTER SYSTEM SET full_page_writes = off",
            "ALTER SYSTEM SET synchronous_commit = off",
            "SELECT pg_reload_conf()",
            "REVOKE INSERT ON tripod.tokens FROM tripod_writer",
            "GRANT DELETE ON tripod.settings_history TO tripod_operator",
            "GRANT tripod_operator TO tripod_bot",
            "ALTER ROLE tripod_bot CREATEROLE",
        ],
    );
    let broken = found(data);
    assert_eq!(
        ids(&broken),
        [
            "postgres.bot-rights",
            "postgres.fsync",
            "postgres.full-page-writes",
            "postgres.grants",
            "postgres.synchronous-commit",
        ]
    );
    // The remedies are statements: they are carried out as they stand.
    for (id, remedy) in &broken {
        assert!(!remedy.contains('`'), "{id}: {remedy}");
        for statement in remedy.split_inclusive(';') {
            sql(data, &[statement]);
        }
    }
    assert_eq!(found(data), [], "after the remedies");
    sql(data, &["ALTER ROLE tripod_bot SUPERUSER", "DELETE FROM tripod.migrations WHERE version > 4"]);
    assert_eq!(ids(&found(data)), ["postgres.bot-rights", "postgres.schema"]);
}

/// The archive is made unusable on a stack of the operator's, and `tripod up`, the remedy, mends it.
#[test]
fn an_archive_that_fails_is_found_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join(".tripod");
    let tripod = |arguments: &[&str]| run(dir.path(), arguments);
    assert_eq!(tripod(&["up", "-q"]).code, Some(0));
    let _down = Down(dir.path());
    assert_eq!(tripod(&["migrate", "-q"]).code, Some(0));
    assert_eq!(found(&data), [], "a healthy stack");
    let archive = PostgresPlace::of(&data).unwrap().archive().unwrap();
    let aside = archive.with_extension("aside");
    // Each attempt to archive is one of a file that was just finished.
    let await_found = |ids_wanted: &[&str]| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            sql(&data, &["SELECT txid_current()", "SELECT pg_switch_wal()"]);
            let all = found(&data);
            if ids(&all) == ids_wanted {
                return all;
            }
            assert!(Instant::now() < end, "{all:?} instead of {ids_wanted:?}");
        }
    };
    let take_away = || {
        // From the server's account; what root may do it may not.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&archive, Some(0), Some(0)).unwrap();
        }
        std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o500)).unwrap();
    };
    take_away();
    let broken = await_found(&["postgres.archive"]);
    assert!(broken[0].1.contains("`tripod up`"), "{broken:?}");
    assert_eq!(tripod(&["up", "-q"]).code, Some(0));
    await_found(&[]);

    std::fs::rename(&archive, &aside).unwrap();
    std::fs::write(&archive, "in the way").unwrap();
    await_found(&["postgres.archive"]);
    let said = tripod(&["up"]);
    assert!(said.code == Some(1) && said.err.contains("is not a directory; move away what is there"), "{said:?}");
    std::fs::remove_file(&archive).unwrap();
    std::fs::rename(&aside, &archive).unwrap();
    await_found(&[]);

    sql(&data, &["ALTER SYSTEM SET archive_command = ''", "SELECT pg_reload_conf()"]);
    let broken = await_found(&["postgres.archive"]);
    let remedy = broken[0].1.split(" or set").next().unwrap();
    for statement in remedy.split_inclusive(';') {
        sql(&data, &[statement]);
    }
    await_found(&[]);
}

/// Leaves no server behind when a test fails.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        run(self.0, &["down", "--wipe", "--yes", "-q"]);
    }
}

#[test]
fn what_postgresql_takes_in_at_its_start_is_found_and_a_missing_login() {
    let stack = stack(Servers { postgres: true, ..Servers::ALL });
    let data = stack.data_dir();
    let after = |statements: &[&str]| {
        sql(data, statements);
        stack.restart_server(ServerName::Postgres).unwrap();
        ids(&found(data)).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(after(&["ALTER SYSTEM SET listen_addresses = '*'"]), ["postgres.plain-network"]);
    assert_eq!(
        after(&[
            "ALTER SYSTEM RESET listen_addresses",
            "ALTER SYSTEM SET wal_level = minimal",
            "ALTER SYSTEM SET max_wal_senders = 0",
            // With an archive it would not start.
            "ALTER SYSTEM SET archive_mode = off",
        ]),
        ["postgres.wal-level", "postgres.archive-off"]
    );
    let nothing: [&str; 0] = [];
    let reset = ["wal_level", "max_wal_senders", "archive_mode"].map(|name| format!("ALTER SYSTEM RESET {name}"));
    assert_eq!(after(&reset.each_ref().map(String::as_str)), nothing);

    sql(data, &["ALTER ROLE tripod_bot RENAME TO tripod_gone"]);
    assert_eq!(ids(&found(data)), ["postgres.bot-login"]);
    sql(data, &["ALTER ROLE tripod_gone RENAME TO tripod_bot", "REVOKE tripod_writer FROM tripod_bot"]);
    assert_eq!(ids(&found(data)), ["postgres.bot-rights"]);
    sql(data, &["GRANT tripod_writer TO tripod_bot"]);

    let checksums = |what: &str| {
        stack.stop_server(ServerName::Postgres).unwrap();
        let cluster = stack.data_path(ServerName::Postgres);
        let owner = std::fs::metadata(&cluster).unwrap();
        let program = postgres_bin().join("pg_checksums");
        let done = Command::new(program).args([what, "-D"]).arg(&cluster).uid(owner.uid()).gid(owner.gid()).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{done:?}");
        stack.start_server(ServerName::Postgres).unwrap();
    };
    checksums("--disable");
    assert_eq!(ids(&found(data)), ["postgres.checksums"]);
    checksums("--enable");
    assert_eq!(found(data), []);
}

/// Where the newest PostgreSQL's programs are.
fn postgres_bin() -> std::path::PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").unwrap().flatten();
    let version = |path: &std::path::PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    installed.map(|entry| entry.path()).filter(|path| version(path).is_some()).max_by_key(version).unwrap().join("bin")
}

#[test]
fn connections_that_run_out_are_found() {
    /// Of 40: more than four in five.
    const HELD: usize = 34;
    let stack = stack(Servers::ALL);
    let mut config = Config::local(stack.data_dir()).unwrap().postgres;
    config.pool_size = HELD;
    assert_eq!(found(stack.data_dir()), []);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // All of them, and this test: once when they are there, once when they may go.
    let barrier = Arc::new(Barrier::new(HELD + 1));
    let postgres = {
        let _runtime = runtime.enter();
        Postgres::open_as(&config, Login::Admin, Duration::from_secs(120)).unwrap()
    };
    let holders: Vec<_> = (0..HELD)
        .map(|_| {
            let (postgres, barrier) = (postgres.clone(), Arc::clone(&barrier));
            runtime.spawn(async move {
                postgres
                    .call("hold a connection", async |_client| {
                        barrier.wait().await;
                        barrier.wait().await;
                        Ok(())
                    })
                    .await
                    .unwrap();
            })
        })
        .collect();
    runtime.block_on(barrier.wait());
    let while_held = found(stack.data_dir());
    runtime.block_on(async {
        barrier.wait().await;
        for holder in holders {
            holder.await.unwrap();
        }
    });
    assert_eq!(ids(&while_held), ["postgres.connections"]);
}

fn redis(stack: &TestStack, server: ServerName, words: &[&str]) {
    let login = stack.admin(server);
    let output = Command::new("redis-cli")
        .env("REDISCLI_AUTH", login.password())
        .args(["-s", &stack.socket(server).unwrap().display().to_string(), "--user", login.user, "-e"])
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_is_wrong_with_redis_is_found() {
    let stack = stack(Servers::ALL);
    let (prices, events) = (ServerName::RedisPrices, ServerName::RedisEvents);
    let cases: &[(ServerName, &[&str], &[&str], &str)] = &[
        (
            events,
            &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
            &["CONFIG", "SET", "maxmemory-policy", "noeviction"],
            "redis.memory-policy",
        ),
        (
            prices,
            &["CONFIG", "SET", "maxmemory-policy", "noeviction"],
            &["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"],
            "redis.memory-policy",
        ),
        (prices, &["CONFIG", "SET", "maxmemory", "0"], &["CONFIG", "SET", "maxmemory", "64mb"], "redis.memory-limit"),
        (events, &["CONFIG", "SET", "appendonly", "no"], &["CONFIG", "SET", "appendonly", "yes"], "redis.append-only"),
        (prices, &["CONFIG", "SET", "appendonly", "yes"], &["CONFIG", "SET", "appendonly", "no"], "redis.append-only"),
        (
            events,
            &["ACL", "SETUSER", "default", "-@all"],
            &["ACL", "SETUSER", "default", "+@all"],
            "redis.default-user",
        ),
        (
            events,
            &["ACL", "SETUSER", "tripod_bot", "-xadd"],
            &["ACL", "SETUSER", "tripod_bot", "+xadd"],
            "redis.bot-rights",
        ),
        (
            prices,
            &["ACL", "SETUSER", "tripod_bot", "+flushall"],
            &["ACL", "SETUSER", "tripod_bot", "-flushall"],
            "redis.bot-rights",
        ),
        (prices, &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"], "redis.role"),
        (events, &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"], "redis.role"),
        // Gone for good, so the last.
        (events, &["ACL", "DELUSER", "tripod_bot"], &["PING"], "redis.bot-user"),
    ];
    for (server, breaks, mends, id) in cases {
        redis(&stack, *server, breaks);
        assert_eq!(ids(&found(stack.data_dir())), [*id], "after {breaks:?}");
        redis(&stack, *server, mends);
    }
    redis(&stack, events, &["CONFIG", "SET", "maxmemory", "1mb"]);
    assert!(ids(&found(stack.data_dir())).contains(&"redis.memory"));
    // A stack for tests has it so, and `found` leaves it out.
    let says_sync = || doctor(stack.data_dir()).json()["findings"].to_string().contains("redis.append-sync");
    assert!(says_sync());
    redis(&stack, events, &["CONFIG", "SET", "appendfsync", "everysec"]);
    assert!(!says_sync());
    redis(&stack, prices, &["ACL", "SETUSER", "tripod_admin", "-acl|dryrun"]);
    assert!(ids(&found(stack.data_dir())).contains(&"redis.unknown"));
    stack.kill(prices).unwrap();
    assert!(ids(&found(stack.data_dir())).contains(&"redis.unreachable"));
}

#[test]
fn what_is_wrong_with_questdb_is_found() {
    let stack = stack(Servers::ALL);
    let data = stack.data_dir();
    let conf = stack.data_path(ServerName::QuestDb).join("conf/server.conf");
    stack.stop_server(ServerName::QuestDb).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&conf).unwrap();
    file.write_all(
        b"\nline.auto.create.new.columns=true\ndev.mode.enabled=true\ncairo.writer.data.append.page.size=16M\n\
          cairo.wal.enabled.default=false\ntelemetry.enabled=true\ntelemetry.disable.completely=false\n\
          ram.usage.limit.percent=0\n",
    )
    .unwrap();
    stack.start_server(ServerName::QuestDb).unwrap();
    let http = QuestDbHttp::new(&Config::local(data).unwrap().questdb[0], Duration::from_secs(30)).unwrap();
    for statement in [
        "ALTER TABLE executions SUSPEND WAL",
        "ALTER TABLE quotes DEDUP DISABLE",
        "ALTER TABLE market_trades SET TTL 90 DAYS",
        "CHECKPOINT CREATE",
    ] {
        http.exec(statement).unwrap();
    }
    let all = found(data);
    assert_eq!(
        ids(&all),
        [
            "questdb.auto-create",
            "questdb.checkpoint",
            "questdb.schema",
            "questdb.suspended",
            "questdb.wal",
            "questdb.append-page",
            "questdb.dev-mode",
            "questdb.memory",
            "questdb.telemetry",
        ]
    );
    assert_eq!(all.iter().filter(|(id, _)| id == "questdb.schema").count(), 2, "{all:?}");
    http.exec("CHECKPOINT RELEASE").unwrap();
    assert!(!ids(&found(data)).contains(&"questdb.checkpoint"));
}

#[test]
fn a_questdb_that_is_open_to_all_and_views_that_do_not_follow_are_found() {
    let stack = stack(Servers::ALL);
    let data = stack.data_dir();
    let questdb = || QuestDbHttp::new(&Config::local(data).unwrap().questdb[0], Duration::from_secs(30)).unwrap();
    assert_eq!(found(data), []);

    // Rows that a view was told of and does not take in.
    questdb().exec("ALTER MATERIALIZED VIEW quality_1m SET REFRESH MANUAL").unwrap();
    questdb().exec("INSERT INTO executions (at, strategy, venue) VALUES (now(), 's', 'v')").unwrap();
    let behind = await_found(data, "questdb.view-behind");
    assert_eq!(ids(&behind), ["questdb.schema", "questdb.view-behind"], "{behind:?}");
    questdb().exec("ALTER MATERIALIZED VIEW quality_1m SET REFRESH IMMEDIATE").unwrap();
    // A view of which the base was emptied is invalid; of those of the other base nothing is said.
    questdb().exec("TRUNCATE TABLE market_trades").unwrap();
    let invalid = await_found(data, "questdb.view");
    assert!(invalid.iter().filter(|(id, _)| id == "questdb.view").count() == 3, "{invalid:?}");
    for view in ["candles_1s", "candles_1m", "candles_1h"] {
        questdb().exec(&format!("DROP MATERIALIZED VIEW {view}")).unwrap();
    }
    let missing = await_found(data, "questdb.schema");
    assert!(missing.iter().any(|(_, remedy)| remedy == "`tripod migrate`"), "{missing:?}");
    assert_eq!(run(data, &["--data", ".", "migrate", "-q"]).code, Some(0));

    let conf = stack.data_path(ServerName::QuestDb).join("conf/server.conf");
    let port = stack.address(ServerName::QuestDb).split(':').next_back().unwrap().to_owned();
    stack.stop_server(ServerName::QuestDb).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&conf).unwrap();
    file.write_all(format!("\nhttp.net.bind.to=0.0.0.0:{port}\nhttp.user=\nhttp.password=\n").as_bytes()).unwrap();
    stack.start_server(ServerName::QuestDb).unwrap();
    let open = found(data);
    assert_eq!(ids(&open), ["questdb.open"], "{open:?}");
}

/// Looks until this is found: what a server does by itself takes a moment.
fn await_found(data: &Path, id: &str) -> Vec<(String, String)> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let found = found(data);
        if found.iter().any(|(there, _)| there == id) {
            return found;
        }
        assert!(Instant::now() < end, "{id} is not found: {found:?}");
    }
}
