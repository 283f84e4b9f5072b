//! The writer's handle: finding a free lane, and changing segments.
//!
//! # Constraints
//! - [`Journal::append`] tries locks and never waits for one. It makes a system call only where no spare is ready.
//! - A full journal and a full disk are told at once, and end by themselves.
//!
//! # Operation
//! A thread first tries the lane it used last, then the others, then opens a further one. A lane whose segment has no
//! room takes a spare, if the budget allows it; if not, the lane is sealed all the same, so that the sinks can finish
//! the segment and its space comes back.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::catalog::Catalog;
use crate::claim::{Held, Lanes, Refused};
use crate::counts::{Counts, CountsFile};
use crate::keeper::{Keeper, Rounds};
use crate::lane::Lane;
use crate::lock::LockFile;
use crate::pool::{Allocate, Ids, Pool, hold};
use crate::recover::{self, Recovery};
use crate::{AppendError, Error, Options, SchemaId, boot, record};

/// How long dropping the last handle, or a synced append, waits at most.
const DEADLINE: Duration = Duration::from_secs(10);

thread_local! {
    /// The lane this thread used last.
    static LAST_LANE: Cell<usize> = const { Cell::new(0) };
}

/// What the handles and the keeper share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    /// The boot of the machine that it was opened in.
    pub(crate) boot: u64,
    pub(crate) counts: CountsFile,
    pub(crate) pool: Pool,
    lanes: Lanes<Lane>,
    catalog: Mutex<Catalog>,
    schemas: AtomicUsize,
    /// Segments started and not passed by every required sink.
    pub(crate) held: AtomicU64,
    /// Sealed segments on disk, passed ones included; the keeper's count.
    pub(crate) sealed_segments: AtomicU64,
    /// The last attempt to get a segment was refused.
    refused: AtomicBool,
    /// Why the last attempt to make a segment failed; 0 after a success.
    pub(crate) disk_errno: AtomicI32,
    stalls: AtomicU64,
    pub(crate) rounds: Rounds,
    keeper: OnceLock<Thread>,
    lock: Mutex<Option<LockFile>>,
}

enum Refusal {
    Full,
    Disk(i32),
    NoRoom,
}

/// Disk use of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Segments on disk, spares included.
    pub segments: u64,
    /// Bytes of them.
    pub disk_bytes: u64,
    /// Bytes of the segments that some required sink has not passed.
    pub undelivered_bytes: u64,
    /// The budget, as opened with.
    pub budget_bytes: u64,
    /// Appends are being refused: the budget is used up, or the disk is full.
    pub full: bool,
    /// How often a recorder had to make a segment itself because no spare was ready.
    pub stalls: u64,
    /// Lanes opened so far: the most threads that were inside `append` at one instant.
    pub lanes: usize,
}

/// The writer of a journal. Clones share it; dropping the last one closes it.
#[derive(Debug, Clone)]
pub struct Journal {
    core: Arc<Core>,
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Takes the writer lock, recovers what an earlier writer left, and starts the keeper.
    pub fn open(options: Options) -> Result<(Self, Recovery), Error> {
        Self::open_with(options, crate::pool::allocate)
    }

    pub(crate) fn open_with(options: Options, allocate: Allocate) -> Result<(Self, Recovery), Error> {
        let (journal, keeper, recovery) = Self::build(options, allocate, boot::current())?;
        let keeper = keeper.start()?;
        let _ = journal.core.keeper.set(keeper.thread().clone());
        *hold(&journal.handle.keeper) = Some(keeper);
        Ok((journal, recovery))
    }

    /// A journal whose keeper is not started yet.
    pub(crate) fn build(options: Options, allocate: Allocate, boot: u64) -> Result<(Self, Keeper, Recovery), Error> {
        options.check()?;
        for path in [options.dir.clone(), options.dir.join("segments"), options.dir.join("sinks")] {
            std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        let lock = LockFile::take(&options.dir.join("writer.lock"))?;
        let ground = recover::recover(&options, boot)?;
        let segments = options.dir.join("segments");
        let pool = {
            let ids = Ids { next: ground.next_id, boot };
            Pool::new(&segments, options.segment_bytes, allocate, ids, ground.catalog.encode())
        };
        for spare in ground.spares {
            if spare.fits { pool.adopt(spare.id)? } else { pool.replace(spare.id)? }
        }
        ground.counts.set_schemas(ground.catalog.entries().len());
        ground.counts.forget_took();
        let lanes = Lanes::new(options.lanes_max, Lane::new);
        let core = Arc::new(Core {
            boot,
            counts: ground.counts,
            pool,
            lanes,
            schemas: AtomicUsize::new(ground.catalog.entries().len()),
            catalog: Mutex::new(ground.catalog),
            held: AtomicU64::new(crate::layout::wide(ground.sealed.len())),
            sealed_segments: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            disk_errno: AtomicI32::new(0),
            stalls: AtomicU64::new(0),
            rounds: Rounds::default(),
            keeper: OnceLock::new(),
            lock: Mutex::new(Some(lock)),
            options,
        });
        let keeper = Keeper::new(Arc::clone(&core), ground.sealed, ground.checkpoints);
        let handle = Arc::new(Handle { core: Arc::clone(&core), keeper: Mutex::new(None) });
        Ok((Self { core, handle }, keeper, ground.recovery))
    }

    /// Registers a schema, or finds it again: the same name and text have the same id for ever. When this returns, the
    /// schema is on the disk, and in the header of every segment started from now on.
    pub fn register(&self, name: &str, text: &str) -> Result<SchemaId, Error> {
        let mut catalog = hold(&self.core.catalog);
        if let Some(id) = catalog.find(name, text) {
            return Ok(id);
        }
        let mut grown = catalog.clone();
        let id = grown.add(name, text)?;
        self.core.pool.set_catalog(grown.encode())?;
        grown.write(&self.core.options.dir)?;
        self.core.counts.set_schemas(grown.entries().len());
        self.core.schemas.store(grown.entries().len(), Ordering::Release);
        *catalog = grown;
        Ok(id)
    }

    /// Appends one record of exactly `len` payload bytes, which `fill` writes straight into the mapping.
    ///
    /// When this returns `Ok`, the record survives a kill -9 of this process; whether it survives a power loss is a
    /// matter of [`crate::Sync`]. Never waits for the disk or for another thread, but where no spare segment is ready it makes one
    /// (see [`Usage::stalls`]). On an error nothing was written.
    pub fn append<E>(
        &self,
        schema: SchemaId,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), AppendError<E>> {
        self.append_within(schema, len, |out| fill(out).map(|()| len))
    }

    /// As [`Self::append`], for a record whose length is known when it is written: `fill` has room for `max` bytes, writes
    /// its payload to the front and says how many bytes that has. It must leave what lies behind the payload zero, as it
    /// finds it. So `max` bytes must fit into the segment; it is better not far above the usual length.
    pub fn append_within<E>(
        &self,
        schema: SchemaId,
        max: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), AppendError<E>> {
        let core = &*self.core;
        let len = max;
        let size = record::size_of(len);
        if size > core.pool.room() {
            return Err(core.too_large(len));
        }
        if schema.index() >= core.schemas.load(Ordering::Relaxed) {
            return Err(AppendError::Schema { schema });
        }
        let mut lane = match core.lane_for(size) {
            Ok(lane) => lane,
            Err(refused) => return Err(core.explain(refused, len)),
        };
        match lane.append(&core.counts, schema, len, fill) {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(core.too_large(len)),
            Err(error) => Err(AppendError::Fill(error)),
        }
    }

    #[cfg(test)]
    pub(crate) fn syncs_asked(&self) -> u64 {
        self.core.rounds.asked()
    }

    /// As [`Self::append`], and waits until the record is on the disk. Callers that wait at the same time share a sync.
    pub fn append_synced<E>(
        &self,
        schema: SchemaId,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), AppendError<E>> {
        self.append(schema, len, fill)?;
        self.sync(DEADLINE).map_err(|error| AppendError::Disk(io::Error::other(error)))
    }

    /// Waits until everything appended before this call is on the disk; `Ok` says that it is. Whoever waits at the same
    /// time shares a sync. After an error the records are in the journal all the same, and survive a kill -9.
    pub fn sync(&self, deadline: Duration) -> Result<(), Error> {
        self.core.rounds.ask(true, deadline, "syncing the journal", || self.core.wake_keeper())
    }

    /// Asks the keeper to look at the sinks' cursors and the disk now, and waits until it did. It does so by itself
    /// about every 50 ms; this is for those who want to see the effect of a commit on [`Self::usage`] at once.
    pub fn tend(&self, deadline: Duration) -> Result<(), Error> {
        self.core.rounds.ask(false, deadline, "the keeper's round", || self.core.wake_keeper())
    }

    /// Counts a record that its recorder gives up: recorded and dropped both grow by one.
    pub fn count_dropped(&self, schema: SchemaId) {
        if schema.index() < self.core.schemas.load(Ordering::Relaxed) {
            self.core.counts.add_dropped(schema);
        }
    }

    /// Notes how long an append took, with what the caller did around it, for [`crate::Took`]. One addition.
    pub fn note_took(&self, took: Duration) {
        self.core.counts.note_took(took);
    }

    /// A consistent snapshot of the counts: of every lane an exact prefix of its records.
    pub fn recorded(&self) -> Counts {
        self.core.counts.snapshot().public()
    }

    /// Disk use, as of the keeper's last round.
    pub fn usage(&self) -> Usage {
        self.core.usage()
    }

    /// The schemas registered so far.
    pub fn catalog(&self) -> Catalog {
        hold(&self.core.catalog).clone()
    }

    /// Refuses further appends in all clones, seals the open segments, stops the keeper and frees the writer lock.
    pub fn close(self, deadline: Duration) -> Result<(), Error> {
        self.handle.shut(deadline)
    }
}

impl Handle {
    fn shut(&self, deadline: Duration) -> Result<(), Error> {
        let started = Instant::now();
        let core = &*self.core;
        let late = |what| Error::Deadline { what, deadline_ms: deadline.as_millis() };
        let wait = || {
            // Somebody is inside `append` with this lane; that takes nanoseconds, or is stuck in its `fill`.
            std::thread::park_timeout(Duration::from_millis(1));
            started.elapsed() < deadline
        };
        let sealed_all = core.lanes.close(|lane| lane.seal(&core.counts), wait);
        let keeper = hold(&self.keeper).take();
        if let Some(keeper) = keeper {
            core.rounds.stop();
            core.wake_keeper();
            if !core.rounds.wait_stopped(deadline.saturating_sub(started.elapsed()).max(Duration::from_millis(100))) {
                return Err(late("the keeper"));
            }
            if keeper.join().is_err() {
                tracing::error!("the journal's keeper panicked; what it kept ready is made by recorders instead");
            }
        }
        if !sealed_all {
            return Err(late("an append that is still inside its fill"));
        }
        hold(&core.lock).take();
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.shut(DEADLINE) {
            tracing::warn!(%error, "the journal was not closed cleanly");
        }
    }
}

impl Core {
    /// A lane with room for a record of this size, held.
    #[inline]
    fn lane_for(&self, size: usize) -> Result<Held<'_, Lane>, Refused<Refusal>> {
        let last = LAST_LANE.get();
        let (lane, index) = self.lanes.claim(last, |lane| lane.has_room(size), |lane| self.renew(lane, size))?;
        if index != last {
            LAST_LANE.set(index);
        }
        Ok(lane)
    }

    /// Puts a lane on a fresh segment.
    fn renew(&self, lane: &mut Lane, size: usize) -> Result<(), Refusal> {
        let result = self.fresh_segment();
        lane.seal(&self.counts);
        match result {
            Ok(segment) => {
                self.refused.store(false, Ordering::Relaxed);
                let started = lane.start(segment, &self.counts);
                self.wake_keeper();
                if started && lane.has_room(size) { Ok(()) } else { Err(Refusal::NoRoom) }
            }
            Err(refusal) => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    self.wake_keeper();
                }
                Err(refusal)
            }
        }
    }

    fn fresh_segment(&self) -> Result<Arc<crate::pool::Segment>, Refusal> {
        let max = self.options.held_max();
        let reserve = |held: u64| (held < max).then_some(held + 1);
        if self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, reserve).is_err() {
            return Err(Refusal::Full);
        }
        let result = match (self.pool.take(), self.disk_errno.load(Ordering::Acquire)) {
            (Some(spare), _) => Ok(spare),
            (None, 0) => {
                self.stalls.fetch_add(1, Ordering::Relaxed);
                self.pool.make_and_take().map_err(|error| {
                    let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
                    self.disk_errno.store(errno, Ordering::Release);
                    Refusal::Disk(errno)
                })
            }
            // The keeper tries again; until it succeeded, every append would fail as slowly as this one.
            (None, errno) => Err(Refusal::Disk(errno)),
        };
        if result.is_err() {
            self.held.fetch_sub(1, Ordering::AcqRel);
        }
        result
    }

    fn wake_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    fn explain<E>(&self, refused: Refused<Refusal>, len: usize) -> AppendError<E> {
        let refusal = match refused {
            Refused::Busy => return AppendError::Busy { lanes: self.lanes.most() },
            Refused::Closed => return AppendError::Closed,
            Refused::By(refusal) => refusal,
        };
        match refusal {
            Refusal::Full => {
                let usage = self.usage();
                AppendError::Full { undelivered_bytes: usage.undelivered_bytes, budget_bytes: usage.budget_bytes }
            }
            Refusal::Disk(errno) => AppendError::Disk(io::Error::from_raw_os_error(errno)),
            Refusal::NoRoom => self.too_large(len),
        }
    }

    fn too_large<E>(&self, len: usize) -> AppendError<E> {
        AppendError::TooLarge { len, max: self.pool.room().saturating_sub(record::size_of(0)) }
    }

    fn usage(&self) -> Usage {
        let held = self.held.load(Ordering::Acquire);
        let segments = self.sealed_segments.load(Ordering::Acquire) + crate::layout::wide(self.pool.born_len());
        let starved = held >= self.options.held_max() || self.disk_errno.load(Ordering::Acquire) != 0;
        Usage {
            segments,
            disk_bytes: segments.saturating_mul(self.options.segment_bytes),
            undelivered_bytes: held.saturating_mul(self.options.segment_bytes),
            budget_bytes: self.options.budget_bytes,
            full: starved && self.refused.load(Ordering::Acquire),
            stalls: self.stalls.load(Ordering::Relaxed),
            lanes: self.lanes.open(),
        }
    }
}
