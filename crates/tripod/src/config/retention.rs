//! `[retention]`: how long rows stay on QuestDB, by importance, and where they go before they expire.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tape::spec::{Importance, TableSpec};

/// `[retention]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Retention {
    /// Days that rows of critical tables stay on QuestDB; 0: as each table says, which is 30 for the built-in ones.
    pub critical_days: u16,
    /// The same for standard tables.
    pub standard_days: u16,
    /// The same for debug tables.
    pub debug_days: u16,
    /// Days that the rollup tables stay.
    pub rollup_days: u16,
    /// A day is rolled up and archived so many days after it ended. Sooner covers it sooner; later spares doing it again
    /// for rows that arrive late.
    pub archive_after_days: u16,
    /// Directory of the Parquet archive, and of what the last run found. Relative to the config file.
    pub archive_dir: PathBuf,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            critical_days: 0,
            standard_days: 0,
            debug_days: 0,
            rollup_days: 3650,
            archive_after_days: 2,
            archive_dir: "archive".into(),
        }
    }
}

impl Retention {
    /// The days that rows of this table stay.
    #[must_use]
    pub fn days_of(&self, spec: &TableSpec) -> u16 {
        let days = match spec.importance {
            Importance::Critical => self.critical_days,
            Importance::Standard => self.standard_days,
            Importance::Debug => self.debug_days,
        };
        if days == 0 { spec.retain_days } else { days }
    }

    /// The table with the days that its rows stay by this config.
    #[must_use]
    pub fn applied_to(&self, spec: &TableSpec) -> TableSpec {
        TableSpec { retain_days: self.days_of(spec), ..spec.clone() }
    }
}
