//! The tape: time-series tables in QuestDB, written through a journal on the bot's own disk.
//!
//! Constraints: recording costs the trading thread well under a microsecond whether QuestDB is up, slow or gone; a row
//! that was kept survives a kill -9 and arrives exactly once; nothing is lost or refused silently. The bot never
//! migrates: a server whose schema is behind is waited for, and named.
//!
//! Picture: one journal per importance class, so that a full one cannot hurt another; one sink per server and class.
//! ```text
//!                      ┌─▶ journal critical ─┬─▶ sink main
//!  Recorder::record ───┼─▶ journal standard ─┤   sink replica …   ──ILP/HTTP──▶ QuestDB
//!   (any thread)       └─▶ journal debug ────┘
//!                                 ledger: recorded = pending + delivered + visible + quarantined + missed + dropped
//! ```
//! Operation: [`Tape::open`] → [`Tape::recorder`] → [`Recorder::record`] … → [`Tape::close`]. Watch
//! [`Tape::trading_allowed`].

mod beside;
mod deliver;
mod directory;
pub mod encode;
mod permit;
pub mod quarantine;
pub mod query;
pub mod questdb;
mod recorder;
pub mod retention;
pub mod row;
pub mod schema;
pub(crate) mod sink;
pub mod spec;
pub mod tables;
mod times;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tripod_journal::Journal;

use crate::config::{Config, Delivery, SyncMode};
use crate::error::{Error, Result};
use crate::ledger::{self, LedgerRow};
use crate::value::Timestamp;

pub use beside::statuses;
pub use deliver::Deliverer;
pub use directory::TABLES_MAX;
pub use recorder::{Recorded, Recorder};
pub use row::Row;
pub use sink::{Rewound, SinkState, SinkStatus, SuspendedTable};
pub use times::{RecordTimes, record_times};
pub use tripod_derive::Row;

use beside::Reviewer;
use directory::Directory;
use permit::TradingPermit;
use sink::RunningSink;
use spec::{Importance, TableSpec};

/// How long closing a journal may take after its sinks have ended, at least: a last sync of the disk.
const JOURNAL_CLOSE_LEAST: Duration = Duration::from_secs(1);

/// After the required servers have everything, how long closing waits for the others.
const NOT_REQUIRED_GRACE: Duration = Duration::from_secs(1);

/// The owner of the journals and the sinks. Open one per bot; hand [`Recorder`]s to the threads.
#[derive(Debug)]
pub struct Tape {
    config: Config,
    journals: Journals,
    directory: Arc<Directory>,
    permit: Arc<TradingPermit>,
    /// Empty where another process delivers.
    sinks: Vec<RunningSink>,
    /// Where no sink of this process looks after the kill switch.
    _reviewer: Option<Reviewer>,
}

/// One journal per class.
#[derive(Debug)]
struct Journals {
    critical: Journal,
    standard: Journal,
    debug: Journal,
}

/// What [`Tape::close`] left behind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CloseReport {
    /// The tables and sinks with rows that are not visible yet. All of them are kept: the next start goes on from there.
    pub remaining: Vec<LedgerRow>,
    /// What went wrong on the way, in words.
    pub troubles: Vec<String>,
}

impl Tape {
    /// Opens the journals of `config.bot`, registers the built-in tables, starts a sink for each server and class.
    /// QuestDB need not be there. Where `config.tape.delivery` is `beside` no sink is started: `tripod deliver` runs
    /// them, before, after or never, and what this handle says about them is what they themselves say.
    ///
    /// # Errors
    /// [`Error::Journal`] where another process has this bot's journals, or they cannot be read; [`Error::Conflict`]
    /// where another process runs its sinks and `delivery` is `inside`.
    pub fn open(config: &Config) -> Result<Self> {
        let journals = Journals {
            critical: open_journal(config, Importance::Critical)?,
            standard: open_journal(config, Importance::Standard)?,
            debug: open_journal(config, Importance::Debug)?,
        };
        let permit = Arc::new(TradingPermit::new(journals.critical.clone()));
        let reviewer = match config.tape.delivery {
            Delivery::Inside => None,
            Delivery::Beside => Some(Reviewer::start(Arc::clone(&permit))?),
        };
        let mut tape = Self {
            config: config.clone(),
            journals,
            directory: Arc::new(Directory::new()),
            permit,
            sinks: Vec::new(),
            _reviewer: reviewer,
        };
        for spec in tables::builtin() {
            tape.register_spec(spec)?;
        }
        if config.tape.delivery == Delivery::Beside {
            return Ok(tape);
        }
        for number in 0..config.questdb.len() {
            for class in Importance::ALL {
                let permit = (class == Importance::Critical).then(|| Arc::clone(&tape.permit));
                let started = RunningSink::start(config, number, class, permit);
                tape.sinks.push(started.map_err(|error| deliver::held(error, &config.bot))?);
            }
        }
        Ok(tape)
    }

    /// Makes rows of type `R` recordable. The built-in ones are already; again is harmless.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the spec is not one, or another row type has this table; [`Error::Journal`] where the
    /// spec cannot be stored beside the journal.
    pub fn register<R: Row>(&self) -> Result<()> {
        self.register_spec(R::spec())
    }

    fn register_spec(&self, spec: &'static TableSpec) -> Result<()> {
        let journal = self.journals.of(spec.importance);
        let schema = journal.register(&spec.name, &spec.to_json()?)?;
        self.directory.add(spec, schema, journal)
    }

    /// A handle to record with.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(&self.directory), Arc::clone(&self.permit))
    }

    /// The counts of every table and sink. Reads the journals' files, as `status` does in another process.
    ///
    /// # Errors
    /// As [`ledger::read`].
    pub fn ledger(&self) -> Result<Vec<LedgerRow>> {
        ledger::of(&self.config)
    }

    /// What each sink is doing, per class, in this process or beside it. A sink beside whose files cannot be read is
    /// left out (and logged).
    #[must_use]
    pub fn sinks(&self) -> Vec<SinkStatus> {
        match self.config.tape.delivery {
            Delivery::Inside => self.sinks.iter().map(RunningSink::status).collect(),
            Delivery::Beside => statuses(&self.config).unwrap_or_else(|error| {
                tracing::error!(%error, "the sinks' state cannot be read");
                Vec::new()
            }),
        }
    }

    /// The kill switch: false from the first critical row that could not be kept until there is room again. A bot must
    /// not trade while it is false.
    #[must_use]
    pub fn trading_allowed(&self) -> watch::Receiver<bool> {
        self.permit.subscribe()
    }

    /// Waits until everything recorded before the call is visible on every required server, in quarantine, or dropped.
    /// False where `deadline` came first; so also where nobody delivers. A server that is not required is not waited
    /// for.
    ///
    /// # Errors
    /// [`Error::Closed`] where a sink has ended, so that it never will be; [`Error::File`] where the files of a sink in
    /// another process cannot be read.
    pub fn wait_visible(&self, deadline: Duration) -> Result<bool> {
        match self.config.tape.delivery {
            Delivery::Inside => wait_visible(self.sinks.iter().filter(|sink| sink.is_required()), deadline),
            Delivery::Beside => beside::wait_visible(&self.config, Instant::now() + deadline),
        }
    }

    /// Asks every sink to deliver once more what it delivered after `since`, as far as the journal goes back: for a server
    /// that lost something in a way that Tripod cannot see. Harmless where it did not. When this returns it is asked for;
    /// [`Tape::wait_visible`] waits for it. Only of the sinks of this process: where they run beside, end that process
    /// and use `tripod journal redeliver`.
    pub fn redeliver_since(&self, since: Timestamp) {
        for sink in &self.sinks {
            sink.redeliver_since(since);
        }
    }

    /// Lets detached sinks of the server `name` deliver again what is recorded from now on. What they missed and the
    /// journal still holds comes with [`Tape::redeliver_since`]. Only of the sinks of this process.
    pub fn attach(&self, name: &str) {
        for sink in self.sinks.iter().filter(|sink| sink.status().sink == name) {
            sink.attach();
        }
    }

    /// Sets every metric of [`crate::metrics`]; call it each few seconds where an exporter is installed. Reads files: not
    /// for the trading thread.
    ///
    /// # Errors
    /// As [`crate::metrics::publish`].
    pub fn publish(&self) -> Result<()> {
        let usages = Importance::ALL.map(|class| (class, self.journals.of(class).usage()));
        crate::metrics::publish_recorder(*self.permit.subscribe().borrow(), &usages);
        crate::metrics::publish(&self.config)
    }

    /// Takes no further row, delivers what it can within `deadline`, ends the threads and says what remains. What remains
    /// is in the journal, and the next start (or `tripod deliver`) goes on from there. Where another process delivers, it
    /// is given until `deadline`, and not waited for where there is none.
    #[must_use]
    pub fn close(mut self, deadline: Duration) -> CloseReport {
        let end = Instant::now() + deadline;
        let mut troubles = Vec::new();
        let journals = [&self.journals.critical, &self.journals.standard, &self.journals.debug];
        for journal in journals {
            let left = end.saturating_duration_since(Instant::now()).max(JOURNAL_CLOSE_LEAST);
            if let Err(e) = journal.clone().close(left) {
                troubles.push(e.to_string());
            }
        }
        if self.config.tape.delivery == Delivery::Beside {
            beside::await_delivery(&self.config, end, &mut troubles);
        }
        let remaining = end_sinks(&mut self.sinks, end, &self.config, &mut troubles);
        CloseReport { remaining, troubles }
    }
}

/// Waits until what is in the journals now is visible on every one of these servers, or in quarantine.
fn wait_visible<'a>(sinks: impl Iterator<Item = &'a RunningSink>, deadline: Duration) -> Result<bool> {
    let end = Instant::now() + deadline;
    let asked: Vec<(&RunningSink, u64)> = sinks.map(|sink| (sink, sink.ask())).collect();
    for (sink, number) in asked {
        if !sink.wait(number, end) {
            let ended = sink.status().state == SinkState::Closed;
            return if ended { Err(Error::Closed("a sink of the tape")) } else { Ok(false) };
        }
    }
    Ok(true)
}

/// Ends the sinks, by `end` at the latest, and says what remains.
fn end_sinks(sinks: &mut [RunningSink], end: Instant, config: &Config, troubles: &mut Vec<String>) -> Vec<LedgerRow> {
    for sink in &*sinks {
        sink.stop(end);
    }
    let (required, others): (Vec<_>, Vec<_>) = sinks.iter_mut().partition(|sink| sink.is_required());
    for sink in required {
        sink.join();
    }
    // A server that is not required holds nobody up, nor the end.
    let end = end.min(Instant::now() + NOT_REQUIRED_GRACE);
    for sink in &others {
        sink.stop(end);
    }
    for sink in others {
        sink.join();
    }
    match ledger::of(config) {
        Ok(rows) => rows.into_iter().filter(|row| row.pending + row.delivered > 0).collect(),
        Err(e) => {
            troubles.push(e.to_string());
            Vec::new()
        }
    }
}

impl Journals {
    fn of(&self, class: Importance) -> &Journal {
        match class {
            Importance::Critical => &self.critical,
            Importance::Standard => &self.standard,
            Importance::Debug => &self.debug,
        }
    }
}

fn open_journal(config: &Config, class: Importance) -> Result<Journal> {
    const MIB: u64 = 1024 * 1024;
    let settings = &config.journal;
    let budget_mib = settings.budget_mib(class);
    let sync_ms = match class {
        Importance::Critical => settings.critical_sync_ms,
        Importance::Standard | Importance::Debug => settings.standard_sync_ms,
    };
    let mut options = tripod_journal::Options::new(config.journal_dir().join(class.as_str()));
    options.segment_bytes = settings.segment_mib.saturating_mul(MIB);
    options.budget_bytes = budget_mib.saturating_mul(MIB);
    options.keep = Duration::from_secs(settings.keep_hours.saturating_mul(3600));
    options.sync = match settings.sync {
        SyncMode::Process => tripod_journal::Sync::Process,
        SyncMode::Periodic => tripod_journal::Sync::Periodic(Duration::from_millis(sync_ms)),
        SyncMode::Each => tripod_journal::Sync::Each,
    };
    options.required_sinks = config.questdb.iter().filter(|sink| sink.required).map(|sink| sink.name.clone()).collect();
    let (journal, recovery) = Journal::open(options)?;
    tracing::info!(class = class.as_str(), ?recovery, "journal opened");
    Ok(journal)
}
