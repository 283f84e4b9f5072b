//! Sinks in a process of their own: what `status` says of them, and `journal redeliver` with and without them.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tripod::config::Delivery;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::tables::{self, Attempt};
use tripod::tape::{Tape, schema};
use tripod::{Config, Timestamp, Token, Uuid};
use tripod_stack::{Servers, TestStack};

use crate::run::{run, tripod};

/// Generous: the machine may be busy.
const LONG: Duration = Duration::from_secs(60);

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {LONG:?}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn record(tape: &Tape, rows: std::ops::Range<u128>) {
    let token = Token::new("SOL").unwrap();
    for n in rows {
        let attempt = Attempt::new(Uuid::from_u128(n), Timestamp::now(), "example", "orca", token);
        tape.recorder().record(&attempt).unwrap();
    }
}

#[test]
fn status_shows_sinks_of_another_process_and_redeliver_takes_their_place_only_when_they_are_gone() {
    let stack = TestStack::start(Servers { questdb: true, ..Servers::NONE }).unwrap();
    let data = stack.data_dir();
    let mut config = Config::local(data).unwrap();
    let http = QuestDbHttp::new(&config.questdb[0], LONG).unwrap();
    schema::apply(&http, &schema::plan(&schema::read_live(&http).unwrap(), tables::builtin(), "")).unwrap();
    config.tape.delivery = Delivery::Beside;
    let tape = Tape::open(&config).unwrap();
    record(&tape, 0..100);
    let status = || run(data, &["--data", ".", "status", "--json"]).json();
    let critical = |status: &Value| {
        let sinks = status["sinks"].as_array().unwrap();
        sinks.iter().find(|sink| sink["class"] == "critical").unwrap().clone()
    };
    let said = status();
    assert_eq!(critical(&said)["state"], "not_running", "{said}");
    assert!(said["notes"].to_string().contains("100 rows wait for sink main"), "{said}");

    let mut command = tripod();
    command.current_dir(data).args(["--data", ".", "deliver"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut deliver = Killed(command.spawn().unwrap());
    until("its sinks deliver", || critical(&status())["state"] == "delivering");
    assert_eq!(critical(&status())["pid"], deliver.0.id());
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    let count = || crate::servers::ask(data, "SELECT count() FROM attempts");
    assert_eq!(count(), 100);

    let redeliver = ["--data", ".", "journal", "redeliver", "--since", "2020-01-01T00:00:00Z", "--json"];
    let refused = run(data, &redeliver);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains(&deliver.0.id().to_string()) || refused.out.contains(&deliver.0.id().to_string()));
    deliver.0.kill().unwrap();
    deliver.0.wait().unwrap();
    assert_eq!(critical(&status())["state"], "not_running", "killed, it still says that it delivers");

    http.exec("TRUNCATE TABLE attempts").unwrap();
    until("the table is empty", || count() == 0);
    // The bot may live: it does not deliver itself.
    let done = run(data, &redeliver);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!((done.json()["remaining"].as_u64(), done.json()["ok"].as_bool()), (Some(0), Some(true)), "{done:?}");
    assert_eq!(count(), 100);
    assert_eq!(run(data, &["--data", ".", "journal", "redeliver", "--since", "2199-01-01T00:00:00Z"]).code, Some(2));
}
