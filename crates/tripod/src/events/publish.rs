//! Adds events to a topic's stream; each call has its answer, or an error at once while Redis is away. For a queue that
//! waits out an absence see [`super::QueuedPublisher`].
//!
//! Constraints: the stream never exceeds its cap (exact `MAXLEN`, in the same command as the add); one call waits at
//! most one deadline per round trip; what a call holds in memory is bounded by what it was given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Cmd, Pipeline, cmd, pipe};
use serde::Serialize;

use super::entry::{FIRST, KEY, PAYLOAD, TIME, TYPE};
use super::keep::Keeper;
use super::{EventId, QueueOptions, QueuedPublisher, Topic};
use crate::config;
use crate::error::{Error, Result};
use crate::redis::{Label, Link, PUBLISH_ONCE};
use crate::value::Timestamp;

/// How long a key is remembered: a publish repeated within this does not become two events. Longer: about 150 bytes for
/// each keyed event of that time.
pub const KEY_LIFE: Duration = Duration::from_secs(600);

/// Most bytes of a key; a transaction's signature in base58 has 88.
pub const KEY_BYTES_MAX: usize = 128;

/// One round trip of [`Publisher::publish_many`] carries at most this many events and about this many bytes.
const BATCH_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// An event to be published.
#[derive(Debug, Clone)]
pub struct Draft {
    pub(super) kind: Label,
    pub(super) key: Option<String>,
    pub(super) payload: Arc<[u8]>,
}

impl Draft {
    /// An event of a kind, e.g. `fill` or, where its shape has changed once, `fill.2`; the payload becomes JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the kind is no label or the payload does not become JSON.
    pub fn new<T: Serialize>(kind: &str, payload: &T) -> Result<Self> {
        let kind = Label::new("event type", kind)?;
        let payload = serde_json::to_vec(payload)
            .map_err(|error| Error::invalid(format!("payload of a {kind}"), error.to_string()))?;
        Ok(Self { kind, key: None, payload: payload.into() })
    }

    /// Gives it a key: published again under it within [`KEY_LIFE`], also by another process, it is still one event.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the key is empty, longer than [`KEY_BYTES_MAX`], or not printable ASCII without spaces,
    /// or begins with `~`.
    pub fn with_key(mut self, key: &str) -> Result<Self> {
        if key.is_empty()
            || key.len() > KEY_BYTES_MAX
            || !key.bytes().all(|b| b.is_ascii_graphic())
            || key.starts_with('~')
        {
            let why =
                format!("wanted 1 to {KEY_BYTES_MAX} bytes of printable ASCII without spaces, not beginning with ~");
            return Err(Error::invalid("event key", why));
        }
        self.key = Some(key.to_owned());
        Ok(self)
    }
}

/// Publishes to one topic. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Publisher {
    link: Link,
    topic: Topic,
    settings: Arc<config::Events>,
    keeper: Arc<Keeper>,
}

impl Publisher {
    pub(super) fn new(link: Link, topic: Topic, settings: Arc<config::Events>, keeper: Arc<Keeper>) -> Self {
        Self { link, topic, settings, keeper }
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic.name.as_str()
    }

    /// Publishes one event without a key: [`Publisher::publish_draft`] of [`Draft::new`].
    ///
    /// # Errors
    /// As those two.
    pub async fn publish<T: Serialize + Sync>(&self, kind: &str, payload: &T) -> Result<EventId> {
        self.publish_draft(&Draft::new(kind, payload)?).await
    }

    /// Publishes one event. When it returns Ok, the event is in the stream under that id. On [`Error::Deadline`] and
    /// [`Error::Unreachable`] it may be there or not: with a key, the call can be repeated.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the payload is larger than `events.payload_bytes_max`, and then nothing was published;
    /// otherwise as every call of [`Link`].
    pub async fn publish_draft(&self, draft: &Draft) -> Result<EventId> {
        self.check_size(draft)?;
        let (began, now) = (Instant::now(), Timestamp::now());
        let command = command(&self.topic, self.settings.cap, draft, now, None);
        let id: String = match draft.key {
            Some(_) => self.link.script("publish", &PUBLISH_ONCE, &command).await?,
            None => self.link.query("publish", &command).await?,
        };
        let id = id.parse()?;
        self.keeper.keep(&self.topic, began, now, [(id, draft)]);
        Ok(id)
    }

    /// Publishes many, in order, with few round trips. When it returns Ok, all are in the stream, and the ids stand in
    /// the order of `drafts`. On an error those before it may be there: with keys, the call can be repeated as it is.
    ///
    /// # Errors
    /// As [`Publisher::publish_draft`]; where one payload is too large, none was published.
    pub async fn publish_many(&self, drafts: &[Draft]) -> Result<Vec<EventId>> {
        for draft in drafts {
            self.check_size(draft)?;
        }
        let mut ids = Vec::with_capacity(drafts.len());
        let mut rest = drafts;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(rest));
            let (began, now) = (Instant::now(), Timestamp::now());
            let commands = self.commands(batch, now);
            let answers: Vec<String> = self.link.pipeline("publish many", &commands).await?;
            let before = ids.len();
            for id in answers {
                ids.push(id.parse()?);
            }
            self.keeper.keep(&self.topic, began, now, ids[before..].iter().copied().zip(batch));
            rest = later;
        }
        Ok(ids)
    }

    /// A queue in memory before this publisher, with a task that empties it in order.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a limit is zero.
    pub fn queued(&self, options: QueueOptions) -> Result<QueuedPublisher> {
        QueuedPublisher::start(self.clone(), options)
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    fn commands(&self, batch: &[Draft], now: Timestamp) -> Pipeline {
        let mut commands = pipe();
        if batch.iter().any(|draft| draft.key.is_some()) {
            // A pipeline cannot load a script after the server said that it has none.
            commands.add_command(PUBLISH_ONCE.load()).ignore();
        }
        for draft in batch {
            commands.add_command(command(&self.topic, self.settings.cap, draft, now, None));
        }
        commands
    }

    pub(super) fn check_size(&self, draft: &Draft) -> Result<()> {
        let (bytes, limit) = (draft.payload.len(), self.settings.payload_bytes_max);
        if bytes > limit {
            return Err(Error::invalid(
                format!("payload of a {}", draft.kind),
                format!("has {bytes} bytes; events.payload_bytes_max is {limit}"),
            ));
        }
        Ok(())
    }
}

/// The command that publishes an event; `first`: again, where it had that id and the server that gave it is lost. Then it
/// is under a key in any case, its own or that id, so that it is one event however often this is repeated.
pub(super) fn command(topic: &Topic, cap: u64, draft: &Draft, time: Timestamp, first: Option<EventId>) -> Cmd {
    // A publisher's key is never `~` and an id: those are the library's own.
    let once = match (&draft.key, first) {
        (Some(key), _) => Some(format!("{}{key}", topic.once)),
        (None, Some(first)) => Some(format!("{}~{first}", topic.once)),
        (None, None) => None,
    };
    let mut command = match once {
        Some(once) => {
            let mut command = PUBLISH_ONCE.call(2);
            command.arg(&topic.stream).arg(once).arg(cap).arg(KEY_LIFE.as_secs() * 1000);
            command
        }
        None => {
            let mut command = cmd("XADD");
            command.arg(&topic.stream).arg("MAXLEN").arg("=").arg(cap).arg("*");
            command
        }
    };
    command.arg(TYPE).arg(draft.kind.as_str()).arg(TIME).arg(time.as_millis()).arg(PAYLOAD).arg(&*draft.payload);
    if let Some(key) = &draft.key {
        command.arg(KEY).arg(key);
    }
    if let Some(first) = first {
        command.arg(FIRST).arg(first.to_string());
    }
    command
}

/// How many of the first drafts go into one round trip; at least one.
fn batch_len(drafts: &[Draft]) -> usize {
    let mut bytes = 0_usize;
    let within = drafts.iter().take(BATCH_MAX).take_while(|draft| {
        bytes = bytes.saturating_add(draft.payload.len());
        bytes <= BATCH_BYTES_MAX
    });
    within.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_bounded_in_events_and_in_bytes() {
        let small = Draft::new("x", &1).unwrap();
        assert_eq!(batch_len(&vec![small.clone(); 10]), 10);
        assert_eq!(batch_len(&vec![small; 2 * BATCH_MAX]), BATCH_MAX);
        let large = Draft::new("x", &"y".repeat(BATCH_BYTES_MAX / 4)).unwrap();
        assert_eq!(batch_len(&vec![large; 10]), 3);
        let huge = Draft::new("x", &"y".repeat(2 * BATCH_BYTES_MAX)).unwrap();
        assert_eq!(batch_len(&vec![huge; 3]), 1);
    }

    #[test]
    fn a_key_is_printable_and_bounded() {
        let draft = || Draft::new("x", &1).unwrap();
        assert!(draft().with_key(&"5".repeat(88)).is_ok());
        for key in ["", "a b", "a\n", "ä", &"k".repeat(129), "~1-1"] {
            assert!(draft().with_key(key).is_err(), "{key:?} was taken");
        }
        assert!(Draft::new("a b", &1).is_err());
    }
}
