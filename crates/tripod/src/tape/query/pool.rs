//! Connections over the PostgreSQL wire protocol, and one way to use them.
//!
//! Constraints: [`Pool::call`] answers or fails within the deadline. The server is told to end a statement at nine tenths
//! of it (`statement_timeout`, which QuestDB obeys to a few milliseconds), so that a question nobody waits for any more
//! ends there too. A connection on which a call was cut short leaves the pool. QuestDB gives every error the code 00000,
//! so the words decide what it means.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Client, Manager, ManagerConfig, PoolError, RecyclingMethod, Runtime};
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};

use super::Limits;
use crate::config::QuestDb;
use crate::error::{Error, Result, Server};
use crate::postgres::tls_connector;

/// A parameter with its type: stating it saves the round trip that would ask the server.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A cheap handle; clones share the connections.
#[derive(Clone)]
pub(super) struct Pool {
    connections: deadpool_postgres::Pool,
    /// Who asks, over this way or the other, holds one.
    turns: Arc<Semaphore>,
    address: Arc<str>,
    deadline: Duration,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("address", &self.address).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// What the server itself keeps to.
pub(super) fn statement_timeout(deadline: Duration) -> Duration {
    (deadline * 9 / 10).max(Duration::from_millis(1))
}

impl Pool {
    pub(super) fn open(server: &QuestDb, limits: Limits) -> Result<Self> {
        let (host, port) = server
            .pg
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .filter(|(host, _)| !host.is_empty())
            .ok_or_else(|| {
                Error::invalid(format!("questdb `{}`: pg", server.name), format!("`{}` is not host:port", server.pg))
            })?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let mut driver = tokio_postgres::Config::new();
        driver
            .host(host)
            .port(port)
            .user(&server.user)
            .password(server.password.expose_secret())
            .dbname("qdb")
            .application_name("tripod")
            .options(format!("-c statement_timeout={}", statement_timeout(limits.deadline).as_millis()))
            .ssl_mode(if server.tls { SslMode::Require } else { SslMode::Disable })
            .connect_timeout(limits.deadline);
        // An open socket is trusted: what looking at it would find, the deadline finds too.
        let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = if server.tls {
            Manager::from_config(driver, tls_connector(server.ca_file.as_deref())?, settings)
        } else {
            Manager::from_config(driver, NoTls, settings)
        };
        let connections = deadpool_postgres::Pool::builder(manager)
            .max_size(limits.concurrent_max)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| Error::invalid("limits", e.to_string()))?;
        let turns = Arc::new(Semaphore::new(limits.concurrent_max));
        Ok(Self { connections, turns, address: server.pg.as_str().into(), deadline: limits.deadline })
    }

    /// The turns that both ways of asking share.
    pub(super) fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.turns)
    }

    /// Lends a connection to `work` and ends within the deadline. `what` names the call in errors.
    pub(super) async fn call<T>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        tokio::time::timeout(self.deadline, self.lend(what, work)).await.unwrap_or_else(|_| {
            Err(Error::Deadline {
                server: Server::QuestDb,
                what: format!("{what} at {}", self.address),
                after: self.deadline,
            })
        })
    }

    async fn lend<T>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        let _turn = self.turns.acquire().await.map_err(|_| Error::Closed("the tape's reader"))?;
        let client = self.connections.get().await.map_err(|error| match error {
            PoolError::Backend(error) => self.explain(error, what),
            other => self.unreachable(other.into()),
        })?;
        let mut lease = Lease(Some(client));
        let outcome = match &lease.0 {
            Some(client) => work(client).await,
            None => return Err(Error::Closed("the tape's reader")),
        };
        // After an error of its own the server waits for the next statement; anything else leaves the connection behind.
        if outcome.as_ref().err().is_none_or(|error| error.as_db_error().is_some()) {
            drop(lease.0.take());
        }
        outcome.map_err(|error| self.explain(error, what))
    }

    fn explain(&self, error: tokio_postgres::Error, what: &str) -> Error {
        if let Some(said) = error.as_db_error().map(|e| e.message().to_owned()) {
            return classify(&said, what, self.deadline, error);
        }
        let io = std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>());
        if error.is_closed() || io {
            return self.unreachable(error.into());
        }
        let what = format!("{what}: {error}");
        Error::Refused { server: Server::QuestDb, what, code: None, source: Some(error.into()) }
    }

    fn unreachable(&self, source: crate::error::Source) -> Error {
        Error::Unreachable { server: Server::QuestDb, address: self.address.to_string(), source }
    }
}

/// What QuestDB's words mean for one of our own statements.
fn classify(said: &str, what: &str, deadline: Duration, source: tokio_postgres::Error) -> Error {
    let server = Server::QuestDb;
    match meaning(said) {
        Meaning::TooSlow => Error::Deadline { server, what: what.to_owned(), after: statement_timeout(deadline) },
        Meaning::Behind => Error::Schema { server, what: format!("{what}: {said}; run `tripod migrate`") },
        Meaning::Login => Error::Refused {
            server,
            what: "the login; check user and password".to_owned(),
            code: None,
            source: Some(source.into()),
        },
        Meaning::Other => {
            Error::Refused { server, what: format!("{what}: {said}"), code: None, source: Some(source.into()) }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    TooSlow,
    Behind,
    Login,
    Other,
}

fn meaning(said: &str) -> Meaning {
    if said.starts_with("timeout, query aborted") {
        Meaning::TooSlow
    } else if said.starts_with("table does not exist") || said.starts_with("Invalid column") {
        Meaning::Behind
    } else if said.starts_with("invalid username/password") {
        Meaning::Login
    } else {
        Meaning::Other
    }
}

/// A connection on loan. Dropped before it was given back (a deadline, a caller who went away), it is closed.
struct Lease(Option<Client>);

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_server_decide() {
        for (said, wanted) in [
            ("timeout, query aborted [fd=1, runtime=705ms, timeout=700ms]", Meaning::TooSlow),
            ("table does not exist [table=nope]", Meaning::Behind),
            ("Invalid column: nope", Meaning::Behind),
            ("invalid username/password", Meaning::Login),
            ("unexpected token [DROP]", Meaning::Other),
        ] {
            assert_eq!(meaning(said), wanted, "{said}");
        }
    }
}
