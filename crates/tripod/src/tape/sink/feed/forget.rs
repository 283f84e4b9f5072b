//! What a feed does about a server that forgot: keeps the history, judges each look, goes back.
//!
//! Constraints: nothing is sent between the look that raised a doubt and the verdict, nor while a lost part of a table's log
//! is being passed: what is delivered again may go into that part, too, and would be passed with it. What somebody else has
//! passed is gone back behind as well. Going back puts cursor and counts back together, in one commit, so the ledger adds up
//! before and after; it first cuts the history on the disk, so that a crash in between leads to going back once more and
//! never to a history that promises too much.
//!
//! Operation: look → [`rewind::judge`] → whole: the next entry of the history; forgot: [`Feed::go_back`], and an entry
//! that names the new run.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use tripod_journal::Cursor;

use super::super::history::{EVERY, Entry, GONE, History, Mark, Moment};
use super::super::rewind::{self, Found, Known, Seen, Verdict};
use super::super::status::{Rewound, SinkState};
use super::super::suspension::{Passed, Suspensions};
use super::super::tally::{Settled, Tally};
use super::super::watcher::{Ask, KnownRun, Looked, Resume};
use super::Feed;
use crate::error::Result;
use crate::tape::encode;
use crate::value::Timestamp;

/// How long a server that is still applying what it has is waited for, before it is judged by what it has applied.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between looks while there is a doubt.
const DOUBT_LOOK: Duration = Duration::from_millis(100);

/// A feed's memory of its server.
#[derive(Debug)]
pub(in super::super) struct Memory {
    history: History,
    rewind: Duration,
    /// The last look at the run that the history's newest entry names.
    last_look: Moment,
    /// When the next full look is due.
    full_at: Instant,
    /// Since when it is not known whether the server forgot something. Nothing is sent meanwhile.
    doubt: Option<Instant>,
    /// Whether a look since the start has shown which run of the server this is, and that it has what it had.
    knows_run: bool,
    suspensions: Suspensions,
    resume: Vec<Resume>,
    passing: Passing,
    /// What belongs to the running look: when it was asked for, the cursor, the counts.
    asked: Option<(Moment, Cursor, BTreeMap<u16, Settled>)>,
}

impl Memory {
    /// # Errors
    /// As [`History::open`].
    pub(in super::super) fn open(
        dir: &Path,
        sink: &str,
        keep: Duration,
        rewind: Duration,
        tally: &Tally,
    ) -> Result<Self> {
        let history = History::open(dir, sink, keep, &tally.settled())?;
        Ok(Self {
            last_look: history.newest().map_or_else(Moment::now, Entry::moment),
            history,
            rewind,
            full_at: Instant::now(),
            doubt: None,
            knows_run: false,
            suspensions: Suspensions::default(),
            resume: Vec::new(),
            passing: Passing::No,
            asked: None,
        })
    }

    /// When the next look is due though no row waits to be seen.
    pub(super) fn due_at(&self) -> Instant {
        self.full_at
    }

    pub(super) fn in_doubt(&self) -> bool {
        self.doubt.is_some() || self.passing != Passing::No
    }

    /// The look that was asked for has ended, or there is none: what it was to pass is passed, or will be tried again from
    /// the beginning.
    pub(super) fn look_ended(&mut self) {
        if self.passing == Passing::Asked {
            self.passing = Passing::No;
        }
    }

    /// The look has failed, and with it perhaps what it was to resume.
    pub(super) fn look_failed(&mut self) {
        self.suspensions.not_passed();
    }

    /// Whether what was counted as visible may be believed: a server that was put back while no sink ran has forgotten it.
    pub(super) fn is_sure(&self) -> bool {
        self.knows_run && !self.in_doubt()
    }

    /// What to ask now.
    pub(super) fn ask(&mut self, reached: &Cursor, tally: &Tally) -> Ask {
        let now = Instant::now();
        let full = now >= self.full_at || self.doubt.is_some();
        if full {
            self.full_at = now + if self.doubt.is_some() { DOUBT_LOOK } else { EVERY };
        }
        self.asked = Some((Moment::now(), reached.clone(), tally.settled()));
        let known = self.history.newest().map(|newest| KnownRun {
            started: newest.started.clone(),
            server_at: newest.server_at.clone(),
            tables: newest.tables.iter().map(|(name, mark)| (name.clone(), mark.txn)).collect(),
        });
        if self.passing == Passing::Due {
            self.passing = Passing::Asked;
        }
        Ask { full, known, resume: std::mem::take(&mut self.resume) }
    }
}

/// Whether a lost part of a table's log is being passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    No,
    /// The next look does it.
    Due,
    /// The running look does it.
    Asked,
}

/// From where the journal can be read again.
struct FoundAgain {
    from: Cursor,
    /// Only where some of it was deleted.
    fewer: Option<Again>,
}

/// What is left of a journal of which some was deleted.
struct Again {
    /// Rows that were passed before and are there, by schema id.
    rows: BTreeMap<u16, u64>,
    /// The oldest row that is there.
    oldest: Option<Timestamp>,
}

impl Feed {
    /// Takes in a look; true where it may be used to tell what is visible.
    pub(super) fn examine(&mut self, looked: &Looked) -> bool {
        let Some((at, cursor, tally)) = self.memory.asked.take() else { return false };
        if looked.started.is_empty() {
            self.memory.knows_run = true;
            return true;
        }
        let another_run = self.memory.history.newest().is_some_and(|newest| newest.started != looked.started);
        if !looked.full && !another_run {
            self.memory.last_look = at;
            return self.tables_go_on(looked);
        }
        let seen = self.own_tables(looked);
        let awaited = self.awaited();
        let known = Known {
            history: self.memory.history.entries(),
            last_look: self.memory.last_look,
            awaited: &awaited,
            rewind: self.memory.rewind,
        };
        let patient = self.memory.doubt.is_none_or(|since| since.elapsed() < PATIENCE);
        match rewind::judge(known, &seen, patient) {
            Verdict::Whole => {
                self.memory.knows_run = true;
                self.memory.doubt = None;
                self.memory.last_look = at;
                let tables = rewind::marks(self.memory.history.newest(), &seen);
                let Seen { started, server_at, .. } = seen;
                let (at_ns, steady) = (at.at.as_nanos(), at.steady);
                self.memory.history.add(Entry { at_ns, steady, started, server_at, cursor, tables, tally });
                self.tables_go_on(looked)
            }
            Verdict::Later => {
                self.memory.doubt.get_or_insert_with(Instant::now);
                false
            }
            Verdict::Forgot(back) => {
                self.memory.doubt.get_or_insert_with(Instant::now);
                match self.go_back(back.entries, back.why) {
                    Ok(()) => {
                        self.new_run(&seen, at);
                        self.memory.knows_run = true;
                        self.memory.doubt = None;
                    }
                    Err(e) => self.cannot_store(&e),
                }
                false
            }
        }
    }

    /// The tables of this journal, as the look found them.
    fn own_tables(&self, looked: &Looked) -> Seen {
        let own = looked.tables.iter().filter(|table| self.catalog.names().any(|name| name == table.name));
        let found = own.filter_map(|table| {
            let found = Found {
                mark: table.facts.clone()?,
                writer: table.writer,
                suspended: table.suspended.is_some(),
                kept_txn: table.kept_txn,
            };
            Some((table.name.clone(), found))
        });
        Seen { started: looked.started.clone(), server_at: looked.server_at.clone(), tables: found.collect() }
    }

    fn awaited(&self) -> BTreeMap<String, i64> {
        let mut awaited = BTreeMap::new();
        for schema in self.tally.waiting() {
            if let (Some(table), Some(txn)) = (self.catalog.table(schema), self.tally.newest_txn(schema)) {
                let newest = awaited.entry(table.name.clone()).or_insert(txn);
                *newest = txn.max(*newest);
            }
        }
        awaited
    }

    /// Names suspended tables and resumes those that may be; false where the sink went back for one of them.
    fn tables_go_on(&mut self, looked: &Looked) -> bool {
        let own = looked.tables.iter().filter(|table| self.catalog.names().any(|name| name == table.name));
        let disk_full = self.parts.board.state() == SinkState::DiskFull;
        let resume = self.memory.suspensions.looked(own, disk_full, (Timestamp::now(), Instant::now()));
        self.parts.board.suspended(self.memory.suspensions.tables());
        let mut went_back = false;
        while let Some(Passed { table, after }) = self.memory.suspensions.next_passed() {
            let entries = rewind::before(self.memory.history.entries(), &table, after);
            let why = format!("somebody else passed a part of the log of table {table} behind transaction {after}");
            if let Err(e) = self.go_back(entries, why) {
                self.memory.suspensions.put_back(Passed { table, after });
                self.memory.suspensions.not_passed();
                self.cannot_store(&e);
                return false;
            }
            went_back = true;
        }
        for action in resume {
            if let Some(writer) = action.lost_after {
                let entries = rewind::before(self.memory.history.entries(), &action.table, writer);
                let why = format!("the log of table {} behind transaction {writer} cannot be read", action.table);
                if let Err(e) = self.go_back(entries, why) {
                    self.memory.suspensions.not_passed();
                    self.cannot_store(&e);
                    continue;
                }
                went_back = true;
                self.memory.passing = Passing::Due;
            }
            self.memory.resume.push(action);
        }
        if !self.memory.resume.is_empty() {
            self.memory.full_at = Instant::now();
        }
        !went_back
    }

    /// Reads the journal again from the last of the history's first `entries` on, with the counts of then.
    pub(super) fn go_back(&mut self, entries: usize, why: String) -> Result<()> {
        let target = entries.checked_sub(1).and_then(|at| self.memory.history.entries().get(at)).cloned();
        let (cursor, mut settled) = target.as_ref().map(|t| (t.cursor.clone(), t.tally.clone())).unwrap_or_default();
        let read_position = self.parts.journal.mark();
        let found = self.find_again(&cursor).and_then(|found| self.memory.history.cut(entries).map(|()| found));
        // Where that failed nothing has changed, and the next look leads here again.
        let again = found.inspect_err(|_| self.parts.journal.seek(&read_position))?;
        let mut rewound = Rewound {
            at: Timestamp::now(),
            to: target.as_ref().map(|entry| entry.at().to_string()),
            why,
            gone_rows: 0,
            gone_before: None,
        };
        if let Some(Again { rows, oldest }) = again.fewer {
            rewound.gone_before = oldest.map(|at| at.to_string());
            for (id, now) in self.tally.settled() {
                let then = settled.entry(id).or_default();
                let gone_rows = now.passed.saturating_sub(then.passed + rows.get(&id).copied().unwrap_or(0));
                // They were answered OK, and nobody can ask again: they stay what they were called.
                let missed = gone_rows.min(now.missed.saturating_sub(then.missed));
                then.passed += gone_rows;
                then.missed += missed;
                then.visible += gone_rows - missed;
                rewound.gone_rows += gone_rows;
            }
        }
        self.tally = Tally::put_back(&settled, |schema| {
            let table = self.catalog.table(schema)?;
            target.as_ref()?.tables.get(&table.name).map(|mark| mark.txn)
        });
        self.parts.journal.seek(&again.from);
        self.reached = again.from;
        self.start_over();
        self.parts.board.rewound(&rewound);
        self.commit();
        Ok(())
    }

    /// What the journal still has behind `cursor`. Moves the read position.
    fn find_again(&mut self, cursor: &Cursor) -> Result<FoundAgain> {
        let gone = self.parts.journal.rewind(cursor)?;
        let from = self.parts.journal.mark();
        if gone == 0 {
            return Ok(FoundAgain { from, fewer: None });
        }
        let (mut rows, mut oldest): (BTreeMap<u16, u64>, Option<Timestamp>) = (BTreeMap::new(), None);
        let reached = &self.reached;
        self.parts.journal.read(|record| {
            if reached.covers(record.position) {
                *rows.entry(record.schema.0).or_default() += 1;
            }
            let at = encode::timestamp_of(record.payload);
            oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
            ControlFlow::Continue(())
        })?;
        Ok(FoundAgain { from, fewer: Some(Again { rows, oldest }) })
    }

    /// Nothing that was read before counts any more: neither what is collected, nor what is in flight.
    pub(super) fn start_over(&mut self) {
        self.current.clear();
        if let Some(mut batch) = self.unstored.take() {
            batch.clear();
            self.spare = Some(batch);
        }
        self.obsolete = self.sent;
        self.reconnect = true;
        self.settled = self.sent;
        self.barrier = None;
        self.caught_up = None;
        self.emptied = None;
    }

    /// The entry from which the next restart is told: what is before the cursor is in the transactions that held. That is
    /// the cursor of the entry gone back to, and not where reading goes on: what lies between and was deleted is in later
    /// transactions or nowhere, and where this run is lost too it must be said again.
    fn new_run(&mut self, seen: &Seen, at: Moment) {
        let target = self.memory.history.newest();
        let (cursor, tally) = target.map(|entry| (entry.cursor.clone(), entry.tally.clone())).unwrap_or_default();
        let kept = target.map(|entry| entry.tables.clone()).unwrap_or_default();
        let mut tables: BTreeMap<String, Mark> =
            kept.iter().map(|(t, m)| (t.clone(), Mark { id: GONE, ..m.clone() })).collect();
        for (table, found) in &seen.tables {
            let same = kept.get(table).filter(|mark| mark.id == found.mark.id).cloned();
            let anew = Mark { id: found.mark.id, txn: 0, rows: None, oldest: None };
            tables.insert(table.clone(), same.unwrap_or(anew));
        }
        self.memory.last_look = at;
        self.memory.history.add(Entry {
            at_ns: at.at.as_nanos(),
            steady: at.steady,
            started: seen.started.clone(),
            server_at: seen.server_at.clone(),
            cursor,
            tables,
            tally,
        });
    }

    /// Delivers once more what was delivered after `since`.
    pub(super) fn redeliver(&mut self, since: Timestamp) {
        let entries = rewind::since(self.memory.history.entries(), since);
        if let Err(e) = self.go_back(entries, format!("asked to deliver again since {since}")) {
            self.cannot_store(&e);
        }
    }

    pub(super) fn cannot_store(&mut self, e: &crate::Error) {
        self.parts.board.enter(SinkState::Journal, &e.to_string());
        self.hampered = true;
    }
}
