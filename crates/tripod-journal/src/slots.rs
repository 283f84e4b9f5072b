//! The file in which a sink's cursor and state are committed together.
//!
//! # Constraints
//! - A commit is one `pwrite`, into the slot that does not hold the newest commit; a torn one leaves the other.
//! - Any process can read it at any time without a lock. No fsync here: the keeper does that where asked to.
//!
//! # Picture
//! ```text
//!  0 slot A │ generation 6 │ lengths │ crc │ cursor │ state      128 KiB slot B │ generation 7 │ ...
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::layout::{Fields, narrow, wide};
use crate::{Cursor, Error, disk, pool};

/// Largest state a sink can store with its cursor.
pub const STATE_BYTES_MAX: usize = 96 * 1024;
const SLOT_BYTES: usize = 128 * 1024;
const HEAD_BYTES: usize = 8 + 8 + 4 + 4 + 4;
const MAGIC: u64 = u64::from_le_bytes(*b"TRIPODS1");
/// A reader meets a slot that is being written only if the writer commits twice while it reads.
const TRIES_MAX: usize = 100;

/// One commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    /// 1 for the first; 0 where nothing was committed yet.
    pub(crate) generation: u64,
    pub(crate) cursor: Cursor,
    pub(crate) state: Vec<u8>,
}

/// Names become file names.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        let why = format!("{name:?} is not 1 to 64 of a-z, A-Z, 0-9, '_' and '-'");
        return Err(Error::Option { name: "sink name", why });
    }
    Ok(())
}

/// Where the cursor of sink `name` is.
pub(crate) fn path_in(dir: &Path, name: &str) -> PathBuf {
    dir.join("sinks").join(format!("{name}.cursor"))
}

/// The names of the sinks that have a cursor file.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let folder = dir.join("sinks");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing { path: dir.to_owned() });
        }
        Err(error) => return Err(Error::io("list", &folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        if path.extension().is_some_and(|extension| extension == "cursor") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.retain(|name| check_name(name).is_ok());
    names.sort();
    Ok(names)
}

/// The newest commit of a sink, read from any process; `None` if this sink never opened its cursor.
pub(crate) fn read(dir: &Path, name: &str) -> Result<Option<Commit>, Error> {
    check_name(name)?;
    let path = path_in(dir, name);
    match File::open(&path) {
        Ok(file) => read_newest(&file, &path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", &path)(error)),
    }
}

fn read_newest(file: &File, path: &Path) -> Result<Commit, Error> {
    for _ in 0..TRIES_MAX {
        let mut empty = true;
        let mut newest: Option<Commit> = None;
        for slot in 0..2 {
            match read_slot(file, slot).map_err(Error::io("read", path))? {
                Slot::Empty => {}
                Slot::Broken => empty = false,
                Slot::Whole(commit) => {
                    empty = false;
                    if newest.as_ref().is_none_or(|other| other.generation < commit.generation) {
                        newest = Some(commit);
                    }
                }
            }
        }
        match newest {
            Some(commit) => return Ok(commit),
            None if empty => return Ok(Commit::default()),
            None => std::thread::yield_now(),
        }
    }
    Err(Error::damaged(path, 0, "neither of the two commits is whole; without this file the sink starts over"))
}

enum Slot {
    Empty,
    Broken,
    Whole(Commit),
}

fn read_slot(file: &File, slot: usize) -> io::Result<Slot> {
    let start = wide(slot * SLOT_BYTES);
    let mut head = [0; HEAD_BYTES];
    match file.read_exact_at(&mut head, start) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Slot::Empty),
        Err(error) => return Err(error),
    }
    if head == [0; HEAD_BYTES] {
        return Ok(Slot::Empty);
    }
    let parse = || -> Option<(u64, usize, usize, u32)> {
        let mut fields = Fields(&head);
        let magic = fields.u64()?;
        let numbers = (fields.u64()?, narrow(fields.u32()?.into()), narrow(fields.u32()?.into()), fields.u32()?);
        (magic == MAGIC && numbers.1 <= SLOT_BYTES && numbers.2 <= STATE_BYTES_MAX).then_some(numbers)
    };
    let Some((generation, cursor_len, state_len, crc)) = parse() else { return Ok(Slot::Broken) };
    let mut body = vec![0; cursor_len + state_len];
    match file.read_exact_at(&mut body, start + wide(HEAD_BYTES)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Slot::Broken),
        Err(error) => return Err(error),
    }
    if crc32c::crc32c_append(crc32c::crc32c(&head[..HEAD_BYTES - 4]), &body) != crc {
        return Ok(Slot::Broken);
    }
    let state = body.split_off(cursor_len);
    Ok(Cursor::from_bytes(&body).map_or(Slot::Broken, |cursor| Slot::Whole(Commit { generation, cursor, state })))
}

/// The sink's own handle on its file.
#[derive(Debug)]
pub(crate) struct SlotsFile {
    file: File,
    path: PathBuf,
    /// The bytes of the last commit, kept so that committing does not allocate each time.
    buffer: Vec<u8>,
}

impl SlotsFile {
    /// Opens the file, or makes it; under the sink's lock.
    pub(crate) fn open(dir: &Path, name: &str) -> Result<(Self, Commit), Error> {
        let path = path_in(dir, name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        // Allocated ahead, so that a commit does not fail on a full disk.
        pool::allocate(&file, wide(2 * SLOT_BYTES)).map_err(Error::io("allocate", &path))?;
        let commit = read_newest(&file, &path)?;
        // Its name; what it says is synced by the keeper, in the checkpoint.
        crate::catalog::sync_parent(&path)?;
        Ok((Self { file, path, buffer: Vec::new() }, commit))
    }

    /// Puts a file that a power loss left unreadable, or past the records, to `commit`, durably. Under the writer lock,
    /// with no sink open.
    pub(crate) fn restore(dir: &Path, name: &str, commit: &Commit) -> Result<(), Error> {
        let path = path_in(dir, name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        pool::allocate(&file, wide(2 * SLOT_BYTES)).map_err(Error::io("allocate", &path))?;
        let mut slots = Self { file, path, buffer: Vec::new() };
        if *commit != Commit::default() {
            slots.write(commit.generation, &commit.cursor, &commit.state)?;
        }
        disk::sync_file(&slots.file, &slots.path).map_err(Error::io("sync", &slots.path))?;
        crate::catalog::sync_parent(&slots.path)
    }

    /// Stores cursor and state as commit `generation`.
    pub(crate) fn write(&mut self, generation: u64, cursor: &Cursor, state: &[u8]) -> Result<(), Error> {
        let cursor = cursor.to_bytes();
        let too_large = || Error::Option {
            name: "sink state",
            why: format!("{} bytes of cursor and {} of state do not fit a commit", cursor.len(), state.len()),
        };
        if state.len() > STATE_BYTES_MAX || HEAD_BYTES + cursor.len() + state.len() > SLOT_BYTES {
            return Err(too_large());
        }
        let cursor_len = u32::try_from(cursor.len()).map_err(|_| too_large())?;
        let state_len = u32::try_from(state.len()).map_err(|_| too_large())?;
        self.buffer.clear();
        self.buffer.extend_from_slice(&MAGIC.to_le_bytes());
        self.buffer.extend_from_slice(&generation.to_le_bytes());
        self.buffer.extend_from_slice(&cursor_len.to_le_bytes());
        self.buffer.extend_from_slice(&state_len.to_le_bytes());
        let crc = crc32c::crc32c(&self.buffer);
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &cursor), state);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.buffer.extend_from_slice(&cursor);
        self.buffer.extend_from_slice(state);
        let slot = narrow(generation % 2);
        self.file.write_all_at(&self.buffer, wide(slot * SLOT_BYTES)).map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(generation: u64) -> (Cursor, Vec<u8>) {
        let mut cursor = Cursor::default();
        cursor.finish(generation);
        (cursor, format!("state {generation}").into_bytes())
    }

    #[test]
    fn a_torn_commit_at_any_byte_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sinks")).unwrap();
        let (mut slots, first) = SlotsFile::open(dir.path(), "s").unwrap();
        assert_eq!(first, Commit::default());
        for generation in 1..=3 {
            let (cursor, state) = commit(generation);
            slots.write(generation, &cursor, &state).unwrap();
        }
        let whole = std::fs::read(path_in(dir.path(), "s")).unwrap();
        assert_eq!(read(dir.path(), "s").unwrap().unwrap().generation, 3);
        // Generation 3 stands in slot 1; flip each of its bytes in turn.
        let len = slots.buffer.len();
        for (at, byte) in whole.iter().enumerate().skip(SLOT_BYTES).take(len) {
            slots.file.write_all_at(&[byte ^ 0x40], wide(at)).unwrap();
            let found = read(dir.path(), "s").unwrap().unwrap();
            assert_eq!((found.generation, found.state), (2, b"state 2".to_vec()), "byte {at}");
            slots.file.write_all_at(&[*byte], wide(at)).unwrap();
        }
        assert_eq!(read(dir.path(), "s").unwrap().unwrap().generation, 3);
    }

    #[test]
    fn both_commits_broken_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sinks")).unwrap();
        let (mut slots, _) = SlotsFile::open(dir.path(), "s").unwrap();
        for generation in 1..=2 {
            let (cursor, state) = commit(generation);
            slots.write(generation, &cursor, &state).unwrap();
        }
        slots.file.write_all_at(&[0xff], 30).unwrap();
        slots.file.write_all_at(&[0xff], wide(SLOT_BYTES) + 30).unwrap();
        assert!(read(dir.path(), "s").unwrap_err().to_string().contains("s.cursor"));
    }
}
