//! `tripod bench tokens`: the numbers of the reference data, measured here and now.
//!
//! Constraints: on the own stack's PostgreSQL, in a database of its own that is dropped at the end, also where it fails.
//! Beside a figure stands what the server does without Tripod in the same run: a plain binary COPY of the very bytes that
//! the store holds afterwards, into empty tables with the same columns, checks and keys; `pgbench -S` over as many rows. A
//! clock reading around one call measures that call and the clock. A read of one token of a million stands beside a read of
//! one line of as much memory: less than that no read can take. It is no test: a missed bar is printed as missed, and
//! the exit code is 0.
//!
//! ```text
//! decode ─▶ bulk upsert, COPY, COPY, bulk upsert, … ─▶ fill to a million ─▶ open the cache ─▶ get ─▶ lookups, pgbench
//! ```

mod lookups;
mod pgbench;
mod reads;
mod rig;
mod sample;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tripod::tokens::{Address, CacheOptions, TokenCache, Tokens, decode};

use super::machine;
use super::pair::Pair;
use super::report::{Figure, Report};
use crate::args::Global;
use rig::Rig;

/// Tokens that memory and lookups are measured with.
const TOKENS: u32 = 1_000_000;
/// Mints of one turn of the bulk upsert.
const BULK_MINTS: u32 = 100_000;
const BULK_TURNS: u32 = 3;
/// Tokens that a bot has at hand.
const HOT: usize = 1_000;
const DECODES: u32 = 200_000;
const OPENINGS: u32 = 3;
/// The cache's own default is the promise; a figure that misses its bar is still a figure.
const FILL_WITHIN: Duration = Duration::from_secs(120);

/// Runs all of it.
pub(crate) fn tokens(global: &Global, bar: &ProgressBar) -> anyhow::Result<Report> {
    // As many threads as a bot's runtime has unless it says otherwise: one for each core.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let rig = Rig::set(global).await?;
        let measured = measure(&rig, bar).await;
        let cleared = rig.clear().await;
        let report = measured?;
        cleared?;
        Ok(report)
    })
}

async fn measure(rig: &Rig, bar: &ProgressBar) -> anyhow::Result<Report> {
    let mut results = Vec::new();
    bar.set_message("decoding");
    results.extend(decoding()?);

    let mut bulk = Pair::default();
    let store = Tokens::new(rig.bot.clone());
    for turn in 0..BULK_TURNS {
        bar.set_message(format!("bulk upsert, turn {} of {BULK_TURNS}", turn + 1));
        let batch = sample::observations(BULK_MINTS)?;
        rig.empty().await?;
        let started = Instant::now();
        let summary = store.store(&batch, "bench").await?;
        bulk.tripod.add(BULK_MINTS.into(), started.elapsed());
        ensure!(summary.new == batch.len(), "{} of {} mints were new", summary.new, batch.len());
        bulk.raw.add(BULK_MINTS.into(), rig.copy_the_same().await?);
    }
    results.push(Figure::of_pair("bulk_upsert", &bulk, 40, Some(60)).note(format!(
        "{BULK_MINTS} mints, {} extensions a turn; raw: COPY of the same bytes",
        sample::extensions(BULK_MINTS)
    )));

    bar.set_message("a million tokens");
    rig.fill(TOKENS).await?;
    let mints = rig.some_mints().await?;
    let mut opened = Vec::new();
    let mut cache = None;
    for turn in 0..OPENINGS {
        bar.set_message(format!("opening the cache, turn {} of {OPENINGS}", turn + 1));
        drop(cache.take());
        let mut options = CacheOptions::default();
        options.fill_deadline = FILL_WITHIN;
        let started = Instant::now();
        let filled = TokenCache::open(&rig.config, options).await?;
        opened.push(u64::try_from(started.elapsed().as_millis())?);
        ensure!(filled.len() == usize::try_from(TOKENS)?, "{} tokens are in memory", filled.len());
        cache = Some(filled);
    }
    opened.sort_unstable();
    let median = opened.get(opened.len() / 2).copied().unwrap_or(u64::MAX);
    results.push(Figure::plain("start_to_ready", median, "ms").most(5_000).best(2_000).turns(opened));
    let cache = cache.context("no cache was opened")?;
    bar.set_message("reading from memory");
    results.extend(gets(&cache, &mints)?);
    drop(cache);

    bar.set_message("making pgbench's tables");
    results.extend(lookups::figures(rig, &mints, bar).await?);
    Ok(Report { results, machine: machine::describe(format!("PostgreSQL {}", rig.version().await?))? })
}

/// The walk and the base are one figure; every field of every extension as JSON, which only imports and people ask for, is
/// another.
fn decoding() -> anyhow::Result<[Figure; 2]> {
    let (owner, data) = sample::eight_extensions()?;
    let (mut walk, mut fields) = (histogram()?, histogram()?);
    for _ in 0..DECODES {
        let started = Instant::now();
        let mint = black_box(decode(&owner, black_box(&data))?);
        record(&mut walk, started.elapsed());
        let started = Instant::now();
        for extension in &mint.extensions {
            let _ = black_box(extension.fields());
        }
        record(&mut fields, started.elapsed());
    }
    let bytes = data.len();
    Ok([
        Figure::plain("decode_8_extensions_p50", walk.value_at_quantile(0.5), "ns")
            .most(2_000)
            .best(1_000)
            .note(format!("PYUSD, {bytes} bytes: base, entries, their bytes kept")),
        Figure::plain("fields_8_extensions_p50", fields.value_at_quantile(0.5), "ns")
            .note("as JSON, for store and show"),
    ])
}

/// A token of all at random, and one of those that a bot has at hand; beside the first a read of bare memory.
fn gets(cache: &TokenCache, mints: &[Address]) -> anyhow::Result<[Figure; 6]> {
    let at_random = reads::tokens(cache, mints)?;
    let hot = reads::tokens(cache, mints.get(..HOT).context("too few mints")?)?;
    let raw = reads::lines(usize::try_from(TOKENS)?, mints)?;
    let p50 = |nanos: &Histogram<u64>| nanos.value_at_quantile(0.5);
    let p999 = |nanos: &Histogram<u64>| nanos.value_at_quantile(0.999);
    let of = format!("{} mints of {TOKENS}, in no order; raw: one line of as much memory", mints.len());
    let batch = "each of 100, without the clock's own time";
    Ok([
        Figure::plain("get_p50", p50(&at_random.single), "ns").most(60).raw(p50(&raw.single)).note(of),
        Figure::plain("get_p999", p999(&at_random.single), "ns").most(1_000).raw(p999(&raw.single)),
        Figure::plain("get_of_100_p50", p50(&at_random.in_batches), "ns").raw(p50(&raw.in_batches)).note(batch),
        Figure::plain("get_hot_p50", p50(&hot.single), "ns").most(60).note(format!("{HOT} mints, again and again")),
        Figure::plain("get_hot_p999", p999(&hot.single), "ns").most(1_000),
        Figure::plain("get_hot_of_100_p50", p50(&hot.in_batches), "ns"),
    ])
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(1_000_000_000, 3)?)
}

fn record(nanos: &mut Histogram<u64>, took: Duration) {
    nanos.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}
