//! Reads a topic without a group: for those who want every event, or only what comes from now on.
//!
//! Constraints: nothing is noted on the server, so nothing is pending and nothing is claimed: the reader's place is its own
//! to keep. Where the cap has passed it, it is told so, with the number where that can be known.
//!
//! Operation: a stream counts all entries it ever had. The reader knows the number of the last one it read; where what it
//! reads next is the oldest that is left, the numbers in between are what it missed.

use std::time::Duration;

use ::redis::{Value, cmd};

use super::entry::{Entry, parse_entry};
use super::wait::Waiter;
use super::{Event, EventId, Topic};
use crate::error::Result;
use crate::redis::{FOLLOW_READ, Link};

/// Events read at once.
const BATCH: usize = 500;

/// Where a follower begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// With the next event that is published.
    Now,
    /// With the oldest one that the stream holds.
    Oldest,
    /// Behind an event that was seen before.
    After(EventId),
}

/// What the cap took before the follower could read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// This many events, exactly.
    Exactly(u64),
    /// Something, or nothing: the stream was made anew, an entry was deleted by hand, or the place to begin behind was gone
    /// before this follower was there.
    Unknown,
}

/// What one read gave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Followed {
    /// What is missing before `events`.
    pub missed: Missed,
    /// The events, in order; none where none came within the block time.
    pub events: Vec<Event>,
}

/// A reader without a group.
pub struct Follower {
    link: Link,
    topic: Topic,
    waiter: Waiter,
    place: EventId,
    /// The number of the entry at `place` among all that there ever were; none where it is not known.
    number: Option<u64>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("topic", &self.topic.name).field("place", &self.place).finish_non_exhaustive()
    }
}

/// The state of a stream beside a read.
#[derive(Debug, Clone, Copy)]
struct Facts {
    added: u64,
    length: u64,
    first: EventId,
    deleted_by_hand: bool,
}

impl Follower {
    pub(super) async fn open(link: Link, topic: Topic, from: Follow) -> Result<Self> {
        let waiter = Waiter::new(Duration::from_secs(1));
        let mut follower = Self { link, topic, waiter, place: EventId::default(), number: None };
        match from {
            // Everything is behind the first id there can be; what was trimmed before now is no loss of this reader's.
            Follow::Oldest => {
                let facts = follower.facts().await?;
                follower.number = facts.map_or(Some(0), |facts| facts.added.checked_sub(facts.length));
            }
            Follow::Now => {
                let mut question = cmd("XREVRANGE");
                question.arg(&follower.topic.stream).arg("+").arg("-").arg("COUNT").arg(1);
                let last: Vec<(String, Value)> = follower.link.query("newest event", &question).await?;
                if let Some((id, _)) = last.first() {
                    follower.place = id.parse()?;
                    follower.number = follower.number_of(follower.place).await?;
                } else {
                    follower.number = follower.facts().await?.map_or(Some(0), |facts| Some(facts.added));
                }
            }
            Follow::After(id) => {
                follower.place = id;
                follower.number = follower.number_of(id).await?;
            }
        }
        Ok(follower)
    }

    /// The id of the last event read: [`Follow::After`] goes on behind it, in another process too.
    #[must_use]
    pub fn place(&self) -> EventId {
        self.place
    }

    /// The next events, with what is missing before them; none where none came within a second. Cancel-safe.
    ///
    /// # Errors
    /// [`crate::Error::Unreachable`], [`crate::Error::Deadline`] and [`crate::Error::Busy`] pass by themselves: call again
    /// after a pause.
    pub async fn next(&mut self) -> Result<Followed> {
        let read = self.read().await?;
        if !read.events.is_empty() {
            return Ok(read);
        }
        let place = self.place.to_string();
        if self.waiter.await_event(&self.link, &self.topic.stream, &place).await? {
            return self.read().await;
        }
        Ok(read)
    }

    async fn read(&mut self) -> Result<Followed> {
        let (facts, entries) = self.ask(BATCH).await?;
        let mut events = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(Entry::Event(event)) = parse_entry(entry, false) {
                events.push(event);
            }
        }
        let (Some(facts), Some(first), Some(last)) = (facts, events.first(), events.last()) else {
            return Ok(Followed { missed: Missed::Exactly(0), events });
        };
        let count = events.iter().fold(0_u64, |n, _| n + 1);
        let (missed, number) = judge(facts, self.number, self.place, first.id, count);
        (self.place, self.number) = (last.id, number);
        if missed != Missed::Exactly(0) {
            tracing::error!(topic = %self.topic.name, ?missed, "the cap trimmed events before this follower could read them");
        }
        Ok(Followed { missed, events })
    }

    async fn ask(&self, count: usize) -> Result<(Option<Facts>, Vec<Value>)> {
        let mut command = FOLLOW_READ.call(1);
        command.arg(&self.topic.stream).arg(self.place.to_string()).arg(count);
        let answer: Option<(u64, u64, String, String, Vec<Value>)> =
            self.link.script("follow", &FOLLOW_READ, &command).await?;
        let Some((added, length, first, deleted, entries)) = answer else { return Ok((None, Vec::new())) };
        let deleted_by_hand = deleted.parse::<EventId>()? != EventId::default();
        Ok((Some(Facts { added, length, first: first.parse()?, deleted_by_hand }), entries))
    }

    async fn facts(&self) -> Result<Option<Facts>> {
        Ok(self.ask(1).await?.0)
    }

    /// The number of an entry that is there, or is right before the first; counted from the end, in pages.
    async fn number_of(&self, id: EventId) -> Result<Option<u64>> {
        let Some(facts) = self.facts().await? else { return Ok(None) };
        if facts.deleted_by_hand || id < facts.first {
            return Ok(None);
        }
        let behind = super::inspect::count_behind(&self.link, &self.topic, id).await?;
        // What was added since the facts were asked for is behind it too: the count tells, if nothing else did.
        let now = self.facts().await?;
        Ok(now.filter(|now| now.added == facts.added).and_then(|now| now.added.checked_sub(behind)))
    }
}

/// What is missing between the last number and a page of `count` entries that begins with `first`; the page's last number.
fn judge(facts: Facts, number: Option<u64>, place: EventId, first: EventId, count: u64) -> (Missed, Option<u64>) {
    let before_oldest = facts.added.checked_sub(facts.length);
    // The entry before the oldest: everything up to it is gone.
    let oldest = (!facts.deleted_by_hand).then_some(before_oldest).flatten();
    match (number, oldest) {
        // It begins in the middle: nothing is missing in between.
        (Some(number), _) if first != facts.first => (Missed::Exactly(0), Some(number + count)),
        (None, _) if first != facts.first => (Missed::Exactly(0), None),
        (Some(number), Some(oldest)) if oldest >= number => (Missed::Exactly(oldest - number), Some(oldest + count)),
        // It has read more than there ever was: the stream was made anew.
        (Some(_), Some(oldest)) => (Missed::Unknown, Some(oldest + count)),
        (None, Some(0)) if place == EventId::default() => (Missed::Exactly(0), Some(count)),
        (None, Some(oldest)) => (Missed::Unknown, Some(oldest + count)),
        (_, None) => (Missed::Unknown, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u64) -> EventId {
        EventId { millis, sequence: 0 }
    }

    fn facts(added: u64, length: u64) -> Facts {
        Facts { added, length, first: id(added - length + 1), deleted_by_hand: false }
    }

    #[test]
    fn what_is_between_the_last_read_and_the_oldest_left_was_missed() {
        // Read up to 5; 16..=25 are left: 6..=15 are gone.
        assert_eq!(judge(facts(25, 10), Some(5), id(5), id(16), 10), (Missed::Exactly(10), Some(25)));
        // Read up to 15: the next is the oldest, and nothing is missing.
        assert_eq!(judge(facts(25, 10), Some(15), id(15), id(16), 3), (Missed::Exactly(0), Some(18)));
        assert_eq!(judge(facts(25, 10), Some(20), id(20), id(21), 5), (Missed::Exactly(0), Some(25)));
        // Made anew: it has read more than there ever was.
        assert_eq!(judge(facts(3, 3), Some(20), id(0), id(1), 3), (Missed::Unknown, Some(3)));
        assert_eq!(judge(facts(25, 10), None, id(2), id(16), 10), (Missed::Unknown, Some(25)));
        let edited = Facts { deleted_by_hand: true, ..facts(25, 10) };
        assert_eq!(judge(edited, Some(5), id(5), id(16), 10), (Missed::Unknown, None));
    }
}
