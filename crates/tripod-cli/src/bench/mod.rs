//! `tripod bench tape`: the numbers of the README, measured here and now.
//!
//! Constraints: each figure stands beside the raw client's in the same run, on the same servers, with the same rows in
//! requests of the same size, in turns. What is visible is counted by the server. A clock reading around one call
//! measures that call and the clock: what the clock alone costs is measured and printed, and not subtracted. Pauses
//! that keep a rate are outside the clock. It is no test: a missed bar is printed as missed, and the exit code is 0.
//!
//! Picture:
//! ```text
//! warm up ─▶ record(), 1 thread beside 100k rows/s ─▶ record(), 4 threads ─▶ one row alone ─▶ backlog: Tripod, raw ─▶ sustained: Tripod, raw, …
//!                └─ recorded → visible                                        └─ memory so far
//! ```

mod machine;
mod raw;
mod record;
mod report;
mod rig;
mod rows;
mod visible;

use indicatif::ProgressBar;

use crate::args::Global;
pub(crate) use report::Report;
use report::{Figure, Pair};
use rig::Rig;

/// Rows of the outage's backlog.
const BACKLOG_ROWS: u64 = 1_000_000;
/// Rows of one turn of the sustained delivery.
const SUSTAINED_ROWS: u64 = 400_000;
/// Turns of each side.
const BACKLOG_TURNS: u32 = 2;
const SUSTAINED_TURNS: u32 = 3;

/// Runs all of it; what it made on the server and on the disk is removed, also where it fails.
pub(crate) fn tape(global: &Global, bar: &ProgressBar) -> anyhow::Result<Report> {
    let mut rig = Rig::set(global)?;
    let measured = measure(&mut rig, bar);
    let cleared = rig.clear();
    let report = measured?;
    cleared?;
    Ok(report)
}

fn measure(rig: &mut Rig, bar: &ProgressBar) -> anyhow::Result<Report> {
    let memory = machine::MemoryWatch::start()?;
    bar.set_message("warming up");
    record::warm_up(rig)?;
    bar.set_message("record(), 1 thread");
    let one = record::one_thread(rig)?;
    bar.set_message("record(), 4 threads");
    let four = record::four_threads(rig)?;

    bar.set_message("one row, then silence");
    let alone = visible::alone(rig)?;
    bar.set_message("a backlog");
    let mut backlog = Pair::default();
    let mut anonymous_bytes = None;
    for side in turns(BACKLOG_TURNS) {
        match side {
            Side::Tripod => backlog.tripod.add(BACKLOG_ROWS, rig.drain(BACKLOG_ROWS)?),
            Side::Raw => backlog.raw.add(BACKLOG_ROWS, rig.send_raw(BACKLOG_ROWS)?),
        }
        // After the first turn, before the raw client has had any memory of this process.
        anonymous_bytes.get_or_insert_with(|| memory.most_bytes());
    }
    bar.set_message("sustained delivery");
    let mut sustained = Pair::default();
    for side in turns(SUSTAINED_TURNS) {
        match side {
            Side::Tripod => sustained.tripod.add(SUSTAINED_ROWS, rig.deliver(SUSTAINED_ROWS)?),
            Side::Raw => sustained.raw.add(SUSTAINED_ROWS, rig.send_raw(SUSTAINED_ROWS)?),
        }
    }
    let mut results = Figure::of_record("record_1_thread", &one.nanos, 200, 5_000);
    results.push(Figure::plain("delivered_beside", one.rows_per_second, "rows/s"));
    results.extend(Figure::of_visible(&one.visible_us));
    results.extend(Figure::of_alone(&alone));
    results.extend(Figure::of_record("record_4_threads", &four, 0, 25_000));
    results.push(Figure::of_pair("sustained_delivery", &sustained));
    results.push(Figure::of_pair("backlog_1m_rows", &backlog));
    results.extend(anonymous_bytes.map(Figure::of_memory));
    Ok(Report { results, machine: machine::describe(rig.version()?)? })
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Tripod,
    Raw,
}

/// So many turns of each side; who begins changes, so that neither always finds the server as the other left it.
fn turns(each: u32) -> impl Iterator<Item = Side> {
    (0..each).flat_map(|turn| match turn % 2 {
        0 => [Side::Tripod, Side::Raw],
        _ => [Side::Raw, Side::Tripod],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_have_the_same_turns_and_neither_always_begins() {
        use Side::{Raw, Tripod};
        assert_eq!(turns(3).collect::<Vec<_>>(), [Tripod, Raw, Raw, Tripod, Tripod, Raw]);
    }
}
