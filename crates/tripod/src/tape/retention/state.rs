//! What the last `tape retention run` found: one file in the archive's directory, for `status` and monitors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Day;
use crate::error::{Error, Result};
use crate::value::Timestamp;

const FILE_NAME: &str = "retention.json";

/// See the module. Fields may be added, never renamed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RetentionState {
    /// When it ended, RFC 3339; empty: never.
    pub last_run_at: String,
    /// The critical tables, and others with something to say.
    pub tables: Vec<TableState>,
    /// Rollup days that were equal to their rows: server, rollup, day.
    pub kept: BTreeMap<String, KeptMark>,
}

/// A table of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableState {
    /// The server, by its name in the config.
    pub server: String,
    /// The table, with its prefix.
    pub table: String,
    /// Days that it should be kept.
    pub wanted_days: u16,
    /// Days that it is kept.
    pub ttl_days: u16,
    /// Days that nothing covers yet although they ended long enough ago.
    pub uncovered: Vec<Uncovered>,
}

/// A day that would be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncovered {
    /// Which.
    pub day: Day,
    /// Why, with the way out.
    pub why: String,
}

/// A rollup's day that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMark {
    /// Rows of the base table then; another number now means that it is done again.
    pub rows: u64,
    /// The view said the same.
    pub view_agrees: bool,
}

impl TableState {
    /// The TTL is longer than wanted because of a day that nothing covers.
    #[must_use]
    pub fn held(&self) -> bool {
        self.ttl_days > self.wanted_days && !self.uncovered.is_empty()
    }
}

impl RetentionState {
    /// Reads what the last run left in the archive's directory; nothing yet is the default.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Invalid`] where it is not what a run writes.
    pub fn read(archive_dir: &Path) -> Result<Self> {
        let path = archive_dir.join(FILE_NAME);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(|e| Error::invalid(path.display().to_string(), format!("is not what a run wrote: {e}"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::File { what: "read", path, source }),
        }
    }

    /// Writes it, whole or not at all, with the time of now.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&mut self, archive_dir: &Path) -> Result<()> {
        self.last_run_at = Timestamp::now().to_string();
        let (path, aside) = (archive_dir.join(FILE_NAME), archive_dir.join(format!("{FILE_NAME}.new")));
        let failed = |source| Error::File { what: "write", path: path.clone(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|e| failed(e.into()))?;
        let mut file = File::create(&aside).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&aside, &path).and_then(|()| File::open(archive_dir)?.sync_all()).map_err(failed)
    }
}
