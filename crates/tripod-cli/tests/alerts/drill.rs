//! A drill on a live stack, and the same story from everybody who watches: the page's snapshot, `/metrics`, the monitor's
//! log, the pager.
//!
//! QuestDB is back within two seconds by itself, which rings nobody and is not meant to. So the one that the supervisor
//! starts is held in its start until the pager has rung, as one is that has a long log to read.

use std::process::Stdio;

use serde_json::Value;
use tripod::Config;
use tripod_stack::{ServerName, Servers, TestStack};

use crate::bot::Bot;
use crate::command::{done, tripod_bound};
use crate::end_to_end::is_about;
use crate::programs::{LONG, until};
use crate::run::Said;
use crate::watch::{Time, Watch, my_turn};

/// What the page is told.
fn snapshot(watch: &Watch) -> Result<Value, String> {
    serde_json::from_str(&watch.monitor("/api/snapshot")?).map_err(|error| error.to_string())
}

fn questdb(snapshot: &Value) -> Value {
    let servers = snapshot["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    servers.iter().find(|server| server["name"] == "questdb").cloned().unwrap_or_default()
}

/// Since when the alert about QuestDB is there.
fn alert(snapshot: &Value) -> Option<String> {
    let alerts = snapshot["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = |alert: &&Value| {
        alert["id"] == "server-down" && alert["what"].as_str().is_some_and(|what| what.starts_with("questdb:"))
    };
    alerts.iter().find(ours).map(|alert| alert["since"].as_str().unwrap_or_default().to_owned())
}

/// The monitor's own word for Prometheus.
fn server_up(watch: &Watch) -> Result<String, String> {
    let text = watch.monitor("/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix("tripod_server_up{server=\"questdb\"} "));
    line.map(str::to_owned).ok_or_else(|| "tripod_server_up is not served".to_owned())
}

/// Whether all who are asked agree that it is up, or that it is down.
fn all_say(watch: &Watch, up: bool) -> Result<(), String> {
    let snapshot = snapshot(watch)?;
    let state = if up { "up" } else { "down" };
    let value = if up { "1" } else { "0" };
    let scraped = watch.query("tripod_server_up{server=\"questdb\"}")?;
    let said = (questdb(&snapshot)["state"].clone(), alert(&snapshot).is_some(), server_up(watch)?, scraped);
    let agree = said.0 == state && said.1 != up && said.2 == value && said.3.iter().all(|(_, said)| said == value);
    if agree && !said.3.is_empty() { Ok(()) } else { Err(format!("{said:?}")) }
}

#[test]
fn a_questdb_that_the_drill_kills_is_one_story_on_the_page_in_the_metrics_and_at_the_pager() {
    let _turn = my_turn();
    let dir = tempfile::tempdir().unwrap();
    let stack = TestStack::start_supervised(Servers::ALL).unwrap();
    done(stack.data_dir(), &["migrate", "-q"]);
    let bot = Bot::start(&Config::local(stack.data_dir()).unwrap());
    let watch = Watch::start(&stack, dir.path(), bot.address(), Time::Short);
    until(LONG, "all is well", || all_say(&watch, true));
    let before = stack.pid(ServerName::QuestDb).unwrap();

    let mut command = tripod_bound(stack.data_dir());
    command.args(["drill", "run", "kill-questdb", "--rounds", "1", "--json"]);
    let drill = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    println!("{} the drill begins", watch.at());
    until(LONG, "the drill kills QuestDB and the supervisor starts it again", || {
        match stack.pid(ServerName::QuestDb) {
            Some(pid) if pid != before => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    stack.freeze(ServerName::QuestDb);
    println!("{} it was killed; the new one is held in its start", watch.at());
    until(LONG, "all say that it is down", || all_say(&watch, false));
    let since = alert(&snapshot(&watch).unwrap()).unwrap();
    until(LONG, "the pager rings", || {
        let rings = watch.messages.find(is_about("TripodServerDown", "questdb", "firing"));
        rings.map(drop).ok_or_else(|| format!("{:?}", watch.alerts()))
    });
    println!("{} the pager rings", watch.at());
    assert_eq!(alert(&snapshot(&watch).unwrap()), Some(since), "one outage, one alert");

    stack.thaw(ServerName::QuestDb);
    until(LONG, "all say that it is up", || all_say(&watch, true));
    println!("{} it is up, and everybody says so", watch.at());
    until(LONG, "the pager is told that it is over", || {
        let over = watch.messages.find(is_about("TripodServerDown", "questdb", "resolved"));
        over.map(drop).ok_or_else(|| format!("{:?}", watch.alerts()))
    });
    println!("{} the pager is told that it is over", watch.at());

    let said: Said = drill.wait_with_output().unwrap().into();
    let report = said.json();
    assert_eq!((said.code, &report["lost"], &report["doubled"]), (Some(0), &0.into(), &0.into()), "{said:?}");
    let shown = until(LONG, "the page shows the drill", || {
        let shown = snapshot(&watch)?["drills"][0].clone();
        if shown["drill"] == "kill-questdb" { Ok(shown) } else { Err(shown.to_string()) }
    });
    assert_eq!((&shown["ok"], &shown["lost"]), (&true.into(), &0.into()), "{shown}");
    // The chart keeps it: up, down, up.
    let history: Value = serde_json::from_str(&watch.monitor("/api/history").unwrap()).unwrap();
    let mut seen: Vec<Value> = history["series"]["server_up"]["questdb"].as_array().unwrap().clone();
    seen.dedup();
    let (first, last) = (seen.first(), seen.last());
    assert!(first == Some(&1.into()) && seen.contains(&0.into()) && last == Some(&1.into()), "{history}");
    // And the log: what has begun is over.
    let log = watch.monitor_said();
    let lines = |words: &str| {
        log.lines()
            .filter(|line| line.contains("server-down") && line.contains("questdb") && line.contains(words))
            .count()
    };
    assert!(lines(" raised ") >= 1 && lines(" raised ") == lines(" is over "), "{log}");
    assert!(!watch.messages.names().contains(&"TripodSinkStuck".to_owned()), "{:?}", watch.messages.names());
    bot.assert_works();
}
