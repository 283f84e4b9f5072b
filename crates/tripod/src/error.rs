//! One error for the whole library, and what to do about each of its variants.
//!
//! Constraints: a caller never has to read the text to decide. Every variant maps to one [`Advice`] (retry, wait, fix,
//! stop trading), the text names the thing that failed, the source chain keeps the server's own words, and no variant
//! ever holds a secret.

use std::path::PathBuf;
use std::time::Duration;

/// `Result` with Tripod's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed source: the server's or driver's own error, kept for the chain, not for matching.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What the caller should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Transient, and the call did not happen or is safe to repeat: call again, with a pause.
    Retry,
    /// The other side has to come back first; Tripod reconnects by itself, the call may be repeated later.
    Wait,
    /// It fails the same way each time until somebody changes the input, the config or the server.
    Fix,
    /// What the bot does can no longer be recorded: stop trading until it can.
    StopTrading,
}

/// One of the three legs, for error texts and for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    /// The tape.
    QuestDb,
    /// Reference data.
    Postgres,
    /// Latest prices.
    RedisPrices,
    /// Event streams and signals.
    RedisEvents,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::QuestDb => "QuestDB",
            Self::Postgres => "PostgreSQL",
            Self::RedisPrices => "Redis (prices)",
            Self::RedisEvents => "Redis (events)",
        })
    }
}

/// Everything that can go wrong in the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config file is missing, is not TOML, has an unknown key, or a value out of range. Advice: fix.
    #[error("config {path}: {what}", path = path.display())]
    Config {
        /// The file, or the environment variable's name where that was the origin.
        path: PathBuf,
        /// What is wrong, naming the key.
        what: String,
    },

    /// A value handed to the library is not acceptable (a row's column, a token's text, a decimal). Nothing was
    /// written. Advice: fix.
    #[error("{what}: {why}")]
    Invalid {
        /// The thing refused, e.g. `executions.price` or `token`.
        what: String,
        /// Why, with the limit that it broke.
        why: String,
    },

    /// A critical row could not be put into the journal: its budget is used up or its disk is full. Advice: stop
    /// trading.
    #[error("cannot record into {table}: {why}")]
    CannotRecord {
        /// The row's table.
        table: String,
        /// Why not.
        why: String,
    },

    /// The journal itself refused or failed. Advice: fix.
    #[error("journal: {0}")]
    Journal(#[from] tripod_journal::Error),

    /// A server did not answer, refused the connection, or dropped it. Advice: wait.
    #[error("{server} at {address} is not reachable")]
    Unreachable {
        /// Which server.
        server: Server,
        /// Host and port or socket, never credentials.
        address: String,
        /// The driver's words.
        #[source]
        source: Source,
    },

    /// A server answered with an error that a later try may not see (restart, deadlock, read-only replica).
    /// Advice: retry.
    #[error("{server}: {what}")]
    Busy {
        /// Which server.
        server: Server,
        /// What it said, shortened.
        what: String,
        /// The driver's words.
        #[source]
        source: Option<Source>,
    },

    /// A server refused the statement, the login or the value. Advice: fix.
    #[error("{server} refused: {what}")]
    Refused {
        /// Which server.
        server: Server,
        /// What it said, shortened.
        what: String,
        /// SQLSTATE or the server's own code, where there is one.
        code: Option<String>,
        /// The driver's words.
        #[source]
        source: Option<Source>,
    },

    /// The call did not finish within its deadline. A write may or may not have happened; every write of this library
    /// can be repeated. Advice: retry.
    #[error("{server}: {what} did not finish within {after:?}")]
    Deadline {
        /// Which server.
        server: Server,
        /// The call.
        what: String,
        /// The deadline that passed.
        after: Duration,
    },

    /// Somebody else changed the thing since it was read; nothing was written. Advice: fix (read again, decide again).
    #[error("{what} {why}")]
    Conflict {
        /// The thing, e.g. `setting limits/max_position`.
        what: String,
        /// Where it stands, and what the write was based on.
        why: String,
    },

    /// The server's schema is not the one this version needs. Advice: fix (`tripod migrate`).
    #[error("{server}: {what}")]
    Schema {
        /// Which server.
        server: Server,
        /// What is missing or different.
        what: String,
    },

    /// Reading or writing a local file failed. Advice: fix.
    #[error("{what} {path}", path = path.display())]
    File {
        /// What was tried, e.g. `read`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        #[source]
        source: std::io::Error,
    },

    /// The handle was closed; its owner is shutting down. Advice: fix.
    #[error("{0} is closed")]
    Closed(&'static str),
}

impl Error {
    /// What the caller should do next; never needs the text.
    #[must_use]
    pub fn advice(&self) -> Advice {
        match self {
            Self::CannotRecord { .. } => Advice::StopTrading,
            Self::Unreachable { .. } => Advice::Wait,
            Self::Busy { .. } | Self::Deadline { .. } => Advice::Retry,
            Self::Config { .. }
            | Self::Invalid { .. }
            | Self::Journal(_)
            | Self::Refused { .. }
            | Self::Conflict { .. }
            | Self::Schema { .. }
            | Self::File { .. }
            | Self::Closed(_) => Advice::Fix,
        }
    }

    /// Refuse a value: `what` names it, `why` names the limit.
    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }

    /// Refuse a write that was based on what no longer stands.
    pub(crate) fn conflict(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Conflict { what: what.into(), why: why.into() }
    }
}
