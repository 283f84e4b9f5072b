//! Fills memory with what every process writes.
//!
//! Constraints: bounded; a gap (a lost connection, a slow process) is noticed and healed by reading the known tokens
//! again, and those that are waited for. Redis loses no message of a connection that lives, so a gap always shows as a
//! lost connection or as messages dropped here: messages carry no number. Prices that come late do no harm: slots
//! decide, and each price lives from when it was written, not from when it arrived. When that was is known as long as the
//! server's clock goes on as it did: a price that looks over or of the future as it comes lets the clocks be compared
//! anew, and one that is of the future even then has no age, and is not given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::pipe;

use super::clock::ServerClock;
use super::memory::{Key, Memory, Sighting};
use super::wire::{Keys, parse_feed, parse_guard, parse_value};
use crate::error::Result;
use crate::redis::{Delivery, Link, Subscription, backoff};

/// Messages (batches) that may wait. A hundred prices each: at 20,000 prices a second this is five seconds.
const WAITING_MAX: usize = 1024;

/// Between two comparisons of clocks for the reason that prices come with stamps that do not fit.
const DOUBT_EVERY: Duration = Duration::from_secs(1);

/// Tokens read again in one round trip.
const RELOAD_BATCH: usize = 500;

/// What the feed has done; read by [`super::Prices::stats`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) batches: AtomicU64,
    pub(super) prices: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) missed: AtomicU64,
    pub(super) reloads: AtomicU64,
}

pub(super) struct Feed {
    link: Link,
    keys: Arc<Keys>,
    memory: Arc<Memory>,
    clock: Arc<ServerClock>,
    tally: Arc<Tally>,
    subscription: Subscription,
    /// When a stamp last let the clocks be compared.
    doubted_at: Option<Instant>,
}

impl Feed {
    pub(super) async fn open(
        link: Link,
        keys: Arc<Keys>,
        memory: Arc<Memory>,
        clock: Arc<ServerClock>,
        tally: Arc<Tally>,
    ) -> Result<Self> {
        let subscription = Subscription::open(&link, vec![keys.channel.clone()], WAITING_MAX).await?;
        Ok(Self { link, keys, memory, clock, tally, subscription, doubted_at: None })
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.subscription.next().await {
                Delivery::Message { payload, .. } => self.apply(&payload).await,
                Delivery::Missed(batches) => {
                    self.tally.missed.fetch_add(batches, Ordering::Relaxed);
                    tracing::warn!(batches, "too slow for the price feed; reading the known tokens again");
                    self.reload_until_done().await;
                }
                Delivery::Resync => self.reload_until_done().await,
            }
        }
    }

    async fn apply(&mut self, payload: &[u8]) {
        self.tally.batches.fetch_add(1, Ordering::Relaxed);
        let text = std::str::from_utf8(payload).ok();
        let Some((heading, lines)) = text.and_then(|text| parse_feed(&self.keys, text)) else {
            if self.tally.unreadable.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(channel = self.keys.channel, "somebody else publishes on the prices' channel");
            }
            return;
        };
        let mut age = self.clock.age_of(heading.written_at);
        let is_doubtful = age.is_none_or(|age| age >= heading.ttl);
        if is_doubtful && self.doubted_at.is_none_or(|at| at.elapsed() >= DOUBT_EVERY) {
            self.doubted_at = Some(Instant::now());
            // Without an answer it stays as it looks: not to be given.
            let _ = self.clock.compare(&self.link).await;
            age = self.clock.age_of(heading.written_at);
        }
        let (written_at, life) = (Some(heading.written_at), heading.ttl.saturating_sub(age.unwrap_or_default()));
        let mut prices = 0;
        for line in lines {
            let (key, value, slot, source) = (line.key, line.value, line.slot, line.source);
            self.memory.put(&Sighting { key, value, slot, source, written_at, age, life });
            prices += 1;
        }
        self.tally.prices.fetch_add(prices, Ordering::Relaxed);
    }

    async fn reload_until_done(&self) {
        for pause in backoff() {
            match reload(&self.link, &self.keys, &self.memory, &self.clock, &self.memory.keys()).await {
                Ok(()) => {
                    self.tally.reloads.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(error) => tracing::debug!(%error, "prices not read again yet"),
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Reads price, guard and remaining life of each of `wanted` into memory. What has no guard of its own stays out: memory
/// knows the slot of what it gives. A server whose clock went back keeps a price for that much longer, and its stamp is of
/// the future then: so the clocks are compared first, and no life is longer than what an age leaves of the longest.
pub(super) async fn reload(
    link: &Link,
    keys: &Keys,
    memory: &Memory,
    clock: &ServerClock,
    wanted: &[Key],
) -> Result<()> {
    clock.compare(link).await?;
    let mut text = String::new();
    for batch in wanted.chunks(RELOAD_BATCH) {
        let mut commands = pipe();
        for Key { token, venue } in batch {
            let mut pair = ::redis::cmd("MGET");
            keys.add_pair(&mut pair, &mut text, token, venue.as_ref());
            commands.add_command(pair);
            keys.write_price(&mut text, token, venue.as_ref());
            commands.cmd("PTTL").arg(text.as_str());
        }
        let asked = Instant::now();
        let answers: Vec<::redis::Value> = link.pipeline("read prices again", &commands).await?;
        for (answer, key) in answers.chunks_exact(2).zip(batch) {
            let [pair, life] = answer else { continue };
            let pair = ::redis::from_redis_value_ref::<(Option<String>, Option<String>)>(pair);
            let life = ::redis::from_redis_value_ref::<i64>(life).ok().and_then(|ms| u64::try_from(ms).ok());
            let (Ok((Some(price), Some(guard))), Some(life_ms)) = (pair, life) else { continue };
            let Some(guard) = parse_guard(&guard).filter(|guard| guard.decimal == price) else { continue };
            let Some(value) = parse_value(&price) else { continue };
            let (written_at, age) = (Some(guard.written_at), clock.age_of(guard.written_at));
            // The answer was on its way for a part of it.
            let life = Duration::from_millis(life_ms).saturating_sub(asked.elapsed());
            let life = life.min(super::TTL_MAX.saturating_sub(age.unwrap_or_default()));
            memory.put(&Sighting { key: *key, value, slot: guard.slot, source: guard.source, written_at, age, life });
        }
    }
    Ok(())
}
