//! The ledger: what became of every row, per table and sink, and the sum that must hold.
//!
//! Constraints: `recorded = pending + delivered + visible + quarantined + missed + dropped`, disjoint, each term counted where it
//! happens and none as a difference of the others, so that a defect anywhere breaks the sum. It is read from the
//! journals' files: by the bot, or by `status` in another process, with the bot alive or dead.
//!
//! Picture: who counts what.
//! ```text
//! journal, at record()            recorded, dropped
//! journal, walking past a cursor  pending
//! sink, stored with its cursor    delivered, visible, quarantined, missed; and passed, all rows before the cursor
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tripod_journal::{SchemaId, Snapshot};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tape::sink::{catalog, tally::Tally};
use crate::tape::spec::Importance;

/// One table as one sink has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LedgerRow {
    /// The table, without the prefix.
    pub table: String,
    /// The sink.
    pub sink: String,
    /// Rows that `record()` took or dropped.
    pub recorded: u64,
    /// In the journal, not settled by this sink yet.
    pub pending: u64,
    /// Answered OK, not seen by a SELECT yet.
    pub delivered: u64,
    /// A SELECT returns them.
    pub visible: u64,
    /// In the quarantine file, with the reason.
    pub quarantined: u64,
    /// Passed by a sink that is not required and fell behind what the journal keeps: not delivered to that server.
    pub missed: u64,
    /// Not kept, because the journal of a class that is not critical was full.
    pub dropped: u64,
    /// Whether the sums hold.
    pub adds_up: bool,
}

/// The counts of one table and sink, each from its own source.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    recorded: u64,
    pending: u64,
    passed: u64,
    delivered: u64,
    visible: u64,
    quarantined: u64,
    missed: u64,
    dropped: u64,
}

impl Counts {
    /// Two sums: every row is somewhere, and every row that the cursor has passed was settled.
    fn adds_up(&self) -> bool {
        let settled = [self.delivered, self.visible, self.quarantined, self.missed];
        let all = settled.iter().chain(&[self.pending, self.dropped]).copied().try_fold(0, u64::checked_add);
        let passed = settled.iter().copied().try_fold(0, u64::checked_add);
        all == Some(self.recorded) && passed == Some(self.passed)
    }
}

/// The ledger of the journals in `journal_dir` ([`crate::Config::journal_dir`]), sorted by sink and table. A sink that
/// has never run is not in it, and where no bot has ever run it is empty. Each row's counts are of one instant.
///
/// # Errors
/// [`Error::Journal`], [`Error::File`] or [`Error::Invalid`] where a journal's files cannot be read.
pub fn read(journal_dir: &Path) -> Result<Vec<LedgerRow>> {
    read_with(journal_dir, &[])
}

/// The ledger of `config`'s bot, with each sink of the config: also one that has never run, for which every row is
/// pending.
///
/// # Errors
/// As [`read`].
pub fn of(config: &Config) -> Result<Vec<LedgerRow>> {
    let names: Vec<&str> = config.questdb.iter().map(|sink| sink.name.as_str()).collect();
    read_with(&config.journal_dir(), &names)
}

fn read_with(journal_dir: &Path, expected: &[&str]) -> Result<Vec<LedgerRow>> {
    let mut tables: BTreeMap<(String, String), Counts> = BTreeMap::new();
    for class in Importance::ALL {
        match read_class(&journal_dir.join(class.as_str()), expected, &mut tables) {
            // Not made yet, or a bot is making it at this moment: there is nothing in it.
            Err(Error::Journal(tripod_journal::Error::Missing { .. })) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tables
        .into_iter()
        .map(|((sink, table), counts)| LedgerRow {
            table,
            sink,
            recorded: counts.recorded,
            pending: counts.pending,
            delivered: counts.delivered,
            visible: counts.visible,
            quarantined: counts.quarantined,
            missed: counts.missed,
            dropped: counts.dropped,
            adds_up: counts.adds_up(),
        })
        .collect())
}

fn read_class(dir: &Path, expected: &[&str], tables: &mut BTreeMap<(String, String), Counts>) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    let specs = catalog::specs(dir)?;
    let mut sinks: BTreeSet<String> = sinks(dir)?.into_iter().collect();
    sinks.extend(expected.iter().map(|name| (*name).to_owned()));
    for sink in sinks {
        let snapshot = Snapshot::read(dir, &sink)?;
        let tally = Tally::read(&snapshot.state)?;
        for (schema, spec) in &specs {
            let counts = tables.entry((sink.clone(), spec.name.clone())).or_default();
            add(counts, *schema, &snapshot, &tally);
        }
    }
    Ok(())
}

/// A table whose spec was changed has several schemas, and one row here.
fn add(counts: &mut Counts, schema: SchemaId, snapshot: &Snapshot, tally: &Tally) {
    let of = |list: &[(SchemaId, u64)]| list.iter().find(|(id, _)| *id == schema).map_or(0, |(_, count)| *count);
    let settled = tally.of(schema);
    counts.recorded += of(&snapshot.recorded);
    counts.dropped += of(&snapshot.dropped);
    counts.pending += of(&snapshot.pending);
    counts.passed += settled.passed;
    counts.delivered += settled.delivered;
    counts.visible += settled.visible;
    counts.quarantined += settled.quarantined;
    counts.missed += settled.missed;
    if snapshot.gone_segments > 0 {
        // Deleted before this sink came to them, which has not counted it yet: nobody else can tell how many they were.
        let known = of(&snapshot.dropped) + of(&snapshot.pending) + settled.passed;
        let gone = of(&snapshot.recorded).saturating_sub(known);
        counts.missed += gone;
        counts.passed += gone;
    }
}

/// The sinks that have a cursor on the journal in `dir`.
fn sinks(dir: &Path) -> Result<Vec<String>> {
    let dir = dir.join("sinks");
    let failed = |source| Error::File { what: "list", path: dir.clone(), source };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "cursor") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_term_can_change_alone_without_breaking_the_sum() {
        let whole = Counts {
            recorded: 26,
            pending: 1,
            passed: 19,
            delivered: 2,
            visible: 9,
            quarantined: 3,
            missed: 5,
            dropped: 6,
        };
        assert!(whole.adds_up());
        assert!(Counts::default().adds_up());
        let alterations: [fn(&mut Counts) -> &mut u64; 8] = [
            |c| &mut c.recorded,
            |c| &mut c.pending,
            |c| &mut c.passed,
            |c| &mut c.delivered,
            |c| &mut c.visible,
            |c| &mut c.quarantined,
            |c| &mut c.missed,
            |c| &mut c.dropped,
        ];
        for (number, term) in alterations.into_iter().enumerate() {
            for by in [1_i64, -1, 1000] {
                let mut altered = whole;
                let term = term(&mut altered);
                *term = term.saturating_add_signed(by);
                assert!(!altered.adds_up(), "term {number} altered by {by}: {altered:?}");
            }
        }
    }

    #[test]
    fn a_row_that_was_passed_and_vanished_is_noticed_although_the_first_sum_could_be_made_to_hold() {
        let lost = Counts { recorded: 10, pending: 1, passed: 10, visible: 9, ..Counts::default() };
        assert!(!lost.adds_up());
    }

    #[test]
    fn sums_beyond_u64_do_not_wrap_round_to_true() {
        let wrapped = Counts { recorded: 0, pending: u64::MAX, dropped: 1, ..Counts::default() };
        assert!(!wrapped.adds_up());
    }
}
