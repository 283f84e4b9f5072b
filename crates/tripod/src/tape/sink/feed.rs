//! One sink's reader of one journal: collects rows into batches, keeps the cursor and the counts.
//!
//! Constraints: the cursor never passes a row that is not either answered OK or durable in quarantine, and it is stored
//! together with the counts. No busy loop: it wakes at least each [`IDLE`] or [`COLLECTING`], costs well under 1 % of a core when nothing
//! happens, and never waits for the network itself.
//!
//! Picture: three threads per sink and class, each blocked on one bounded channel.
//! ```text
//!  journal ─read─▶ feed ── Job (1) ──▶ courier ──ILP/HTTP──▶ QuestDB
//!     ▲             │ ◀── Settled ──────┘                       │
//!     │ commit      │ ── Ask (1) ─▶ watcher ──wal_tables()──────┘
//!     └─────────────┘ ◀── Looked ────┘
//! ```
//! Operation: while one batch is in flight the next is collected; it is sent [`Limits`]' interval after its first row was
//! recorded, or when it is full. A settled batch becomes one commit. Then the watcher is asked until its rows are
//! visible. Where a look finds a server that forgot something, cursor and counts are put back: see [`forget`].

pub(super) mod detach;
pub(super) mod forget;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tripod_journal::{Cursor, SchemaId};

use super::barrier::Barrier;
use super::batch::{Batch, Limits};
use super::catalog::Catalog;
use super::courier::Job;
use super::notice::Crier;
use super::status::{Board, SinkState};
use super::stop::Stop;
use super::tally::Tally;
use super::watcher::{Ask, Looked};
use crate::error::Result;
use crate::tape::permit::TradingPermit;
use crate::tape::quarantine::Quarantine;
use crate::value::Timestamp;
use detach::Tether;
use forget::Memory;

/// Between looks at the journal while a batch is collected: how late a full one may be noticed.
const COLLECTING: Duration = Duration::from_millis(10);
/// Between looks while nothing is recorded, at most. It costs no promptness, because a row found by a look counts as
/// recorded at the look before; only power.
const IDLE: Duration = Duration::from_millis(25);
/// Between looks whether rows have become visible, when they come and when they do not.
const LOOK_SOON: Duration = Duration::from_millis(20);
const LOOK_LATE: Duration = Duration::from_millis(500);
/// Between tries to store a cursor or a refused row on a disk that fails.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// After the last row is delivered, how long closing still waits to see it.
const CLOSING_LOOK: Duration = Duration::from_millis(500);

/// What the other two threads report.
#[derive(Debug)]
pub(super) enum Event {
    /// Every row of the batch is answered OK, or listed as unfit.
    Settled(Box<Batch>),
    /// A look at the server's transactions.
    Looked(Result<Looked>),
}

/// What a feed is made of.
pub(super) struct Parts {
    pub(super) dir: PathBuf,
    pub(super) prefix: String,
    pub(super) retention: crate::config::Retention,
    pub(super) journal: tripod_journal::Sink,
    pub(super) quarantine: Quarantine,
    pub(super) crier: Crier,
    pub(super) limits: Limits,
    /// Segments stay this long: so far back goes the history.
    pub(super) keep: Duration,
    /// `tape.rewind_s`.
    pub(super) rewind: Duration,
    /// Whether segments are held back for it.
    pub(super) required: bool,
    /// The sink's name.
    pub(super) name: String,
    pub(super) jobs: SyncSender<Job>,
    pub(super) looks: SyncSender<Ask>,
    pub(super) events: Receiver<Event>,
    pub(super) stop: Arc<Stop>,
    pub(super) board: Arc<Board>,
    pub(super) barrier: Arc<Barrier>,
    /// The kill switch of the journal that this feed empties; only the critical class has one.
    pub(super) permit: Option<Arc<TradingPermit>>,
}

/// See the module.
pub(super) struct Feed {
    parts: Parts,
    catalog: Catalog,
    tally: Tally,
    memory: Memory,
    /// The place in the journal that the tally belongs to: the two are stored together, or not at all.
    reached: Cursor,
    /// Being collected.
    current: Box<Batch>,
    /// Emptied, for the next round.
    spare: Option<Box<Batch>>,
    /// Settled, but not stored yet because a disk fails.
    unstored: Option<Box<Batch>>,
    store_at: Instant,
    in_flight: bool,
    /// Reading or storing failed the last time.
    hampered: bool,
    /// The courier ended: nothing can be delivered any more.
    broken: bool,
    /// When closing found nothing left to deliver.
    emptied: Option<Instant>,
    /// The newest batch handed over, and the newest one settled and counted.
    sent: u64,
    settled: u64,
    /// Batches up to here were read before the sink went back: what comes of them is not counted.
    obsolete: u64,
    /// The next batch goes by a new connection.
    reconnect: bool,
    /// The journal had nothing unread at this moment.
    caught_up: Option<Instant>,
    /// The barrier that all rows up to a batch answer to, until they do.
    barrier: Option<(Asked, u64)>,
    /// The newest one that was answered.
    answered: Asked,
    look: Look,
    /// Only of a server that is not required.
    tether: Option<Tether>,
}

/// What is waited for, in this process and in others; each side counts by itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Asked {
    inside: u64,
    outside: u64,
}

/// When to look again.
struct Look {
    running: bool,
    /// The newest settled batch when the running look began.
    covers: u64,
    at: Instant,
    pause: Duration,
}

impl Feed {
    /// # Errors
    /// Where the stored counts or the journal's catalog cannot be read.
    pub(super) fn new(parts: Parts) -> Result<Self> {
        let now = Instant::now();
        let tally = Tally::read(parts.journal.state())?;
        let tether = (!parts.required).then(Tether::new);
        let mut feed = Self {
            tether,
            memory: Memory::open(&parts.dir, &parts.name, parts.keep, parts.rewind, &tally)?,
            catalog: Catalog::open(&parts.dir, &parts.prefix, &parts.retention)?,
            tally,
            reached: parts.journal.committed().clone(),
            current: Box::new(Batch::new(&parts.limits)),
            spare: Some(Box::new(Batch::new(&parts.limits))),
            unstored: None,
            store_at: now,
            in_flight: false,
            hampered: false,
            broken: false,
            emptied: None,
            sent: 0,
            settled: 0,
            obsolete: 0,
            reconnect: false,
            caught_up: None,
            barrier: None,
            answered: Asked::default(),
            look: Look { running: false, covers: 0, at: now, pause: LOOK_SOON },
            parts,
        };
        if feed.tether.is_some() {
            feed.count_gone()?;
        }
        Ok(feed)
    }

    /// Body of the thread; `courier` is the thread that takes its jobs.
    pub(super) fn run(mut self, courier: &JoinHandle<()>) {
        loop {
            // Read first, so that what the courier reports before it ends is not taken for its death.
            let courier_ended = courier.is_finished();
            self.mind_the_gap();
            self.collect();
            if self.hand_over() {
                // The next batch is collected while this one is in flight, not after the first pause.
                self.collect();
            }
            self.look_again();
            self.report();
            if self.is_finished() {
                break;
            }
            match self.parts.events.recv_timeout(self.pause()) {
                Ok(Event::Settled(batch)) => {
                    self.in_flight = false;
                    if batch.number > self.obsolete {
                        self.store(batch);
                    } else {
                        self.reuse(batch);
                    }
                }
                Ok(Event::Looked(looked)) => self.looked(looked),
                // The courier ends before its feed only when the stop's deadline has passed, or by a panic.
                Err(RecvTimeoutError::Timeout) => self.broken |= courier_ended,
                Err(RecvTimeoutError::Disconnected) => self.broken = true,
            }
            if let Some(batch) = self.unstored.take_if(|_| Instant::now() >= self.store_at) {
                self.store(batch);
            }
        }
        let early = self.broken && !self.parts.stop.is_over();
        self.parts.board.enter(SinkState::Closed, if early { "a thread of it panicked; restart the bot" } else { "" });
        self.parts.crier.say(&self.parts.board);
    }

    /// Reads what was published since the last look, as far as it fits.
    fn collect(&mut self) {
        // In this order: whoever asks to deliver again and then for the barrier gets both.
        let asked = Asked { inside: self.parts.barrier.asked(), outside: self.parts.crier.asked() };
        if let Some(since) = self.parts.barrier.take_again_since() {
            self.redeliver(since);
        }
        let detached = self.is_detached();
        let Self { parts, catalog, current, .. } = self;
        if detached || current.is_full(&parts.limits) {
            return;
        }
        let (look_at, wall) = (Instant::now(), Timestamp::now());
        let was_empty = current.is_empty();
        let mut to_the_end = true;
        let read = parts.journal.read(|record| {
            if current.is_full(&parts.limits) {
                to_the_end = false;
                return ControlFlow::Break(());
            }
            current.push(&record, catalog.find(record.schema), wall);
            ControlFlow::Continue(())
        });
        if let Err(e) = read {
            parts.board.enter(SinkState::Journal, &e.to_string());
            self.hampered = true;
            return;
        }
        parts.board.journal(parts.journal.damage(), parts.journal.missed_segments());
        if was_empty && !current.is_empty() {
            current.recorded_after = self.caught_up;
        }
        if to_the_end {
            self.caught_up = Some(look_at);
            // One at a time: whoever asks again and again must not put off those who asked before.
            if self.parts.journal.damage().is_empty() && self.barrier.is_none() && asked != self.answered {
                let last = if self.current.is_empty() { self.sent } else { self.sent + 1 };
                self.barrier = Some((asked, last));
            }
        }
    }

    /// Gives the batch to the courier when it is due and the courier is free; tells whether it did.
    fn hand_over(&mut self) -> bool {
        let now = Instant::now();
        let closing = self.parts.stop.asked().is_some() && !self.current.is_empty();
        let held = self.in_flight || self.unstored.is_some() || self.memory.in_doubt();
        if held || !(closing || self.current.is_due(&self.parts.limits, now)) {
            return false;
        }
        let Some(next) = self.spare.take() else { return false };
        let mut batch = std::mem::replace(&mut self.current, next);
        self.sent += 1;
        batch.number = self.sent;
        batch.cursor = Some(self.parts.journal.mark());
        let reconnect = std::mem::take(&mut self.reconnect);
        let job = Job { batch, catalog: self.catalog.clone(), reconnect };
        // The channel has room for one, and the one before has come back: it fails only when the courier has ended.
        self.in_flight = self.parts.jobs.try_send(job).is_ok();
        self.broken = !self.in_flight;
        self.in_flight
    }

    /// Makes refused rows durable, counts, commits; in this order.
    fn store(&mut self, mut batch: Box<Batch>) {
        if let Err(e) = self.quarantine(&batch) {
            self.parts.board.enter(SinkState::Quarantine, &e.to_string());
            self.hampered = true;
            self.store_at = Instant::now() + STORE_AGAIN;
            self.unstored = Some(batch);
            return;
        }
        let mut unfit = batch.unfit.iter().map(|(row, _)| *row).peekable();
        let mut delivered: BTreeMap<u16, u64> = BTreeMap::new();
        for row in 0..batch.len() {
            let Some(schema) = batch.entry(row).map(|entry| entry.schema) else { continue };
            if unfit.next_if_eq(&row).is_some() {
                self.tally.quarantined(schema, 1);
            } else {
                *delivered.entry(schema.0).or_default() += 1;
            }
        }
        for (schema, rows) in delivered {
            self.tally.delivered(SchemaId(schema), rows, batch.number, batch.recorded_after);
        }
        self.settled = batch.number;
        self.look.pause = LOOK_SOON;
        self.look.at = self.look.at.min(Instant::now() + LOOK_SOON);
        if let Some(cursor) = batch.cursor.take() {
            self.reached = cursor;
        }
        self.commit();
        self.reuse(batch);
    }

    fn reuse(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        self.spare = Some(batch);
    }

    fn quarantine(&mut self, batch: &Batch) -> Result<()> {
        if batch.unfit.is_empty() {
            return Ok(());
        }
        let rows = batch.unfit.iter().filter_map(|(row, why)| {
            let entry = batch.entry(*row)?;
            Some((entry.position, self.catalog.table(entry.schema).map(|t| &t.spec), batch.payload(entry), why))
        });
        self.parts.quarantine.put(rows)
    }

    /// What cannot be stored is not lost: cursor and counts stay in memory and are stored with the next ones. Until then
    /// a crash sends the same rows again, and counts them once.
    fn commit(&mut self) {
        let stored = self.tally.write().and_then(|state| Ok(self.parts.journal.commit(&self.reached, &state)?));
        match stored {
            Err(e) => {
                self.parts.board.enter(SinkState::Journal, &e.to_string());
                self.hampered = true;
            }
            Ok(()) if self.hampered => {
                self.parts.board.enter(SinkState::Delivering, "");
                self.hampered = false;
            }
            Ok(()) => {}
        }
    }

    /// Asks the watcher: soon while something is delivered and not visible, and now and then whether all is still there.
    fn look_again(&mut self) {
        if self.look.running || Instant::now() < self.look_due() {
            return;
        }
        self.look.covers = self.settled;
        let ask = self.memory.ask(&self.reached, &self.tally);
        self.look.running = self.parts.looks.try_send(ask).is_ok();
        if !self.look.running {
            self.memory.look_ended();
            self.memory.look_failed();
        }
        self.look.at = Instant::now() + LOOK_LATE;
    }

    fn look_due(&self) -> Instant {
        let waiting = self.tally.waiting().next().is_some();
        let at = self.memory.due_at();
        if waiting { at.min(self.look.at) } else { at }
    }

    fn looked(&mut self, looked: Result<Looked>) {
        self.look.running = false;
        self.memory.look_ended();
        let mut moved = false;
        match looked {
            Err(e) => {
                tracing::debug!(error = %e, "no look at the server's transactions");
                self.memory.look_failed();
            }
            Ok(looked) => {
                if self.examine(&looked) {
                    moved = self.see(&looked);
                }
            }
        }
        self.look.pause = if moved { LOOK_SOON } else { (self.look.pause * 2).min(LOOK_LATE) };
        self.look.at = Instant::now() + self.look.pause;
        if moved {
            self.commit();
        }
    }

    /// Counts what has become visible; tells whether anything has.
    fn see(&mut self, looked: &Looked) -> bool {
        let mut moved = false;
        let waiting: Vec<SchemaId> = self.tally.waiting().collect();
        for schema in waiting {
            let Some(table) = self.catalog.table(schema) else { continue };
            let Some(txns) = looked.tables.iter().find(|txns| txns.name == table.name) else { continue };
            for seen in self.tally.observed(schema, self.look.covers, txns.sequencer, txns.writer) {
                moved = true;
                if let Some(recorded_after) = seen.recorded_after {
                    self.parts.board.seen(seen.rows, recorded_after);
                }
            }
        }
        moved
    }

    /// Tells those who wait what has been reached.
    fn report(&mut self) {
        if let Some((asked, last)) = self.barrier
            && self.memory.is_sure()
            && self.settled >= last
            && self.tally.oldest_waiting_batch().is_none_or(|oldest| oldest > last)
        {
            self.parts.barrier.reach(asked.inside);
            self.parts.crier.reach(asked.outside, &self.parts.board);
            (self.answered, self.barrier) = (asked, None);
        }
        self.parts.crier.say(&self.parts.board);
        if let Some(permit) = &self.parts.permit {
            permit.review();
        }
    }

    /// How long nothing needs to be done, unless an event comes.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let idle = self.current.is_empty() && !self.in_flight;
        let mut pause = if idle { IDLE.min(self.parts.limits.idle()) } else { COLLECTING };
        if !self.in_flight && self.unstored.is_none() && !self.current.is_empty() {
            pause = pause.min(self.current.due_in(&self.parts.limits, now));
        }
        if !self.look.running {
            pause = pause.min(self.look_due().saturating_duration_since(now));
        }
        pause
    }

    /// Asked to stop, and either everything is delivered (and seen, where that takes a moment only) or time is up.
    fn is_finished(&mut self) -> bool {
        if self.broken {
            return true;
        }
        let Some(asked) = self.parts.stop.asked() else { return false };
        let now = Instant::now();
        if self.is_detached() {
            return true;
        }
        let all_read = self.current.is_empty() && self.caught_up.is_some_and(|at| at >= asked.at);
        let all_delivered = all_read && !self.in_flight && self.unstored.is_none();
        let all_seen = self.tally.waiting().next().is_none();
        if all_delivered {
            let emptied = *self.emptied.get_or_insert(now);
            return all_seen || now >= emptied + CLOSING_LOOK || now >= asked.deadline;
        }
        now >= asked.deadline
    }
}
