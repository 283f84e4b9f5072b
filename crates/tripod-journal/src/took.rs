//! How long appends took: a histogram in the counts file, for any process to read, also after the writer died.
//!
//! # Constraints
//! - Noting one is a single addition to a shared word: no lock, no allocation. Which calls are noted is the caller's
//!   choice: one of many says as much as all.
//! - It is of the present writer: opening the journal empties it.
//! - A time read from it is at most an eighth above what was noted, and never below.
//!
//! # Picture
//! Eight buckets for each power of two, from 16 ns to 17 seconds:
//! ```text
//!  ..16 │ 16..18 │ 18..20 │ … │ 30..32 │ 32..36 │ … │ 64..72 │ …
//! ```

use std::fmt;
use std::time::Duration;

use crate::layout::{narrow, wide};

/// Buckets for each power of two, as bits.
const STEP_BITS: u32 = 3;
const STEPS: usize = 1 << STEP_BITS;
/// What is shorter than 2 to this, in nanoseconds, is in the first bucket.
const LEAST_BITS: u32 = 4;
/// Powers of two; what is longer is in the last bucket.
const POWERS: usize = 30;
pub(crate) const BUCKETS: usize = 1 + POWERS * STEPS;

/// The bucket of a time.
pub(crate) fn bucket_of(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let Some(power) = nanos.checked_ilog2().filter(|power| *power >= LEAST_BITS) else { return 0 };
    let step = narrow(nanos >> (power - STEP_BITS)) % STEPS;
    (1 + narrow(u64::from(power - LEAST_BITS)) * STEPS + step).min(BUCKETS - 1)
}

/// The longest time of a bucket.
fn longest_of(bucket: usize) -> Duration {
    let nanos = match bucket.checked_sub(1) {
        None => 1 << LEAST_BITS,
        Some(above) => wide(STEPS + above % STEPS + 1) << (above / STEPS + narrow((LEAST_BITS - STEP_BITS).into())),
    };
    Duration::from_nanos(nanos - 1)
}

/// How long those appends took that were noted ([`crate::Journal::note_took`]) since the journal was opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Took {
    pub(crate) buckets: Box<[u64; BUCKETS]>,
}

impl fmt::Debug for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Took").field("noted", &self.noted()).field("p50", &self.within(500)).finish_non_exhaustive()
    }
}

impl Took {
    /// How many were noted.
    #[must_use]
    pub fn noted(&self) -> u64 {
        self.buckets.iter().copied().fold(0, u64::saturating_add)
    }

    /// So many of a thousand took no longer than this, to an eighth; `None` where none was noted.
    #[must_use]
    pub fn within(&self, per_mille: u64) -> Option<Duration> {
        let noted = self.noted();
        // At least one, and of a few the last rather than the one before.
        let wanted = (u128::from(noted) * u128::from(per_mille.min(1000))).div_ceil(1000).max(1);
        let mut seen = 0_u128;
        let reached = |count: &u64| {
            seen += u128::from(*count);
            seen >= wanted
        };
        self.buckets.iter().position(reached).map(longest_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(nanos: &[u64]) -> Took {
        let mut took = Took { buckets: Box::new([0; BUCKETS]) };
        for nanos in nanos {
            took.buckets[bucket_of(Duration::from_nanos(*nanos))] += 1;
        }
        took
    }

    #[test]
    fn a_time_is_told_to_an_eighth_and_never_as_shorter() {
        let nanos = (0..60).flat_map(|power| [0_u64, 1, 3].map(|more| (1 << power) + more * (1 << power) / 5));
        for nanos in nanos.filter(|nanos| (16..17_000_000_000).contains(nanos)) {
            let told = u64::try_from(took(&[nanos]).within(500).unwrap().as_nanos()).unwrap();
            assert!(told >= nanos && told <= nanos + nanos / 8, "{told} for {nanos}");
        }
        assert_eq!(took(&[0]).within(500), Some(Duration::from_nanos(15)));
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_the_noted_ones() {
        assert_eq!((took(&[]).noted(), took(&[]).within(500)), (0, None));
        let mut nanos = vec![100; 990];
        nanos.extend([5_000; 9]);
        nanos.push(1_000_000);
        let took = took(&nanos);
        let at = |per_mille| u64::try_from(took.within(per_mille).unwrap().as_nanos()).unwrap();
        assert_eq!((took.noted(), at(500), at(990)), (1000, 103, 103));
        assert!((5_000..5_700).contains(&at(999)), "{}", at(999));
        assert!((1_000_000..1_130_000).contains(&at(1000)), "{}", at(1000));
    }
}
