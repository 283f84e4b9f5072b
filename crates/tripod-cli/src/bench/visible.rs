//! From recorded to visible, by the server's own count and the recording thread's clock; no figure of the sink's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;

use super::rig::Rig;
use crate::drill::pause;

/// Between two looks: how much too late a row may be called visible.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// After the last row was recorded.
const VISIBLE_WITHIN: Duration = Duration::from_secs(60);

/// Rows that are recorded alone, and the silence before each of them.
const ALONE_TIMES: u32 = 20;
const SILENCE: Duration = Duration::from_millis(400);

/// At this moment there were so many rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) rows: u64,
    pub(super) at: Instant,
}

/// Looks how many trades are visible until `until` of them are.
pub(super) fn watch(rig: &Rig, until: u64, recorded_all: &AtomicBool) -> anyhow::Result<Vec<Mark>> {
    let mut looks = Vec::new();
    let mut ended: Option<Instant> = None;
    loop {
        let rows = rig.visible_trades()?;
        looks.push(Mark { rows, at: Instant::now() });
        if rows >= until {
            return Ok(looks);
        }
        if recorded_all.load(Ordering::Relaxed) {
            let since = ended.get_or_insert_with(Instant::now);
            ensure!(since.elapsed() < VISIBLE_WITHIN, "{rows} of {until} trades are visible after {VISIBLE_WITHIN:?}");
        }
        pause(LOOK_EVERY);
    }
}

/// Microseconds until one row is visible behind which nothing comes, a few times over.
pub(super) fn alone(rig: &mut Rig) -> anyhow::Result<Histogram<u64>> {
    let mut micros = Histogram::new_with_max(120_000_000, 3)?;
    let tape = rig.open()?;
    let recorder = tape.recorder();
    for _ in 0..ALONE_TIMES {
        pause(SILENCE);
        let mut id = String::new();
        for number in rig.take_trades(1) {
            let row = rig.stock.trade(number, &mut id);
            let recorded_at = Instant::now();
            recorder.record(&row)?;
            while rig.visible_trades()? <= number {
                ensure!(recorded_at.elapsed() < VISIBLE_WITHIN, "the row is not visible after {VISIBLE_WITHIN:?}");
                pause(LOOK_EVERY);
            }
            micros.saturating_record(u64::try_from(recorded_at.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
    rig.settle(tape)?;
    Ok(micros)
}

/// Microseconds from each mark of the recording thread to the first look that shows its rows. Both go on in time.
pub(super) fn latencies(recorded: &[Mark], looks: &[Mark]) -> anyhow::Result<Histogram<u64>> {
    // Three digits, up to two minutes.
    let mut micros = Histogram::new_with_max(120_000_000, 3)?;
    let mut looks = looks.iter().peekable();
    for mark in recorded {
        while looks.next_if(|look| look.rows < mark.rows).is_some() {}
        let look = looks.peek().context("the looks end before the last row is visible")?;
        let took = look.at.saturating_duration_since(mark.at);
        micros.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
    Ok(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_waits_for_the_first_look_that_shows_it() {
        let start = Instant::now();
        let marks = |list: &[(u64, u64)]| -> Vec<Mark> {
            list.iter().map(|(rows, ms)| Mark { rows: *rows, at: start + Duration::from_millis(*ms) }).collect()
        };
        let recorded = marks(&[(100, 0), (200, 1), (300, 50)]);
        let micros = latencies(&recorded, &marks(&[(0, 10), (200, 40), (250, 60), (300, 150)])).unwrap();
        let all: Vec<u64> = micros.iter_recorded().map(|one| one.value_iterated_to() / 1000).collect();
        assert_eq!(all, [39, 40, 100]);
        assert!(latencies(&recorded, &marks(&[(299, 500)])).is_err());
    }
}
