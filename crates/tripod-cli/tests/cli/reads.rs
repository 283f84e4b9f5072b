//! `tape`, `journal`, `deliver`: a bot dies, and its rows arrive without it, its own table included.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::tables::Attempt;
use tripod::tape::{Recorded, Row, Tape, schema};
use tripod::{Config, Decimal, Timestamp, Token, Uuid};
use tripod_stack::{ServerName, Servers, TestStack};

use crate::run::{Said, run};

const BOT: &str = "own-table";
const WAIT: Duration = Duration::from_secs(60);

/// A table that the binary has no code for.
#[derive(Debug, Clone, Copy, Row)]
#[row(table = "pool_states", importance = "standard", retain_days = 30)]
struct PoolState {
    /// When.
    #[row(timestamp)]
    at: Timestamp,
    /// Which.
    #[row(key)]
    pool: Token,
    /// Counts up.
    #[row(key)]
    slot: u64,
    /// All of u64.
    reserve: u64,
    /// Digits to the end.
    #[row(decimal = "38,18")]
    price: Decimal,
    /// Absent in every second row.
    fee_bps: Option<i64>,
}

fn pool_state(base: Timestamp, n: u64) -> PoolState {
    PoolState {
        at: base.checked_add(Duration::from_nanos(n)).unwrap(),
        pool: Token::new("58oQChx4yWmvKdwLLZzBi4ChoCc2fqCUWBkwMihLYQo2").unwrap(),
        slot: n,
        reserve: u64::MAX - n,
        price: Decimal::from_i128_with_scale(12_345_678_901_234_567_890_123_456 + i128::from(n), 18),
        fee_bps: n.is_multiple_of(2).then_some(25),
    }
}

fn bot_config(path: &Path) -> Config {
    let mut config = Config::load_with(path, []).unwrap();
    config.bot = BOT.to_owned();
    config.journal.segment_mib = 1;
    config
}

/// Not a test of its own: the bot that `a_killed_bots_rows_…` starts and kills.
#[test]
#[ignore = "started by another test"]
fn the_bot_that_is_killed() {
    let Ok(config) = std::env::var("TRIPOD_TEST_OWN_BOT") else { return };
    let tape = Tape::open(&bot_config(Path::new(&config))).unwrap();
    tape.register::<PoolState>().unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    let token = Token::new("SOL").unwrap();
    for n in 0.. {
        assert_eq!(recorder.record(&pool_state(base, n)).unwrap(), Recorded::Kept);
        let attempt = Attempt::new(Uuid::from_u128(n.into()), base, "s", "v", token);
        assert_eq!(recorder.record(&attempt).unwrap(), Recorded::Kept);
        if n % 100 == 99 {
            println!("recorded {} from {}", n + 1, base.as_nanos());
        }
        if n > 20_000 {
            // Enough for the test; from here on it only waits to be killed.
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn in_stack(stack: &TestStack, arguments: &[&str]) -> Said {
    let all: Vec<_> = ["--data", "."].iter().chain(arguments).copied().collect();
    run(stack.data_dir(), &all)
}

fn ask(config: &Config, sql: &str) -> Vec<Value> {
    QuestDbHttp::new(&config.questdb[0], WAIT).unwrap().exec(sql).unwrap().rows.remove(0)
}

/// Starts the bot and kills it in the middle. Gives what it had recorded at least, and its first time.
fn record_and_kill(stack: &TestStack, while_it_runs: impl FnOnce(u32)) -> (u64, Timestamp) {
    let mut bot = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reads::the_bot_that_is_killed", "--ignored", "--nocapture"])
        .env("TRIPOD_TEST_OWN_BOT", stack.config_path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bot.stdout.take().unwrap()).lines();
    let (mut recorded, mut base) = (0, 0);
    let mut read = |line: &str| {
        let Some((count, from)) = line.strip_prefix("recorded ").and_then(|rest| rest.split_once(" from ")) else {
            return recorded;
        };
        (recorded, base) = (count.parse().unwrap(), from.parse().unwrap());
        recorded
    };
    while read(&lines.next().unwrap().unwrap()) < 5_000_u64 {}
    while_it_runs(bot.id());
    // SIGKILL.
    bot.kill().unwrap();
    bot.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        read(&line);
    }
    (recorded, Timestamp::from_nanos(base).unwrap())
}

#[test]
fn a_killed_bots_rows_and_its_own_table_arrive_without_it() {
    let stack = TestStack::start(Servers::ALL).unwrap();
    assert_eq!(in_stack(&stack, &["migrate", "-q"]).code, Some(0));
    let config = bot_config(&stack.config_path());
    let (recorded, base) = record_and_kill(&stack, |process| {
        let beside = in_stack(&stack, &["deliver", "--bot", BOT, "--until-empty"]);
        assert_eq!((beside.code, beside.out.as_str()), (Some(4), ""), "{beside:?}");
        assert!(beside.err.contains(&format!("process {process}")) && beside.err.contains("\nhint: "), "{beside:?}");
    });

    // Its table is not on the server: what is missing is named, with the way on, and nothing is lost.
    let deliver = ["deliver", "--bot", BOT, "--until-empty", "--json"];
    let behind = in_stack(&stack, &[&deliver[..], &["--deadline", "3"]].concat());
    assert_eq!(behind.code, Some(1), "{behind:?}");
    let said = behind.json();
    assert!(said["remaining"].as_u64().unwrap() >= recorded, "{said}");
    let troubles = said["troubles"].to_string();
    assert!(troubles.contains("pool_states") && troubles.contains("tripod migrate"), "{troubles}");

    let migrated = in_stack(&stack, &["migrate", "--json"]);
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let plan = migrated.json()["plan"].clone();
    assert_eq!((&plan[0]["object"], &plan[0]["action"]), (&json!("pool_states"), &json!("create")), "{plan}");

    let delivered = in_stack(&stack, &deliver);
    assert_eq!(delivered.code, Some(0), "{delivered:?}");
    let said = delivered.json();
    assert_eq!((&said["remaining"], &said["ok"], &said["bot"]), (&json!(0), &json!(true), &json!(BOT)), "{said}");

    // Asked of the server: every row once, from the first to the last, and every digit.
    let [count, distinct, last] =
        &ask(&config, "SELECT count(), count_distinct(slot::long), max(slot)::long FROM pool_states")[..]
    else {
        panic!("three columns were asked for")
    };
    let rows = count.as_u64().unwrap();
    assert!(rows >= recorded, "{rows} on the server, {recorded} were recorded");
    assert_eq!((distinct.as_u64().unwrap(), last.as_u64().unwrap() + 1), (rows, rows));
    let attempts = ask(&config, "SELECT count(), count_distinct(id) FROM attempts");
    assert_eq!(attempts[0], attempts[1]);
    assert!(rows - attempts[0].as_u64().unwrap() <= 1, "{rows} {attempts:?}");
    for n in [0, 1, recorded - 1] {
        let kept = ask(&config, &format!("SELECT at, reserve, price, fee_bps FROM pool_states WHERE slot = {n}m"));
        let wanted = pool_state(base, n);
        assert_eq!(kept[0], wanted.at.to_string());
        assert_eq!(kept[1], wanted.reserve.to_string());
        assert_eq!(kept[2].as_str().unwrap().parse::<Decimal>().unwrap(), wanted.price);
        assert_eq!(kept[3], json!(wanted.fee_bps));
    }
    // Again is harmless, and does nothing.
    assert_eq!(in_stack(&stack, &deliver).code, Some(0));
    assert_eq!(ask(&config, "SELECT count() FROM pool_states")[0], rows);

    what_the_other_commands_say(&stack, rows);
    a_flipped_byte_is_found(&stack, &config.journal_dir().join("standard/segments"));
}

fn what_the_other_commands_say(stack: &TestStack, rows: u64) {
    let listed = in_stack(stack, &["journal", "ls", "--bot", BOT, "--json"]).json();
    let standard = &listed["journals"].as_array().unwrap().iter().find(|j| j["class"] == "standard").unwrap().clone();
    assert_eq!(
        standard["sinks"],
        json!([{"sink": "main", "undelivered_rows": 0, "undelivered_bytes": standard["sinks"][0]["undelivered_bytes"]}])
    );
    assert!(standard["tables"].as_array().unwrap().contains(&json!("pool_states")), "{standard}");
    for field in ["segments", "spare_segments", "damaged_segments", "bytes", "budget_bytes"] {
        assert!(standard[field].is_u64(), "{field}: {standard}");
    }
    let words = in_stack(stack, &["journal", "ls", "--bot", BOT]);
    assert!(words.out.contains("pool_states") && words.out.contains("undelivered"), "{words:?}");

    let verified = in_stack(stack, &["journal", "verify", "--bot", BOT, "--json"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let verified = verified.json();
    let records = |class| {
        verified["journals"].as_array().unwrap().iter().find(|j| j["class"] == class).unwrap()["records"].clone()
    };
    assert_eq!((records("standard"), &verified["ok"]), (json!(rows), &json!(true)), "{verified}");

    let tables = in_stack(stack, &["tape", "ls", "--json"]).json();
    let own = tables["tables"].as_array().unwrap().iter().find(|t| t["name"] == "pool_states").unwrap().clone();
    assert_eq!(
        (&own["rows"], &own["ttl"], &own["suspended"], &own["kind"]),
        (&json!(rows), &json!("30 day"), &json!(false), &json!("table")),
        "{own}"
    );
    assert!(own["disk_bytes"].as_u64().unwrap() > 0 && own["first"].as_str() < own["last"].as_str(), "{own}");
    assert!(in_stack(stack, &["tape", "ls"]).out.contains("pool_states"));

    let sql = "SELECT slot, reserve, fee_bps FROM pool_states ORDER BY slot";
    let answer = in_stack(stack, &["tape", "query", sql, "--limit", "2", "--json"]);
    assert_eq!(
        answer.json(),
        json!({
            "columns": [
                {"name": "slot", "type": "DECIMAL(20,0)"},
                {"name": "reserve", "type": "DECIMAL(20,0)"},
                {"name": "fee_bps", "type": "LONG"},
            ],
            "rows": [["0", "18446744073709551615", 25], ["1", "18446744073709551614", null]],
            "truncated": true,
        })
    );
    let words = in_stack(stack, &["tape", "query", sql, "--limit", "2"]);
    assert!(words.out.contains("18446744073709551614     NULL") && words.err.contains("--limit"), "{words:?}");
    let order = in_stack(stack, &["tape", "query", "DROP TABLE pool_states"]);
    assert_eq!((order.code, order.out.as_str()), (Some(2), ""), "{order:?}");
    let wrong = in_stack(stack, &["tape", "query", "SELECT nothing FROM pool_states"]);
    assert!(wrong.code == Some(1) && wrong.err.contains("nothing"), "{wrong:?}");

    for command in [&["deliver"][..], &["journal", "ls"], &["journal", "verify"]] {
        let said = in_stack(stack, &[command, &["--bot", "nobody"]].concat());
        assert!(said.code != Some(0) && said.err.contains("nobody") && said.err.contains("\nhint: "), "{said:?}");
    }
}

fn a_flipped_byte_is_found(stack: &TestStack, segments: &Path) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(segments).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    // The first record of the first segment with any: behind the header's last page.
    let (file, bytes, offset) = files
        .iter()
        .find_map(|file| {
            let bytes = std::fs::read(file).unwrap();
            let start = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
            (bytes[start] != 0).then_some((file, bytes, start))
        })
        .unwrap();
    let mut broken = bytes.clone();
    broken[offset + 20] ^= 1;
    std::fs::write(file, broken).unwrap();
    let said = in_stack(stack, &["journal", "verify", "--bot", BOT]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(said.out.contains(name) && said.out.contains(&format!("offset {offset}")), "{said:?}");
    std::fs::write(file, bytes).unwrap();
    assert_eq!(in_stack(stack, &["journal", "verify", "--bot", BOT]).code, Some(0));
}

/// A row whose price fits its spec and not the table that somebody made.
#[derive(Debug, Clone, Copy, Row)]
#[row(table = "narrow", importance = "critical", retain_days = 30)]
struct Narrow {
    /// When.
    #[row(timestamp)]
    at: Timestamp,
    /// Which.
    #[row(key)]
    id: u64,
    /// Wider than the server's column at first.
    #[row(decimal = "18,4")]
    price: Decimal,
}

#[test]
fn refused_rows_are_listed_shown_dropped_and_recorded_again() {
    let stack = TestStack::start(Servers::only(ServerName::QuestDb)).unwrap();
    let config = Config::load_with(&stack.config_path(), []).unwrap();
    let http = QuestDbHttp::new(&config.questdb[0], WAIT).unwrap();
    http.exec(
        "CREATE TABLE narrow (at TIMESTAMP_NS, id DECIMAL(20,0), price DECIMAL(6,2)) TIMESTAMP(at) PARTITION BY DAY \
         WAL DEDUP UPSERT KEYS(at, id)",
    )
    .unwrap();
    let at = Timestamp::now();
    let tape = Tape::open(&config).unwrap();
    tape.register::<Narrow>().unwrap();
    for id in 0..5 {
        tape.recorder().record(&Narrow { at, id, price: Decimal::new(1_234_567_890, 4) }).unwrap();
    }
    assert!(tape.wait_visible(WAIT).unwrap(), "{:?}", tape.sinks());
    let quarantine = |arguments: &[&str]| in_stack(&stack, &[&["journal", "quarantine"], arguments].concat());

    let listed = quarantine(&["ls", "--json"]).json();
    let rows = listed["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5, "{listed}");
    for field in ["number", "sink", "class", "table", "reason", "words", "quarantined_at", "segment", "offset", "row"] {
        assert!(rows[0].get(field).is_some(), "{field}: {listed}");
    }
    assert!(quarantine(&["ls"]).out.contains("narrow"));
    let shown = quarantine(&["show", "2"]);
    assert!(shown.code == Some(0) && shown.out.contains("123456.789"), "{shown:?}");
    assert_eq!(quarantine(&["show", "6"]).code, Some(2));
    assert_eq!(quarantine(&["show", "0"]).code, Some(2));

    // Never beside the bot, and never without a yes.
    for command in [&["drop", "--yes"][..], &["retry"]] {
        let said = quarantine(command);
        assert!(said.code == Some(4) && said.err.contains("in use"), "{said:?}");
    }
    let report = tape.close(WAIT);
    assert!(report.troubles.is_empty(), "{report:?}");
    let said = quarantine(&["drop", "1", "2"]);
    assert!(said.code == Some(4) && said.err.contains("2 rows"), "{said:?}");
    assert_eq!(quarantine(&["ls", "--json"]).json()["rows"].as_array().unwrap().len(), 5);
    assert_eq!(quarantine(&["drop", "1", "3", "--yes", "--json"]).json(), json!({"dropped": 2}));

    // The server's column is put right (a table made anew would be told everything again, what was dropped included);
    // what is recorded again arrives.
    http.exec("ALTER TABLE narrow DROP COLUMN price").unwrap();
    let dropped_by = Instant::now() + WAIT;
    while schema::apply(&http, &schema::plan(&schema::read_live(&http).unwrap(), [Narrow::spec()], "")).is_err() {
        assert!(Instant::now() < dropped_by, "the column is still there");
    }
    assert_eq!(quarantine(&["retry", "--json"]).json(), json!({"recorded": 3}));
    assert_eq!(quarantine(&["ls", "--json"]).json(), json!({"rows": []}));
    let delivered = in_stack(&stack, &["deliver", "--until-empty", "--json"]);
    assert_eq!(delivered.code, Some(0), "{delivered:?}");
    let rows = http.exec("SELECT id, price, at FROM narrow ORDER BY id").unwrap().rows;
    let wanted = [1, 3, 4].map(|id: u64| vec![json!(id.to_string()), json!("123456.7890"), json!(at.to_string())]);
    assert_eq!(rows, wanted);
    let row =
        delivered.json()["ledger"].as_array().unwrap().iter().find(|row| row["table"] == "narrow").unwrap().clone();
    assert_eq!(
        (&row["recorded"], &row["visible"], &row["quarantined"], &row["adds_up"]),
        (&json!(8), &json!(3), &json!(5), &json!(true)),
        "{row}"
    );
}

#[test]
fn a_server_that_is_away_ends_the_delivery_with_its_own_exit_code_and_nothing_is_lost() {
    let stack = TestStack::start(Servers::only(ServerName::QuestDb)).unwrap();
    let config = Config::load_with(&stack.config_path(), []).unwrap();
    stack.kill(ServerName::QuestDb).unwrap();
    let tape = Tape::open(&config).unwrap();
    let attempt = Attempt::new(Uuid::from_u128(1), Timestamp::now(), "s", "v", Token::new("SOL").unwrap());
    tape.recorder().record(&attempt).unwrap();
    drop(tape);
    let said = in_stack(&stack, &["deliver", "--until-empty", "--deadline", "2", "--json"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert_eq!(said.json()["remaining"], 1);
    let listed = in_stack(&stack, &["journal", "ls", "--json"]).json();
    assert_eq!(listed["journals"][0]["sinks"][0]["undelivered_rows"], 1, "{listed}");
    assert_eq!(in_stack(&stack, &["tape", "query", "SELECT 1", "--deadline", "2"]).code, Some(3));
}

#[test]
fn a_delivery_without_an_end_ends_in_order_on_sigint() {
    let stack = TestStack::start(Servers::only(ServerName::QuestDb)).unwrap();
    let config = Config::load_with(&stack.config_path(), []).unwrap();
    let http = QuestDbHttp::new(&config.questdb[0], WAIT).unwrap();
    schema::apply(&http, &schema::plan(&schema::read_live(&http).unwrap(), [Attempt::spec()], "")).unwrap();
    let tape = Tape::open(&config).unwrap();
    drop(tape);
    let mut child = crate::run::tripod()
        .current_dir(stack.data_dir())
        .args(["--data", ".", "deliver", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("^C"), "{line}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!((said.code, &said.json()["remaining"]), (Some(0), &json!(0)), "{said:?}");
}
