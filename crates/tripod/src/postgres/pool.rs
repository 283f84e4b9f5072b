//! A handle on PostgreSQL: a bounded pool, and one way to use it.
//!
//! Constraints: [`Postgres::call`] answers or fails within its deadline whatever the server does. One outer clock runs
//! over waiting for a connection, making one, and the work; a frozen server acknowledges TCP and says nothing, so no
//! socket option and no server-side timeout can replace it. A connection on which work was cut short, by our deadline
//! or by a caller who dropped the future, leaves the pool: nobody knows what it would answer next.
//!
//! A write whose deadline passed may have happened. Every write of this library can therefore be repeated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType};

use super::class::{Failure, connection_is_good, explain, is_absence};
use super::connect::Login;
use super::race::{self, Race};
use crate::config;
use crate::error::{Error, Result, Server};

/// A cheap handle; clones share the pool.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    address: String,
    deadline: Duration,
    /// Since when no call has succeeded, once one has failed for want of a server.
    outage: Mutex<Option<Instant>>,
    /// How many promotions were known when this pool's connections were last known to lead to the primary.
    promotions: AtomicU64,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("address", &self.inner.address)
            .field("deadline", &self.inner.deadline)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// A pool for the bot's login, with the deadline of `[postgres]`. Connects at the first call, not here.
    ///
    /// # Errors
    /// [`Error::Invalid`] where an address has no port, TLS is asked of a unix socket, or the system has no
    /// certificate authorities.
    pub fn open(config: &config::Postgres) -> Result<Self> {
        Self::open_as(config, Login::Bot, config.deadline())
    }

    /// A pool for either login, with its own deadline for one call: bulk imports and migrations take longer than a bot
    /// may wait.
    ///
    /// # Errors
    /// As [`Postgres::open`].
    pub fn open_as(config: &config::Postgres, login: Login, deadline: Duration) -> Result<Self> {
        Self::over(Race::new(config, login, deadline)?, config, deadline)
    }

    /// The same for a copy of a server, such as a backup that was restored to be checked. A copy calls itself by the
    /// original's identifier and is on a newer timeline: to every other handle it would look like the server that
    /// has replaced the original. This one neither learns from it nor minds what others have learned.
    ///
    /// # Errors
    /// As [`Postgres::open`].
    pub fn open_copy(config: &config::Postgres, login: Login, deadline: Duration) -> Result<Self> {
        Self::over(Race::new(config, login, deadline)?.apart(), config, deadline)
    }

    fn over(race: Race, config: &config::Postgres, deadline: Duration) -> Result<Self> {
        // Fast trusts an open socket: verifying each one costs a round trip per call (38 µs against 0.3 µs), and what
        // it would find, the outer deadline finds too.
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(race.driver(), race, manager);
        let pool = Pool::builder(manager)
            .max_size(config.pool_size.max(1))
            .wait_timeout(Some(deadline / 3))
            .create_timeout(Some(deadline * 5 / 9))
            .recycle_timeout(Some(deadline / 3))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| Error::invalid("postgres", e.to_string()))?;
        let address = config.hosts.join(", ");
        let promotions = AtomicU64::new(race::promotions());
        Ok(Self { inner: Arc::new(Inner { pool, address, deadline, outage: Mutex::new(None), promotions }) })
    }

    /// Where this handle connects to; never credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// How many calls can be under way at once.
    pub(crate) fn connections_max(&self) -> usize {
        self.inner.pool.status().max_size
    }

    /// The outer deadline of one call.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.inner.deadline
    }

    /// How long the server has been away, counted from the first call that failed for it; `None` while it answers.
    #[must_use]
    pub fn down_for(&self) -> Option<Duration> {
        self.inner.outage.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    /// Lends a connection to `work` and ends within the deadline. `what` names the call in errors: `read setting`.
    ///
    /// On return of Ok, what `work` committed is committed. After [`Error::Deadline`] it may be: repeat it.
    ///
    /// # Errors
    /// [`Error::Deadline`] where the outer deadline or the server's own statement limit passed, else what
    /// [`classify`](super::classify) makes of the server's code, or the error that `work` returned itself.
    pub async fn call<T>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>,
    ) -> Result<T> {
        let inner = &*self.inner;
        let outcome = tokio::time::timeout(inner.deadline, inner.lend(what, work))
            .await
            .unwrap_or_else(|_| Err(Stop { error: inner.too_late(what), server: Presence::Away }));
        inner.note(outcome.as_ref().err().map_or(Presence::Here, |stop| stop.server));
        outcome.map_err(|stop| stop.error)
    }
}

/// Why a call ended without a value.
struct Stop {
    error: Error,
    server: Presence,
}

/// What a call tells about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It answered, if only to say no.
    Here,
    /// It is missing; the call is not wrong or slow.
    Away,
    /// Nothing: the call did not get as far as the server.
    Unknown,
}

impl Inner {
    async fn lend<T>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>,
    ) -> Result<T, Stop> {
        let promotions = race::promotions();
        if self.promotions.swap(promotions, Ordering::AcqRel) != promotions {
            // Some handle of this process has seen a newer primary: these may lead to the one that it replaced.
            self.forget_idle();
        }
        let client = self.pool.get().await.map_err(|e| self.explain_pool(e, what))?;
        let mut lease = Lease { client: Some(client), promotions };
        let outcome = match lease.client.as_mut() {
            Some(client) => work(client).await,
            None => Err(Error::Closed("PostgreSQL connection").into()),
        };
        match outcome {
            Ok(value) => {
                lease.give_back();
                Ok(value)
            }
            Err(Failure::Ours(error)) => {
                lease.give_back();
                Err(Stop { error, server: Presence::Here })
            }
            Err(Failure::Driver(error)) => {
                if connection_is_good(&error) {
                    lease.give_back();
                }
                Err(self.explain_driver(error, what))
            }
        }
    }

    fn too_late(&self, what: &str) -> Error {
        Error::Deadline { server: Server::Postgres, what: what.to_owned(), after: self.deadline }
    }

    fn explain_driver(&self, error: tokio_postgres::Error, what: &str) -> Stop {
        let server = if is_absence(&error) { Presence::Away } else { Presence::Here };
        Stop { error: explain(error, what, &self.address, self.deadline), server }
    }

    fn explain_pool(&self, error: PoolError, what: &str) -> Stop {
        let server = Server::Postgres;
        let timeouts = self.pool.timeouts();
        let (step, after, presence) = match error {
            PoolError::Backend(e) => return self.explain_driver(e, what),
            PoolError::Timeout(TimeoutType::Wait) => {
                let all = self.pool.status().max_size;
                (
                    format!("all {all} connections of the pool are in use; a free one to"),
                    timeouts.wait,
                    Presence::Unknown,
                )
            }
            PoolError::Timeout(TimeoutType::Create) => ("connecting to".to_owned(), timeouts.create, Presence::Away),
            PoolError::Timeout(TimeoutType::Recycle) => {
                ("checking a connection to".to_owned(), timeouts.recycle, Presence::Away)
            }
            other => {
                let address = self.address.clone();
                let error = Error::Unreachable { server, address, source: Box::new(other) };
                return Stop { error, server: Presence::Unknown };
            }
        };
        let what = format!("{what}: {step} {}", self.address);
        Stop { error: Error::Deadline { server, what, after: after.unwrap_or(self.deadline) }, server: presence }
    }

    /// Closes the connections that nobody uses now. A server that went away may come back replaced by another one; an
    /// idle connection to it would then write where nobody reads.
    fn forget_idle(&self) {
        drop(self.pool.retain(|_, _| false));
    }

    /// Remembers when an outage began, and says once how long it was.
    fn note(&self, server: Presence) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match server {
            Presence::Unknown => {}
            Presence::Away => {
                outage.get_or_insert_with(Instant::now);
                drop(outage);
                self.forget_idle();
            }
            Presence::Here => {
                if let Some(since) = outage.take() {
                    let down_ms = since.elapsed().as_millis();
                    tracing::warn!(address = %self.address, down_ms, "PostgreSQL answers again");
                }
            }
        }
    }
}

/// A connection on loan. Dropped before it was given back (an error, a deadline, a caller who went away), it leaves
/// the pool and is closed.
struct Lease {
    client: Option<Client>,
    /// Known when it was lent.
    promotions: u64,
}

impl Lease {
    fn give_back(mut self) {
        if self.promotions == race::promotions() {
            drop(self.client.take());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Client::take(client));
        }
    }
}
