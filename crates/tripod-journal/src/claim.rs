//! Lanes: who may write where.
//!
//! # Constraints
//! - A lane is only ever *tried*: whoever holds one, however long, holds up nobody.
//! - What a lane holds is seen by one thread at a time, and by the next one as the last one left it.
//! - Lanes are opened one by one, each only when all open ones were taken.
//! - Once [`Lanes::close`] said so, no lane is renewed any more, and each was sealed after the last thing written to it.
//!
//! # Operation
//! A lane is a flag and what it guards. Taking it is one exchange, giving it back one store: nobody ever waits for a lane,
//! so nobody has to be woken, which is what a mutex looks for each time it is unlocked. A thread that panics gives its
//! lane back; one that never ends keeps it, and the others open a further one.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::Ordering;

use crate::sync::{AtomicBool, AtomicUsize, Step, UnsafeCell, spin_loop, yield_now};

/// Rounds over all lanes before a thread gives up; once all are open it yields the processor in each.
const ROUNDS_MAX: usize = if cfg!(loom) { 4 } else { 1000 };
/// Rounds in which a thread that was refused a segment still hopes for room in a lane that is taken.
const ROUNDS_REFUSED_MAX: usize = if cfg!(loom) { 1 } else { 8 };

/// On cache lines of its own.
#[repr(align(128))]
struct Lane<T> {
    taken: AtomicBool,
    content: UnsafeCell<T>,
}

// SAFETY: `content` is reached through a `Held` only, of which there is one at a time: `taken` goes from false to true in
// one exchange. So a lane is shared as a mutex is: its content moves between threads, and needs to be `Send` for that.
unsafe impl<T: Send> Sync for Lane<T> {}

// A panic gives the lane back; what that leaves in it is the content's own affair, as with a poisoned mutex that is used
// all the same.
impl<T> UnwindSafe for Lane<T> {}
impl<T> RefUnwindSafe for Lane<T> {}

/// A taken lane; dropping it gives it back.
pub(crate) struct Held<'a, T>(&'a Lane<T>);

impl<T> Deref for Held<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: whoever has the `Held` has the lane, and the reference lives no longer than the borrow of the `Held`.
        self.0.content.with(|content| unsafe { &*content })
    }
}

impl<T> DerefMut for Held<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the `Held` is borrowed mutably.
        self.0.content.with_mut(|content| unsafe { &mut *content })
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.taken.store(false, Step::FreeLane.order(Ordering::Release));
    }
}

/// Why nobody could be given a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused<R> {
    /// [`Lanes::close`] was called.
    Closed,
    /// All lanes stayed taken.
    Busy,
    /// The last lane that was free could not be renewed.
    By(R),
}

/// The lanes, of which the first few are open.
pub(crate) struct Lanes<T> {
    lanes: Box<[Lane<T>]>,
    open: AtomicUsize,
    closed: AtomicBool,
}

impl<T> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("open", &self.open).field("most", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl<T> Lanes<T> {
    pub(crate) fn new(most: usize, content: impl Fn(usize) -> T) -> Self {
        let lane = |index| Lane { taken: AtomicBool::new(false), content: UnsafeCell::new(content(index)) };
        Self { lanes: (0..most).map(lane).collect(), open: AtomicUsize::new(1), closed: AtomicBool::new(false) }
    }

    /// How many there can be.
    pub(crate) fn most(&self) -> usize {
        self.lanes.len()
    }

    /// How many were opened so far.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// This lane, if nobody has it.
    #[inline]
    fn take(&self, index: usize) -> Option<Held<'_, T>> {
        let lane = self.lanes.get(index)?;
        let order = Step::TakeLane.order(Ordering::Acquire);
        lane.taken.compare_exchange(false, true, order, Ordering::Relaxed).is_ok().then(|| Held(lane))
    }

    /// The first free lane from `last` on, and its index: one that has room, or has it once `renew` returned `Ok`.
    #[inline]
    pub(crate) fn claim<R>(
        &self,
        last: usize,
        has_room: impl Fn(&T) -> bool,
        renew: impl FnMut(&mut T) -> Result<(), R>,
    ) -> Result<(Held<'_, T>, usize), Refused<R>> {
        // Nearly always: the lane that this thread used last is free, and has room.
        if let Some(lane) = self.take(last)
            && has_room(&lane)
        {
            return Ok((lane, last));
        }
        self.search(last, has_room, renew)
    }

    #[cold]
    fn search<R>(
        &self,
        last: usize,
        has_room: impl Fn(&T) -> bool,
        mut renew: impl FnMut(&mut T) -> Result<(), R>,
    ) -> Result<(Held<'_, T>, usize), Refused<R>> {
        for round in 0..ROUNDS_MAX {
            let open = self.open.load(Ordering::Relaxed);
            let mut refusal = None;
            let mut taken = false;
            for step in 0..open {
                // Another set of lanes that this thread uses may have more of them.
                let index = (last % open + step) % open;
                let Some(mut lane) = self.take(index) else {
                    taken = true;
                    continue;
                };
                if !has_room(&lane) {
                    // Whoever closed held every lane since, so this lane's holder cannot miss it.
                    if self.closed.load(Ordering::Relaxed) {
                        return Err(Refused::Closed);
                    }
                    if let Err(why) = renew(&mut lane) {
                        refusal = Some(why);
                        continue;
                    }
                }
                return Ok((lane, index));
            }
            match refusal {
                Some(why) if !taken || round >= ROUNDS_REFUSED_MAX => return Err(Refused::By(why)),
                Some(_) => spin_loop(),
                None if open < self.lanes.len() => {
                    // Whoever loses this race finds the lane that the winner opened.
                    let _ = self.open.compare_exchange(open, open + 1, Ordering::Relaxed, Ordering::Relaxed);
                }
                None => yield_now(),
            }
        }
        Err(Refused::Busy)
    }

    /// Refuses to renew lanes from now on, and seals each one as soon as nobody holds it. `wait` is called while somebody
    /// does, and says whether to go on. True if every lane was sealed: then nothing is written to any of them any more.
    pub(crate) fn close(&self, mut seal: impl FnMut(&mut T), mut wait: impl FnMut() -> bool) -> bool {
        self.closed.store(true, Ordering::Relaxed);
        let mut all = true;
        for index in 0..self.lanes.len() {
            loop {
                if let Some(mut lane) = self.take(index) {
                    seal(&mut lane);
                    break;
                }
                if !wait() {
                    all = false;
                    break;
                }
            }
        }
        all
    }
}
