//! Every stream and how far each of its groups is, each second, for screens and alerts.
//!
//! Constraints: one round trip a look as a rule, whatever there is, and never a scan of everything at once. As exact as
//! [`super::Events::info`], which counts a group's backlog entry by entry each time; here it is counted once, and from then
//! on moved by what the server's own counters moved, where that is certain.
//!
//! Picture:
//! ```text
//! look:  TIME ── INFO ── SCAN, one page of streams ── per topic: XINFO STREAM, GROUPS, trimmed, dead
//! lag:   + added − read since the last look, if nothing behind the group's old place was trimmed; else counted anew
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Cmd, Value, cmd, from_redis_value_ref, pipe};

use super::inspect::{self, EventInfo, Group, GroupInfo, Stream};
use super::{EventId, Topic};
use crate::audit::skew;
use crate::config::{self, Config};
use crate::error::Result;
use crate::prices::time_of;
use crate::redis::{Instance, Label, Link};
use crate::value::Timestamp;

/// Topics that are followed at most.
pub const TOPICS_MAX: usize = 200;
/// Keys that the server walks over in one page.
const PAGE_KEYS: usize = 1_000;
/// Pages of the first look at most; later ones take one each.
const FIRST_PAGES_MAX: usize = 500;
/// Between two counts of what was trimmed while it was pending, where there is something pending.
const COUNT_PENDING_EVERY: Duration = Duration::from_secs(5);

/// What one look found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamLook {
    /// The server.
    pub instance: Instance,
    /// How far its clock is from this machine's, either way.
    pub clock_skew: Duration,
    /// How long it took to answer, without what had to be counted.
    pub took: Duration,
    /// Every stream that is followed, by name.
    pub streams: Vec<EventInfo>,
}

/// What is known from look to look.
#[derive(Debug)]
pub struct StreamSurvey {
    settings: Arc<config::Events>,
    start: String,
    cursor: u64,
    first: bool,
    topics: BTreeSet<Label>,
    groups: HashMap<(Label, String), Seen>,
}

/// A group at the last look.
#[derive(Debug, Clone, Copy)]
struct Seen {
    last_delivered: EventId,
    added: u64,
    read: Option<u64>,
    lag: u64,
    uncollected: u64,
    counted_at: Instant,
}

impl StreamSurvey {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            settings: Arc::new(config.events.clone()),
            start: format!("{}events:", config.events.key_prefix),
            cursor: 0,
            first: true,
            topics: BTreeSet::new(),
            groups: HashMap::new(),
        }
    }

    /// Looks once. Needs a user that may `SCAN` and `INFO`.
    ///
    /// # Errors
    /// As every call of [`Link`]; what was known stays known, but for streams after one of them was deleted.
    pub async fn look(&mut self, link: &Link) -> Result<StreamLook> {
        if self.first {
            for _ in 0..FIRST_PAGES_MAX {
                let page: Value = link.query("list streams", &self.page()).await?;
                self.take_page(&page)?;
                if self.cursor == 0 {
                    break;
                }
            }
            self.first = false;
        }
        let topics: Vec<Topic> =
            self.topics.iter().map(|name| Topic::new(&self.settings.key_prefix, *name)).collect();
        let mut questions = pipe();
        // One step on the server: the counters of a stream and its groups belong together.
        questions.atomic();
        questions.add_command(cmd("TIME")).add_command(Instance::ask()).add_command(self.page());
        for topic in &topics {
            questions.cmd("XINFO").arg("STREAM").arg(&topic.stream);
            questions.cmd("XINFO").arg("GROUPS").arg(&topic.stream);
            questions.cmd("HGETALL").arg(&topic.trimmed);
            questions.cmd("XLEN").arg(&topic.dead);
        }
        let (begin, asked_at) = (Instant::now(), Timestamp::now());
        let answers: Vec<Value> = match link.pipeline("survey streams", &questions).await {
            // One of them was deleted meanwhile: they are found anew at the next look.
            Err(error) if inspect::is_missing(&error) => {
                self.topics.clear();
                (self.cursor, self.first) = (0, true);
                return Err(error);
            }
            answers => answers?,
        };
        let (took, answered_at) = (begin.elapsed(), Timestamp::now());
        let [time, info, page, each @ ..] = answers.as_slice() else { return Err(inspect::unexpected("EXEC")) };
        let server_time = time_of(time).ok_or_else(|| inspect::unexpected("TIME"))?;
        let info: String = from_redis_value_ref(info).map_err(|_| inspect::unexpected("INFO"))?;
        let mut streams = Vec::with_capacity(topics.len());
        for (topic, facts) in topics.iter().zip(each.chunks_exact(4)) {
            streams.push(self.stream(link, topic, facts).await?);
        }
        let present: BTreeSet<(&str, &str)> =
            streams.iter().flat_map(|one| one.groups.iter().map(|g| (one.topic.as_str(), g.name.as_str()))).collect();
        self.groups.retain(|(topic, group), _| present.contains(&(topic.as_str(), group.as_str())));
        self.take_page(page)?;
        let clock_skew = skew(asked_at, server_time, answered_at);
        Ok(StreamLook { instance: Instance::parse(&info), clock_skew, took, streams })
    }

    fn page(&self) -> Cmd {
        let mut page = cmd("SCAN");
        page.arg(self.cursor).arg("MATCH").arg(format!("{}*", self.start)).arg("COUNT").arg(PAGE_KEYS);
        page.arg("TYPE").arg("stream");
        page
    }

    fn take_page(&mut self, page: &Value) -> Result<()> {
        let (next, keys): (u64, Vec<String>) =
            from_redis_value_ref(page).map_err(|_| inspect::unexpected("SCAN"))?;
        self.cursor = next;
        for name in keys.iter().filter_map(|key| key.strip_prefix(&self.start)) {
            if let Ok(name) = Label::new("topic", name)
                && self.topics.len() < TOPICS_MAX
            {
                self.topics.insert(name);
            }
        }
        Ok(())
    }

    async fn stream(&mut self, link: &Link, topic: &Topic, facts: &[Value]) -> Result<EventInfo> {
        let [stream, groups, trimmed, dead] = facts else { return Err(inspect::unexpected("EXEC")) };
        let stream = Stream::parse(stream).ok_or_else(|| inspect::unexpected("XINFO STREAM"))?;
        let groups: Vec<Value> = from_redis_value_ref(groups).map_err(|_| inspect::unexpected("XINFO GROUPS"))?;
        let trimmed: BTreeMap<String, u64> =
            from_redis_value_ref(trimmed).map_err(|_| inspect::unexpected("HGETALL"))?;
        let dead: u64 = from_redis_value_ref(dead).map_err(|_| inspect::unexpected("XLEN"))?;
        let mut infos = Vec::with_capacity(groups.len());
        for group in &groups {
            let group = Group::parse(group).ok_or_else(|| inspect::unexpected("XINFO GROUPS"))?;
            let key = (topic.name, group.name.clone());
            let seen = self.groups.get(&key).copied();
            let lag = match stream.lag_without_counting(group.last_delivered).or_else(|| moved(seen?, &stream, &group)) {
                Some(lag) => lag,
                None => inspect::count_after(link, topic, group.last_delivered, stream.last).await?,
            };
            let now = Instant::now();
            let known = seen.filter(|seen| now.saturating_duration_since(seen.counted_at) < COUNT_PENDING_EVERY);
            let (uncollected, counted_at) = match (stream.first, known) {
                (_, _) if group.pending == 0 => (0, now),
                (None, _) => (group.pending, now),
                (Some(_), Some(seen)) => (seen.uncollected.min(group.pending), seen.counted_at),
                (Some(first), None) => {
                    (inspect::count_pending_before(link, topic, &group.name, first).await?, now)
                }
            };
            let (last_delivered, added, read) = (group.last_delivered, stream.added, group.read);
            self.groups.insert(key, Seen { last_delivered, added, read, lag, uncollected, counted_at });
            infos.push(GroupInfo {
                lag,
                pending: group.pending,
                trimmed_unread: stream.trimmed_unread(&group, lag),
                trimmed_pending: trimmed.get(&group.name).copied().unwrap_or(0) + uncollected,
                name: group.name,
            });
        }
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        let (topic, cap) = (topic.name.to_string(), self.settings.cap);
        Ok(EventInfo { topic, length: stream.length, cap, groups: infos, dead })
    }
}

/// The lag from the one before; none where entries behind the group's old place were trimmed meanwhile (then it is not
/// known how many of them it was given), where some were deleted by hand, or a counter is missing or went back.
fn moved(seen: Seen, stream: &Stream, group: &Group) -> Option<u64> {
    let nothing_unread_was_trimmed = stream.first? <= seen.last_delivered;
    let added = stream.added.checked_sub(seen.added)?;
    let read = group.read?.checked_sub(seen.read?)?;
    let forward = group.last_delivered >= seen.last_delivered;
    let is_certain = nothing_unread_was_trimmed && forward && !stream.deleted_by_hand;
    is_certain.then(|| (seen.lag + added).checked_sub(read))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u64) -> EventId {
        EventId { millis, sequence: 0 }
    }

    fn value(pairs: &[(&str, Value)]) -> Value {
        let text = |words: &str| Value::BulkString(words.as_bytes().to_vec());
        Value::Array(pairs.iter().flat_map(|(name, value)| [text(name), value.clone()]).collect())
    }

    /// Of entries with the ids 1-0, 2-0, …
    fn stream(length: i64, added: i64) -> Stream {
        let text = |n: i64| Value::BulkString(format!("{n}-0").into_bytes());
        let facts = [
            ("length", Value::Int(length)),
            ("entries-added", Value::Int(added)),
            ("recorded-first-entry-id", text(added - length + 1)),
            ("last-generated-id", text(added)),
            ("max-deleted-entry-id", text(0)),
        ];
        Stream::parse(&value(&facts)).unwrap()
    }

    fn group(read: u64, last: u64) -> Group {
        Group { name: "g".into(), pending: 0, last_delivered: id(last), read: Some(read) }
    }

    fn seen(added: u64, read: u64, lag: u64) -> Seen {
        let read_to = id(read);
        Seen { last_delivered: read_to, added, read: Some(read), lag, uncollected: 0, counted_at: Instant::now() }
    }

    #[test]
    fn a_lag_moves_with_the_counters_while_nothing_unread_is_trimmed() {
        // 20 of 100 read, lag 80; then 10 more come and 30 are read.
        assert_eq!(moved(seen(100, 20, 80), &stream(110, 110), &group(50, 50)), Some(60));
        // The cap took entries that had been read: 1 to 20, and the group stood at 20.
        assert_eq!(moved(seen(100, 20, 80), &stream(91, 110), &group(50, 50)), Some(60));
    }

    #[test]
    fn where_it_is_not_certain_it_is_counted() {
        assert_eq!(moved(seen(100, 20, 80), &stream(80, 110), &group(50, 60)), None, "21 to 30 are gone");
        assert_eq!(moved(seen(100, 20, 80), &stream(50, 50), &group(20, 20)), None, "the stream was made anew");
        assert_eq!(moved(seen(100, 50, 50), &stream(100, 100), &group(20, 20)), None, "the group was put back");
        let edited = Stream { deleted_by_hand: true, ..stream(110, 110) };
        assert_eq!(moved(seen(100, 20, 80), &edited, &group(50, 50)), None, "somebody took entries out");
        let lost = Group { read: None, ..group(0, 50) };
        assert_eq!(moved(seen(100, 20, 80), &stream(100, 100), &lost), None, "a restart lost the counter");
    }
}
