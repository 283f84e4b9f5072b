//! Backups on a real stack: what comes back is compared with what the servers themselves said before.

mod killed;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::Value as RedisValue;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::tables::Attempt;
use tripod::tape::{Tape, schema};
use tripod::{Config, Timestamp, Token, Uuid};
use tripod_stack::{ServerName, Servers, TestStack};

use crate::run::{Said, run};

/// Generous: the machine may be busy.
const LONG: Duration = Duration::from_secs(120);
/// The contract of `create`, `ls`, `verify`.
const FIELDS: [&str; 5] = ["id", "ok", "stores", "tables", "restore_s"];

/// A whole stack with the schema, and something in each store.
struct Scene(TestStack);

impl Scene {
    fn new() -> Self {
        let scene = Self(TestStack::start(Servers::ALL).unwrap());
        scene.done(&["migrate"]);
        scene
    }

    fn data(&self) -> &Path {
        self.0.data_dir()
    }

    fn tripod(&self, arguments: &[&str]) -> Said {
        run(self.data(), &[&["--data", ".", "--json"], arguments].concat())
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let said = self.tripod(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        said.json()
    }

    fn config(&self) -> Config {
        Config::load(self.0.config_path()).unwrap()
    }

    fn http(&self) -> QuestDbHttp {
        QuestDbHttp::new(&self.config().questdb[0], LONG).unwrap()
    }

    /// Rows of a bot, visible when this returns.
    fn record(&self, rows: std::ops::Range<u128>) {
        let tape = Tape::open(&self.config()).unwrap();
        let token = Token::new("SOL").unwrap();
        for n in rows {
            let attempt = Attempt::new(Uuid::from_u128(n), Timestamp::now(), "example", "orca", token);
            tape.recorder().record(&attempt).unwrap();
        }
        assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
        assert!(tape.close(LONG).remaining.is_empty());
    }

    /// The same mark in all three stores.
    fn mark(&self, mark: u64) {
        let first = u128::from(mark) * 1_000_000;
        self.record(first..first + 50);
        let now = self.tripod(&["settings", "get", "test", "mark"]);
        let revision = (now.code == Some(0)).then(|| now.json()["revision"].to_string());
        let revision = revision.as_ref().map(|revision| ["--revision", revision]);
        let set = ["settings", "set", "test", "mark", &mark.to_string(), "--why", "a test", "--who", "ada"];
        self.done(&[&set[..], revision.as_ref().map_or(&[][..], |words| &words[..])].concat());
        for number in 0..20 {
            self.done(&["events", "publish", "marks", "mark", &format!("{{\"mark\":{mark},\"n\":{number}}}")]);
        }
    }

    /// Everything, by the servers' own words.
    fn content(&self) -> Content {
        let rows = |sql: &str| self.http().exec(sql).unwrap().rows;
        Content {
            attempts: rows("SELECT * FROM attempts ORDER BY at, id"),
            setting: self.tripod(&["settings", "get", "test", "mark"]).out,
            history: self.tripod(&["settings", "history", "test", "mark"]).out,
            events: self.redis(&["XRANGE", "events:marks", "-", "+"]),
            groups: self.redis(&["XINFO", "GROUPS", "events:marks"]),
        }
    }

    fn redis(&self, words: &[&str]) -> RedisValue {
        let config = self.config().redis.events;
        let url =
            format!("redis://{}:{}@{}", config.admin_user, config.admin_password.expose_secret(), config.addresses[0]);
        let mut connection = redis::Client::open(url).unwrap().get_connection_with_timeout(LONG).unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection).unwrap()
    }

    fn backups(&self) -> PathBuf {
        self.data().join("backups")
    }

    fn checkpoint_is_open(&self) -> bool {
        self.http().exec("SELECT in_progress FROM checkpoint_status()").unwrap().rows[0][0].as_bool().unwrap()
    }
}

#[derive(Debug, PartialEq)]
struct Content {
    attempts: Vec<Vec<Value>>,
    setting: String,
    history: String,
    events: RedisValue,
    groups: RedisValue,
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// No secret of the stack in any file that is not the data themselves.
fn holds_no_secret(scene: &Scene, backup: &Path) {
    let config = scene.config();
    let secrets = [
        &config.questdb[0].password,
        &config.postgres.password,
        &config.postgres.admin_password,
        &config.redis.events.password,
        &config.redis.events.admin_password,
    ];
    for file in files_below(backup) {
        let name = file.display().to_string();
        assert!(!name.contains("server.conf") && !name.contains("users.acl") && !name.contains("redis.conf"), "{name}");
        let bytes = std::fs::read(&file).unwrap();
        let bytes = if name.ends_with(".zst") { zstd::stream::decode_all(&bytes[..]).unwrap() } else { bytes };
        for secret in secrets {
            let secret = secret.expose_secret().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "a password in {name}");
        }
    }
}

#[test]
fn a_backup_is_made_proven_and_put_back_and_the_journal_brings_what_came_since() {
    let scene = Scene::new();
    let none = scene.tripod(&["backup", "verify"]);
    assert!(none.code == Some(2) && none.err.contains("`tripod backup create`"), "{none:?}");
    scene.mark(1);
    // A group that has read half and acknowledged some of it.
    scene.redis(&["XGROUP", "CREATE", "events:marks", "readers", "0"]);
    scene.redis(&["XREADGROUP", "GROUP", "readers", "one", "COUNT", "10", "STREAMS", "events:marks", ">"]);

    let made = scene.done(&["backup", "create"]);
    for field in FIELDS {
        assert!(made.get(field).is_some(), "`{field}` is missing in {made}");
    }
    let id = made["id"].as_str().unwrap().to_owned();
    holds_no_secret(&scene, &scene.backups().join(&id));
    assert!(!scene.checkpoint_is_open());
    let before = scene.content();
    assert_eq!((before.attempts.len(), made["ok"].as_bool()), (50, Some(true)));

    let proof = scene.done(&["backup", "verify"]);
    assert_eq!((&proof["id"], &proof["ok"], &proof["problems"]), (&json!(id), &json!(true), &json!([])), "{proof}");
    assert!(proof["restore_s"].as_f64() > Some(0.0), "{proof}");
    let table = |document: &Value, name: &str| {
        document["tables"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
    };
    let attempts = table(&proof, "attempts");
    assert_eq!((&attempts["expected"], &attempts["restored"]), (&json!(50), &json!(50)));
    assert_eq!(attempts["compared"], 50, "every row, by value: {proof}");
    for name in ["tripod.settings", "events:marks"] {
        let one = table(&proof, name);
        assert!(one["expected"].as_u64() > Some(0) && one["expected"] == one["restored"], "{one}");
        assert_eq!(one["compared"], one["expected"], "{one}");
    }
    let listed = scene.done(&["backup", "ls"]);
    assert_eq!((&listed[0]["id"], listed[0]["proven_at"].is_string()), (&json!(id), true), "{listed}");
    let status = scene.tripod(&["status"]).json();
    assert_eq!((&status["backup"]["last_id"], &status["backup"]["last_proven_id"]), (&json!(id), &json!(id)));

    // What came since, in all three.
    scene.mark(2);
    let later = scene.content();
    assert_eq!(later.attempts.len(), 100);

    let refused = scene.tripod(&["backup", "restore"]);
    assert!(refused.code == Some(4) && refused.err.contains("--yes"), "{refused:?}");
    assert!(scene.content() == later, "a refusal changed something");
    let restored = scene.done(&["backup", "restore", "--yes"]);
    assert_eq!((&restored["id"], &restored["rows_missing_from"]), (&json!(id), &json!(null)), "{restored}");
    assert!(scene.content() == before, "it changed the data");
    let left: Vec<_> = files_below(&scene.data().join("stack"))
        .into_iter()
        .filter(|path| path.display().to_string().contains("before-restore"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "the old data were not removed");
    assert!(!scene.data().join("restore").exists() && !scene.data().join("restore.json").exists());

    // Nobody delivers yet, so what the sinks said last is older than that; whoever does notices that the server forgot.
    let stale = |status: &Value| status["notes"].to_string().contains("sink main has not run since backup");
    let status = scene.tripod(&["status"]).json();
    assert!(stale(&status) && status["restored"]["backup"] == json!(id), "{status}");
    scene.done(&["deliver", "--until-empty"]);
    let status = scene.tripod(&["status"]).json();
    assert!(!stale(&status) && status["restored"]["at"].is_string(), "{status}");
    assert!(scene.content().attempts == later.attempts, "the journal did not bring every row again");
    // PostgreSQL further on, up to the end of its archive: the same backup again.
    scene.done(&["backup", "restore", "--yes", "--only", "postgres", "--to", "latest"]);
    assert_eq!(scene.content().setting, before.setting, "the restore is what came last");
    scene.done(&["migrate"]);

    // The oldest is the last proven one and stays.
    let second = scene.done(&["backup", "create"])["id"].as_str().unwrap().to_owned();
    let third = scene.done(&["backup", "create"])["id"].as_str().unwrap().to_owned();
    let plan = scene.tripod(&["backup", "prune", "--keep", "1"]);
    assert_eq!(plan.code, Some(4), "{plan:?}");
    assert!(scene.backups().join(&second).is_dir());
    scene.done(&["backup", "prune", "--keep", "1", "--yes"]);
    let ids: Vec<_> = scene.done(&["backup", "ls"]).as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [json!(third), json!(id)]);
    // And still restores, after its neighbour and a part of the archive went.
    assert_eq!(scene.done(&["backup", "verify", &id])["ok"], true);
}

/// Without the journal everything since the backup is gone, and from when is said.
#[test]
fn without_a_journal_it_is_said_from_when_rows_are_missing() {
    let scene = Scene::new();
    scene.mark(1);
    let made = scene.done(&["backup", "create"]);
    scene.mark(2);
    std::fs::remove_dir_all(scene.data().join("journals")).unwrap();
    let said = scene.tripod(&["backup", "restore", "--yes"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let restored = said.json();
    assert_eq!((&restored["rows_missing_from"], &restored["ok"]), (&made["at"], &json!(false)), "{restored}");
    assert_eq!(scene.content().attempts.len(), 50);

    // A journal that was begun after the backup does not reach back to it.
    scene.mark(3);
    let said = scene.tripod(&["backup", "restore", "--yes"]);
    assert_eq!((said.code, &said.json()["rows_missing_from"]), (Some(1), &made["at"]), "{said:?}");
    let whole = said.json()["rows"]["journals"].as_array().unwrap().iter().filter(|one| one["whole"] == true).count();
    assert_eq!(whole, 0, "{said:?}");
}

#[test]
fn a_flipped_bit_in_any_kind_of_file_is_found_and_nothing_is_restored_from_it() {
    let scene = Scene::new();
    scene.mark(1);
    let id = scene.done(&["backup", "create"])["id"].as_str().unwrap().to_owned();
    let dir = scene.backups().join(&id);
    let before = scene.content();
    let largest = |part: &str, mark: &str| {
        let fits = |path: &PathBuf| path.display().to_string().contains(mark);
        let found = files_below(&dir.join(part)).into_iter().filter(fits);
        found.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap_or_else(|| panic!("no {part} {mark}"))
    };
    let kinds = [
        largest("questdb", "/db/attempts"),
        largest("questdb", "/.checkpoint/"),
        largest("questdb", "/tables.d"),
        largest("postgres", "/base/base/"),
        largest("postgres", "/base/global/pg_control"),
        largest("postgres", "/wal/"),
        largest("redis-events", "dump.rdb"),
        dir.join("manifest.json"),
        dir.join("manifest.sha256"),
    ];
    for file in kinds {
        let whole = std::fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let said = scene.tripod(&["backup", "verify"]);
        assert_eq!(said.code, Some(1), "{}: {said:?}", file.display());
        assert!(format!("{said:?}").contains("not what was written (SHA-256)"), "{}: {said:?}", file.display());
        let said = scene.tripod(&["backup", "restore", "--yes"]);
        assert_eq!(said.code, Some(1), "{}: {said:?}", file.display());
        std::fs::write(&file, &whole).unwrap();
    }
    std::fs::remove_file(largest("questdb", "/db/attempts")).unwrap();
    let said = scene.tripod(&["backup", "verify"]);
    assert!(said.code == Some(1) && said.out.contains("is missing"), "{said:?}");
    assert_eq!(scene.tripod(&["status"]).json()["backup"]["last_proven_at"], json!(null));
    assert!(scene.content() == before, "it changed the data");
}

#[test]
fn a_backup_of_an_older_schema_restores_and_migrates() {
    let scene = Scene::new();
    scene.record(1..4);
    // As an older version left it.
    let http = scene.http();
    http.exec("DROP TABLE performance").unwrap();
    http.exec("ALTER TABLE attempts DROP COLUMN route").unwrap();
    schema::wait_table(&http, "attempts", &|| "the column goes".into()).unwrap();
    let config = scene.config();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let forget = async {
        let login = tripod::postgres::Login::Admin;
        let postgres = tripod::postgres::Postgres::open_as(&config.postgres, login, LONG).unwrap();
        postgres
            .call("forget", async |client| Ok(client.batch_execute("DROP SCHEMA tripod CASCADE").await?))
            .await
            .unwrap();
    };
    runtime.block_on(forget);
    scene.done(&["backup", "create"]);

    scene.done(&["migrate"]);
    scene.mark(2);
    assert_eq!(scene.done(&["migrate", "--plan"])["plan"], json!([]));
    scene.done(&["backup", "restore", "--yes"]);
    let plan = scene.done(&["migrate", "--plan"])["plan"].to_string();
    for object in ["performance", "attempts", "migration 1"] {
        assert!(plan.contains(object), "`{object}` is not in {plan}");
    }
    scene.done(&["migrate"]);
    assert_eq!(scene.done(&["migrate", "--plan"])["plan"], json!([]));
    scene.done(&["deliver", "--until-empty"]);
    assert_eq!(scene.http().exec("SELECT count() FROM attempts").unwrap().rows[0][0], 53);
    scene.mark(3);
}

#[test]
fn what_is_not_safe_is_refused_and_changes_nothing() {
    let scene = Scene::new();
    scene.mark(1);
    // Somebody else's checkpoint.
    scene.http().exec("CHECKPOINT CREATE").unwrap();
    let said = scene.tripod(&["backup", "create"]);
    assert!(said.code == Some(1) && said.err.contains("CHECKPOINT RELEASE"), "{said:?}");
    assert!(scene.checkpoint_is_open(), "it was released by somebody whose it is not");
    assert_eq!(scene.done(&["backup", "ls"]), json!([]));
    scene.http().exec("CHECKPOINT RELEASE").unwrap();

    let inside = |dir: &str| {
        let mut command = crate::run::tripod();
        command.current_dir(scene.data()).args(["--data", ".", "backup", "create"]).env("TRIPOD__BACKUP__DIR", dir);
        Said::from(command.output().unwrap())
    };
    for dir in ["stack/questdb/backups", "stack/redis-events"] {
        let said = inside(dir);
        assert!(said.code == Some(2) && said.err.contains("is inside the data of"), "{said:?}");
    }

    let elsewhere = tempfile::tempdir().unwrap();
    let config = scene.0.config_path().display().to_string();
    let said = run(elsewhere.path(), &["--data", ".", "--config", &config, "backup", "create"]);
    assert!(said.code == Some(4) && said.err.contains("no local stack"), "{said:?}");

    scene.done(&["backup", "create"]);
    // As while another one is at work.
    let lock = File::options().write(true).open(scene.backups().join(".lock")).unwrap();
    lock.lock().unwrap();
    let before = scene.content();
    for command in
        [&["backup", "create"][..], &["backup", "restore", "--yes"], &["backup", "prune", "--keep", "1", "--yes"]]
    {
        let said = scene.tripod(command);
        assert!(said.code == Some(4) && said.err.contains("another `tripod backup`"), "{said:?}");
    }
    drop(lock);
    for wrong in [&["backup", "restore", "20200101T000000.000Z-0000", "--yes"][..], &["backup", "verify", "../x"]] {
        let said = scene.tripod(wrong);
        assert!(said.code == Some(2) && said.err.contains("there is no backup"), "{said:?}");
    }
    let said = scene.tripod(&["backup", "restore", "--yes", "--only", "questdb", "--to", "latest"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    let said = scene.tripod(&["backup", "restore", "--yes", "--to", "2020-01-01T00:00:00Z"]);
    assert!(said.code == Some(1) && said.err.contains("before the end of this base backup"), "{said:?}");
    assert!(scene.content() == before, "it changed the data");

    scene.0.kill(ServerName::Postgres).unwrap();
    let said = scene.tripod(&["backup", "create"]);
    assert!(said.code == Some(3) && said.err.contains("postgres"), "{said:?}");
    assert_eq!(scene.done(&["backup", "ls"]).as_array().unwrap().len(), 1);
}
