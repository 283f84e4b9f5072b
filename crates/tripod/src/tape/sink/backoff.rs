//! How long to wait before the next try.
//!
//! Constraints: pure (the randomness comes in as an argument); doubles from 50 ms to a limit; jittered over its upper
//! half, so that several bots do not fall upon a restarted server in step.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(50);

/// Growing pauses between tries, until one succeeds.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses of at most `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self { next: FIRST.min(longest), longest }
    }

    /// The pause before the next try, between half of the current step and all of it; `random` may be any number.
    pub(super) fn pause(&mut self, random: u32) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.longest);
        let half = step / 2;
        half + half * (random % 1001) / 1000
    }

    /// A try succeeded: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.next = FIRST.min(self.longest);
    }
}

/// A number for [`Backoff::pause`]. Where the system has no randomness to give, the pauses lose their jitter only.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_stay_within_it_and_start_over() {
        let limit = Duration::from_secs(1);
        for random in [0, 500, 1000, u32::MAX] {
            let mut backoff = Backoff::new(limit);
            let pauses: Vec<Duration> = (0..12).map(|_| backoff.pause(random)).collect();
            assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST, "{pauses:?}");
            assert!(pauses.is_sorted(), "{pauses:?}");
            assert!(pauses[11] >= limit / 2 && pauses[11] <= limit, "{pauses:?}");
            backoff.reset();
            assert_eq!(backoff.pause(random), pauses[0]);
        }
    }
}
