//! How long the oldest thing that is not done yet has waited, from two counters that are sampled each second.
//!
//! Constraints: pure; bounded memory. What was produced between two samples counts from the later one, so the answer is
//! at most one sample too little, and never too much.
//!
//! Picture: produced and done over time; the answer is the width at the height of what is done now.
//! ```text
//!  produced ──────╭────
//!            ╭────╯  ┆
//!        ╭───╯───────┆  done now
//!        └┄┄┄ age ┄┄┄┘
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Samples kept; beyond it every other one goes, and the answer is coarser.
const SAMPLES_MAX: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waterline {
    /// When a total was seen first, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl Waterline {
    /// Notes both counters; how old the oldest of what is not done is.
    pub(super) fn note(&mut self, now: Instant, produced: u64, done: u64) -> Duration {
        // A counter that went back began again.
        if self.samples.back().is_some_and(|last| last.1 > produced) {
            self.samples.clear();
        }
        while self.samples.front().is_some_and(|first| first.1 <= done) {
            self.samples.pop_front();
        }
        if produced <= done {
            return Duration::ZERO;
        }
        if self.samples.back().is_none_or(|last| last.1 < produced) {
            if self.samples.len() >= SAMPLES_MAX {
                let mut number = 0_usize;
                self.samples.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
            }
            self.samples.push_back((now, produced));
        }
        self.samples.front().map_or(Duration::ZERO, |first| now.saturating_duration_since(first.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_age_of_the_oldest_that_is_not_done_and_not_of_the_last_moment_all_was() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut line = Waterline::default();
        let mut age = |now, produced, done| line.note(at(now), produced, done).as_secs();
        assert_eq!(age(0, 10, 10), 0);
        // Ten a second come, each is done two seconds later: always behind, never by more than two seconds.
        assert_eq!([age(1, 20, 10), age(2, 30, 10), age(3, 40, 20), age(4, 50, 30)], [0, 1, 1, 1]);
        // Nothing is done any more.
        assert_eq!([age(5, 60, 30), age(6, 60, 30), age(100, 60, 30)], [2, 3, 97]);
        assert_eq!(age(101, 60, 60), 0);
        // After an hour of silence one more comes: it is not an hour old.
        assert_eq!(age(4000, 61, 60), 0);
    }

    #[test]
    fn a_counter_that_begins_again_and_a_long_outage_do_no_harm() {
        let start = Instant::now();
        let mut line = Waterline::default();
        line.note(start, 100, 0);
        assert_eq!(line.note(start + Duration::from_secs(9), 5, 0), Duration::ZERO, "another journal");
        for second in 0..10_000 {
            line.note(start + Duration::from_secs(10 + second), 6 + second, 0);
        }
        assert!(line.samples.len() <= SAMPLES_MAX);
        let age = line.note(start + Duration::from_secs(10_010), 10_006, 0);
        assert_eq!(age, Duration::from_secs(10_001), "the first is kept");
    }
}
