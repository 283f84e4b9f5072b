//! What claiming, publishing and sealing synchronise with: the processor's atomics, or loom's, which tries every order
//! of steps that the memory model allows.
//!
//! Constraints: only what `loom_tests` runs goes through here, and nothing of it costs a product build anything. Mapped
//! words are always real atomics; what works on them and on the model's words alike takes a [`Word`].

use std::sync::atomic::Ordering;

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicUsize, fence},
    thread::yield_now,
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicUsize, fence},
    thread::yield_now,
};

/// Loom's interface over the real cell.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(content: T) -> Self {
        Self(std::cell::UnsafeCell::new(content))
    }

    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// A shared word.
pub(crate) trait Word {
    fn get(&self, order: Ordering) -> u64;
    fn put(&self, number: u64, order: Ordering);

    /// As the only thread that stores to it sees it: what it stored last.
    fn own(&self) -> u64;
}

impl Word for std::sync::atomic::AtomicU64 {
    #[inline]
    fn get(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn put(&self, number: u64, order: Ordering) {
        self.store(number, order);
    }

    #[inline]
    fn own(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

#[cfg(loom)]
impl Word for loom::sync::atomic::AtomicU64 {
    fn get(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn put(&self, number: u64, order: Ordering) {
        self.store(number, order);
    }

    /// Not a load to loom: it looks for orders between the last two accesses of a word only, and would take this one for
    /// one of them, so that no reader came before the store that follows.
    fn own(&self) -> u64 {
        // SAFETY: nobody else stores to it now; loom ends the model where that is not so.
        unsafe { self.unsync_load() }
    }
}

/// Shared words by their offset: a mapping, or a model of one.
pub(crate) trait Words {
    type Word: Word;

    /// Panics on an offset that is not a word's: the offsets are this crate's constants.
    fn word(&self, offset: usize) -> &Self::Word;
}

/// The steps whose ordering a promise stands on. The models show of each that they fail where it is relaxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(loom), expect(dead_code, reason = "the names are for the models"))]
pub(crate) enum Step {
    /// A thread takes a lane: it sees what the one before it did there.
    TakeLane,
    /// And gives it back.
    FreeLane,
    /// A record's word is stored, last.
    Publish,
    /// A reader loads it.
    Look,
    /// A mark's checksum is stored, last.
    Mark,
    /// A reader loads it.
    LookAtMark,
    /// Before a record's first counter is raised.
    CountBegins,
    /// A record's second counter is raised.
    CountEnds,
    /// Somebody loads it, before all others and after.
    LookAtCounts,
}

impl Step {
    /// The ordering that this step has: `strong`, unless a model wants to see it relaxed.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) const fn order(self, strong: Ordering) -> Ordering {
        strong
    }

    #[cfg(loom)]
    pub(crate) fn order(self, strong: Ordering) -> Ordering {
        if RELAXED.get() == Some(self) { Ordering::Relaxed } else { strong }
    }

    /// A fence that this step needs.
    #[inline]
    pub(crate) fn fence(self, strong: Ordering) {
        // There is no relaxed fence.
        if !matches!(self.order(strong), Ordering::Relaxed) {
            fence(strong);
        }
    }
}

#[cfg(loom)]
thread_local! {
    /// The step that has no ordering. A model runs in one thread of the system, whatever threads it models.
    pub(crate) static RELAXED: std::cell::Cell<Option<Step>> = const { std::cell::Cell::new(None) };
}
