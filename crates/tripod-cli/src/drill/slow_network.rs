//! The network between the bot and Redis gets slow, then is cut without a word, then comes back.
//!
//! Constraints: the bot of this drill reaches Redis through a proxy alone; a writer beside it reaches Redis itself and says
//! what is true. The bot's thread that reads memory is a thread of its own, as a strategy is. Keys have a prefix of the
//! drill's own and live for seconds.
//!
//! Picture:
//! ```text
//! writer (100 rounds of 20 prices a second) ─────────────▶ Redis
//! bot: memory ◀── feed ─┐                                   ▲
//!      calls ───────────┴─▶ proxy: slow · cut · healed ─────┘
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use indicatif::ProgressBar;
use serde::Serialize;
use tripod::prices::{PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::{Config, Decimal, Error, Token, Uuid};
use tripod_stack::{Proxy, ServerName};

use super::Drill;
use super::patience::patiently;
use super::row::Dice;
use super::scene::millis;
use crate::args::Global;
use crate::own_redis::own_redis;

const TOKENS: u64 = 20;
const WRITE_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// A call in this drill ends within it, and what the machine adds.
const DEADLINE: Duration = Duration::from_millis(1000);
const GRACE: Duration = Duration::from_millis(500);
const LIFE_MS: u64 = 2000;
/// Each way; the round trip is twice that.
const SLOW_LEAST: Duration = Duration::from_millis(25);
const SLOW_MOST: Duration = Duration::from_millis(100);
const JITTER: Duration = Duration::from_millis(25);
const SLOW_FOR: Duration = Duration::from_secs(2);
/// Longer than it takes to notice a cut (a heartbeat and a deadline), and than a price lives.
const CUT_LEAST: Duration = Duration::from_millis(3500);
const CUT_MOST: Duration = Duration::from_millis(5000);
const FRESH_WITHIN_MS: u64 = 1000;
/// No memory after that: not slow, broken.
const GIVE_UP: Duration = Duration::from_secs(30);
/// A reader of memory that waited for the network would wait at least as long as one way of it.
const STALL_MAX: Duration = SLOW_LEAST;

/// The document of `drill run slow-network`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    drill: &'static str,
    rounds: u32,
    /// Prices that the writer wrote.
    recorded: u64,
    /// Tokens whose newest price was not in memory after a round.
    lost: u64,
    /// Times that memory went back to an older slot.
    doubled: u64,
    /// The longest read from memory.
    max_stall_us: u64,
    /// The longest time from the end of a cut to a fresh price of every token in memory.
    recovery_ms: u64,
    promise: &'static str,
    pub(crate) ok: bool,
    memory_reads: u64,
    /// Reads from memory while the network was slow or cut that gave a price.
    memory_served: u64,
    /// Reads from memory that gave a price older than its life, or of unknown age.
    memory_outlived: u64,
    calls: u64,
    calls_failed: u64,
    longest_call_ms: u64,
    recoveries_ms: Vec<u64>,
    broken: Vec<String>,
}

impl Report {
    pub(crate) fn words(&self) -> String {
        let mut text = format!(
            "promised    {}\nrounds      {}, each {} s slow, then cut for up to {} s\n\
             recorded    {} prices by a writer with a network of its own\n\
             memory      {} reads, longest {} us; {} while slow or cut gave a price\n\
             calls       {} through that network, {} failed, longest {} ms (deadline {} ms)\n\
             lost        {}\nwent back   {}\noutlived    {}\n\
             recovery    longest {} ms to a fresh price of every token\n",
            self.promise,
            self.rounds,
            SLOW_FOR.as_secs(),
            CUT_MOST.as_secs(),
            self.recorded,
            self.memory_reads,
            self.max_stall_us,
            self.memory_served,
            self.calls,
            self.calls_failed,
            self.longest_call_ms,
            DEADLINE.as_millis(),
            self.lost,
            self.doubled,
            self.memory_outlived,
            self.recovery_ms,
        );
        text += &match self.ok {
            true => "the promise was kept".to_owned(),
            false => format!("THE PROMISE WAS BROKEN: {}", self.broken.join("; ")),
        };
        text
    }

    fn judge(mut self) -> Self {
        self.recovery_ms = self.recoveries_ms.iter().copied().max().unwrap_or(0);
        let long = |ms: u64, most: Duration| ms > millis(most);
        for (is_broken, what) in [
            (self.lost > 0, format!("{} tokens had no newest price in memory after a round", self.lost)),
            (self.doubled > 0, format!("memory went back {} times", self.doubled)),
            (self.memory_outlived > 0, format!("memory gave {} prices past their life", self.memory_outlived)),
            (self.memory_served == 0, "memory gave nothing while the network was bad".to_owned()),
            (self.calls_failed == 0, "no call failed: the network was never cut".to_owned()),
            (long(self.longest_call_ms, DEADLINE + GRACE), format!("a call took {} ms", self.longest_call_ms)),
            (long(self.max_stall_us / 1000, STALL_MAX), format!("a read from memory took {} us", self.max_stall_us)),
            (self.recovery_ms > FRESH_WITHIN_MS, format!("fresh prices took {} ms", self.recovery_ms)),
        ] {
            if is_broken {
                self.broken.push(what);
            }
        }
        self.ok = self.broken.is_empty();
        self
    }
}

/// What the threads share.
#[derive(Debug, Default)]
struct State {
    ended: AtomicBool,
    bad: AtomicBool,
    written: AtomicU64,
    /// The newest slot that Redis has of every token.
    slot: AtomicU64,
}

/// Runs it; everything it wrote is gone by itself after a minute.
pub(crate) fn run(rounds: u32, global: &Global, bar: &ProgressBar) -> anyhow::Result<Report> {
    let mut config = global.load()?;
    let own = own_redis(&config, &global.data, ServerName::RedisPrices)?;
    config.redis.prices.deadline_ms = millis(DEADLINE);
    config.prices.ttl_ms = LIFE_MS;
    config.prices.key_prefix = format!("drill-{}:", Uuid::new_v4().simple());
    let proxy = Proxy::start(&own.address).context("cannot start the proxy")?;
    let mut through = config.clone();
    through.redis.prices.addresses = vec![proxy.address()];
    let tokens = (0..TOKENS).map(|n| Token::new(&format!("DRILL{n}"))).collect::<tripod::Result<Vec<_>>>()?;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let bot = runtime.block_on(async {
        let bot = patiently(async || Prices::connect(&through).await).await?;
        patiently(async || bot.follow().await).await.map(|()| bot)
    })?;
    let state = State::default();
    let mut report = std::thread::scope(|scope| -> anyhow::Result<Report> {
        let writer = scope.spawn(|| write(&config, &tokens, &state));
        let reader = scope.spawn(|| read(&bot, &tokens, &state));
        let caller = scope.spawn(|| runtime.block_on(call(&bot, &tokens, &state)));
        let directed = direct(rounds, &proxy, &bot, &tokens, &state, bar);
        state.ended.store(true, Ordering::SeqCst);
        let wrote = writer.join().map_err(|_| anyhow!("the writer panicked"))?;
        let read = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
        let called = caller.join().map_err(|_| anyhow!("the caller panicked"))?;
        wrote?;
        let (recoveries_ms, lost) = directed?;
        Ok(Report {
            recoveries_ms,
            lost,
            calls: called.calls,
            calls_failed: called.failed,
            longest_call_ms: called.longest_ms,
            ..read
        })
    })?;
    report.drill = Drill::SlowNetwork.name();
    report.rounds = rounds;
    report.promise = Drill::SlowNetwork.promise();
    report.recorded = state.written.load(Ordering::SeqCst);
    Ok(report.judge())
}

/// Slow, cut, healed; how long each recovery took, and the tokens that were not there.
fn direct(
    rounds: u32,
    proxy: &Proxy,
    bot: &Prices,
    tokens: &[Token],
    state: &State,
    bar: &ProgressBar,
) -> anyhow::Result<(Vec<u64>, u64)> {
    let mut dice = Dice::new(Uuid::new_v4().as_u64_pair().1);
    let (mut recoveries, mut lost) = (Vec::new(), 0);
    // Before anything is broken every token is there.
    await_fresh(bot, tokens, state).context("memory is not filled")?;
    for _ in 0..rounds {
        state.bad.store(true, Ordering::SeqCst);
        proxy.slow(dice.between(SLOW_LEAST, SLOW_MOST), JITTER);
        super::pause(SLOW_FOR);
        proxy.cut();
        super::pause(dice.between(CUT_LEAST, CUT_MOST));
        proxy.slow(Duration::ZERO, Duration::ZERO);
        state.bad.store(false, Ordering::SeqCst);
        proxy.heal();
        match await_fresh(bot, tokens, state) {
            Ok(took) => recoveries.push(millis(took)),
            Err(missing) => {
                tracing::warn!(%missing, "memory did not come back");
                lost += 1;
            }
        }
        bar.inc(1);
    }
    Ok((recoveries, lost))
}

/// Waits until every token's price in memory is not older than what Redis has now.
fn await_fresh(bot: &Prices, tokens: &[Token], state: &State) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let wanted = state.slot.load(Ordering::SeqCst).max(1);
    loop {
        let is_there =
            |token: &&Token| bot.latest(token).and_then(|price| price.slot).is_some_and(|slot| slot >= wanted);
        let there = tokens.iter().filter(is_there).count();
        if there == tokens.len() {
            return Ok(began.elapsed());
        }
        if began.elapsed() > GIVE_UP {
            return Err(anyhow!("{there} of {} tokens are fresh after {GIVE_UP:?}", tokens.len()));
        }
        super::pause(LOOK_EVERY);
    }
}

/// The writer, with a network of its own.
fn write(config: &Config, tokens: &[Token], state: &State) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let prices = patiently(async || Prices::connect(config).await).await?;
        let source = Label::new("source", "drill")?;
        let mut slot = 0;
        while !state.ended.load(Ordering::SeqCst) {
            slot += 1;
            let update =
                |token: &Token| PriceUpdate { token: *token, value: Decimal::from(slot), slot, source, venue: None };
            let updates: Vec<PriceUpdate> = tokens.iter().map(update).collect();
            // The same slot again, where the machine is busy: it is there once.
            let report = patiently(async || prices.write(&updates).await).await?;
            state.written.fetch_add(u64::try_from(report.written)?, Ordering::SeqCst);
            state.slot.store(slot, Ordering::SeqCst);
            tokio::time::sleep(WRITE_EVERY).await;
        }
        Ok(())
    })
}

/// The strategy: reads memory and nothing else.
fn read(bot: &Prices, tokens: &[Token], state: &State) -> Report {
    let mut report = Report::default();
    let mut last = vec![0_u64; tokens.len()];
    let life = Duration::from_millis(LIFE_MS);
    let mut longest = Duration::ZERO;
    while !state.ended.load(Ordering::SeqCst) {
        let is_bad = state.bad.load(Ordering::SeqCst);
        for (token, last) in tokens.iter().zip(&mut last) {
            let began = Instant::now();
            let price = bot.latest(token);
            longest = longest.max(began.elapsed());
            report.memory_reads += 1;
            let Some(price) = price else { continue };
            report.memory_served += u64::from(is_bad);
            report.memory_outlived += u64::from(price.age.is_none_or(|age| age > life));
            let slot = price.slot.unwrap_or(0);
            report.doubled += u64::from(slot < *last);
            *last = slot;
        }
        super::pause(LOOK_EVERY);
    }
    report.max_stall_us = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    report
}

#[derive(Debug, Default)]
struct Called {
    calls: u64,
    failed: u64,
    longest_ms: u64,
}

/// The bot's own calls: a read and a write in turns, each with its deadline.
async fn call(bot: &Prices, tokens: &[Token], state: &State) -> Called {
    let mut called = Called::default();
    let own = Token::new("DRILL-OWN");
    for token in tokens.iter().cycle() {
        if state.ended.load(Ordering::SeqCst) {
            break;
        }
        let began = Instant::now();
        let answer: Result<(), Error> = if called.calls.is_multiple_of(2) {
            bot.read(token).await.map(drop)
        } else {
            match &own {
                Ok(own) => bot.cache_price(own.as_str(), Decimal::ONE, Duration::from_millis(LIFE_MS)).await,
                Err(_) => Ok(()),
            }
        };
        called.longest_ms = called.longest_ms.max(millis(began.elapsed()));
        called.calls += 1;
        called.failed += u64::from(answer.is_err());
        tokio::time::sleep(LOOK_EVERY * 5).await;
    }
    called
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        Report {
            memory_served: 9,
            calls_failed: 1,
            longest_call_ms: 1001,
            recoveries_ms: vec![7, 900],
            ..Report::default()
        }
    }

    #[test]
    fn each_broken_promise_is_named_and_only_those() {
        let kept = good().judge();
        assert!(kept.ok && kept.recovery_ms == 900, "{kept:?}");
        for broken in [
            Report { lost: 1, ..good() },
            Report { doubled: 1, ..good() },
            Report { memory_outlived: 1, ..good() },
            Report { memory_served: 0, ..good() },
            Report { calls_failed: 0, ..good() },
            Report { longest_call_ms: 1600, ..good() },
            Report { max_stall_us: 26_000, ..good() },
            Report { recoveries_ms: vec![1001], ..good() },
        ] {
            let judged = broken.judge();
            assert!(!judged.ok && judged.broken.len() == 1, "{judged:?}");
        }
    }
}
