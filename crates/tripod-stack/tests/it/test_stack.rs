//! [`TestStack`]: servers that live exactly as long as their test.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::OnceLock;

use tripod_stack::{RunState, ServerName, Servers, TestStack};

use crate::scene::{Scene, eventually, processes_with};

fn id_of(stack: &TestStack) -> String {
    let text = std::fs::read_to_string(stack.data_dir().join("stack/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    format!("tripod-{}-", state["id"].as_str().unwrap())
}

#[test]
fn servers_answer_die_come_back_and_leave_nothing() {
    let stack = TestStack::start(Servers::ALL).unwrap();
    let id = id_of(&stack);
    let states = stack.check().unwrap();
    assert_eq!(states.len(), 4);
    assert!(states.iter().all(|server| server.state == RunState::Running), "{states:?}");
    assert!(states.iter().all(|server| server.version.is_some()), "{states:?}");

    for server in Servers::ALL.iter() {
        let before = stack.pid(server).unwrap();
        stack.kill(server).unwrap();
        assert_eq!(stack.pid(server), None, "{server} stays dead without a supervisor");
        stack.start_server(server).unwrap();
        assert_ne!(stack.pid(server).unwrap(), before);
    }
    stack.freeze(ServerName::RedisEvents);
    let states = stack.check().unwrap();
    let frozen = states.iter().find(|server| server.name == ServerName::RedisEvents).unwrap();
    assert_eq!(frozen.state, RunState::Unreachable, "{frozen:?}");
    stack.thaw(ServerName::RedisEvents);
    stack.await_ready_again(ServerName::RedisEvents).unwrap();
    stack.restart_server(ServerName::RedisPrices).unwrap();

    let dir = stack.data_dir().to_owned();
    assert!(!processes_with(&id).is_empty());
    drop(stack);
    assert_eq!(processes_with(&id), Vec::<u32>::new());
    assert!(!dir.exists());
}

#[test]
fn a_supervised_server_comes_back_by_itself() {
    let stack = TestStack::start_supervised(Servers::only(ServerName::RedisEvents)).unwrap();
    let before = stack.pid(ServerName::RedisEvents).unwrap();
    stack.kill(ServerName::RedisEvents).unwrap();
    eventually("another process", || stack.pid(ServerName::RedisEvents).is_some_and(|pid| pid != before));
    stack.await_ready_again(ServerName::RedisEvents).unwrap();
}

/// As test binaries hold it: for all their tests, and never dropped.
static STACK: OnceLock<TestStack> = OnceLock::new();

/// A test process that the tests below start: it ends by itself, or is killed, and drops nothing.
pub(crate) fn victim(waits: bool) {
    let servers = Servers { redis_events: true, postgres: true, ..Servers::NONE };
    let stack = STACK.get_or_init(|| TestStack::start(servers).unwrap());
    println!("VICTIM {} {}", id_of(stack), stack.data_dir().display());
    if waits {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
    }
}

fn leaves_nothing(what: &str, end: impl FnOnce(&mut Child, &str)) {
    use std::io::BufRead as _;
    let scene = Scene::new();
    let mut victim = scene.process(what).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Kept until its end: it must not fail for want of somebody who reads.
    let mut lines = std::io::BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find_map(|line| line.split_once("VICTIM ").map(|(_, rest)| rest.to_owned())).unwrap();
    let (id, dir) = line.split_once(' ').unwrap();
    end(&mut victim, id);
    victim.wait().unwrap();
    drop(lines);
    eventually("the guardian has ended the servers", || processes_with(id).is_empty());
    eventually("the guardian has removed the directory", || !Path::new(dir).exists());
}

#[test]
fn a_test_process_that_is_killed_leaves_nothing() {
    leaves_nothing("wait as victim", |victim, id| {
        assert!(processes_with(id).len() >= 2, "its servers run");
        victim.kill().unwrap();
    });
}

#[test]
fn a_test_process_that_drops_nothing_leaves_nothing() {
    leaves_nothing("end as victim", |_, _| {});
}
