//! The newest prices this process knows.
//!
//! Constraints: a read takes no lock and never waits; an older slot never replaces a newer one, not even after its price
//! expired (the entry stays, its value is just no longer given); the number of tokens is bounded.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use papaya::{HashMap, Operation};

use super::Price;
use crate::redis::Label;
use crate::value::{Decimal, Timestamp, Token};

/// Tokens and venues remembered at most. More: about 250 bytes each. Fewer: tokens beyond it are read from Redis.
pub const TOKENS_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    token: Token,
    venue: Option<Label>,
}

impl Hash for Key {
    /// Only the text: both types hold 64 bytes, of which a mint uses 44, and a read is mostly this.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.token.as_str().as_bytes());
        if let Some(venue) = &self.venue {
            state.write(venue.as_str().as_bytes());
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    value: Decimal,
    slot: u64,
    source: Option<Label>,
    /// How old it was when it came here.
    age_then: Duration,
    came_at: Instant,
    expires_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: HashMap<Key, Entry>,
    turned_away: AtomicU64,
}

impl Memory {
    /// Remembers a price written at `written_at` that lives for `ttl` from then on. A slot of 0 is the last known one.
    #[expect(clippy::too_many_arguments, reason = "one price is exactly these")]
    pub(super) fn put(
        &self,
        token: Token,
        venue: Option<Label>,
        value: Decimal,
        slot: u64,
        written_at: Timestamp,
        source: Option<Label>,
        ttl: Duration,
    ) {
        let key = Key { token, venue };
        let entries = self.entries.pin();
        if entries.len() >= TOKENS_MAX && !entries.contains_key(&key) {
            if self.turned_away.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(limit = TOKENS_MAX, "too many tokens for memory; further ones are read from Redis");
            }
            return;
        }
        let came_at = Instant::now();
        let age_then = Timestamp::now().since(written_at);
        let expires_at = came_at + ttl.saturating_sub(age_then);
        let new = Entry { value, slot, source, age_then, came_at, expires_at };
        entries.compute(key, |held| match held {
            Some((_, held)) if slot == 0 => Operation::Insert(Entry { slot: held.slot, ..new }),
            Some((_, held)) if held.slot > slot => Operation::Abort(()),
            _ => Operation::Insert(new),
        });
    }

    pub(super) fn get(&self, token: &Token, venue: Option<Label>) -> Option<Price> {
        let entries = self.entries.pin();
        let entry = entries.get(&Key { token: *token, venue })?;
        let now = Instant::now();
        if now >= entry.expires_at {
            return None;
        }
        Some(Price {
            value: entry.value,
            slot: (entry.slot > 0).then_some(entry.slot),
            age: Some(entry.age_then + now.saturating_duration_since(entry.came_at)),
            source: entry.source,
        })
    }

    /// What is remembered, for reading it again after a gap.
    pub(super) fn keys(&self) -> Vec<(Token, Option<Label>)> {
        self.entries.pin().keys().map(|key| (key.token, key.venue)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(memory: &Memory, value: i64, slot: u64, ttl_ms: u64) {
        let token = Token::new("SOL").unwrap();
        let ttl = Duration::from_millis(ttl_ms);
        memory.put(token, None, Decimal::from(value), slot, Timestamp::now(), None, ttl);
    }

    fn get(memory: &Memory) -> Option<(i64, Option<u64>)> {
        let price = memory.get(&Token::new("SOL").unwrap(), None)?;
        Some((i64::try_from(price.value.mantissa()).unwrap(), price.slot))
    }

    #[test]
    fn an_older_slot_never_replaces_a_newer_one_not_even_an_expired_one() {
        let memory = Memory::default();
        put(&memory, 1, 500, 60_000);
        put(&memory, 2, 400, 60_000);
        assert_eq!(get(&memory), Some((1, Some(500))));
        put(&memory, 3, 500, 60_000);
        assert_eq!(get(&memory), Some((3, Some(500))), "equal slots: the last writer wins");
        put(&memory, 4, 600, 0);
        assert_eq!(get(&memory), None, "no price outlives its life");
        put(&memory, 5, 599, 60_000);
        assert_eq!(get(&memory), None);
        put(&memory, 6, 601, 60_000);
        assert_eq!(get(&memory), Some((6, Some(601))));
    }

    #[test]
    fn a_price_without_a_slot_takes_the_last_known_one() {
        let memory = Memory::default();
        put(&memory, 1, 0, 60_000);
        assert_eq!(get(&memory), Some((1, None)));
        put(&memory, 2, 500, 60_000);
        put(&memory, 3, 0, 60_000);
        assert_eq!(get(&memory), Some((3, Some(500))));
    }
}
