//! Which suspended tables are told to go on, and when.
//!
//! Constraints: pure. QuestDB answers writes to a suspended table OK for ever and shows none of them, so each one is
//! named, with since when. Only two reasons are known to be safe to resume after; any other (an operator's
//! `SUSPEND WAL`, a defect) is reported and left alone.
//!
//! Picture:
//! ```text
//! the disk was full, by its words or by the server's answers at the time
//!                       ─ there is space again ─▶ RESUME WAL, once per full disk; then only reported
//! its log cannot be read (thrown away, or lost with the power)
//!                       ─▶ RESUME WAL ─ still suspended ─▶ the journal is read again from before the lost transactions,
//!                                                          RESUME WAL FROM TXN behind them
//! the same, and it goes on though this sink has not passed anything: another bot that writes to the table has, or an
//! operator                    ─▶ the journal is read again from before them, too
//! anything else         ─▶ reported
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::watcher::{Resume, TableTxns};
use crate::value::Timestamp;

/// After a suspension is seen, or a try to end it, nothing is tried for this long: the server needs a moment to find out.
const PAUSE: Duration = Duration::from_secs(2);
/// Lost parts of a table's log that are passed, at most. Each costs a redelivery; a table that has more has another
/// trouble.
const SKIPS_MAX: u32 = 64;

/// One suspended table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspended {
    pub(super) since: Timestamp,
    pub(super) why: String,
    /// Times that it was told to go on.
    pub(super) tries: u32,
    tried_at: Instant,
    /// Where its writer stood when it was told to go on.
    writer: Option<i64>,
    /// Where its writer stands.
    stopped_at: i64,
    /// This sink has gone back and told the server to pass what is lost there, and nothing speaks against its having done so.
    passed: bool,
    /// The server's disk was full meanwhile. Its reason may not say so: "bulk update failed and will be rolled back".
    met_full_disk: bool,
}

/// The suspended tables of one sink.
#[derive(Debug, Default)]
pub(super) struct Suspensions {
    tables: BTreeMap<String, Suspended>,
    passed: Vec<Passed>,
}

/// A table whose log could not be read behind a transaction, and that goes on without this sink having passed that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) table: String,
    pub(super) after: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    DiskFull,
    LostLog,
    Other,
}

fn cause(entry: &Suspended) -> Cause {
    let why = entry.why.as_str();
    let full = ["DISK FULL", "No space left", "[28]", "errno: 28", "errno=28"];
    if full.iter().any(|words| why.contains(words)) {
        Cause::DiskFull
    } else if why.contains("cannot read WAL") {
        Cause::LostLog
    } else if entry.met_full_disk && !why.is_empty() {
        Cause::DiskFull
    } else {
        Cause::Other
    }
}

impl Suspensions {
    /// By name.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&str, &Suspended)> {
        self.tables.iter().map(|(name, table)| (name.as_str(), table))
    }

    /// What was to be resumed was not, or nobody knows: should a table go on all the same, others have passed its lost part.
    pub(super) fn not_passed(&mut self) {
        self.tables.values_mut().for_each(|entry| entry.passed = false);
    }

    /// What others have passed, by the looks so far; each is told once.
    pub(super) fn next_passed(&mut self) -> Option<Passed> {
        self.passed.pop()
    }

    /// Nothing could be done about it yet.
    pub(super) fn put_back(&mut self, passed: Passed) {
        self.passed.push(passed);
    }

    /// Takes in a look at this sink's tables; returns what to resume. `disk_full`: the server refuses writes for that.
    pub(super) fn looked<'a>(
        &mut self,
        tables: impl Iterator<Item = &'a TableTxns>,
        disk_full: bool,
        now: (Timestamp, Instant),
    ) -> Vec<Resume> {
        let mut before = std::mem::take(&mut self.tables);
        let mut resume = Vec::new();
        for table in tables {
            let Some(why) = &table.suspended else {
                // A table that was resumed looks well for a moment before it stops at the same place again.
                let moved = |writer| table.writer > writer || table.writer >= table.sequencer;
                let Some(entry) = before.remove(&table.name) else { continue };
                if !entry.writer.is_none_or(moved) {
                    self.tables.insert(table.name.clone(), entry);
                } else if cause(&entry) == Cause::LostLog && !entry.passed {
                    self.passed.push(Passed { table: table.name.clone(), after: entry.stopped_at });
                }
                continue;
            };
            let mut entry = before.remove(&table.name).unwrap_or_else(|| Suspended {
                since: now.0,
                why: String::new(),
                tries: 0,
                tried_at: now.1,
                writer: None,
                stopped_at: table.writer,
                passed: false,
                met_full_disk: false,
            });
            why.trim().clone_into(&mut entry.why);
            if table.writer > entry.stopped_at {
                // It went on for a while, and what it stopped at before was passed by somebody.
                if cause(&entry) == Cause::LostLog && !entry.passed {
                    self.passed.push(Passed { table: table.name.clone(), after: entry.stopped_at });
                }
                entry.stopped_at = table.writer;
            }
            // It stands: a pass that was asked for has not helped, or was for the part before.
            entry.passed = false;
            if disk_full {
                entry.met_full_disk = true;
                entry.tries = 0;
                entry.tried_at = now.1;
            } else if now.1.saturating_duration_since(entry.tried_at) >= PAUSE
                && let Some(action) = next(&entry, table)
            {
                entry.tries += 1;
                entry.tried_at = now.1;
                entry.writer = Some(table.writer);
                entry.passed = action.lost_after.is_some();
                resume.push(action);
            }
            self.tables.insert(table.name.clone(), entry);
        }
        resume
    }
}

fn next(entry: &Suspended, table: &TableTxns) -> Option<Resume> {
    let plain = Resume { table: table.name.clone(), lost_after: None };
    match cause(entry) {
        Cause::DiskFull => (entry.tries == 0).then_some(plain),
        Cause::LostLog if entry.writer.is_none() => Some(plain),
        Cause::LostLog if entry.tries <= SKIPS_MAX => Some(Resume { lost_after: Some(table.writer), ..plain }),
        Cause::LostLog | Cause::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(why: Option<&str>, writer: i64) -> TableTxns {
        TableTxns {
            name: "a".into(),
            sequencer: 99,
            writer,
            suspended: why.map(str::to_owned),
            facts: None,
            kept_txn: None,
        }
    }

    fn at(seconds: u64, start: Instant) -> (Timestamp, Instant) {
        (Timestamp::EPOCH.checked_add(Duration::from_secs(seconds)).unwrap(), start + Duration::from_secs(seconds))
    }

    #[test]
    fn after_a_full_disk_it_is_resumed_once_when_there_is_space_again_and_then_only_reported() {
        let (mut all, start, full) =
            (Suspensions::default(), Instant::now(), table(Some("DISK FULL commit failed"), 4));
        for second in 0..20 {
            assert_eq!(all.looked([&full].into_iter(), true, at(second, start)), [], "the disk is full");
        }
        assert_eq!(all.looked([&full].into_iter(), false, at(20, start)), [], "not at once");
        let resume = all.looked([&full].into_iter(), false, at(22, start));
        assert_eq!(resume, [Resume { table: "a".into(), lost_after: None }]);
        for second in 23..60 {
            assert_eq!(all.looked([&full].into_iter(), false, at(second, start)), []);
        }
        let (_, reported) = all.tables().next().unwrap();
        assert_eq!((reported.since, reported.tries), (at(0, start).0, 1));
        // Full once more, and space once more.
        assert_eq!(all.looked([&full].into_iter(), true, at(60, start)), []);
        assert_eq!(all.looked([&full].into_iter(), false, at(62, start)).len(), 1);
        assert_eq!(all.looked([&table(None, 99)].into_iter(), false, at(63, start)), []);
        assert_eq!(all.tables().count(), 0);
    }

    #[test]
    fn a_reason_that_does_not_name_the_full_disk_which_it_had_is_resumed_too_and_a_hand_is_not() {
        let (mut all, start) = (Suspensions::default(), Instant::now());
        let (unnamed, by_hand) = (table(Some("bulk update failed and will be rolled back"), 4), table(Some(" "), 4));
        for (table, resumed) in [(&unnamed, 1), (&by_hand, 0)] {
            assert_eq!(all.looked([table].into_iter(), false, at(0, start)), []);
            assert_eq!(all.looked([table].into_iter(), false, at(3, start)), [], "nobody has seen a full disk");
            assert_eq!(all.looked([table].into_iter(), true, at(4, start)), []);
            assert_eq!(all.looked([table].into_iter(), false, at(7, start)).len(), resumed);
            all = Suspensions::default();
        }
    }

    #[test]
    fn a_log_that_cannot_be_read_is_tried_once_more_and_then_passed() {
        let (mut all, start) = (Suspensions::default(), Instant::now());
        let lost = table(Some(" cannot read WAL event file for seqTxn=5"), 4);
        assert_eq!(all.looked([&lost].into_iter(), false, at(0, start)), []);
        let first = all.looked([&lost].into_iter(), false, at(2, start));
        assert_eq!(first[0].lost_after, None);
        let well_for_a_moment = table(None, 4);
        assert_eq!(all.looked([&well_for_a_moment].into_iter(), false, at(3, start)), []);
        assert_eq!(all.tables().count(), 1, "it has not moved");
        assert_eq!(all.looked([&lost].into_iter(), false, at(4, start))[0].lost_after, Some(4));
        let further = table(Some("cannot read WAL event file for seqTxn=9"), 8);
        assert_eq!(all.looked([&further].into_iter(), false, at(6, start))[0].lost_after, Some(8));
        assert_eq!(all.looked([&table(None, 99)].into_iter(), false, at(7, start)), []);
        assert_eq!(all.next_passed(), None, "this sink has passed both");
    }

    #[test]
    fn what_another_bot_or_an_operator_has_passed_is_told_once() {
        let (mut all, start) = (Suspensions::default(), Instant::now());
        let told =
            |all: &mut Suspensions| std::iter::from_fn(|| all.next_passed()).map(|one| one.after).collect::<Vec<_>>();
        let (lost, on) = (table(Some("cannot read WAL event file for seqTxn=5"), 4), table(None, 99));
        // Before this sink has tried anything, and after it has told the table to go on where it stood.
        for seconds in [1, 3] {
            let mut all = Suspensions::default();
            all.looked([&lost].into_iter(), false, at(0, start));
            all.looked([&lost].into_iter(), false, at(seconds, start));
            assert_eq!(told(&mut all), [0; 0], "it stands");
            all.looked([&on].into_iter(), false, at(4, start));
            assert_eq!(told(&mut all), [4], "after {seconds} s");
            all.looked([&on].into_iter(), false, at(5, start));
            assert_eq!(told(&mut all), [0; 0]);
        }
        // This sink's own pass did not come about, or left the table where it was, and somebody else's did.
        for stands in [false, true] {
            let mut all = Suspensions::default();
            for second in [0, 2, 4] {
                all.looked([&lost].into_iter(), false, at(second, start));
            }
            if stands {
                all.looked([&lost].into_iter(), false, at(5, start));
            } else {
                all.not_passed();
            }
            all.looked([&on].into_iter(), false, at(6, start));
            assert_eq!(told(&mut all), [4], "it stood: {stands}");
        }
        // Passed by somebody, and stopped once more further on before anybody looked.
        all.looked([&lost].into_iter(), false, at(0, start));
        all.looked([&table(Some("cannot read WAL event file for seqTxn=9"), 8)].into_iter(), false, at(1, start));
        assert_eq!(told(&mut all), [4]);
        all.looked([&on].into_iter(), false, at(2, start));
        assert_eq!(told(&mut all), [8]);
        // A full disk loses nothing of the log.
        all.looked([&table(Some("DISK FULL commit failed"), 4)].into_iter(), false, at(0, start));
        all.looked([&on].into_iter(), false, at(1, start));
        assert_eq!(told(&mut all), [0; 0]);
    }

    #[test]
    fn what_somebody_else_suspended_is_left_alone() {
        let (mut all, start, held) = (Suspensions::default(), Instant::now(), table(Some(" "), 4));
        for second in 0..100 {
            assert_eq!(all.looked([&held].into_iter(), false, at(second, start)), []);
        }
        assert_eq!(all.tables().count(), 1);
    }
}
