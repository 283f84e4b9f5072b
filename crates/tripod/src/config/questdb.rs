//! `[[questdb]]`: one server, one sink.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// One `[[questdb]]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct QuestDb {
    /// Name of this sink in cursors, metrics and `status`.
    pub name: String,
    /// A required sink holds journal segments back until it has them; another is detached when it overruns the budget.
    pub required: bool,
    /// Host and port of HTTP: writes, DDL, checks.
    pub http: String,
    /// Host and port of the PostgreSQL wire protocol: reads.
    pub pg: String,
    /// Host and port of the metrics and health endpoint; empty where there is none.
    pub metrics: String,
    /// Use TLS to `http` and `pg`.
    pub tls: bool,
    /// With `tls`: a PEM file of the certificate authorities to trust at `http` and `pg`, and no other; the public ones
    /// where there is none.
    pub ca_file: Option<PathBuf>,
    /// Sent as `Authorization: Bearer` to `http` instead of user and password, for a proxy that asks for one.
    #[serde(skip_serializing)]
    pub token: SecretString,
    /// Read the token from this file instead.
    pub token_file: Option<PathBuf>,
    /// User of HTTP and of the PostgreSQL wire protocol.
    pub user: String,
    /// Its password.
    #[serde(skip_serializing)]
    pub password: SecretString,
    /// Read the password from this file instead.
    pub password_file: Option<PathBuf>,
}

impl Default for QuestDb {
    fn default() -> Self {
        Self {
            name: "main".into(),
            required: true,
            http: "127.0.0.1:9000".into(),
            pg: "127.0.0.1:8812".into(),
            metrics: "127.0.0.1:9003".into(),
            tls: false,
            ca_file: None,
            token: SecretString::default(),
            token_file: None,
            user: "tripod".into(),
            password: SecretString::default(),
            password_file: None,
        }
    }
}
