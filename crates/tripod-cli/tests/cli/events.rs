//! `events …` and the drills of events on real servers.

use serde_json::{Value, json};
use tripod::Config;
use tripod::events::{ConsumerOptions, Events};
use tripod_stack::{Servers, TestStack};

use crate::run::run;

fn stack() -> TestStack {
    TestStack::start(Servers { redis_events: true, ..Servers::NONE }).unwrap()
}

#[test]
fn an_operator_publishes_reads_along_and_mends_dead_letters() {
    let stack = stack();
    let tripod =
        |arguments: &[&str]| run(stack.data_dir(), &[&["--data", ".", "--json", "events"], arguments].concat());
    let done = |arguments: &[&str]| {
        let said = tripod(arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
        said.json()
    };
    assert_eq!(done(&["groups"]), json!({"streams": []}));
    for wrong in [&["tail", "fills"][..], &["groups", "fills"], &["pending", "fills", "ledger"]] {
        let said = tripod(wrong);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("there is no topic fills"), "{said:?}");
    }
    let first = done(&["publish", "fills", "fill", r#"{"n":1}"#, "--key", "k"]);
    assert_eq!(done(&["publish", "fills", "fill", r#"{"n":1}"#, "--key", "k"]), first, "one event");
    let second = done(&["publish", "fills", "fill", r#"{"n":2}"#]);
    assert_eq!(tripod(&["publish", "fills", "fill", "{n:1}"]).code, Some(2));
    let tailed = done(&["tail", "fills"]);
    let ids: Vec<&Value> = tailed["events"].as_array().unwrap().iter().map(|event| &event["id"]).collect();
    assert_eq!(ids, [&first["id"], &second["id"]]);
    assert_eq!((&tailed["events"][0]["key"], &tailed["events"][0]["payload"]), (&json!("k"), &json!(r#"{"n":1}"#)));

    // A consumer takes both and buries one.
    let config = Config::local(stack.data_dir()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut consumer = runtime.block_on(async {
        let events = Events::connect(&config).await.unwrap();
        let mut consumer = events.consumer("fills", "ledger", ConsumerOptions::default()).await.unwrap();
        let held = consumer.next().await.unwrap();
        assert_eq!(held.len(), 2);
        consumer.bury(held[0].id, "no such order").await.unwrap();
        consumer
    });
    let listed = done(&["groups", "fills"]);
    assert_eq!((&listed["streams"][0]["dead"], &listed["streams"][0]["groups"][0]["pending"]), (&json!(1), &json!(1)));
    let held = done(&["pending", "fills", "ledger"]);
    assert_eq!((&held["pending"][0]["id"], &held["pending"][0]["tries"]), (&second["id"], &json!(1)));
    assert_eq!(held["consumers"][0]["name"], json!(consumer.name()));
    let dead = done(&["dead", "fills"]);
    let letter = &dead["dead"][0];
    assert_eq!((&letter["reason"], &letter["event"]), (&json!("no such order"), &first["id"]));
    let id = letter["id"].as_str().unwrap();
    assert_eq!(tripod(&["drop", "fills", id]).code, Some(4), "not without --yes");
    assert_eq!(done(&["redrive", "fills", "--all"])["redriven"].as_array().unwrap().len(), 1);
    assert_eq!(tripod(&["redrive", "fills", id]).code, Some(1), "it is not there any more");
    assert_eq!(done(&["dead", "fills"]), json!({"dead": []}));
    let again = runtime.block_on(consumer.next()).unwrap();
    assert_eq!(again[0].effect_key(), "k");
}

#[test]
fn drills_of_events_keep_their_promises_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let drill = |name: &str, rounds: &str| {
        let said = run(dir.path(), &["--data", "data", "--json", "drill", "run", name, "--rounds", rounds]);
        let report = said.json();
        assert_eq!((&report["lost"], &report["doubled"]), (&json!(0), &json!(0)), "{said:?}");
        for field in crate::drill::FIELDS {
            assert!(report.get(field).is_some_and(|value| !value.is_null()), "`{field}` is missing in {report}");
        }
        (said.code, report)
    };
    let (code, report) = drill("trim-unread", "2");
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["trimmed"][0], report["trimmed"][1]);
    assert!(report["trimmed"][0].as_u64() > Some(8000), "{report}");
    // On a machine that does other things it may take longer than it promises: then it says so.
    let (code, report) = drill("kill-redis-primary", "1");
    assert_eq!(report["ok"], json!(code == Some(0)), "{report}");
    assert_eq!(report["ok"], json!(report["recovery_ms"].as_u64() <= Some(4000)), "{report}");
    assert!(report["recorded"].as_u64() >= Some(600), "{report}");
    let left: Vec<_> = std::fs::read_dir(dir.path().join("data/drills")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "only the lock stays: {left:?}");
}
