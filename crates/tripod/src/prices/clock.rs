//! The two clocks of prices.
//!
//! Constraints: how old a price is must not depend on how well the clocks of the writers' machines are set. So every
//! price is stamped by the one clock that all of them share, the Redis server's, and a reader compares with what that
//! clock says now. An age is never told too small by what this module rounds, on a machine that gets its ticks (see
//! [`Ticks`]). Reading memory costs no more than reading
//! memory: the fine clock of the machine takes longer than all the rest of it.
//!
//! Picture:
//! ```text
//! TIME ──▶ anchor (server's time, our monotonic time) ──▶ ServerClock::now()   each 5 s, after each reconnect, on doubt
//! coarse clock of the kernel, a tick of some milliseconds ──▶ Ticks            age and life in memory
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::cmd;
use arc_swap::ArcSwap;
use rustix::time::{ClockId, clock_getres, clock_gettime};

use crate::error::{Error, Result};
use crate::redis::Link;
use crate::value::Timestamp;

/// Between two comparisons. Clocks of machines drift by tens of microseconds a second.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// A comparison that took longer is worse than the one before, which is kept for [`KEEP_AT_MOST`].
const ROUND_TRIP_GOOD: Duration = Duration::from_millis(20);
const KEEP_AT_MOST: Duration = Duration::from_secs(60);

/// Says what time it is on the server. Jumps of this machine's clock do not show.
#[derive(Debug)]
pub(super) struct ServerClock(ArcSwap<Anchor>);

#[derive(Debug, Clone, Copy)]
struct Anchor {
    server: Timestamp,
    at: Instant,
}

impl ServerClock {
    /// Asks the server. A user that may not ask gets this machine's clock, and a warning.
    pub(super) async fn set(link: &Link) -> Result<Self> {
        let here = Anchor { server: Timestamp::now(), at: Instant::now() };
        let anchor = match ask(link).await {
            Ok((anchor, _)) => anchor,
            Err(Error::Refused { what, .. }) => {
                tracing::warn!(what, "the server does not tell its time; ages of prices are by this machine's clock");
                here
            }
            Err(error) => return Err(error),
        };
        Ok(Self(ArcSwap::from_pointee(anchor)))
    }

    /// The server's time now.
    pub(super) fn now(&self) -> Timestamp {
        let anchor = self.0.load();
        anchor.server.checked_add(anchor.at.elapsed()).unwrap_or(Timestamp::MAX)
    }

    /// How long ago the server stamped this; `None` where that is in its future, so that its clock must have been set
    /// back since, or somebody else wrote the stamp.
    pub(super) fn age_of(&self, stamp: Timestamp) -> Option<Duration> {
        age_at(self.now(), stamp)
    }

    /// Compares again and again; never returns.
    pub(super) async fn keep(&self, link: &Link) {
        let mut connections = link.connections();
        loop {
            tokio::time::sleep(COMPARE_EVERY.min(link.deadline())).await;
            // Another server may be behind a new connection.
            let (is_new, now) = (link.connections() != connections, link.connections());
            if !is_new && self.0.load().at.elapsed() < COMPARE_EVERY {
                continue;
            }
            let Ok((anchor, took)) = ask(link).await else { continue };
            connections = now;
            self.take(anchor, took, is_new);
        }
    }

    /// Compares now: somebody has met a stamp that does not fit, or is about to read what is older than the last comparison.
    /// A user that may not ask keeps what there is.
    pub(super) async fn compare(&self, link: &Link) -> Result<()> {
        match ask(link).await {
            Ok((anchor, took)) => {
                self.take(anchor, took, false);
                Ok(())
            }
            Err(Error::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn take(&self, anchor: Anchor, took: Duration, is_new: bool) {
        let held = self.0.load();
        let old = held.at.elapsed() >= KEEP_AT_MOST;
        if is_new || took <= ROUND_TRIP_GOOD || old || held.is_refuted_by(&anchor, took) {
            self.0.store(Arc::new(anchor));
        }
    }
}

impl Anchor {
    /// Whether the server's clock was set since: the two differ by more than a bad comparison explains.
    fn is_refuted_by(&self, newer: &Self, took: Duration) -> bool {
        let expected = self.server.checked_add(newer.at.saturating_duration_since(self.at)).unwrap_or(Timestamp::MAX);
        expected.since(newer.server).max(newer.server.since(expected)) > took + AHEAD_MAX
    }
}

/// A stamp may be this far ahead: comparing over a network is not exact.
const AHEAD_MAX: Duration = Duration::from_secs(1);

/// The age at `now` of what was stamped then.
pub(super) fn age_at(now: Timestamp, stamp: Timestamp) -> Option<Duration> {
    (stamp.since(now) <= AHEAD_MAX).then(|| now.since(stamp))
}

async fn ask(link: &Link) -> Result<(Anchor, Duration)> {
    let asked = Instant::now();
    let (seconds, micros): (i64, i64) = link.query("ask the time", &cmd("TIME")).await?;
    let took = asked.elapsed();
    let nanos = seconds.saturating_mul(1_000_000_000).saturating_add(micros.saturating_mul(1000));
    // As if the answer had taken no time: then an age is rather too great than too small by half a round trip.
    Ok((Anchor { server: Timestamp::from_nanos(nanos)?, at: asked }, took))
}

/// The kernel's coarse monotonic clock: a third of the cost of the fine one, and late by up to a tick and what it takes to
/// notice it (4.7 ms of 4 ms on a virtual machine at rest); by more only where a virtual machine was not run while one was
/// due, and then by as long as that lasted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    tick: u64,
}

impl Default for Ticks {
    fn default() -> Self {
        Self { tick: nanos(&clock_getres(ClockId::MonotonicCoarse)) }
    }
}

impl Ticks {
    /// Not later than now: for when something began.
    #[inline]
    pub(super) fn at_latest_now(self) -> u64 {
        nanos(&clock_gettime(ClockId::MonotonicCoarse))
    }

    /// Not earlier than now: for how long ago something began. A life ends up to three ticks early and not late.
    #[inline]
    pub(super) fn at_least_now(self) -> u64 {
        self.at_latest_now() + 2 * self.tick
    }
}

#[inline]
fn nanos(time: &rustix::time::Timespec) -> u64 {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_the_future_has_no_age_and_one_of_an_inexact_comparison_is_new() {
        let at = |ms: i64| Timestamp::from_nanos(ms * 1_000_000).unwrap();
        assert_eq!(age_at(at(10_000), at(9_750)), Some(Duration::from_millis(250)));
        assert_eq!(age_at(at(10_000), at(10_900)), Some(Duration::ZERO));
        assert_eq!(age_at(at(10_000), at(11_001)), None);
        assert_eq!(age_at(at(10_000), at(3_610_000)), None);
        assert_eq!(age_at(at(3_610_000), at(10_000)), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn a_slow_comparison_replaces_a_good_one_where_the_servers_clock_was_set() {
        let at = |ms: i64| Timestamp::from_nanos(ms * 1_000_000).unwrap();
        let now = Instant::now();
        let held = Anchor { server: at(100_000), at: now };
        let newer = |ms: i64| Anchor { server: at(ms), at: now + Duration::from_secs(5) };
        let took = Duration::from_millis(300);
        assert!(!held.is_refuted_by(&newer(105_000), took));
        assert!(!held.is_refuted_by(&newer(106_200), took), "the answer may have been that slow");
        assert!(held.is_refuted_by(&newer(106_400), took));
        assert!(held.is_refuted_by(&newer(103_000), took));
    }

    #[test]
    fn the_coarse_clock_embraces_the_fine_one_but_for_ticks_that_the_machine_did_not_get() {
        let ticks = Ticks::default();
        let end = Instant::now() + Duration::from_secs(30);
        let in_time = || {
            (0..1000).all(|_| {
                let (before, fine) = (ticks.at_latest_now(), nanos(&clock_gettime(ClockId::Monotonic)));
                assert!(before <= fine);
                nanos(&clock_gettime(ClockId::Monotonic)) <= ticks.at_least_now()
            })
        };
        while !in_time() {
            assert!(Instant::now() < end, "this machine never gets its ticks");
            std::thread::yield_now();
        }
    }
}
