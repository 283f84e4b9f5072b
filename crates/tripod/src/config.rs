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

mod backup;
mod environment;
mod journal;
mod live;
mod monitor;
mod postgres;
mod questdb;
mod redis;
mod reference;
mod retention;
mod tape;
mod validate;

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use backup::Backup;
pub use journal::{Journal, SyncMode};
pub use live::{Events, Prices};
pub use monitor::Monitor;
pub use postgres::Postgres;
pub use questdb::QuestDb;
pub use redis::{Redis, RedisMode, RedisPair};
pub use reference::reference;
pub use retention::Retention;
pub use tape::{Delivery, Tape};

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
        let mut config: Self = complete.try_into().map_err(|e: toml::de::Error| wrong(one_line(&e.to_string())))?;
        config.resolve(base).map_err(|e| {
            let why = std::error::Error::source(&e).map_or_else(String::new, |why| format!(": {why}"));
            wrong(format!("{e}{why}"))
        })?;
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
        let place = |file: &mut Option<PathBuf>| *file = file.as_ref().map(|file| base.join(file));
        for sink in &mut self.questdb {
            read(&mut sink.password, &sink.password_file)?;
            read(&mut sink.token, &sink.token_file)?;
            place(&mut sink.ca_file);
        }
        read(&mut self.monitor.token, &self.monitor.token_file)?;
        read(&mut self.postgres.password, &self.postgres.password_file)?;
        read(&mut self.postgres.admin_password, &self.postgres.admin_password_file)?;
        place(&mut self.postgres.ca_file);
        for redis in [&mut self.redis.prices, &mut self.redis.events] {
            read(&mut redis.password, &redis.password_file)?;
            read(&mut redis.admin_password, &redis.admin_password_file)?;
            read(&mut redis.sentinel_password, &redis.sentinel_password_file)?;
            place(&mut redis.ca_file);
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

#[cfg(test)]
mod tests;
