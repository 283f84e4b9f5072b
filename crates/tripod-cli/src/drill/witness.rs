//! The witness: which rows `record()` returned for, seen from outside the process that may be killed.
//!
//! Constraints: the load writes one message per row, *after* `record()` has returned, with one `write` of fewer bytes
//! than a pipe takes at once, so a kill -9 cannot cut a message in two. A row that is recorded and whose message was
//! not written before the kill is unwitnessed: at most one per thread and life.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;

use super::row::{Place, THREADS};

/// What a load says besides its rows, where the thread's number would stand.
const HELD: u64 = 1 << 32;
const STOPPED: u64 = 2 << 32;

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

/// A thread is held inside an append from now on, with the row at `place` half recorded.
pub(super) fn held_message() -> [u8; MESSAGE_BYTES] {
    said(HELD)
}

/// The bot was told to stop trading, and did.
pub(super) fn stopped_message() -> [u8; MESSAGE_BYTES] {
    said(STOPPED)
}

fn said(what: u64) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    bytes[..8].copy_from_slice(&what.to_le_bytes());
    bytes
}

fn read_message(bytes: &[u8]) -> Option<(Place, u64)> {
    let mut parts = bytes.chunks_exact(8).filter_map(|part| Some(u64::from_le_bytes(part.try_into().ok()?)));
    let thread = usize::try_from(parts.next()?).ok()?;
    Some((Place { thread, number: parts.next()? }, parts.next()?))
}

/// How far each thread is: the number behind its newest witnessed row. Read while the load runs.
#[derive(Debug)]
pub(super) struct Reached {
    threads: [AtomicU64; THREADS],
    held: AtomicBool,
    stopped: AtomicU64,
    /// Whether what is read now was recorded while something was broken.
    is_broken: AtomicBool,
}

impl Reached {
    pub(super) fn new(from: [u64; THREADS]) -> Self {
        let threads = from.map(AtomicU64::new);
        Self { threads, held: AtomicBool::new(false), stopped: AtomicU64::new(0), is_broken: AtomicBool::new(false) }
    }

    pub(super) fn of(&self, thread: usize) -> u64 {
        self.threads.get(thread).map_or(0, |reached| reached.load(Ordering::Acquire))
    }

    /// Whether a thread is held inside an append.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// How often a thread was told to stop trading.
    pub(super) fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Acquire)
    }

    /// From now on rows count as recorded while something was broken, or no longer.
    pub(super) fn set_broken(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::Release);
    }

    fn pass(&self, thread: usize) {
        if let Some(reached) = self.threads.get(thread) {
            reached.fetch_add(1, Ordering::Release);
        }
    }
}

/// Nanoseconds that each `record()` took: while all was well, and while something was broken.
#[derive(Debug, Clone)]
pub(super) struct RecordNanos {
    pub(super) well: Histogram<u64>,
    pub(super) broken: Histogram<u64>,
}

impl RecordNanos {
    pub(super) fn new() -> anyhow::Result<Self> {
        // Three digits, up to a minute.
        let new = || Histogram::new_with_max(60_000_000_000, 3);
        Ok(Self { well: new()?, broken: new()? })
    }

    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.well.add(&other.well).context("cannot add what record() took")?;
        self.broken.add(&other.broken).context("cannot add what record() took")
    }
}

/// Reads messages until the load is gone.
pub(super) fn watch(mut pipe: impl Read, reached: &Reached) -> anyhow::Result<RecordNanos> {
    let mut taken = RecordNanos::new()?;
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
            return Ok(taken);
        }
        held += read;
        let whole = held - held % MESSAGE_BYTES;
        for message in bytes.get(..whole).unwrap_or_default().chunks_exact(MESSAGE_BYTES) {
            if *message == held_message() {
                reached.held.store(true, Ordering::Release);
                continue;
            }
            if *message == stopped_message() {
                reached.stopped.fetch_add(1, Ordering::AcqRel);
                continue;
            }
            let Some((place, nanos)) = read_message(message) else { bail!("the load wrote something else") };
            ensure!(
                place.thread < THREADS && place.number == reached.of(place.thread),
                "the load says {place:?} where row {} was to come",
                reached.of(place.thread)
            );
            reached.pass(place.thread);
            let broken = reached.is_broken.load(Ordering::Acquire);
            if broken { &mut taken.broken } else { &mut taken.well }.saturating_record(nanos);
        }
        bytes.copy_within(whole..held, 0);
        held -= whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(places: &[(usize, u64)]) -> Vec<u8> {
        places.iter().flat_map(|(thread, number)| message(Place { thread: *thread, number: *number }, 70)).collect()
    }

    #[test]
    fn each_message_moves_its_thread_on_by_one() {
        let reached = Reached::new([10, 0, 0, 0]);
        let nanos = watch(&rows(&[(0, 10), (1, 0), (0, 11)])[..], &reached).unwrap().well;
        assert_eq!((0..THREADS).map(|thread| reached.of(thread)).collect::<Vec<_>>(), [12, 1, 0, 0]);
        assert_eq!((nanos.len(), nanos.max()), (3, 70));
    }

    #[test]
    fn what_is_said_besides_rows_moves_no_thread() {
        let reached = Reached::new([0; THREADS]);
        reached.set_broken(true);
        let bytes = [rows(&[(1, 0)]), held_message().to_vec(), stopped_message().to_vec(), rows(&[(1, 1)])].concat();
        let taken = watch(&bytes[..], &reached).unwrap();
        assert_eq!((reached.of(1), reached.is_held(), reached.stopped()), (2, true, 1));
        assert_eq!((taken.well.len(), taken.broken.len()), (0, 2));
    }

    #[test]
    fn a_gap_a_repetition_and_a_torn_message_are_errors() {
        let bytes = rows(&[(0, 0), (0, 1)]);
        for wrong in [&rows(&[(0, 1)])[..], &rows(&[(0, 0), (0, 0)]), &rows(&[(9, 0)]), &bytes[..40]] {
            assert!(watch(wrong, &Reached::new([0; THREADS])).is_err());
        }
    }
}
