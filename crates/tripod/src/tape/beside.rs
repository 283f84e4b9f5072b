//! Sinks that run in another process, as a bot with `tape.delivery = "beside"` and `status` see them.
//!
//! Constraints: nothing here delivers. What is said comes from the sinks' own files ([`super::sink::notice`]) and the
//! journals, so it is true also where that process was started later, ended, or never was. Every wait has a deadline.
//!
//! Operation: [`statuses`] reads; [`wait_visible`] raises each sink's number and looks until it is reached; the
//! [`Reviewer`] gives the kill switch back once another process has made room in the journal.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::permit::TradingPermit;
use super::sink::reach::look as look_reach;
use super::sink::stop::Stop;
use super::sink::{Reach, SinkState, SinkStatus, notice};
use super::spec::Importance;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::value::Timestamp;

/// Between two looks at the other process.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Between two looks whether critical rows can be recorded again.
const REVIEW_EVERY: Duration = Duration::from_millis(50);

/// A sink of the config and the directory of its class's journal.
fn places(config: &Config) -> impl Iterator<Item = (&crate::config::QuestDb, Importance, PathBuf)> {
    let journals = config.journal_dir();
    config.questdb.iter().flat_map(move |sink| {
        let journals = journals.clone();
        Importance::ALL.into_iter().map(move |class| (sink, class, journals.join(class.as_str())))
    })
}

/// How the sinks of `config`'s bot are, in whatever process they run: those of the config, for each journal there is.
///
/// # Errors
/// [`Error::File`] where a sink's file cannot be read.
pub fn statuses(config: &Config) -> Result<Vec<SinkStatus>> {
    let mut all = Vec::new();
    for (sink, class, dir) in places(config).filter(|(_, _, dir)| dir.join("sinks").is_dir()) {
        let mut status = notice::look(&dir, &sink.name, class)?.status;
        status.required = sink.required;
        all.push(status);
    }
    Ok(all)
}

/// How far back the journals of `config`'s bot reach for its sinks: whether what was delivered after `since` is still
/// there. Empty where the bot has no journals on this machine.
///
/// # Errors
/// [`Error::File`] and [`Error::Journal`] where the files cannot be read.
pub fn reach(config: &Config, since: Timestamp) -> Result<Vec<Reach>> {
    let there = places(config).filter(|(_, _, dir)| dir.join("sinks").is_dir());
    there.map(|(sink, class, dir)| look_reach(&dir, &sink.name, class, since)).collect()
}

/// Waits until everything recorded before the call is visible on every required server, or in quarantine; false at `end`.
pub(super) fn wait_visible(config: &Config, end: Instant) -> Result<bool> {
    let mut asked = Vec::new();
    for (sink, class, dir) in places(config).filter(|(sink, _, _)| sink.required) {
        asked.push((notice::ask(&dir, &sink.name, class)?, sink, class, dir));
    }
    for (number, sink, class, dir) in asked {
        while notice::look(&dir, &sink.name, class)?.reached < number {
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::park_timeout(LOOK_EVERY.min(end.saturating_duration_since(Instant::now())));
        }
    }
    Ok(true)
}

/// Waits for what was recorded, as long as there is somebody to deliver it, and says who is missing.
pub(super) fn await_delivery(config: &Config, end: Instant, troubles: &mut Vec<String>) {
    let idle = match statuses(config) {
        Ok(all) => all.into_iter().filter(|sink| sink.required && sink.state == SinkState::NotRunning).collect(),
        Err(e) => {
            troubles.push(e.to_string());
            Vec::new()
        }
    };
    if idle.is_empty() {
        if let Err(e) = wait_visible(config, end) {
            troubles.push(e.to_string());
        }
        return;
    }
    for sink in idle {
        troubles.push(format!("sink {} of the {} rows: {}", sink.sink, sink.class.as_str(), sink.why));
    }
}

/// The thread that reviews the kill switch where no sink of this process does.
#[derive(Debug)]
pub(super) struct Reviewer {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Reviewer {
    pub(super) fn start(permit: Arc<TradingPermit>) -> Result<Self> {
        let stop = Arc::new(Stop::default());
        let asked = Arc::clone(&stop);
        let body = move || {
            while asked.asked().is_none() {
                permit.review();
                asked.pause(REVIEW_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("tape-permit".to_owned()).spawn(body).map_err(|source| {
            Error::File { what: "start a thread for", path: PathBuf::from("the kill switch"), source }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Reviewer {
    fn drop(&mut self) {
        self.stop.ask(Instant::now());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the kill switch panicked");
        }
    }
}
