//! Prices: written a hundred times a second, read from memory and from Redis, each answer held against what this process
//! knows of the price by its own monotonic clock.
//!
//! Constraints: how old a price is at least is known from when the call that wrote it had returned. An age that is told
//! must not be smaller, by more than [`SLACK`]; memory must give no price that is older than its life.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use tripod::prices::{Price, PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::{Config, Decimal, Token};

use super::super::patience::patiently;
use super::super::server::pause;
use super::Pulse;

const TOKENS: u64 = 10;
const WRITE_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What comparing clocks over a connection may be wrong by on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

/// What this process knows of the prices.
#[derive(Debug)]
pub(super) struct Market {
    tokens: Vec<Token>,
    life: Mutex<Duration>,
    /// Of each slot, when its write began and when it had returned.
    written: Mutex<HashMap<u64, (Instant, Instant)>>,
    /// Tokens that were written once, and when that had returned.
    once: Mutex<Vec<(Token, Instant)>>,
    counts: Mutex<PriceCounts>,
    /// Beats when memory gives a price that was written then.
    pub(super) pulse: Pulse,
    memory: Mutex<Option<std::thread::JoinHandle<()>>>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct PriceCounts {
    pub(super) written: u64,
    /// From memory and from Redis.
    pub(super) reads: u64,
    /// Answers with an age smaller than the true one.
    pub(super) too_young: u64,
    /// Answers of memory with a price past its life.
    pub(super) outlived: u64,
    /// Answers of memory with an older slot than the one before.
    pub(super) went_back: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Market {
    pub(super) fn new() -> anyhow::Result<Self> {
        let tokens = (0..TOKENS).map(|n| Token::new(&format!("DRILL{n}"))).collect::<tripod::Result<Vec<_>>>()?;
        Ok(Self {
            tokens,
            life: Mutex::default(),
            written: Mutex::default(),
            once: Mutex::default(),
            counts: Mutex::default(),
            pulse: Pulse::default(),
            memory: Mutex::default(),
        })
    }

    /// The bot that reads: its memory is fed by what another handle writes.
    pub(super) async fn connect(&self, config: &Config) -> anyhow::Result<Prices> {
        *lock(&self.life) = Duration::from_millis(config.prices.ttl_ms);
        let bot = patiently(async || Prices::connect(config).await).await?;
        patiently(async || bot.follow().await).await?;
        Ok(bot)
    }

    /// A price that nobody writes again.
    pub(super) async fn write_once(&self, config: &Config) -> anyhow::Result<()> {
        let token = Token::new(&format!("DRILL-ONCE{}", lock(&self.once).len()))?;
        let (prices, price) = (patiently(async || Prices::connect(config).await).await?, update(token, 1)?);
        // What is known of it is when the last try had returned; so a try more makes it no older than it is.
        patiently(async || prices.write(&[price]).await).await?;
        lock(&self.once).push((token, Instant::now()));
        Ok(())
    }

    /// Reads memory on a thread of its own, as a strategy does.
    pub(super) fn watch_memory(self: &Arc<Self>, bot: Prices, over: Arc<AtomicBool>) -> anyhow::Result<()> {
        let market = Arc::clone(self);
        let body = move || {
            let mut last = vec![0; market.tokens.len()];
            while !over.load(Ordering::Relaxed) {
                for (token, last) in market.tokens.iter().zip(&mut last) {
                    let asked = Instant::now();
                    let Some(price) = bot.latest(token) else { continue };
                    let slot = price.slot.unwrap_or(0);
                    lock(&market.counts).went_back += u64::from(slot < *last);
                    *last = slot;
                    let times = lock(&market.written).get(&slot).copied();
                    // Not known yet: the writer has not heard that it is there.
                    let Some((began, returned)) = times else { continue };
                    market.judge(&price, asked.saturating_duration_since(returned), true);
                    market.pulse.beat(began);
                }
                let once = lock(&market.once).clone();
                for (token, returned) in once {
                    let asked = Instant::now();
                    if let Some(price) = bot.latest(&token) {
                        market.judge(&price, asked.saturating_duration_since(returned), true);
                    }
                }
                pause(LOOK_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(body);
        *lock(&self.memory) = Some(thread.context("cannot start a thread")?);
        Ok(())
    }

    /// Holds an answer against the least age that the price can have had.
    fn judge(&self, price: &Price, age_least: Duration, from_memory: bool) {
        let life = *lock(&self.life);
        let mut counts = lock(&self.counts);
        counts.reads += 1;
        counts.too_young += u64::from(price.age.is_some_and(|age| age + SLACK < age_least));
        counts.outlived += u64::from(from_memory && age_least > life + SLACK);
    }

    /// After the end: what was counted.
    pub(super) fn counts(&self) -> anyhow::Result<PriceCounts> {
        if let Some(memory) = lock(&self.memory).take() {
            memory.join().map_err(|_| anyhow!("the reader of memory panicked"))?;
        }
        Ok(*lock(&self.counts))
    }
}

fn update(token: Token, slot: u64) -> anyhow::Result<PriceUpdate> {
    let source = Label::new("source", "drill")?;
    Ok(PriceUpdate { token, value: Decimal::from(slot), slot, source, venue: None })
}

/// Writes until it is over, each time every token with the next slot.
pub(super) async fn write(market: Arc<Market>, prices: Prices, over: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut slot = 0;
    while !over.load(Ordering::Relaxed) {
        slot += 1;
        let updates = market.tokens.iter().map(|token| update(*token, slot)).collect::<anyhow::Result<Vec<_>>>()?;
        let began = Instant::now();
        if let Ok(report) = prices.write(&updates).await {
            lock(&market.written).insert(slot, (began, Instant::now()));
            lock(&market.counts).written += u64::try_from(report.written)?;
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
    Ok(())
}

/// Reads from Redis itself: those that are written, and those that were written once.
pub(super) async fn read(market: Arc<Market>, bot: Prices, over: Arc<AtomicBool>) -> anyhow::Result<()> {
    for token in market.tokens.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let asked = Instant::now();
        if let Ok(Some(price)) = bot.read(token).await
            && let Some((_, returned)) = price.slot.and_then(|slot| lock(&market.written).get(&slot).copied())
        {
            market.judge(&price, asked.saturating_duration_since(returned), false);
        }
        let once = lock(&market.once).clone();
        for (token, returned) in once {
            let asked = Instant::now();
            if let Ok(Some(price)) = bot.read(&token).await {
                market.judge(&price, asked.saturating_duration_since(returned), false);
            }
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tripod_stack::{ServerName, Servers, TestStack};

    use super::*;
    use crate::drill::scene::within;

    /// The witness at work on a memory whose prices live for `lives_ms`, while the promise is `promised_ms`.
    fn watch(lives_ms: u64, promised_ms: u64, until: impl Fn(&PriceCounts, Duration) -> bool) -> PriceCounts {
        let stack = TestStack::start(Servers::only(ServerName::RedisPrices)).unwrap();
        let mut promised = Config::local(stack.data_dir()).unwrap();
        promised.prices.ttl_ms = promised_ms;
        let mut lives = promised.clone();
        lives.prices.ttl_ms = lives_ms;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (market, over) = (Arc::new(Market::new().unwrap()), Arc::<AtomicBool>::default());
        let bot = runtime.block_on(market.connect(&promised)).unwrap();
        runtime.block_on(market.write_once(&lives)).unwrap();
        let began = Instant::now();
        market.watch_memory(bot, Arc::clone(&over)).unwrap();
        let end = within(Duration::from_secs(60));
        while !until(&lock(&market.counts), began.elapsed()) {
            assert!(Instant::now() < end, "{:?}", lock(&market.counts));
            pause(LOOK_EVERY);
        }
        over.store(true, Ordering::Relaxed);
        market.counts().unwrap()
    }

    #[test]
    fn a_memory_that_gives_a_price_past_its_life_is_found_out_and_one_that_does_not_is_not() {
        let found = watch(60_000, 100, |counts, _| counts.outlived > 0);
        assert!(found.reads > found.outlived, "what was within its life was well: {found:?}");
        let kept = watch(100, 100, |_, elapsed| elapsed > Duration::from_millis(100) + SLACK * 2);
        assert_eq!((kept.outlived, kept.too_young, kept.went_back), (0, 0, 0), "{kept:?}");
    }
}
