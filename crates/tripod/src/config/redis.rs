//! `[redis.prices]`, `[redis.events]`: where the two instances are.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// `[redis]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RedisPair {
    /// Prices: loses nothing of value when it restarts.
    pub prices: Redis,
    /// Events and signals: loses nothing when it restarts.
    pub events: Redis,
}

/// `[redis.prices]`, `[redis.events]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Redis {
    /// `single` or `sentinel`.
    pub mode: RedisMode,
    /// With `single`: `host:port`, or `/path` of a unix socket. With `sentinel`: the sentinels' `host:port`.
    pub addresses: Vec<String>,
    /// With `sentinel`: the name that the sentinels give the primary.
    pub primary_name: String,
    /// With `sentinel`: the ACL user at the sentinels; empty where they ask for a password alone.
    pub sentinel_user: String,
    /// Its password; without one nobody logs in there.
    #[serde(skip_serializing)]
    pub sentinel_password: SecretString,
    /// Read the sentinels' password from this file.
    pub sentinel_password_file: Option<PathBuf>,
    /// Use TLS, to the sentinels too.
    pub tls: bool,
    /// With `tls`: a PEM file of the certificate authorities to trust, and no other; the system's where there is none.
    pub ca_file: Option<PathBuf>,
    /// The bot's ACL user.
    pub user: String,
    /// Its password.
    #[serde(skip_serializing)]
    pub password: SecretString,
    /// Read the password from this file instead.
    pub password_file: Option<PathBuf>,
    /// The ACL user of `tripod status`, `migrate`, `doctor`.
    pub admin_user: String,
    /// Its password.
    #[serde(skip_serializing)]
    pub admin_password: SecretString,
    /// Read the admin's password from this file instead.
    pub admin_password_file: Option<PathBuf>,
    /// One call ends within this (a blocking read within this and its own block time).
    pub deadline_ms: u64,
}

/// How a Redis address is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    /// One server at a fixed address.
    Single,
    /// Ask the sentinels for the primary, follow it.
    Sentinel,
}

impl Default for RedisPair {
    fn default() -> Self {
        Self {
            prices: Redis::default(),
            events: Redis { addresses: vec!["127.0.0.1:6380".into()], ..Redis::default() },
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            mode: RedisMode::Single,
            addresses: vec!["127.0.0.1:6379".into()],
            primary_name: "tripod".into(),
            sentinel_user: String::new(),
            sentinel_password: SecretString::default(),
            sentinel_password_file: None,
            tls: false,
            ca_file: None,
            user: "tripod_bot".into(),
            password: SecretString::default(),
            password_file: None,
            admin_user: "tripod_admin".into(),
            admin_password: SecretString::default(),
            admin_password_file: None,
            deadline_ms: 1000,
        }
    }
}

impl Redis {
    /// The deadline of one call.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}
