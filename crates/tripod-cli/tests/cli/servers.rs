//! The commands on real servers. What they claim is asked of the servers again, by a way of its own.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tripod::tape::questdb::QuestDbHttp;
use tripod::{Config, Timestamp};
use tripod_stack::{ServerName, Servers, TestStack};

use crate::run::{Said, run, sample, tripod};

const TRADES: &str = "trades/binance_spot_trades_20250325.csv.gz";
const QUOTES: &str = "quotes/binance_spot_l1_20250325.csv.gz";
const TRADES_ROWS: i64 = 11_032;
const QUOTES_ROWS: i64 = 38_968;

fn field_names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn has_fields(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(field_names(value).contains(field), "`{field}` is missing in {value}");
    }
}

/// A number that QuestDB gives for `sql`.
pub(crate) fn ask(data: &Path, sql: &str) -> Value {
    let config = Config::local(data).unwrap();
    let http = QuestDbHttp::new(&config.questdb[0], Duration::from_secs(10)).unwrap();
    http.exec(sql).unwrap().rows[0][0].clone()
}

fn replay(data: &Path, files: &[&str], arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["--data".to_owned(), data.display().to_string(), "replay".to_owned()];
    all.extend(files.iter().map(|file| sample(file).display().to_string()));
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    all
}

fn finish(arguments: &[String]) -> Said {
    tripod().args(arguments).output().unwrap().into()
}

/// A start within the retention that no other run of these tests has.
fn an_hour_ago() -> String {
    Timestamp::now().checked_sub(Duration::from_secs(3600)).unwrap().to_string()
}

fn migrated(servers: Servers) -> TestStack {
    let stack = TestStack::start(servers).unwrap();
    let said = run(stack.data_dir(), &["--data", ".", "migrate", "-q"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    stack
}

/// Waits until `status` says that a running replay has recorded so many rows.
fn await_recorded(data: &Path, child: &mut Child, rows: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        assert!(child.try_wait().unwrap().is_none(), "the replay ended before it could be disturbed");
        let status = run(data, &["--data", ".", "status", "--json"]).json();
        let recorded: u64 =
            status["ledger"].as_array().unwrap().iter().filter_map(|row| row["recorded"].as_u64()).sum();
        if recorded >= rows {
            return;
        }
    }
    panic!("no {rows} rows were recorded within a minute");
}

#[test]
fn from_nothing_to_a_proven_replay_and_back_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tripod = |arguments: &[&str]| run(dir.path(), arguments);
    let up = tripod(&["up", "--json"]);
    assert_eq!(up.code, Some(0), "{up:?}");
    let _down = Down(dir.path());
    assert_eq!(up.json()["servers"].as_array().unwrap().len(), 4);
    assert_eq!(tripod(&["up", "--json"]).json()["started"], json!([]), "a second `up` started something");
    let quiet = tripod(&["up", "-q"]);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (Some(0), "", ""), "{quiet:?}");

    let before = tripod(&["status", "--json"]);
    assert_eq!((before.code, &before.json()["ok"]), (Some(1), &json!(false)), "{before:?}");

    let plan = tripod(&["migrate", "--plan", "--json"]).json();
    assert_eq!(plan["applied"], 0);
    has_fields(&plan["plan"][0], &["server", "object", "action", "detail"]);
    let early = finish(&replay(&dir.path().join(".tripod"), &[TRADES], &[]));
    assert_eq!(early.code, Some(1), "{early:?}");
    assert!(early.err.contains("hint: `tripod migrate`"), "{early:?}");
    let migrated = tripod(&["migrate", "--json"]).json();
    assert_eq!(migrated["applied"].as_u64(), plan["plan"].as_array().and_then(|plan| u64::try_from(plan.len()).ok()));
    assert_eq!(tripod(&["migrate", "--json"]).json(), json!({"plan": [], "applied": 0}));

    let start = an_hour_ago();
    let arguments = replay(&dir.path().join(".tripod"), &[TRADES, QUOTES], &["--json", "--start-at", &start]);
    let data = dir.path().join(".tripod");
    for round in 1..=2 {
        let said = finish(&arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
        let report = said.json();
        for (field, wanted) in [
            ("rows_recorded", TRADES_ROWS + QUOTES_ROWS),
            ("rows_visible", TRADES_ROWS + QUOTES_ROWS),
            ("rows_lost", 0),
            ("rows_doubled", 0),
            ("rows_different", 0),
            ("rows_quarantined", 0),
            ("events_published", TRADES_ROWS),
            ("events_read", TRADES_ROWS),
        ] {
            assert_eq!(report[field], wanted, "{field} in round {round}: {report}");
        }
        has_fields(&report, &["prices_written", "prices_read", "elapsed_s"]);
        has_fields(&report["record_ns"], &["p50", "p99", "p999"]);
        has_fields(&report["visible_ms"], &["p50", "p99"]);
        // The same rows after both rounds, by the server, in all of the table.
        assert_eq!(ask(&data, "SELECT count() FROM market_trades"), TRADES_ROWS);
        assert_eq!(ask(&data, "SELECT count() FROM quotes"), QUOTES_ROWS);
        // Within a market the ids of the recording have no gap.
        assert_eq!(
            ask(
                &data,
                "SELECT max(trade_id::long) - min(trade_id::long) + 1 - count() FROM market_trades WHERE token = 'SOLUSDT'"
            ),
            0
        );
    }

    let status = tripod(&["status", "--json"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    let status = status.json();
    assert_eq!(status["ok"], true);
    assert_eq!(status["backup"], json!({"last_id": null, "last_proven_id": null, "last_proven_at": null}));
    has_fields(&status["servers"][0], &["name", "kind", "state", "version", "address", "detail"]);
    has_fields(
        &status["ledger"][0],
        &["table", "sink", "recorded", "pending", "delivered", "visible", "quarantined", "dropped", "adds_up"],
    );
    has_fields(&status["streams"][0], &["topic", "length", "cap", "groups"]);
    has_fields(&status["streams"][0]["groups"][0], &["name", "lag", "pending", "trimmed_unread", "trimmed_pending"]);
    assert_eq!(status["streams"][0]["length"], 10_000, "the cap");

    let down = tripod(&["down", "--wipe", "--yes", "--json"]);
    assert_eq!((down.code, &down.json()["wiped"]), (Some(0), &json!(true)), "{down:?}");
    assert_eq!(tripod(&["status"]).code, Some(2));
    assert!(!dir.path().join(".tripod").exists(), "the wipe left something, journals perhaps");
}

/// Leaves no server behind when a test fails.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        run(self.0, &["down", "-q"]);
    }
}

#[test]
fn a_replay_that_was_killed_and_run_again_leaves_the_same_rows() {
    let stack = migrated(Servers::ALL);
    let start = an_hour_ago();
    let slow = replay(stack.data_dir(), &[TRADES], &["--start-at", &start, "--rate", "1000/s"]);
    let mut child = tripod().args(&slow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    await_recorded(stack.data_dir(), &mut child, 1500);
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    let there = ask(stack.data_dir(), "SELECT count() FROM market_trades").as_i64().unwrap();
    assert!(there < TRADES_ROWS, "it had ended already");

    let said = finish(&replay(stack.data_dir(), &[TRADES], &["--start-at", &start, "--json"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let report = said.json();
    assert_eq!((&report["rows_lost"], &report["rows_doubled"]), (&json!(0), &json!(0)), "{report}");
    assert_eq!(report["rows_visible"], TRADES_ROWS, "{report}");
    assert_eq!(ask(stack.data_dir(), "SELECT count() FROM market_trades"), TRADES_ROWS);
    let status = run(stack.data_dir(), &["--data", ".", "status", "--json"]).json();
    assert_eq!(status["ok"], true, "{status}");
    let group = &status["streams"][0]["groups"][0];
    assert_eq!((&group["pending"], &group["lag"]), (&json!(0), &json!(0)), "events of the killed run: {status}");
}

#[test]
fn an_interrupted_replay_says_what_remains_and_the_next_one_brings_it() {
    let stack = migrated(Servers::ALL);
    let start = an_hour_ago();
    let slow = replay(stack.data_dir(), &[TRADES], &["--start-at", &start, "--rate", "1000/s"]);
    let mut child = tripod().args(&slow).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    await_recorded(stack.data_dir(), &mut child, 500);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    assert!(said.err.contains("stopped after ") && said.err.contains(&format!("--start-at {start}")), "{said:?}");
    let said = finish(&replay(stack.data_dir(), &[TRADES], &["--start-at", &start, "--json"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.json()["rows_visible"], TRADES_ROWS);
}

#[test]
fn a_questdb_that_is_killed_in_the_middle_loses_nothing() {
    let stack = migrated(Servers::ALL);
    let slow = replay(stack.data_dir(), &[TRADES], &["--json", "--rate", "3000/s"]);
    let mut child = tripod().args(&slow).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    await_recorded(stack.data_dir(), &mut child, 1500);
    stack.kill(ServerName::QuestDb).unwrap();
    let away = run(stack.data_dir(), &["--data", ".", "status", "--json"]);
    assert_eq!(away.code, Some(1), "{away:?}");
    stack.start_server(ServerName::QuestDb).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.json()["rows_visible"], TRADES_ROWS);
    assert_eq!(ask(stack.data_dir(), "SELECT count() FROM market_trades"), TRADES_ROWS);
}

#[test]
fn exit_codes_tell_one_server_away_from_all_away() {
    let stack = migrated(Servers::ALL);
    let status = || run(stack.data_dir(), &["--data", ".", "status", "--json"]);
    assert_eq!(status().code, Some(0));
    stack.kill(ServerName::Postgres).unwrap();
    let one = status();
    assert_eq!((one.code, &one.json()["ok"]), (Some(1), &json!(false)), "{one:?}");
    let migrate = run(stack.data_dir(), &["--data", ".", "migrate"]);
    assert_eq!(migrate.code, Some(3), "{migrate:?}");
    assert!(migrate.err.contains("PostgreSQL") && migrate.err.contains("\nhint: "), "{migrate:?}");
    for server in [ServerName::QuestDb, ServerName::RedisPrices, ServerName::RedisEvents] {
        stack.kill(server).unwrap();
    }
    let none = status();
    assert_eq!(none.code, Some(3), "{none:?}");
    let servers = none.json()["servers"].clone();
    assert!(servers.as_array().unwrap().iter().all(|server| server["state"] == "unreachable"), "{servers}");
    assert_eq!(finish(&replay(stack.data_dir(), &[TRADES], &[])).code, Some(3));
}

#[test]
fn each_login_that_is_wrong_is_named_and_is_a_wrong_config() {
    let stack = migrated(Servers::ALL);
    let with = |variable: &str, value: &str, arguments: &[&str]| -> Said {
        let data = stack.data_dir().display().to_string();
        tripod().env(variable, value).args(["--data", &data]).args(arguments).output().unwrap().into()
    };
    for (variable, server, user) in [
        ("TRIPOD__POSTGRES__PASSWORD", "postgres", "tripod_bot"),
        ("TRIPOD__POSTGRES__ADMIN_PASSWORD", "postgres", "tripod_admin"),
        ("TRIPOD__REDIS__PRICES__PASSWORD", "redis-prices", "tripod_bot"),
        ("TRIPOD__REDIS__PRICES__ADMIN_PASSWORD", "redis-prices", "tripod_admin"),
        ("TRIPOD__REDIS__EVENTS__PASSWORD", "redis-events", "tripod_bot"),
        ("TRIPOD__REDIS__EVENTS__ADMIN_PASSWORD", "redis-events", "tripod_admin"),
    ] {
        let said = with(variable, "wrong", &["status", "--json"]);
        assert_eq!((said.code, &said.json()["ok"]), (Some(1), &json!(false)), "{variable}: {said:?}");
        for found in said.json()["servers"].as_array().unwrap() {
            let wrong = found["name"] == server;
            assert_eq!(found["state"], if wrong { "wrong" } else { "running" }, "{variable}: {found}");
            let detail = found["detail"].as_str().unwrap();
            assert!(!wrong || detail.starts_with(&format!("login `{user}`: ")), "{variable}: {detail}");
        }
        if variable.ends_with("ADMIN_PASSWORD") {
            let said = with(variable, "wrong", &["migrate"]);
            assert_eq!(said.code, Some(2), "{variable}: {said:?}");
            assert!(said.err.contains("hint: check user, password"), "{said:?}");
        }
    }
    let said = with("TRIPOD__QUESTDB__0__PASSWORD", "wrong", &["migrate"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    let trades = sample(TRADES).display().to_string();
    let said = with("TRIPOD__REDIS__EVENTS__PASSWORD", "wrong", &["replay", &trades, "--rows", "10"]);
    assert_eq!(said.code, Some(2), "{said:?}");

    let page = foreign_server();
    let said = with("TRIPOD__QUESTDB__0__HTTP", &page, &["status"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.lines().all(|line| line.chars().count() < 400) && !said.out.contains('\u{1b}'), "{said:?}");
    let said = with("TRIPOD__QUESTDB__0__HTTP", &page, &["migrate"]);
    assert!(said.code == Some(1) && said.err.lines().count() == 2 && said.err.chars().count() < 500, "{said:?}");
}

/// A web server that is no QuestDB; it lives as long as the test's process.
fn foreign_server() -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let body = "<html>\u{1b}[2J\r\n<p>Not found</p>\n".repeat(200);
            let _ = write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

#[test]
fn two_bots_that_replay_on_one_stack_read_their_own_events() {
    let stack = migrated(Servers::ALL);
    let arguments = replay(stack.data_dir(), &[TRADES], &["--json", "--rows", "4000", "--rate", "2000/s"]);
    let start = |bot: &str| {
        let mut command = tripod();
        command.env("TRIPOD__BOT", bot).args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let children = [start("bot"), start("two")];
    for child in children {
        let said = Said::from(child.wait_with_output().unwrap());
        let report = said.json();
        assert_eq!((&report["events_published"], &report["events_read"]), (&json!(4000), &json!(4000)), "{said:?}");
        assert_eq!(report["events_repeated"], 0, "{report}");
    }
    let status = run(stack.data_dir(), &["--data", ".", "status", "--json"]).json();
    let streams = status["streams"].as_array().unwrap();
    let lengths: Vec<_> = streams.iter().map(|stream| (stream["topic"].as_str().unwrap(), &stream["length"])).collect();
    assert_eq!(lengths, [("trades", &json!(4000)), ("trades-two", &json!(4000))]);
}
