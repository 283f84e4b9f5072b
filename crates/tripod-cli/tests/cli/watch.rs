//! `tripod status --watch`: on a pipe, as JSON, on a terminal.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tripod_stack::{ServerName, Servers, TestStack};

use crate::monitor::{server, until};
use crate::run::{Said, tripod};

/// One Redis, and addresses at which nobody is.
fn lonely() -> TestStack {
    TestStack::start(Servers::only(ServerName::RedisPrices)).unwrap()
}

const NOBODY: [(&str, &str); 3] = [
    ("TRIPOD__QUESTDB__0__HTTP", "127.0.0.1:1"),
    ("TRIPOD__POSTGRES__HOSTS", "127.0.0.1:1"),
    ("TRIPOD__REDIS__EVENTS__ADDRESSES", "127.0.0.1:1"),
];

/// A running `status --watch`.
fn watch(stack: &TestStack, arguments: &[&str]) -> Child {
    let mut command = tripod();
    command.envs(NOBODY);
    command.arg("--data").arg(stack.data_dir()).args(["status", "--watch"]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn status_watch_prints_a_screen_for_each_change_and_a_document_a_line() {
    let stack = lonely();
    let mut child = watch(&stack, &["--json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut document = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let prices = |status: &Value| server(status, "redis-prices")["state"].clone();
    for _ in 0..2 {
        assert_eq!(prices(&document()), "running");
    }
    stack.kill(ServerName::RedisPrices).unwrap();
    until("it is seen", || prices(&document()) == "unreachable");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // Nothing answers now, and the exit code is that of the last look.
    assert_eq!(child.wait().unwrap().code(), Some(3));

    let mut child = watch(&stack, &[]);
    let mut screens = BufReader::new(child.stdout.take().unwrap());
    let screen = |screens: &mut BufReader<ChildStdout>| {
        let mut text = String::new();
        while !text.contains("something is wrong") {
            assert_ne!(screens.read_line(&mut text).unwrap(), 0, "{text}");
        }
        text
    };
    assert!(!screen(&mut screens).contains("running"), "a server that was killed runs");
    stack.start_server(ServerName::RedisPrices).unwrap();
    until("a second screen tells of it", || screen(&mut screens).contains("running"));
    // The reader goes away: it ends, although nothing more changes.
    drop(screens);
    let said: Said = child.wait_with_output().unwrap().into();
    assert!(said.err.contains("when something has changed"), "{said:?}");
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[test]
fn status_watch_on_a_terminal_writes_over_itself_and_gives_it_back() {
    let stack = lonely();
    let line = format!("{} --data {} status --watch", env!("CARGO_BIN_EXE_tripod"), stack.data_dir().display());
    let mut script = std::process::Command::new("script");
    script
        .envs(NOBODY)
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = script.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut seen, mut buffer) = (String::new(), [0; 4096]);
    let (home, clear) = ("\u{1b}[H", "\u{1b}[2J");
    while seen.matches(home).count() < 3 {
        let count = out.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(seen.contains("\u{1b}[?1049h") && !seen.contains(clear), "it clears what is there first: {seen:?}");
    // ^C on the terminal.
    child.stdin.take().unwrap().write_all(&[3]).unwrap();
    out.read_to_string(&mut seen).unwrap();
    child.wait().unwrap();
    let (_, after) =
        seen.rsplit_once("\u{1b}[?1049l").unwrap_or_else(|| panic!("the terminal is not given back: {seen:?}"));
    assert!(after.contains("redis-prices") && after.contains("something is wrong"), "{after:?}");
}
