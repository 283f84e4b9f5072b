//! One QuestDB server being fed from one journal: its threads, its state, its end.
//!
//! Constraints: a sink goes at its own pace and shares nothing with another one, so a dead replica or a full class slows
//! nobody. It needs no QuestDB to start. See [`feed`] for the picture.

mod answer;
mod backoff;
mod barrier;
mod batch;
pub(crate) mod catalog;
mod courier;
mod feed;
mod history;
pub(in crate::tape) mod notice;
mod recent;
mod rewind;
mod split;
mod status;
pub(in crate::tape) mod stop;
mod suspension;
pub(crate) mod tally;
mod watcher;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tape::permit::TradingPermit;
use crate::tape::quarantine::Quarantine;
use crate::tape::questdb::QuestDbHttp;
use crate::tape::spec::Importance;
use crate::value::Timestamp;

pub(in crate::tape) use batch::Unfit;
pub use status::{Rewound, SinkState, SinkStatus, SuspendedTable};

use barrier::Barrier;
use batch::Limits;
use courier::{Courier, connect};
use feed::{Feed, Parts};
use notice::Crier;
use status::Board;
use stop::Stop;

/// One look at the server's transactions answers within this.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// A running sink of one class.
#[derive(Debug)]
pub(super) struct RunningSink {
    required: bool,
    stop: Arc<Stop>,
    board: Arc<Board>,
    barrier: Arc<Barrier>,
    feed: Option<JoinHandle<()>>,
}

impl RunningSink {
    /// Starts the sink `number` of the config's list on the journal of `class`. Does not touch the network itself.
    ///
    /// # Errors
    /// Where another process runs this sink, or its cursor, counts or quarantine cannot be read.
    pub(super) fn start(
        config: &Config,
        number: usize,
        class: Importance,
        permit: Option<Arc<TradingPermit>>,
    ) -> Result<Self> {
        let server = config
            .questdb
            .get(number)
            .ok_or_else(|| Error::invalid("questdb", format!("has no entry {number}")))?
            .clone();
        let journal_dir = config.journal_dir();
        let dir = journal_dir.join(class.as_str());
        let required = server.required;
        let timeout = Duration::from_millis(config.tape.request_timeout_ms);
        let http = QuestDbHttp::new(&server, LOOK_TIMEOUT)?;
        let (stop, barrier) = (Arc::new(Stop::default()), Arc::new(Barrier::default()));
        let board = Arc::new(Board::new(&server.name, class, server.required));
        let (jobs, jobs_in) = sync_channel(1);
        let (looks, looks_in) = sync_channel(1);
        // One settled batch and one look at most are on their way at any time.
        let (events, events_in) = sync_channel(2);
        // First of all: it holds the lock.
        let journal = tripod_journal::Sink::open(&dir, &server.name)?;
        let feed = Feed::new(Parts {
            prefix: config.tape.table_prefix.clone(),
            journal,
            crier: Crier::open(&dir, &server.name)?,
            retention: config.retention.clone(),
            quarantine: Quarantine::open(&journal_dir, &server.name, class)?,
            dir: dir.clone(),
            limits: Limits::of(&config.tape),
            keep: Duration::from_secs(config.journal.keep_hours.saturating_mul(3600)),
            rewind: Duration::from_secs(config.tape.rewind_s),
            required,
            name: server.name.clone(),
            jobs,
            looks,
            events: events_in,
            stop: Arc::clone(&stop),
            board: Arc::clone(&board),
            barrier: Arc::clone(&barrier),
            permit,
        })?;
        let courier = Courier {
            connect: Box::new(move || connect(&server, timeout)),
            retry_longest: Duration::from_millis(config.tape.retry_max_ms),
            stop: Arc::clone(&stop),
            board: Arc::clone(&board),
        };
        let looked = events.clone();
        let name = |part: &str| format!("tape-{part}-{}", class.as_str());
        let courier = spawn(name("send"), &dir, move || courier.run(&jobs_in, &events))?;
        spawn(name("look"), &dir, move || watcher::run(&http, &looks_in, &looked))?;
        let feed = spawn(name("feed"), &dir, move || feed.run(&courier))?;
        Ok(Self { required, stop, board, barrier, feed: Some(feed) })
    }

    /// Whether segments are held back for it.
    pub(super) fn is_required(&self) -> bool {
        self.required
    }

    pub(super) fn status(&self) -> SinkStatus {
        self.board.status()
    }

    /// Asks for a number that [`RunningSink::wait`] waits for: everything recorded before is visible or in quarantine.
    pub(super) fn ask(&self) -> u64 {
        self.barrier.ask()
    }

    /// Asks a detached sink to deliver again from here on.
    pub(super) fn attach(&self) {
        self.barrier.ask_attach();
    }

    /// Asks to deliver once more what was delivered after `since`.
    pub(super) fn redeliver_since(&self, since: Timestamp) {
        self.barrier.ask_again(since);
    }

    pub(super) fn wait(&self, number: u64, deadline: Instant) -> bool {
        self.barrier.wait(number, deadline)
    }

    /// Asks to deliver what there is and to end, by `deadline` at the latest.
    pub(super) fn stop(&self, deadline: Instant) {
        self.stop.ask(deadline);
    }

    /// Waits for the feed, which ends at the stop's deadline at the latest and then has let go of the journal. A request
    /// in flight at that moment ends by its own timeout, on its own thread; its rows are sent again by the next start.
    pub(super) fn join(&mut self) {
        if self.feed.take().is_some_and(|feed| feed.join().is_err()) {
            tracing::error!(sink = self.board.status().sink, "a sink's thread panicked; its rows are in the journal");
        }
    }
}

impl Drop for RunningSink {
    fn drop(&mut self) {
        if self.feed.is_some() {
            self.stop(Instant::now());
            self.join();
        }
    }
}

fn spawn(name: String, dir: &Path, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(body).map_err(|source| Error::File {
        what: "start a thread for the sink of",
        path: dir.to_owned(),
        source,
    })
}
