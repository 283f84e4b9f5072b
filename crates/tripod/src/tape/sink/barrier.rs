//! "Everything recorded before now is visible", for `Tape::wait_visible`.
//!
//! Constraints: exact while other threads go on recording, so it does not compare counts. The asking side raises a
//! number; the feed notes the number before it reads the journal to its end, and reports it once every batch up to that
//! moment is settled and none of its rows waits to become visible.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::value::Timestamp;

/// Shared by a feed and those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    numbers: Mutex<Numbers>,
    raised: Condvar,
}

#[derive(Debug, Default)]
struct Numbers {
    asked: u64,
    reached: u64,
    again_since: Option<Timestamp>,
    attach: bool,
}

impl Barrier {
    /// Asks; returns the number to wait for.
    pub(super) fn ask(&self) -> u64 {
        let mut numbers = self.lock();
        numbers.asked += 1;
        numbers.asked
    }

    /// Asks that everything delivered after `since` be delivered again; of two, the earlier holds.
    pub(super) fn ask_again(&self, since: Timestamp) {
        let mut numbers = self.lock();
        numbers.again_since = Some(numbers.again_since.map_or(since, |before| before.min(since)));
    }

    /// What was asked to be delivered again; the feed takes it once.
    pub(super) fn take_again_since(&self) -> Option<Timestamp> {
        self.lock().again_since.take()
    }

    /// Asks a detached sink to deliver again.
    pub(super) fn ask_attach(&self) {
        self.lock().attach = true;
    }

    /// Whether that was asked; the feed takes it once.
    pub(super) fn take_attach(&self) -> bool {
        std::mem::take(&mut self.lock().attach)
    }

    /// The newest number asked for.
    pub(super) fn asked(&self) -> u64 {
        self.lock().asked
    }

    /// All that was recorded before `number` was asked for is visible or in quarantine.
    pub(super) fn reach(&self, number: u64) {
        let mut numbers = self.lock();
        if number > numbers.reached {
            numbers.reached = number;
            self.raised.notify_all();
        }
    }

    /// Waits for `number`; false where `deadline` came first.
    pub(super) fn wait(&self, number: u64, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let (numbers, _) = self
            .raised
            .wait_timeout_while(self.lock(), left, |numbers| numbers.reached < number)
            .unwrap_or_else(PoisonError::into_inner);
        numbers.reached >= number
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_number_or_with_the_deadline() {
        let barrier = Barrier::default();
        let number = barrier.ask();
        assert!(!barrier.wait(number, Instant::now()));
        std::thread::scope(|scope| {
            scope.spawn(|| barrier.reach(number));
            assert!(barrier.wait(number, Instant::now() + Duration::from_secs(10)));
        });
        assert!(!barrier.wait(barrier.ask(), Instant::now()), "a later number is a later wait");
    }
}
