//! A connection that one reader has for itself, so that it may block on it.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, FromRedisValue};
use tokio::sync::watch;
use tokio::time::timeout;

use super::fault::{breaks_connection, classify};
use super::target::Opened;
use crate::error::{Error, Result, Server};

/// See [`super::Link::dedicated`]. After an error that says so ([`Dedicated::is_broken`]) it is to be dropped.
pub(crate) struct Dedicated {
    connection: MultiplexedConnection,
    address: String,
    server: Server,
    deadline: Duration,
    /// Of the link that it was opened by: what happens to that one's connection happens to the server.
    changes: watch::Receiver<u64>,
    broken: bool,
}

impl Dedicated {
    pub(super) fn new(opened: Opened, server: Server, deadline: Duration, changes: watch::Receiver<u64>) -> Self {
        Self { connection: opened.connection, address: opened.address, server, deadline, changes, broken: false }
    }

    /// Runs one command that the server may hold back for `block`. The deadline begins after that: a read given up
    /// earlier would have its entries delivered to nobody.
    ///
    /// A caller that drops this future before it is done leaves the connection broken, since its answer still comes.
    pub(crate) async fn query<T: FromRedisValue>(&mut self, what: &str, command: &Cmd, block: Duration) -> Result<T> {
        self.broken = true;
        let after = block + self.deadline;
        let answer = tokio::select! {
            biased;
            answer = timeout(after, command.query_async(&mut self.connection)) => answer,
            _ = self.changes.changed() => {
                let source = "the server was lost or replaced while it was waited for".into();
                return Err(Error::Unreachable { server: self.server, address: self.address.clone(), source });
            }
        };
        match answer {
            Ok(Ok(answer)) => {
                self.broken = false;
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.broken = breaks_connection(&error);
                Err(classify(self.server, &self.address, error))
            }
            Err(_) => Err(Error::Deadline { server: self.server, what: what.to_owned(), after }),
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }
}
