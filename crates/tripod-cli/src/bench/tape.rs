//! `tripod bench tape`: what recording, delivering and asking cost.
//!
//! Constraints: the raw client writes the same rows into the same tables, in requests of the same size, in turns. What is
//! visible is counted by the server. A clock reading around one call measures that call and the clock: what the clock
//! alone costs is told, and not subtracted. Pauses that keep a rate are outside the clock.
//!
//! Picture:
//! ```text
//! memory with a backlog ─▶ warm up ─▶ record(), 1 thread beside 100k rows/s ─▶ the same by the raw client ─▶ record(), 4 threads
//!                                        └─ recorded → visible                    └─ the same by the raw client
//! ─▶ one row, then silence ─▶ backlog: Tripod, raw, raw, Tripod ─▶ sustained: the same ─▶ 30 days of rows ─▶ questions
//! ```

mod beside;
mod history;
mod memory;
mod pace;
mod queries;
mod raw;
mod record;
mod rig;
pub(super) mod rows;
mod tables;
mod visible;

use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use super::machine;
use super::pair::{Pair, Side, turns};
use super::report::{Figure, Report};
use crate::args::{BenchTape, Global};
use crate::drill::pause;
use beside::Beside;
use rig::Rig;

/// Rows of the outage's backlog.
const BACKLOG_ROWS: u64 = 1_000_000;
/// Rows of one turn of the sustained delivery.
const SUSTAINED_ROWS: u64 = 400_000;
/// Turns of each side.
const BACKLOG_TURNS: u32 = 2;
const SUSTAINED_TURNS: u32 = 4;
/// Rows that come after silence, and the silence.
const LONE_ROWS: u32 = 10;
const SILENCE: Duration = Duration::from_millis(400);

/// Runs all of it; what it made on the server and on the disk is removed, also where it fails.
pub(crate) fn tape(wanted: &BenchTape, global: &Global, bar: &ProgressBar) -> anyhow::Result<Report> {
    let mut rig = Rig::set(global)?;
    let measured = measure(&mut rig, wanted, bar);
    let cleared = rig.clear();
    let report = measured?;
    cleared?;
    Ok(report)
}

fn measure(rig: &mut Rig, wanted: &BenchTape, bar: &ProgressBar) -> anyhow::Result<Report> {
    let machine = machine::describe(format!("QuestDB {}", rig.http.version()?))?;
    bar.set_message("memory with a backlog");
    let memory = memory::measure(rig, wanted.backlog_gib)?;
    bar.set_message("warming up");
    record::warm_up(rig)?;
    bar.set_message("record(), 1 thread");
    let (one, beside) = record::one_thread(rig)?;
    let allocations = record::allocations(rig)?;
    bar.set_message("the raw client in its place");
    let one_raw = record::one_thread_raw(rig)?;
    let beside_raw = beside::run_raw(rig)?;
    bar.set_message("record(), 4 threads");
    let four = record::four_threads(rig)?;
    bar.set_message("one row, then silence");
    let lone = lone_rows(rig)?;
    bar.set_message("a backlog");
    let backlog = in_turns(rig, BACKLOG_TURNS, BACKLOG_ROWS, Rig::drain)?;
    bar.set_message("sustained delivery");
    let sustained = in_turns(rig, SUSTAINED_TURNS, SUSTAINED_ROWS, Rig::deliver)?;
    let views = rig.live_views()?;
    bar.set_message("questions");
    let queries = queries::measure(rig, wanted.rows_per_day())?;

    let mut results = Vec::new();
    let [p50, p99, p999, p9999, max] = Figure::of_calls("record_1_thread", &one);
    let one = [p50.most(200).best(100), p99, p999.most(5_000).best(2_000), p9999, max];
    results.extend(one.into_iter().zip(raw_calls(&one_raw)).map(|(figure, raw)| figure.raw(raw)));
    let (count, rows) = allocations;
    results.push(Figure::at_most("record_allocations", count, "allocations", 0).note(format!("in {rows} calls")));
    let [p50, p99, p999, p9999, max] = Figure::of_calls("record_4_threads", &four);
    results.extend([p50, p99, p999.most(25_000).best(5_000), p9999, max]);
    results.push(Figure::of_pair("sustained_delivery", &sustained, 80, Some(100)));
    let all_views = u64::try_from(tripod::tape::schema::rollups().len())?;
    results.push(Figure::at_least("rollup_views_live", views, "views", all_views).note("on the tables of all figures"));
    results.extend(visible(&beside, &beside_raw));
    results.extend(lone_figures(&lone));
    results.push(Figure::of_pair("backlog_1m_rows", &backlog, 80, None));
    results.push(memory);
    results.extend(queries);
    Ok(Report { results, machine })
}

/// In the order of [`Figure::of_calls`].
fn raw_calls(nanos: &Histogram<u64>) -> [u64; 5] {
    [0.5, 0.99, 0.999, 0.9999, 1.0].map(|quantile| nanos.value_at_quantile(quantile))
}

fn in_turns(
    rig: &mut Rig,
    each: u32,
    rows: u64,
    by_tripod: impl Fn(&mut Rig, u64) -> anyhow::Result<Duration>,
) -> anyhow::Result<Pair> {
    let mut pair = Pair::default();
    for side in turns(each) {
        let took = match side {
            Side::Tripod => by_tripod(rig, rows)?,
            Side::Raw => rig.send_raw(rows)?,
        };
        pair.add(side, rows, took);
    }
    Ok(pair)
}

/// From recorded to visible at 100k rows/s.
fn visible(tripod: &Beside, raw: &Beside) -> [Figure; 3] {
    let figure = |part: &str, quantile| {
        let millis = |micros: &Histogram<u64>| micros.value_at_quantile(quantile).div_ceil(1000);
        Figure::plain(&format!("visible_{part}"), millis(&tripod.visible_us), "ms").raw(millis(&raw.visible_us))
    };
    [
        figure("p50", 0.5).most(150),
        figure("p99", 0.99).most(300).best(200),
        Figure::plain("visible_rows", tripod.rows_per_second, "rows/s")
            .raw(raw.rows_per_second)
            .note("100000 rows/s are recorded"),
    ]
}

/// Milliseconds until each of some rows is visible that come after silence.
fn lone_rows(rig: &mut Rig) -> anyhow::Result<Histogram<u64>> {
    let mut millis = Histogram::new_with_max(120_000, 3)?;
    let tape = rig.open()?;
    for _ in 0..LONE_ROWS {
        pause(SILENCE);
        let took = rig.deliver_one(&tape)?;
        millis.saturating_record(u64::try_from(took.as_micros().div_ceil(1000))?);
    }
    rig.settle(tape)?;
    Ok(millis)
}

fn lone_figures(millis: &Histogram<u64>) -> [Figure; 2] {
    let note = format!(
        "{} rows, each after {SILENCE:?} of silence; the raw client sends only when it is told to",
        millis.len()
    );
    [
        Figure::at_most("idle_row_visible_p50", millis.value_at_quantile(0.5), "ms", 150),
        Figure::at_most("idle_row_visible_max", millis.max(), "ms", 300).note(note),
    ]
}
