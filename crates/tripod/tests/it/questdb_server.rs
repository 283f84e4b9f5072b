//! One real QuestDB for all tests of the tape; each test has tables of its own by a prefix.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use questdb::ingress::{Buffer, Sender};
use serde_json::Value;
use tripod::Config;
use tripod::config::QuestDb;
use tripod::tape::questdb::QuestDbHttp;
use tripod_stack::{ServerName, Servers, TestStack};

/// A loaded machine may be slow; a test that waits this long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn config() -> QuestDb {
    static STACK: OnceLock<TestStack> = OnceLock::new();
    let stack = STACK.get_or_init(|| TestStack::start(Servers::only(ServerName::QuestDb)).unwrap());
    Config::load(stack.config_path()).unwrap().questdb.remove(0)
}

pub(crate) fn http() -> QuestDbHttp {
    QuestDbHttp::new(&config(), DEADLINE).unwrap()
}

pub(crate) fn sender() -> Sender {
    QuestDbHttp::sender_conf(&config(), DEADLINE).unwrap().build().unwrap()
}

/// Sends the buffer and waits until a SELECT from `table` sees all of it.
pub(crate) fn send(buffer: &mut Buffer, table: &str) {
    sender().flush(buffer).unwrap();
    await_applied(table);
}

/// Waits until `table` has applied all rows and changes that it was given.
pub(crate) fn await_applied(table: &str) {
    let http = http();
    let started = Instant::now();
    loop {
        let rows = http
            .exec(&format!("SELECT writerTxn, sequencerTxn, suspended FROM wal_tables() WHERE name = '{table}'"))
            .unwrap()
            .rows;
        assert_eq!(rows[0][2], Value::Bool(false), "{table} is suspended");
        if rows[0][0] == rows[0][1] {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "{table} has not applied all after {DEADLINE:?}");
    }
}
