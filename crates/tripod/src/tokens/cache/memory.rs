//! The map itself.
//!
//! Constraints: reads are lock-free; one task writes. Addresses are chosen by strangers, so the hash is keyed anew in
//! each process: nobody can aim a million mints at one bucket.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use papaya::{HashMap, ResizeMode};
use tokio::sync::{mpsc, watch};

use super::KnownToken;
use crate::tokens::Address;
use crate::tokens::announce::{Changed, Counts};

/// Tokens in memory at most. More: about 400 bytes each, and more with extensions. Fewer: tokens beyond it are found in
/// the store only, and counted.
pub const TOKENS_MAX: usize = 4_000_000;

#[derive(Debug)]
pub(super) struct Memory {
    tokens: HashMap<Address, Arc<KnownToken>, Keyed>,
    looked_at: ArcSwapOption<Instant>,
    listening: AtomicBool,
    turned_away: AtomicU64,
    changes: watch::Sender<u64>,
    listener: ArcSwapOption<ToldTo>,
}

/// Who is told of changes, and counts those that did not fit.
#[derive(Debug)]
struct ToldTo {
    sender: mpsc::Sender<Changed>,
    counts: Arc<Counts>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            // Growth is finished by the write that began it: readers then have one table to look into.
            tokens: HashMap::builder().hasher(Keyed::default()).resize_mode(ResizeMode::Blocking).build(),
            looked_at: ArcSwapOption::empty(),
            listening: AtomicBool::new(false),
            turned_away: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            listener: ArcSwapOption::empty(),
        }
    }
}

impl Memory {
    #[inline]
    pub(super) fn get(&self, mint: &Address) -> Option<Arc<KnownToken>> {
        self.tokens.pin().get(mint).map(Arc::clone)
    }

    /// Takes `token`, unless what is there is newer or the same. True where something changed. Only one task may call it.
    pub(super) fn put(&self, token: KnownToken) -> bool {
        let tokens = self.tokens.pin();
        if tokens.len() >= TOKENS_MAX && !tokens.contains_key(&token.mint) {
            if self.turned_away.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(limit = TOKENS_MAX, "too many tokens for memory; further ones are in PostgreSQL only");
            }
            return false;
        }
        // One task writes, so nobody comes between. (The map's `compute` would do both at once, but leaves a map that grew
        // under it spread over several tables: 1.5 µs a read instead of 0.1.)
        if let Some(held) = tokens.get(&token.mint) {
            let is_newer = (held.slot, held.write_version) > (token.slot, token.write_version);
            if is_newer || **held == token {
                return false;
            }
            let (held, token) = (Arc::clone(held), Arc::new(token));
            tokens.insert(token.mint, Arc::clone(&token));
            if let Some(listener) = &*self.listener.load()
                && let Err(mpsc::error::TrySendError::Full(_)) = listener.sender.try_send((held, token))
            {
                listener.counts.miss();
            }
            return true;
        }
        tokens.insert(token.mint, Arc::new(token));
        true
    }

    /// A look that began at `began` has taken everything, and changed `taken` tokens by it.
    pub(super) fn looked(&self, began: Instant, taken: u64) {
        self.looked_at.store(Some(Arc::new(began)));
        if taken > 0 {
            self.changes.send_modify(|count| *count = count.wrapping_add(taken));
        }
    }

    pub(super) fn tell(&self, sender: mpsc::Sender<Changed>, counts: Arc<Counts>) {
        self.listener.store(Some(Arc::new(ToldTo { sender, counts })));
    }

    pub(super) fn age(&self) -> Duration {
        self.looked_at.load().as_ref().map_or(Duration::MAX, |at| at.elapsed())
    }

    pub(super) fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Relaxed);
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A keyed hash of 32 bytes in four multiplications: an address is random already, only its choice is not ours.
#[derive(Debug, Clone)]
struct Keyed {
    keys: [u64; 2],
}

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        Self { keys: [random.hash_one(1_u8), random.hash_one(2_u8)] }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Fold;

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
        let product = u128::from(self.state ^ word) * u128::from(self.key | 1);
        let half = |part: u128| u64::try_from(part & u128::from(u64::MAX)).unwrap_or_default();
        self.state = half(product) ^ half(product >> 64).rotate_left(32);
    }
}

impl Hasher for Fold {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
    }

    /// The length that a slice puts before its bytes; always 32 here.
    #[inline]
    fn write_usize(&mut self, _: usize) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(slot: u64, write_version: u64, decimals: u8) -> KnownToken {
        let mint = Address::new_from_array([1; 32]);
        KnownToken { mint, decimals, name: None, symbol: None, slot, write_version, account: None }
    }

    #[test]
    fn an_older_one_never_replaces_a_newer_one() {
        let memory = Memory::default();
        let decimals = || memory.get(&Address::new_from_array([1; 32])).unwrap().decimals;
        memory.put(token(5, 1, 1));
        memory.put(token(4, 9, 2));
        memory.put(token(5, 0, 3));
        assert_eq!(decimals(), 1);
        memory.put(token(5, 1, 4));
        assert_eq!(decimals(), 4, "the same observation with another list's name");
        memory.put(token(5, 2, 5));
        assert_eq!((decimals(), memory.len()), (5, 1));
        assert!(memory.get(&Address::default()).is_none());
    }

    #[test]
    fn addresses_that_differ_in_one_byte_are_spread_and_no_two_processes_alike() {
        let keyed = Keyed::default();
        let hashes: std::collections::HashSet<u64> = (0..32_usize)
            .flat_map(|at| (1..=255_u8).map(move |byte| (at, byte)))
            .map(|(at, byte)| {
                let mut bytes = [0; 32];
                bytes[at] = byte;
                keyed.hash_one(Address::new_from_array(bytes))
            })
            .collect();
        assert_eq!(hashes.len(), 32 * 255);
        let low: std::collections::HashSet<u64> = hashes.iter().map(|hash| hash % 1_024).collect();
        assert!(low.len() > 1_000, "{} of 1,024 buckets", low.len());
        let one = Address::new_from_array([7; 32]);
        assert_ne!(keyed.hash_one(one), Keyed::default().hash_one(one));
    }

    #[test]
    fn nothing_was_looked_at_before_the_first_look() {
        let memory = Memory::default();
        assert_eq!(memory.age(), Duration::MAX);
        memory.looked(Instant::now(), 0);
        assert!(memory.age() < Duration::from_secs(60));
    }
}
