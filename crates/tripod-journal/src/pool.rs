//! Makes segments: allocated, named, mapped and faulted in before a recorder needs them.
//!
//! # Constraints
//! - A recorder takes a spare with a try-lock and no system call. Only where none is ready does it make one itself,
//!   which is counted as a stall.
//! - Ids are given in the order in which files get their names, so an id below one that exists was born and is gone, or
//!   exists. Readers rely on that. And the spare with the lowest id is taken first, so a lane's ids ascend.
//! - Space is allocated in full before anything is mapped.
//!
//! # Operation
//! The slow part (allocate, map, fault in) needs no lock. Only naming does: take the next id, write the header, rename,
//! queue. A recorder that made a segment itself queues it too and takes the front, which may be another one's.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};

use crate::layout::{narrow, now_ns, wide};
use crate::mapping::{Tail, WritableMap};
use crate::segment::{self, Header, Made, SchemaCounts, Sealed, Started, View};
use crate::{Error, catalog, disk};

/// Reserves disk for a file. A parameter so that a test can have a full disk.
pub(crate) type Allocate = fn(&File, u64) -> io::Result<()>;

/// Really allocates `bytes` of a file (what is there stays), extending it.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, bytes),
        Err(errno) => Err(errno.into()),
    }
}

/// For file systems that cannot reserve: writing is the only way to be sure.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    static BLOCK: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut at = file.metadata()?.len();
    while at < bytes {
        let len = narrow(bytes - at).min(BLOCK.len());
        file.write_all_at(&BLOCK[..len], at)?;
        at += wide(len);
    }
    Ok(())
}

/// Locks for a few memory operations; a panic in one of ours cannot leave such state half-way.
pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A segment as the writer's process has it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) map: Arc<WritableMap>,
    file: File,
    data_start: AtomicUsize,
    /// Up to where records are published, for the keeper; readers look at the records themselves.
    pub(crate) position: AtomicU64,
    started: AtomicBool,
    sealed: AtomicBool,
}

impl Segment {
    /// Up to where records are published.
    pub(crate) fn position(&self) -> usize {
        narrow(self.position.load(Ordering::Acquire))
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Marks the segment as a lane's and hands out its unpublished part; `None` if it was started before.
    pub(crate) fn start(&self, started: Started) -> Option<Tail> {
        let data_start = self.data_start.load(Ordering::Acquire);
        let tail = Tail::claim(Arc::clone(&self.map), data_start)?;
        self.position.store(wide(data_start), Ordering::Release);
        segment::store_started(&*self.map, self.id, started);
        self.started.store(true, Ordering::Release);
        Some(tail)
    }

    pub(crate) fn seal(&self, sealed: Sealed, counts: &SchemaCounts) {
        segment::store_sealed(&*self.map, self.id, sealed, counts);
        self.sealed.store(true, Ordering::Release);
    }
}

#[derive(Debug)]
struct Birth {
    next_id: u64,
    boot: u64,
    catalog: Vec<u8>,
}

/// What new segments are called and say of their time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    pub(crate) next: u64,
    pub(crate) boot: u64,
}

impl Birth {
    fn made(&self, id: u64, segment_bytes: u64) -> Made {
        Made { id, at_ns: now_ns(), segment_bytes, boot: self.boot }
    }
}

/// The segments that are ready, and those in use.
#[derive(Debug)]
pub(crate) struct Pool {
    segments: PathBuf,
    segment_bytes: u64,
    allocate: Allocate,
    birth: Mutex<Birth>,
    spares: Mutex<VecDeque<Arc<Segment>>>,
    /// Every segment born or adopted that the keeper has not yet seen sealed.
    born: Mutex<Vec<Arc<Segment>>>,
    temporary: AtomicU64,
    /// Where records of the next segment start at the latest.
    data_start: AtomicUsize,
    /// New names that the directory's own sync has not covered yet.
    pub(crate) names_unsynced: AtomicBool,
}

impl Pool {
    pub(crate) fn new(segments: &Path, segment_bytes: u64, allocate: Allocate, ids: Ids, catalog: Vec<u8>) -> Self {
        Self {
            segments: segments.to_owned(),
            segment_bytes,
            allocate,
            data_start: AtomicUsize::new(segment::data_start(catalog.len())),
            birth: Mutex::new(Birth { next_id: ids.next, boot: ids.boot, catalog }),
            spares: Mutex::new(VecDeque::new()),
            born: Mutex::new(Vec::new()),
            temporary: AtomicU64::new(0),
            names_unsynced: AtomicBool::new(false),
        }
    }

    /// Bytes that records of one segment can take together.
    pub(crate) fn room(&self) -> usize {
        narrow(self.segment_bytes).saturating_sub(self.data_start.load(Ordering::Relaxed))
    }

    /// Adds one spare. `durable`: its name and header are on the disk when this returns (the keeper's way; a recorder
    /// leaves that to the keeper).
    pub(crate) fn make(&self, durable: bool) -> io::Result<()> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.segments.join(format!("{number}.new"));
        self.make_at(&temporary, None, durable)
    }

    fn make_at(&self, temporary: &Path, id: Option<u64>, durable: bool) -> io::Result<()> {
        let result = self.make_as(temporary, id, durable);
        if result.is_err() {
            // Frees what was allocated so far; where even that fails, the next open removes it.
            let _ = disk::remove(temporary);
        }
        result
    }

    /// `id`: in place of the file that has it; `None`: the next one.
    fn make_as(&self, temporary: &Path, id: Option<u64>, durable: bool) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(temporary)?;
        (self.allocate)(&file, self.segment_bytes)?;
        let map = Arc::new(WritableMap::new(&file, narrow(self.segment_bytes), segment::WORDS_END)?);
        fault_in(&map);
        let mut birth = hold(&self.birth);
        let number = id.unwrap_or(birth.next_id);
        let (path, next) = (segment::path_of(&self.segments, number), birth.next_id.max(number + 1));
        Header::write(&file, birth.made(number, self.segment_bytes), &birth.catalog)?;
        disk::rename(temporary, &path)?;
        birth.next_id = next;
        self.names_unsynced.store(true, Ordering::Release);
        let header_end = segment::data_start(birth.catalog.len());
        self.queue(number, path.clone(), file, Arc::clone(&map), header_end);
        drop(birth);
        if durable {
            // Only the header: the rest is dirty from being faulted in, and all zero.
            disk::sync_map(&map, &path, 0, header_end)?;
            self.sync_names()?;
        }
        Ok(())
    }

    fn queue(&self, id: u64, path: PathBuf, file: File, map: Arc<WritableMap>, data_start: usize) {
        let segment = Arc::new(Segment {
            id,
            path,
            map,
            file,
            data_start: AtomicUsize::new(data_start),
            position: AtomicU64::new(wide(data_start)),
            started: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
        });
        hold(&self.born).push(Arc::clone(&segment));
        hold(&self.spares).push_back(segment);
    }

    /// Takes over a spare that an earlier writer left.
    pub(crate) fn adopt(&self, id: u64) -> Result<(), Error> {
        let path = segment::path_of(&self.segments, id);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
        let map =
            WritableMap::new(&file, narrow(self.segment_bytes), segment::WORDS_END).map_err(Error::io("map", &path))?;
        fault_in(&map);
        let birth = hold(&self.birth);
        self.clear_header(&file, id, &path)?;
        Header::write(&file, birth.made(id, self.segment_bytes), &birth.catalog).map_err(Error::io("write", &path))?;
        self.queue(id, path, file, Arc::new(map), segment::data_start(birth.catalog.len()));
        Ok(())
    }

    /// Replaces a spare that this writer cannot use by one that it can, under the same id: an id below others that has no
    /// file is a segment that was deleted, and to a sink that had not read it one that it missed.
    pub(crate) fn replace(&self, id: u64) -> Result<(), Error> {
        let path = segment::path_of(&self.segments, id);
        let temporary = path.with_extension("new");
        match self.make_at(&temporary, Some(id), true) {
            // It can stay as it is: nothing is in it, and the next open tries again.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(%error, path = %path.display(), "an unusable spare is kept, because the disk is full");
                Ok(())
            }
            result => result.map_err(Error::io("replace", &path)),
        }
    }

    /// A longer catalog than ours would leave bytes where records will stand: its writer was killed before it had
    /// stored the catalog itself.
    fn clear_header(&self, file: &File, id: u64, path: &Path) -> Result<(), Error> {
        let Some(mut view) = View::open(&self.segments, id)? else { return Ok(()) };
        if let Ok(header) = view.header() {
            let zeros = vec![0; header.data_start.saturating_sub(segment::WORDS_END)];
            file.write_all_at(&zeros, wide(segment::WORDS_END)).map_err(Error::io("write", path))?;
        }
        Ok(())
    }

    pub(crate) fn spares(&self) -> usize {
        hold(&self.spares).len()
    }

    /// A ready segment, without waiting and without a system call.
    pub(crate) fn take(&self) -> Option<Arc<Segment>> {
        // The lock is held for a push, a pop or rewriting the spares' headers. Whoever finds it taken does without.
        for _ in 0..16 {
            if let Ok(mut spares) = self.spares.try_lock() {
                return spares.pop_front();
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Makes a segment on the spot, because [`Self::take`] had none.
    pub(crate) fn make_and_take(&self) -> io::Result<Arc<Segment>> {
        loop {
            self.make(false)?;
            // Somebody else may have taken it meanwhile; whoever did so made progress.
            if let Some(spare) = hold(&self.spares).pop_front() {
                return Ok(spare);
            }
        }
    }

    /// From now on segments carry this catalog, the spares included.
    pub(crate) fn set_catalog(&self, catalog: Vec<u8>) -> Result<(), Error> {
        let data_start = segment::data_start(catalog.len());
        if data_start.saturating_mul(2) > narrow(self.segment_bytes) {
            let why =
                format!("the catalog would fill half of a segment ({} bytes); make segments larger", catalog.len());
            return Err(Error::Option { name: "segment_bytes", why });
        }
        let mut birth = hold(&self.birth);
        birth.catalog = catalog;
        self.data_start.store(data_start, Ordering::Release);
        for spare in hold(&self.spares).iter() {
            Header::write(&spare.file, birth.made(spare.id, self.segment_bytes), &birth.catalog)
                .map_err(Error::io("write", &spare.path))?;
            spare.data_start.store(data_start, Ordering::Release);
        }
        Ok(())
    }

    /// Those in use or ready, for the keeper.
    pub(crate) fn born(&self) -> Vec<Arc<Segment>> {
        hold(&self.born).clone()
    }

    pub(crate) fn born_len(&self) -> usize {
        hold(&self.born).len()
    }

    /// Forgets a sealed one; its mapping ends with the last reference.
    pub(crate) fn forget(&self, id: u64) {
        hold(&self.born).retain(|segment| segment.id != id);
    }

    pub(crate) fn sync_names(&self) -> io::Result<()> {
        if self.names_unsynced.swap(false, Ordering::AcqRel) {
            disk::sync_dir(&self.segments).inspect_err(|_| self.names_unsynced.store(true, Ordering::Release))?;
        }
        Ok(())
    }
}

/// So that no store of a recorder has to fault. Kernels before 5.14 cannot: then the first stores fault.
fn fault_in(map: &WritableMap) {
    if let Err(error) = map.populate(0, map.len()) {
        tracing::debug!(%error, "segments cannot be faulted in ahead on this kernel");
    }
}

/// Ends the spares of an earlier run that cannot be used, and files that never got a name.
pub(crate) fn remove_leftovers(segments: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(segments).map_err(Error::io("list", segments))? {
        let path = entry.map_err(Error::io("list", segments))?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            disk::remove(&path).map_err(Error::io("remove", &path))?;
        }
    }
    catalog::sync_parent(&segments.join("any"))
}
