//! The only module that maps memory: mapped files, handed out so that safe code cannot make a data race of them.
//!
//! # Constraints
//! - Files are allocated in full before they are mapped and never shrink, so no access can raise SIGBUS for want of space.
//! - Within a process a segment's unpublished part has exactly one owner, its [`Tail`].
//! - Across processes, the writer lock leaves one writer; bytes behind a published word are never written again.
//!
//! # Picture
//! ```text
//!  WritableMap  [ words, shared, atomic only │ published records │ Tail: one owner ........ ]
//!  ReadableMap  [ the same file, another mapping, atomic words and published bytes only     ]
//! ```

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::layout::{ALIGNMENT, round_up};
use crate::publish;
use crate::sync::Words;

/// A file mapped for reading and writing.
#[derive(Debug)]
pub(crate) struct WritableMap {
    raw: MmapRaw,
    /// Offsets below this are reached through [`Self::word`] only, those from it on through the [`Tail`] only.
    words_end: usize,
    tail_claimed: AtomicBool,
}

impl WritableMap {
    /// Maps `len` bytes of `file`, of which the first `words_end` are shared words.
    pub(crate) fn new(file: &File, len: usize, words_end: usize) -> io::Result<Self> {
        let raw = MmapOptions::new().len(len).map_raw(file)?;
        Ok(Self { raw, words_end: words_end.min(len), tail_claimed: AtomicBool::new(false) })
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    /// Makes the pages of a range present and writable, without changing them, so that the next store does not fault.
    pub(crate) fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        let offset = offset.min(self.raw.len());
        let len = len.min(self.raw.len() - offset);
        if len == 0 {
            return Ok(());
        }
        self.raw.advise_range(Advice::PopulateWrite, offset, len)
    }

    /// Waits until the range is on the disk.
    pub(crate) fn sync(&self, offset: usize, len: usize) -> io::Result<()> {
        let offset = offset.min(self.raw.len());
        self.raw.flush_range(offset, len.min(self.raw.len() - offset))
    }
}

impl Words for WritableMap {
    type Word = AtomicU64;

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(ALIGNMENT) && offset < self.words_end && self.words_end - offset >= 8);
        // SAFETY: aligned (mappings start at a page) and within the mapping, which lives as long as `self`. The part
        // below `words_end` is never handed out as plain bytes by this type: the `Tail` starts at or after it.
        unsafe { AtomicU64::from_ptr(self.raw.as_mut_ptr().add(offset).cast()) }
    }
}

/// The part of a mapping that is not published yet. There is at most one per [`WritableMap`], ever.
#[derive(Debug)]
pub(crate) struct Tail {
    map: Arc<WritableMap>,
    offset: usize,
}

impl Tail {
    /// Takes the part from `offset` on; `None` if it was taken before or `offset` lies among the shared words.
    pub(crate) fn claim(map: Arc<WritableMap>, offset: usize) -> Option<Self> {
        if offset < map.words_end || offset > map.len() || !offset.is_multiple_of(ALIGNMENT) {
            return None;
        }
        if map.tail_claimed.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Self { map, offset })
    }

    /// Where the next record starts.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes left.
    pub(crate) fn room(&self) -> usize {
        self.map.len() - self.offset
    }

    /// The `len` bytes behind the next record's first word; `None` if they do not fit.
    pub(crate) fn body(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.room().checked_sub(8)? {
            return None;
        }
        // SAFETY: within the mapping. No other reference to these bytes exists: this process has one `Tail` per mapping
        // and it is borrowed mutably, `WritableMap::word` ends before it, other processes are kept out by the writer
        // lock, and readers touch bytes behind a word only after that word was published, which `publish` does through
        // the same exclusive borrow and which moves `offset` past them.
        Some(unsafe { std::slice::from_raw_parts_mut(self.map.raw.as_mut_ptr().add(self.offset + 8), len) })
    }

    /// Moves on behind `len` bytes of body, once `publish` has stored the word before them, which it gets with the
    /// offset behind them. Does nothing if they do not fit.
    #[inline]
    pub(crate) fn publish(&mut self, len: usize, publish: impl FnOnce(&AtomicU64, usize)) {
        let size = round_up(8usize.saturating_add(len), ALIGNMENT);
        if size > self.room() {
            return;
        }
        // SAFETY: aligned (`offset` is kept a multiple of 8), within the mapping (checked), and only ever accessed
        // atomically: `body` starts behind it.
        let head = unsafe { AtomicU64::from_ptr(self.map.raw.as_mut_ptr().add(self.offset).cast()) };
        publish(head, self.offset + size);
        self.offset += size;
    }
}

/// A file mapped for reading.
#[derive(Debug)]
pub(crate) struct ReadableMap {
    raw: MmapRaw,
}

impl ReadableMap {
    /// Maps the first `len` bytes of `file`. The caller has checked that the file is that long.
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        Ok(Self { raw: MmapOptions::new().len(len).map_raw_read_only(file)? })
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    /// Loads a word with acquire order; `None` outside of the file.
    pub(crate) fn load(&self, offset: usize) -> Option<u64> {
        if !offset.is_multiple_of(ALIGNMENT) || offset.checked_add(8)? > self.raw.len() {
            return None;
        }
        // SAFETY: aligned and within the mapping. Only loads are made through it, which read-only memory allows for
        // words of this size; whoever writes this word in this or another process does so atomically.
        let word = unsafe { AtomicU64::from_ptr(self.raw.as_mut_ptr().add(offset).cast()) };
        Some(publish::look(word))
    }

    /// Bytes that are published, or any bytes of a file that nobody writes (under the writer lock).
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> Option<&[u8]> {
        if offset.checked_add(len)? > self.raw.len() {
            return None;
        }
        // SAFETY: within the mapping, which outlives the borrow. Bytes behind a published word are never written again
        // by any process (`Tail` only moves forward), and callers ask for others only under the writer lock. A damaged
        // length word could point into a part still being written: those bytes are only ever fed to the checksum,
        // which then does not match, and they are plain numbers, for which every value is valid.
        Some(unsafe { std::slice::from_raw_parts(self.raw.as_ptr().add(offset), len) })
    }
}
