//! `[tape]`: when rows are sent, and by whom.

use serde::{Deserialize, Serialize};

/// `[tape]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Tape {
    /// Send at the latest this long after the first row that waits.
    pub flush_interval_ms: u64,
    /// Send when this many rows wait.
    pub flush_rows: usize,
    /// Send when this much encoded text waits.
    pub flush_kib: usize,
    /// One request to QuestDB answers within this, or counts as unavailable.
    pub request_timeout_ms: u64,
    /// Longest pause between two tries while QuestDB is away.
    pub retry_max_ms: u64,
    /// After a restart of QuestDB, what was delivered this long before it is delivered again: an answer OK means "in the
    /// server's page cache", and a power loss takes what was not written back yet.
    pub rewind_s: u64,
    /// Put before each table's name; for several deployments on one QuestDB, and for tests.
    pub table_prefix: String,
    /// Who delivers what the bot records.
    pub delivery: Delivery,
}

/// Who delivers what a bot records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// The bot itself, on threads of its own.
    Inside,
    /// `tripod deliver`, in a process beside it: the bot only records.
    Beside,
}

impl Default for Tape {
    fn default() -> Self {
        Self {
            flush_interval_ms: 100,
            flush_rows: 20_000,
            flush_kib: 8192,
            request_timeout_ms: 10_000,
            retry_max_ms: 1000,
            rewind_s: 120,
            table_prefix: String::new(),
            delivery: Delivery::Inside,
        }
    }
}
