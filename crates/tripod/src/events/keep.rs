//! Keeps what was acknowledged in the last seconds, and puts back what a lost primary took with it.
//!
//! Constraints: replication is asynchronous: a server that is promoted, or that is restarted after its machine lost power,
//! may lack events that were acknowledged. They are looked up after each reconnect and published again where they are
//! missing. An event that came and was handled before, and comes again, has the same key, or names its first id: see
//! [`super::Event::effect_key`]. What is kept is bounded by time, number and bytes; what had to be let go early is counted.
//!
//! Picture:
//! ```text
//! publish ── acknowledged ──▶ kept (30 s, 20,000 events, 32 MiB; oldest out first)
//!                               │ the connection was made anew
//!                               ▼
//!            XRANGE id id, each ──▶ there · trimmed by the cap · missing ──▶ published again, once
//! ```
//! Not put back: what nobody acknowledged, and what a process had acknowledged that has ended since.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Value, cmd, pipe};
use tokio::task::JoinHandle;

use super::inspect::edge;
use super::publish::command;
use super::{Draft, EventId, Topic};
use crate::config;
use crate::error::Result;
use crate::redis::{Link, PUBLISH_ONCE, backoff};
use crate::value::Timestamp;

/// Events kept at most: twice what a stream at its default cap holds.
const KEPT_MAX: usize = 20_000;
/// Bytes of payload kept at most.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Events looked up in one round trip.
const PAGE: usize = 250;

/// What became of acknowledged events after reconnects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct KeptCounts {
    /// Kept now.
    pub kept: u64,
    /// Reconnects after which all that was kept was looked up.
    pub checks: u64,
    /// Acknowledged, and missing on the server that was found after a reconnect.
    pub missing: u64,
    /// Of those: published again, and acknowledged again.
    pub republished: u64,
    /// Let go before the window was over, because there were too many: not protected.
    pub let_go_early: u64,
}

#[derive(Debug, Clone)]
struct Kept {
    topic: Arc<Topic>,
    id: EventId,
    /// The first one, where it was published again before.
    first: EventId,
    draft: Draft,
    time: Timestamp,
    /// When its publishing began: a server that has it, has it since then.
    began: Instant,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Kept>,
    bytes: usize,
    counts: KeptCounts,
    /// The topics of the publishers, so that each event shares its one.
    topics: Vec<Arc<Topic>>,
}

/// Shared by all publishers of one [`super::Events`].
#[derive(Debug)]
pub(super) struct Keeper {
    state: Arc<Mutex<State>>,
    window: Duration,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    pub(super) fn start(link: &Link, settings: Arc<config::Events>) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let window = Duration::from_millis(settings.republish_window_ms);
        // The supervisor of a clone ends with the last handle: the task must not be what keeps it.
        let task = link.runtime().spawn(watch(link.clone(), Arc::clone(&state), settings, window));
        Self { state, window, task }
    }

    /// Keeps acknowledged events.
    pub(super) fn keep<'a>(
        &self,
        topic: &Topic,
        began: Instant,
        time: Timestamp,
        events: impl IntoIterator<Item = (EventId, &'a Draft)>,
    ) {
        if self.window.is_zero() {
            return;
        }
        let mut state = lock(&self.state);
        let topic = state.shared(topic);
        for (id, draft) in events {
            state.bytes += draft.payload.len();
            let topic = Arc::clone(&topic);
            state.events.push_back(Kept { topic, id, first: id, draft: draft.clone(), time, began });
        }
        state.bound(self.window);
    }

    pub(super) fn counts(&self) -> KeptCounts {
        let mut state = lock(&self.state);
        state.bound(self.window);
        KeptCounts { kept: u64::try_from(state.events.len()).unwrap_or(u64::MAX), ..state.counts }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing that panics runs under the lock.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn shared(&mut self, topic: &Topic) -> Arc<Topic> {
        if let Some(known) = self.topics.iter().find(|known| known.stream == topic.stream) {
            return Arc::clone(known);
        }
        self.topics.push(Arc::new(topic.clone()));
        self.topics.last().map_or_else(|| Arc::new(topic.clone()), Arc::clone)
    }

    /// Lets go what is old, and the oldest of what is too much.
    fn bound(&mut self, window: Duration) {
        while let Some(oldest) = self.events.front() {
            let old = oldest.began.elapsed() > window;
            if !old && self.events.len() <= KEPT_MAX && self.bytes <= KEPT_BYTES_MAX {
                break;
            }
            self.bytes = self.bytes.saturating_sub(oldest.draft.payload.len());
            self.counts.let_go_early += u64::from(!old);
            self.events.pop_front();
        }
    }
}

async fn watch(link: Link, state: Arc<Mutex<State>>, settings: Arc<config::Events>, window: Duration) {
    let mut changes = link.changes();
    loop {
        if changes.changed().await.is_err() {
            return;
        }
        if !link.is_connected() {
            continue;
        }
        let mut pauses = backoff();
        // Until all was looked up on one and the same connection, or nothing is left to look up.
        while let Err(error) = check(&link, &state, &settings, window).await {
            tracing::debug!(%error, "acknowledged events are looked up again");
            tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(1))).await;
            changes.mark_unchanged();
        }
    }
}

/// Looks up everything that is kept and publishes again what is missing.
async fn check(link: &Link, state: &Mutex<State>, settings: &config::Events, window: Duration) -> Result<()> {
    let mut all: Vec<Kept> = {
        let mut state = lock(state);
        state.bound(window);
        state.events.iter().cloned().collect()
    };
    let (mut missing, mut republished) = (0_u64, 0_u64);
    // In groups of one topic each, in order.
    all.sort_by(|a, b| a.topic.stream.cmp(&b.topic.stream));
    for page in all.chunk_by(|a, b| a.topic.stream == b.topic.stream).flat_map(|of_topic| of_topic.chunks(PAGE)) {
        let lost = lost_of(link, page, settings.cap).await?;
        if lost.is_empty() {
            continue;
        }
        let mut commands = pipe();
        commands.add_command(PUBLISH_ONCE.load()).ignore();
        for event in &lost {
            commands.add_command(command(&event.topic, settings.cap, &event.draft, event.time, Some(event.first)));
        }
        let answers: Vec<String> = link.pipeline("publish again", &commands).await?;
        let mut state = lock(state);
        for (event, id) in lost.iter().zip(answers) {
            let id: EventId = id.parse()?;
            missing += 1;
            republished += 1;
            if let Some(kept) = state.events.iter_mut().find(|kept| kept.first == event.first && kept.id == event.id) {
                kept.id = id;
            }
        }
    }
    let mut state = lock(state);
    state.counts.checks += 1;
    state.counts.missing += missing;
    state.counts.republished += republished;
    drop(state);
    if missing > 0 {
        tracing::warn!(missing, republished, "acknowledged events were lost with a server and are published again");
    }
    Ok(())
}

/// Those of one topic that the server does not have though its cap has not trimmed them.
async fn lost_of(link: &Link, page: &[Kept], cap: u64) -> Result<Vec<Kept>> {
    let Some(first) = page.first() else { return Ok(Vec::new()) };
    let topic = Arc::clone(&first.topic);
    let mut questions = pipe();
    for event in page {
        let id = event.id.to_string();
        questions.add_command({
            let mut question = cmd("XRANGE");
            question.arg(&topic.stream).arg(&id).arg(&id);
            question
        });
    }
    let found: Vec<Vec<Value>> = link.pipeline("look up", &questions).await?;
    let absent: Vec<&Kept> =
        page.iter().zip(&found).filter(|(_, found)| found.is_empty()).map(|(kept, _)| kept).collect();
    if absent.is_empty() {
        return Ok(Vec::new());
    }
    // Asked after the look-up: what was trimmed in between is below the first one by now.
    let edge = edge(link, &topic).await?;
    let trimmed = |id: EventId| edge.is_some_and(|(length, first)| length >= cap && id < first);
    Ok(absent.into_iter().filter(|kept| !trimmed(kept.id)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Label;

    fn kept(state: &mut State, n: u64, bytes: usize) {
        let topic = state.shared(&Topic::new("", Label::new("topic", "t").unwrap()));
        let draft = Draft::new("x", &"y".repeat(bytes)).unwrap();
        state.bytes += draft.payload.len();
        let id = EventId { millis: n, sequence: 0 };
        let event = Kept { topic, id, first: id, draft, time: Timestamp::now(), began: Instant::now() };
        state.events.push_back(event);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_goes_early_is_counted() {
        let mut state = State::default();
        (0..30_000).for_each(|n| kept(&mut state, n, 10));
        state.bound(Duration::from_secs(3600));
        assert_eq!((state.events.len(), state.counts.let_go_early), (KEPT_MAX, 10_000));
        assert_eq!(state.events.front().unwrap().id.millis, 10_000);
        assert_eq!(state.topics.len(), 1);
        kept(&mut state, 30_000, KEPT_BYTES_MAX - 100);
        state.bound(Duration::from_secs(3600));
        assert!(state.events.len() < 20 && state.bytes <= KEPT_BYTES_MAX, "{} events", state.events.len());
        let early = state.counts.let_go_early;
        state.bound(Duration::ZERO);
        assert_eq!((state.events.len(), state.bytes, state.counts.let_go_early), (0, 0, early));
    }
}
