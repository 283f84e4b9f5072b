//! `[postgres]`: reference data.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// `[postgres]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Postgres {
    /// `host:port`, or `/directory:port` for a unix socket. The first that takes writes is used.
    pub hosts: Vec<String>,
    /// The database.
    pub database: String,
    /// Use TLS.
    pub tls: bool,
    /// With `tls`: a PEM file of the certificate authorities to trust, and no other; the system's where there is none.
    pub ca_file: Option<PathBuf>,
    /// The bot's login; gets the group `tripod_writer`.
    pub user: String,
    /// Its password.
    #[serde(skip_serializing)]
    pub password: SecretString,
    /// Read the password from this file instead.
    pub password_file: Option<PathBuf>,
    /// The login that `tripod migrate` uses; owns the schema.
    pub admin_user: String,
    /// Its password.
    #[serde(skip_serializing)]
    pub admin_password: SecretString,
    /// Read the admin's password from this file instead.
    pub admin_password_file: Option<PathBuf>,
    /// Connections at most.
    pub pool_size: usize,
    /// One call, from waiting for a connection to the last row, ends within this.
    pub deadline_ms: u64,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            hosts: vec!["127.0.0.1:5432".into()],
            database: "tripod".into(),
            tls: false,
            ca_file: None,
            user: "tripod_bot".into(),
            password: SecretString::default(),
            password_file: None,
            admin_user: "tripod_admin".into(),
            admin_password: SecretString::default(),
            admin_password_file: None,
            pool_size: 4,
            deadline_ms: 900,
        }
    }
}

impl Postgres {
    /// The outer deadline of one call.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}
