//! One event for each trade, published in pipelines, read by a group beside: topic `trades` and group `replay` for the
//! bot `bot`, a topic and a group of its own for every other.
//!
//! Constraints: at most half of the stream's cap is published and unread, so the cap never takes an unread event. Events
//! are told apart by the run's id and their number in the payload, not by what Redis calls them: a publish that was
//! repeated after a lost answer is one event read twice, which is what "at least once" means, and is counted.

mod inbound;
mod outbound;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, watch};
use tripod::events::{Consumer, ConsumerOptions, Events, Start};
use tripod::{Decimal, Uuid};

use super::super::script::Step;
use super::super::source::{Taker, Trade};
use outbound::Outbound;

const KIND: &str = "trade";

/// Events that wait for the publisher at most; more, and the producer waits.
pub(super) const QUEUE_EVENTS_MAX: usize = 1024;
/// Events of one pipeline at most.
const PIPELINE_EVENTS_MAX: usize = 256;
/// What an earlier, killed replay was given and did not acknowledge is taken over after this.
pub(super) const CLAIM_AFTER_MS: u64 = 1000;
/// Without any progress for this long, the events are given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The reader waits this long for an event before it looks whether it is done.
const BLOCK: Duration = Duration::from_millis(100);
/// Pause after a failed call.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Where the trades of one bot's replay go, and who reads them. Bots that shared them would take each other's events, and
/// fill a stream that each believes to have for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Channel {
    topic: String,
    group: String,
}

impl Channel {
    pub(super) fn of(bot: &str) -> Self {
        match bot {
            "bot" => Self { topic: "trades".to_owned(), group: "replay".to_owned() },
            other => Self { topic: format!("trades-{other}"), group: format!("replay-{other}") },
        }
    }
}

/// What a trade says to whoever listens.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TradeEvent {
    /// The row's number in this replay.
    n: u64,
    venue: String,
    token: String,
    trade_id: String,
    side: &'static str,
    price: Decimal,
    size: Decimal,
    at: String,
}

/// The payload: whose run it is, and the trade.
#[derive(Serialize)]
struct Payload<'a> {
    run: Uuid,
    #[serde(flatten)]
    trade: &'a TradeEvent,
}

#[derive(Deserialize)]
struct Own {
    run: Uuid,
    n: u64,
}

impl TradeEvent {
    pub(super) fn new(n: u64, step: &Step, trade: &Trade) -> Self {
        Self {
            n,
            venue: trade.venue.to_string(),
            token: trade.token.to_string(),
            trade_id: trade.id.to_string(),
            side: match trade.taker {
                Taker::Buy => "buy",
                Taker::Sell => "sell",
            },
            price: trade.price,
            size: trade.size,
            at: step.at.to_string(),
        }
    }
}

/// What was published and read.
#[derive(Debug, Default)]
pub(crate) struct EventsDone {
    /// Events of which Redis gave an id.
    pub(crate) published: u64,
    /// Different events of this run that the group was given and acknowledged.
    pub(crate) read: u64,
    /// Events given once more, after a lost answer or a claim.
    pub(crate) repeated: u64,
    /// Events of earlier runs that were still there, acknowledged first.
    pub(crate) leftovers: u64,
    /// What the server says of the group at the end: not given yet, given and not acknowledged, trimmed by the cap.
    pub(crate) lag: u64,
    pub(crate) pending: u64,
    /// Unknown where the server cannot tell any more.
    pub(crate) trimmed: Option<u64>,
    /// Why the events were given up, if they were.
    pub(crate) gave_up: Option<String>,
}

impl EventsDone {
    /// Every event published was read, and the server agrees that nothing is left or gone.
    pub(crate) fn is_true(&self) -> bool {
        let trimmed = self.trimmed.is_some_and(|count| count > 0);
        self.gave_up.is_none() && self.published == self.read && self.lag == 0 && self.pending == 0 && !trimmed
    }
}

/// Published and not read yet; bounded by half of the stream's cap.
#[derive(Debug, Default)]
struct Unread {
    numbers: Mutex<HashSet<u64>>,
    /// Told whenever the reader took some.
    taken: Notify,
}

impl Unread {
    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> usize {
        self.lock().len()
    }
}

/// What the server says of the group.
#[derive(Debug)]
struct Standing {
    lag: u64,
    pending: u64,
    /// Unknown where the server cannot tell any more.
    trimmed: Option<u64>,
}

impl Standing {
    async fn ask(events: &Events, channel: &Channel) -> anyhow::Result<Self> {
        let Channel { topic, group: name } = channel;
        let info = events.info(topic).await?;
        let group = info.and_then(|info| info.groups.into_iter().find(|group| group.name == *name));
        let group = group.with_context(|| format!("the group {name} of {topic} is gone"))?;
        let trimmed = group.trimmed_unread.map(|unread| unread + group.trimmed_pending);
        Ok(Self { lag: group.lag, pending: group.pending, trimmed })
    }
}

/// Both sides of the stream.
pub(super) struct Flow {
    run: Uuid,
    events: Events,
    channel: Channel,
    consumer: Consumer,
    unread_max: usize,
    leftovers: u64,
    trimmed_before: Option<u64>,
}

impl Flow {
    /// Joins the group and takes over what an earlier, killed run left in it.
    pub(super) async fn open(events: &Events, channel: &Channel, cap: u64) -> anyhow::Result<Self> {
        let options = ConsumerOptions { name: None, start: Start::Newest, batch: PIPELINE_EVENTS_MAX, block: BLOCK };
        let mut consumer = events.consumer(&channel.topic, &channel.group, options).await?;
        let (leftovers, trimmed_before) = drain(events, channel, &mut consumer)
            .await
            .context("cannot take over the events that an earlier replay left")?;
        let unread_max = usize::try_from(cap / 2).unwrap_or(usize::MAX).max(1);
        let (run, events, channel) = (Uuid::new_v4(), events.clone(), channel.clone());
        Ok(Self { run, events, channel, consumer, unread_max, leftovers, trimmed_before })
    }

    /// Publishes what comes until the queue is closed, reads it beside, and asks the server at the end.
    pub(super) async fn run(self, queue: Receiver<TradeEvent>) -> anyhow::Result<EventsDone> {
        let Self { run, events, channel, mut consumer, unread_max, leftovers, trimmed_before } = self;
        let unread = Arc::new(Unread::default());
        let (all_published, ending) = watch::channel(false);
        let outbound =
            Outbound { run, publisher: events.publisher(&channel.topic)?, unread_max, unread: Arc::clone(&unread) };
        let publishing = tokio::spawn(async move {
            let published = outbound.run(queue).await;
            let _ = all_published.send(true);
            published
        });
        let inbound = inbound::run(&mut consumer, run, &unread, ending).await;
        let (published, publish_failure) = publishing.await?;
        if let Err(error) = consumer.close().await {
            tracing::warn!(%error, "the consumer's name stays in the group");
        }
        let mut done = EventsDone {
            published,
            read: inbound.read,
            repeated: inbound.repeated,
            leftovers: leftovers + inbound.foreign,
            gave_up: publish_failure.or(inbound.gave_up),
            ..EventsDone::default()
        };
        match Standing::ask(&events, &channel).await {
            Ok(standing) => {
                done.lag = standing.lag;
                done.pending = standing.pending;
                let since = |(now, before): (u64, u64)| now.saturating_sub(before);
                done.trimmed = standing.trimmed.zip(trimmed_before).map(since);
            }
            Err(error) => done.gave_up = Some(format!("{error:#}")),
        }
        Ok(done)
    }
}

/// Reads and acknowledges until the server says that nothing is left for the group: how many that were, and how many
/// had been trimmed before.
async fn drain(events: &Events, channel: &Channel, consumer: &mut Consumer) -> anyhow::Result<(u64, Option<u64>)> {
    let deadline = Instant::now() + PATIENCE;
    let mut leftovers = 0;
    loop {
        let ids: Vec<_> = consumer.next().await?.iter().map(|event| event.id).collect();
        consumer.ack(&ids).await?;
        leftovers += u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let group = Standing::ask(events, channel).await?;
        if group.lag == 0 && group.pending == 0 {
            return Ok((leftovers, group.trimmed));
        }
        if Instant::now() > deadline {
            let Channel { topic, group: name } = channel;
            bail!("the group {name} of {topic} still has {} unread and {} pending events", group.lag, group.pending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bot_has_the_plain_names_and_every_other_its_own() {
        let named = |bot| (Channel::of(bot).topic, Channel::of(bot).group);
        assert_eq!(named("bot"), ("trades".to_owned(), "replay".to_owned()));
        assert_eq!(named("two"), ("trades-two".to_owned(), "replay-two".to_owned()));
    }

    #[test]
    fn an_unknown_count_of_trimmed_events_is_neither_zero_nor_a_loss() {
        let mut done = EventsDone { published: 3, read: 3, ..EventsDone::default() };
        assert!(done.trimmed.is_none() && done.is_true());
        done.trimmed = Some(1);
        assert!(!done.is_true());
        done = EventsDone { published: 3, read: 2, ..EventsDone::default() };
        assert!(!done.is_true());
    }
}
