//! [`TestStack`]: servers that live exactly as long as their test.

use std::process::Stdio;

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

    for server in ServerName::ALL {
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

/// What [`a_killed_test_leaves_nothing`] runs in a process of its own and kills.
pub(crate) fn victim() {
    let servers = Servers { redis_events: true, postgres: true, ..Servers::NONE };
    let stack = TestStack::start(servers).unwrap();
    println!("VICTIM {} {}", id_of(&stack), stack.data_dir().display());
    let mut line = String::new();
    // Until it is killed.
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
fn a_killed_test_leaves_nothing() {
    use std::io::BufRead as _;
    let scene = Scene::new();
    let mut victim = scene.process("victim").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(victim.stdout.take().unwrap()).lines();
    let line =
        lines.map(Result::unwrap).find_map(|l| l.split_once("VICTIM ").map(|(_, rest)| rest.to_owned())).unwrap();
    let (id, dir) = line.split_once(' ').unwrap();
    assert!(processes_with(id).len() >= 2);
    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually("the guardian has ended the servers", || processes_with(id).is_empty());
    eventually("the guardian has removed the directory", || !std::path::Path::new(dir).exists());
}
