//! Pub/sub that reconnects by itself, with a limit on what may wait.
//!
//! Constraints: pub/sub is fire and forget, so whatever can be lost is said: messages that a slow receiver let pile up
//! ([`Delivery::Missed`]), and the time without a connection ([`Delivery::Resync`]). The driver's own receivers queue
//! without a limit; this one takes the messages from the connection's push callback straight into a ring.
//!
//! Picture: connection ── callback, never blocks ──▶ ring (oldest out first, counted) ──▶ `next()`

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::link::{Shared, Trouble};
use super::{Link, backoff};
use crate::error::Result;

/// How often a silent connection is asked whether it is still there.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Longest pause between two tries to subscribe again. Shorter than the link's: prices in memory are as old as this.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What a subscription gives.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// A message.
    Message {
        /// Its channel.
        channel: String,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// This many messages were dropped, the oldest first, because nobody took them in time.
    Missed(u64),
    /// The connection was lost and is back; whatever was published in between is not coming.
    Resync,
}

struct Ring {
    state: Mutex<State>,
    filled: Notify,
    capacity: usize,
}

#[derive(Default)]
struct State {
    messages: VecDeque<(String, Vec<u8>)>,
    missed: u64,
    resync: bool,
}

impl Ring {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that panics runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, channel: String, payload: Vec<u8>) {
        let mut state = self.lock();
        if state.messages.len() == self.capacity {
            state.messages.pop_front();
            state.missed += 1;
        }
        state.messages.push_back((channel, payload));
        drop(state);
        self.filled.notify_one();
    }

    fn resync(&self) {
        self.lock().resync = true;
        self.filled.notify_one();
    }

    /// News about losses first: what follows is to be read knowing them.
    fn take(&self) -> Option<Delivery> {
        let mut state = self.lock();
        if std::mem::take(&mut state.resync) {
            return Some(Delivery::Resync);
        }
        match std::mem::take(&mut state.missed) {
            0 => state.messages.pop_front().map(|(channel, payload)| Delivery::Message { channel, payload }),
            missed => Some(Delivery::Missed(missed)),
        }
    }
}

/// A running subscription; dropping it ends it.
pub(crate) struct Subscription {
    ring: Arc<Ring>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.ring.lock();
        f.debug_struct("Subscription")
            .field("waiting", &state.messages.len())
            .field("missed", &state.missed)
            .finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscription {
    /// Subscribes. On `Ok` the server confirmed every channel: what is published from now on arrives.
    ///
    /// # Errors
    /// As [`Link::connect`]; [`crate::Error::Refused`] where the user may not read a channel.
    pub(crate) async fn open(link: &Link, channels: Vec<String>, capacity: usize) -> Result<Self> {
        let shared = Arc::clone(link.shared());
        let ring = Arc::new(Ring { state: Mutex::default(), filled: Notify::new(), capacity: capacity.max(1) });
        let first = Feed::open(&shared, &ring, &channels).await.map_err(|t| shared.error_of("SUBSCRIBE", t))?;
        let task = tokio::spawn(run(shared, Arc::clone(&ring), channels, first));
        Ok(Self { ring, task })
    }

    /// The next message or news of a loss. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Delivery {
        loop {
            let filled = self.ring.filled.notified();
            if let Some(delivery) = self.ring.take() {
                return delivery;
            }
            filled.await;
        }
    }
}

/// One connection with its subscriptions.
struct Feed {
    connection: ::redis::aio::MultiplexedConnection,
    lost: Arc<Notify>,
}

impl Feed {
    async fn open(shared: &Shared, ring: &Arc<Ring>, channels: &[String]) -> Result<Self, Trouble> {
        let lost = Arc::new(Notify::new());
        let sender = {
            let (ring, lost) = (Arc::clone(ring), Arc::clone(&lost));
            move |push: PushInfo| -> Result<(), ::redis::aio::SendError> {
                match push.kind {
                    PushKind::Message => {
                        if let Some((channel, payload)) = message_of(push.data) {
                            ring.push(channel, payload);
                        }
                    }
                    PushKind::Disconnection => lost.notify_one(),
                    _ => {}
                }
                Ok(())
            }
        };
        let opening = async {
            let mut connection = shared.target.open_for_pushes(shared.deadline, sender).await?.connection;
            connection.subscribe(channels).await?;
            Ok(connection)
        };
        match timeout(shared.deadline, opening).await {
            Ok(Ok(connection)) => Ok(Self { connection, lost }),
            Ok(Err(error)) => Err(Trouble::Said(error)),
            Err(_) => Err(Trouble::Late),
        }
    }

    /// Returns when the connection is gone, or its server no longer answers.
    async fn ended(&mut self, deadline: Duration) {
        loop {
            if timeout(HEARTBEAT, self.lost.notified()).await.is_ok() {
                return;
            }
            let ping = cmd("PING");
            let answered = timeout(deadline, ping.query_async::<Value>(&mut self.connection)).await;
            if !matches!(answered, Ok(Ok(_))) {
                return;
            }
        }
    }
}

async fn run(shared: Arc<Shared>, ring: Arc<Ring>, channels: Vec<String>, mut feed: Feed) {
    loop {
        feed.ended(shared.deadline).await;
        drop(feed);
        tracing::warn!(server = %shared.server, "subscription lost");
        let mut pauses = backoff();
        feed = loop {
            match Feed::open(&shared, &ring, &channels).await {
                Ok(feed) => break feed,
                Err(trouble) => {
                    let error = shared.error_of("SUBSCRIBE", trouble);
                    tracing::debug!(server = %shared.server, %error, "subscription not back yet");
                }
            }
            tokio::time::sleep(pauses.next().unwrap_or(PAUSE_MAX).min(PAUSE_MAX)).await;
        };
        tracing::info!(server = %shared.server, "subscription back");
        ring.resync();
    }
}

fn message_of(data: Vec<Value>) -> Option<(String, Vec<u8>)> {
    let mut parts = data.into_iter();
    match (parts.next()?, parts.next()?) {
        (Value::BulkString(channel), Value::BulkString(payload)) => Some((String::from_utf8(channel).ok()?, payload)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_drops_the_oldest_and_says_how_many_before_the_rest() {
        let ring = Ring { state: Mutex::default(), filled: Notify::new(), capacity: 3 };
        for n in 0..10_u8 {
            ring.push("c".into(), vec![n]);
        }
        assert!(matches!(ring.take(), Some(Delivery::Missed(7))));
        for expected in 7..10_u8 {
            match ring.take() {
                Some(Delivery::Message { payload, .. }) => assert_eq!(payload, [expected]),
                other => panic!("expected {expected}, got {other:?}"),
            }
        }
        assert!(ring.take().is_none());
    }
}
