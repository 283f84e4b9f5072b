//! Files into a backup and out of it: compressed one by one, each with its SHA-256.
//!
//! Constraints: a source may grow or go away while it is copied; what was in it at the start is copied, and one that went
//! away is counted. What comes out is compared with its sum before anybody uses it. Memory is bounded: a buffer a thread.
//! Nothing here is forced to disk file by file: who publishes syncs once, for all.
//!
//! Picture: `source ─▶ zstd ─▶ SHA-256 ─▶ BACKUP/part/path.zst`, on as many threads as there are cores, up to four.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::Shown;
use super::manifest::FileEntry;
use super::store::make_dirs;
use crate::exit::Stop;

/// What zstd's own program takes where nobody says: a quarter of the size at some hundred MiB a second.
const LEVEL: i32 = 3;
/// More would only wait for the disk.
const THREADS_MAX: usize = 4;
const BUFFER_BYTES: usize = 1 << 20;
const COMPRESSED: &str = "zst";

/// A file to take, and where it belongs in the backup.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) from: PathBuf,
    pub(super) to: String,
}

/// Files and directories below a directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<Source>,
    pub(super) dirs: Vec<String>,
}

/// What was packed.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) files: Vec<FileEntry>,
    pub(super) vanished: u64,
}

impl Found {
    /// Adds everything below `dir`, under `to`. What goes away meanwhile is passed over; what is neither a file nor a
    /// directory is an error.
    pub(super) fn add(&mut self, dir: &Path, to: &str) -> anyhow::Result<()> {
        self.dirs.push(to.to_owned());
        let entries = match std::fs::read_dir(dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.with_context(|| format!("cannot list {}", dir.display()))?,
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
            let path = entry.path();
            let name = entry.file_name().into_string().ok();
            let name = name.with_context(|| format!("{} has a name that is not UTF-8", path.display()))?;
            let kind = match entry.file_type() {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                other => other.with_context(|| format!("cannot look at {}", path.display()))?,
            };
            if kind.is_dir() {
                self.add(&path, &format!("{to}/{name}"))?;
            } else if kind.is_file() {
                self.files.push(Source { from: path, to: format!("{to}/{name}") });
            } else {
                let what = format!("{} is neither a file nor a directory", path.display());
                return Err(
                    Stop::untrue(what, "links and tablespaces are in no backup; put the data itself there").into()
                );
            }
        }
        Ok(())
    }
}

/// Compresses every source into the backup in `dir`.
pub(super) fn pack(found: &Found, dir: &Path, shown: Shown<'_>) -> anyhow::Result<Packed> {
    for below in &found.dirs {
        make_dirs(&dir.join(below))?;
    }
    let (entries, vanished) = (Mutex::new(Vec::new()), AtomicU64::new(0));
    each(&found.files, |source| {
        match pack_one(source, dir, shown)? {
            Some(entry) => entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry),
            None => drop(vanished.fetch_add(1, Ordering::Relaxed)),
        }
        Ok(())
    })?;
    let mut files = entries.into_inner().unwrap_or_else(PoisonError::into_inner);
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(Packed { files, vanished: vanished.into_inner() })
}

fn pack_one(source: &Source, dir: &Path, shown: Shown<'_>) -> anyhow::Result<Option<FileEntry>> {
    let from = &source.from;
    let file = match File::open(from) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot open {}", from.display()))?,
    };
    let to = stored_at(dir, &source.to);
    let made = (|| -> io::Result<(u64, u64, String)> {
        let mut out = Summed::new(create(&to)?);
        let mut encoder = zstd::stream::write::Encoder::new(&mut out, LEVEL)?;
        encoder.include_checksum(true)?;
        // What grows on is not followed: it would be of a later moment.
        let mut rest = file.metadata()?.len();
        let (mut buffer, mut bytes) = (vec![0; BUFFER_BYTES], 0_u64);
        let mut file = file;
        while rest > 0 {
            let wanted = usize::try_from(rest).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let read = match file.read(buffer.get_mut(..wanted).unwrap_or_default()) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            if read == 0 {
                break;
            }
            encoder.write_all(buffer.get(..read).unwrap_or_default())?;
            let read = u64::try_from(read).unwrap_or(u64::MAX);
            (rest, bytes) = (rest - read, bytes + read);
            shown.add(read);
        }
        encoder.finish()?;
        Ok((bytes, out.bytes, out.hex()))
    })();
    let (bytes, stored, sha256) =
        made.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(Some(FileEntry { path: source.to.clone(), bytes, stored, sha256 }))
}

/// Brings files of the backup in `dir` out: each to what `place` says. Directories are made before.
///
/// What is not as the manifest says is an error that names the file.
pub(super) fn unpack(
    files: &[&FileEntry],
    dir: &Path,
    place: impl Fn(&str) -> PathBuf + Sync,
    shown: Shown<'_>,
) -> anyhow::Result<()> {
    each(files, |entry| {
        let (from, to) = (stored_at(dir, &entry.path), place(&entry.path));
        let brought = (|| -> io::Result<Option<&'static str>> {
            let mut stored = Summed::new(File::open(&from)?);
            let mut out = create(&to)?;
            let bytes = io::copy(&mut zstd::stream::read::Decoder::new(&mut stored)?.single_frame(), &mut out)?;
            // What stands behind the frame belongs to the sum.
            io::copy(&mut stored, &mut io::sink())?;
            Ok(wrong(entry, stored.bytes, &stored.hex()).or((bytes != entry.bytes).then_some("has another length")))
        })();
        match brought {
            Ok(None) => {
                shown.add(entry.bytes);
                Ok(())
            }
            Ok(Some(what)) => Err(damaged(&from, what)),
            // A flipped bit may be met by the decompression first.
            Err(e) => match trouble(&from, entry) {
                Some(what) => Err(damaged(&from, &what)),
                None => Err(e).with_context(|| format!("cannot bring {} to {}", from.display(), to.display())),
            },
        }
    })
}

/// What is wrong with the files of the backup in `dir`, each compared with its sum.
pub(super) fn check(files: &[FileEntry], dir: &Path, shown: Shown<'_>) -> anyhow::Result<Vec<String>> {
    let problems = Mutex::new(Vec::new());
    each(files, |entry| {
        if let Some(what) = trouble(&stored_at(dir, &entry.path), entry) {
            problems.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{} {what}", entry.path));
        }
        shown.add(entry.stored);
        Ok(())
    })?;
    let mut problems = problems.into_inner().unwrap_or_else(PoisonError::into_inner);
    problems.sort_unstable();
    Ok(problems)
}

fn trouble(path: &Path, entry: &FileEntry) -> Option<String> {
    let read = || -> io::Result<(u64, String)> {
        let mut stored = Summed::new(File::open(path)?);
        io::copy(&mut stored, &mut io::sink())?;
        Ok((stored.bytes, stored.hex()))
    };
    match read() {
        Ok((bytes, sum)) => wrong(entry, bytes, &sum).map(str::to_owned),
        Err(e) if e.kind() == ErrorKind::NotFound => Some("is missing".to_owned()),
        Err(e) => Some(format!("cannot be read: {e}")),
    }
}

fn wrong(entry: &FileEntry, stored: u64, sum: &str) -> Option<&'static str> {
    if stored != entry.stored {
        Some("has another length")
    } else if sum != entry.sha256 {
        Some("is not what was written (SHA-256)")
    } else {
        None
    }
}

fn damaged(path: &Path, what: &str) -> anyhow::Error {
    let hint = "take another backup (`tripod backup ls`), and look at the disk that this one is on";
    Stop::untrue(format!("{} {what}", path.display()), hint).into()
}

fn stored_at(dir: &Path, path: &str) -> PathBuf {
    dir.join(format!("{path}.{COMPRESSED}"))
}

/// Does `work` for each, on several threads; gives the first error, after which no new one is begun.
fn each<T: Sync>(all: &[T], work: impl Fn(&T) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(all.len());
    let (next, stop, failed) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                    if let Err(error) = work(one) {
                        stop.store(true, Ordering::Relaxed);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Makes a second name for the data of each source below `dir`, where the disk can (XFS, Btrfs): it takes no time and no
/// room, and the source may change afterwards. False, with nothing made, where the disk cannot.
pub(super) fn clone_all(found: &Found, dir: &Path) -> anyhow::Result<Option<Found>> {
    let mut cloned = Found { files: Vec::new(), dirs: found.dirs.clone() };
    for source in &found.files {
        let from = match File::open(&source.from) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("cannot open {}", source.from.display()))?,
        };
        let path = dir.join(&source.to);
        if let Some(parent) = path.parent() {
            make_dirs(parent)?;
        }
        let to = create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if let Err(e) = rustix::fs::ioctl_ficlone(&to, &from) {
            if cloned.files.is_empty() {
                super::store::remove_dir(dir)?;
                return Ok(None);
            }
            return Err(e).with_context(|| format!("cannot clone {}", source.from.display()));
        }
        cloned.files.push(Source { from: path, to: source.to.clone() });
    }
    Ok(Some(cloned))
}

/// Counts and sums what passes.
struct Summed<T> {
    inner: T,
    sum: Sha256,
    bytes: u64,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self { inner, sum: Sha256::new(), bytes: 0 }
    }

    fn pass(&mut self, part: &[u8]) {
        self.sum.update(part);
        self.bytes += u64::try_from(part.len()).unwrap_or(u64::MAX);
    }

    fn hex(self) -> String {
        hex(&self.sum.finalize())
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.pass(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(part)?;
        self.pass(part.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// For its owner alone.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Writes a file and forces it to disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = create(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Forces the names in a directory to disk.
pub(super) fn sync_dir(dir: &Path) -> anyhow::Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("cannot write {} to disk", dir.display()))
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressBar;

    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_any_flipped_bit_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (from, backup, to) = (dir.path().join("from"), dir.path().join("backup"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("a/empty")).unwrap();
        std::fs::write(from.join("a/one"), vec![7; 3 << 20]).unwrap();
        std::fs::write(from.join("none"), "").unwrap();
        let bar = ProgressBar::hidden();
        let shown = Shown::new(&bar);
        let mut found = Found::default();
        found.add(&from, "questdb").unwrap();
        found.files.push(Source { from: from.join("gone"), to: "questdb/gone".into() });
        let packed = pack(&found, &backup, shown).unwrap();
        assert_eq!((packed.files.len(), packed.vanished, found.dirs.len()), (2, 1, 3));
        assert!(packed.files[0].stored < packed.files[0].bytes);
        assert_eq!(check(&packed.files, &backup, shown).unwrap(), Vec::<String>::new());

        std::fs::create_dir_all(to.join("questdb/a")).unwrap();
        let entries: Vec<_> = packed.files.iter().collect();
        unpack(&entries, &backup, |path| to.join(path), shown).unwrap();
        assert_eq!(std::fs::read(to.join("questdb/a/one")).unwrap(), vec![7; 3 << 20]);
        assert_eq!(std::fs::read(to.join("questdb/none")).unwrap(), Vec::<u8>::new());

        let stored = backup.join("questdb/a/one.zst");
        let whole = std::fs::read(&stored).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            std::fs::write(&stored, &bytes).unwrap();
            assert_eq!(check(&packed.files, &backup, shown).unwrap().len(), 1, "byte {place}");
            let error = unpack(&entries, &backup, |path| to.join(path), shown).unwrap_err();
            assert!(error.to_string().contains("SHA-256"), "byte {place}: {error:#}");
        }
        std::fs::write(&stored, [&whole[..], b"x"].concat()).unwrap();
        assert!(unpack(&entries, &backup, |path| to.join(path), shown).is_err());
        std::fs::remove_file(&stored).unwrap();
        assert_eq!(check(&packed.files, &backup, shown).unwrap(), ["questdb/a/one is missing"]);
    }

    #[test]
    fn a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        assert!(Found::default().add(dir.path(), "x").is_err());
    }
}
