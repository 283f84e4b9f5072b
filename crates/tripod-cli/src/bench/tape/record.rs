//! What one `record()` costs, while QuestDB on the same machine takes what was recorded; and what the raw client costs
//! the thread that calls it, beside the same.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use hdrhistogram::Histogram;
use tripod::tape::{Recorded, Recorder};

use super::beside::{self, BESIDE_ROWS_PER_SECOND, Beside};
use super::pace::paced;
use super::rig::Rig;
use super::rows::Stock;

/// Executions a second that each measured thread records.
pub(super) const ONE_ROWS_PER_SECOND: u64 = 10_000;
const FOUR_ROWS_PER_SECOND: u64 = 20_000;
const WARM_UP_S: u64 = 4;
const ONE_S: u64 = 12;
const RAW_S: u64 = 6;
const FOUR_S: u64 = 6;
const THREADS: u64 = 4;
/// Executions whose allocations are counted, outside the clock.
const COUNTED: u64 = 50_000;

/// A fresh QuestDB compiles its own code first.
pub(super) fn warm_up(rig: &mut Rig) -> anyhow::Result<()> {
    let tape = rig.open()?;
    let (trades, executions) = (rig.take_trades(WARM_UP_S * BESIDE_ROWS_PER_SECOND), rig.take_executions(50_000));
    beside::record_trades(&tape.recorder(), rig.stock, trades, BESIDE_ROWS_PER_SECOND)?;
    calls(&tape.recorder(), rig.stock, executions, 50_000)?;
    rig.settle(tape)
}

/// One thread, and what came of the trades beside it.
pub(super) fn one_thread(rig: &mut Rig) -> anyhow::Result<(Histogram<u64>, Beside)> {
    let executions = rig.take_executions(ONE_S * ONE_ROWS_PER_SECOND);
    beside::run(rig, ONE_S, BESIDE_ROWS_PER_SECOND, |rig, recorder| {
        calls(recorder, rig.stock, executions, ONE_ROWS_PER_SECOND)
    })
}

/// The same executions at the same rate, beside the same trades, by a thread that has only the raw client: a call is a
/// row put into the buffer, and each call that finds it due also sends it.
pub(super) fn one_thread_raw(rig: &mut Rig) -> anyhow::Result<Histogram<u64>> {
    let executions = rig.take_executions(RAW_S * ONE_ROWS_PER_SECOND);
    let mut raw = rig.raw()?;
    let (nanos, _) = beside::run(rig, RAW_S, BESIDE_ROWS_PER_SECOND, |rig, _| {
        let mut nanos = histogram()?;
        paced(executions, ONE_ROWS_PER_SECOND, |number, _| {
            let row = rig.stock.execution(number);
            let started = Instant::now();
            raw.put_execution(&row)?;
            raw.flush_if_due()?;
            nanos.saturating_record(nanos_of(started));
            Ok(())
        })?;
        raw.flush()?;
        Ok(nanos)
    })?;
    Ok(nanos)
}

/// Four threads, and trades beside them, so that 100k rows/s are delivered in all.
pub(super) fn four_threads(rig: &mut Rig) -> anyhow::Result<Histogram<u64>> {
    let parts: Vec<_> = (0..THREADS).map(|_| rig.take_executions(FOUR_S * FOUR_ROWS_PER_SECOND)).collect();
    let trades = BESIDE_ROWS_PER_SECOND - THREADS * FOUR_ROWS_PER_SECOND;
    let (nanos, _) = beside::run(rig, FOUR_S, trades, |rig, recorder| {
        let stock = rig.stock;
        std::thread::scope(|scope| -> anyhow::Result<_> {
            let threads: Vec<_> = parts
                .into_iter()
                .map(|numbers| scope.spawn(move || calls(recorder, stock, numbers, FOUR_ROWS_PER_SECOND)))
                .collect();
            let mut all = histogram()?;
            for thread in threads {
                all.add(thread.join().map_err(|_| anyhow!("a recording thread panicked"))??)?;
            }
            Ok(all)
        })
    })?;
    Ok(nanos)
}

/// How often the recording thread asks for memory, over [`COUNTED`] executions.
pub(super) fn allocations(rig: &mut Rig) -> anyhow::Result<(u64, u64)> {
    let numbers = rig.take_executions(COUNTED);
    let stock = rig.stock;
    let tape = rig.open()?;
    let recorder = tape.recorder();
    let (mut count, mut kept) = (0, true);
    for number in numbers {
        let row = stock.execution(number);
        let mut recorded = None;
        count += allocation_counter::measure(|| recorded = Some(recorder.record(&row))).count_total;
        kept &= recorded.context("nothing was recorded")?? == Recorded::Kept;
    }
    ensure!(kept, "the journal is full");
    rig.settle(tape)?;
    Ok((count, COUNTED))
}

/// Records executions at a rate; nanoseconds of each `record()`, with the clock in it and the row's making out of it.
pub(super) fn calls(
    recorder: &Recorder,
    stock: Stock,
    numbers: Range<u64>,
    rows_per_second: u64,
) -> anyhow::Result<Histogram<u64>> {
    let mut nanos = histogram()?;
    paced(numbers, rows_per_second, |number, _| {
        let row = stock.execution(number);
        let started = Instant::now();
        let recorded = recorder.record(&row)?;
        nanos.saturating_record(nanos_of(started));
        ensure!(recorded == Recorded::Kept, "the journal is full");
        Ok(())
    })?;
    Ok(nanos)
}

fn nanos_of(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Three digits, up to ten seconds.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(10_000_000_000, 3)?)
}
