//! The span of a replay cut into windows that fit into memory.

use std::collections::BTreeMap;

use tripod::Timestamp;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// From its first nanosecond to the one behind its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Window {
    /// Whether `at` lies in it.
    pub(crate) fn holds(self, at: Timestamp) -> bool {
        (self.from..self.to).contains(&at.as_nanos())
    }

    /// Two halves; none where it is too short to be cut.
    pub(crate) fn halves(self) -> Option<(Self, Self)> {
        let middle = self.from + (self.to - self.from) / 2;
        (middle > self.from).then_some((Self { from: self.from, to: middle }, Self { from: middle, to: self.to }))
    }

    /// As a condition on the designated timestamp.
    pub(crate) fn condition(self) -> String {
        format!("at >= '{}' AND at < '{}'", instant(self.from), instant(self.to))
    }
}

/// As QuestDB reads it, to the nanosecond.
fn instant(nanos: i64) -> String {
    Timestamp::from_nanos(nanos).unwrap_or(Timestamp::MAX).to_string()
}

/// Cuts the seconds of a recording so that each window has at most `rows_max` rows, or is one second long. Together
/// they cover everything from the first second to the last, the silent ones too: rows of others may stand there.
pub(crate) fn windows(rows_of_seconds: &BTreeMap<i64, u64>, rows_max: u64) -> Vec<Window> {
    let (Some((first, _)), Some((last, _))) = (rows_of_seconds.first_key_value(), rows_of_seconds.last_key_value())
    else {
        return Vec::new();
    };
    let mut windows = Vec::new();
    let (mut from, mut held) = (*first, 0);
    for (second, rows) in rows_of_seconds {
        if held > 0 && held + rows > rows_max {
            windows.push(Window { from: from * NANOS_PER_SECOND, to: second * NANOS_PER_SECOND });
            (from, held) = (*second, 0);
        }
        held += rows;
    }
    windows.push(Window { from: from * NANOS_PER_SECOND, to: (last + 1) * NANOS_PER_SECOND });
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(window: Window) -> (i64, i64) {
        (window.from / NANOS_PER_SECOND, window.to / NANOS_PER_SECOND)
    }

    #[test]
    fn windows_cover_everything_once_and_stay_under_the_limit() {
        let rows = BTreeMap::from([(10, 4), (11, 4), (20, 9), (21, 50), (22, 1)]);
        let cut: Vec<_> = windows(&rows, 10).into_iter().map(seconds).collect();
        assert_eq!(cut, [(10, 20), (20, 21), (21, 22), (22, 23)]);
        assert_eq!(windows(&rows, 1000).into_iter().map(seconds).collect::<Vec<_>>(), [(10, 23)]);
        assert!(windows(&BTreeMap::new(), 10).is_empty());
    }

    #[test]
    fn halves_meet_without_overlap_down_to_a_nanosecond() {
        let window = Window { from: 10, to: 13 };
        assert_eq!(window.halves(), Some((Window { from: 10, to: 11 }, Window { from: 11, to: 13 })));
        assert_eq!(Window { from: 10, to: 11 }.halves(), None);
    }

    #[test]
    fn the_condition_names_nanoseconds() {
        let window = Window { from: 1_742_944_020_773_674_205, to: 1_742_944_021_000_000_000 };
        assert_eq!(
            window.condition(),
            "at >= '2025-03-25T23:07:00.773674205Z' AND at < '2025-03-25T23:07:01.000000000Z'"
        );
    }
}
