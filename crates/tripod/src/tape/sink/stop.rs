//! The one signal that ends a sink's threads, and every pause they make.
//!
//! Constraints: no thread sleeps. Each waits here, so that `close` ends all pauses at once and each thread knows until
//! when it may still deliver.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shared by the threads of one sink.
#[derive(Debug, Default)]
pub(in crate::tape) struct Stop {
    asked: Mutex<Option<Asked>>,
    changed: Condvar,
}

/// A stop that was asked for.
#[derive(Debug, Clone, Copy)]
pub(in crate::tape) struct Asked {
    /// When: what was recorded before it is to be delivered.
    pub(in crate::tape) at: Instant,
    /// Until when.
    pub(in crate::tape) deadline: Instant,
}

impl Stop {
    /// From now on deliver what there is, until `deadline` at the latest. The earlier of two deadlines holds.
    pub(in crate::tape) fn ask(&self, deadline: Instant) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = asked.map_or(deadline, |before| before.deadline.min(deadline));
        *asked = Some(Asked { at: Instant::now(), deadline: earlier });
        self.changed.notify_all();
    }

    /// What was asked, if anything.
    pub(in crate::tape) fn asked(&self) -> Option<Asked> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The deadline has passed.
    pub(in crate::tape) fn is_over(&self) -> bool {
        self.asked().is_some_and(|asked| Instant::now() >= asked.deadline)
    }

    /// Waits for `pause`, shorter where a stop is asked in between: after it, tries come at a quick pace until the
    /// deadline, so that a server that is back at the last moment still gets its rows.
    pub(in crate::tape) fn pause(&self, pause: Duration) {
        const CLOSING_PAUSE: Duration = Duration::from_millis(50);
        let guard = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = match *guard {
            Some(asked) => pause.min(CLOSING_PAUSE).min(asked.deadline.saturating_duration_since(Instant::now())),
            None => pause,
        };
        let was_asked = guard.is_some();
        // A wake-up without a cause ends the pause early; the next try is harmless.
        drop(self.changed.wait_timeout_while(guard, pause, |asked| asked.is_some() == was_asked));
    }
}
