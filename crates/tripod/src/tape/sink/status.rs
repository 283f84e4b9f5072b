//! What a sink is doing, since when and why: for `Tape::sinks`, `status` and metrics.
//!
//! Constraints: written by the sink's threads, read by anybody; the lock is held for a copy only and never on a hot
//! path. A change of state is logged once, not once per try.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::recent::Recent;
use super::suspension::Suspended;
use crate::tape::spec::Importance;
use crate::value::Timestamp;

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SinkState {
    /// Started; no request was answered yet.
    Starting,
    /// The last request was answered OK.
    Delivering,
    /// QuestDB does not answer, or answers that it cannot now. Tries go on for ever.
    Unavailable,
    /// QuestDB misses a table or a column. Goes on by itself after `tripod migrate`.
    Schema,
    /// QuestDB refuses user or password. Goes on by itself once they are right on the server.
    Login,
    /// The certificate that is shown for QuestDB cannot be trusted: another authority, another name, expired. Goes on by
    /// itself once it can.
    Certificate,
    /// QuestDB's disk is full: probed rarely, because each write may kill the server.
    DiskFull,
    /// The quarantine is at its limit or cannot be written: refused rows must not be lost, so nothing moves.
    Quarantine,
    /// The journal cannot be read or its cursor cannot be stored.
    Journal,
    /// Its server is not required and fell behind what the journal keeps: rows are passed and counted as missed, until it
    /// is attached again.
    Detached,
    /// Its threads have ended.
    Closed,
    /// No process runs it: rows wait in the journal.
    NotRunning,
}

impl SinkState {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Starting,
        Self::Delivering,
        Self::Unavailable,
        Self::Schema,
        Self::Login,
        Self::Certificate,
        Self::DiskFull,
        Self::Quarantine,
        Self::Journal,
        Self::Detached,
        Self::Closed,
        Self::NotRunning,
    ];

    /// Its name in `--json` and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Delivering => "delivering",
            Self::Unavailable => "unavailable",
            Self::Schema => "schema",
            Self::Login => "login",
            Self::Certificate => "certificate",
            Self::DiskFull => "disk_full",
            Self::Quarantine => "quarantine",
            Self::Journal => "journal",
            Self::Detached => "detached",
            Self::Closed => "closed",
            Self::NotRunning => "not_running",
        }
    }
}

/// One sink of one class, at one moment.
///
/// `visible_p50` and `visible_p99` are upper bounds. A row carries no time of its recording (its own timestamp may be a
/// replay's), so each is counted from the last moment at which the sink had read everything that was recorded: at most
/// 25 ms too early while it keeps up, and for all rows of an outage from its start. Rows of an earlier process are not
/// counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SinkStatus {
    /// The sink's name in the config.
    pub sink: String,
    /// The class of the journal that it reads.
    pub class: Importance,
    /// Whether journal segments are held back for it.
    #[serde(default)]
    pub required: bool,
    /// The process that runs it, if any does.
    #[serde(default)]
    pub pid: Option<u32>,
    /// When this was said; a process that lives and is not stopped says something each second.
    #[serde(with = "text")]
    pub said_at: Timestamp,
    /// What it is doing.
    pub state: SinkState,
    /// Since when.
    #[serde(with = "text")]
    pub since: Timestamp,
    /// Why, in words that name the next step; empty while all is well.
    pub why: String,
    /// Tables whose rows are answered OK and stay invisible until they are resumed.
    pub suspended: Vec<SuspendedTable>,
    /// How often the server had forgotten something, or may have, and was told again.
    pub rewinds: u64,
    /// The last time.
    pub last_rewind: Option<Rewound>,
    /// Places of the journal that cannot be read, with file and offset. Rows behind them wait; all others go on.
    pub damaged: Vec<String>,
    /// Segments that were deleted before this sink read them; only a sink that is not required can fall so far behind.
    pub missed_segments: u64,
    /// Rows that it passed without delivering them since the start; see [`crate::ledger::LedgerRow::missed`] for all.
    #[serde(default)]
    pub missed_rows: u64,
    /// Requests answered OK since the start.
    pub requests: u64,
    /// Recorded to visible, of this process's rows: half of them were faster. An upper bound, see above.
    pub visible_p50: Option<Duration>,
    /// The same: 99 of 100 were faster.
    pub visible_p99: Option<Duration>,
    /// As `visible_p50`, of rows that became visible within the last half to whole minute; none where none did.
    #[serde(default)]
    pub visible_lately_p50: Option<Duration>,
    /// The same: 99 of 100 were faster.
    #[serde(default)]
    pub visible_lately_p99: Option<Duration>,
}

/// A table that QuestDB has suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SuspendedTable {
    /// Its name on the server.
    pub table: String,
    /// When that was seen first.
    #[serde(with = "text")]
    pub since: Timestamp,
    /// The server's reason; empty where somebody suspended it by hand.
    pub why: String,
    /// Times that the sink resumed it by itself. Where it did and the table is still here, or where it never does: see
    /// why, then `ALTER TABLE … RESUME WAL`.
    pub resumed: u32,
}

/// A sink went back in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rewound {
    /// When.
    #[serde(with = "text")]
    pub at: Timestamp,
    /// Everything that was delivered after this is delivered again; `None` is all that the journal holds.
    pub to: Option<String>,
    /// Why.
    pub why: String,
    /// Rows that would have been delivered again and are no longer in the journal. Where the server lost them too, only
    /// a backup has them.
    pub gone_rows: u64,
    /// The oldest row of this class that the journal still has, where some are gone.
    pub gone_before: Option<String>,
}

/// A time as RFC 3339.
mod text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::value::Timestamp;

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl SinkStatus {
    /// A sink that nobody runs.
    pub(in crate::tape) fn new(sink: &str, class: Importance) -> Self {
        Self {
            sink: sink.to_owned(),
            class,
            required: false,
            pid: None,
            said_at: Timestamp::EPOCH,
            state: SinkState::NotRunning,
            since: Timestamp::now(),
            why: Self::NOBODY.to_owned(),
            suspended: Vec::new(),
            rewinds: 0,
            last_rewind: None,
            damaged: Vec::new(),
            missed_segments: 0,
            missed_rows: 0,
            requests: 0,
            visible_p50: None,
            visible_p99: None,
            visible_lately_p50: None,
            visible_lately_p99: None,
        }
    }

    /// Why a sink that nobody runs does nothing.
    pub const NOBODY: &str = "no process delivers; the bot does (`tape.delivery` \"inside\"), or `tripod deliver`";
}

/// Where the sink's threads write their status.
#[derive(Debug)]
pub(super) struct Board {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    status: SinkStatus,
    /// How often something changed that an operator would look at.
    changes: u64,
    /// Microseconds from recorded to visible, one count per row.
    visible_us: Option<Histogram<u64>>,
    /// The same, of the last minute.
    lately: Recent,
}

impl Board {
    pub(super) fn new(sink: &str, class: Importance, required: bool) -> Self {
        let mut status = SinkStatus::new(sink, class);
        (status.required, status.state, status.why) = (required, SinkState::Starting, String::new());
        status.pid = Some(std::process::id());
        Self {
            inner: Mutex::new(Inner {
                status,
                changes: 0,
                // Two digits, up to an hour: what takes longer counts as an hour. 20 KiB.
                visible_us: Histogram::new_with_max(3_600_000_000, 2).ok(),
                lately: Recent::new(Instant::now()),
            }),
        }
    }

    /// Enters `state`; entering it again with the same reason changes nothing. Closed is the end: what a request that was
    /// still on its way is answered then changes nothing any more.
    pub(super) fn enter(&self, state: SinkState, why: &str) {
        let mut inner = self.lock();
        let status = &mut inner.status;
        if status.state == state {
            if status.why != why {
                why.clone_into(&mut status.why);
                inner.changes += 1;
            }
            return;
        }
        let before = status.state;
        if before == SinkState::Closed {
            return;
        }
        if before == SinkState::Detached
            && !matches!(state, SinkState::Starting | SinkState::Closed | SinkState::Journal)
        {
            return;
        }
        status.state = state;
        status.since = Timestamp::now();
        why.clone_into(&mut status.why);
        let (sink, class) = (status.sink.clone(), status.class.as_str());
        inner.changes += 1;
        drop(inner);
        match state {
            SinkState::Delivering if matches!(before, SinkState::Starting) => {
                tracing::info!(sink, class, "delivering");
            }
            SinkState::Delivering => tracing::warn!(sink, class, ?before, "delivering again"),
            SinkState::Unavailable => tracing::warn!(sink, class, why, "QuestDB is away; rows wait in the journal"),
            SinkState::Schema
            | SinkState::Login
            | SinkState::Certificate
            | SinkState::DiskFull
            | SinkState::Quarantine
            | SinkState::Journal
            | SinkState::Detached => {
                let what = if state == SinkState::Detached { "rows are missed" } else { "rows wait in the journal" };
                tracing::error!(sink, class, ?state, why, "{what}");
            }
            SinkState::Starting | SinkState::Closed | SinkState::NotRunning => {}
        }
    }

    /// Rows were passed without being delivered.
    pub(super) fn missed(&self, rows: u64) {
        if rows > 0 {
            let mut inner = self.lock();
            inner.status.missed_rows += rows;
            inner.changes += 1;
        }
    }

    /// A request was answered OK.
    pub(super) fn answered(&self) {
        // The old batch of a detached sink, which tells that its server is back; to attach it is the operator's decision.
        if self.state() != SinkState::Detached {
            self.enter(SinkState::Delivering, "");
        }
        self.lock().status.requests += 1;
    }

    /// The tables found suspended at the last look.
    pub(super) fn suspended<'a>(&self, tables: impl Iterator<Item = (&'a str, &'a Suspended)>) {
        let tables: Vec<SuspendedTable> = tables
            .map(|(table, suspended)| SuspendedTable {
                table: table.to_owned(),
                since: suspended.since,
                why: suspended.why.clone(),
                resumed: suspended.tries,
            })
            .collect();
        let mut inner = self.lock();
        if inner.status.suspended == tables {
            return;
        }
        let (sink, class) = (inner.status.sink.clone(), inner.status.class.as_str());
        inner.status.suspended.clone_from(&tables);
        inner.changes += 1;
        drop(inner);
        if tables.is_empty() {
            tracing::warn!(sink, class, "no table is suspended any more");
        } else {
            tracing::error!(sink, class, ?tables, "suspended: rows are answered OK and stay invisible; RESUME WAL");
        }
    }

    /// The sink goes back in the journal.
    pub(super) fn rewound(&self, rewound: &Rewound) {
        let mut inner = self.lock();
        inner.status.rewinds += 1;
        inner.changes += 1;
        let (sink, class) = (inner.status.sink.clone(), inner.status.class.as_str());
        let to = rewound.to.as_deref().unwrap_or("the beginning of the journal");
        tracing::warn!(sink, class, why = rewound.why, to, "QuestDB may have forgotten rows: delivering again");
        if rewound.gone_rows > 0 {
            let before = rewound.gone_before.as_deref().unwrap_or("now");
            let rows = rewound.gone_rows;
            tracing::error!(sink, class, rows, before, "rows are no longer in the journal; compare with a backup");
        }
        inner.status.last_rewind = Some(rewound.clone());
    }

    /// What the journal could not give at the last look.
    pub(super) fn journal(&self, damage: &[tripod_journal::Damage], missed_segments: u64) {
        let mut inner = self.lock();
        if inner.status.damaged.len() == damage.len() && inner.status.missed_segments == missed_segments {
            return;
        }
        let places = damage.iter().map(|d| format!("{} offset {}: {}", d.path.display(), d.offset, d.what));
        inner.status.damaged = places.collect();
        inner.status.missed_segments = missed_segments;
        inner.changes += 1;
        let status = inner.status.clone();
        drop(inner);
        tracing::error!(
            sink = status.sink,
            class = status.class.as_str(),
            damaged = ?status.damaged,
            missed_segments,
            "the journal has rows that this sink cannot read"
        );
    }

    /// `rows` became visible, none of them recorded before `recorded_after`.
    pub(super) fn seen(&self, rows: u64, recorded_after: Instant) {
        let micros = u64::try_from(recorded_after.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut inner = self.lock();
        if let Some(histogram) = &mut inner.visible_us {
            histogram.saturating_record_n(micros, rows);
        }
        inner.lately.record(micros, rows, Instant::now());
    }

    /// What it is doing.
    pub(super) fn state(&self) -> SinkState {
        self.lock().status.state
    }

    /// How often something changed that an operator would look at.
    pub(super) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// A copy for a reader.
    pub(super) fn status(&self) -> SinkStatus {
        let mut inner = self.lock();
        let mut status = inner.status.clone();
        status.said_at = Timestamp::now();
        if let Some(histogram) = inner.visible_us.as_ref().filter(|histogram| !histogram.is_empty()) {
            let at = |quantile| Some(Duration::from_micros(histogram.value_at_quantile(quantile)));
            (status.visible_p50, status.visible_p99) = (at(0.5), at(0.99));
        }
        (status.visible_lately_p50, status.visible_lately_p99) = inner.lately.quantiles(Instant::now()).unzip();
        status
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_goes_on_keeps_its_since_and_shows_the_newest_reason() {
        let board = Board::new("main", Importance::Critical, true);
        board.enter(SinkState::Unavailable, "Connection refused");
        let first = board.status();
        board.enter(SinkState::Unavailable, "timed out");
        let second = board.status();
        assert_eq!(first.since, second.since);
        assert_eq!(second.why, "timed out");
        board.answered();
        let third = board.status();
        assert_eq!((third.state, third.why.as_str(), third.requests), (SinkState::Delivering, "", 1));
        assert!(third.since >= second.since);
    }

    #[test]
    fn a_late_answer_does_not_open_a_closed_sink_again() {
        let board = Board::new("main", Importance::Critical, true);
        board.enter(SinkState::Unavailable, "Connection refused");
        board.enter(SinkState::Closed, "");
        board.answered();
        board.enter(SinkState::Schema, "no such table");
        let status = board.status();
        assert_eq!((status.state, status.why.as_str()), (SinkState::Closed, ""));
    }

    #[test]
    fn every_state_is_listed_by_the_name_that_it_has_in_json() {
        for state in SinkState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn quantiles_are_of_rows_not_of_requests() {
        let board = Board::new("main", Importance::Standard, true);
        assert_eq!(board.status().visible_p50, None);
        let now = Instant::now();
        board.seen(98, now);
        board.seen(2, now.checked_sub(Duration::from_secs(5)).unwrap());
        let status = board.status();
        assert!(status.visible_p50.unwrap() < Duration::from_secs(1));
        assert!(status.visible_p99.unwrap() >= Duration::from_secs(5));
    }
}
