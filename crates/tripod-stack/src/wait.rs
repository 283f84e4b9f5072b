//! Waiting for a condition, never for time, and never without end.

use std::time::{Duration, Instant};

/// A point in time after which waiting ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    start: Instant,
    end: Instant,
}

impl Deadline {
    /// From now on for `span`.
    pub(crate) fn after(span: Duration) -> Self {
        let start = Instant::now();
        Self { start, end: start + span }
    }

    /// What is left; zero when it is over.
    pub(crate) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Whether it is over.
    pub(crate) fn over(&self) -> bool {
        self.left().is_zero()
    }

    /// How long has been waited.
    pub(crate) fn waited(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The pause between two looks at a condition that nothing announces.
#[expect(clippy::disallowed_methods, reason = "the one pause of the crate: every caller looks again, under a deadline")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// Asks `condition` until it gives something or the deadline is over; at least once.
pub(crate) fn until<T, E>(
    deadline: Deadline,
    between: Duration,
    mut condition: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    loop {
        if let Some(found) = condition()? {
            return Ok(Some(found));
        }
        if deadline.over() {
            return Ok(None);
        }
        pause(between.min(deadline.left()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_at_least_once_and_ends() {
        let over = Deadline::after(Duration::ZERO);
        let mut asked = 0;
        let found: Result<Option<()>, ()> = until(over, Duration::from_millis(1), || {
            asked += 1;
            Ok(None)
        });
        assert_eq!((found, asked), (Ok(None), 1));
        let found: Result<Option<u8>, ()> = until(over, Duration::from_millis(1), || Ok(Some(7)));
        assert_eq!(found, Ok(Some(7)));
    }
}
