//! A handle on PostgreSQL: a bounded pool, and one way to use it.
//!
//! Constraints: [`Postgres::call`] answers or fails within its deadline whatever the server does. One outer clock runs
//! over waiting for a connection, making one, and the work; a frozen server acknowledges TCP and says nothing, so no
//! socket option and no server-side timeout can replace it. A connection on which work was cut short, by our deadline
//! or by a caller who dropped the future, leaves the pool: nobody knows what it would answer next.
//!
//! A write whose deadline passed may have happened. Every write of this library can therefore be repeated.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType};
use tokio_postgres::NoTls;

use super::class::{Failure, connection_is_good, explain, is_absence};
use super::connect::{Login, driver_config, tls_connector};
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
        let driver = driver_config(config, login, deadline)?;
        // Fast trusts an open socket: verifying each one costs a round trip per call (38 µs against 0.3 µs), and what
        // it would find, the outer deadline finds too.
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = if config.tls {
            Manager::from_config(driver, tls_connector()?, manager)
        } else {
            Manager::from_config(driver, NoTls, manager)
        };
        let pool = Pool::builder(manager)
            .max_size(config.pool_size.max(1))
            .wait_timeout(Some(deadline / 3))
            .create_timeout(Some(deadline * 5 / 9))
            .recycle_timeout(Some(deadline / 3))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| Error::invalid("postgres", e.to_string()))?;
        let address = config.hosts.join(", ");
        Ok(Self { inner: Arc::new(Inner { pool, address, deadline, outage: Mutex::new(None) }) })
    }

    /// Where this handle connects to; never credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.inner.address
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
            .unwrap_or_else(|_| Err(Stop { error: inner.too_late(what), server_is_away: true }));
        inner.note(outcome.as_ref().is_err_and(|stop| stop.server_is_away));
        outcome.map_err(|stop| stop.error)
    }
}

/// Why a call ended without a value.
struct Stop {
    error: Error,
    /// It is the server that is missing, not the call that is wrong or slow.
    server_is_away: bool,
}

impl Inner {
    async fn lend<T>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>,
    ) -> Result<T, Stop> {
        let client = self.pool.get().await.map_err(|e| self.explain_pool(e, what))?;
        let mut lease = Lease { client: Some(client) };
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
                Err(Stop { error, server_is_away: false })
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
        let server_is_away = is_absence(&error);
        Stop { error: explain(error, what, &self.address, self.deadline), server_is_away }
    }

    fn explain_pool(&self, error: PoolError, what: &str) -> Stop {
        let server = Server::Postgres;
        let timeouts = self.pool.timeouts();
        let (step, after, server_is_away) = match error {
            PoolError::Backend(e) => return self.explain_driver(e, what),
            PoolError::Timeout(TimeoutType::Wait) => ("waiting for a free connection to", timeouts.wait, false),
            PoolError::Timeout(TimeoutType::Create) => ("connecting to", timeouts.create, true),
            PoolError::Timeout(TimeoutType::Recycle) => ("checking a connection to", timeouts.recycle, true),
            other => {
                let address = self.address.clone();
                let error = Error::Unreachable { server, address, source: Box::new(other) };
                return Stop { error, server_is_away: false };
            }
        };
        let what = format!("{what}: {step} {}", self.address);
        Stop { error: Error::Deadline { server, what, after: after.unwrap_or(self.deadline) }, server_is_away }
    }

    /// Remembers when an outage began, and says once how long it was.
    fn note(&self, server_is_away: bool) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        if server_is_away {
            outage.get_or_insert_with(Instant::now);
        } else if let Some(since) = outage.take() {
            tracing::warn!(address = %self.address, down_ms = since.elapsed().as_millis(), "PostgreSQL answers again");
        }
    }
}

/// A connection on loan. Dropped before it was given back (an error, a deadline, a caller who went away), it leaves
/// the pool and is closed.
struct Lease {
    client: Option<Client>,
}

impl Lease {
    fn give_back(mut self) {
        drop(self.client.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Client::take(client));
        }
    }
}
