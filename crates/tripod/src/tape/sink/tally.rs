//! What became of each row that this sink has passed: the sink's half of the ledger.
//!
//! Constraints: it is stored in the journal together with the cursor, as one atomic fact, so a kill -9 at any instant
//! leaves counts that belong to the position. It is JSON (fields may be added, never renamed), because other processes
//! and later versions read it. It has a bounded size: a table that stays suspended for hours adds no entries.
//!
//! Picture: a row moves through it once.
//! ```text
//! answered OK ─▶ delivered, no txn yet ─▶ delivered, in sequencer txn ≤ S ─▶ writer txn ≥ S: visible
//! refused     ─▶ quarantined
//! ```
//! The transaction of a request is not in its answer. So the first look at `wal_tables()` that *began* after the answer
//! gives S: the rows are in S or before it, and are visible once the writer has applied S.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tripod_journal::SchemaId;

use crate::error::{Error, Result};

/// Entries of rows that wait to become visible, per table; beyond it the newest are merged (and seen a little later).
/// With it, the counts of 64 tables that are all suspended still fit into the journal's 96 KiB of state.
const WAITING_MAX: usize = 16;

/// The counts of all tables of one sink and class.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// By schema id.
    tables: BTreeMap<u16, TableTally>,
}

/// The counts of one table. All are counted where it happens, none is a difference of others.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TableTally {
    /// Read from the journal and settled one way or another. The cross-check of the other three.
    pub(crate) passed: u64,
    /// Answered OK, not seen by a SELECT yet.
    pub(crate) delivered: u64,
    /// A SELECT returns them.
    pub(crate) visible: u64,
    /// In the quarantine file.
    pub(crate) quarantined: u64,
    /// Passed and not delivered, by a sink that is not required and fell too far behind.
    pub(crate) missed: u64,
    /// The rows of `delivered`, oldest first.
    waiting: VecDeque<Waiting>,
}

/// The counts of one table at a place of the journal, without what its rows wait for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settled {
    pub(super) passed: u64,
    pub(super) delivered: u64,
    pub(super) visible: u64,
    pub(super) quarantined: u64,
    pub(super) missed: u64,
}

/// Rows that were answered OK together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    /// They are visible once the table's writer has applied this; `None` until a look has said.
    #[serde(default)]
    txn: Option<i64>,
    rows: u64,
    /// The first and the last request that brought them; 0 in an earlier process.
    #[serde(skip)]
    batches: (u64, u64),
    /// No row of them was recorded before this; `None` where that is not known.
    #[serde(skip)]
    recorded_after: Option<Instant>,
}

/// Rows that have just become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) rows: u64,
    pub(super) recorded_after: Option<Instant>,
}

impl Tally {
    /// From a sink's stored state; empty bytes are a sink that has never committed.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the bytes are not a tally.
    pub(crate) fn read(state: &[u8]) -> Result<Self> {
        if state.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(state).map_err(|e| {
            Error::invalid(
                "sink state",
                format!("is not a tally ({e}); was the journal written by a later version of Tripod?"),
            )
        })
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// Never in practice: the document has no key that JSON could not hold.
    pub(super) fn write(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::invalid("sink state", e.to_string()))
    }

    /// The counts of one table; zeros where it has none yet.
    pub(crate) fn of(&self, schema: SchemaId) -> TableTally {
        self.tables.get(&schema.0).cloned().unwrap_or_default()
    }

    /// `rows` of `schema` were answered OK in the request `batch`.
    pub(super) fn delivered(&mut self, schema: SchemaId, rows: u64, batch: u64, recorded_after: Option<Instant>) {
        let table = self.tables.entry(schema.0).or_default();
        table.passed += rows;
        table.delivered += rows;
        table.waiting.push_back(Waiting { txn: None, rows, batches: (batch, batch), recorded_after });
        table.bound();
    }

    /// `rows` of `schema` are durable in the quarantine.
    pub(super) fn quarantined(&mut self, schema: SchemaId, rows: u64) {
        let table = self.tables.entry(schema.0).or_default();
        table.passed += rows;
        table.quarantined += rows;
    }

    /// `rows` of `schema` are passed without being delivered.
    pub(super) fn missed(&mut self, schema: SchemaId, rows: u64) {
        if rows > 0 {
            let table = self.tables.entry(schema.0).or_default();
            table.passed += rows;
            table.missed += rows;
        }
    }

    /// The tables that have rows to become visible.
    pub(super) fn waiting(&self) -> impl Iterator<Item = SchemaId> + '_ {
        self.tables.iter().filter(|(_, table)| !table.waiting.is_empty()).map(|(id, _)| SchemaId(*id))
    }

    /// A look at `schema`'s table that began when requests up to `batch` had been answered found these transactions.
    /// Returns what became visible.
    pub(super) fn observed(&mut self, schema: SchemaId, batch: u64, sequencer: i64, writer: i64) -> Vec<Seen> {
        let Some(table) = self.tables.get_mut(&schema.0) else { return Vec::new() };
        for entry in table.waiting.iter_mut().filter(|entry| entry.txn.is_none() && entry.batches.1 <= batch) {
            entry.txn = Some(sequencer);
        }
        let mut seen = Vec::new();
        while let Some(entry) = table.waiting.front().filter(|entry| entry.txn.is_some_and(|txn| writer >= txn)) {
            seen.push(Seen { rows: entry.rows, recorded_after: entry.recorded_after });
            table.delivered = table.delivered.saturating_sub(entry.rows);
            table.visible += entry.rows;
            table.waiting.pop_front();
        }
        seen
    }

    /// The counts of all tables, for a history of them.
    pub(super) fn settled(&self) -> BTreeMap<u16, Settled> {
        let of = |table: &TableTally| Settled {
            passed: table.passed,
            delivered: table.delivered,
            visible: table.visible,
            quarantined: table.quarantined,
            missed: table.missed,
        };
        self.tables.iter().map(|(id, table)| (*id, of(table))).collect()
    }

    /// The counts as they were at an earlier place of the journal. What was delivered then is visible once the server's
    /// writer has applied `txn` of its table; where that is not known, the next look says.
    pub(super) fn put_back(settled: &BTreeMap<u16, Settled>, txn: impl Fn(SchemaId) -> Option<i64>) -> Self {
        let table = |id: u16, then: &Settled| {
            let waiting =
                Waiting { txn: txn(SchemaId(id)), rows: then.delivered, batches: (0, 0), recorded_after: None };
            TableTally {
                passed: then.passed,
                delivered: then.delivered,
                visible: then.visible,
                quarantined: then.quarantined,
                missed: then.missed,
                waiting: (then.delivered > 0).then_some(waiting).into_iter().collect(),
            }
        };
        Self { tables: settled.iter().map(|(id, then)| (*id, table(*id, then))).collect() }
    }

    /// The newest transaction that rows of a table wait for.
    pub(super) fn newest_txn(&self, schema: SchemaId) -> Option<i64> {
        self.tables.get(&schema.0)?.waiting.iter().filter_map(|entry| entry.txn).max()
    }

    /// The oldest request of which some row is not visible yet.
    pub(super) fn oldest_waiting_batch(&self) -> Option<u64> {
        self.tables.values().filter_map(|table| table.waiting.front()).map(|entry| entry.batches.0).min()
    }
}

impl TableTally {
    fn bound(&mut self) {
        if self.waiting.len() <= WAITING_MAX {
            return;
        }
        // The newest entry is the one without a transaction, so the merged one has none either and gets a later one:
        // its rows are called visible late, never early.
        if let (Some(newest), Some(before)) = (self.waiting.pop_back(), self.waiting.pop_back()) {
            self.waiting.push_back(Waiting {
                txn: None,
                rows: newest.rows + before.rows,
                batches: (before.batches.0, newest.batches.1),
                recorded_after: before.recorded_after,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SchemaId = SchemaId(1);
    const B: SchemaId = SchemaId(2);

    fn rows(seen: &[Seen]) -> u64 {
        seen.iter().map(|seen| seen.rows).sum()
    }

    #[test]
    fn rows_become_visible_only_when_the_writer_has_applied_a_transaction_read_after_their_answer() {
        let mut tally = Tally::default();
        tally.delivered(A, 10, 1, None);
        // A look that began before the answer (batch 0) says nothing about these rows, however far the writer is.
        assert_eq!(tally.observed(A, 0, 100, 100), []);
        assert_eq!(rows(&tally.observed(A, 1, 7, 6)), 0);
        tally.delivered(A, 5, 2, None);
        assert_eq!(rows(&tally.observed(A, 2, 9, 7)), 10);
        assert_eq!(tally.oldest_waiting_batch(), Some(2));
        assert_eq!(rows(&tally.observed(A, 2, 12, 9)), 5);
        assert_eq!(tally.oldest_waiting_batch(), None);
        let table = tally.of(A);
        assert_eq!((table.passed, table.delivered, table.visible, table.quarantined), (15, 0, 15, 0));
        assert_eq!(tally.of(B), TableTally::default());
    }

    #[test]
    fn what_was_delivered_and_not_seen_goes_on_being_tracked_in_the_next_process() {
        let mut tally = Tally::default();
        tally.delivered(A, 10, 4, None);
        tally.observed(A, 4, 7, 6);
        tally.delivered(A, 3, 5, None);
        tally.quarantined(B, 2);
        let mut next = Tally::read(&tally.write().unwrap()).unwrap();
        assert_eq!(next.waiting().collect::<Vec<_>>(), [A]);
        assert_eq!(rows(&next.observed(A, 0, 20, 8)), 10, "the transaction was remembered");
        assert_eq!(rows(&next.observed(A, 0, 20, 20)), 3, "no look had named one: the first look of this process does");
        assert_eq!((next.of(A).visible, next.of(B).quarantined), (13, 2));
    }

    #[test]
    fn a_table_that_stays_suspended_adds_no_entries_without_limit() {
        let mut tally = Tally::default();
        for batch in 1..=10_000 {
            tally.delivered(A, 1, batch, None);
            tally.observed(A, batch, i64::try_from(batch).unwrap(), 0);
        }
        assert!(tally.tables[&1].waiting.len() <= WAITING_MAX);
        assert!(tally.write().unwrap().len() < 4096);
        assert_eq!(tally.of(A).delivered, 10_000);
        assert_eq!(rows(&tally.observed(A, 10_000, 10_000, 10_000)), 10_000);
    }

    #[test]
    fn counts_that_are_put_back_are_those_of_then_and_their_rows_do_not_wait_for_a_transaction_that_vanished() {
        let mut tally = Tally::default();
        tally.delivered(A, 10, 1, None);
        tally.quarantined(A, 1);
        let then = tally.settled();
        tally.delivered(A, 10, 2, None);
        tally.observed(A, 2, 900, 0);
        assert_eq!(tally.newest_txn(A), Some(900));
        let mut back = Tally::put_back(&then, |_| Some(7));
        assert_eq!(back.settled(), then);
        assert_eq!((back.newest_txn(A), rows(&back.observed(A, 2, 20, 7))), (Some(7), 10));
        assert_eq!((back.of(A).visible, back.of(A).delivered, back.newest_txn(A)), (10, 0, None));
    }

    #[test]
    fn a_state_that_is_not_a_tally_is_said() {
        assert!(Tally::read(b"").is_ok());
        assert!(Tally::read(b"\x01\x02").unwrap_err().to_string().contains("later version"));
    }
}
