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
//!                                 ledger: recorded = pending + delivered + visible + quarantined + dropped
//! ```
//! Operation: [`Tape::open`] → [`Tape::recorder`] → [`Recorder::record`] … → [`Tape::close`]. Watch
//! [`Tape::trading_allowed`].

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

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tripod_journal::Journal;

use crate::config::{Config, SyncMode};
use crate::error::{Error, Result};
use crate::ledger::{self, LedgerRow};
use crate::value::Timestamp;

pub use deliver::Deliverer;
pub use directory::TABLES_MAX;
pub use recorder::{Recorded, Recorder};
pub use row::Row;
pub use sink::{Rewound, SinkState, SinkStatus, SuspendedTable};
pub use tripod_derive::Row;

use directory::Directory;
use permit::TradingPermit;
use sink::RunningSink;
use spec::{Importance, TableSpec};

/// How long closing a journal may take after its sinks have ended, at least: a last sync of the disk.
const JOURNAL_CLOSE_LEAST: Duration = Duration::from_secs(1);

/// The owner of the journals and the sinks. Open one per bot; hand [`Recorder`]s to the threads.
#[derive(Debug)]
pub struct Tape {
    config: Config,
    journals: Journals,
    directory: Arc<Directory>,
    permit: Arc<TradingPermit>,
    sinks: Vec<RunningSink>,
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
    /// QuestDB need not be there.
    ///
    /// # Errors
    /// [`Error::Journal`] where another process has this bot's journals, or they cannot be read.
    pub fn open(config: &Config) -> Result<Self> {
        let journals = Journals {
            critical: open_journal(config, Importance::Critical)?,
            standard: open_journal(config, Importance::Standard)?,
            debug: open_journal(config, Importance::Debug)?,
        };
        let permit = Arc::new(TradingPermit::new(journals.critical.clone()));
        let mut tape =
            Self { config: config.clone(), journals, directory: Arc::new(Directory::new()), permit, sinks: Vec::new() };
        for spec in tables::builtin() {
            tape.register_spec(spec)?;
        }
        for number in 0..config.questdb.len() {
            for class in Importance::ALL {
                let permit = (class == Importance::Critical).then(|| Arc::clone(&tape.permit));
                tape.sinks.push(RunningSink::start(config, number, class, permit)?);
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
        ledger::read(&self.config.journal_dir())
    }

    /// What each sink is doing, per class.
    #[must_use]
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks.iter().map(RunningSink::status).collect()
    }

    /// The kill switch: false from the first critical row that could not be kept until there is room again. A bot must
    /// not trade while it is false.
    #[must_use]
    pub fn trading_allowed(&self) -> watch::Receiver<bool> {
        self.permit.subscribe()
    }

    /// Waits until everything recorded before the call is visible on every server, in quarantine, or dropped. False
    /// where `deadline` came first.
    ///
    /// # Errors
    /// [`Error::Closed`] where a sink has ended, so that it never will be.
    pub fn wait_visible(&self, deadline: Duration) -> Result<bool> {
        wait_visible(&self.sinks, deadline)
    }

    /// Asks every sink to deliver once more what it delivered after `since`, as far as the journal goes back: for a server
    /// that lost something in a way that Tripod cannot see. Harmless where it did not. When this returns it is asked for;
    /// [`Tape::wait_visible`] waits for it.
    pub fn redeliver_since(&self, since: Timestamp) {
        for sink in &self.sinks {
            sink.redeliver_since(since);
        }
    }

    /// Takes no further row, delivers what it can within `deadline`, ends the threads and says what remains. What remains
    /// is in the journal, and the next start (or `tripod deliver`) goes on from there.
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
        let remaining = end_sinks(&mut self.sinks, end, &self.config, &mut troubles);
        CloseReport { remaining, troubles }
    }
}

/// Waits until what is in the journals now is visible on every server, or in quarantine.
fn wait_visible(sinks: &[RunningSink], deadline: Duration) -> Result<bool> {
    let end = Instant::now() + deadline;
    let asked: Vec<(&RunningSink, u64)> = sinks.iter().map(|sink| (sink, sink.ask())).collect();
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
    for sink in sinks {
        sink.join();
    }
    match ledger::read(&config.journal_dir()) {
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
    let (budget_mib, sync_ms) = match class {
        Importance::Critical => (settings.critical_budget_mib, settings.critical_sync_ms),
        Importance::Standard => (settings.standard_budget_mib, settings.standard_sync_ms),
        Importance::Debug => (settings.debug_budget_mib, settings.standard_sync_ms),
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
