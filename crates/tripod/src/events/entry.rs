//! One event, its id, and how both look in a stream.

use std::fmt;
use std::str::FromStr;

use ::redis::{Value, from_redis_value};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::value::Timestamp;

/// Field names of an entry. Short words; each is in every entry.
pub(super) const TYPE: &str = "type";
pub(super) const TIME: &str = "time";
pub(super) const PAYLOAD: &str = "payload";
/// Only where there is one: the publisher's key; the id that it had when it was published first; the one group it is for.
pub(super) const KEY: &str = "key";
pub(super) const FIRST: &str = "first";
pub(super) const GROUP: &str = "group";

/// An entry's id in its stream: the server's milliseconds and a counter. Later entries have greater ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// The server's clock when the entry was added, unix milliseconds.
    pub millis: u64,
    /// Counts the entries of one millisecond.
    pub sequence: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl FromStr for EventId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (millis, sequence) = text.split_once('-')?;
            Some(Self { millis: millis.parse().ok()?, sequence: sequence.parse().ok()? })
        };
        parse().ok_or_else(|| Error::invalid("event id", format!("`{text}` is not like 1763902800123-0")))
    }
}

/// An event as a consumer gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Its id in the stream.
    pub id: EventId,
    /// What kind of event; empty where somebody else added an entry without it.
    pub kind: String,
    /// When it was published, by the publisher's clock; `None` where somebody else added an entry without it.
    pub time: Option<Timestamp>,
    /// The publisher's key.
    pub key: Option<String>,
    /// The id that it had first, where it was published again: after a primary was lost with it, or from the dead letters.
    pub first_id: Option<EventId>,
    /// The one group that it is for, where it was published again for that one alone.
    pub group: Option<String>,
    /// The payload's bytes, JSON as [`super::Draft::new`] wrote it.
    pub payload: Vec<u8>,
    /// Delivered before, to a consumer that did not acknowledge it: its effect may be there already.
    pub claimed: bool,
    /// Which delivery to this group this is: 1 the first time.
    pub tries: u64,
}

impl Event {
    /// What an effect of this event is to be kept under, so that it exists once however often the event comes: the
    /// publisher's key, or the id that the event had first.
    #[must_use]
    pub fn effect_key(&self) -> String {
        match &self.key {
            Some(key) => key.clone(),
            None => self.first_id.unwrap_or(self.id).to_string(),
        }
    }

    /// The payload as a type.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the event, where the payload is not such a value.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.payload)
            .map_err(|error| Error::invalid(format!("event {} ({})", self.id, self.kind), error.to_string()))
    }
}

/// What one element of a reply holds.
pub(super) enum Entry {
    Event(Event),
    /// The id is pending, the entry gone.
    Gone,
}

/// Reads `[id, [field, value, …]]`; `None` where it is nothing of the sort.
pub(super) fn parse_entry(value: Value, claimed: bool) -> Option<Entry> {
    let Value::Array(parts) = value else {
        return matches!(value, Value::Nil).then_some(Entry::Gone);
    };
    let mut parts = parts.into_iter();
    let id: EventId = from_redis_value::<String>(parts.next()?).ok()?.parse().ok()?;
    let fields = match parts.next()? {
        Value::Array(fields) => fields,
        Value::Nil => return Some(Entry::Gone),
        _ => return None,
    };
    let mut event = Event {
        id,
        kind: String::new(),
        time: None,
        key: None,
        first_id: None,
        group: None,
        payload: Vec::new(),
        claimed,
        tries: 1,
    };
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (Value::BulkString(name), Value::BulkString(value)) = (name, value) else { return None };
        match name.as_slice() {
            name if name == TYPE.as_bytes() => event.kind = String::from_utf8_lossy(&value).into_owned(),
            name if name == TIME.as_bytes() => event.time = parse_time(&value),
            name if name == PAYLOAD.as_bytes() => event.payload = value,
            name if name == KEY.as_bytes() => event.key = String::from_utf8(value).ok(),
            name if name == FIRST.as_bytes() => event.first_id = text_of(&value).and_then(|id| id.parse().ok()),
            name if name == GROUP.as_bytes() => event.group = String::from_utf8(value).ok(),
            _ => {}
        }
    }
    Some(Entry::Event(event))
}

fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

pub(super) fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let millis: i64 = text_of(text)?.parse().ok()?;
    Timestamp::from_nanos(millis.checked_mul(1_000_000)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        Value::Array(vec![bulk(id), Value::Array(fields.iter().map(|f| bulk(f)).collect())])
    }

    #[test]
    fn an_entry_becomes_an_event_also_a_foreign_one() {
        let value = entry("12-3", &["type", "fill", "time", "1000", "payload", "{\"n\":1}"]);
        let Some(Entry::Event(event)) = parse_entry(value, false) else { panic!("no event") };
        assert_eq!((event.id, event.kind.as_str()), (EventId { millis: 12, sequence: 3 }, "fill"));
        assert_eq!(event.time.map(Timestamp::as_millis), Some(1000));
        assert_eq!(event.decode::<serde_json::Value>().unwrap()["n"], 1);

        let Some(Entry::Event(foreign)) = parse_entry(entry("1-0", &["x", "y"]), true) else { panic!("no event") };
        assert!(foreign.claimed && foreign.kind.is_empty());
        assert!(foreign.decode::<u8>().unwrap_err().to_string().contains("1-0"));
    }

    #[test]
    fn a_trimmed_entry_is_seen_as_gone_and_nonsense_as_nothing() {
        let nil = Value::Array(vec![bulk("5-0"), Value::Nil]);
        assert!(matches!(parse_entry(nil, true), Some(Entry::Gone)));
        assert!(matches!(parse_entry(Value::Nil, true), Some(Entry::Gone)));
        assert!(parse_entry(Value::Int(1), false).is_none());
        assert!(parse_entry(entry("nonsense", &[]), false).is_none());
    }

    #[test]
    fn ids_stand_in_the_order_of_time_not_of_text() {
        let ids: Vec<EventId> = ["9-0", "10-0", "10-2", "10-10"].iter().map(|t| t.parse().unwrap()).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids[3].to_string(), "10-10");
    }
}
