//! What can go wrong, and what to do next.
//!
//! Constraints: each error is one sentence that names the file or option and the way on. Payload bytes never appear.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong outside of [`crate::Journal::append`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused. Retry after fixing the cause that it names.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// Another process (or another handle of this one) has the lock. End it, or wait for it.
    #[error("{path} is held by {holder}; end that one first", path = path.display(),
            holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, where the file says so.
        pid: Option<u32>,
    },
    /// A file is not what this journal wrote. Restore it, or open with `set_aside_damaged`.
    #[error("{path} is damaged at offset {offset}: {what}; restore it or open with set_aside_damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// A newer release wrote it, in a form that this one does not know. Nothing was changed. Use that release, or empty the
    /// journal with it first.
    #[error("{path} was written by a newer release (format {format}; this one knows {known}); use that release, or let it \
             deliver what waits first", path = path.display(), known = crate::format::FORMAT)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// There is no journal in this directory. Check the path, or let a writer open it first.
    #[error("no journal in {path}; check the path or let a writer open it first", path = path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// An option or an argument is out of range. Fix the caller.
    #[error("{name}: {why}")]
    Option {
        /// Which one.
        name: &'static str,
        /// The value and the limit it broke.
        why: String,
    },
    /// The deadline passed first. What was recorded is kept; the next open seals what stayed open.
    #[error("{what} did not end within {deadline_ms} ms; records are kept, the next open goes on from there")]
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        deadline_ms: u128,
    },
    /// The journal was closed.
    #[error("the journal is closed; open it again")]
    Closed,
}

impl Error {
    /// For `map_err`: attaches what was tried, on which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, offset: usize, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset: crate::layout::wide(offset), what: what.into() }
    }
}

/// Why a record was not appended. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError<E> {
    /// The caller's own `fill` failed.
    #[error("the record could not be encoded")]
    Fill(E),
    /// The budget is used up by records that a required sink has not passed. It becomes usable again by itself once
    /// the sink has passed some.
    #[error("the journal is full: {undelivered_bytes} of {budget_bytes} bytes wait for a required sink")]
    Full {
        /// Bytes of segments that a required sink has not passed.
        undelivered_bytes: u64,
        /// The budget.
        budget_bytes: u64,
    },
    /// No further segment could be made (a full disk, most often). The keeper goes on trying.
    #[error("no segment could be made; free disk space, the journal then goes on by itself")]
    Disk(#[source] io::Error),
    /// The record can never fit. Fix the caller.
    #[error("a record of {len} bytes is larger than a segment can take ({max} bytes)")]
    TooLarge {
        /// Payload bytes asked for.
        len: usize,
        /// Payload bytes possible.
        max: usize,
    },
    /// `lanes_max` threads are inside `append` right now and none came out. Retry, or raise `lanes_max`.
    #[error("all {lanes} lanes are taken; retry or raise lanes_max")]
    Busy {
        /// The number of lanes.
        lanes: usize,
    },
    /// The schema was not registered with this journal. Fix the caller.
    #[error("schema {id} was not registered with this journal", id = schema.0)]
    Schema {
        /// The unknown schema.
        schema: crate::SchemaId,
    },
    /// The journal was closed.
    #[error("the journal is closed; open it again")]
    Closed,
}
