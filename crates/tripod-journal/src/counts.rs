//! How many records each lane and each schema ever had, in a mapped file that survives kill -9. After a power loss
//! it is set from the checkpoint and the records (see `checkpoint.rs`), because nobody knows what of it was written.
//!
//! # Constraints
//! - Counting is two plain stores by the lane's holder, right after publishing.
//! - A reader in any process gets, per lane, the counts of an exact prefix of its records, without a lock.
//! - A crash between publishing and counting leaves at most one uncounted record per lane, which recovery can name.
//!
//! # Picture
//! ```text
//!    0 magic │ version │ lanes │ schemas at most │ schemas in use    64 dropped per schema    2112 how long appends took
//! 4096 lane 0: total │ 64: recorded per schema    8192 lane 1: ...
//! ```
//!
//! # Operation
//! The holder first raises `recorded[schema]`, then `total`. So the sum over schemas is `total`, or `total + 1` in
//! between, and both are a prefix. A reader loads `total`, all of `recorded`, and `total` again; if it did not move, what it
//! summed up is exact (a sequence lock whose version is the total itself, which therefore cannot get stuck half-way
//! when a holder dies).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::catalog::{SCHEMAS_MAX, SchemaId, sync_parent};
use crate::format::FORMAT;
use crate::layout::{PAGE_BYTES, narrow, wide};
use crate::mapping::{ReadableMap, WritableMap};
use crate::options::LANES_MAX;
use crate::publish::Counters;
use crate::sync::{Words, spin_loop};
use crate::took::{self, Took};
use crate::{Error, disk, pool};

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"TRIPODN1");
const DROPPED: usize = 64;
/// Buckets of `took.rs`; zero in a file of a release that had none.
const TOOK: usize = DROPPED + 256 * 8;
const RECORDED: usize = 64;
const FILE_BYTES: usize = PAGE_BYTES * (1 + LANES_MAX);
/// How many schemas have counters in use: the fewer, the sooner a scan succeeds beside a busy lane.
pub(crate) const IN_USE: usize = 32;
/// A lane takes a record in some tens of nanoseconds; a scan of a dozen schemas takes less.
const TRIES_MAX: usize = if cfg!(loom) { 4 } else { 100_000 };

const _: () = assert!(SCHEMAS_MAX <= 256 && TOOK + took::BUCKETS * 8 <= PAGE_BYTES);

/// A consistent snapshot of the writer's counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Per schema that has any: records ever recorded, the dropped ones included.
    pub recorded: Vec<(SchemaId, u64)>,
    /// Per schema that has any: records dropped by [`crate::Journal::count_dropped`].
    pub dropped: Vec<(SchemaId, u64)>,
}

/// A table of counters by schema.
pub(crate) type Table = Box<[u64; SCHEMAS_MAX]>;

pub(crate) fn empty_table() -> Table {
    Box::new([0; SCHEMAS_MAX])
}

/// The entries that are not zero, as the public types show them.
pub(crate) fn listed(table: &[u64; SCHEMAS_MAX]) -> Vec<(SchemaId, u64)> {
    (0u16..).map(SchemaId).zip(table.iter().copied()).filter(|(_, count)| *count > 0).collect()
}

/// Where the counts of the journal in `dir` are.
pub(crate) fn path_in(dir: &Path) -> PathBuf {
    dir.join("counts")
}

pub(crate) fn total_at(lane: usize) -> usize {
    PAGE_BYTES * (1 + lane)
}

pub(crate) fn recorded_at(lane: usize, index: usize) -> usize {
    total_at(lane) + RECORDED + index * 8
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct CountsFile {
    map: WritableMap,
}

impl CountsFile {
    /// Opens the file, or makes it with every count zero.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let path = path_in(dir);
        if !path.exists() {
            Self::create(&path)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
        check_length(&file, &path)?;
        let map = WritableMap::new(&file, FILE_BYTES, FILE_BYTES).map_err(Error::io("map", &path))?;
        check_head(|offset| map.word(offset).load(Ordering::Acquire), &path)?;
        Ok(Self { map })
    }

    fn create(path: &Path) -> Result<(), Error> {
        let temporary = path.with_extension("new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(Error::io("create", &temporary))?;
        pool::allocate(&file, wide(FILE_BYTES)).map_err(Error::io("allocate", &temporary))?;
        let map = WritableMap::new(&file, FILE_BYTES, FILE_BYTES).map_err(Error::io("map", &temporary))?;
        for (n, number) in [MAGIC, u64::from(FORMAT), wide(LANES_MAX), wide(SCHEMAS_MAX)].into_iter().enumerate() {
            map.word(n * 8).store(number.to_le(), Ordering::Relaxed);
        }
        disk::sync_map(&map, &temporary, 0, FILE_BYTES).map_err(Error::io("sync", &temporary))?;
        disk::rename(&temporary, path).map_err(Error::io("rename", &temporary))?;
        sync_parent(path)
    }

    /// What counts a record of this schema. Only the lane's holder raises them.
    #[inline]
    pub(crate) fn counters(&self, lane: usize, schema: SchemaId) -> Counters<'_, AtomicU64> {
        let word = |offset| self.map.word(offset);
        Counters { recorded: word(recorded_at(lane, schema.index())), total: word(total_at(lane)) }
    }

    pub(crate) fn add_dropped(&self, schema: SchemaId) {
        self.map.word(DROPPED + schema.index() * 8).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_took(&self, took: Duration) {
        self.map.word(TOOK + took::bucket_of(took) * 8).fetch_add(1, Ordering::Relaxed);
    }

    /// Before recorders start.
    pub(crate) fn forget_took(&self) {
        (0..took::BUCKETS).for_each(|bucket| self.map.word(TOOK + bucket * 8).store(0, Ordering::Relaxed));
    }

    pub(crate) fn total(&self, lane: usize) -> u64 {
        self.map.word(total_at(lane)).load(Ordering::Acquire)
    }

    /// Makes counters of the first `schemas` schemas visible to readers; before the first record of a new one.
    pub(crate) fn set_schemas(&self, schemas: usize) {
        self.map.word(IN_USE).store(wide(schemas.min(SCHEMAS_MAX)), Ordering::Release);
    }

    /// Makes the total the sum over schemas. Between the two stores of counting a crash leaves it one short; any
    /// other contradiction is returned as the total that stood there. Under the writer lock.
    pub(crate) fn settle(&self, lane: usize) -> Option<u64> {
        let sum = sum_of((0..SCHEMAS_MAX).map(|schema| self.recorded_of(lane, schema)));
        let stood = self.map.word(total_at(lane)).swap(sum, Ordering::AcqRel);
        (stood != sum && stood.checked_add(1) != Some(sum)).then_some(stood)
    }

    /// One lane's counter. Exact only for its holder or under the writer lock before recorders start.
    pub(crate) fn recorded_of(&self, lane: usize, schema: usize) -> u64 {
        self.map.word(recorded_at(lane, schema)).load(Ordering::Relaxed)
    }

    /// All counters of one lane, as [`Self::recorded_of`].
    pub(crate) fn copy_recorded(&self, lane: usize, into: &mut Table) {
        for (schema, count) in into.iter_mut().enumerate() {
            *count = self.recorded_of(lane, schema);
        }
    }

    pub(crate) fn snapshot(&self) -> CountsSnapshot {
        CountsSnapshot::take(|offset| self.map.word(offset).load(Ordering::Acquire)).0
    }

    /// As [`Self::snapshot`]; `None` where a lane is too busy for an exact one right now.
    pub(crate) fn exact_snapshot(&self) -> Option<CountsSnapshot> {
        match CountsSnapshot::take(|offset| self.map.word(offset).load(Ordering::Acquire)) {
            (snapshot, None) => Some(snapshot),
            (_, Some(_)) => None,
        }
    }

    /// Sets one lane's counters, after a power loss. Under the writer lock, before recorders start.
    pub(crate) fn set_lane(&self, lane: usize, recorded: &Table) {
        for (schema, count) in recorded.iter().enumerate() {
            self.map.word(recorded_at(lane, schema)).store(*count, Ordering::Relaxed);
        }
        self.map.word(total_at(lane)).store(sum_of(recorded.iter().copied()), Ordering::Release);
    }

    /// Dropped records are counted on the disk with each checkpoint: after a power loss the file may know of fewer.
    pub(crate) fn raise_dropped(&self, schema: SchemaId, to: u64) {
        self.map.word(DROPPED + schema.index() * 8).fetch_max(to, Ordering::Relaxed);
    }
}

/// The counts of every lane, each of an exact prefix of that lane's records.
#[derive(Debug)]
pub(crate) struct CountsSnapshot {
    /// Per lane: how many records the prefix has.
    pub(crate) totals: [u64; LANES_MAX],
    /// Per schema, over all lanes, without dropped ones.
    pub(crate) recorded: Table,
    /// Per schema.
    pub(crate) dropped: Table,
    /// Per lane with any record: its prefix by schema.
    pub(crate) lanes: Vec<Option<Table>>,
}

impl CountsSnapshot {
    /// Reads the counts of the journal in `dir`, from any process.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let (map, path) = open(dir)?;
        match Self::take(|offset| map.load(offset).unwrap_or(0)) {
            (snapshot, None) => Ok(snapshot),
            (_, Some(lane)) => {
                Err(Error::damaged(&path, total_at(lane), "the counts of this lane contradict each other"))
            }
        }
    }

    /// Also names a lane whose counts contradict each other, which the writer's next open puts right and reports.
    fn take(load: impl Fn(usize) -> u64) -> (Self, Option<usize>) {
        let mut snapshot =
            Self { totals: [0; LANES_MAX], recorded: empty_table(), dropped: empty_table(), lanes: Vec::new() };
        let mut contradicts = None;
        for (lane, total) in snapshot.totals.iter_mut().enumerate() {
            let (table, exact) = read_lane(&load, lane);
            *total = sum_of(table.iter().copied());
            if !exact {
                contradicts = Some(lane);
            }
            for (all, one) in snapshot.recorded.iter_mut().zip(table.iter()) {
                *all += one;
            }
            snapshot.lanes.push((*total > 0).then_some(table));
        }
        for (index, count) in snapshot.dropped.iter_mut().enumerate() {
            *count = load(DROPPED + index * 8);
        }
        (snapshot, contradicts)
    }

    pub(crate) fn public(&self) -> Counts {
        let mut recorded = self.recorded.clone();
        for (all, dropped) in recorded.iter_mut().zip(self.dropped.iter()) {
            *all += dropped;
        }
        Counts { recorded: listed(&recorded), dropped: listed(&self.dropped) }
    }
}

/// The file of the journal in `dir` for reading, from any process.
fn open(dir: &Path) -> Result<(ReadableMap, PathBuf), Error> {
    let path = path_in(dir);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing { path: dir.to_owned() });
        }
        Err(error) => return Err(Error::io("open", &path)(error)),
    };
    check_length(&file, &path)?;
    let map = ReadableMap::new(&file, FILE_BYTES).map_err(Error::io("map", &path))?;
    check_head(|offset| map.load(offset).unwrap_or(0), &path)?;
    Ok((map, path))
}

impl Took {
    /// Of the journal in `dir`, from any process.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let (map, _) = open(dir)?;
        let bucket = |bucket: usize| map.load(TOOK + bucket * 8).unwrap_or(0);
        Ok(Self { buckets: Box::new(std::array::from_fn(bucket)) })
    }
}

/// One lane's counters, and whether they are of an exact prefix. `load` loads with acquire order.
pub(crate) fn read_lane(load: &impl Fn(usize) -> u64, lane: usize) -> (Table, bool) {
    let mut table = empty_table();
    for _ in 0..TRIES_MAX {
        let before = load(total_at(lane));
        if before == 0 {
            // Most lanes were never opened; no record is a prefix too.
            return (empty_table(), true);
        }
        // After `before`: so the schema of every record in it has its counter among these.
        let in_use = narrow(load(IN_USE)).min(SCHEMAS_MAX);
        for (index, count) in table.iter_mut().take(in_use).enumerate() {
            *count = load(recorded_at(lane, index));
        }
        let sum = sum_of(table.iter().copied());
        // A counter that was read too late belongs to a record that came after the next total: then it has moved.
        if load(total_at(lane)) == before && (sum == before || sum == before.wrapping_add(1)) {
            return (table, true);
        }
        spin_loop();
    }
    (table, false)
}

fn check_length(file: &File, path: &Path) -> Result<(), Error> {
    let len = file.metadata().map_err(Error::io("look at", path))?.len();
    if len == wide(FILE_BYTES) {
        Ok(())
    } else {
        Err(Error::damaged(path, narrow(len), format!("the file has not {FILE_BYTES} bytes")))
    }
}

fn check_head(load: impl Fn(usize) -> u64, path: &Path) -> Result<(), Error> {
    for (n, expected) in [MAGIC, u64::from(FORMAT), wide(LANES_MAX), wide(SCHEMAS_MAX)].into_iter().enumerate() {
        if u64::from_le(load(n * 8)) != expected {
            return Err(Error::damaged(path, n * 8, "these are not the counts of a journal of this release"));
        }
    }
    Ok(())
}
/// Wraps: a damaged file may hold any number, and is found by what the sum is compared with.
fn sum_of(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::wrapping_add)
}
