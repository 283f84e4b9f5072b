//! The witness: which rows `record()` returned for, seen from outside the process that may be killed.
//!
//! Constraints: the load writes one message per row, *after* `record()` has returned, with one `write` of fewer bytes
//! than a pipe takes at once, so a kill -9 cannot cut a message in two. A row that is recorded and whose message was
//! not written before the kill is unwitnessed: at most one per thread and life.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;

use super::row::{Place, THREADS};

/// Thread, number, nanoseconds that `record()` took; little-endian.
pub(super) const MESSAGE_BYTES: usize = 24;
/// Messages read at once.
const MESSAGES_MAX: usize = 4096;

pub(super) fn message(place: Place, nanos: u64) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    let thread = u64::try_from(place.thread).unwrap_or(u64::MAX);
    for (part, value) in bytes.chunks_exact_mut(8).zip([thread, place.number, nanos]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn read_message(bytes: &[u8]) -> Option<(Place, u64)> {
    let mut parts = bytes.chunks_exact(8).filter_map(|part| Some(u64::from_le_bytes(part.try_into().ok()?)));
    let thread = usize::try_from(parts.next()?).ok()?;
    Some((Place { thread, number: parts.next()? }, parts.next()?))
}

/// How far each thread is: the number behind its newest witnessed row. Read while the load runs.
#[derive(Debug)]
pub(super) struct Reached([AtomicU64; THREADS]);

impl Reached {
    pub(super) fn new(from: [u64; THREADS]) -> Self {
        Self(from.map(AtomicU64::new))
    }

    pub(super) fn of(&self, thread: usize) -> u64 {
        self.0.get(thread).map_or(0, |reached| reached.load(Ordering::Acquire))
    }

    fn pass(&self, thread: usize) {
        if let Some(reached) = self.0.get(thread) {
            reached.fetch_add(1, Ordering::Release);
        }
    }
}

/// Reads messages until the load is gone; what `record()` took, nanoseconds.
pub(super) fn watch(mut pipe: impl Read, reached: &Reached) -> anyhow::Result<Histogram<u64>> {
    // Three digits, up to a minute.
    let mut nanos_taken = Histogram::new_with_max(60_000_000_000, 3)?;
    let mut bytes = vec![0; MESSAGE_BYTES * MESSAGES_MAX];
    let mut held = 0;
    loop {
        let read = match pipe.read(bytes.get_mut(held..).unwrap_or_default()) {
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e).context("cannot read what the load has recorded"),
        };
        if read == 0 {
            ensure!(held == 0, "the load's last message was cut off");
            return Ok(nanos_taken);
        }
        held += read;
        let whole = held - held % MESSAGE_BYTES;
        for message in bytes.get(..whole).unwrap_or_default().chunks_exact(MESSAGE_BYTES) {
            let Some((place, nanos)) = read_message(message) else { bail!("the load wrote something else") };
            ensure!(
                place.thread < THREADS && place.number == reached.of(place.thread),
                "the load says {place:?} where row {} was to come",
                reached.of(place.thread)
            );
            reached.pass(place.thread);
            nanos_taken.saturating_record(nanos);
        }
        bytes.copy_within(whole..held, 0);
        held -= whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(places: &[(usize, u64)]) -> Vec<u8> {
        places.iter().flat_map(|(thread, number)| message(Place { thread: *thread, number: *number }, 70)).collect()
    }

    #[test]
    fn each_message_moves_its_thread_on_by_one() {
        let reached = Reached::new([10, 0, 0, 0]);
        let nanos = watch(&said(&[(0, 10), (1, 0), (0, 11)])[..], &reached).unwrap();
        assert_eq!((0..THREADS).map(|thread| reached.of(thread)).collect::<Vec<_>>(), [12, 1, 0, 0]);
        assert_eq!((nanos.len(), nanos.max()), (3, 70));
    }

    #[test]
    fn a_gap_a_repetition_and_a_torn_message_are_errors() {
        let bytes = said(&[(0, 0), (0, 1)]);
        for wrong in [&said(&[(0, 1)])[..], &said(&[(0, 0), (0, 0)]), &said(&[(9, 0)]), &bytes[..40]] {
            assert!(watch(wrong, &Reached::new([0; THREADS])).is_err());
        }
    }
}
