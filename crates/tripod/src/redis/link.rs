//! The handle that everything uses, and the task behind it that alone connects.
//!
//! Constraints: a call ends within its deadline, also against a server that hangs; while there is no connection a call
//! fails at once and waits for nothing; a failed call is never repeated in secret, the caller decides.
//!
//! Picture: see the module above. The states of one link:
//! ```text
//!                  connected                      io error, no heartbeat, no longer the primary
//!   away ───────────────────────────▶ live ────────────────────────────────────────────────────▶ away
//!    │ calls: Unreachable, at once     │ calls: answer, or Deadline, which asks for a heartbeat
//!    └ tries with back-off             └ heartbeat each second and on suspicion
//! ```
//! With sentinels a second task hears from each of them (see `sentinels`): a primary that they have replaced is left also
//! while it still answers and calls itself one, and the new one is tried as soon as the first of them names it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, cmd};
use arc_swap::ArcSwapOption;
use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fault::{breaks_connection, classify, suggests_failover};
use super::scripts::Lua;
use super::sentinels::{SentinelSaid, Watch};
use super::target::{Opened, Role, Target, role};
use super::{Dedicated, Instance, Login};
use crate::config;
use crate::error::{Error, Result, Server};

/// How often an idle connection is looked at. Longer: a silent loss is met by a caller. Shorter: a command more.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// First and longest pause between two tries to connect. A server that is started again at once is back within 40 ms.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The longest with sentinels: each try asks them anew, and a failover is over within seconds.
const PAUSE_MAX_SENTINELS: Duration = Duration::from_millis(100);

/// A handle to one Redis (or to whichever of several is the primary). Clones share the connection; the last one closes it.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    _supervisor: Arc<Supervisor>,
}

pub(super) struct Shared {
    pub(super) server: Server,
    pub(super) target: Target,
    pub(super) deadline: Duration,
    live: ArcSwapOption<Live>,
    /// Why there is no connection.
    reason: ArcSwapOption<RedisError>,
    /// Wakes the supervisor before its next heartbeat.
    suspicion: Notify,
    connections: AtomicU64,
    /// Counts every change: a connection given up, another one made.
    changes: watch::Sender<u64>,
    /// For tasks of those who use it, wherever they are started from.
    runtime: Handle,
    /// What the sentinels say.
    watch: Option<Watch>,
}

struct Live {
    connection: MultiplexedConnection,
    address: String,
    epoch: u64,
}

/// Ends the tasks when the last handle goes.
struct Supervisor(Vec<JoinHandle<()>>);

impl Drop for Supervisor {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("server", &self.shared.server)
            .field("address", &self.address())
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Connects as the bot's user. On `Ok` the server took the login; afterwards the link reconnects by itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an address that is none, [`Error::Refused`] for a wrong login, [`Error::Unreachable`] or
    /// [`Error::Deadline`] where nobody answers.
    pub async fn connect(config: &config::Redis, server: Server) -> Result<Self> {
        Self::connect_as(config, server, Login::Bot).await
    }

    /// [`Link::connect`] as the user that may look into the server's settings.
    ///
    /// # Errors
    /// As [`Link::connect`].
    pub async fn connect_admin(config: &config::Redis, server: Server) -> Result<Self> {
        Self::connect_as(config, server, Login::Admin).await
    }

    async fn connect_as(config: &config::Redis, server: Server, login: Login) -> Result<Self> {
        let target = Target::new(config, server, login)?;
        let shared = Arc::new(Shared {
            server,
            changes: watch::Sender::new(0),
            runtime: Handle::current(),
            watch: target.sentinels().map(|sentinels| Watch::new(sentinels.addresses.len())),
            target,
            deadline: config.deadline(),
            live: ArcSwapOption::empty(),
            reason: ArcSwapOption::empty(),
            suspicion: Notify::new(),
            connections: AtomicU64::new(0),
        });
        let opened = shared.open().await.map_err(|trouble| shared.unconnected(trouble))?;
        shared.install(opened);
        let mut tasks = vec![tokio::spawn(supervise(Arc::clone(&shared)))];
        if shared.watch.is_some() {
            tasks.push(tokio::spawn(hear_sentinels(Arc::clone(&shared))));
        }
        Ok(Self { shared, _supervisor: Arc::new(Supervisor(tasks)) })
    }

    /// Which server this is, as errors name it.
    #[must_use]
    pub fn server(&self) -> Server {
        self.shared.server
    }

    /// Where the connection leads now, or where it is looked for.
    #[must_use]
    pub fn address(&self) -> String {
        self.shared.address()
    }

    /// Whether there is a connection now. Only a hint: the next call may find out otherwise.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.live.load().is_some()
    }

    /// How many connections this link has made; one more with each reconnect.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The runtime that its own task runs on.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    /// Becomes different whenever the connection is lost or made.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The deadline of one call.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.shared.deadline
    }

    /// One round trip, and how long it took.
    ///
    /// # Errors
    /// As every call: [`Error::Unreachable`], [`Error::Deadline`], [`Error::Busy`], [`Error::Refused`].
    pub async fn ping(&self) -> Result<Duration> {
        let start = Instant::now();
        self.query::<()>("PING", &cmd("PING")).await?;
        Ok(start.elapsed())
    }

    /// The server's facts for `status` and `doctor`. Needs a user that may `INFO`.
    ///
    /// # Errors
    /// As [`Link::ping`].
    pub async fn instance(&self) -> Result<Instance> {
        let text: String = self.query("INFO", &cmd("INFO")).await?;
        Ok(Instance::parse(&text))
    }

    /// What each sentinel says of the quorum, each on a connection of its own; empty without sentinels. Ends within a
    /// second.
    pub async fn quorum(&self) -> Vec<SentinelSaid> {
        match self.shared.target.sentinels() {
            Some(sentinels) => sentinels.quorum().await,
            None => Vec::new(),
        }
    }

    /// Runs one command.
    pub(crate) async fn query<T: FromRedisValue + Send>(&self, what: &str, command: &Cmd) -> Result<T> {
        self.call(what, |mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Runs several commands in one round trip.
    pub(crate) async fn pipeline<T: FromRedisValue + Send>(&self, what: &str, commands: &Pipeline) -> Result<T> {
        self.call(what, |mut connection| async move { commands.query_async(&mut connection).await }).await
    }

    /// Runs a script with the arguments in `command`, which [`Lua::call`] began.
    pub(crate) async fn script<T: FromRedisValue + Send>(&self, what: &str, script: &Lua, command: &Cmd) -> Result<T> {
        self.call(what, |mut connection| async move {
            match command.query_async(&mut connection).await {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    script.load().exec_async(&mut connection).await?;
                    command.query_async(&mut connection).await
                }
                answer => answer,
            }
        })
        .await
    }

    /// A connection of its own, for reads that block: on the shared one they would stall everybody. It does not
    /// reconnect; who holds it asks for a new one.
    pub(crate) async fn dedicated(&self) -> Result<Dedicated> {
        let changes = self.changes();
        let opened = self.shared.open().await.map_err(|trouble| self.shared.unconnected(trouble))?;
        Ok(Dedicated::new(opened, self.shared.server, self.shared.deadline, changes))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    async fn call<T, F, Fut>(&self, what: &str, operation: F) -> Result<T>
    where
        F: FnOnce(MultiplexedConnection) -> Fut,
        Fut: Future<Output = RedisResult<T>> + Send,
    {
        let shared = &self.shared;
        let Some(live) = shared.live.load_full() else {
            return Err(shared.away());
        };
        match timeout(shared.deadline, operation(live.connection.clone())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if breaks_connection(&error) {
                    shared.give_up(&live, error.clone());
                } else if suggests_failover(&error) {
                    shared.suspicion.notify_one();
                }
                Err(classify(shared.server, &live.address, error))
            }
            Err(_) => {
                // A slow answer and a dead server look the same from here; the heartbeat tells.
                shared.suspicion.notify_one();
                Err(Error::Deadline { server: shared.server, what: what.to_owned(), after: shared.deadline })
            }
        }
    }
}

/// Why there is no connection: the driver's error, or time.
pub(super) enum Trouble {
    Said(RedisError),
    Late,
}

impl Shared {
    /// Opens a connection within the deadline.
    async fn open(&self) -> Result<Opened, Trouble> {
        match timeout(self.deadline, self.target.open(self.deadline)).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(Trouble::Said(error)),
            Err(_) => Err(Trouble::Late),
        }
    }

    pub(super) fn error_of(&self, what: &str, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Said(error) => classify(self.server, &self.target.describe(), error),
            Trouble::Late => Error::Deadline { server: self.server, what: what.to_owned(), after: self.deadline },
        }
    }

    /// Of a connection that was not made.
    pub(super) fn unconnected(&self, trouble: Trouble) -> Error {
        let trouble = match trouble {
            Trouble::Said(error) => Trouble::Said(self.target.advise(error)),
            Trouble::Late => Trouble::Late,
        };
        self.error_of(self.target.connecting(), trouble)
    }

    fn address(&self) -> String {
        self.live.load().as_ref().map_or_else(|| self.target.describe(), |live| live.address.clone())
    }

    /// The error of a call while there is no connection.
    fn away(&self) -> Error {
        match self.reason.load_full() {
            Some(reason) => classify(self.server, &self.target.describe(), RedisError::clone(&reason)),
            None => Error::Unreachable {
                server: self.server,
                address: self.target.describe(),
                source: "the last connection broke; a new one is being made".into(),
            },
        }
    }

    fn install(&self, opened: Opened) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.reason.store(None);
        let Opened { connection, address, epoch } = opened;
        self.live.store(Some(Arc::new(Live { connection, address, epoch })));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Takes `live` out of use, unless another one took its place meanwhile.
    fn give_up(&self, live: &Arc<Live>, reason: RedisError) {
        let current = self.live.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            self.reason.store(Some(Arc::new(reason)));
            self.live.compare_and_swap(&*current, None);
            self.changes.send_modify(|changes| *changes += 1);
        }
        self.suspicion.notify_one();
    }

    /// Asks a live connection whether it still is what calls need.
    async fn examine(&self, live: &Live) -> RedisResult<()> {
        if let Some(newest) = self.watch.as_ref().and_then(Watch::newest)
            && newest.epoch > live.epoch
            && newest.address() != live.address
        {
            return Err(io_error("the sentinels name another primary"));
        }
        let mut connection = live.connection.clone();
        match timeout(self.deadline, role(&mut connection)).await {
            Ok(Ok(Role::Replica)) if self.watch.is_some() => Err(io_error("the server is a replica now")),
            Ok(Err(error)) if breaks_connection(&error) => Err(error),
            // Any other answer, also a refusal, shows that somebody answers.
            Ok(_) => Ok(()),
            Err(_) => Err(io_error("the server did not answer a heartbeat in time")),
        }
    }
}

fn io_error(what: &'static str) -> RedisError {
    RedisError::from(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

/// The pauses between tries to connect.
pub(crate) fn backoff() -> impl Iterator<Item = Duration> + Send {
    backoff_up_to(PAUSE_MAX)
}

pub(super) fn backoff_up_to(longest: Duration) -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times()
        .build()
}

async fn hear_sentinels(shared: Arc<Shared>) {
    if let (Some(watch), Some(sentinels)) = (&shared.watch, shared.target.sentinels()) {
        watch.run(sentinels, &shared.suspicion).await;
    }
}

async fn supervise(shared: Arc<Shared>) {
    loop {
        while let Some(live) = shared.live.load_full() {
            let _ = timeout(HEARTBEAT, shared.suspicion.notified()).await;
            if let Err(reason) = shared.examine(&live).await {
                tracing::warn!(server = %shared.server, address = %live.address, %reason, "connection lost");
                shared.give_up(&live, reason);
            }
        }
        let lost = Instant::now();
        let longest = if shared.watch.is_some() { PAUSE_MAX_SENTINELS } else { PAUSE_MAX };
        let mut pauses = backoff_up_to(longest);
        loop {
            match shared.open().await {
                Ok(opened) => {
                    let away_ms = lost.elapsed().as_millis();
                    tracing::info!(server = %shared.server, address = %opened.address, %away_ms, "connected again");
                    shared.install(opened);
                    break;
                }
                Err(Trouble::Said(error)) => shared.reason.store(Some(Arc::new(error))),
                Err(Trouble::Late) => shared.reason.store(Some(Arc::new(io_error("connecting took too long")))),
            }
            let pause = pauses.next().unwrap_or(longest);
            if shared.watch.is_some() {
                // A sentinel that has news ends the pause.
                let _ = timeout(pause, shared.suspicion.notified()).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }
}
