//! The sentinels and the replicas of `up --ha`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tripod_stack::{ServerName, Servers, TestStack};

use super::doctor;

/// Of the events alone: no other server runs.
fn found(data: &Path) -> Vec<(String, String)> {
    let said = doctor(data);
    let json = said.json();
    let findings = json["findings"].as_array().unwrap();
    let text = |finding: &serde_json::Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let replicated = |id: &str| id.starts_with("redis.sentinel") || id == "redis.replicas";
    findings
        .iter()
        .map(|finding| (text(finding, "id"), text(finding, "severity")))
        .filter(|(id, _)| replicated(id))
        .collect()
}

/// Sentinels take seconds to see something.
fn await_found(data: &Path, expected: &[(&str, &str)]) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let found = found(data);
        if found.iter().map(|(id, severity)| (id.as_str(), severity.as_str())).eq(expected.iter().copied()) {
            return;
        }
        assert!(Instant::now() < end, "{found:?} instead of {expected:?}");
    }
}

fn ask(stack: &TestStack, sentinel: ServerName, words: &[&str]) {
    let login = stack.admin(sentinel);
    let (host, port) = stack.address(sentinel).rsplit_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    let output = Command::new("redis-cli")
        .env("REDISCLI_AUTH", login.password())
        .args(["-h", &host, "-p", &port, "--user", login.user, "-e"])
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
pub(super) fn sentinels_that_are_gone_disagree_or_ask_too_much_and_a_missing_replica_are_found() {
    let stack = TestStack::start(Servers::EVENTS_HA).unwrap();
    let data = stack.data_dir();
    await_found(data, &[]);

    // Two agree, the third was told of another primary: one that is none of theirs.
    let [first, second, third] = ServerName::SENTINELS;
    let other = TestStack::start(Servers { redis_events: true, ..Servers::NONE }).unwrap();
    let port = other.address(ServerName::RedisEvents).rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap();
    ask(&stack, third, &["SENTINEL", "REMOVE", "tripod"]);
    await_found(data, &[("redis.sentinel-views", "wrong")]);
    ask(&stack, third, &["SENTINEL", "MONITOR", "tripod", "127.0.0.1", &port, "2"]);
    // It has no login there, and takes it for gone.
    await_found(data, &[("redis.sentinel-down", "wrong"), ("redis.sentinel-views", "wrong")]);
    drop(other);

    stack.kill(third).unwrap();
    await_found(data, &[("redis.sentinels", "advice")]);
    ask(&stack, first, &["SENTINEL", "SET", "tripod", "quorum", "4"]);
    await_found(data, &[("redis.sentinel-quorum", "wrong"), ("redis.sentinels", "wrong")]);
    ask(&stack, first, &["SENTINEL", "SET", "tripod", "quorum", "2"]);
    await_found(data, &[("redis.sentinels", "advice")]);

    let primary = stack.events_primary().unwrap();
    let replica = ServerName::EVENTS.into_iter().find(|node| *node != primary).unwrap();
    stack.kill(replica).unwrap();
    await_found(data, &[("redis.replicas", "wrong"), ("redis.sentinels", "advice")]);
    stack.start_server(replica).unwrap();
    await_found(data, &[("redis.sentinels", "advice")]);

    // The two that are left forget the third: no majority is left if one of them goes, too.
    for sentinel in [first, second] {
        ask(&stack, sentinel, &["SENTINEL", "RESET", "tripod"]);
    }
    await_found(data, &[("redis.sentinel-count", "wrong"), ("redis.sentinels", "advice")]);

    stack.kill(second).unwrap();
    await_found(data, &[("redis.sentinel-count", "wrong"), ("redis.sentinels", "wrong")]);
}
