//! A connection that one reader has for itself, so that it may block on it.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, FromRedisValue};
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
    broken: bool,
}

impl Dedicated {
    pub(super) fn new(opened: Opened, server: Server, deadline: Duration) -> Self {
        Self { connection: opened.connection, address: opened.address, server, deadline, broken: false }
    }

    /// Runs one command that the server may hold back for `block`. The deadline begins after that: a read given up
    /// earlier would have its entries delivered to nobody.
    ///
    /// A caller that drops this future before it is done leaves the connection broken, since its answer still comes.
    pub(crate) async fn query<T: FromRedisValue>(&mut self, what: &str, command: &Cmd, block: Duration) -> Result<T> {
        self.broken = true;
        let after = block + self.deadline;
        match timeout(after, command.query_async(&mut self.connection)).await {
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
