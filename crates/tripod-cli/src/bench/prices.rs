//! `tripod bench prices`: what prices and signals cost, beside the raw driver and `redis-benchmark` in the same run.
//!
//! Constraints: each side reads and writes keys of its own on the same server, in turns. A figure is taken around whole
//! calls, by the thread that makes them. The writer beside a measured reader has a thread, a runtime and a connection of
//! its own. `redis-benchmark` gets a user that may touch its own keys alone and is gone with the run; where the program
//! is not installed its figures are left out and that is said.
//!
//! Picture:
//! ```text
//! batches of 100: Tripod, SET PX by the driver, … ─▶ redis-benchmark ─▶ reads beside 20k writes/s: one, 100, redis-benchmark
//!   ─▶ memory ─▶ written → in the memory of another connection ─▶ signals
//! ```

mod beside;
mod rivals;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tripod::prices::{PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::signals::{Signal, Signals};
use tripod::{Config, Decimal, Token, Uuid};
use tripod_stack::ServerName;

use super::machine;
use super::pair::{Side, turns};
use super::report::{Figure, Report};
use crate::args::Global;
use crate::own_redis::own_redis;
use beside::Beside;
use rivals::{Benchmark, Raw};

const TOKENS: u64 = 1000;
const BATCH: usize = 100;
/// Batches of one turn, and turns of each side.
const BATCHES: u32 = 200;
const TURNS: u32 = 5;
const READS: u32 = 20_000;
const BATCH_READS: u32 = 2_000;
/// Reads of memory between two readings of the clock.
const BLOCK: u32 = 100;
const BLOCKS: u32 = 20_000;
const SIGNALS: u32 = 3_000;
const SIGNAL_EVERY: Duration = Duration::from_millis(1);
const HEARD_WITHIN: Duration = Duration::from_secs(5);

const WRITE_RATIO_LEAST: f64 = 0.25;
const READ_P99_US_MAX: u64 = 1000;
const READ_RATIO_MOST: f64 = 1.5;
const MEMORY_P50_NS_MAX: u64 = 50;
const MEMORY_P999_NS_MAX: u64 = 1000;
const SEEN_P99_US_MAX: u64 = 5000;

/// Runs all of it; its keys are gone by themselves after a minute.
pub(crate) fn run(global: &Global, bar: &ProgressBar) -> anyhow::Result<Report> {
    let mut config = global.load()?;
    let own = own_redis(&config, &global.data, ServerName::RedisPrices)?;
    own_redis(&config, &global.data, ServerName::RedisEvents)?;
    // What a life is makes no difference to its cost; on a busy machine a short one runs out between two steps.
    config.prices.ttl_ms = 60_000;
    // Of this run alone: guards of the run before still know its slots.
    let prefix = format!("bench-{}:", Uuid::new_v4().simple());
    config.prices.key_prefix.clone_from(&prefix);
    config.events.key_prefix = prefix;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(measure(&config, bar))?;
    Ok(Report { results, machine: machine::describe(format!("Redis {}", own.version.unwrap_or_default()))? })
}

async fn measure(config: &Config, bar: &ProgressBar) -> anyhow::Result<Vec<Figure>> {
    let prices = Prices::connect(config).await?;
    let tokens = (0..TOKENS).map(token).collect::<tripod::Result<Vec<_>>>()?;
    let benchmark = Benchmark::set(config).await?;
    let measured = figures(config, &prices, &tokens, benchmark.as_ref(), bar).await;
    // Also where it failed.
    if let Some(benchmark) = benchmark {
        benchmark.clear().await?;
    }
    measured
}

async fn figures(
    config: &Config,
    prices: &Prices,
    tokens: &[Token],
    benchmark: Option<&Benchmark>,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Figure>> {
    let mut results = Vec::new();
    bar.set_message("writing batches");
    let mut raw = Raw::connect(config).await?;
    let (mut ours, mut theirs, mut slot) = (histogram()?, histogram()?, 0);
    for side in turns(TURNS) {
        for number in 0..BATCHES {
            let started = match side {
                Side::Tripod => {
                    slot += 1;
                    let updates = updates(tokens.get(..BATCH).context("too few tokens")?, slot)?;
                    let started = Instant::now();
                    let report = prices.write(&updates).await?;
                    ensure!(report.written == BATCH, "{report:?} of {BATCH}");
                    started
                }
                Side::Raw => raw.set_batch(BATCH, number).await?,
            };
            let took = micros(started.elapsed());
            match side {
                Side::Tripod => ours.saturating_record(took),
                Side::Raw => theirs.saturating_record(took),
            }
        }
    }
    let per_second = |micros: &Histogram<u64>| 100 * 1_000_000 / micros.value_at_quantile(0.5).max(1);
    let (value, raw_value) = (per_second(&ours), per_second(&theirs));
    results.push(Figure::rate("write_batch_100", value, "prices/s", raw_value, WRITE_RATIO_LEAST));
    results.extend(Figure::quantiles("write_batch_100", &ours, "us", [None; 3]));
    if let Some(benchmark) = benchmark {
        let theirs = benchmark.set_pipelined().await?;
        results.push(Figure::rate("write_batch_100_redis_benchmark", value, "prices/s", theirs, WRITE_RATIO_LEAST));
    }

    bar.set_message("reading beside 20,000 writes a second");
    let beside = Beside::start(config, tokens)?;
    let (mut one, mut many) = (histogram()?, histogram()?);
    for token in tokens.iter().cycle().take(usize::try_from(READS)?) {
        let started = Instant::now();
        let price = prices.read(token).await?;
        one.saturating_record(micros(started.elapsed()));
        ensure!(price.is_some(), "{token} has no price though it is written all the time");
    }
    let theirs = match benchmark {
        Some(benchmark) => Some(benchmark.get_p50_us().await?),
        None => None,
    };
    for number in 0..usize::try_from(BATCH_READS)? {
        let from = number * BATCH % (tokens.len() - BATCH);
        let part = tokens.get(from..from + BATCH).context("too few tokens")?;
        let started = Instant::now();
        let read = prices.read_many(part).await?;
        many.saturating_record(micros(started.elapsed()));
        ensure!(read.iter().all(Result::is_ok), "a price cannot be read");
    }
    results.extend(Figure::quantiles("read_one", &one, "us", [None, Some(READ_P99_US_MAX), None]));
    if let Some(theirs) = theirs {
        results.push(Figure::times(
            "read_one_redis_benchmark",
            one.value_at_quantile(0.5),
            "us",
            theirs,
            READ_RATIO_MOST,
        ));
    }
    results.extend(Figure::quantiles("read_batch_100", &many, "us", [None, Some(READ_P99_US_MAX), None]));

    bar.set_message("from writing to the memory of another");
    let seen = beside.seen(config).await?;
    let rate = beside.end()?;
    results.extend(Figure::quantiles("write_to_memory", &seen, "us", [None, Some(SEEN_P99_US_MAX), None]));
    results.push(Figure::plain("written_beside", rate, "prices/s"));

    bar.set_message("memory");
    results.extend(memory(prices, tokens, slot).await?);
    bar.set_message("signals");
    results.extend(Figure::quantiles("signal", &signals(config).await?, "us", [None; 3]));
    Ok(results)
}

/// What one read from memory costs: nanoseconds of a block, shared out, so that the clock is not in it.
async fn memory(prices: &Prices, tokens: &[Token], slot: u64) -> anyhow::Result<Vec<Figure>> {
    let mut nanos = histogram()?;
    let mut order = tokens.iter().cycle();
    for block in 0..BLOCKS {
        if block % 1000 == 0 {
            // None of them ends meanwhile.
            prices.write(&updates(tokens, slot + 1_000_000 + u64::from(block))?).await?;
        }
        let mut found = 0;
        let started = Instant::now();
        for token in order.by_ref().take(usize::try_from(BLOCK)?) {
            found += u32::from(prices.latest(token).is_some());
        }
        let took = started.elapsed();
        ensure!(found == BLOCK, "memory has {found} of {BLOCK} prices");
        nanos.saturating_record(u64::try_from(took.as_nanos())? / u64::from(BLOCK));
    }
    Ok(Figure::quantiles("read_memory", &nanos, "ns", [Some(MEMORY_P50_NS_MAX), None, Some(MEMORY_P999_NS_MAX)]))
}

/// From publishing a signal to its being received; both by this process, through the server.
async fn signals(config: &Config) -> anyhow::Result<Histogram<u64>> {
    let signals = Signals::connect(config).await?;
    let mut receiver = signals.subscribe(&["bench"], usize::try_from(SIGNALS)?).await?;
    let mut taken = histogram()?;
    let mut tick = tokio::time::interval(SIGNAL_EVERY);
    for number in 0..SIGNALS {
        tick.tick().await;
        let started = Instant::now();
        let (published, heard) =
            tokio::join!(signals.publish("bench", &number), tokio::time::timeout(HEARD_WITHIN, receiver.recv()));
        taken.saturating_record(micros(started.elapsed()));
        published?;
        let heard = heard.context("a signal did not arrive")?;
        ensure!(matches!(heard, Signal::Message { .. }), "not a signal but {heard:?}");
    }
    Ok(taken)
}

fn token(number: u64) -> tripod::Result<Token> {
    Token::new(&format!("Bench1111111111111111111111111111111111{number:05}"))
}

fn updates(tokens: &[Token], slot: u64) -> tripod::Result<Vec<PriceUpdate>> {
    let (source, value) =
        (Label::new("source", "bench")?, Decimal::new(152_125_000 + i64::try_from(slot % 1000).unwrap_or(0), 6));
    Ok(tokens.iter().map(|token| PriceUpdate { token: *token, value, slot, source, venue: None }).collect())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Three digits, up to a minute in nanoseconds.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(60_000_000_000, 3)?)
}
