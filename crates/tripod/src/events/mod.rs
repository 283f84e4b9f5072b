//! Event streams with a cap that holds, groups that lose nothing silently, and counts of what the cap took.
//!
//! Constraints: a stream never holds more than its cap, at any rate. An event acknowledged by [`Publisher::publish`] is
//! in the stream. Delivery to a group is at least once: a handler that writes its effect under the event's key or id has
//! it exactly once. What a group did not get because the cap trimmed it first is counted.
//!
//! Picture (a prefix, where one is set, stands before each):
//! ```text
//! events:TOPIC                  the stream; fields: type, time (unix ms), payload, and where there is one: key,
//!                               first (its first id), group (the one it is for)
//! once:{events:TOPIC}:KEY       the id that a keyed event got                      PX 10 minutes
//! trimmed:{events:TOPIC}        per group: trimmed after delivery, before the acknowledgement
//! dead:{events:TOPIC}           dead letters: the event's fields, and dead.id, .group, .tries, .time, .reason
//! ```
//! ```text
//! Publisher ── XADD MAXLEN = cap ──▶ stream ──▶ group ──▶ Consumer ── handler ok ──▶ XACK
//!     │                                │             ▲        └ failed tries_max times ──▶ dead letters ──▶ redrive
//!     └ kept 30 s: put back where a    └▶ Follower   └ pending of a dead consumer, claimed after claim_after_ms
//!       lost primary had it alone
//! ```
//! Operation: [`Events::publisher`] writes; [`Events::consumer`] reads as one of a group, [`Events::follower`] without one;
//! [`Events::info`] tells how far each group is; [`Events::dead`] lists what was given up.

mod consume;
mod dead;
mod entry;
mod follow;
#[cfg(fuzzing)]
pub mod fuzzing;
mod inspect;
mod keep;
mod publish;
mod queue;
mod run;
mod wait;

use std::sync::Arc;

use keep::Keeper;

use crate::config::{self, Config};
use crate::error::{Result, Server};
use crate::redis::{Label, Link, check_prefix};

pub use consume::{Consumer, ConsumerCounts, ConsumerOptions, Start};
pub use dead::DeadLetter;
pub use entry::{Event, EventId};
pub use follow::{Follow, Followed, Follower, Missed};
pub use inspect::{ConsumerInfo, EventInfo, GroupInfo, PendingInfo};
pub use keep::KeptCounts;
pub use publish::{Draft, KEY_BYTES_MAX, KEY_LIFE, Publisher};
pub use queue::{QueueCounts, QueueOptions, QueuedPublisher, WhenFull};

/// The handle. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Events {
    link: Link,
    settings: Arc<config::Events>,
    keeper: Arc<Keeper>,
}

impl Events {
    /// Connects to `[redis.events]` as the bot's user. The link reconnects by itself from then on.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a wrong address or prefix, [`crate::Error::Refused`] for a wrong login,
    /// [`crate::Error::Unreachable`] or [`crate::Error::Deadline`] where nobody answers.
    pub async fn connect(config: &Config) -> Result<Self> {
        Self::over(Link::connect(&config.redis.events, Server::RedisEvents).await?, config)
    }

    /// Uses a link that is there already, e.g. the admin's for `status`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a wrong prefix.
    pub fn over(link: Link, config: &Config) -> Result<Self> {
        check_prefix("events.key_prefix", &config.events.key_prefix)?;
        let settings = Arc::new(config.events.clone());
        let keeper = Arc::new(Keeper::start(&link, Arc::clone(&settings)));
        Ok(Self { link, settings, keeper })
    }

    /// The connection, for `ping` and `status`.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// A publisher of one topic.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] where the topic is no label.
    pub fn publisher(&self, topic: &str) -> Result<Publisher> {
        Ok(Publisher::new(self.link.clone(), self.topic(topic)?, Arc::clone(&self.settings), Arc::clone(&self.keeper)))
    }

    /// A consumer of one topic as one of a group; makes the group (and an empty stream) where it is not there yet.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] where a name is no label; otherwise as [`Events::connect`].
    pub async fn consumer(&self, topic: &str, group: &str, options: ConsumerOptions) -> Result<Consumer> {
        let settings = Arc::clone(&self.settings);
        Consumer::open(self.link.clone(), self.topic(topic)?, Label::new("group", group)?, settings, options).await
    }

    /// A reader without a group: it sees every event, or every one from a place on, and notes nothing on the server.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] where the topic is no label; otherwise as every call of [`Link`].
    pub async fn follower(&self, topic: &str, from: Follow) -> Result<Follower> {
        Follower::open(self.link.clone(), self.topic(topic)?, from).await
    }

    /// The newest events of a topic, oldest of them first, `limit` at most; no group is told of it.
    ///
    /// # Errors
    /// As every call of [`Link`].
    pub async fn newest(&self, topic: &str, limit: usize) -> Result<Vec<Event>> {
        inspect::newest(&self.link, &self.topic(topic)?, limit).await
    }

    /// The dead letters of a topic, oldest first, `limit` at most.
    ///
    /// # Errors
    /// As every call of [`Link`].
    pub async fn dead(&self, topic: &str, limit: usize) -> Result<Vec<DeadLetter>> {
        dead::list(&self.link, &self.topic(topic)?, limit).await
    }

    /// Publishes a dead letter again, for the group that it died in, and takes it out of the dead letters: one step.
    /// `None` where it is not there any more.
    ///
    /// # Errors
    /// As every call of [`Link`].
    pub async fn redrive(&self, topic: &str, dead: EventId) -> Result<Option<EventId>> {
        dead::redrive(&self.link, &self.topic(topic)?, self.settings.cap, dead).await
    }

    /// Throws dead letters away; how many were there.
    ///
    /// # Errors
    /// As every call of [`Link`].
    pub async fn drop_dead(&self, topic: &str, dead: &[EventId]) -> Result<u64> {
        dead::drop_them(&self.link, &self.topic(topic)?, dead).await
    }

    /// What is pending in a group, oldest first, `limit` at most.
    ///
    /// # Errors
    /// As every call of [`Link`]; [`crate::Error::Refused`] where there is no such group.
    pub async fn pending(&self, topic: &str, group: &str, limit: usize) -> Result<Vec<PendingInfo>> {
        inspect::pending(&self.link, &self.topic(topic)?, &Label::new("group", group)?, limit).await
    }

    /// The consumers of a group.
    ///
    /// # Errors
    /// As [`Events::pending`].
    pub async fn consumers(&self, topic: &str, group: &str) -> Result<Vec<ConsumerInfo>> {
        inspect::consumers(&self.link, &self.topic(topic)?, &Label::new("group", group)?).await
    }

    /// What became of the events that this handle's publishers had acknowledged, after reconnects.
    #[must_use]
    pub fn kept(&self) -> KeptCounts {
        self.keeper.counts()
    }

    /// How long a topic's stream is, and how far each of its groups. `None` where there is no such stream.
    ///
    /// # Errors
    /// As every call of [`Link`].
    pub async fn info(&self, topic: &str) -> Result<Option<EventInfo>> {
        inspect::info(&self.link, &self.topic(topic)?, self.settings.cap).await
    }

    /// The topics that have a stream, in order. Needs a user that may `SCAN`.
    ///
    /// # Errors
    /// As every call of [`Link`].
    pub async fn topics(&self) -> Result<Vec<String>> {
        inspect::topics(&self.link, &self.settings.key_prefix).await
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        Ok(Topic::new(&self.settings.key_prefix, Label::new("topic", name)?))
    }
}

/// A topic and its keys, all in one Cluster slot.
#[derive(Debug, Clone)]
struct Topic {
    name: Label,
    stream: String,
    /// Hash: group to entries trimmed while pending; `unread:GROUP` to those trimmed unread that a consumer was told of.
    trimmed: String,
    once: String,
    /// Stream of dead letters.
    dead: String,
}

impl Topic {
    fn new(prefix: &str, name: Label) -> Self {
        let stream = format!("{prefix}events:{name}");
        let trimmed = format!("{prefix}trimmed:{{{stream}}}");
        let once = format!("{prefix}once:{{{stream}}}:");
        let dead = format!("{prefix}dead:{{{stream}}}");
        Self { name, stream, trimmed, once, dead }
    }
}
