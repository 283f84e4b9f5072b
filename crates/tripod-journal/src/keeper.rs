//! The one background thread of a writer: spares, syncing, deletion.
//!
//! # Constraints
//! - Recorders depend on it for speed only, never for correctness: without it they make segments themselves.
//! - It deletes a segment only if every required sink's *committed* cursor has passed it, and a checkpoint on the disk
//!   says so: a power loss must not leave a cursor that asks for what is gone.
//! - It holds no lock of a lane, ever.
//!
//! # Operation
//! A round, every [`TICK`] and whenever it is woken: look at the required sinks' cursors; take note of what is passed;
//! delete what is passed and old, or passed and in the way; make spares; fault in the pages that recorders will reach
//! next (the kernel write-protects pages that it wrote back); sync, where due or asked for. A sync first reads counts
//! and cursors, then syncs the segments, then stores what it read as a checkpoint: see `checkpoint.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoint, CheckpointFiles};
use crate::layout::{PAGE_BYTES, now_ns, wide};
use crate::options::SPARES;
use crate::pool::{Segment, hold};
use crate::writer::Core;
use crate::{Error, Sync, disk, segment, slots};

/// The longest pause between two rounds.
const TICK: Duration = Duration::from_millis(50);
/// How far ahead of a lane's position pages are kept writable: more than a busy lane writes in a [`TICK`].
const FAULT_IN_BYTES: usize = 1 << 20;

/// A sealed segment on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) sealed_at_ns: u64,
    /// Every required sink has passed it.
    pub(crate) passed: bool,
    /// The checkpoint on the disk says that it is passed.
    pub(crate) settled: bool,
}

/// Requests to the keeper, and its answers.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    state: Mutex<RoundsState>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct RoundsState {
    wanted: u64,
    done: u64,
    sync_wanted: bool,
    /// The last sync failed, for the requests it answered.
    sync_error: Option<(u64, i32)>,
    stopped: bool,
}

impl Rounds {
    /// Asks for a round that starts after this call, and waits for its end.
    pub(crate) fn ask(
        &self,
        sync: bool,
        deadline: Duration,
        what: &'static str,
        wake: impl FnOnce(),
    ) -> Result<(), Error> {
        let mut state = hold(&self.state);
        state.wanted += 1;
        state.sync_wanted |= sync;
        let mine = state.wanted;
        wake();
        let waiting = |state: &mut RoundsState| state.done < mine && !state.stopped;
        let (state, timeout) =
            self.changed.wait_timeout_while(state, deadline, waiting).unwrap_or_else(PoisonError::into_inner);
        if state.done < mine {
            return Err(if timeout.timed_out() {
                Error::Deadline { what, deadline_ms: deadline.as_millis() }
            } else {
                Error::Closed
            });
        }
        match state.sync_error {
            Some((up_to, errno)) if sync && mine <= up_to => Err(Error::Io {
                action: "sync",
                path: "the journal's segments".into(),
                source: io::Error::from_raw_os_error(errno),
            }),
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) fn asked(&self) -> u64 {
        hold(&self.state).wanted
    }

    fn begin(&self) -> (u64, bool) {
        let mut state = hold(&self.state);
        (state.wanted, std::mem::take(&mut state.sync_wanted))
    }

    fn finish(&self, ticket: u64, synced: io::Result<()>) {
        let mut state = hold(&self.state);
        state.done = ticket;
        if let Err(error) = synced {
            let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
            state.sync_error = Some((ticket, errno));
        }
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn wait_stopped(&self, deadline: Duration) -> bool {
        let state = hold(&self.state);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, deadline, |state| !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        state.stopped
    }
}

/// Tells those who wait that the keeper is gone, also when it panicked.
struct SayStopped(Arc<Core>);

impl Drop for SayStopped {
    fn drop(&mut self) {
        hold(&self.0.rounds.state).stopped = true;
        self.0.rounds.changed.notify_all();
    }
}

/// The keeper's own state.
#[derive(Debug)]
pub(crate) struct Keeper {
    core: Arc<Core>,
    kept: BTreeMap<u64, Kept>,
    /// Per open segment: up to where it is synced.
    synced: HashMap<u64, usize>,
    /// Segments of which a sync was refused: the kernel then calls pages clean that are not on the disk.
    refused: HashSet<u64>,
    checkpoints: CheckpointFiles,
    last_sync: Instant,
    /// So that a state that lasts is logged once.
    complained: bool,
}

impl Keeper {
    /// Makes one round in the caller's thread, so that the first append finds a spare.
    pub(crate) fn new(core: Arc<Core>, sealed: Vec<(u64, Kept)>, checkpoints: CheckpointFiles) -> Self {
        let mut keeper = Self {
            core,
            kept: sealed.into_iter().collect(),
            synced: HashMap::new(),
            refused: HashSet::new(),
            checkpoints,
            last_sync: Instant::now(),
            complained: false,
        };
        keeper.round();
        keeper
    }

    /// Goes on in a thread of its own.
    pub(crate) fn start(self) -> Result<JoinHandle<()>, Error> {
        let keeper = self;
        let dir = keeper.core.options.dir.clone();
        std::thread::Builder::new()
            .name("journal-keeper".to_owned())
            .spawn(move || keeper.run())
            .map_err(Error::io("start the keeper of", &dir))
    }

    fn run(mut self) {
        let _say = SayStopped(Arc::clone(&self.core));
        loop {
            if self.turn() {
                return;
            }
            std::thread::park_timeout(self.pause());
        }
    }

    /// One round, a sync where it is due or asked for, and the answers. True at the last one.
    pub(crate) fn turn(&mut self) -> bool {
        let stop = self.core.rounds.stop.load(Ordering::SeqCst);
        let (ticket, sync_wanted) = self.core.rounds.begin();
        self.round();
        let due = match self.core.options.sync {
            Sync::Periodic(interval) => stop || self.last_sync.elapsed() >= interval,
            Sync::Each => stop,
            Sync::Process => false,
        };
        let synced = if due || sync_wanted { self.sync() } else { Ok(()) };
        // What was just synced is write-protected: here that costs no recorder anything.
        self.fault_in_ahead();
        if let Err(error) = &synced {
            tracing::error!(%error, "the journal cannot be synced: a power loss may take more than promised");
        }
        self.core.rounds.finish(ticket, synced);
        stop
    }

    fn pause(&self) -> Duration {
        match self.core.options.sync {
            Sync::Periodic(interval) => interval.saturating_sub(self.last_sync.elapsed()).min(TICK),
            Sync::Process | Sync::Each => TICK,
        }
    }

    pub(crate) fn round(&mut self) {
        self.note_sealed();
        self.note_passed();
        self.delete_old();
        self.make_spares();
        self.fault_in_ahead();
        self.core.sealed_segments.store(wide(self.kept.len()), Ordering::Release);
    }

    fn note_sealed(&mut self) {
        for sealed in self.core.pool.born().iter().filter(|segment| segment.is_sealed()) {
            if self.core.options.sync != Sync::Process
                && let Err(error) = self.sync_segment(sealed)
            {
                // It stays among the open ones, and is tried again.
                tracing::error!(%error, segment = sealed.id, "a sealed segment cannot be synced");
                continue;
            }
            self.kept.insert(sealed.id, Kept { sealed_at_ns: now_ns(), passed: false, settled: false });
            self.synced.remove(&sealed.id);
            self.core.pool.forget(sealed.id);
        }
    }

    fn note_passed(&mut self) {
        let mut cursors = Vec::new();
        let mut held_by_all = false;
        for name in &self.core.options.required_sinks {
            match slots::read(&self.core.options.dir, name) {
                Ok(Some(commit)) => cursors.push(commit.cursor),
                // Never opened: it needs everything.
                Ok(None) => held_by_all = true,
                Err(error) => {
                    held_by_all = true;
                    if !self.complained {
                        self.complained = true;
                        tracing::error!(%error, sink = name, "a sink's cursor cannot be read: nothing is deleted");
                    }
                }
            }
        }
        for (id, kept) in &mut self.kept {
            let passed = !held_by_all && cursors.iter().all(|cursor| cursor.has_passed(*id));
            // A sink that rewinds takes back what it had passed.
            match (kept.passed, passed) {
                (false, true) => drop(self.core.held.fetch_sub(1, Ordering::AcqRel)),
                (true, false) => drop(self.core.held.fetch_add(1, Ordering::AcqRel)),
                _ => {}
            }
            kept.passed = passed;
            kept.settled &= passed;
        }
    }

    fn delete_old(&mut self) {
        let now = now_ns();
        let keep_ns = u64::try_from(self.core.options.keep.as_nanos()).unwrap_or(u64::MAX);
        let old = |kept: &Kept| kept.passed && now.saturating_sub(kept.sealed_at_ns) >= keep_ns;
        let ids: Vec<u64> = self.kept.iter().filter(|(_, kept)| old(kept)).map(|(id, _)| *id).collect();
        for id in ids {
            if !self.settle(id) {
                break;
            }
            self.delete(id);
        }
        while self.disk_bytes() > self.core.options.budget_bytes && self.delete_oldest_passed() {}
    }

    fn disk_bytes(&self) -> u64 {
        wide(self.kept.len() + self.core.pool.born_len()).saturating_mul(self.core.options.segment_bytes)
    }

    fn delete_oldest_passed(&mut self) -> bool {
        let oldest = self.kept.iter().find(|(_, kept)| kept.passed).map(|(id, _)| *id);
        oldest.is_some_and(|id| self.settle(id) && self.delete(id))
    }

    /// Sees to it that a checkpoint on the disk knows that this segment is passed.
    fn settle(&mut self, id: u64) -> bool {
        let settled = |keeper: &Self| keeper.kept.get(&id).is_some_and(|kept| kept.settled);
        if !settled(self)
            && let Err(error) = self.sync()
        {
            tracing::warn!(%error, "passed segments are kept: the disk does not take what would say that they are");
        }
        settled(self)
    }

    fn delete(&mut self, id: u64) -> bool {
        let path = segment::path_of(&self.core.options.dir.join("segments"), id);
        match disk::remove(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "a passed segment cannot be deleted");
                return false;
            }
        }
        self.kept.remove(&id);
        true
    }

    fn make_spares(&mut self) {
        while wide(self.core.pool.spares()) < SPARES {
            while self.disk_bytes().saturating_add(self.core.options.segment_bytes) > self.core.options.budget_bytes
                && self.delete_oldest_passed()
            {}
            match self.core.pool.make(true) {
                Ok(()) => {
                    if self.core.disk_errno.swap(0, Ordering::AcqRel) != 0 {
                        tracing::info!("segments can be made again");
                    }
                }
                Err(error) => {
                    let full = error.kind() == io::ErrorKind::StorageFull;
                    if full && self.delete_oldest_passed() {
                        continue;
                    }
                    let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
                    if self.core.disk_errno.swap(errno, Ordering::AcqRel) != errno {
                        tracing::error!(%error, "no segment can be made; records are refused once the spares are used");
                    }
                    return;
                }
            }
        }
    }

    fn fault_in_ahead(&self) {
        for open in self.core.pool.born().iter().filter(|segment| segment.is_started() && !segment.is_sealed()) {
            let from = open.position() & !(PAGE_BYTES - 1);
            // Recorders only get slower without it.
            let _ = open.map.populate(from, FAULT_IN_BYTES);
        }
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.last_sync = Instant::now();
        #[cfg(test)]
        crate::power_tests::shadow::sync_begins();
        let options = &self.core.options;
        let Some(counts) = self.core.counts.exact_snapshot() else {
            return Err(io::Error::other("the counts are being written too fast to be read"));
        };
        let checkpoint = Checkpoint::take(&options.dir, self.core.boot, &counts).map_err(io::Error::other)?;
        for segment in self.core.pool.born().iter().filter(|segment| segment.is_started()) {
            self.sync_segment(segment)?;
        }
        self.core.pool.sync_names()?;
        self.checkpoints.store(&checkpoint)?;
        let required = &self.core.options.required_sinks;
        let passes = |id, name: &String| checkpoint.commit_of(name).is_some_and(|commit| commit.cursor.has_passed(id));
        for (id, kept) in &mut self.kept {
            kept.settled = kept.passed && required.iter().all(|name| passes(*id, name));
        }
        #[cfg(test)]
        crate::power_tests::shadow::sync_ended();
        Ok(())
    }

    fn sync_segment(&mut self, segment: &Segment) -> io::Result<()> {
        if self.refused.contains(&segment.id) {
            // All of it counts as dirty again, so that the next sync vouches for all of it.
            segment.map.populate(0, segment.position())?;
        }
        let synced = self.sync_published(segment);
        if synced.is_ok() {
            self.refused.remove(&segment.id)
        } else {
            self.refused.insert(segment.id)
        };
        synced
    }

    /// Syncs what was published since the last time. Only that: the faulted-in rest of the file is dirty too.
    fn sync_published(&mut self, segment: &Segment) -> io::Result<()> {
        let sealed = segment.is_sealed();
        let position = segment.position();
        let synced = self.synced.get(&segment.id).copied();
        if synced == Some(position) && !sealed {
            return Ok(());
        }
        if let Some(synced) = synced {
            // On the disk with this sync, and true since the one before.
            segment::store_synced(&segment.map, synced);
        }
        // From the start, because the header changes too; what did not change is not written again.
        disk::sync_map(&segment.map, &segment.path, 0, position)?;
        if sealed {
            segment::store_synced(&segment.map, position);
            disk::sync_map(&segment.map, &segment.path, 0, PAGE_BYTES)?;
        }
        self.synced.insert(segment.id, position);
        Ok(())
    }
}
