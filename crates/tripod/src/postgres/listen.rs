//! A connection of its own that hears the notices of one channel.
//!
//! Constraints: never from the pool (a pooled connection is read only while a query runs). What is said while nobody
//! listens is lost, so a notice is only ever a reason to look: the reader asks for changes by itself as well, and looks
//! first thing after [`Listener::open`].

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};

use super::class::explain;
use super::connect::{Login, driver_config, tls_connector};
use crate::config;
use crate::error::{Error, Result, Server};

/// Hears until it is dropped or the server ends it.
pub(crate) struct Listener {
    client: Client,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Connects as the bot and listens. From Ok on, `heard` is notified of each notice, and once when the connection
    /// ends. `channel` is an identifier of this program's, never a caller's text.
    ///
    /// # Errors
    /// As [`Postgres::call`](super::Postgres::call); [`Error::Deadline`] where it takes longer than `deadline`.
    pub(crate) async fn open(
        config: &config::Postgres,
        deadline: Duration,
        channel: &'static str,
        heard: Arc<Notify>,
    ) -> Result<Self> {
        let driver = driver_config(config, Login::Bot, deadline)?;
        let address = config.hosts.join(", ");
        let refused = |error| explain(error, "listen", &address, deadline);
        let connect = async {
            let (client, task) = if config.tls {
                let (client, connection) = driver.connect(tls_connector()?).await.map_err(refused)?;
                (client, tokio::spawn(hear(connection, heard)))
            } else {
                let (client, connection) = driver.connect(NoTls).await.map_err(refused)?;
                (client, tokio::spawn(hear(connection, heard)))
            };
            let listener = Self { client, task };
            listener.client.batch_execute(&format!("LISTEN {channel}")).await.map_err(refused)?;
            Ok(listener)
        };
        tokio::time::timeout(deadline, connect).await.unwrap_or_else(|_| {
            Err(Error::Deadline { server: Server::Postgres, what: format!("listen at {address}"), after: deadline })
        })
    }

    /// True once the server ended it, or vanished.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

async fn hear<S, T>(mut connection: Connection<S, T>, heard: Arc<Notify>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if matches!(message, AsyncMessage::Notification(_)) {
            heard.notify_one();
        }
    }
    // First gone, then told: who is woken by this finds the listener closed.
    drop(connection);
    heard.notify_one();
}
