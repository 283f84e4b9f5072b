//! The newest prices this process knows.
//!
//! Constraints: a read takes no lock and never waits; an older slot never replaces a newer one, not even after its price
//! expired (the entry stays, its value is just no longer given); the number of tokens is bounded. Names come from
//! strangers, so the hash is keyed anew in each process.
//!
//! A price never outlives its life, whatever the server's clock does: one whose age nobody knows is remembered for its
//! slot and not given, and one write that is met twice (read again after a gap) lives no longer for it.
//!
//! At the limit the tokens go whose guards Redis has forgotten, too: nobody can know any more that a slot is older.
//! Where there are none, the new token is turned away, read from Redis, and counted.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use papaya::{Equivalent, HashMap, ResizeMode};

use super::Price;
use super::clock::Ticks;
use super::watch::Queue;
use crate::redis::Label;
use crate::value::{Decimal, Timestamp, Token};

/// Tokens and venues remembered at most. More: about 400 bytes each. Fewer: tokens beyond it are read from Redis.
pub const TOKENS_MAX: usize = 100_000;

/// Between two looks for tokens to forget, which take milliseconds.
const SWEEP_EVERY_NS: u64 = 1_000_000_000;

/// What a price is the price of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) token: Token,
    pub(super) venue: Option<Label>,
}

/// A [`Key`] to look for, without copying its 130 bytes.
struct Wanted<'a> {
    token: &'a Token,
    venue: Option<&'a Label>,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Wanted { token: &self.token, venue: self.venue.as_ref() }.hash(state);
    }
}

impl Hash for Wanted<'_> {
    /// Only the text: both types hold 64 bytes, of which a mint uses 44, and a read is mostly this.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.token.as_bytes());
        if let Some(venue) = self.venue {
            state.write(venue.as_bytes());
        }
    }
}

impl Equivalent<Key> for Wanted<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        self.token.as_bytes() == key.token.as_bytes()
            && self.venue.map(Label::as_bytes) == key.venue.as_ref().map(Label::as_bytes)
    }
}

/// A price on its way into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) key: Key,
    pub(super) value: Decimal,
    /// 0: the last known one.
    pub(super) slot: u64,
    pub(super) source: Option<Label>,
    /// When the server took it, by the server's clock; none where it has not said so yet.
    pub(super) written_at: Option<Timestamp>,
    /// How old it is now. None where nobody knows: then it is not given, for nobody knows either when its life is over.
    pub(super) age: Option<Duration>,
    /// How long it lives from now on.
    pub(super) life: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    value: Decimal,
    slot: u64,
    source: Option<Label>,
    written_at: Option<Timestamp>,
    /// How old it was when it came here.
    age_then: Duration,
    came_at: u64,
    expires_at: u64,
}

impl Entry {
    fn of(new: &Sighting, slot: u64, came_at: u64) -> Self {
        let life = if new.age.is_some() { new.life } else { Duration::ZERO };
        Self {
            value: new.value,
            slot,
            source: new.source,
            written_at: new.written_at,
            age_then: new.age.unwrap_or_default(),
            came_at,
            expires_at: came_at.saturating_add(nanos(life)),
        }
    }

    fn age_at(&self, now: u64) -> Duration {
        self.age_then + Duration::from_nanos(now.saturating_sub(self.came_at))
    }

    fn is_same_write(&self, other: &Self) -> bool {
        let of = |entry: &Self| (entry.written_at, entry.slot, entry.value);
        self.written_at.is_some() && of(self) == of(other)
    }

    /// The same write, met before: whichever of the two says older and over sooner is right. The server's clock may have
    /// gone back in between, and then its key lives on and its stamp looks young.
    fn no_younger_than(self, before: &Self) -> Self {
        let age_then = self.age_then.max(before.age_at(self.came_at));
        Self { age_then, expires_at: self.expires_at.min(before.expires_at), ..self }
    }
}

#[derive(Debug)]
pub(super) struct Memory {
    entries: HashMap<Key, Entry, Keyed>,
    ticks: Ticks,
    limit: usize,
    guard_life_ns: u64,
    /// Writers take turns, so that looking and replacing are one step. (The map's own `compute` would do without, but
    /// leaves a map that grew under it spread over several tables, and a read then costs a microsecond.)
    writing: Mutex<Writing>,
    turned_away: AtomicU64,
    forgotten: AtomicU64,
}

#[derive(Debug, Default)]
struct Writing {
    tokens: usize,
    swept_at: Option<u64>,
    queues: Vec<Arc<Queue>>,
}

impl Memory {
    pub(super) fn new(limit: usize, guard_life: Duration) -> Self {
        Self {
            // Growth is finished by the write that began it: readers then have one table to look into.
            entries: HashMap::builder().hasher(Keyed::default()).resize_mode(ResizeMode::Blocking).build(),
            ticks: Ticks::default(),
            limit,
            guard_life_ns: nanos(guard_life),
            writing: Mutex::default(),
            turned_away: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        // Nothing that panics runs under the lock.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a price, unless a newer one is here.
    pub(super) fn put(&self, new: &Sighting) {
        let mut writing = self.writing();
        let came_at = self.ticks.at_latest_now();
        let entries = self.entries.pin();
        let held = entries.get(&new.key);
        if held.is_none() && writing.tokens >= self.limit {
            self.forget(&mut writing, came_at);
            if writing.tokens >= self.limit {
                if self.turned_away.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(limit = self.limit, "too many tokens for memory; further ones are read from Redis");
                }
                return;
            }
        }
        let slot = match held {
            Some(held) if new.slot == 0 => held.slot,
            Some(held) if held.slot > new.slot => return,
            _ => new.slot,
        };
        // The same again moves its age and its end, and is no news.
        let is_news =
            held.is_none_or(|held| held.value != new.value || held.slot != slot || came_at >= held.expires_at);
        writing.tokens += usize::from(held.is_none());
        let entry = Entry::of(new, slot, came_at);
        let entry = match held {
            Some(held) if held.is_same_write(&entry) => entry.no_younger_than(held),
            _ => entry,
        };
        entries.insert(new.key, entry);
        if is_news {
            writing.queues.iter().for_each(|queue| queue.push(new.key));
        }
    }

    /// Forgets what Redis has forgotten.
    fn forget(&self, writing: &mut Writing, now: u64) {
        if writing.swept_at.is_some_and(|at| now < at.saturating_add(SWEEP_EVERY_NS)) {
            return;
        }
        writing.swept_at = Some(now);
        let is_over = |entry: &Entry| now >= entry.expires_at.max(entry.came_at.saturating_add(self.guard_life_ns));
        let entries = self.entries.pin();
        let over: Vec<Key> = entries.iter().filter(|(_, entry)| is_over(entry)).map(|(key, _)| *key).collect();
        for key in &over {
            entries.remove(key);
        }
        writing.tokens -= over.len().min(writing.tokens);
        self.forgotten.fetch_add(u64::try_from(over.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn get(&self, token: &Token, venue: Option<&Label>) -> Option<Price> {
        let entries = self.entries.pin();
        let entry = entries.get(&Wanted { token, venue })?;
        let now = self.ticks.at_least_now();
        if now >= entry.expires_at {
            return None;
        }
        Some(Price {
            value: entry.value,
            slot: (entry.slot > 0).then_some(entry.slot),
            age: Some(entry.age_at(now)),
            source: entry.source,
        })
    }

    /// What is to be read again after a gap: what is remembered, and what is waited for by name.
    pub(super) fn keys(&self) -> Vec<Key> {
        let entries = self.entries.pin();
        let mut keys: Vec<Key> = entries.keys().copied().collect();
        let writing = self.writing();
        let waited_for = writing.queues.iter().flat_map(|queue| queue.wanted());
        keys.extend(waited_for.filter(|key| !entries.contains_key(*key)));
        keys
    }

    /// From now on what is news goes to `queue`, too.
    pub(super) fn tell(&self, queue: Arc<Queue>) {
        self.writing().queues.push(queue);
    }

    pub(super) fn tell_no_more(&self, queue: &Arc<Queue>) {
        self.writing().queues.retain(|other| !Arc::ptr_eq(other, queue));
    }

    /// Tokens here, with those whose price is over.
    pub(super) fn len(&self) -> usize {
        self.writing().tokens
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A keyed hash of short texts: a multiplication for each 8 bytes.
#[derive(Debug, Clone)]
struct Keyed {
    keys: [u64; 2],
}

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        Self { keys: [random.hash_one(1_u8), random.hash_one(2_u8) | 1] }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Fold;

    #[inline]
    fn build_hasher(&self) -> Fold {
        Fold { state: self.keys[0], key: self.keys[1] }
    }
}

struct Fold {
    state: u64,
    key: u64,
}

impl Fold {
    #[inline]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.key);
        let half = |part: u128| u64::try_from(part & u128::from(u64::MAX)).unwrap_or_default();
        // Names differ in few bytes in the middle of a word: the halves are laid upon each other as they are, so that
        // what such a byte reaches is in the low bits and in the high ones.
        self.state = half(product) ^ half(product >> 64);
    }
}

impl Hasher for Fold {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        if let Some(room) = last.get_mut(..rest.len()) {
            room.copy_from_slice(rest);
        }
        // The length in the last byte, which the rest never reaches: "a", then "b" is not "ab", then "".
        last[7] = u8::try_from(bytes.len() % 256).unwrap_or_default();
        self.mix(u64::from_le_bytes(last));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Duration = Duration::from_secs(60);

    fn sighting(name: &str, value: i64, slot: u64, life: Duration) -> Sighting {
        let key = Key { token: Token::new(name).unwrap(), venue: None };
        let (written_at, age) = (None, Some(Duration::ZERO));
        Sighting { key, value: Decimal::from(value), slot, source: None, written_at, age, life }
    }

    fn put(memory: &Memory, value: i64, slot: u64, life_ms: u64) {
        memory.put(&sighting("SOL", value, slot, Duration::from_millis(life_ms)));
    }

    fn get(memory: &Memory) -> Option<(i64, Option<u64>)> {
        let price = memory.get(&Token::new("SOL").unwrap(), None)?;
        Some((i64::try_from(price.value.mantissa()).unwrap(), price.slot))
    }

    #[test]
    fn an_older_slot_never_replaces_a_newer_one_not_even_an_expired_one() {
        let memory = Memory::new(10, GUARD);
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
        let memory = Memory::new(10, GUARD);
        put(&memory, 1, 0, 60_000);
        assert_eq!(get(&memory), Some((1, None)));
        put(&memory, 2, 500, 60_000);
        put(&memory, 3, 0, 60_000);
        assert_eq!(get(&memory), Some((3, Some(500))));
    }

    #[test]
    fn a_price_of_unknown_age_is_remembered_for_its_slot_and_not_given() {
        let memory = Memory::new(10, GUARD);
        let life = Duration::from_secs(60);
        memory.put(&sighting("SOL", 1, 500, life));
        memory.put(&Sighting { age: None, ..sighting("SOL", 2, 501, life) });
        assert_eq!(get(&memory), None, "neither the newest, whose life may be over, nor an older one");
        put(&memory, 3, 500, 60_000);
        assert_eq!(get(&memory), None);
        put(&memory, 4, 502, 60_000);
        assert_eq!(get(&memory), Some((4, Some(502))));
    }

    #[test]
    fn the_same_write_met_again_is_no_younger_and_lives_no_longer() {
        let memory = Memory::new(10, GUARD);
        let (old, life) = (Duration::from_secs(30), Duration::from_secs(60));
        let written_at = |ms: i64| Some(Timestamp::from_nanos(ms * 1_000_000).unwrap());
        let first = Sighting { written_at: written_at(1000), age: Some(old), ..sighting("SOL", 1, 500, life) };
        let age = || memory.get(&Token::new("SOL").unwrap(), None).and_then(|price| price.age);
        memory.put(&first);
        memory.put(&Sighting { age: Some(Duration::ZERO), ..first });
        assert!(age().unwrap() >= old, "{:?}", age());
        memory.put(&Sighting { life: Duration::ZERO, ..first });
        memory.put(&first);
        assert_eq!(age(), None, "its life was over");
        // Written again, with the same slot and value: that is another one.
        memory.put(&Sighting { written_at: written_at(1001), age: Some(Duration::ZERO), ..first });
        assert!(age().unwrap() < old);
    }

    #[test]
    fn at_the_limit_what_lives_or_is_guarded_stays_and_what_is_over_makes_room() {
        let life = Duration::from_secs(60);
        let memory = Memory::new(3, GUARD);
        for name in ["A", "B", "C", "D", "E"] {
            memory.put(&sighting(name, 1, 1, Duration::ZERO));
        }
        assert_eq!((memory.len(), memory.turned_away(), memory.forgotten()), (3, 2, 0), "guarded, though over");
        memory.put(&sighting("A", 2, 2, life));
        assert_eq!(memory.get(&Token::new("A").unwrap(), None).unwrap().slot, Some(2));

        let memory = Memory::new(3, Duration::ZERO);
        for (name, life) in [("A", life), ("B", Duration::ZERO), ("C", Duration::ZERO), ("D", life)] {
            memory.put(&sighting(name, 1, 1, life));
        }
        assert_eq!((memory.len(), memory.turned_away(), memory.forgotten()), (2, 0, 2));
        assert!(["A", "D"].iter().all(|name| memory.get(&Token::new(name).unwrap(), None).is_some()));
        assert_eq!(memory.keys().len(), 2);
    }

    #[test]
    fn many_tokens_and_venues_are_kept_apart_and_their_hashes_are_spread() {
        let memory = Memory::new(100_000, GUARD);
        let token = |n: i64| Token::new(&format!("So1111111111111111111111111111111111111{n:05}")).unwrap();
        let venue = Label::new("venue", "orca").unwrap();
        for n in 0..5_000 {
            let at = |venue| Sighting { key: Key { token: token(n), venue }, ..sighting("X", n + 1, 1, GUARD) };
            memory.put(&at(None));
            memory.put(&Sighting { value: Decimal::from(-n), ..at(Some(venue)) });
        }
        assert_eq!(memory.len(), 10_000);
        for n in 0..5_000 {
            assert_eq!(memory.get(&token(n), None).unwrap().value, Decimal::from(n + 1));
            assert_eq!(memory.get(&token(n), Some(&venue)).unwrap().value, Decimal::from(-n));
        }
        // Short names that differ in one byte, as well.
        for n in 0..1000 {
            memory.put(&sighting(&format!("T{n}"), n, 1, GUARD));
        }
        assert_eq!(memory.len(), 11_000);
        let keyed = Keyed::default();
        let hash = |token: &Token, venue| keyed.hash_one(Key { token: *token, venue });
        let all: std::collections::HashSet<u64> =
            (0..5_000).flat_map(|n| [hash(&token(n), None), hash(&token(n), Some(venue))]).collect();
        assert_eq!(all.len(), 10_000);
        let low: std::collections::HashSet<u64> = all.iter().map(|hash| hash % 1024).collect();
        assert!(low.len() > 1000, "{} of 1,024 buckets", low.len());
        let short: Vec<u64> = (0..1000).map(|n| hash(&Token::new(&format!("T{n}")).unwrap(), None)).collect();
        for bits in [0, 57] {
            let part: std::collections::HashSet<u64> = short.iter().map(|hash| (hash >> bits) % 128).collect();
            assert!(part.len() > 100, "{} of 128 at bit {bits}", part.len());
        }
        let (a, b) = (Token::new("a").unwrap(), Token::new("ab").unwrap());
        assert_ne!(hash(&a, Some(Label::new("venue", "b").unwrap())), hash(&b, None));
    }
}
