//! Event streams with a cap that holds, groups that lose nothing silently, and counts of what the cap took.
//!
//! Constraints: a stream never holds more than its cap, at any rate. An event acknowledged by [`Publisher::publish`] is
//! in the stream. Delivery to a group is at least once: a handler that writes its effect under the event's key or id has
//! it exactly once. What a group did not get because the cap trimmed it first is counted.
//!
//! Picture (a prefix, where one is set, stands before each):
//! ```text
//! events:TOPIC                  the stream; fields: type, time (unix ms), payload
//! once:{events:TOPIC}:KEY       the id that a keyed event got                      PX 10 minutes
//! trimmed:{events:TOPIC}        per group: trimmed after delivery, before the acknowledgement
//! ```
//! ```text
//! Publisher ── XADD MAXLEN = cap ──▶ stream ──▶ group ──▶ Consumer ── handler ok ──▶ XACK
//!                                                  ▲ pending of a dead consumer, claimed after claim_after_ms
//! ```
//! Operation: [`Events::publisher`] writes; [`Events::consumer`] reads as one of a group; [`Events::info`] tells how far
//! each group is.

mod consume;
mod entry;
mod inspect;
mod publish;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Config};
use crate::error::{Result, Server};
use crate::redis::{Label, Link, check_prefix};

pub use consume::{Consumer, ConsumerCounts, ConsumerOptions, Start};
pub use entry::{Event, EventId};
pub use inspect::{EventInfo, GroupInfo};
pub use publish::{Draft, KEY_BYTES_MAX, KEY_LIFE, Publisher};

/// The handle. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Events {
    link: Link,
    settings: Arc<config::Events>,
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
        Ok(Self { link, settings: Arc::new(config.events.clone()) })
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
        Ok(Publisher::new(self.link.clone(), self.topic(topic)?, Arc::clone(&self.settings)))
    }

    /// A consumer of one topic as one of a group; makes the group (and an empty stream) where it is not there yet.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] where a name is no label; otherwise as [`Events::connect`].
    pub async fn consumer(&self, topic: &str, group: &str, options: ConsumerOptions) -> Result<Consumer> {
        let claim_after = Duration::from_millis(self.settings.claim_after_ms);
        Consumer::open(self.link.clone(), self.topic(topic)?, Label::new("group", group)?, claim_after, options).await
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
    /// Hash: group to entries trimmed while pending.
    trimmed: String,
    once: String,
}

impl Topic {
    fn new(prefix: &str, name: Label) -> Self {
        let stream = format!("{prefix}events:{name}");
        let trimmed = format!("{prefix}trimmed:{{{stream}}}");
        let once = format!("{prefix}once:{{{stream}}}:");
        Self { name, stream, trimmed, once }
    }
}
