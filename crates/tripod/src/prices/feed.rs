//! Fills memory with what every process writes.
//!
//! Constraints: bounded; a gap (a lost connection, a slow process) is noticed and healed by reading the known tokens
//! again. Prices that come late do no harm: slots decide, and each price lives from when it was written, not from when
//! it arrived.

use std::sync::Arc;
use std::time::Duration;

use ::redis::pipe;

use super::memory::Memory;
use super::wire::{Keys, parse_feed, parse_guard};
use crate::error::Result;
use crate::redis::{Delivery, Link, Subscription, backoff};

/// Messages (batches) that may wait. A hundred prices each: at 20,000 prices a second this is five seconds.
const WAITING_MAX: usize = 1024;

/// Tokens read again in one round trip.
const RELOAD_BATCH: usize = 500;

pub(super) struct Feed {
    link: Link,
    keys: Arc<Keys>,
    memory: Arc<Memory>,
    subscription: Subscription,
}

impl Feed {
    pub(super) async fn open(link: Link, keys: Arc<Keys>, memory: Arc<Memory>) -> Result<Self> {
        let subscription = Subscription::open(&link, vec![keys.channel.clone()], WAITING_MAX).await?;
        Ok(Self { link, keys, memory, subscription })
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.subscription.next().await {
                Delivery::Message { payload, .. } => self.apply(&payload),
                Delivery::Missed(batches) => {
                    tracing::warn!(batches, "too slow for the price feed; reading the known tokens again");
                    self.reload_until_done().await;
                }
                Delivery::Resync => self.reload_until_done().await,
            }
        }
    }

    fn apply(&self, payload: &[u8]) {
        let Ok(text) = std::str::from_utf8(payload) else { return };
        let Some((ttl, lines)) = parse_feed(&self.keys, text) else { return };
        for line in lines {
            self.memory.put(line.token, line.venue, line.value, line.slot, line.written_at, line.source, ttl);
        }
    }

    async fn reload_until_done(&self) {
        for pause in backoff() {
            match self.reload().await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "prices not read again yet"),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads price, guard and remaining life of every known token.
    async fn reload(&self) -> Result<()> {
        for batch in self.memory.keys().chunks(RELOAD_BATCH) {
            let mut commands = pipe();
            for (token, venue) in batch {
                let mut pair = ::redis::cmd("MGET");
                self.keys.add_pair(&mut pair, token, *venue);
                commands.add_command(pair);
                commands.cmd("PTTL").arg(self.keys.price(token, *venue));
            }
            let answers: Vec<::redis::Value> = self.link.pipeline("read prices again", &commands).await?;
            for (answer, (token, venue)) in answers.chunks_exact(2).zip(batch) {
                let pair = ::redis::from_redis_value_ref::<(Option<String>, Option<String>)>(&answer[0]);
                let life = ::redis::from_redis_value_ref::<i64>(&answer[1]).ok().and_then(|ms| u64::try_from(ms).ok());
                let (Ok((Some(price), Some(guard))), Some(life_ms)) = (pair, life) else { continue };
                let Some(guard) = parse_guard(&guard).filter(|guard| guard.decimal == price) else { continue };
                let Ok(value) = price.parse() else { continue };
                let age = crate::value::Timestamp::now().since(guard.written_at);
                let ttl = age + Duration::from_millis(life_ms);
                self.memory.put(*token, *venue, value, guard.slot, guard.written_at, guard.source, ttl);
            }
        }
        Ok(())
    }
}
