//! Looks whether delivered rows have become visible.
//!
//! Constraints: one light query at a time, and only while something is delivered and not visible; on a thread of its own,
//! because a server that answers slowly must not hold up deliveries. It only asks and reports: what the numbers mean is
//! the tally's matter.

use std::sync::mpsc::{Receiver, SyncSender};

use serde_json::Value;

use super::feed::Event;
use crate::error::{Error, Result, Server};
use crate::tape::questdb::QuestDbHttp;

/// `wal_tables()` knows what `/status` and the answers to writes do not: how far each table's writer is.
const QUERY: &str = "SELECT name, sequencerTxn, writerTxn, suspended, errorTag, errorMessage FROM wal_tables()";

/// One table on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableTxns {
    pub(super) name: String,
    pub(super) sequencer: i64,
    pub(super) writer: i64,
    /// The server's reason where the table is suspended (it may be empty).
    pub(super) suspended: Option<String>,
}

/// Body of the thread: answers each request for a look, until the asking side is gone.
pub(super) fn run(http: &QuestDbHttp, requests: &Receiver<()>, events: &SyncSender<Event>) {
    while requests.recv().is_ok() {
        if events.send(Event::Looked(look(http))).is_err() {
            return;
        }
    }
}

fn look(http: &QuestDbHttp) -> Result<Vec<TableTxns>> {
    let answer = http.exec(QUERY)?;
    answer.rows.iter().map(|row| read(row)).collect()
}

fn read(row: &[Value]) -> Result<TableTxns> {
    let strange = || Error::Refused {
        server: Server::QuestDb,
        what: "wal_tables() has other columns than Tripod knows; use a QuestDB version that it is tested with".into(),
        code: None,
        source: None,
    };
    let [name, sequencer, writer, suspended, tag, message] = row else { return Err(strange()) };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(TableTxns {
        name: name.as_str().ok_or_else(strange)?.to_owned(),
        sequencer: integer(sequencer).ok_or_else(strange)?,
        writer: integer(writer).ok_or_else(strange)?,
        suspended: suspended.as_bool().unwrap_or(false).then(|| format!("{} {}", text(tag), text(message))),
    })
}

/// Numbers may arrive as text, where they are kept exact.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_of_wal_tables_is_read_and_a_strange_one_is_an_error() {
        let healthy = [json!("a"), json!(12), json!(11), json!(false), json!(""), json!(null)];
        let table = read(&healthy).unwrap();
        assert_eq!((table.sequencer, table.writer, table.suspended), (12, 11, None));
        let full = [json!("a"), json!("12"), json!(0), json!(true), json!("DISK FULL"), json!("commit failed")];
        assert_eq!(read(&full).unwrap().suspended.unwrap(), "DISK FULL commit failed");
        assert!(read(&[json!("a")]).is_err());
        assert!(read(&[json!("a"), json!(null), json!(1), json!(false), json!(""), json!("")]).is_err());
    }
}
