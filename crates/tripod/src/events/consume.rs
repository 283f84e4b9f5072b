//! Reads a topic as one of a group. How handlers are run stands in `run`.
//!
//! Constraints: an event is acknowledged only after its handler succeeded; what a dead consumer left is claimed by a live
//! one; a group that vanished (a flush, a failover, a person) is made again where this consumer stood, and nothing here
//! loops without a pause. Delivery is at least once.
//!
//! Picture:
//! ```text
//!            ┌ claims due? ── XAUTOCLAIM: pending longer than claim_after, of anybody ──┐
//! next() ────┤                                                                          ├──▶ batch ──▶ handler ──▶ ack()
//!            └ else ── XREADGROUP > and XGROUP SETID, one script; the group's place is in ┘
//!                      the append-only file; none there: XREAD BLOCK until one is, on a
//!                      connection of its own, and the script once more
//! ```
//! A `next()` that is dropped half-way costs nothing but time: the connection is closed, and what the server had
//! delivered to it is pending and claimed later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Value, cmd};

use super::entry::{Entry, parse_entry};
use super::wait::Waiter;
use super::{Event, EventId, Topic};
use crate::config;
use crate::error::{Error, Result};
use crate::redis::{
    DEAD_LETTER, GROUP_CLAIM, GROUP_CREATE, GROUP_LEAVE, GROUP_READ, GROUP_RENEW, Label, Link, code_of,
};
use crate::value::{Timestamp, Uuid};

/// Ids that one claim looks at; more would hold up the server (100: 0.3 ms).
const CLAIM_PAGE: usize = 100;

/// Characters of a dead letter's reason at most.
const REASON_CHARS_MAX: usize = 500;

/// Ids remembered as not acknowledged, for the place where a vanished group begins again. Beyond it the oldest are
/// forgotten; a stream at its default cap does not hold more either.
const OUTSTANDING_MAX: usize = 10_000;

/// Where a group begins that does not exist yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event that the stream still holds.
    #[default]
    Oldest,
    /// With the next event that is published.
    Newest,
}

/// How a consumer reads.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// Its name in the group; by default one that nobody else has. Two consumers must never share one.
    pub name: Option<String>,
    /// Where the group begins if this consumer makes it.
    pub start: Start,
    /// Events in a batch at most. Larger: fewer round trips. Smaller: less to do again after a crash.
    pub batch: usize,
    /// How long the server may wait for an event. Longer: fewer empty answers. Shorter: a claim is due sooner.
    pub block: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self { name: None, start: Start::default(), batch: 100, block: Duration::from_secs(1) }
    }
}

/// What a consumer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerCounts {
    /// Events given out, claimed ones included.
    pub delivered: u64,
    /// Of those: claimed from a consumer that did not acknowledge them.
    pub claimed: u64,
    /// Events acknowledged.
    pub acknowledged: u64,
    /// Handlers that failed, panicked or did not finish in time; their events come again, up to `tries_max` deliveries.
    pub failed: u64,
    /// Events put into the dead letters by this consumer.
    pub dead: u64,
    /// Events of this consumer that another one claimed meanwhile: it was slow, or the link was away.
    pub taken_over: u64,
    /// Events that the cap trimmed before the group could read them, as far as this consumer was the one to be told; over
    /// all consumers of the group each is told once.
    pub trimmed_unread: u64,
    /// Pending ids whose entries the cap had trimmed; collected by this consumer.
    pub trimmed_pending: u64,
    /// Times the group had vanished and was made again.
    pub groups_made_again: u64,
}

/// One of a group. Not `Clone`: the server tells consumers apart by name.
pub struct Consumer {
    link: Link,
    pub(super) topic: Topic,
    pub(super) group: Label,
    name: Label,
    pub(super) options: ConsumerOptions,
    pub(super) settings: Arc<config::Events>,
    waiter: Waiter,
    claim_cursor: String,
    claim_due: Instant,
    /// The newest id given out, or where the group stood at the start.
    newest: EventId,
    outstanding: BTreeSet<EventId>,
    pub(super) counts: ConsumerCounts,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("topic", &self.topic.name)
            .field("group", &self.group)
            .field("name", &self.name)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    pub(super) async fn open(
        link: Link,
        topic: Topic,
        group: Label,
        settings: Arc<config::Events>,
        options: ConsumerOptions,
    ) -> Result<Self> {
        if options.batch == 0 {
            return Err(Error::invalid("consumer batch", "is 0; wanted 1 or more"));
        }
        let name = match &options.name {
            Some(name) => Label::new("consumer", name)?,
            None => Label::new("consumer", &format!("{}-{}", std::process::id(), Uuid::new_v4().simple()))?,
        };
        let start = match options.start {
            Start::Oldest => "0".to_owned(),
            Start::Newest => "$".to_owned(),
        };
        let mut consumer = Self {
            link,
            topic,
            group,
            name,
            waiter: Waiter::new(options.block),
            options,
            settings,
            claim_cursor: "0-0".to_owned(),
            claim_due: Instant::now(),
            newest: EventId::default(),
            outstanding: BTreeSet::new(),
            counts: ConsumerCounts::default(),
        };
        consumer.make_group(&start).await?;
        consumer.newest = consumer.group_position().await?;
        Ok(consumer)
    }

    /// Its name in the group.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> ConsumerCounts {
        self.counts
    }

    /// The next events; none where none came within the block time. They stay pending until [`Consumer::ack`].
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Deadline`] and [`Error::Busy`] pass by themselves: call again after a pause.
    /// [`Error::Refused`] does not.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        let result = self.claim_or_read().await;
        match result {
            Err(error) if code_of(&error) == Some("NOGROUP") => {
                self.make_group_again().await?;
                Ok(Vec::new())
            }
            other => other,
        }
    }

    /// Acknowledges events: the group will not see them again. When it returns Ok, the server has noted it.
    ///
    /// # Errors
    /// As every call of [`Link`]; the call can be repeated.
    pub async fn ack(&mut self, ids: &[EventId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.counts.acknowledged += self.acknowledge(ids).await?;
        Ok(())
    }

    async fn acknowledge(&mut self, ids: &[EventId]) -> Result<u64> {
        let mut command = cmd("XACK");
        command.arg(&self.topic.stream).arg(self.group.as_str());
        for id in ids {
            command.arg(id.to_string());
        }
        let acknowledged: u64 = self.link.query("acknowledge", &command).await?;
        for id in ids {
            self.outstanding.remove(id);
        }
        Ok(acknowledged)
    }

    /// Leaves the group. With something pending its name stays, and a live consumer claims what is pending.
    ///
    /// # Errors
    /// As every call of [`Link`].
    pub async fn close(self) -> Result<()> {
        let mut command = GROUP_LEAVE.call(1);
        command.arg(&self.topic.stream).arg(self.group.as_str()).arg(self.name.as_str());
        match self.link.script::<u64>("leave group", &GROUP_LEAVE, &command).await {
            Err(error) if code_of(&error) == Some("NOGROUP") => Ok(()),
            other => other.map(drop),
        }
    }

    async fn claim_or_read(&mut self) -> Result<Vec<Event>> {
        if Instant::now() >= self.claim_due {
            let claimed = self.claim().await?;
            if !claimed.is_empty() {
                return Ok(claimed);
            }
        }
        self.read().await
    }

    /// What is there; where nothing is, waits until something is or the block time is over. A read that blocks cannot be
    /// part of a script, and outside of one the group's read counter does not survive a restart of the server.
    async fn read(&mut self) -> Result<Vec<Event>> {
        let (position, events) = self.read_now().await?;
        if !events.is_empty() || !self.waiter.await_event(&self.link, &self.topic.stream, &position).await? {
            return Ok(events);
        }
        // Another one of the group may have been faster; then this is empty too.
        Ok(self.read_now().await?.1)
    }

    /// Where the group stood, and what comes after.
    async fn read_now(&mut self) -> Result<(String, Vec<Event>)> {
        let mut command = GROUP_READ.call(2);
        command.arg(&self.topic.stream).arg(&self.topic.trimmed);
        command.arg(self.group.as_str()).arg(self.name.as_str()).arg(self.options.batch);
        let (position, entries, missed): (String, Vec<Value>, u64) =
            self.link.script("read events", &GROUP_READ, &command).await?;
        if missed > 0 {
            self.counts.trimmed_unread += missed;
            tracing::error!(
                topic = %self.topic.name, group = %self.group, missed,
                "the cap trimmed events before this group could read them"
            );
        }
        let tries = vec![1; entries.len()];
        let events = self.take_in(entries, &tries).await?;
        Ok((position, events))
    }

    /// Claims one page; the next one is due at once as long as there is more.
    async fn claim(&mut self) -> Result<Vec<Event>> {
        let mut command = GROUP_CLAIM.call(3);
        command.arg(&self.topic.stream).arg(&self.topic.trimmed).arg(&self.topic.dead);
        command.arg(self.group.as_str()).arg(self.name.as_str());
        command.arg(self.settings.claim_after_ms);
        command.arg(&self.claim_cursor).arg(CLAIM_PAGE.min(self.options.batch));
        command.arg(self.settings.tries_max).arg(self.settings.dead_cap).arg(Timestamp::now().as_millis());
        let (cursor, entries, tries, trimmed, dead): (String, Vec<Value>, Vec<u64>, u64, u64) =
            self.link.script("claim", &GROUP_CLAIM, &command).await?;
        self.claim_due = match cursor.as_str() {
            "0-0" => Instant::now() + self.claim_pause(),
            _ => Instant::now(),
        };
        self.claim_cursor = cursor;
        if dead > 0 {
            self.counts.dead += dead;
            tracing::error!(topic = %self.topic.name, group = %self.group, dead, "events were put into the dead letters");
        }
        if trimmed > 0 {
            self.counts.trimmed_pending += trimmed;
            tracing::error!(
                topic = %self.topic.name, group = %self.group, trimmed,
                "events were delivered, not acknowledged, and trimmed by the cap: nobody will handle them"
            );
        }
        self.take_in(entries, &tries).await
    }

    /// Half of the time after which something may be claimed: it then waits at most one and a half times as long.
    fn claim_pause(&self) -> Duration {
        (self.claim_after() / 2).clamp(Duration::from_millis(50), Duration::from_secs(10))
    }

    pub(super) fn claim_after(&self) -> Duration {
        Duration::from_millis(self.settings.claim_after_ms)
    }

    async fn take_in(&mut self, entries: Vec<Value>, tries: &[u64]) -> Result<Vec<Event>> {
        let (mut events, mut for_others) = (Vec::with_capacity(entries.len()), Vec::new());
        for (entry, tries) in entries.into_iter().zip(tries) {
            // A trimmed one has no content here and leaves the pending list through the claim, which counts it.
            let Some(Entry::Event(event)) = parse_entry(entry, *tries > 1) else { continue };
            self.newest = self.newest.max(event.id);
            if event.group.as_deref().is_some_and(|group| group != self.group.as_str()) {
                for_others.push(event.id);
            } else {
                self.outstanding.insert(event.id);
                events.push(Event { tries: *tries, ..event });
            }
        }
        while self.outstanding.len() > OUTSTANDING_MAX {
            self.outstanding.pop_first();
        }
        let count = |events: &mut dyn Iterator<Item = &Event>| events.fold(0_u64, |n, _| n + 1);
        self.counts.delivered += count(&mut events.iter());
        self.counts.claimed += count(&mut events.iter().filter(|event| event.claimed));
        if !for_others.is_empty() {
            // Where this fails they come again and are passed over again.
            let _ = self.acknowledge(&for_others).await;
        }
        Ok(events)
    }

    /// Says that these are still being worked at; gives those that are still this consumer's.
    pub(super) async fn renew(&mut self, ids: &[EventId]) -> Result<BTreeSet<EventId>> {
        let mut command = GROUP_RENEW.call(1);
        command.arg(&self.topic.stream).arg(self.group.as_str()).arg(self.name.as_str());
        for id in ids {
            command.arg(id.to_string());
        }
        let kept: Vec<String> = self.link.script("renew", &GROUP_RENEW, &command).await?;
        kept.iter().map(|id| id.parse()).collect()
    }

    /// Puts an event of this consumer into the dead letters, with the reason; the group is done with it. When it returns
    /// Ok, it is there, or it was not this consumer's any more, or the cap had trimmed it (counted).
    ///
    /// # Errors
    /// As every call of [`Link`]; the call can be repeated.
    pub async fn bury(&mut self, id: EventId, reason: &str) -> Result<()> {
        let reason: String =
            reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect();
        let mut command = DEAD_LETTER.call(3);
        command.arg(&self.topic.stream).arg(&self.topic.trimmed).arg(&self.topic.dead);
        command.arg(self.group.as_str()).arg(self.name.as_str()).arg(id.to_string()).arg(&reason);
        command.arg(self.settings.dead_cap).arg(Timestamp::now().as_millis());
        let done: i64 = self.link.script("dead letter", &DEAD_LETTER, &command).await?;
        self.outstanding.remove(&id);
        match done {
            1 => {
                self.counts.dead += 1;
                tracing::error!(topic = %self.topic.name, group = %self.group, %id, reason, "put into the dead letters");
            }
            -1 => self.counts.trimmed_pending += 1,
            _ => {}
        }
        Ok(())
    }

    /// Where a vanished group begins again: before the first event that this consumer has not acknowledged.
    fn resume_at(&self) -> EventId {
        match self.outstanding.first() {
            Some(first) => before(*first).min(self.newest),
            None => self.newest,
        }
    }

    async fn make_group_again(&mut self) -> Result<()> {
        let at = self.resume_at();
        tracing::warn!(topic = %self.topic.name, group = %self.group, %at, "the group had vanished; making it again");
        self.counts.groups_made_again += 1;
        self.make_group(&at.to_string()).await?;
        // Somebody who keeps destroying the group must not make this a busy loop.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }

    async fn make_group(&self, start: &str) -> Result<()> {
        let mut command = GROUP_CREATE.call(2);
        command.arg(&self.topic.stream).arg(&self.topic.trimmed).arg(self.group.as_str()).arg(start);
        self.link.script::<u64>("make group", &GROUP_CREATE, &command).await.map(drop)
    }

    /// The last id that the group was given.
    async fn group_position(&self) -> Result<EventId> {
        let command = {
            let mut command = cmd("XINFO");
            command.arg("GROUPS").arg(&self.topic.stream);
            command
        };
        let groups: Vec<std::collections::HashMap<String, Value>> = self.link.query("group position", &command).await?;
        let text = |value: &Value| ::redis::from_redis_value_ref::<String>(value).ok();
        let mine = groups.iter().find(|g| g.get("name").and_then(text).as_deref() == Some(self.group.as_str()));
        match mine.and_then(|group| group.get("last-delivered-id")).and_then(text) {
            Some(id) => id.parse(),
            None => Ok(EventId::default()),
        }
    }
}

/// The greatest id below `id`.
fn before(id: EventId) -> EventId {
    match (id.millis, id.sequence) {
        (0, 0) => id,
        (millis, 0) => EventId { millis: millis - 1, sequence: u64::MAX },
        (millis, sequence) => EventId { millis, sequence: sequence - 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_before_is_the_greatest_below() {
        let id = |text: &str| text.parse::<EventId>().unwrap();
        assert_eq!(before(id("5-3")), id("5-2"));
        assert_eq!(before(id("5-0")), id("4-18446744073709551615"));
        assert_eq!(before(id("0-0")), id("0-0"));
    }
}
