//! What a drill knows of events: which of them the server acknowledged, which were handled, and in the end which are there.
//!
//! Constraints: what was acknowledged is known from the answers, what is there is read from the stream itself, what was
//! handled from the handler. Each event has a key of its own, so that one that is there twice shows.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tripod::Config;
use tripod::events::{ConsumerOptions, Draft, Event, Events, Follow};

use super::patience::patiently;
use super::whole::Pulse;

pub(super) const TOPIC: &str = "drill";
pub(super) const GROUP: &str = "drill";
/// Between two events.
const EVERY: Duration = Duration::from_millis(2);

/// What the load knows.
#[derive(Debug, Default)]
pub(super) struct Seen {
    acknowledged: Mutex<HashSet<String>>,
    handled: Mutex<HashSet<String>>,
    /// Given to a consumer that died with them: they must go to another one.
    orphans: Mutex<HashSet<String>>,
    pub(super) longest_us: AtomicU64,
    pub(super) over: AtomicBool,
    /// Beats with each acknowledged event.
    pub(super) pulse: Pulse,
    /// Beats with each handled event while no orphan waits.
    pub(super) orphan_pulse: Pulse,
}

/// What became of the acknowledged events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct EventCounts {
    pub(super) acknowledged: u64,
    /// Acknowledged, and in no stream.
    pub(super) lost: u64,
    /// In the stream twice under one key.
    pub(super) doubled: u64,
    /// Acknowledged, and no handler was given them.
    pub(super) unhandled: u64,
}

impl Seen {
    pub(super) fn acknowledged(&self) -> MutexGuard<'_, HashSet<String>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event was given to the handler.
    pub(super) fn handle(&self, event: &Event) {
        let began = Instant::now();
        self.handled().insert(event.effect_key());
        if self.orphans_mut().is_subset(&self.handled()) {
            self.orphan_pulse.beat(began);
        }
    }

    pub(super) fn handled(&self) -> MutexGuard<'_, HashSet<String>> {
        self.handled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A consumer that takes a batch and is never heard of again.
    pub(super) async fn orphan(&self, config: &Config) -> anyhow::Result<()> {
        let events = patiently(async || Events::connect(config).await).await?;
        let mut consumer = patiently(async || events.consumer(TOPIC, GROUP, ConsumerOptions::default()).await).await?;
        // What a try without an answer has taken goes to another one just so; nobody waits for it by name.
        let taken = patiently(async || consumer.next().await).await?;
        self.orphans_mut().extend(taken.iter().map(Event::effect_key));
        Ok(())
    }

    fn orphans_mut(&self) -> MutexGuard<'_, HashSet<String>> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all_handled(&self) -> bool {
        self.acknowledged().is_subset(&self.handled())
    }
}

impl EventCounts {
    /// What of the promise they break.
    pub(super) fn broken(self) -> Vec<String> {
        let all = [
            (self.lost, "acknowledged events are lost"),
            (self.doubled, "events are there twice"),
            (self.unhandled, "acknowledged events were not handled"),
        ];
        all.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// Publishes until it is over. One try each: what has no answer is not claimed to be there.
pub(super) async fn publish(events: Events, seen: Arc<Seen>) -> anyhow::Result<()> {
    let publisher = events.publisher(TOPIC)?;
    for number in 0_u64.. {
        if seen.over.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("drill-{number}");
        let draft = Draft::new("drill", &number)?.with_key(&key)?;
        let began = Instant::now();
        if publisher.publish_draft(&draft).await.is_ok() {
            seen.acknowledged().insert(key);
            seen.pulse.beat(began);
        }
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        seen.longest_us.fetch_max(took, Ordering::Relaxed);
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

/// Reads the whole stream and compares.
pub(super) async fn count(events: &Events, seen: &Seen) -> anyhow::Result<EventCounts> {
    let mut there: HashMap<String, u64> = HashMap::new();
    let mut all = patiently(async || events.follower(TOPIC, Follow::Oldest).await).await?;
    loop {
        let read = patiently(async || all.next().await).await?;
        if read.events.is_empty() {
            break;
        }
        for event in read.events {
            *there.entry(event.effect_key()).or_default() += 1;
        }
    }
    let (acknowledged, handled) = (seen.acknowledged(), seen.handled());
    let count = |keys: usize| u64::try_from(keys).unwrap_or(u64::MAX);
    Ok(EventCounts {
        acknowledged: count(acknowledged.len()),
        lost: count(acknowledged.iter().filter(|key| !there.contains_key(*key)).count()),
        doubled: there.values().map(|times| times - 1).sum(),
        unhandled: count(acknowledged.difference(&handled).count()),
    })
}
