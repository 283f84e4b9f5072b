//! Trades at a steady rate beside what is measured, watched from recorded to visible.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use hdrhistogram::Histogram;
use tripod::tape::{Recorded, Recorder};

use super::pace::paced;
use super::raw::Raw;
use super::record::{self, ONE_ROWS_PER_SECOND};
use super::rig::Rig;
use super::rows::Stock;
use super::visible::{self, Mark};

/// Trades a second beside the measured thread.
pub(super) const BESIDE_ROWS_PER_SECOND: u64 = 100_000;
/// Rows between two marks.
const MARK_ROWS: u64 = 100;
const RAW_S: u64 = 6;

/// What came of the trades.
#[derive(Debug)]
pub(super) struct Beside {
    /// Trades that became visible a second, by the server, from the first recorded to the last visible.
    pub(super) rows_per_second: u64,
    /// Of those trades, from due to visible, microseconds.
    pub(super) visible_us: Histogram<u64>,
}

/// Runs `measured` with a recorder while trades are recorded for so many seconds; ends when all of it is visible.
pub(super) fn run<T>(
    rig: &mut Rig,
    seconds: u64,
    rows_per_second: u64,
    measured: impl FnOnce(&Rig, &Recorder) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Beside)> {
    let tape = rig.open()?;
    let trades = rig.take_trades(seconds * rows_per_second);
    let (recorder, stock) = (tape.recorder(), rig.stock);
    let (result, beside) = watched(
        rig,
        trades.clone(),
        move || record_trades(&recorder, stock, trades, rows_per_second),
        |rig| measured(rig, &tape.recorder()),
    )?;
    rig.settle(tape)?;
    Ok((result, beside))
}

/// The same trades at the same rate by the raw client, which sends what waits as often as Tripod's sink. The executions
/// beside them are recorded as before, so that the server has the same to do.
pub(super) fn run_raw(rig: &mut Rig) -> anyhow::Result<Beside> {
    let trades = rig.take_trades(RAW_S * BESIDE_ROWS_PER_SECOND);
    let executions = rig.take_executions(RAW_S * ONE_ROWS_PER_SECOND);
    let tape = rig.open()?;
    let (mut raw, stock) = (rig.raw()?, rig.stock);
    let send = {
        let trades = trades.clone();
        move || send_trades(&mut raw, stock, trades)
    };
    let (_, beside) =
        watched(rig, trades, send, |_| record::calls(&tape.recorder(), stock, executions, ONE_ROWS_PER_SECOND))?;
    rig.settle(tape)?;
    Ok(beside)
}

fn watched<T>(
    rig: &Rig,
    trades: Range<u64>,
    send: impl FnOnce() -> anyhow::Result<Vec<Mark>> + Send,
    measured: impl FnOnce(&Rig) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Beside)> {
    let ended = AtomicBool::new(false);
    let (result, sent, looks) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let watch = scope.spawn(|| visible::watch(rig, trades.end, &ended));
        let sender = scope.spawn(send);
        let result = measured(rig);
        let sent = sender.join().map_err(|_| anyhow!("the thread beside it panicked"));
        ended.store(true, Ordering::Relaxed);
        let looks = watch.join().map_err(|_| anyhow!("the thread that looks panicked"))??;
        Ok((result?, sent??, looks))
    })?;
    let (first, last) = sent.first().zip(looks.last()).context("nothing was recorded")?;
    let taken_ms = last.at.saturating_duration_since(first.at).as_millis().max(1);
    let rows_per_second = u64::try_from(u128::from(trades.end - trades.start) * 1000 / taken_ms)?;
    Ok((result, Beside { rows_per_second, visible_us: visible::latencies(&sent, &looks)? }))
}

/// Records trades at a rate; the moments at which so many were due.
pub(super) fn record_trades(
    recorder: &Recorder,
    stock: Stock,
    numbers: Range<u64>,
    rows_per_second: u64,
) -> anyhow::Result<Vec<Mark>> {
    let (mut id, mut marks) = (String::new(), Vec::new());
    paced(numbers, rows_per_second, |number, due| {
        let recorded = recorder.record(&stock.trade(number, &mut id))?;
        ensure!(recorded == Recorded::Kept, "the journal is full");
        mark(&mut marks, number, due);
        Ok(())
    })?;
    Ok(marks)
}

fn send_trades(raw: &mut Raw, stock: Stock, numbers: Range<u64>) -> anyhow::Result<Vec<Mark>> {
    let (mut id, mut marks) = (String::new(), Vec::new());
    paced(numbers, BESIDE_ROWS_PER_SECOND, |number, due| {
        raw.put_trade(&stock.trade(number, &mut id))?;
        mark(&mut marks, number, due);
        raw.flush_if_due()
    })?;
    raw.flush()?;
    Ok(marks)
}

/// A row counts from when it was due: a client that makes its caller wait would otherwise look prompt.
fn mark(marks: &mut Vec<Mark>, number: u64, due: Instant) {
    let rows = number + 1;
    if rows.is_multiple_of(MARK_ROWS) {
        marks.push(Mark { rows, at: due });
    }
}
