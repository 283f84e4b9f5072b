//! Whether a server forgot something, and how far back it must be told again.
//!
//! Constraints: pure. When in doubt further back: each table has DEDUP keys, so telling a server what it knows costs time
//! and nothing else. A table that is only missing is not judged (it may have been given up on purpose) but remembered.
//!
//! Picture: what is compared, at each look
//! ```text
//! the server's start ── another one ─────▶ back by `rewind_s` at least, from the last look at the run before
//!   and then: transactions that the server has from before its start ─▶ back to an entry with no more than these
//!             rows in a table of which no day ended                  ─▶ back to an entry with no more than these
//! a table's number ── another one ───────▶ back to before the table was there, or to the beginning of the journal
//! rows wait for a transaction that the server never heard of ─────────▶ the same as another start
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::{Entry, GONE, Mark, Moment};
use crate::value::Timestamp;

/// One of this sink's tables, as a look found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) mark: Mark,
    /// How far its writer is.
    pub(super) writer: i64,
    pub(super) suspended: bool,
    /// Transactions that it has from before the newest entry of the history; asked for only where that may be fewer.
    pub(super) kept_txn: Option<i64>,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) started: String,
    pub(super) server_at: String,
    /// By the name on the server.
    pub(super) tables: BTreeMap<String, Found>,
}

/// What a look means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is missing.
    Whole,
    /// The server has not applied yet what it has: look again before anything else is sent.
    Later,
    /// Go back.
    Forgot(Back),
}

/// How far to go back, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Back {
    /// How many of the history's entries still hold; the last of them is where to go. 0 is the beginning of the journal.
    pub(super) entries: usize,
    /// In words, for people.
    pub(super) why: String,
}

/// What is compared with the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// Oldest first.
    pub(super) history: &'a [Entry],
    /// The last look that found the history's newest run.
    pub(super) last_look: Moment,
    /// Per table, the newest transaction that rows wait for.
    pub(super) awaited: &'a BTreeMap<String, i64>,
    /// `tape.rewind_s`.
    pub(super) rewind: Duration,
}

/// Judges a look. With `patient` it may say [`Verdict::Later`].
pub(super) fn judge(known: Known<'_>, seen: &Seen, patient: bool) -> Verdict {
    let vanished =
        known.awaited.iter().find(|(table, txn)| seen.tables.get(*table).is_some_and(|found| found.mark.txn < **txn));
    let Some(newest) = known.history.last() else {
        return match vanished {
            Some((table, txn)) => Verdict::Forgot(Back { entries: 0, why: lost_txn(table, *txn) }),
            None => Verdict::Whole,
        };
    };
    let mut why = Vec::new();
    let restarted = newest.started != seen.started;
    if restarted {
        why.push(format!("QuestDB was started again at {}", seen.started));
    }
    why.extend(vanished.map(|(table, txn)| lost_txn(table, *txn)));
    for (table, mark) in &newest.tables {
        let Some(found) = seen.tables.get(table) else { continue };
        if found.mark.id != mark.id {
            why.push(format!("table {table} was made anew"));
        } else if found.mark.txn < mark.txn {
            why.push(format!("table {table} is at transaction {} and was at {}", found.mark.txn, mark.txn));
        }
    }
    if why.is_empty() {
        return Verdict::Whole;
    }
    let applying = |(table, mark): (&String, &Mark)| {
        let found = seen.tables.get(table)?;
        (found.mark.id == mark.id && !found.suspended && found.writer < mark.txn.min(found.mark.txn)).then_some(())
    };
    if patient && newest.tables.iter().any(|table| applying(table).is_some()) {
        return Verdict::Later;
    }
    let fewer = fewer_rows(newest, seen);
    why.extend(fewer.iter().map(|(table, (has, had))| format!("table {table} has {has} rows and had {had}")));
    let holds = |entry: &Entry| {
        entry.moment().is_before(known.last_look, known.rewind)
            && entry.tables.iter().all(|(table, mark)| {
                // A table that is not there at the moment: judged when it is there again.
                let Some(found) = seen.tables.get(table) else { return true };
                let txn = found.kept_txn.unwrap_or(found.mark.txn).min(found.mark.txn);
                let rows = fewer.get(table).is_none_or(|(has, _)| mark.rows.is_some_and(|rows| rows <= *has));
                found.mark.id == mark.id && mark.txn <= txn && rows
            })
    };
    let entries = known.history.iter().rposition(holds).map_or(0, |at| at + 1);
    Verdict::Forgot(Back { entries, why: why.join("; ") })
}

/// How many entries hold that were made at `since` or before: up to the first one behind it, since a clock that went back
/// gives later ones an earlier time.
pub(super) fn since(history: &[Entry], since: Timestamp) -> usize {
    history.iter().position(|entry| entry.at() > since).unwrap_or(history.len())
}

/// How many entries hold where a table's log behind transaction `txn` is lost.
pub(super) fn before(history: &[Entry], table: &str, txn: i64) -> usize {
    let holds = |entry: &Entry| entry.tables.get(table).is_none_or(|mark| mark.txn <= txn);
    history.iter().rposition(holds).map_or(0, |at| at + 1)
}

/// The tables that count fewer rows than at the newest entry though no day of them ended: rows now, rows then.
fn fewer_rows(newest: &Entry, seen: &Seen) -> BTreeMap<String, (i64, i64)> {
    let fewer = |(table, mark): (&String, &Mark)| {
        let found = seen.tables.get(table)?;
        let (has, had) = (found.mark.rows?, mark.rows?);
        let comparable = found.mark.id == mark.id && found.mark.oldest == mark.oldest && found.writer >= mark.txn;
        (comparable && has < had).then(|| (table.clone(), (has, had)))
    };
    newest.tables.iter().filter_map(fewer).collect()
}

/// The marks for the history's next entry: what the look found, and that the tables that were there before are gone.
pub(super) fn marks(newest: Option<&Entry>, seen: &Seen) -> BTreeMap<String, Mark> {
    let mut marks: BTreeMap<String, Mark> =
        seen.tables.iter().map(|(table, found)| (table.clone(), found.mark.clone())).collect();
    for (table, mark) in newest.into_iter().flat_map(|newest| &newest.tables) {
        marks.entry(table.clone()).or_insert_with(|| Mark { id: GONE, ..mark.clone() });
    }
    marks
}

fn lost_txn(table: &str, txn: i64) -> String {
    format!("rows wait for transaction {txn} of table {table}, which QuestDB does not have")
}

#[cfg(test)]
mod tests;
