//! Work at a rate.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::drill::pause;

/// Between two bursts of due rows; timers are not finer.
const PAUSE: Duration = Duration::from_millis(1);

/// Calls `each` with what is due and the moment it was due at, then pauses. What a long call made late is made up for at
/// once: a rate is kept over the whole, and what waited behind a stall was due while it lasted, not after it.
pub(super) fn paced(
    numbers: Range<u64>,
    rows_per_second: u64,
    mut each: impl FnMut(u64, Instant) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let (first, mut next) = (numbers.start, numbers.start);
    while next < numbers.end {
        let due = started.elapsed().as_micros() * u128::from(rows_per_second) / 1_000_000;
        while next < numbers.end && u128::from(next - first) < due {
            each(next, started + Duration::from_micros((next - first) * 1_000_000 / rows_per_second.max(1)))?;
            next += 1;
        }
        pause(PAUSE);
    }
    Ok(())
}
