//! Reads a topic as one of a group.
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
use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use ::redis::{Value, cmd};
use futures_util::future::poll_immediate;

use super::entry::{Entry, parse_entry};
use super::{Event, EventId, Topic};
use crate::error::{Advice, Error, Result};
use crate::redis::{Dedicated, GROUP_CLAIM, GROUP_CREATE, GROUP_LEAVE, GROUP_READ, Label, Link, backoff, code_of};
use crate::value::Uuid;

/// Ids that one claim looks at; more would hold up the server (100: 0.3 ms).
const CLAIM_PAGE: usize = 100;

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
    /// Events whose handler failed; they are delivered again later.
    pub failed: u64,
    /// Pending ids whose entries the cap had trimmed; collected by this consumer.
    pub trimmed_pending: u64,
    /// Times the group had vanished and was made again.
    pub groups_made_again: u64,
}

/// One of a group. Not `Clone`: the server tells consumers apart by name.
pub struct Consumer {
    link: Link,
    topic: Topic,
    group: Label,
    name: Label,
    options: ConsumerOptions,
    claim_after: Duration,
    connection: Option<Dedicated>,
    claim_cursor: String,
    claim_due: Instant,
    /// The newest id given out, or where the group stood at the start.
    newest: EventId,
    outstanding: BTreeSet<EventId>,
    counts: ConsumerCounts,
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
        claim_after: Duration,
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
            options,
            claim_after,
            connection: None,
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
        let mut command = cmd("XACK");
        command.arg(&self.topic.stream).arg(self.group.as_str());
        for id in ids {
            command.arg(id.to_string());
        }
        let acknowledged: u64 = self.link.query("acknowledge", &command).await?;
        self.counts.acknowledged += acknowledged;
        for id in ids {
            self.outstanding.remove(id);
        }
        Ok(())
    }

    /// Gives each event to `handler` and acknowledges those it succeeds with, until `until` is done; the event in hand is
    /// finished first. An event whose handler fails is delivered again after `claim_after`, to this consumer or another.
    /// Trouble with the server is logged and waited out.
    ///
    /// # Errors
    /// What no waiting mends: [`Error::Refused`] and the like.
    pub async fn run<H, F, E>(&mut self, mut handler: H, until: impl Future<Output = ()> + Send) -> Result<()>
    where
        H: FnMut(Event) -> F + Send,
        F: Future<Output = Result<(), E>> + Send,
        E: Display + Send,
    {
        let mut until = std::pin::pin!(until);
        let mut pauses = None;
        let mut done: Vec<EventId> = Vec::new();
        loop {
            // An acknowledgement that failed comes before anything new, or a crash would do all of it again. It is never
            // cut short: the server would have it and `counts` would not.
            let step = match self.ack(&done).await {
                Ok(()) => {
                    done.clear();
                    tokio::select! {
                        biased;
                        () = &mut until => break,
                        step = self.next() => step,
                    }
                }
                Err(error) => Err(error),
            };
            let events = match step {
                Ok(events) => {
                    pauses = None;
                    events
                }
                Err(error) if error.advice() == Advice::Fix => return Err(error),
                Err(error) => {
                    tracing::warn!(topic = %self.topic.name, group = %self.group, %error, "reading events; trying again");
                    let pause = pauses.get_or_insert_with(|| Box::new(backoff())).next().unwrap_or(self.options.block);
                    tokio::select! {
                        biased;
                        () = &mut until => break,
                        () = tokio::time::sleep(pause) => continue,
                    }
                }
            };
            for event in events {
                let id = event.id;
                match handler(event).await {
                    Ok(()) => done.push(id),
                    Err(error) => {
                        self.counts.failed += 1;
                        tracing::warn!(topic = %self.topic.name, group = %self.group, %id, %error, "event not handled");
                    }
                }
                if poll_immediate(&mut until).await.is_some() {
                    return self.ack(&done).await;
                }
            }
        }
        self.ack(&done).await
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
        if !events.is_empty() || !self.await_event(&position).await? {
            return Ok(events);
        }
        // Another one of the group may have been faster; then this is empty too.
        Ok(self.read_now().await?.1)
    }

    /// Where the group stood, and what comes after.
    async fn read_now(&mut self) -> Result<(String, Vec<Event>)> {
        let mut command = GROUP_READ.call(1);
        command.arg(&self.topic.stream).arg(self.group.as_str()).arg(self.name.as_str()).arg(self.options.batch);
        let (position, entries): (String, Vec<Value>) = self.link.script("read events", &GROUP_READ, &command).await?;
        let events = self.take_in(entries, false);
        if let Some(last) = events.last() {
            self.newest = self.newest.max(last.id);
        }
        Ok((position, events))
    }

    /// Whether the stream got an entry after `position` within the block time.
    async fn await_event(&mut self, position: &str) -> Result<bool> {
        if self.connection.as_ref().is_none_or(Dedicated::is_broken) {
            self.connection = None;
            self.connection = Some(self.link.dedicated().await?);
        }
        let Some(connection) = &mut self.connection else {
            return Ok(false);
        };
        // 0 would mean to wait for ever.
        let block_ms = u64::try_from(self.options.block.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(1).arg("BLOCK").arg(block_ms);
        command.arg("STREAMS").arg(&self.topic.stream).arg(position);
        let answer: Value = connection.query("await events", &command, self.options.block).await?;
        Ok(answer != Value::Nil)
    }

    /// Claims one page; the next one is due at once as long as there is more.
    async fn claim(&mut self) -> Result<Vec<Event>> {
        let mut command = GROUP_CLAIM.call(2);
        command.arg(&self.topic.stream).arg(&self.topic.trimmed);
        command.arg(self.group.as_str()).arg(self.name.as_str());
        command.arg(u64::try_from(self.claim_after.as_millis()).unwrap_or(u64::MAX));
        command.arg(&self.claim_cursor).arg(CLAIM_PAGE.min(self.options.batch));
        let (cursor, entries, gone): (String, Vec<Value>, Vec<String>) =
            self.link.script("claim", &GROUP_CLAIM, &command).await?;
        self.claim_due = match cursor.as_str() {
            "0-0" => Instant::now() + self.claim_pause(),
            _ => Instant::now(),
        };
        self.claim_cursor = cursor;
        if !gone.is_empty() {
            let trimmed = gone.iter().fold(0_u64, |n, _| n + 1);
            self.counts.trimmed_pending += trimmed;
            tracing::error!(
                topic = %self.topic.name, group = %self.group, trimmed,
                "events were delivered, not acknowledged, and trimmed by the cap: nobody will handle them"
            );
        }
        Ok(self.take_in(entries, true))
    }

    /// Half of the time after which something may be claimed: it then waits at most one and a half times as long.
    fn claim_pause(&self) -> Duration {
        (self.claim_after / 2).clamp(Duration::from_millis(50), Duration::from_secs(10))
    }

    fn take_in(&mut self, entries: Vec<Value>, claimed: bool) -> Vec<Event> {
        let mut events = Vec::with_capacity(entries.len());
        for entry in entries {
            // A trimmed one has no content here and leaves the pending list through the claim, which counts it.
            if let Some(Entry::Event(event)) = parse_entry(entry, claimed) {
                self.outstanding.insert(event.id);
                events.push(event);
            }
        }
        while self.outstanding.len() > OUTSTANDING_MAX {
            self.outstanding.pop_first();
        }
        let count = events.iter().fold(0_u64, |n, _| n + 1);
        self.counts.delivered += count;
        self.counts.claimed += if claimed { count } else { 0 };
        events
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
        let mut command = GROUP_CREATE.call(1);
        command.arg(&self.topic.stream).arg(self.group.as_str()).arg(start);
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
