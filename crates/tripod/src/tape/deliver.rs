//! The sinks of a bot's journals without the bot: after it died, or beside one that is not to deliver itself.
//!
//! Constraints: needs no code of the bot. What a record is and where it goes stands in the journal's own catalog, a
//! bot's own tables included. Records are only read: the journal's writer need not be there, and segments are deleted by
//! the next one. A sink that runs elsewhere (in the bot, most often) is left alone, and named.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::sink::RunningSink;
use super::spec::Importance;
use super::{CloseReport, SinkStatus};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::ledger::{self, LedgerRow};
use crate::value::Timestamp;

/// A bot that has made one journal makes the others within this.
const ALL_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs every sink of one bot's journals. Dropped, it ends them at once; [`Deliverer::close`] lets them finish.
#[derive(Debug)]
pub struct Deliverer {
    config: Config,
    sinks: Vec<RunningSink>,
}

impl Deliverer {
    /// Starts a sink for each server of `config` and each journal that `bot` has. QuestDB need not be there.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no journal of such a bot; [`Error::Conflict`] where another process runs one of
    /// its sinks; [`Error::Journal`] where a cursor or catalog cannot be read.
    pub fn open(config: &Config, bot: &str) -> Result<Self> {
        let mut config = config.clone();
        bot.clone_into(&mut config.bot);
        let dir = config.journal_dir();
        let is_name = !bot.is_empty() && bot.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let ready = |class: &Importance| is_name && dir.join(class.as_str()).join("segments").is_dir();
        let find = || -> Vec<_> { Importance::ALL.into_iter().filter(ready).collect() };
        let (mut classes, end) = (find(), Instant::now() + ALL_WITHIN);
        // A bot that starts for the first time at this moment makes them one after the other.
        while !classes.is_empty() && classes.len() < Importance::ALL.len() && Instant::now() < end {
            std::thread::park_timeout(LOOK_EVERY);
            classes = find();
        }
        if classes.is_empty() {
            return Err(Error::invalid(
                format!("bot `{bot}`"),
                format!("has no journal in {}; is the name right?", config.journal.dir.display()),
            ));
        }
        let mut sinks = Vec::new();
        for number in 0..config.questdb.len() {
            for class in &classes {
                sinks.push(RunningSink::start(&config, number, *class, None).map_err(|error| held(error, bot))?);
            }
        }
        Ok(Self { config, sinks })
    }

    /// The directory of the bot's journals.
    #[must_use]
    pub fn journal_dir(&self) -> PathBuf {
        self.config.journal_dir()
    }

    /// The counts of every table and sink.
    ///
    /// # Errors
    /// As [`ledger::of`].
    pub fn ledger(&self) -> Result<Vec<LedgerRow>> {
        ledger::of(&self.config)
    }

    /// What each sink is doing, per class.
    #[must_use]
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks.iter().map(RunningSink::status).collect()
    }

    /// Waits until everything that is in the journals now is visible on every server, or in quarantine. False where
    /// `deadline` came first.
    ///
    /// # Errors
    /// [`Error::Closed`] where a sink has ended, so that it never will be.
    pub fn wait_visible(&self, deadline: Duration) -> Result<bool> {
        super::wait_visible(self.sinks.iter(), deadline)
    }

    /// Asks every sink to deliver once more what it delivered after `since`, as far as the journal goes back. When this
    /// returns it is asked for, and a [`Deliverer::wait_visible`] after it waits for it.
    pub fn redeliver_since(&self, since: Timestamp) {
        for sink in &self.sinks {
            sink.redeliver_since(since);
        }
    }

    /// Delivers what it can within `deadline`, ends the threads and says what remains.
    #[must_use]
    pub fn close(mut self, deadline: Duration) -> CloseReport {
        let mut troubles = Vec::new();
        let end = Instant::now() + deadline;
        let remaining = super::end_sinks(&mut self.sinks, end, &self.config, &mut troubles);
        CloseReport { remaining, troubles }
    }
}

/// A sink that another process runs is no fault of the journal.
pub(super) fn held(error: Error, bot: &str) -> Error {
    let Error::Journal(tripod_journal::Error::Locked { pid, path }) = error else { return error };
    let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Error::conflict(
        format!("the sinks of bot `{bot}`"),
        format!(
            "are run by {holder} (it holds {}): the bot itself, or a `tripod deliver`. Rows are being delivered there; \
             with `delivery = \"beside\"` under [tape] a bot leaves its sinks to `tripod deliver`",
            path.display()
        ),
    )
}
