//! A bounded queue in memory before a publisher, for topics whose events may wait while Redis is away.
//!
//! Constraints: [`QueuedPublisher::push`] never waits and never allocates more than its event; what the queue holds is
//! bounded in number and bytes; at the limit the stated policy holds and is counted. What is in the queue is lost with the
//! process: what must not be goes through [`super::Publisher`], whose answer is the server's.
//!
//! Picture: push ──▶ queue (oldest out, or the new one refused) ──▶ task: publish in order, again until acknowledged
//!
//! A publish whose answer was lost is repeated: so each event has a key here, its own or one made for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Draft, Publisher};
use crate::error::{Error, Result};
use crate::redis::backoff;
use crate::value::Uuid;

/// Events that the task takes at once.
const TAKE_MAX: usize = 500;

/// What happens to an event that finds the queue full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest ones make room, counted.
    DropOldest,
    /// [`QueuedPublisher::push`] refuses it with an error, counted.
    Refuse,
}

/// The limits of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueOptions {
    /// Events it holds at most.
    pub events_max: usize,
    /// Bytes of their payloads at most.
    pub bytes_max: usize,
    /// What happens beyond.
    pub when_full: WhenFull,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { events_max: 10_000, bytes_max: 16 << 20, when_full: WhenFull::DropOldest }
    }
}

/// What a queue has done so far: `pushed = published + dropped + waiting`; refused ones were not pushed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct QueueCounts {
    /// Taken in.
    pub pushed: u64,
    /// Acknowledged by the server.
    pub published: u64,
    /// Thrown away to make room, oldest first.
    pub dropped: u64,
    /// Not taken in, because the queue was full.
    pub refused: u64,
    /// In the queue, or on the way.
    pub waiting: u64,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Draft>,
    /// Of those, on the way: they stay in front until there is an answer.
    taken: usize,
    bytes: usize,
    counts: QueueCounts,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    options: QueueOptions,
    filled: Notify,
    emptied: Notify,
}

/// Publishes in the background, in order. Dropping it throws away what waits; [`QueuedPublisher::flush`] first.
#[derive(Debug)]
pub struct QueuedPublisher {
    publisher: Publisher,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for QueuedPublisher {
    fn drop(&mut self) {
        self.task.abort();
        let waiting = self.counts().waiting;
        if waiting > 0 {
            tracing::warn!(
                topic = self.publisher.topic(),
                waiting,
                "a queue of events was dropped before it was empty"
            );
        }
    }
}

impl QueuedPublisher {
    pub(super) fn start(publisher: Publisher, options: QueueOptions) -> Result<Self> {
        if options.events_max == 0 || options.bytes_max == 0 {
            return Err(Error::invalid("event queue", "a limit is 0; wanted 1 or more"));
        }
        let shared =
            Arc::new(Shared { state: Mutex::default(), options, filled: Notify::new(), emptied: Notify::new() });
        let task = publisher.link().runtime().clone().spawn(work(publisher.clone(), Arc::clone(&shared)));
        Ok(Self { publisher, shared, task })
    }

    /// Puts an event into the queue. When it returns Ok, the event is in this process's memory, not in the stream.
    ///
    /// # Errors
    /// [`Error::Invalid`] where its payload is too large; [`Error::Busy`] where the queue is full and refuses.
    pub fn push(&self, draft: Draft) -> Result<()> {
        self.publisher.check_size(&draft)?;
        let draft = match draft.key {
            Some(_) => draft,
            None => Draft { key: Some(Uuid::new_v4().simple().to_string()), ..draft },
        };
        let mut state = self.shared.lock();
        let full = !state.has_room_for(&draft, &self.shared.options);
        if full && self.shared.options.when_full == WhenFull::Refuse {
            state.counts.refused += 1;
            let what = format!("the queue of {} is full", self.publisher.topic());
            return Err(Error::Busy { server: self.publisher.link().server(), what, source: None });
        }
        state.push(draft, &self.shared.options);
        drop(state);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> QueueCounts {
        let state = self.shared.lock();
        QueueCounts { waiting: u64::try_from(state.events.len()).unwrap_or(u64::MAX), ..state.counts }
    }

    /// Waits until nothing waits any more.
    ///
    /// # Errors
    /// [`Error::Deadline`] where something still waits after `within`.
    pub async fn flush(&self, within: Duration) -> Result<()> {
        let emptied = async {
            loop {
                let emptied = self.shared.emptied.notified();
                if self.shared.lock().events.is_empty() {
                    return;
                }
                emptied.await;
            }
        };
        let server = self.publisher.link().server();
        let late = |_| Error::Deadline { server, what: "emptying the queue of events".to_owned(), after: within };
        timeout(within, emptied).await.map_err(late)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room_for(&self, draft: &Draft, options: &QueueOptions) -> bool {
        self.events.len() < options.events_max && self.bytes + draft.payload.len() <= options.bytes_max
    }

    /// Puts it in; what is oldest makes room, but for what is on the way.
    fn push(&mut self, draft: Draft, options: &QueueOptions) {
        self.counts.pushed += 1;
        while !self.has_room_for(&draft, options) {
            let Some(oldest) = self.events.remove(self.taken) else { break };
            self.bytes -= oldest.payload.len();
            self.counts.dropped += 1;
        }
        if !self.has_room_for(&draft, options) {
            // Everything is on the way, or the one is larger than the queue: then it is what does not fit.
            self.counts.dropped += 1;
            return;
        }
        self.bytes += draft.payload.len();
        self.events.push_back(draft);
    }

    /// At most half of what it may hold: the newest always finds something older to make room for it.
    fn take(&mut self, options: &QueueOptions) -> Vec<Draft> {
        let most = TAKE_MAX.min(options.events_max / 2).max(1);
        let batch: Vec<Draft> = self.events.iter().take(most).cloned().collect();
        self.taken = batch.len();
        batch
    }

    fn done(&mut self) {
        for published in self.events.drain(..self.taken) {
            self.bytes -= published.payload.len();
            self.counts.published += 1;
        }
        self.taken = 0;
    }
}

async fn work(publisher: Publisher, shared: Arc<Shared>) {
    let mut pauses = backoff();
    loop {
        let filled = shared.filled.notified();
        let batch = shared.lock().take(&shared.options);
        if batch.is_empty() {
            shared.emptied.notify_waiters();
            filled.await;
            continue;
        }
        match publisher.publish_many(&batch).await {
            Ok(_) => {
                shared.lock().done();
                pauses = backoff();
            }
            // A refusal is tried again too: a server whose memory is used up takes events again when it is not. The
            // queue's own limit bounds what that costs.
            Err(error) => {
                // Not on the way any more: they may make room. Those that got there all the same are known by their keys.
                shared.lock().taken = 0;
                tracing::debug!(topic = publisher.topic(), %error, "queued events are published again");
                tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(1))).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(bytes: usize) -> Draft {
        Draft::new("x", &"y".repeat(bytes - 2)).unwrap()
    }

    #[test]
    fn the_oldest_makes_room_but_for_what_is_on_the_way_and_the_counts_add_up() {
        let options = QueueOptions { events_max: 3, bytes_max: 100, when_full: WhenFull::DropOldest };
        let mut state = State::default();
        state.push(draft(10), &options);
        assert_eq!(state.take(&options).len(), 1);
        for bytes in [20, 30, 40] {
            state.push(draft(bytes), &options);
        }
        let lengths = |state: &State| state.events.iter().map(|event| event.payload.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&state), [10, 30, 40]);
        state.push(draft(95), &options);
        assert_eq!(lengths(&state), [10], "larger than what is left beside the one on the way");
        state.done();
        assert_eq!((state.bytes, state.counts.pushed, state.counts.published, state.counts.dropped), (0, 5, 1, 4));
    }
}
