//! Work at a rate.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::drill::pause;

/// Between two bursts of due rows; timers are not finer.
const PAUSE: Duration = Duration::from_millis(1);

/// Calls `each` with what is due, then pauses. What a long call made late is made up for at once: a rate is kept over
/// the whole, and a stall shows in what waited behind it.
pub(super) fn paced(
    numbers: Range<u64>,
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
