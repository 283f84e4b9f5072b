//! How long a stream is and how far each of its groups.
//!
//! Constraints: exact or said to be unknown. Redis 7.0's own `lag` is not used: after the cap trimmed entries that a group
//! had not read, it is wrong for ever. Entries are counted in small pages, so that looking does not stall who works.
//!
//! Operation: with no entry deleted by hand, a stream holds the last `length` of all entries ever added, and
//! `entries-added - entries-read` of a group is what it has still to read plus what the cap took before it could. The
//! first part is counted, the rest is `trimmed_unread`.

use std::collections::HashMap;

use ::redis::{FromRedisValue, Value, cmd, from_redis_value_ref};
use serde::Serialize;

use super::entry::{Entry, parse_entry};
use super::{Event, EventId, Topic};
use crate::error::{Error, Result, Server};
use crate::redis::{Label, Link, code_of};

/// Entries in one page when a backlog or a pending list has to be counted.
const PAGE: usize = 250;

/// A topic's stream, as `tripod status --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EventInfo {
    /// The topic.
    pub topic: String,
    /// Entries in the stream.
    pub length: u64,
    /// Entries it holds at most.
    pub cap: u64,
    /// Its groups, by name.
    pub groups: Vec<GroupInfo>,
    /// Dead letters kept.
    pub dead: u64,
}

/// An event that a group was given and has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PendingInfo {
    /// Its id.
    pub id: String,
    /// The consumer that has it.
    pub consumer: String,
    /// Milliseconds since it was given to that one, or since that one said that it is still at work on it.
    pub idle_ms: u64,
    /// How often it was delivered.
    pub tries: u64,
}

/// One consumer of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// Events pending on it.
    pub pending: u64,
    /// Milliseconds since it was last heard of.
    pub idle_ms: u64,
}

/// How far a group is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The group.
    pub name: String,
    /// Entries in the stream that it has not been given yet, counted.
    pub lag: u64,
    /// Entries given to a consumer and not acknowledged.
    pub pending: u64,
    /// Entries that the cap trimmed before the group was given them; `None` where that cannot be known: an entry was
    /// deleted by hand, the group was made by other means, or a restart lost its read counter.
    pub trimmed_unread: Option<u64>,
    /// Entries that were given to a consumer, not acknowledged, and are trimmed: nobody can be given them again.
    pub trimmed_pending: u64,
}

pub(super) async fn info(link: &Link, topic: &Topic, cap: u64) -> Result<Option<EventInfo>> {
    // One step on the server: the counters of stream and groups belong together.
    let mut facts = ::redis::pipe();
    facts.atomic();
    facts.cmd("XINFO").arg("STREAM").arg(&topic.stream);
    facts.cmd("XINFO").arg("GROUPS").arg(&topic.stream);
    facts.cmd("HGETALL").arg(&topic.trimmed);
    facts.cmd("XLEN").arg(&topic.dead);
    let (stream, groups, trimmed, dead): (Value, Vec<Value>, HashMap<String, u64>, u64) =
        match link.pipeline("stream info", &facts).await {
            Ok(answers) => answers,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
    let stream = Stream::parse(&stream).ok_or_else(|| unexpected("XINFO STREAM"))?;
    let mut infos = Vec::with_capacity(groups.len());
    for group in &groups {
        let group = Group::parse(group).ok_or_else(|| unexpected("XINFO GROUPS"))?;
        let lag = match stream.lag_without_counting(group.last_delivered) {
            Some(lag) => lag,
            None => count_after(link, topic, group.last_delivered, stream.last).await?,
        };
        let uncollected = match stream.first {
            Some(first) if group.pending > 0 => count_pending_before(link, topic, &group.name, first).await?,
            Some(_) => 0,
            None => group.pending,
        };
        infos.push(GroupInfo {
            lag,
            pending: group.pending,
            trimmed_unread: stream.trimmed_unread(&group, lag),
            trimmed_pending: trimmed.get(&group.name).copied().unwrap_or(0) + uncollected,
            name: group.name,
        });
    }
    infos.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(EventInfo { topic: topic.name.to_string(), length: stream.length, cap, groups: infos, dead }))
}

pub(super) async fn newest(link: &Link, topic: &Topic, limit: usize) -> Result<Vec<Event>> {
    let mut command = cmd("XREVRANGE");
    command.arg(&topic.stream).arg("+").arg("-").arg("COUNT").arg(limit.max(1));
    let entries: Vec<Value> = link.query("newest events", &command).await?;
    let event = |entry| match parse_entry(entry, false) {
        Some(Entry::Event(event)) => Some(event),
        _ => None,
    };
    Ok(entries.into_iter().rev().filter_map(event).collect())
}

pub(super) async fn pending(link: &Link, topic: &Topic, group: &Label, limit: usize) -> Result<Vec<PendingInfo>> {
    let mut command = cmd("XPENDING");
    command.arg(&topic.stream).arg(group.as_str()).arg("-").arg("+").arg(limit.max(1));
    let rows: Vec<(String, String, u64, u64)> = link.query("list pending", &command).await?;
    let info = |(id, consumer, idle_ms, tries)| PendingInfo { id, consumer, idle_ms, tries };
    Ok(rows.into_iter().map(info).collect())
}

pub(super) async fn consumers(link: &Link, topic: &Topic, group: &Label) -> Result<Vec<ConsumerInfo>> {
    let mut command = cmd("XINFO");
    command.arg("CONSUMERS").arg(&topic.stream).arg(group.as_str());
    let rows: Vec<Value> = link.query("list consumers", &command).await?;
    let info = |row: &Value| {
        Some(ConsumerInfo { name: field(row, "name")?, pending: field(row, "pending")?, idle_ms: field(row, "idle")? })
    };
    rows.iter().map(|row| info(row).ok_or_else(|| unexpected("XINFO CONSUMERS"))).collect()
}

/// How long a stream is, and its first entry; none where it has none.
pub(super) async fn edge(link: &Link, topic: &Topic) -> Result<Option<(u64, EventId)>> {
    let mut command = cmd("XINFO");
    command.arg("STREAM").arg(&topic.stream);
    match link.query::<Value>("stream info", &command).await {
        Ok(stream) => {
            let stream = Stream::parse(&stream).ok_or_else(|| unexpected("XINFO STREAM"))?;
            Ok(stream.first.map(|first| (stream.length, first)))
        }
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Entries behind an id, up to now.
pub(super) async fn count_behind(link: &Link, topic: &Topic, after: EventId) -> Result<u64> {
    count_after(link, topic, after, EventId { millis: u64::MAX, sequence: u64::MAX }).await
}

pub(super) async fn topics(link: &Link, prefix: &str) -> Result<Vec<String>> {
    let start = format!("{prefix}events:");
    let mut topics = Vec::new();
    let mut cursor = 0_u64;
    loop {
        let mut command = cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(format!("{start}*")).arg("COUNT").arg(1000).arg("TYPE").arg("stream");
        let (next, keys): (u64, Vec<String>) = link.query("list topics", &command).await?;
        topics.extend(keys.iter().filter_map(|key| key.strip_prefix(&start)).map(str::to_owned));
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    topics.sort();
    topics.dedup();
    Ok(topics)
}

/// The counters of a stream.
#[derive(Debug, Clone, Copy)]
struct Stream {
    length: u64,
    added: u64,
    first: Option<EventId>,
    last: EventId,
    deleted_by_hand: bool,
}

/// The counters of a group.
#[derive(Debug, Clone)]
struct Group {
    name: String,
    pending: u64,
    last_delivered: EventId,
    read: Option<u64>,
}

impl Stream {
    fn parse(value: &Value) -> Option<Self> {
        let length = field::<u64>(value, "length")?;
        let id = |name| field::<String>(value, name)?.parse::<EventId>().ok();
        Some(Self {
            length,
            added: field(value, "entries-added")?,
            first: if length == 0 { None } else { Some(id("recorded-first-entry-id")?) },
            last: id("last-generated-id")?,
            deleted_by_hand: id("max-deleted-entry-id")? != EventId::default(),
        })
    }

    /// A group's lag where two ids tell it; `None` where the entries have to be counted.
    fn lag_without_counting(&self, delivered: EventId) -> Option<u64> {
        match self.first {
            None => Some(0),
            Some(first) if delivered < first => Some(self.length),
            Some(_) if delivered >= self.last => Some(0),
            Some(_) => None,
        }
    }

    fn trimmed_unread(&self, group: &Group, lag: u64) -> Option<u64> {
        if self.deleted_by_hand {
            return None;
        }
        if self.added == self.length {
            return Some(0);
        }
        // A group that stands somewhere has read something, unless the counter was lost: Redis before 7.2 loses it at a
        // restart where the group was not read by this crate's script.
        if group.read == Some(0) && group.last_delivered != EventId::default() {
            return None;
        }
        self.added.checked_sub(group.read?)?.checked_sub(lag)
    }
}

impl Group {
    fn parse(value: &Value) -> Option<Self> {
        Some(Self {
            name: field(value, "name")?,
            pending: field(value, "pending")?,
            last_delivered: field::<String>(value, "last-delivered-id")?.parse().ok()?,
            read: field::<Option<u64>>(value, "entries-read").flatten(),
        })
    }
}

/// Both parsers, for the fuzzer.
#[cfg(fuzzing)]
pub(super) fn parse(reply: &Value) {
    let _ = (Stream::parse(reply), Group::parse(reply));
}

/// A field of an XINFO answer, which is a flat list of names and values.
fn field<T: FromRedisValue>(value: &Value, name: &str) -> Option<T> {
    let Value::Array(parts) = value else { return None };
    let found = parts.chunks_exact(2).find(|pair| matches!(&pair[0], Value::BulkString(n) if n == name.as_bytes()))?;
    from_redis_value_ref(&found[1]).ok()
}

/// Entries after one id up to another, both of which are in the past: what is added meanwhile does not matter.
async fn count_after(link: &Link, topic: &Topic, after: EventId, until: EventId) -> Result<u64> {
    let mut count = 0_u64;
    let mut from = after;
    loop {
        let mut command = cmd("XRANGE");
        command.arg(&topic.stream).arg(format!("({from}")).arg(until.to_string()).arg("COUNT").arg(PAGE);
        let page: Vec<(String, Value)> = link.query("count a backlog", &command).await?;
        count += page.iter().fold(0, |n, _| n + 1);
        match page.last() {
            Some((id, _)) if page.len() == PAGE => from = id.parse()?,
            _ => return Ok(count),
        }
    }
}

/// Pending ids below the stream's first entry: delivered, not acknowledged, trimmed, and not collected yet.
async fn count_pending_before(link: &Link, topic: &Topic, group: &str, first: EventId) -> Result<u64> {
    let mut count = 0_u64;
    let mut from = "-".to_owned();
    loop {
        let mut command = cmd("XPENDING");
        command.arg(&topic.stream).arg(group).arg(&from).arg(format!("({first}")).arg(PAGE);
        let page: Vec<(String, Value, Value, Value)> = link.query("count trimmed", &command).await?;
        count += page.iter().fold(0, |n, _| n + 1);
        match page.last() {
            Some((id, ..)) if page.len() == PAGE => from = format!("({id}"),
            _ => return Ok(count),
        }
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Refused { what, .. } if what.contains("no such key")) && code_of(error).is_some()
}

fn unexpected(what: &str) -> Error {
    Error::Refused {
        server: Server::RedisEvents,
        what: format!("{what} gave an answer that Redis 7 does not give; see `tripod doctor`"),
        code: None,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u64) -> EventId {
        EventId { millis, sequence: 0 }
    }

    fn stream(length: u64, added: u64) -> Stream {
        let first = (length > 0).then(|| id(added - length + 1));
        Stream { length, added, first, last: id(added), deleted_by_hand: false }
    }

    fn group(read: Option<u64>, last_delivered: u64) -> Group {
        Group { name: "g".into(), pending: 0, last_delivered: id(last_delivered), read }
    }

    #[test]
    fn what_the_cap_took_is_what_is_neither_read_nor_left_to_read() {
        // Cap 10: read 5, then 20 more were added; 6..=15 are gone, 16..=25 are left.
        let full = stream(10, 25);
        assert_eq!(full.lag_without_counting(id(5)), Some(10));
        assert_eq!(full.trimmed_unread(&group(Some(5), 5), 10), Some(10));
        // The same group after it read the rest.
        assert_eq!(full.lag_without_counting(id(25)), Some(0));
        assert_eq!(full.trimmed_unread(&group(Some(15), 25), 0), Some(10));
        // In the middle it has to be counted; an empty stream has nothing to read.
        assert_eq!(full.lag_without_counting(id(20)), None);
        assert_eq!(stream(0, 25).lag_without_counting(id(3)), Some(0));
    }

    #[test]
    fn what_cannot_be_known_is_not_guessed() {
        let full = stream(10, 25);
        assert_eq!(full.trimmed_unread(&group(None, 5), 10), None);
        let edited = Stream { deleted_by_hand: true, ..full };
        assert_eq!(edited.trimmed_unread(&group(Some(5), 5), 10), None);
        assert_eq!(full.trimmed_unread(&group(Some(24), 20), 5), None, "counters that contradict each other");
        assert_eq!(full.trimmed_unread(&group(Some(0), 20), 5), None, "a counter that a restart has lost");
        assert_eq!(full.trimmed_unread(&group(Some(0), 0), 10), Some(15), "a group that has never read");
        assert_eq!(stream(10, 10).trimmed_unread(&group(Some(0), 5), 5), Some(0), "nothing was ever trimmed");
    }
}
