//! The Parquet archive: a directory of days, each proven before it counts.
//!
//! Constraints: killed at any moment, a day is there whole or not at all: it is written aside, synced, read back,
//! compared with the server, and only then moved to its place in one step. What is in place is never written to. One
//! process at a time (a lock that dies with it). Any engine that reads Parquet reads the directory as it is.
//!
//! Picture:
//! ```text
//! ARCHIVE/table=executions/day=2026-11-20/part-0.parquet   zstd; the columns as they were on the server
//!                                         manifest.json    rows, checksum of the values, SHA-256 of the file
//! ARCHIVE/.aside/…                                         what is being written; emptied by the next run
//! ARCHIVE/retention.json                                   what the last run found (`tripod::tape::retention`)
//! ```

mod parquet;
mod publish;
pub(crate) mod run;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::retention::{Checksum, Day, ExactColumn, read_day};
use tripod::{Error, Result, Timestamp};

const PART: &str = "part-0.parquet";
const MANIFEST: &str = "manifest.json";
const ASIDE: &str = ".aside";

/// What is known of an archived day. Fields may be added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) table: String,
    pub(crate) day: Day,
    pub(crate) rows: u64,
    /// Sum over the rows' values; see `tripod::tape::retention::Checksum`.
    pub(crate) checksum: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// When file and server were found equal.
    pub(crate) verified_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// As QuestDB writes it.
    pub(crate) r#type: String,
}

/// A day of a table on a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) http: &'a QuestDbHttp,
    pub(crate) table: &'a str,
    pub(crate) designated: &'a str,
    pub(crate) columns: &'a [ExactColumn],
    pub(crate) day: Day,
}

impl Source<'_> {
    /// Count and checksum of what the server answers now.
    pub(crate) fn sum(&self) -> Result<Checksum> {
        let mut sum = Checksum::default();
        self.read(&mut |row| {
            sum.add(row);
            Ok(())
        })?;
        Ok(sum)
    }

    fn read(&self, take: &mut dyn FnMut(&[tripod::tape::retention::Cell]) -> Result<()>) -> Result<()> {
        read_day(self.http, self.table, self.designated, self.columns, self.day, take)
    }
}

/// The archive, held by this process.
#[derive(Debug)]
pub(crate) struct Archive {
    dir: PathBuf,
    _lock: File,
}

impl Archive {
    /// Makes the directory where there is none, takes its lock, and clears what a killed run left aside.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| failed("create", dir, e))?;
        let path = dir.join(".lock");
        let lock = File::create(&path).map_err(|e| failed("open", &path, e))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            conflict(format!("the archive {}", dir.display()), "is being written by another tripod; wait for it")
        })?;
        let aside = dir.join(ASIDE);
        match std::fs::remove_dir_all(&aside) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("clear", &aside, e)),
            _ => {}
        }
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the day, proves it, and puts it into its place, also where an older copy is. When this returns Ok, the file
    /// is on the disk, was read back, and holds value by value what the server answered a second time.
    pub(crate) fn export(&self, source: &Source<'_>) -> Result<Manifest> {
        let aside = self.dir.join(ASIDE).join(format!("{}-{}", source.table, source.day));
        std::fs::create_dir_all(&aside).map_err(|e| failed("create", &aside, e))?;
        let path = aside.join(PART);
        let mut written = Checksum::default();
        let mut writer = parquet::Writer::create(&path, source.columns)?;
        source.read(&mut |row| {
            written.add(row);
            writer.add(row)
        })?;
        writer.finish()?;
        let in_file = parquet::sum(&path, source.columns)?;
        let on_server = source.sum()?;
        if in_file != on_server || written != on_server {
            return Err(conflict(
                format!("{} of {}", source.table, source.day),
                format!(
                    "has {} rows in the file and {} on the server, and they are not equal; rows of that day may just \
                     have arrived, so run it again",
                    in_file.rows, on_server.rows
                ),
            ));
        }
        let (bytes, sha256) = sha256(&path)?;
        let column = |column: &ExactColumn| Column { name: column.name.clone(), r#type: column.type_name.clone() };
        let manifest = Manifest {
            table: source.table.to_owned(),
            day: source.day,
            rows: in_file.rows,
            checksum: in_file.hex(),
            columns: source.columns.iter().map(column).collect(),
            file: PART.to_owned(),
            bytes,
            sha256,
            verified_at: Timestamp::now().to_string(),
        };
        publish::write_synced(&aside.join(MANIFEST), &manifest)?;
        publish::put(&aside, &day_dir(&self.dir, source.table, source.day))?;
        Ok(manifest)
    }
}

/// Where a day of a table stands.
pub(crate) fn day_dir(archive: &Path, table: &str, day: Day) -> PathBuf {
    archive.join(format!("table={table}")).join(format!("day={day}"))
}

/// What is known of a day; none where it is not archived.
pub(crate) fn manifest(archive: &Path, table: &str, day: Day) -> Result<Option<Manifest>> {
    let path = day_dir(archive, table, day).join(MANIFEST);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| invalid(path.display().to_string(), format!("is not a manifest: {e}"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", &path, e)),
    }
}

/// What is wrong with an archived day's file, down to the bit.
pub(crate) fn damage(archive: &Path, manifest: &Manifest) -> Option<String> {
    let path = day_dir(archive, &manifest.table, manifest.day).join(PART);
    match sha256(&path) {
        Ok((bytes, _)) if bytes != manifest.bytes => {
            Some(format!("{} has {bytes} bytes, not {}", path.display(), manifest.bytes))
        }
        Ok((_, sum)) if sum != manifest.sha256 => Some(format!("{} is not what was written (SHA-256)", path.display())),
        Ok(_) => None,
        Err(e) => Some(e.to_string()),
    }
}

fn sha256(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(|e| failed("open", path, e))?;
    let (mut hasher, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(|e| failed("read", path, e))?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        hasher.update(part);
        bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, hex))
}

fn failed(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { what, path: path.to_owned(), source }
}

fn conflict(what: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Conflict { what: what.into(), why: why.into() }
}

fn invalid(what: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Invalid { what: what.into(), why: why.into() }
}
