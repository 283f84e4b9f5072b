//! What is in memory: the tokens of the start in their table, those that came later in a map.
//!
//! Constraints: reads are lock-free; one task writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use foldhash::quality::RandomState;
use papaya::{HashMap, ResizeMode};
use tokio::sync::{mpsc, watch};

use super::table::{Row, Table};
use super::{KnownToken, TokenRef};
use crate::tokens::Address;
use crate::tokens::announce::{Changed, Counts};

/// Tokens in memory at most. More: about 500 bytes each, and more with extensions. Fewer: tokens beyond it are found in
/// the store only, and counted.
pub const TOKENS_MAX: usize = 4_000_000;

#[derive(Debug)]
pub(super) struct Memory {
    at_start: Table,
    /// Mints that were not known at the start. They take a read to memory three times.
    added: HashMap<Address, Arc<KnownToken>, RandomState>,
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

/// What there is at the start, while it is read.
#[derive(Debug, Default)]
pub(super) struct Start {
    table: Table,
    turned_away: u64,
}

impl Start {
    /// For about so many tokens.
    pub(super) fn with_room(tokens: usize) -> Self {
        // An eighth more: a table that has to grow takes twice its room.
        Self { table: Table::with_room(tokens.saturating_add(tokens / 8).min(TOKENS_MAX)), turned_away: 0 }
    }

    pub(super) fn put(&mut self, token: KnownToken) {
        if self.table.len() < TOKENS_MAX {
            self.table.insert(token);
        } else {
            self.turned_away += 1;
        }
    }
}

impl Memory {
    pub(super) fn new(start: Start) -> Self {
        if start.turned_away > 0 {
            say_too_many();
        }
        Self {
            at_start: start.table,
            // Growth is finished by the write that began it: readers then have one table to look into.
            added: HashMap::builder().hasher(RandomState::default()).resize_mode(ResizeMode::Blocking).build(),
            looked_at: ArcSwapOption::empty(),
            listening: AtomicBool::new(false),
            turned_away: AtomicU64::new(start.turned_away),
            changes: watch::Sender::new(0),
            listener: ArcSwapOption::empty(),
        }
    }

    #[inline]
    pub(super) fn get(&self, mint: &Address) -> Option<TokenRef<'_>> {
        match self.at_start.row(mint) {
            Some(row) => Some(row.token()),
            None => self.added.pin().get(mint).map(|token| TokenRef::added(Arc::clone(token))),
        }
    }

    /// Takes `token`, unless what is there is newer or the same. True where something changed. Only one task may call it.
    pub(super) fn put(&self, token: KnownToken) -> bool {
        let row = self.at_start.row(&token.mint);
        // One task writes, so nobody comes between.
        let Some(held) = self.get(&token.mint) else {
            if self.len() >= TOKENS_MAX {
                if self.turned_away.fetch_add(1, Ordering::Relaxed) == 0 {
                    say_too_many();
                }
                return false;
            }
            self.added.pin().insert(token.mint, Arc::new(token));
            return true;
        };
        let is_newer = (held.slot, held.write_version) > (token.slot, token.write_version);
        if is_newer || *held == token {
            return false;
        }
        let token = Arc::new(token);
        let told = self.listener.load().as_ref().map(|listener| (Arc::clone(listener), held.to_arc()));
        drop(held);
        match row {
            Some(row) => Row::replace(row, Arc::clone(&token)),
            // (The map's `compute` would do both at once, but leaves a map that grew under it spread over several tables:
            // 1.5 µs a read instead of 0.1.)
            None => drop(self.added.pin().insert(token.mint, Arc::clone(&token)).map(Arc::clone)),
        }
        if let Some((listener, held)) = told
            && let Err(mpsc::error::TrySendError::Full(_)) = listener.sender.try_send((held, token))
        {
            listener.counts.miss();
        }
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
        self.at_start.len() + self.added.len()
    }

    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn say_too_many() {
    tracing::warn!(limit = TOKENS_MAX, "too many tokens for memory; further ones are in PostgreSQL only");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(slot: u64, write_version: u64, decimals: u8) -> KnownToken {
        KnownToken { mint: mint(1), decimals, slot, write_version, ..KnownToken::nothing() }
    }

    fn mint(number: u8) -> Address {
        Address::new_from_array([number; 32])
    }

    /// One that knows a token from the start, and one that does not.
    fn both() -> [Memory; 2] {
        let mut start = Start::default();
        start.put(token(0, 0, 0));
        [Memory::new(Start::default()), Memory::new(start)]
    }

    #[test]
    fn an_older_one_never_replaces_a_newer_one() {
        for memory in both() {
            let decimals = || memory.get(&mint(1)).unwrap().decimals;
            memory.put(token(5, 1, 1));
            memory.put(token(4, 9, 2));
            memory.put(token(5, 0, 3));
            assert_eq!(decimals(), 1);
            memory.put(token(5, 1, 4));
            assert_eq!(decimals(), 4, "the same observation with another list's name");
            memory.put(token(5, 2, 5));
            assert_eq!((decimals(), memory.len()), (5, 1));
            assert!(!memory.put(token(5, 2, 5)), "nothing changed");
            assert!(memory.get(&Address::default()).is_none());
        }
    }

    #[test]
    fn who_holds_a_token_holds_it_as_it_was() {
        for memory in both() {
            memory.put(token(1, 0, 1));
            let held = memory.get(&mint(1)).unwrap();
            memory.put(token(2, 0, 2));
            assert_eq!((held.decimals, held.to_arc().decimals), (1, 1));
            assert_eq!(memory.get(&mint(1)).unwrap().decimals, 2);
        }
    }

    #[test]
    fn the_listener_is_told_what_was_and_what_is() {
        for memory in both() {
            let (sender, mut told) = mpsc::channel(4);
            memory.put(token(1, 0, 1));
            memory.tell(sender, Arc::default());
            for slot in 2..=3 {
                memory.put(token(slot, 0, 7));
                let (before, after) = told.try_recv().unwrap();
                assert_eq!((before.slot, after.slot), (slot - 1, slot));
            }
        }
    }

    #[test]
    fn nothing_was_looked_at_before_the_first_look() {
        let memory = Memory::new(Start::default());
        assert_eq!(memory.age(), Duration::MAX);
        memory.looked(Instant::now(), 0);
        assert!(memory.age() < Duration::from_secs(60));
    }
}
