//! The configuration: one TOML file, one struct per server, the unit in every name.
//!
//! Constraints: a misspelt key is an error that names it, never a silent default. A missing file is an error; a
//! development stack is asked for by name ([`Config::local`]), so that a mistyped production path can never trade
//! against one. Secrets are [`SecretString`]s: they print as nothing, and they come from the file (0600), from a file
//! named by `password_file`, or from the environment.
//!
//! Picture:
//! ```text
//! reference() == defaults ──▶ tripod.toml ──▶ TRIPOD__SECTION__KEY ──▶ password_file ──▶ validate() ──▶ Config
//! ```
//! Later wins. Lists of tables are addressed by number: `TRIPOD__QUESTDB__0__HTTP=10.0.0.5:9000`.

mod environment;
mod monitor;
mod reference;
mod retention;
mod validate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use monitor::Monitor;
pub use reference::reference;
pub use retention::Retention;

/// The file name that `tripod up` writes into its data directory and that [`Config::local`] reads.
pub const FILE_NAME: &str = "tripod.toml";

/// Everything a bot or a command needs to know. See [`reference()`] for each key's meaning.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Config {
    /// Name of this bot: letters, digits, `-`, `_`. Several bots share a machine and a stack; each has its own.
    pub bot: String,
    /// The crash-safe log on the bot's own disk.
    pub journal: Journal,
    /// When rows are sent, and how long they are kept.
    pub tape: Tape,
    /// How long rows are kept, and where they go before they expire.
    pub retention: Retention,
    /// Each one is a sink; every row goes to each.
    pub questdb: Vec<QuestDb>,
    /// Reference data.
    pub postgres: Postgres,
    /// The two Redis instances.
    pub redis: RedisPair,
    /// Latest prices.
    pub prices: Prices,
    /// Event streams.
    pub events: Events,
    /// Backups of the local stack.
    pub backup: Backup,
    /// `tripod monitor`.
    pub monitor: Monitor,
}

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
    /// Use TLS.
    pub tls: bool,
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

/// `[prices]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Prices {
    /// Life of `price:TOKEN` (1000 to 2000 by specification; 100 to 60000 taken).
    pub ttl_ms: u64,
    /// Life of the guard that keeps an older slot from replacing a newer one.
    pub guard_ttl_ms: u64,
    /// Put before each key; for several deployments on one Redis, and for tests.
    pub key_prefix: String,
}

/// `[events]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Events {
    /// Entries a stream holds at most, exactly.
    pub cap: u64,
    /// Bytes of one payload at most.
    pub payload_bytes_max: usize,
    /// A consumer that has not acknowledged for this long is taken for dead and its events are claimed.
    pub claim_after_ms: u64,
    /// A handler that has not finished within this has failed.
    pub handler_deadline_ms: u64,
    /// Deliveries of one event to a group at most; then it goes to the dead letters.
    pub tries_max: u64,
    /// Dead letters of a topic kept at most; the oldest go first.
    pub dead_cap: u64,
    /// What was acknowledged within this is looked up after a reconnect, and published again where it is missing.
    pub republish_window_ms: u64,
    /// Put before each key; for several deployments on one Redis, and for tests.
    pub key_prefix: String,
}

/// `[backup]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Backup {
    /// Directory of the backups. Relative to the config file.
    pub dir: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bot: "bot".into(),
            journal: Journal::default(),
            tape: Tape::default(),
            retention: Retention::default(),
            questdb: vec![QuestDb::default()],
            postgres: Postgres::default(),
            redis: RedisPair::default(),
            prices: Prices::default(),
            events: Events::default(),
            backup: Backup::default(),
            monitor: Monitor::default(),
        }
    }
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

impl Default for Postgres {
    fn default() -> Self {
        Self {
            hosts: vec!["127.0.0.1:5432".into()],
            database: "tripod".into(),
            tls: false,
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

impl Default for Prices {
    fn default() -> Self {
        Self { ttl_ms: 2000, guard_ttl_ms: 60_000, key_prefix: String::new() }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            cap: 10_000,
            payload_bytes_max: 65_536,
            claim_after_ms: 30_000,
            handler_deadline_ms: 10_000,
            tries_max: 5,
            dead_cap: 10_000,
            republish_window_ms: 30_000,
            key_prefix: String::new(),
        }
    }
}

impl Default for Backup {
    fn default() -> Self {
        Self { dir: "backups".into() }
    }
}

impl Config {
    /// Reads `path`, lets `TRIPOD__SECTION__KEY` variables of the environment override it, reads password files, and
    /// checks every value. Relative paths in the file are relative to the file.
    ///
    /// # Errors
    /// [`Error::Config`] naming the file or variable and the key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path.as_ref(), std::env::vars())
    }

    /// Reads the config that `tripod up` wrote into `data_dir` (usually `.tripod`): the local development stack.
    ///
    /// # Errors
    /// As [`Config::load`]; a missing file says to run `tripod up`.
    pub fn local(data_dir: impl AsRef<Path>) -> Result<Self> {
        let path = data_dir.as_ref().join(FILE_NAME);
        if !path.exists() {
            return Err(Error::Config { path, what: "there is no local stack here; run `tripod up` first".into() });
        }
        Self::load(path)
    }

    /// [`Config::load`] with the environment as an argument.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(path: &Path, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::Config {
            path: path.to_owned(),
            what: match e.kind() {
                std::io::ErrorKind::NotFound => "no such file".into(),
                _ => format!("cannot be read: {e}"),
            },
        })?;
        let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::from_text(&text, path, base, variables)
    }

    fn from_text(
        text: &str,
        path: &Path,
        base: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let wrong = |what: String| Error::Config { path: path.to_owned(), what };
        let mut document: toml::Table =
            toml::from_str(text).map_err(|e| wrong(format!("is not TOML: {}", without_excerpt(&e, text))))?;
        environment::apply(&mut document, variables)?;
        reference::check_secrets(&document).map_err(wrong)?;
        let mut complete = reference::defaults();
        lay_over(&mut complete, document);
        let mut config: Self = complete.try_into().map_err(|e: toml::de::Error| wrong(one_line(e.message())))?;
        config.resolve(base).map_err(|e| wrong(e.to_string()))?;
        validate::check(&config).map_err(wrong)?;
        Ok(config)
    }

    /// Makes paths absolute and reads the password files.
    fn resolve(&mut self, base: &Path) -> Result<(), Error> {
        self.journal.dir = base.join(&self.journal.dir);
        self.retention.archive_dir = base.join(&self.retention.archive_dir);
        self.backup.dir = base.join(&self.backup.dir);
        let read = |secret: &mut SecretString, file: &Option<PathBuf>| -> Result<()> {
            if let Some(file) = file {
                let file = base.join(file);
                let text = std::fs::read_to_string(&file).map_err(|source| Error::File {
                    what: "read password file",
                    path: file.clone(),
                    source,
                })?;
                *secret = text.trim_end_matches(['\r', '\n']).to_owned().into();
            }
            Ok(())
        };
        for sink in &mut self.questdb {
            read(&mut sink.password, &sink.password_file)?;
            read(&mut sink.token, &sink.token_file)?;
            sink.ca_file = sink.ca_file.as_ref().map(|file| base.join(file));
        }
        read(&mut self.monitor.token, &self.monitor.token_file)?;
        read(&mut self.postgres.password, &self.postgres.password_file)?;
        read(&mut self.postgres.admin_password, &self.postgres.admin_password_file)?;
        for redis in [&mut self.redis.prices, &mut self.redis.events] {
            read(&mut redis.password, &redis.password_file)?;
            read(&mut redis.admin_password, &redis.admin_password_file)?;
            read(&mut redis.sentinel_password, &redis.sentinel_password_file)?;
        }
        Ok(())
    }

    /// The directory of this bot's journals.
    #[must_use]
    pub fn journal_dir(&self) -> PathBuf {
        self.journal.dir.join(&self.bot)
    }
}

/// What is wrong and in which line, without the line itself: it may hold a password.
fn without_excerpt(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    match line {
        Some(line) => format!("line {line}: {}", one_line(error.message())),
        None => one_line(error.message()),
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// Puts `document` over the defaults, section by section, so that a section that is there in part keeps the defaults of
/// that section (both Redis sections have one type and different addresses). Lists are replaced as a whole.
fn lay_over(defaults: &mut toml::Table, document: toml::Table) {
    for (key, value) in document {
        match (defaults.get_mut(&key), value) {
            (Some(toml::Value::Table(section)), toml::Value::Table(value)) => lay_over(section, value),
            (_, value) => drop(defaults.insert(key, value)),
        }
    }
}

impl Journal {
    /// Disk for the undelivered rows of one class.
    #[must_use]
    pub fn budget_mib(&self, class: crate::tape::spec::Importance) -> u64 {
        use crate::tape::spec::Importance;
        match class {
            Importance::Critical => self.critical_budget_mib,
            Importance::Standard => self.standard_budget_mib,
            Importance::Debug => self.debug_budget_mib,
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

impl Redis {
    /// The deadline of one call.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

#[cfg(test)]
mod tests;
