//! Drills on a real stack: what they claim about it is asked of the stack again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tripod::Config;
use tripod::tape::questdb::QuestDbHttp;
use tripod_stack::{ServerName, Servers, TestStack};

use crate::run::{Said, run, tripod};

/// The contract `drill run`.
pub(crate) const FIELDS: [&str; 9] =
    ["drill", "rounds", "recorded", "lost", "doubled", "max_stall_us", "recovery_ms", "promise", "ok"];

fn questdb() -> TestStack {
    TestStack::start_supervised(Servers { questdb: true, ..Servers::NONE }).unwrap()
}

fn drill(stack: &TestStack, name: &str, rounds: &str) -> Value {
    let said = run(stack.data_dir(), &["--data", ".", "drill", "run", name, "--rounds", rounds, "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let report = said.json();
    for field in FIELDS {
        assert!(report.get(field).is_some_and(|value| !value.is_null()), "`{field}` is missing in {report}");
    }
    assert_eq!((&report["drill"], &report["rounds"]), (&json!(name), &json!(rounds.parse::<u64>().unwrap())));
    assert_eq!((&report["lost"], &report["doubled"], &report["ok"]), (&json!(0), &json!(0), &json!(true)), "{report}");
    assert!(report["recovery_ms"].as_u64() > Some(0), "{report}");
    assert!(report["max_stall_us"].as_u64() > Some(0), "{report}");
    assert!(report["recorded"].as_u64() > Some(1000), "too little to prove anything: {report}");
    // For the monitor.
    let records = std::fs::read_to_string(stack.data_dir().join("drills.jsonl")).unwrap();
    let last: Value = serde_json::from_str(records.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["drill"], &last["ok"], &last["lost"], &last["doubled"]),
        (&json!(name), &json!(true), &json!(0), &json!(0))
    );
    report
}

/// Nothing of a drill that went well is left.
fn is_clean(stack: &TestStack) {
    let tables = crate::servers::ask(stack.data_dir(), "SELECT count() FROM tables() WHERE table_name LIKE 'drill_%'");
    assert_eq!(tables, 0);
    let left: Vec<_> = std::fs::read_dir(stack.data_dir().join("drills")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "only the lock stays: {left:?}");
}

#[test]
fn a_killed_bot_a_killed_questdb_and_a_refused_row_lose_and_double_nothing() {
    let stack = questdb();
    let poison = drill(&stack, "poison-row", "1");
    assert!(poison["verdict"]["quarantined"].as_u64() >= Some(1), "{poison}");
    is_clean(&stack);

    let bot = drill(&stack, "kill-bot", "2");
    assert_eq!(bot["breaks"].as_array().unwrap().len(), 2);
    assert!(bot["breaks"][1]["beside_held"].as_u64() > Some(0), "no thread was held: {bot}");
    is_clean(&stack);

    let pid = stack.pid(ServerName::QuestDb);
    let questdb = drill(&stack, "kill-questdb", "2");
    assert!(stack.pid(ServerName::QuestDb).is_some() && stack.pid(ServerName::QuestDb) != pid, "nobody killed it");
    assert!(questdb["breaks"][0]["away_ms"].as_u64() > Some(0), "{questdb}");
    is_clean(&stack);
}

#[test]
fn a_suspended_table_and_bot_and_questdb_killed_together_lose_and_double_nothing() {
    let stack = questdb();
    let suspended = drill(&stack, "suspend-table", "1");
    assert!(suspended["breaks"][0]["said_ms"].as_u64() > Some(0), "{suspended}");
    is_clean(&stack);
    let pid = stack.pid(ServerName::QuestDb);
    drill(&stack, "kill-both", "1");
    assert!(stack.pid(ServerName::QuestDb).is_some() && stack.pid(ServerName::QuestDb) != pid, "nobody killed it");
    is_clean(&stack);
}

#[test]
fn an_outage_is_not_felt_and_the_ledger_adds_up_all_the_time() {
    let stack = questdb();
    let said = run(stack.data_dir(), &["--data", ".", "drill", "run", "outage", "--seconds", "5", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let report = said.json();
    assert_eq!((&report["lost"], &report["doubled"], &report["ok"]), (&json!(0), &json!(0), &json!(true)), "{report}");
    let outage = &report["outage"];
    assert!(outage["backlog_rows"].as_u64() > Some(1000), "{report}");
    assert!(outage["ledger_reads"].as_u64() >= Some(5) && outage["ledger_wrong"] == 0, "{report}");
    is_clean(&stack);
    for wrong in [&["outage", "--rounds", "2"][..], &["kill-bot", "--seconds", "9"]] {
        let said = run(stack.data_dir(), &[&["--data", ".", "drill", "run"], wrong].concat());
        assert_eq!(said.code, Some(2), "{said:?}");
    }
}

#[test]
#[ignore = "takes a minute, because a full disk is probed rarely; part of `make soak`"]
fn a_full_disk_is_said_and_costs_no_row_or_the_right_to_mount_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(dir.path(), &["--data", ".", "drill", "run", "fill-disk", "--rounds", "1", "--json"]);
    if said.code == Some(4) {
        assert!(said.err.contains("mount"), "{said:?}");
        return;
    }
    assert_eq!(said.code, Some(0), "{said:?}");
    let report = said.json();
    assert_eq!((&report["lost"], &report["doubled"], &report["ok"]), (&json!(0), &json!(0), &json!(true)), "{report}");
    assert!(!dir.path().join("drills/fill-disk").exists(), "it left its disk behind");
}

#[test]
fn a_drill_refuses_servers_that_are_not_this_stacks() {
    let stack = TestStack::start(Servers { questdb: true, ..Servers::NONE }).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = stack.config_path().display().to_string();
    let refused = |data: &Path, config: &str, command: &[&str]| -> Said {
        let mut arguments = vec!["--config", config];
        arguments.extend(command);
        let said = run(data, &[&arguments[..], &["--data", "."]].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(4), ""), "{said:?}");
        assert!(said.err.contains("\nhint: "), "{said:?}");
        said
    };
    for command in [&["drill", "run", "kill-questdb"][..], &["bench", "tape"]] {
        // Servers of another directory.
        refused(elsewhere.path(), &config, command);
        // A config of other servers in the directory of a stack.
        let other = elsewhere.path().join("other.toml");
        std::fs::write(&other, "[[questdb]]\nhttp = \"127.0.0.1:9\"\n").unwrap();
        let said = refused(stack.data_dir(), &other.display().to_string(), command);
        assert!(said.err.contains("127.0.0.1:9"), "{said:?}");
    }
    assert!(!stack.data_dir().join("drills").exists() && !stack.data_dir().join("bench").exists());
}

#[test]
fn a_questdb_that_nobody_would_start_again_is_not_killed() {
    let stack = TestStack::start(Servers { questdb: true, ..Servers::NONE }).unwrap();
    let pid = stack.pid(ServerName::QuestDb);
    let said = run(stack.data_dir(), &["--data", ".", "drill", "run", "kill-questdb"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("supervisor"), "{said:?}");
    assert_eq!(stack.pid(ServerName::QuestDb), pid);
}

/// A drill that could not fail would prove nothing: here somebody tampers with its table while it runs.
#[test]
fn a_drill_whose_rows_are_tampered_with_says_so_and_leaves_the_evidence() {
    let stack = TestStack::start(Servers { questdb: true, ..Servers::NONE }).unwrap();
    let mut command = tripod();
    command.current_dir(stack.data_dir()).args(["--data", ".", "drill", "run", "kill-bot", "--rounds", "5", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let config = Config::local(stack.data_dir()).unwrap();
    let http = QuestDbHttp::new(&config.questdb[0], Duration::from_secs(10)).unwrap();
    let one_row = "FROM drill_kill_bot_rows WHERE worker = 'w1' AND number = 5";
    let deadline = Instant::now() + Duration::from_secs(60);
    while !http.exec(&format!("SELECT 1 {one_row}")).is_ok_and(|answer| !answer.rows.is_empty()) {
        assert!(Instant::now() < deadline, "the drill records nothing");
    }
    let copy = "dateadd('u', 1, at), id, worker, number, token, amount, price, ratio, flag, seen_at, note";
    http.exec(&format!("INSERT INTO drill_kill_bot_rows SELECT {copy} {one_row}")).unwrap();
    http.exec("UPDATE drill_kill_bot_rows SET note = 'not this' WHERE worker = 'w2' AND number = 7").unwrap();

    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(1), "{said:?}");
    let report = said.json();
    assert_eq!((&report["ok"], &report["lost"], &report["doubled"]), (&json!(false), &json!(0), &json!(1)), "{report}");
    // The copy stands at another time, the other row holds another note.
    assert_eq!(report["verdict"]["altered"], 2, "{report}");
    let evidence = report["evidence"].as_str().unwrap();
    assert!(evidence.contains("drill_kill_bot_rows"), "{report}");
    assert!(stack.data_dir().join("drills/kill-bot/journals").is_dir());

    // The next run begins anew.
    drill(&stack, "kill-bot", "1");
    is_clean(&stack);
}

#[test]
fn a_frozen_postgres_stops_neither_rows_nor_tokens_in_memory() {
    let stack = TestStack::start_supervised(Servers { questdb: true, postgres: true, ..Servers::NONE }).unwrap();
    let config = Config::local(stack.data_dir()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tripod::postgres::migrations::apply(&config.postgres)).unwrap();
    let said = run(stack.data_dir(), &["--data", ".", "drill", "run", "stall-postgres", "--rounds", "2", "--json"]);
    let report = said.json();
    println!("{report}");
    assert_eq!((&report["lost"], &report["doubled"]), (&json!(0), &json!(0)), "{said:?}");
    assert_eq!(report["breaks"].as_array().unwrap().len(), 2);
    let calls = &report["calls"];
    assert_eq!(calls["failed_otherwise"], 0, "{report}");
    assert!(calls["good"].as_u64() > Some(10) && calls["memory_reads"].as_u64() > Some(100), "{report}");
    // It says itself whether the promise was kept; on a machine that builds at the same time it may not be.
    assert_eq!(said.code, Some(if report["ok"] == true { 0 } else { 1 }), "{said:?}");
    // It thawed.
    runtime.block_on(async {
        let postgres = tripod::postgres::Postgres::open(&config.postgres).unwrap();
        tripod::postgres::migrations::check(&postgres).await.unwrap();
    });
}

/// On servers of their own, so without a stack; what they claim of the servers was asked of the servers.
fn drill_of_all_servers(name: &str, rounds: u64) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let clocks = dir.path().join("clocks");
    std::fs::create_dir(&clocks).unwrap();
    for open in [dir.path(), &clocks] {
        // PostgreSQL's account reads its clock there.
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = tripod();
    command.current_dir(dir.path()).env("TMPDIR", &clocks);
    command.args(["--data", "data", "--json", "drill", "run", name, "--rounds", &rounds.to_string()]);
    let said = Said::from(command.output().unwrap());
    assert_eq!(std::fs::read_dir(&clocks).unwrap().count(), 0, "its clocks are left");
    let report = said.json();
    for field in FIELDS {
        assert!(report.get(field).is_some_and(|value| !value.is_null()), "`{field}` is missing in {report}");
    }
    assert_eq!((&report["lost"], &report["doubled"]), (&json!(0), &json!(0)), "{said:?}");
    let whole = &report["whole"];
    for field in ["too_young", "outlived", "went_back"] {
        assert_eq!(whole["prices"][field], 0, "{report}");
    }
    assert_eq!((&whole["health"]["wrongly_fresh"], &whole["ids_out_of_order"]), (&json!(0), &json!(0)), "{report}");
    assert_eq!(whole["health"]["silent"], rounds, "{report}");
    for (part, field) in
        [("events", "acknowledged"), ("settings", "acknowledged"), ("prices", "reads"), ("health", "heartbeats")]
    {
        assert!(whole[part][field].as_u64() > Some(0), "{part}.{field}: {report}");
    }
    // Only how long prices were away it may find too long, on a machine that does other things; then it says so.
    let too_long = whole["back"].as_array().unwrap().iter().any(|back| back["prices_ms"].as_u64() > Some(15_000));
    assert_eq!((report["ok"].as_bool(), said.code), (Some(!too_long), Some(i32::from(too_long))), "{said:?}");
    if !too_long {
        let left: Vec<_> = std::fs::read_dir(dir.path().join("data/drills")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "only the lock stays: {left:?}");
    }
    report
}

#[test]
fn everything_that_ended_at_once_is_back_with_all_that_was_acknowledged() {
    let report = drill_of_all_servers("restart-everything", 1);
    assert!(report["breaks"][0]["away_ms"].as_u64() > Some(0), "{report}");
}

#[test]
fn clocks_that_go_back_cost_nothing_and_are_put_right_again() {
    // The bot's by two minutes, the servers' by more than a day; QuestDB killed meanwhile; and the way back.
    let report = drill_of_all_servers("clock-back", 1);
    assert_eq!(report["whole"]["back"].as_array().unwrap().len(), 3, "{report}");
}
