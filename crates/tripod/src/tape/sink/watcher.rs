//! Looks at the server: which run of it, how far its tables are, and which of them are suspended.
//!
//! Constraints: one light query at a time; on a thread of its own, because a server that answers slowly must not hold up
//! deliveries. It only asks, reports, and resumes what it is told to: what the numbers mean is the tally's matter, and
//! [`super::rewind`]'s.
//!
//! Picture: what 9.3.4 offers over HTTP, in one query
//! ```text
//! wal_tables()               sequencerTxn, writerTxn, suspended
//! pg_postmaster_start_time() the run                                    the same for each row of an answer
//! tables()                   id (another one: made anew), rows          once a second, and for another run
//! wal_transactions(t)        transactions from before a moment          for another run only: reads the table's log
//! ```

use std::sync::mpsc::{Receiver, SyncSender};

use serde_json::Value;

use super::feed::Event;
use super::history::Mark;
use crate::error::{Error, Result, Server};
use crate::tape::questdb::QuestDbHttp;

const SOON: &str = "SELECT w.name, w.sequencerTxn, w.writerTxn, w.suspended, w.errorTag, w.errorMessage, \
                    pg_postmaster_start_time(), systimestamp() FROM wal_tables() w";
const FULL: &str = "SELECT w.name, w.sequencerTxn, w.writerTxn, w.suspended, w.errorTag, w.errorMessage, \
                    pg_postmaster_start_time(), systimestamp(), t.id, t.table_row_count, t.table_min_timestamp \
                    FROM wal_tables() w JOIN tables() t ON t.table_name = w.name";

/// One table on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableTxns {
    pub(super) name: String,
    pub(super) sequencer: i64,
    pub(super) writer: i64,
    /// The server's reason where the table is suspended (it may be empty).
    pub(super) suspended: Option<String>,
    /// Only of a full look.
    pub(super) facts: Option<Mark>,
    /// Transactions from before the last look at the run before; only for another run.
    pub(super) kept_txn: Option<i64>,
}

/// An answer. No tables, no run: then there is nothing to compare either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) started: String,
    pub(super) server_at: String,
    pub(super) tables: Vec<TableTxns>,
    /// It has every table's facts.
    pub(super) full: bool,
}

/// A request.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// With every table's facts.
    pub(super) full: bool,
    /// The run at the last look, and what it had.
    pub(super) known: Option<KnownRun>,
    /// First, tables that are to go on.
    pub(super) resume: Vec<Resume>,
}

/// A run of the server, at its last look.
#[derive(Debug, Clone)]
pub(super) struct KnownRun {
    pub(super) started: String,
    pub(super) server_at: String,
    /// Tables and their transactions.
    pub(super) tables: Vec<(String, i64)>,
}

/// A suspended table that is to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) table: String,
    /// The part of its log behind this transaction cannot be read: go on behind that part.
    pub(super) lost_after: Option<i64>,
}

/// Body of the thread: answers each request for a look, until the asking side is gone.
pub(super) fn run(http: &QuestDbHttp, requests: &Receiver<Ask>, events: &SyncSender<Event>) {
    while let Ok(ask) = requests.recv() {
        for table in &ask.resume {
            match resume(http, table) {
                Ok(()) => tracing::warn!(table = table.table, lost_after = table.lost_after, "RESUME WAL"),
                Err(e) => tracing::error!(table = table.table, error = %e, "a suspended table cannot be resumed"),
            }
        }
        if events.send(Event::Looked(look(http, &ask))).is_err() {
            return;
        }
    }
}

fn look(http: &QuestDbHttp, ask: &Ask) -> Result<Looked> {
    let mut looked = query(http, ask.full)?;
    let Some(known) = &ask.known else { return Ok(looked) };
    let behind =
        |table: &TableTxns| known.tables.iter().any(|(name, txn)| *name == table.name && table.sequencer < *txn);
    let another_run = !looked.started.is_empty() && looked.started != known.started;
    if another_run || looked.tables.iter().any(behind) {
        if !looked.full {
            looked = query(http, true)?;
        }
        for table in &mut looked.tables {
            if known.tables.iter().any(|(name, _)| *name == table.name) {
                table.kept_txn = Some(kept_txn(http, &table.name, &known.server_at)?);
            }
        }
    }
    Ok(looked)
}

fn query(http: &QuestDbHttp, full: bool) -> Result<Looked> {
    let answer = http.exec(if full { FULL } else { SOON })?;
    let mut looked = Looked { started: String::new(), server_at: String::new(), tables: Vec::new(), full };
    for row in &answer.rows {
        let (run, table) = read(row)?;
        (looked.started, looked.server_at) = run;
        looked.tables.push(table);
    }
    Ok(looked)
}

/// The last transaction of `table` that was there at `server_at`, by the server's clock. A second later is still the run
/// before, since a start takes longer; and what a look finds may be a moment younger than the time it names.
fn kept_txn(http: &QuestDbHttp, table: &str, server_at: &str) -> Result<i64> {
    let sql = format!(
        "SELECT max(sequencerTxn) FROM wal_transactions('{table}') WHERE timestamp <= dateadd('s', 1, '{server_at}')"
    );
    let answer = http.exec(&sql)?;
    // NULL: none.
    Ok(answer.rows.first().and_then(|row| row.first()).and_then(integer).unwrap_or(0))
}

fn resume(http: &QuestDbHttp, resume: &Resume) -> Result<()> {
    let table = &resume.table;
    let Some(writer) = resume.lost_after else {
        return http.exec(&format!("ALTER TABLE \"{table}\" RESUME WAL")).map(drop);
    };
    let sql = format!(
        "SELECT sequencerTxn, walId, segmentId FROM wal_transactions('{table}') WHERE sequencerTxn > {writer} \
         ORDER BY sequencerTxn"
    );
    let Some(from) = behind_lost(&http.exec(&sql)?.rows) else { return Ok(()) };
    http.exec(&format!("ALTER TABLE \"{table}\" RESUME WAL FROM TXN {from}")).map(drop)
}

/// The first transaction that is in another part of the log than the first one, or the one that comes next.
fn behind_lost(transactions: &[Vec<Value>]) -> Option<i64> {
    let place = |row: &Vec<Value>| Some((row.get(1)?.clone(), row.get(2)?.clone()));
    let number = |row: &Vec<Value>| row.first().and_then(integer);
    let lost = transactions.first().and_then(place)?;
    match transactions.iter().find(|row| place(row).is_some_and(|place| place != lost)) {
        Some(row) => number(row),
        None => transactions.last().and_then(number)?.checked_add(1),
    }
}

fn read(row: &[Value]) -> Result<((String, String), TableTxns)> {
    let strange = || Error::Refused {
        server: Server::QuestDb,
        what: "wal_tables() has other columns than Tripod knows; use a QuestDB version that it is tested with".into(),
        code: None,
        source: None,
    };
    let [name, sequencer, writer, suspended, tag, message, started, server_at, facts @ ..] = row else {
        return Err(strange());
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sequencer = integer(sequencer).ok_or_else(strange)?;
    let facts = match facts {
        [] => None,
        [id, rows, oldest] => Some(Mark {
            id: integer(id).ok_or_else(strange)?,
            txn: sequencer,
            rows: integer(rows),
            oldest: oldest.as_str().map(str::to_owned),
        }),
        _ => return Err(strange()),
    };
    let table = TableTxns {
        name: name.as_str().ok_or_else(strange)?.to_owned(),
        sequencer,
        writer: integer(writer).ok_or_else(strange)?,
        suspended: suspended.as_bool().unwrap_or(false).then(|| format!("{} {}", text(tag), text(message))),
        facts,
        kept_txn: None,
    };
    let run = (started.as_str().ok_or_else(strange)?.to_owned(), server_at.as_str().ok_or_else(strange)?.to_owned());
    Ok((run, table))
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
        let healthy = [json!("a"), json!(12), json!(11), json!(false), json!(""), json!(null), json!("s"), json!("n")];
        let (run, table) = read(&healthy).unwrap();
        assert_eq!((table.sequencer, table.writer, table.suspended, table.facts), (12, 11, None, None));
        assert_eq!(run, ("s".to_owned(), "n".to_owned()));
        let mut full = healthy.to_vec();
        full[3..6].clone_from_slice(&[json!(true), json!("DISK FULL"), json!("commit failed")]);
        full.extend([json!(4), json!(null), json!("2026-01-01")]);
        let (_, table) = read(&full).unwrap();
        assert_eq!(table.suspended.unwrap(), "DISK FULL commit failed");
        assert_eq!(table.facts, Some(Mark { id: 4, txn: 12, rows: None, oldest: Some("2026-01-01".into()) }));
        assert!(read(&full[..1]).is_err());
        assert!(read(&full[..10]).is_err());
        full[1] = json!(null);
        assert!(read(&full).is_err());
    }

    #[test]
    fn only_the_part_of_the_log_that_is_lost_is_passed() {
        let row = |txn: i64, wal: i64| vec![json!(txn), json!(wal), json!(0)];
        assert_eq!(behind_lost(&[row(5, 2), row(6, 2), row(7, 3), row(8, 2)]), Some(7));
        assert_eq!(behind_lost(&[row(5, 2), row(6, 2)]), Some(7));
        assert_eq!(behind_lost(&[]), None);
    }
}
