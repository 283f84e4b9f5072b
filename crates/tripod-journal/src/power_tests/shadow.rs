//! The disk behind a journal's files: what of them a power loss leaves.
//!
//! # The model
//! - A page becomes durable by an explicit sync of its range. Whatever else was written is there after the power loss or
//!   not, page by page, or torn at a sector of 512 bytes; and the kernel may have written a page back at any time before.
//! - Names (creation, renaming, removal) are durable in the order in which they were given, as with a journalling file
//!   system (ext4, XFS): a directory's sync makes all of them durable, without one a prefix of them is. So are lengths.
//!
//! # Operation
//! Registered for one thread, in which then everything runs: recorders, keeper, sinks. `disk.rs` reports each step here.
//! The real syncs are left out. At a chosen step, or when asked, [`Shadow::image`] makes what the power loss leaves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

thread_local! {
    static SHADOW: RefCell<Option<Shadow>> = const { RefCell::new(None) };
}

/// Small and seeded: a failing run can be made again.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

#[derive(Debug, Clone)]
enum Naming {
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Files by inode, so that a renamed file keeps its durable bytes.
#[derive(Debug)]
pub(crate) struct Shadow {
    root: PathBuf,
    /// Durable bytes of each inode.
    bytes: BTreeMap<u64, Vec<u8>>,
    /// Durable names.
    names: BTreeMap<PathBuf, u64>,
    /// Names given since, in order: (directory's sync pending).
    namings: Vec<(Naming, u64)>,
    /// Removed files whose bytes a power loss may bring back; open, so that no new file gets their inode.
    removed: BTreeMap<u64, (Vec<u8>, fs::File)>,
    random: Random,
    /// Steps to go until the power fails.
    fuse: Option<u64>,
    image: Option<PathBuf>,
    /// What the test counts as acknowledged now, and what a finished sync has covered.
    pub(crate) acknowledged: u64,
    pub(crate) covered_at_begin: u64,
    pub(crate) covered: u64,
    syncs_fail: bool,
    /// Syncs that the keeper began.
    pub(crate) syncs: u64,
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn files_under(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_under(&path, into);
        } else {
            into.push(path);
        }
    }
}

impl Shadow {
    /// From now on this thread's steps below `root` are followed; what is there now is durable.
    pub(crate) fn begin(root: &Path, random: Random, image: PathBuf) {
        let mut shadow = Self {
            root: root.to_owned(),
            bytes: BTreeMap::new(),
            names: BTreeMap::new(),
            namings: Vec::new(),
            removed: BTreeMap::new(),
            random,
            fuse: None,
            image: Some(image),
            acknowledged: 0,
            covered_at_begin: 0,
            covered: 0,
            syncs_fail: false,
            syncs: 0,
        };
        let mut files = Vec::new();
        files_under(root, &mut files);
        for path in files {
            if let Some(inode) = inode(&path) {
                shadow.bytes.insert(inode, fs::read(&path).unwrap());
                shadow.names.insert(path, inode);
            }
        }
        SHADOW.with_borrow_mut(|place| *place = Some(shadow));
    }

    pub(crate) fn end() -> Option<Self> {
        SHADOW.with_borrow_mut(Option::take)
    }

    pub(crate) fn with<T>(act: impl FnOnce(&mut Self) -> T) -> T {
        SHADOW.with_borrow_mut(|place| act(place.as_mut().expect("a shadow was begun")))
    }

    pub(crate) fn light(&mut self, steps: u64) {
        self.fuse = Some(steps);
    }

    /// From now on every sync is refused, and makes nothing durable; or works again.
    pub(crate) fn fail_syncs(&mut self, fail: bool) {
        self.syncs_fail = fail;
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.image.is_none()
    }

    fn keep(&mut self, path: &Path, inode: u64) {
        let bytes = fs::read(path).unwrap_or_default();
        self.removed.insert(inode, (bytes, fs::File::open(path).unwrap()));
    }

    fn step(&mut self) {
        if let Some(fuse) = &mut self.fuse {
            *fuse = fuse.saturating_sub(1);
            if *fuse == 0 {
                self.fuse = None;
                self.fail();
            }
        }
    }

    /// Files that were created and never renamed have their names at once (in a lost prefix they would be as if never
    /// made; the journal's are all either renamed or synced by name when they matter).
    fn live(&self) -> BTreeMap<PathBuf, u64> {
        let mut files = Vec::new();
        files_under(&self.root, &mut files);
        files.into_iter().filter_map(|path| inode(&path).map(|inode| (path, inode))).collect()
    }

    /// The kernel writes some pages back by itself.
    pub(crate) fn write_back(&mut self, share: u64) {
        for (path, inode) in self.live() {
            let live = fs::read(&path).unwrap_or_default();
            let durable = self.bytes.entry(inode).or_default();
            mix(durable, &live, share, &mut self.random);
        }
    }

    /// The power fails: makes the image.
    pub(crate) fn fail(&mut self) {
        let Some(image) = self.image.take() else { return };
        let live = self.live();
        let share = [0, 5, 30, 60, 90, 100][usize::try_from(self.random.below(6)).unwrap()];
        // A prefix of what was named since.
        let mut names = self.names.clone();
        let kept = self.random.below(u64::try_from(self.namings.len()).unwrap() + 1);
        for (naming, inode) in self.namings.iter().take(usize::try_from(kept).unwrap()) {
            match naming {
                Naming::Rename(from, to) => {
                    names.remove(from);
                    names.insert(to.clone(), *inode);
                }
                Naming::Remove(path) => {
                    names.remove(path);
                }
            }
        }
        // Created, never renamed or removed: there or not.
        for (path, inode) in &live {
            let named = self.namings.iter().any(|(naming, _)| matches!(naming, Naming::Rename(_, to) if to == path));
            if !named && !names.contains_key(path) && self.random.percent(50) {
                names.insert(path.clone(), *inode);
            }
        }
        for (path, inode) in names {
            let target = image.join(path.strip_prefix(&self.root).unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            let now = live.iter().find(|(_, other)| **other == inode).map(|(path, _)| fs::read(path).unwrap());
            let now = now.or_else(|| self.removed.get(&inode).map(|(bytes, _)| bytes.clone())).unwrap_or_default();
            let mut bytes = self.bytes.get(&inode).cloned().unwrap_or_default();
            mix(&mut bytes, &now, share, &mut self.random);
            fs::write(target, bytes).unwrap();
        }
        for part in ["segments", "sinks"] {
            fs::create_dir_all(image.join(part)).unwrap();
        }
    }
}

/// Brings pages of `live` over, `share` of a hundred that differ; now and then only some sectors of one.
fn mix(durable: &mut Vec<u8>, live: &[u8], share: u64, random: &mut Random) {
    durable.resize(live.len(), 0);
    for (old, new) in durable.chunks_mut(PAGE).zip(live.chunks(PAGE)) {
        if old == new || !random.percent(share) {
            continue;
        }
        if random.percent(80) {
            old.copy_from_slice(new);
            continue;
        }
        for (old, new) in old.chunks_mut(SECTOR).zip(new.chunks(SECTOR)) {
            if random.percent(50) {
                old.copy_from_slice(new);
            }
        }
    }
}

/// `None` where this thread has no shadow for this file.
fn with_shadow<T>(path: &Path, act: impl FnOnce(&mut Shadow) -> T) -> Option<T> {
    SHADOW.with_borrow_mut(|place| place.as_mut().filter(|shadow| path.starts_with(&shadow.root)).map(act))
}

pub(crate) fn sync_range(path: &Path, offset: usize, len: usize) -> Option<io::Result<()>> {
    with_shadow(path, |shadow| {
        shadow.step();
        if shadow.syncs_fail {
            return Err(io::Error::from_raw_os_error(5));
        }
        let live = fs::read(path)?;
        let inode = inode(path).ok_or(io::ErrorKind::NotFound)?;
        let durable = shadow.bytes.entry(inode).or_default();
        durable.resize(live.len(), 0);
        let end = offset.saturating_add(len).min(live.len()).next_multiple_of(PAGE).min(live.len());
        let from = (offset & !(PAGE - 1)).min(end);
        durable[from..end].copy_from_slice(&live[from..end]);
        shadow.step();
        Ok(())
    })
}

pub(crate) fn sync_dir(path: &Path) -> Option<io::Result<()>> {
    with_shadow(path, |shadow| {
        shadow.step();
        if shadow.syncs_fail {
            return Err(io::Error::from_raw_os_error(5));
        }
        shadow.names = shadow.live();
        shadow.namings.clear();
        shadow.step();
        Ok(())
    })
}

pub(crate) fn renaming(from: &Path, to: &Path) {
    with_shadow(to, |shadow| {
        shadow.step();
        if let Some(replaced) = inode(to) {
            shadow.keep(to, replaced);
        }
        if let Some(inode) = inode(from) {
            shadow.namings.push((Naming::Rename(from.to_owned(), to.to_owned()), inode));
        }
    });
}

pub(crate) fn removing(path: &Path) {
    with_shadow(path, |shadow| {
        shadow.step();
        if let Some(inode) = inode(path) {
            shadow.keep(path, inode);
            shadow.namings.push((Naming::Remove(path.to_owned()), inode));
        }
    });
}

/// The keeper begins a sync: it covers what is acknowledged now.
pub(crate) fn sync_begins() {
    SHADOW.with_borrow_mut(|place| {
        if let Some(shadow) = place {
            shadow.covered_at_begin = shadow.acknowledged;
            shadow.syncs += 1;
        }
    });
}

/// That sync is done.
pub(crate) fn sync_ended() {
    SHADOW.with_borrow_mut(|place| {
        if let Some(shadow) = place
            && !shadow.has_failed()
        {
            shadow.covered = shadow.covered_at_begin;
        }
    });
}
