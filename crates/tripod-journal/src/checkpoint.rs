//! What is known to be on the disk together: the counts of each lane and every sink's commit, none of them past a record
//! that a power loss could take.
//!
//! # Constraints
//! - It is written only after everything that it speaks of was synced: counts and commits are read first, then the
//!   segments are synced, then it is stored and synced itself.
//! - Two files, written in turn, each with a checksum: one torn by a power loss leaves the one before.
//! - A segment is deleted only when the checkpoint knows that it was passed and counts its records.
//!
//! # Operation
//! The counts and cursor files themselves are written back by the kernel whenever it likes, so after a power loss they
//! may be older or *newer* than the records. The first open in another boot of the machine starts from the checkpoint
//! instead: counts from its counts and the records behind them; a cursor that lies past what is left from its copy.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::catalog::SCHEMAS_MAX;
use crate::counts::{CountsSnapshot, Table, empty_table};
use crate::layout::{Fields, narrow, wide};
use crate::options::LANES_MAX;
use crate::slots::{self, Commit};
use crate::{Cursor, Error, disk, pool};

const MAGIC: u64 = u64::from_le_bytes(*b"TRIPODK1");
const HEAD_BYTES: usize = 8 + 8 + 8 + 4;
/// Allocated ahead, so that a full disk does not keep the keeper from noting what may be deleted.
const ALLOCATED_BYTES: u64 = 256 * 1024;
/// More than every lane, schema and a hundred sinks could need: a longer length is not ours.
const BODY_BYTES_MAX: usize = 64 << 20;

/// One lane's counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneCounts {
    pub(crate) lane: usize,
    pub(crate) recorded: Table,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The boot of the machine in which it was written.
    pub(crate) boot: u64,
    /// Per schema that has any.
    pub(crate) dropped: Vec<(u16, u64)>,
    /// Lanes that ever had a record.
    pub(crate) lanes: Vec<LaneCounts>,
    /// By name.
    pub(crate) sinks: Vec<(String, Commit)>,
}

impl Checkpoint {
    /// What stands in the counts and the cursor files now; to be stored once all of it has been synced.
    pub(crate) fn take(dir: &Path, boot: u64, counts: &CountsSnapshot) -> Result<Self, Error> {
        let mut checkpoint = Self { boot, ..Self::default() };
        for (lane, recorded) in counts.lanes.iter().enumerate() {
            if let Some(recorded) = recorded {
                checkpoint.lanes.push(LaneCounts { lane, recorded: recorded.clone() });
            }
        }
        checkpoint.dropped = (0..).zip(counts.dropped.iter().copied()).filter(|(_, count)| *count > 0).collect();
        for name in slots::names(dir)? {
            match slots::read(dir, &name) {
                Ok(Some(commit)) => checkpoint.sinks.push((name, commit)),
                Ok(None) => {}
                // Its own open names the file; a checkpoint without it holds its segments back.
                Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(checkpoint)
    }

    pub(crate) fn commit_of(&self, sink: &str) -> Option<&Commit> {
        self.sinks.iter().find(|(name, _)| name == sink).map(|(_, commit)| commit)
    }

    pub(crate) fn lane(&self, lane: usize) -> Option<&LaneCounts> {
        self.lanes.iter().find(|counts| counts.lane == lane)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        put(self.boot);
        put(wide(self.dropped.len()));
        for (schema, count) in &self.dropped {
            put(u64::from(*schema));
            put(*count);
        }
        put(wide(self.lanes.len()));
        for lane in &self.lanes {
            let counted = || lane.recorded.iter().enumerate().filter(|(_, count)| **count > 0);
            put(wide(lane.lane));
            put(wide(counted().count()));
            for (schema, count) in counted() {
                put(wide(schema));
                put(*count);
            }
        }
        put(wide(self.sinks.len()));
        for (name, commit) in &self.sinks {
            let cursor = commit.cursor.to_bytes();
            bytes.extend_from_slice(&commit.generation.to_le_bytes());
            for part in [name.as_bytes(), &cursor, &commit.state] {
                bytes.extend_from_slice(&wide(part.len()).to_le_bytes());
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let mut checkpoint = Self { boot: fields.u64()?, ..Self::default() };
        let table = |fields: &mut Fields<'_>| -> Option<Table> {
            let mut table = empty_table();
            for _ in 0..fields.u64()? {
                let schema = narrow(fields.u64()?);
                *table.get_mut(schema)? = fields.u64()?;
            }
            Some(table)
        };
        let dropped = table(&mut fields)?;
        checkpoint.dropped = (0..).zip(dropped.iter().copied()).filter(|(_, count)| *count > 0).collect();
        for _ in 0..fields.u64()? {
            let lane = narrow(fields.u64()?);
            if lane >= LANES_MAX {
                return None;
            }
            checkpoint.lanes.push(LaneCounts { lane, recorded: table(&mut fields)? });
        }
        for _ in 0..fields.u64()? {
            let generation = fields.u64()?;
            let mut part = || -> Option<&[u8]> {
                let len = narrow(fields.u64()?);
                fields.bytes(len)
            };
            let name = std::str::from_utf8(part()?).ok()?.to_owned();
            let (cursor, state) = (Cursor::from_bytes(part()?)?, part()?.to_vec());
            checkpoint.sinks.push((name, Commit { generation, cursor, state }));
        }
        fields.0.is_empty().then_some(checkpoint)
    }

    /// The newest whole one of the journal in `dir`; `None` before the first.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        Ok(newest(dir)?.map(|(_, checkpoint)| checkpoint))
    }
}

fn newest(dir: &Path) -> Result<Option<(u64, Checkpoint)>, Error> {
    let mut newest: Option<(u64, Checkpoint)> = None;
    for which in 0..2 {
        let path = path_in(dir, which);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        if let Some((generation, checkpoint)) = read_one(&file).map_err(Error::io("read", &path))?
            && newest.as_ref().is_none_or(|(other, _)| *other < generation)
        {
            newest = Some((generation, checkpoint));
        }
    }
    Ok(newest)
}

fn read_one(file: &File) -> io::Result<Option<(u64, Checkpoint)>> {
    let mut head = [0; HEAD_BYTES];
    let exact = |bytes: &mut [u8], at: u64| match file.read_exact_at(bytes, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    if !exact(&mut head, 0)? {
        return Ok(None);
    }
    let mut fields = Fields(&head);
    let (Some(MAGIC), Some(generation), Some(len), Some(crc)) =
        (fields.u64(), fields.u64(), fields.u64().map(narrow), fields.u32())
    else {
        return Ok(None);
    };
    if len > BODY_BYTES_MAX || wide(len) > file.metadata()?.len() {
        return Ok(None);
    }
    let mut body = vec![0; len];
    if !exact(&mut body, wide(HEAD_BYTES))? || checksum(&head, &body) != crc {
        return Ok(None);
    }
    Ok(Checkpoint::decode(&body).map(|checkpoint| (generation, checkpoint)))
}

fn checksum(head: &[u8; HEAD_BYTES], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..HEAD_BYTES - 4]), body)
}

/// Where the two files are.
pub(crate) fn path_in(dir: &Path, which: usize) -> PathBuf {
    dir.join(if which == 0 { "checkpoint.a" } else { "checkpoint.b" })
}

/// The writer's handle on both files.
#[derive(Debug)]
pub(crate) struct CheckpointFiles {
    files: [(File, PathBuf); 2],
    generation: u64,
    /// The last one stored, so that nothing is written where nothing changed.
    last: Vec<u8>,
}

impl CheckpointFiles {
    /// Opens them, or makes them; under the writer lock.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let generation = newest(dir)?.map_or(0, |(generation, _)| generation);
        let open = |which| -> Result<(File, PathBuf), Error> {
            let path = path_in(dir, which);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(Error::io("open", &path))?;
            pool::allocate(&file, ALLOCATED_BYTES).map_err(Error::io("allocate", &path))?;
            Ok((file, path))
        };
        let files = [open(0)?, open(1)?];
        disk::sync_dir(dir).map_err(Error::io("sync", dir))?;
        Ok(Self { files, generation, last: Vec::new() })
    }

    /// Stores it; on the disk when this returns.
    pub(crate) fn store(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        let body = checkpoint.encode();
        if body == self.last {
            return Ok(());
        }
        self.generation += 1;
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&MAGIC.to_le_bytes());
        head[8..16].copy_from_slice(&self.generation.to_le_bytes());
        head[16..24].copy_from_slice(&wide(body.len()).to_le_bytes());
        let crc = checksum(&head, &body);
        head[24..].copy_from_slice(&crc.to_le_bytes());
        let (file, path) = if self.generation.is_multiple_of(2) { &self.files[0] } else { &self.files[1] };
        file.write_all_at(&[&head[..], &body].concat(), 0)?;
        disk::sync_file(file, path)?;
        self.last = body;
        Ok(())
    }
}

const _: () = assert!(SCHEMAS_MAX <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(n: u64) -> Checkpoint {
        let mut recorded = empty_table();
        recorded[1] = n;
        let mut cursor = Cursor::default();
        cursor.finish(n);
        let commit = Commit { generation: n, cursor, state: vec![7; 3000] };
        Checkpoint {
            boot: 9,
            dropped: vec![(3, n)],
            lanes: vec![LaneCounts { lane: 2, recorded }],
            sinks: vec![("main".into(), commit)],
        }
    }

    #[test]
    fn a_checkpoint_torn_at_any_sector_or_byte_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = CheckpointFiles::open(dir.path()).unwrap();
        assert_eq!(Checkpoint::read(dir.path()).unwrap(), None);
        for n in 1..=4 {
            files.store(&checkpoint(n)).unwrap();
            assert_eq!(Checkpoint::read(dir.path()).unwrap(), Some(checkpoint(n)));
        }
        // The fourth stands in the first file.
        let whole = std::fs::read(path_in(dir.path(), 0)).unwrap();
        for at in (0..3_100).step_by(13) {
            let mut torn = whole.clone();
            torn[at] ^= 0x20;
            std::fs::write(path_in(dir.path(), 0), &torn).unwrap();
            assert_eq!(Checkpoint::read(dir.path()).unwrap(), Some(checkpoint(3)), "byte {at}");
        }
        std::fs::write(path_in(dir.path(), 0), &whole[..700]).unwrap();
        assert_eq!(Checkpoint::read(dir.path()).unwrap(), Some(checkpoint(3)));
    }
}
