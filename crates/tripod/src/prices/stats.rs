//! What this process's prices did, for metrics and `status`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Prices;

/// Counts since [`Prices::connect`], and how full memory is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PriceStats {
    /// Prices that Redis accepted.
    pub written: u64,
    /// Prices that it refused, because a newer slot was there.
    pub older: u64,
    /// Guards that held something else and were replaced.
    pub guards_mended: u64,
    /// Calls that failed; some of their prices may have been written.
    pub failed_calls: u64,
    /// Tokens and venues in memory, with those whose price is over.
    pub memory_tokens: u64,
    /// The most that memory takes.
    pub memory_limit: u64,
    /// Prices that found no room in memory.
    pub memory_turned_away: u64,
    /// Tokens that memory forgot to make room, after Redis had.
    pub memory_forgotten: u64,
    /// Whether [`Prices::follow`] runs.
    pub following: bool,
    /// Messages of the feed.
    pub feed_batches: u64,
    /// Prices in them.
    pub feed_prices: u64,
    /// Messages on its channel that are none of ours.
    pub feed_unreadable: u64,
    /// Messages dropped because this process was too slow; the known tokens were read again each time.
    pub feed_missed: u64,
    /// Times that the known tokens were read again.
    pub feed_reloads: u64,
}

impl Prices {
    /// What was done so far. Each number is exact; together they are of about the same moment.
    #[must_use]
    pub fn stats(&self) -> PriceStats {
        let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        PriceStats {
            written: get(&self.written.written),
            older: get(&self.written.older),
            guards_mended: get(&self.written.guards_mended),
            failed_calls: get(&self.written.failed_calls),
            memory_tokens: count(self.memory.len()),
            memory_limit: count(self.memory.limit()),
            memory_turned_away: self.memory.turned_away(),
            memory_forgotten: self.memory.forgotten(),
            following: self.follower.get().is_some(),
            feed_batches: get(&self.fed.batches),
            feed_prices: get(&self.fed.prices),
            feed_unreadable: get(&self.fed.unreadable),
            feed_missed: get(&self.fed.missed),
            feed_reloads: get(&self.fed.reloads),
        }
    }
}
