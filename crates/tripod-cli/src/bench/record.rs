//! What one `record()` costs, while QuestDB on the same machine takes what was recorded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use hdrhistogram::Histogram;
use tripod::tape::{Recorded, Recorder};

use super::rig::Rig;
use super::rows::Stock;
use super::visible::{self, Mark};
use crate::drill::pause;

/// Trades a second beside the measured thread.
const BESIDE_ROWS_PER_SECOND: u64 = 100_000;
/// Executions a second that each measured thread records.
const ONE_ROWS_PER_SECOND: u64 = 10_000;
const FOUR_ROWS_PER_SECOND: u64 = 20_000;
const WARM_UP_S: u64 = 4;
const ONE_S: u64 = 12;
const FOUR_S: u64 = 6;
const THREADS: u64 = 4;
/// Rows between two readings of the recording thread's clock; counts of all trades are multiples of it.
const MARK_ROWS: u64 = 100;
/// Between two bursts of due rows; timers are not finer.
const PAUSE: Duration = Duration::from_millis(1);

/// One thread beside 100k rows/s.
#[derive(Debug)]
pub(super) struct One {
    pub(super) nanos: Histogram<u64>,
    /// Trades that became visible a second meanwhile, by the server.
    pub(super) rows_per_second: u64,
    /// Of those trades, from recorded to visible, microseconds.
    pub(super) visible_us: Histogram<u64>,
}

/// A fresh QuestDB compiles its own code first.
pub(super) fn warm_up(rig: &mut Rig) -> anyhow::Result<()> {
    let tape = rig.open()?;
    let (trades, executions) = (rig.take_trades(WARM_UP_S * BESIDE_ROWS_PER_SECOND), rig.take_executions(50_000));
    record_trades(&tape.recorder(), rig.stock, trades, BESIDE_ROWS_PER_SECOND)?;
    measure(&tape.recorder(), rig.stock, executions, 50_000)?;
    rig.settle(tape)
}

pub(super) fn one_thread(rig: &mut Rig) -> anyhow::Result<One> {
    let tape = rig.open()?;
    let visible_before = rig.visible_trades()?;
    let (trades, executions) =
        (rig.take_trades(ONE_S * BESIDE_ROWS_PER_SECOND), rig.take_executions(ONE_S * ONE_ROWS_PER_SECOND));
    let stock = rig.stock;
    let recorded_all = AtomicBool::new(false);
    let until = trades.end;
    let (nanos, recorded, looks) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let (recorder, rig, ended) = (tape.recorder(), &*rig, &recorded_all);
        let watch = scope.spawn(move || visible::watch(rig, until, ended));
        let beside = scope.spawn(move || record_trades(&recorder, stock, trades, BESIDE_ROWS_PER_SECOND));
        let nanos = measure(&tape.recorder(), stock, executions, ONE_ROWS_PER_SECOND);
        let recorded = beside.join().map_err(|_| anyhow!("the thread beside it panicked"));
        recorded_all.store(true, Ordering::Relaxed);
        let looks = watch.join().map_err(|_| anyhow!("the thread that looks panicked"))??;
        Ok((nanos?, recorded??, looks))
    })?;
    let (first, last) = recorded.first().zip(looks.last()).context("nothing was recorded")?;
    let taken_ms = last.at.saturating_duration_since(first.at).as_millis().max(1);
    let rows_per_second = u64::try_from(u128::from(last.rows - visible_before) * 1000 / taken_ms)?;
    let visible_us = visible::latencies(&recorded, &looks)?;
    rig.settle(tape)?;
    Ok(One { nanos, rows_per_second, visible_us })
}

pub(super) fn four_threads(rig: &mut Rig) -> anyhow::Result<Histogram<u64>> {
    let tape = rig.open()?;
    let parts: Vec<_> = (0..THREADS).map(|_| rig.take_executions(FOUR_S * FOUR_ROWS_PER_SECOND)).collect();
    let stock = rig.stock;
    let nanos = std::thread::scope(|scope| -> anyhow::Result<_> {
        let threads: Vec<_> = parts
            .into_iter()
            .map(|numbers| {
                let recorder = tape.recorder();
                scope.spawn(move || measure(&recorder, stock, numbers, FOUR_ROWS_PER_SECOND))
            })
            .collect();
        let mut all = histogram()?;
        for thread in threads {
            all.add(thread.join().map_err(|_| anyhow!("a recording thread panicked"))??)?;
        }
        Ok(all)
    })?;
    rig.settle(tape)?;
    Ok(nanos)
}

/// Records executions at a rate; nanoseconds of each `record()`, with the clock in it and the row's making out of it.
fn measure(
    recorder: &Recorder,
    stock: Stock,
    numbers: std::ops::Range<u64>,
    rows_per_second: u64,
) -> anyhow::Result<Histogram<u64>> {
    let mut nanos = histogram()?;
    paced(numbers, rows_per_second, |number| {
        let row = stock.execution(number);
        let started = Instant::now();
        let recorded = recorder.record(&row)?;
        let took = started.elapsed();
        nanos.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        ensure!(recorded == Recorded::Kept, "the journal is full");
        Ok(())
    })?;
    Ok(nanos)
}

/// Records trades at a rate; the moments at which so many were recorded.
fn record_trades(
    recorder: &Recorder,
    stock: Stock,
    numbers: std::ops::Range<u64>,
    rows_per_second: u64,
) -> anyhow::Result<Vec<Mark>> {
    let (mut id, mut marks) = (String::new(), Vec::new());
    paced(numbers, rows_per_second, |number| {
        let recorded = recorder.record(&stock.trade(number, &mut id))?;
        ensure!(recorded == Recorded::Kept, "the journal is full");
        let rows = number + 1;
        if rows.is_multiple_of(MARK_ROWS) {
            marks.push(Mark { rows, at: Instant::now() });
        }
        Ok(())
    })?;
    Ok(marks)
}

/// Calls `each` with what is due, then pauses.
fn paced(
    numbers: std::ops::Range<u64>,
    rows_per_second: u64,
    mut each: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let (first, mut next) = (numbers.start, numbers.start);
    while next < numbers.end {
        let due = started.elapsed().as_micros() * u128::from(rows_per_second) / 1_000_000;
        while next < numbers.end && u128::from(next - first) < due {
            each(next)?;
            next += 1;
        }
        pause(PAUSE);
    }
    Ok(())
}

/// Three digits, up to ten seconds.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(10_000_000_000, 3)?)
}
