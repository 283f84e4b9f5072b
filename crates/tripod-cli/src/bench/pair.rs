//! Two sides that take turns at the same work, and what each made of it.

use std::time::Duration;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Tripod,
    Raw,
}

/// So many turns of each side; who begins changes, so that neither always finds the server as the other left it, and a
/// machine that becomes slower or faster does so for both.
pub(super) fn turns(each: u32) -> impl Iterator<Item = Side> {
    (0..each).flat_map(|turn| match turn % 2 {
        0 => [Side::Tripod, Side::Raw],
        _ => [Side::Raw, Side::Tripod],
    })
}

/// Rows and the time they took, over all turns of one side.
#[derive(Debug, Default)]
pub(super) struct Sum {
    rows: u64,
    time: Duration,
    /// Rows per second of each turn, in order.
    pub(super) turns: Vec<u64>,
}

impl Sum {
    pub(super) fn add(&mut self, rows: u64, time: Duration) {
        self.rows += rows;
        self.time += time;
        self.turns.push(per_second(rows, time));
    }

    pub(super) fn rows_per_second(&self) -> u64 {
        per_second(self.rows, self.time)
    }
}

pub(super) fn per_second(rows: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rows) * 1_000_000 / time.as_micros().max(1)).unwrap_or(u64::MAX)
}

/// Both sides.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) tripod: Sum,
    pub(super) raw: Sum,
}

impl Pair {
    pub(super) fn add(&mut self, side: Side, rows: u64, time: Duration) {
        match side {
            Side::Tripod => self.tripod.add(rows, time),
            Side::Raw => self.raw.add(rows, time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_have_the_same_turns_and_neither_always_begins() {
        use Side::{Raw, Tripod};
        assert_eq!(turns(3).collect::<Vec<_>>(), [Tripod, Raw, Raw, Tripod, Tripod, Raw]);
    }

    #[test]
    fn a_rate_is_of_all_rows_in_all_the_time_and_no_mean_of_rates() {
        let mut sum = Sum::default();
        sum.add(100, Duration::from_secs(1));
        sum.add(100, Duration::from_secs(3));
        assert_eq!((sum.rows_per_second(), sum.turns), (50, vec![100, 33]));
    }
}
