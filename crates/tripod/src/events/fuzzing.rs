//! What the fuzz target `event` calls: a reply of Redis, parsed as each command's answer is.
//!
//! Constraints: no server, and no code of its own between the bytes and the parsers.

use super::entry::{Entry, parse_entry};
use super::{Event, dead, inspect};

/// What a reply's bytes are as an entry of a stream; whatever they are, every parser is given them.
#[must_use]
pub fn event_of_reply(bytes: &[u8]) -> Option<Event> {
    let reply = ::redis::parse_redis_value(bytes).ok()?;
    if let Some(letter) = dead::read(&reply) {
        // Printed by `tripod events dead --json`.
        let _ = serde_json::to_string(&letter);
    }
    inspect::parse(&reply);
    match parse_entry(reply, true)? {
        Entry::Event(event) => Some(event),
        Entry::Gone => None,
    }
}
