//! A connection of its own that hears the notices of one channel.
//!
//! Constraints: never from the pool (a pooled connection is read only while a query runs). What is said while nobody
//! listens is lost, so a notice is only ever a reason to look: the reader asks for changes by itself as well, and looks
//! first thing after [`Listener::open`]. A connection to a frozen or replaced server looks like one on which nobody says
//! anything, so it is asked now and then whether it still leads to the primary.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Connection, SimpleQueryMessage};

use super::class::explain;
use super::connect::Login;
use super::race::{self, Race};
use crate::config;
use crate::error::{Error, Result, Server};

/// Between two questions whether the connection is still good. Shorter costs the server a round trip each time; longer is
/// how late a listener notices that it is deaf.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Hears until it is dropped, the server ends it, or it leads to no primary any more.
pub(crate) struct Listener {
    client: Arc<Client>,
    gone: Arc<AtomicBool>,
    tasks: [JoinHandle<()>; 2],
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
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
        let race = Race::new(config, Login::Bot, deadline)?;
        let address = config.hosts.join(", ");
        let refused = |error| explain(error, "listen", &address, deadline);
        let connect = async {
            let promotions = race::promotions();
            let (client, hearing) = race.connect(Some(&heard)).await.map_err(refused)?.into_parts();
            let promotions = promotions.max(race::promotions());
            let hearing = Hearing(Some(hearing));
            client.batch_execute(&format!("LISTEN {channel}")).await.map_err(refused)?;
            Ok((client, hearing, promotions))
        };
        let (client, mut hearing, promotions) = tokio::time::timeout(deadline, connect).await.unwrap_or_else(|_| {
            Err(Error::Deadline { server: Server::Postgres, what: format!("listen at {address}"), after: deadline })
        })?;
        let (client, gone) = (Arc::new(client), Arc::new(AtomicBool::new(false)));
        let asking = tokio::spawn({
            let (client, gone) = (Arc::clone(&client), Arc::clone(&gone));
            async move {
                while is_good(&client, channel, deadline, promotions).await {
                    tokio::time::sleep(ASK_EVERY).await;
                }
                // First gone, then told: who is woken by this finds the listener closed.
                gone.store(true, Ordering::Release);
                heard.notify_one();
            }
        });
        let hearing = hearing.0.take().unwrap_or_else(|| tokio::spawn(async {}));
        Ok(Self { client, gone, tasks: [asking, hearing] })
    }

    /// True once the server ended it, vanished, froze, or was replaced.
    pub(crate) fn is_closed(&self) -> bool {
        self.gone.load(Ordering::Acquire) || self.client.is_closed()
    }
}

/// Ends with an attempt that is cut short.
struct Hearing(Option<JoinHandle<()>>);

impl Drop for Hearing {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

async fn is_good(client: &Client, channel: &str, deadline: Duration, promotions: u64) -> bool {
    if client.is_closed() || race::promotions() != promotions {
        return false;
    }
    // Listening again is harmless, and the server's list of sessions goes on telling what this one is for.
    let question = format!("LISTEN {channel}; SHOW transaction_read_only");
    let answer = tokio::time::timeout(deadline, client.simple_query(&question)).await;
    let Ok(Ok(messages)) = answer else { return false };
    messages.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("off")))
}

/// Moves the bytes of one connection, and tells of notices where somebody wants to know.
pub(super) async fn hear<S, T>(mut connection: Connection<S, T>, heard: Option<Arc<Notify>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(_), Some(heard)) = (message, &heard) {
            heard.notify_one();
        }
    }
    // First gone, then told: who is woken by this finds the listener closed.
    drop(connection);
    if let Some(heard) = heard {
        heard.notify_one();
    }
}
