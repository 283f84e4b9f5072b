//! Recorded times moved to now.
//!
//! Constraints: the first row stands at the start that was asked for and the distances between rows are kept to the
//! nanosecond, but for silences: where nothing was recorded for longer than [`SILENCE_SECONDS_MAX`] (between the days
//! of two recordings, say) the rest moves up, so that several recordings follow one another within the retention. The
//! same rows and the same start give the same times, always.

use tripod::Timestamp;

/// A silence longer than this is shortened to [`SILENCE_SECONDS_KEPT`].
pub(crate) const SILENCE_SECONDS_MAX: i64 = 60;
/// What is left of a long silence.
pub(crate) const SILENCE_SECONDS_KEPT: i64 = 1;

const NANOS: i64 = 1_000_000_000;

/// Moves one stream of recorded times.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    start: Timestamp,
    /// Nanoseconds to add, and the latest recorded time so far; none before the first row.
    moved: Option<(i64, Timestamp)>,
    silences_cut: u64,
}

impl Timeline {
    /// A stream whose first row is to stand at `start`.
    pub(crate) fn new(start: Timestamp) -> Self {
        Self { start, moved: None, silences_cut: 0 }
    }

    /// The place of the next row, recorded `at`; none where it falls outside 1970 to 2261.
    pub(crate) fn place(&mut self, at: Timestamp) -> Option<Timestamp> {
        let (mut by, latest) = self.moved.unwrap_or((self.start.as_nanos() - at.as_nanos(), at));
        let silence = at.as_nanos().saturating_sub(latest.as_nanos());
        if silence > SILENCE_SECONDS_MAX * NANOS {
            by -= silence - SILENCE_SECONDS_KEPT * NANOS;
            self.silences_cut += 1;
        }
        self.moved = Some((by, latest.max(at)));
        Timestamp::from_nanos(at.as_nanos().checked_add(by)?).ok()
    }

    /// How many silences were shortened so far.
    pub(crate) fn silences_cut(&self) -> u64 {
        self.silences_cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos).unwrap()
    }

    #[test]
    fn the_first_row_stands_at_the_start_and_distances_are_kept() {
        let mut timeline = Timeline::new(at(1_000_000 * NANOS));
        assert_eq!(timeline.place(at(5_000_000_007)), Some(at(1_000_000 * NANOS)));
        assert_eq!(timeline.place(at(5_000_000_010)), Some(at(1_000_000 * NANOS + 3)));
        assert_eq!(timeline.place(at(5_000_000_001)), Some(at(1_000_000 * NANOS - 6)), "out of order stays so");
        assert_eq!(timeline.place(at(65_000_000_010)), Some(at(1_000_060 * NANOS + 3)), "a minute is kept");
        assert_eq!(timeline.silences_cut(), 0);
    }

    #[test]
    fn a_silence_of_months_becomes_a_second_and_what_follows_keeps_its_distances() {
        let mut timeline = Timeline::new(at(NANOS));
        let spring = 1_700_000_000 * NANOS;
        timeline.place(at(0));
        assert_eq!(timeline.place(at(spring)), Some(at(2 * NANOS)));
        assert_eq!(timeline.place(at(spring + 5)), Some(at(2 * NANOS + 5)));
        assert_eq!(timeline.silences_cut(), 1);
    }

    #[test]
    fn a_row_that_cannot_be_placed_is_said_to_be_so() {
        let mut timeline = Timeline::new(at(NANOS));
        timeline.place(at(1_700_000_000 * NANOS));
        assert_eq!(timeline.place(at(0)), None);
    }
}
