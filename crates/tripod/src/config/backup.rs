//! `[backup]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[backup]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Backup {
    /// Directory of the backups. Relative to the config file.
    pub dir: PathBuf,
}

impl Default for Backup {
    fn default() -> Self {
        Self { dir: "backups".into() }
    }
}
