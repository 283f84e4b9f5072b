//! Recorded to visible, of rows that became visible lately: what an operator wants to see move.
//!
//! Constraints: bounded memory whatever the rate; what is older than a minute counts no more, so that one outage does not
//! colour the figure for ever.
//!
//! Operation: two histograms of half a minute each. The older one is emptied and takes the place of the newer at each
//! turn; a quantile is of both, so of 30 to 60 seconds.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What one histogram covers.
const HALF: Duration = Duration::from_secs(30);
/// What takes longer counts as an hour.
const MICROS_MAX: u64 = 3_600_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    newer: Option<Histogram<u64>>,
    older: Option<Histogram<u64>>,
    turned_at: Instant,
}

impl Recent {
    pub(super) fn new(now: Instant) -> Self {
        // Two digits: 20 KiB each. The bounds are constants that the histogram takes.
        let histogram = || Histogram::new_with_max(MICROS_MAX, 2).ok();
        Self { newer: histogram(), older: histogram(), turned_at: now }
    }

    /// `rows` became visible after so many microseconds.
    pub(super) fn record(&mut self, micros: u64, rows: u64, now: Instant) {
        self.turn(now);
        if let Some(newer) = &mut self.newer {
            newer.saturating_record_n(micros, rows);
        }
    }

    /// The median and the 99th percentile; none where nothing became visible lately.
    pub(super) fn quantiles(&mut self, now: Instant) -> Option<(Duration, Duration)> {
        self.turn(now);
        let mut all = self.newer.clone()?;
        all.add(self.older.as_ref()?).ok()?;
        let at = |quantile| Duration::from_micros(all.value_at_quantile(quantile));
        (!all.is_empty()).then(|| (at(0.5), at(0.99)))
    }

    fn turn(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.turned_at);
        if since < HALF {
            return;
        }
        std::mem::swap(&mut self.newer, &mut self.older);
        let clear = |histogram: &mut Option<Histogram<u64>>| {
            if let Some(histogram) = histogram {
                histogram.reset();
            }
        };
        clear(&mut self.newer);
        if since >= HALF * 2 {
            clear(&mut self.older);
        }
        self.turned_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_minute_counts_no_more() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recent = Recent::new(start);
        assert_eq!(recent.quantiles(start), None);
        recent.record(1_000, 99, at(1));
        recent.record(900_000, 1, at(2));
        let p99 = |recent: &mut Recent, now| recent.quantiles(now).map(|(_, p99)| p99.as_millis());
        assert_eq!(p99(&mut recent, at(29)), Some(1));
        recent.record(900_000, 50, at(40));
        let slow = |p99: Option<u128>| p99.is_some_and(|p99| (890..=910).contains(&p99));
        assert!(slow(p99(&mut recent, at(41))), "both halves count");
        recent.record(2_000, 10, at(75));
        assert!(slow(p99(&mut recent, at(76))), "the older half still does");
        assert_eq!(p99(&mut recent, at(106)), Some(2), "and no more");
        assert_eq!(recent.quantiles(at(300)), None, "nothing became visible for long");
    }
}
