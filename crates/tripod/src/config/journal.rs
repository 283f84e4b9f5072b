//! `[journal]`: the crash-safe log on the bot's own disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tape::spec::Importance;

/// `[journal]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Journal {
    /// Directory of all journals on this machine; a bot's own is `dir/<bot>`. Relative to the config file.
    pub dir: PathBuf,
    /// Size of one segment file.
    pub segment_mib: u64,
    /// Disk that undelivered rows of one class may use before `record()` refuses (critical) or drops (the others).
    pub critical_budget_mib: u64,
    /// The same for standard rows.
    pub standard_budget_mib: u64,
    /// The same for debug rows.
    pub debug_budget_mib: u64,
    /// Delivered segments are kept this long, for a server that forgets.
    pub keep_hours: u64,
    /// `process`, `periodic` or `each`: when a record survives power loss. It survives kill -9 in every mode.
    pub sync: SyncMode,
    /// With `periodic`: at most this much is lost of critical tables when power fails.
    pub critical_sync_ms: u64,
    /// With `periodic`: the same for the other tables.
    pub standard_sync_ms: u64,
}

/// When a record survives power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// When the operating system writes it back.
    Process,
    /// Within the interval, by a background thread.
    Periodic,
    /// Before the call returns, where the call asks for it.
    Each,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            dir: "journals".into(),
            segment_mib: 16,
            critical_budget_mib: 4096,
            standard_budget_mib: 4096,
            debug_budget_mib: 512,
            keep_hours: 24,
            sync: SyncMode::Periodic,
            critical_sync_ms: 100,
            standard_sync_ms: 1000,
        }
    }
}

impl Journal {
    /// Disk for the undelivered rows of one class.
    #[must_use]
    pub fn budget_mib(&self, class: Importance) -> u64 {
        match class {
            Importance::Critical => self.critical_budget_mib,
            Importance::Standard => self.standard_budget_mib,
            Importance::Debug => self.debug_budget_mib,
        }
    }
}
