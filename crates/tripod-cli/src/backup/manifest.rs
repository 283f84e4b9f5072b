//! What a backup says of itself, and what a proof says of a backup.
//!
//! Constraints: written once, never changed; fields may be added, never renamed. Whatever is compared after a restore
//! stands here: counts and sums taken from the live servers, not from the files. No secret, no path of this machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tripod::Timestamp;

use super::Part;
use super::postgres::{BaseBackup, RestorePoint};

/// Raised when the meaning of a field changes.
pub(super) const FORMAT: u32 = 1;
pub(super) const NAME: &str = "manifest.json";
/// As `sha256sum` writes and reads it.
pub(super) const SUM: &str = "manifest.sha256";
pub(super) const PROOF: &str = "proof.json";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(super) format: u32,
    /// Its name; in the order of their making.
    pub(crate) id: String,
    /// The version of Tripod that made it.
    pub(crate) tripod: String,
    #[serde(with = "instant")]
    pub(crate) begun_at: Timestamp,
    #[serde(with = "instant")]
    pub(crate) finished_at: Timestamp,
    pub(crate) cut: Cut,
    pub(crate) questdb: Tape,
    pub(crate) postgres: Reference,
    pub(crate) events: Events,
    /// What is not in it, and why.
    pub(crate) left_out: Vec<String>,
    pub(super) files: Vec<FileEntry>,
    /// Directories, also those that are empty.
    pub(super) dirs: Vec<String>,
}

/// The moment that the three stores share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cut {
    /// Written to each store before its cut, looked for in each after a restore.
    pub(crate) barrier: String,
    /// When QuestDB had taken down the newest of its tables.
    #[serde(with = "instant")]
    pub(crate) questdb_at: Timestamp,
    /// When PostgreSQL had written its restore point.
    #[serde(with = "instant")]
    pub(crate) postgres_at: Timestamp,
    /// When Redis had forked for its snapshot.
    #[serde(with = "instant")]
    pub(crate) events_at: Timestamp,
    /// From the first of the three to the last.
    pub(crate) skew_ms: u64,
}

/// The QuestDB of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tape {
    pub(crate) version: String,
    pub(crate) tables: Vec<Table>,
    /// Materialized views; their rows are made again from their tables'.
    pub(crate) views: Vec<String>,
    /// Files that went away while they were copied: of versions of partitions that the checkpoint does not need.
    pub(crate) vanished: u64,
}

/// A table of QuestDB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// QuestDB's number of it; a table that is made anew has another one.
    pub(super) id: i64,
    /// The newest transaction that is in the backup.
    pub(crate) txn: Option<i64>,
    /// Rows that were visible before the checkpoint: so many at least are in it.
    pub(crate) rows: u64,
    /// Rows when every transaction of the checkpoint was visible, and perhaps later ones: no more are in it.
    pub(crate) rows_most: Option<u64>,
    /// Spans in which nothing moved while the backup was made, with the sum of their rows.
    pub(super) spans: Vec<Span>,
}

/// Rows of a table from an instant up to, and without, another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span {
    #[serde(with = "instant")]
    pub(super) from: Timestamp,
    #[serde(with = "instant")]
    pub(super) to: Timestamp,
    pub(super) rows: u64,
    /// See `tripod::tape::retention::Checksum`.
    pub(super) checksum: String,
}

/// The PostgreSQL of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) base: BaseBackup,
    /// Where a restore ends.
    pub(super) point: RestorePoint,
    /// The last file of the log that the point needs.
    pub(super) last_segment: String,
    /// Whether the counts below are those of the restore point; else somebody wrote in the same moment, each time.
    pub(crate) exact: bool,
    pub(crate) tables: Vec<Relation>,
}

/// A table of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Relation {
    /// With its schema.
    pub(crate) name: String,
    pub(crate) rows: u64,
    /// Sum of what each row hashes to.
    pub(super) sum: String,
}

/// The Redis of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Events {
    pub(crate) version: String,
    /// Whether nothing moved around the snapshot's fork.
    pub(crate) exact: bool,
    #[serde(flatten)]
    pub(crate) held: Held,
}

/// What a Redis holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) keys: u64,
    /// By their keys.
    pub(crate) streams: BTreeMap<String, Stream>,
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) length: u64,
    /// Ids; empty where it has no entry.
    pub(super) first: String,
    pub(super) last: String,
    /// Name, pending events, last id given to the group.
    pub(super) groups: Vec<(String, u64, String)>,
}

/// A file of the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    /// Where it belongs, below the part's directory; on disk it has `.zst` behind it.
    pub(super) path: String,
    /// As it was.
    pub(super) bytes: u64,
    /// Compressed.
    pub(super) stored: u64,
    /// Of what is stored.
    pub(super) sha256: String,
}

impl Manifest {
    /// The files of a part.
    pub(super) fn files_of(&self, part: Part) -> impl Iterator<Item = &FileEntry> {
        let start = format!("{}/", part.as_str());
        self.files.iter().filter(move |file| file.path.starts_with(&start))
    }

    /// The directories of a part.
    pub(super) fn dirs_of(&self, part: Part) -> impl Iterator<Item = &str> {
        let start = format!("{}/", part.as_str());
        self.dirs.iter().map(String::as_str).filter(move |dir| dir.starts_with(&start))
    }

    /// Bytes of a part on the disk.
    pub(crate) fn stored(&self, part: Part) -> u64 {
        self.files_of(part).map(|file| file.stored).sum()
    }

    /// Bytes that a part has when it is unpacked.
    pub(super) fn unpacked(&self, part: Part) -> u64 {
        self.files_of(part).map(|file| file.bytes).sum()
    }

    /// What a restore must bring, before one has.
    pub(crate) fn tables(&self) -> Vec<TableCheck> {
        let check = |store, name: &str, expected, expected_most| TableCheck {
            store,
            name: name.to_owned(),
            expected,
            expected_most,
            restored: None,
            compared: 0,
        };
        let exact = |exact: bool, rows: u64| exact.then_some(rows);
        let tape =
            self.questdb.tables.iter().map(|table| check(Part::Questdb, &table.name, table.rows, table.rows_most));
        let reference = self.postgres.tables.iter();
        let reference = reference
            .map(|table| check(Part::Postgres, &table.name, table.rows, exact(self.postgres.exact, table.rows)));
        let streams = self.events.held.streams.iter();
        let streams = streams
            .map(|(key, stream)| check(Part::Events, key, stream.length, exact(self.events.exact, stream.length)));
        tape.chain(reference).chain(streams).collect()
    }

    /// Tables, or keys.
    pub(crate) fn objects(&self, part: Part) -> u64 {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        match part {
            Part::Questdb => count(self.questdb.tables.len()),
            Part::Postgres => count(self.postgres.tables.len()),
            Part::Events => self.events.held.keys,
        }
    }
}

/// What a `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof {
    pub(crate) id: String,
    #[serde(with = "instant")]
    pub(crate) at: Timestamp,
    /// Everything was as the manifest says.
    pub(crate) ok: bool,
    /// From nothing to servers that answer, with the data in them.
    pub(crate) restore_ms: u64,
    pub(crate) tables: Vec<TableCheck>,
    /// What is not as it should be.
    pub(crate) problems: Vec<String>,
}

/// A table after a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableCheck {
    pub(crate) store: Part,
    pub(crate) name: String,
    /// Rows at the cut.
    pub(crate) expected: u64,
    /// Where rows came in at the cut: `expected` at least, and this at most; absent where that is not known.
    pub(crate) expected_most: Option<u64>,
    /// None where the table is not there, or was not looked at.
    pub(crate) restored: Option<u64>,
    /// Rows that were compared by their values.
    pub(crate) compared: u64,
}

impl TableCheck {
    /// `5`, or `5 to 7` where rows came in at the cut.
    pub(crate) fn expected_in_words(&self) -> String {
        super::questdb::in_words(self.expected, self.expected_most)
    }
}

/// An instant as RFC 3339.
pub(super) mod instant {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tripod::Timestamp;

    pub(in crate::backup) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(in crate::backup) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
