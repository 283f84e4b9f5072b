//! A bounded stream of changes: the newest price of each token, never a queue of old ones.
//!
//! Constraints: a receiver that is slow holds up nobody and costs no more memory than its tokens. It never gets a price
//! that a newer one has replaced: what waits is *that* a token has changed, and its price is looked up when it is taken.
//!
//! Picture: memory ── news of a key ──▶ queue (each key once; the oldest out at the limit) ──▶ `next()` ── looks up ──▶ memory

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::memory::Key;
use super::{Price, Prices};
use crate::redis::Label;
use crate::value::Token;

/// A token whose price is another one than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PriceChange {
    /// The token.
    pub token: Token,
    /// The venue; `None` for the token's price as such.
    pub venue: Option<Label>,
    /// Its newest price, with its age.
    pub price: Price,
}

/// Receives changes of prices; see [`Prices::watch`]. Dropping it ends them.
#[derive(Debug)]
pub struct PriceWatch {
    /// Keeps the feed alive, too.
    prices: Prices,
    queue: Arc<Queue>,
}

impl PriceWatch {
    pub(super) fn new(prices: Prices, queue: Arc<Queue>) -> Self {
        prices.memory.tell(Arc::clone(&queue));
        Self { prices, queue }
    }

    /// The next token with another price, and that price. Waits for as long as there is none. Cancel-safe.
    pub async fn next(&mut self) -> PriceChange {
        loop {
            let filled = self.queue.filled.notified();
            while let Some(Key { token, venue }) = self.queue.pop() {
                match self.prices.memory.get(&token, venue.as_ref()) {
                    Some(price) => return PriceChange { token, venue, price },
                    None => self.queue.lock().skipped += 1,
                }
            }
            filled.await;
        }
    }

    /// Changes that this receiver did not get: a newer price of the same token came before it took the one, or the price
    /// was over by then.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.queue.lock().skipped
    }

    /// Tokens whose change waits to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.lock().order.len()
    }
}

impl Drop for PriceWatch {
    fn drop(&mut self) {
        self.prices.memory.tell_no_more(&self.queue);
    }
}

/// What waits for one receiver.
#[derive(Debug)]
pub(super) struct Queue {
    /// None: everything.
    wanted: Option<HashSet<Key>>,
    limit: usize,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<Key>,
    queued: HashSet<Key>,
    skipped: u64,
}

impl Queue {
    /// For some keys, or for all, of which `limit` wait at most.
    pub(super) fn new(wanted: Option<HashSet<Key>>, limit: usize) -> Self {
        Self { wanted, limit, waiting: Mutex::default(), filled: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that panics runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that are waited for by name.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Key> {
        self.wanted.iter().flatten()
    }

    pub(super) fn push(&self, key: Key) {
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(&key)) {
            return;
        }
        let mut waiting = self.lock();
        if !waiting.queued.insert(key) {
            waiting.skipped += 1;
            return;
        }
        if waiting.order.len() >= self.limit
            && let Some(oldest) = waiting.order.pop_front()
        {
            waiting.queued.remove(&oldest);
            waiting.skipped += 1;
        }
        waiting.order.push_back(key);
        drop(waiting);
        self.filled.notify_one();
    }

    /// [`Queue::push`] of what is no change: where it waits already, nothing was skipped.
    pub(super) fn push_quietly(&self, key: Key) {
        if !self.lock().queued.contains(&key) {
            self.push(key);
        }
    }

    fn pop(&self) -> Option<Key> {
        let mut waiting = self.lock();
        let key = waiting.order.pop_front()?;
        waiting.queued.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { token: Token::new(name).unwrap(), venue: None }
    }

    fn names(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|key| key.token.to_string()).collect()
    }

    #[test]
    fn a_token_waits_once_and_the_oldest_goes_at_the_limit() {
        let queue = Queue::new(None, 3);
        for name in ["A", "B", "A", "A", "C", "D", "E"] {
            queue.push(key(name));
        }
        assert_eq!(queue.lock().skipped, 4, "A twice, then A and B at the limit");
        assert_eq!(names(&queue), ["C", "D", "E"]);
        queue.push(key("A"));
        assert_eq!(names(&queue), ["A"]);
    }

    #[test]
    fn only_what_is_wanted_waits() {
        let queue = Queue::new(Some(HashSet::from([key("A")])), 3);
        for name in ["A", "B"] {
            queue.push(key(name));
        }
        assert_eq!((names(&queue), queue.lock().skipped), (vec!["A".to_owned()], 0));
    }
}
