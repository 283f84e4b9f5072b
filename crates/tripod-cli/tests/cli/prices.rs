//! `prices`, `signals`, `bench prices` and the drill `slow-network` on real Redis servers.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tripod::prices::{PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::signals::Signals;
use tripod::{Config, Token};
use tripod_stack::{Servers, TestStack};

use crate::run::{run, tripod};

const LONG: Duration = Duration::from_secs(60);

fn redis() -> TestStack {
    TestStack::start(Servers { redis_prices: true, redis_events: true, ..Servers::NONE }).unwrap()
}

/// The stack's config with prices that live for a minute.
fn config(stack: &TestStack) -> Config {
    let mut config = Config::load(stack.config_path()).unwrap();
    config.prices.ttl_ms = 60_000;
    config
}

fn update(name: &str, value: &str, slot: u64, venue: Option<&str>) -> PriceUpdate {
    let label = |what: &str, text: &str| Label::new(what, text).unwrap();
    let venue = venue.map(|venue| label("venue", venue));
    let token = Token::new(name).unwrap();
    PriceUpdate { token, value: value.parse().unwrap(), slot, source: label("source", "jupiter"), venue }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Starts a command that shows what comes; the lines of its standard output come from the other end.
fn follow(stack: &TestStack, arguments: &[&str]) -> (Child, std::sync::mpsc::Receiver<Value>) {
    let mut command = tripod();
    command.current_dir(stack.data_dir()).args(["--data", ".", "--json"]).args(arguments);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = std::sync::mpsc::sync_channel(100);
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = sender.send(serde_json::from_str(&line).unwrap());
        }
    });
    (child, receiver)
}

#[test]
fn a_price_is_shown_with_slot_age_and_source_and_its_changes_come_as_lines() {
    let stack = redis();
    let runtime = runtime();
    let prices = runtime.block_on(Prices::connect(&config(&stack))).unwrap();
    let write = |updates: &[PriceUpdate]| runtime.block_on(prices.write(updates)).unwrap();
    write(&[update("SOL", "152.1250", 42, None), update("SOL", "152.5", 43, Some("orca"))]);
    let get = |arguments: &[&str]| run(stack.data_dir(), &[&["--data", ".", "prices", "get"], arguments].concat());

    let shown = get(&["SOL", "--json"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let document = shown.json();
    assert_eq!(
        (&document["token"], &document["value"], &document["slot"], &document["source"]),
        (&json!("SOL"), &json!("152.1250"), &json!(42), &json!("jupiter")),
        "{document}"
    );
    assert!(document["age_ms"].as_u64().is_some() && document.get("venue").is_none(), "{document}");
    let at_orca = get(&["SOL", "--venue", "orca", "--json"]).json();
    assert_eq!((&at_orca["value"], &at_orca["venue"]), (&json!("152.5"), &json!("orca")));
    let words = get(&["SOL"]);
    assert!(words.out.starts_with("SOL 152.1250  slot 42, age "), "{words:?}");
    assert_eq!(get(&["SOL", "--fresh-ms", "3600000"]).code, Some(0));
    assert_eq!(get(&["SOL", "--fresh-ms", "1"]).code, Some(1), "it is older than a millisecond by now");
    let none = get(&["NONE"]);
    assert_eq!((none.code, none.out.as_str()), (Some(1), ""), "{none:?}");
    assert!(none.err.contains("\nhint: "), "{none:?}");
    assert_eq!(get(&["a b"]).code, Some(2));

    let (mut child, lines) = follow(&stack, &["prices", "watch", "SOL", "--count", "2"]);
    let first = lines.recv_timeout(LONG).unwrap();
    assert_eq!((&first["token"], &first["slot"]), (&json!("SOL"), &json!(42)), "what is there");
    write(&[update("OTHER", "1", 1, None), update("SOL", "153", 50, None)]);
    let second = lines.recv_timeout(LONG).unwrap();
    assert_eq!((&second["value"], &second["slot"]), (&json!("153"), &json!(50)));
    assert!(child.wait().unwrap().success(), "two were asked for");
}

#[test]
fn signals_are_shown_as_they_come() {
    let stack = redis();
    let runtime = runtime();
    let signals = runtime.block_on(Signals::connect(&config(&stack))).unwrap();
    let (mut child, lines) = follow(&stack, &["signals", "watch", "kill-switch", "hints", "--count", "1"]);
    let payload = json!({"on": true});
    let began = Instant::now();
    // Until it listens nobody hears.
    while runtime.block_on(signals.publish("kill-switch", &payload)).unwrap() == 0 {
        assert!(began.elapsed() < LONG, "nobody listens");
    }
    let heard = lines.recv_timeout(LONG).unwrap();
    assert_eq!(heard, json!({"kind": "signal", "topic": "kill-switch", "payload": {"on": true}}));
    assert!(child.wait().unwrap().success());
    assert_eq!(run(stack.data_dir(), &["--data", ".", "signals", "watch", "a b"]).code, Some(2));
}

#[test]
fn a_slow_and_cut_network_leaves_memory_serving_and_heals() {
    let stack = redis();
    let said = run(stack.data_dir(), &["--data", ".", "drill", "run", "slow-network", "--rounds", "1", "--json"]);
    let report = said.json();
    // How long it took is the machine's; that it came back, and that nothing went back, is not.
    for (field, wanted) in [("lost", 0), ("doubled", 0), ("memory_outlived", 0), ("rounds", 1)] {
        assert_eq!(report[field], wanted, "{field}: {report}");
    }
    for field in ["recorded", "memory_served", "calls_failed", "max_stall_us"] {
        assert!(report[field].as_u64() > Some(0), "{field}: {report}");
    }
    assert_eq!(report["recoveries_ms"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(said.code, Some(i32::from(report["ok"] != true)), "{report}");
}

#[test]
fn a_drill_or_bench_of_a_redis_that_is_not_this_stacks_is_refused() {
    let stack = redis();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = stack.config_path().display().to_string();
    for command in [&["drill", "run", "slow-network"][..], &["bench", "prices"]] {
        let said = run(elsewhere.path(), &[&["--config", config.as_str(), "--data", "."], command].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(4), ""), "{said:?}");
    }
}

#[test]
#[ignore = "half a minute; `make soak`"]
fn the_bench_of_prices_tells_every_figure_and_leaves_no_user_behind() {
    let stack = redis();
    let said = run(stack.data_dir(), &["--data", ".", "bench", "prices", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let report = said.json();
    let names: Vec<&str> = report["results"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    for name in [
        "write_batch_100",
        "read_one_p99",
        "read_batch_100_p99",
        "read_memory_p50",
        "write_to_memory_p99",
        "signal_p99",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    assert!(!std::fs::read_to_string(stack.data_dir().join("stack/redis-prices/users.acl")).unwrap().contains("bench"));
}
