//! Dead letters: events that a group was given as often as it may be and never acknowledged.
//!
//! Constraints: an event leaves its group and becomes a dead letter in one step, with the group, the number of deliveries,
//! the time and the last reason; the stream of dead letters has a cap of its own. Published again it is for its group alone
//! and names its first id: other groups pass over it, and an effect kept under [`super::Event::effect_key`] stays one.

use ::redis::{Value, cmd, from_redis_value};
use serde::Serialize;

use super::entry::{Entry, parse_entry, parse_time};
use super::{EventId, Topic};
use crate::error::Result;
use crate::redis::{DEAD_REDRIVE, Link};
use crate::value::Timestamp;

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its id among the dead letters; what [`super::Events::redrive`] takes.
    pub id: EventId,
    /// The id that the event had in the stream.
    pub event: EventId,
    /// The group that gave it up.
    pub group: String,
    /// How often it was delivered.
    pub tries: u64,
    /// When it was given up, by the consumer's clock.
    pub died: Option<Timestamp>,
    /// The last reason.
    pub reason: String,
    /// What kind of event.
    pub kind: String,
    /// The publisher's key.
    pub key: Option<String>,
    /// The payload's bytes.
    pub payload: Vec<u8>,
}

impl Serialize for DeadLetter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut letter = serializer.serialize_struct("DeadLetter", 9)?;
        letter.serialize_field("id", &self.id.to_string())?;
        letter.serialize_field("event", &self.event.to_string())?;
        letter.serialize_field("group", &self.group)?;
        letter.serialize_field("tries", &self.tries)?;
        letter.serialize_field("died", &self.died.map(|died| died.to_string()))?;
        letter.serialize_field("reason", &self.reason)?;
        letter.serialize_field("kind", &self.kind)?;
        letter.serialize_field("key", &self.key)?;
        letter.serialize_field("payload", &String::from_utf8_lossy(&self.payload))?;
        letter.end()
    }
}

pub(super) async fn list(link: &Link, topic: &Topic, limit: usize) -> Result<Vec<DeadLetter>> {
    let mut command = cmd("XRANGE");
    command.arg(&topic.dead).arg("-").arg("+").arg("COUNT").arg(limit.max(1));
    let entries: Vec<Value> = link.query("list dead letters", &command).await?;
    Ok(entries.iter().filter_map(read).collect())
}

pub(super) fn read(entry: &Value) -> Option<DeadLetter> {
    let Value::Array(parts) = entry else { return None };
    let Value::Array(fields) = parts.get(1)? else { return None };
    let field = |name: &str| {
        let pair =
            fields.chunks_exact(2).find(|pair| matches!(&pair[0], Value::BulkString(n) if n == name.as_bytes()))?;
        from_redis_value::<String>(pair[1].clone()).ok()
    };
    let (event, group, tries) =
        (field("dead.id")?.parse().ok()?, field("dead.group")?, field("dead.tries")?.parse().ok()?);
    let died = field("dead.time").and_then(|text| parse_time(text.as_bytes()));
    let reason = field("dead.reason").unwrap_or_default();
    let Entry::Event(it) = parse_entry(entry.clone(), false)? else { return None };
    let (id, kind, key, payload) = (it.id, it.kind, it.key, it.payload);
    Some(DeadLetter { id, event, group, tries, died, reason, kind, key, payload })
}

pub(super) async fn redrive(link: &Link, topic: &Topic, cap: u64, dead: EventId) -> Result<Option<EventId>> {
    let mut command = DEAD_REDRIVE.call(2);
    command.arg(&topic.stream).arg(&topic.dead).arg(cap).arg(dead.to_string());
    let id: Option<String> = link.script("redrive", &DEAD_REDRIVE, &command).await?;
    id.map(|id| id.parse()).transpose()
}

pub(super) async fn drop_them(link: &Link, topic: &Topic, dead: &[EventId]) -> Result<u64> {
    if dead.is_empty() {
        return Ok(0);
    }
    let mut command = cmd("XDEL");
    command.arg(&topic.dead);
    for id in dead {
        command.arg(id.to_string());
    }
    link.query("drop dead letters", &command).await
}
