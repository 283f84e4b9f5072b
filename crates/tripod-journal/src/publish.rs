//! How a record comes into being: the few stores whose order is the promise.
//!
//! # Constraints
//! - Whoever sees a record's word sees the whole record.
//! - What is counted is published, and the keeper knows how far to sync for it.
//!
//! # Operation
//! In this order: the record's word (from then on it exists), its segment's position, its schema's counter, its lane's
//! total. A crash may come between any two: `recover.rs` makes good what it leaves. Here stands the order only, over
//! words of any memory; `loom_tests` runs these very lines over a memory that shows every order which others may see.

use std::sync::atomic::Ordering;

use crate::sync::{Step, Word};

/// The two counters of a record's schema in its lane.
#[derive(Debug)]
pub(crate) struct Counters<'a, W> {
    pub(crate) recorded: &'a W,
    pub(crate) total: &'a W,
}

/// Publishes the record behind `head`, whose bytes are all written. `end` is where the next one starts. One thread at a
/// time for each lane.
#[inline]
pub(crate) fn publish<W: Word>(head: &W, word: u64, position: &W, end: u64, counters: &Counters<'_, W>) {
    head.put(word, Step::Publish.order(Ordering::Release));
    position.put(end, Ordering::Release);
    count(counters);
}

/// Counts one more in both; for whoever publishes, and for the recovery of what was published and not counted.
#[inline]
pub(crate) fn count<W: Word>(counters: &Counters<'_, W>) {
    let Counters { recorded, total } = counters;
    // Whoever sees this record's count also sees the total of the one before.
    Step::CountBegins.fence(Ordering::Release);
    recorded.put(recorded.own() + 1, Ordering::Relaxed);
    total.put(total.own() + 1, Step::CountEnds.order(Ordering::Release));
}

/// The word of a record that is published; 0 where none is. What the record holds is visible to whoever got it.
#[inline]
pub(crate) fn look(head: &impl Word) -> u64 {
    head.get(Step::Look.order(Ordering::Acquire))
}
