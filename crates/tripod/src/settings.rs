//! Settings: typed values in namespaces, with every value there ever was.
//!
//! Constraints: a write names the revision it was made on, so that two people (or bots) cannot overwrite each other
//! unseen. Who, when and why go with it, into a history that nobody can change. Reading takes the bot's login; writing
//! takes a member of `tripod_operator` ([`Login::Admin`](crate::postgres::Login) is one): a bot cannot raise its own
//! limits.
//!
//! ```text
//! set(expected 3) ──▶ revision is 3? ──yes──▶ value, revision 4, history row, one transaction
//!                                    └─no───▶ Error::Conflict: read again, decide again
//! notice ──▶ SettingsWatch<T> of each bot ──▶ T in memory, and "bot b runs revision 4" on the server
//! ```

mod applied;
mod watch;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_postgres::Row;

use crate::error::{Error, Result};
use crate::postgres::{Failure, Postgres, timestamp};
use crate::value::Timestamp;

pub use applied::AppliedSettings;
pub use watch::{RefusedSetting, SettingsWatch};

/// Bytes of one value as JSON at most: a setting is read on every change by every bot.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Revisions that one question about the history answers at most.
const HISTORY_MAX: u32 = 10_000;

const GET: &str = "
SELECT namespace, key, value, revision, changed_by, reason, changed_at FROM tripod.settings
WHERE namespace = $1 AND key = $2";
const LIST: &str = "
SELECT namespace, key, value, revision, changed_by, reason, changed_at FROM tripod.settings
WHERE namespace = $1 ORDER BY key";
const INSERT: &str = "
INSERT INTO tripod.settings (namespace, key, value, changed_by, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (namespace, key) DO NOTHING
RETURNING namespace, key, value, revision, changed_by, reason, changed_at";
const UPDATE: &str = "
UPDATE tripod.settings SET value = $3, changed_by = $4, reason = $5
WHERE namespace = $1 AND key = $2 AND revision = $6
RETURNING namespace, key, value, revision, changed_by, reason, changed_at";
const HISTORY: &str = "
SELECT revision, before, after, changed_by, login, reason, changed_at FROM tripod.settings_history
WHERE namespace = $1 AND key = $2 ORDER BY revision DESC LIMIT $3";
const AT: &str = "
SELECT revision, before, after, changed_by, login, reason, changed_at FROM tripod.settings_history
WHERE namespace = $1 AND key = $2 AND revision = $3";

/// One setting as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting<T> {
    /// Its namespace.
    pub namespace: String,
    /// Its key within the namespace.
    pub key: String,
    /// The value.
    pub value: T,
    /// 1 for the first value, one more for each change.
    pub revision: i64,
    /// Who wrote it.
    pub changed_by: String,
    /// Why.
    pub reason: String,
    /// When, by the server's clock.
    #[serde(serialize_with = "as_text")]
    pub changed_at: Timestamp,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Revision {
    /// The revision that it made.
    pub revision: i64,
    /// The value before; none for the first.
    pub before: Option<Value>,
    /// The value after.
    pub after: Value,
    /// Who said to be the writer.
    pub changed_by: String,
    /// The login that the server saw.
    pub login: String,
    /// Why.
    pub reason: String,
    /// When, by the server's clock.
    #[serde(serialize_with = "as_text")]
    pub changed_at: Timestamp,
}

/// What a write is based on, and who stands for it.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The revision that the writer saw; none where there must be no value yet.
    pub expected: Option<i64>,
    /// Who: a person's or a program's name.
    pub who: &'a str,
    /// Why, in a sentence.
    pub why: &'a str,
}

/// The store; a cheap handle.
#[derive(Debug, Clone)]
pub struct Settings {
    postgres: Postgres,
}

impl Settings {
    /// A handle on the settings behind `postgres`.
    #[must_use]
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    /// One setting as `T`, or none where it was never set.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting and its revision where the value is no `T`; else as [`Postgres::call`].
    pub async fn get<T: DeserializeOwned>(&self, namespace: &str, key: &str) -> Result<Option<Setting<T>>> {
        self.get_value(namespace, key).await?.map(typed).transpose()
    }

    /// All settings of a namespace, by key.
    ///
    /// # Errors
    /// As [`Postgres::call`].
    pub async fn list(&self, namespace: &str) -> Result<Vec<Setting<Value>>> {
        self.postgres
            .call("list settings", async |client| {
                let statement = client.prepare_cached(LIST).await?;
                client.query(&statement, &[&namespace]).await?.iter().map(setting).collect()
            })
            .await
    }

    /// Writes a value. When it returns Ok, the value stands with the revision it says, and its history with it. A call
    /// that timed out and is repeated finds its own write and returns it.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the setting's revision is not the expected one; [`Error::Invalid`] for a value beyond
    /// 64 KiB; [`Error::Refused`] with 42501 where the login is no operator, with 23514 where a name or text is outside
    /// its limits (names: 1 to 64 of `a-z 0-9 _ . -`); else as [`Postgres::call`].
    pub async fn set<T: Serialize + DeserializeOwned + Sync>(
        &self,
        namespace: &str,
        key: &str,
        value: &T,
        change: Change<'_>,
    ) -> Result<Setting<T>> {
        let name = || format!("setting {namespace}/{key}");
        let value = serde_json::to_value(value).map_err(|e| Error::invalid(name(), e.to_string()))?;
        let bytes = value.to_string().len();
        if bytes > VALUE_BYTES_MAX {
            return Err(Error::invalid(name(), format!("has {bytes} bytes; at most {VALUE_BYTES_MAX}")));
        }
        let written = self
            .postgres
            .call("write setting", async |client| {
                let row = if let Some(revision) = change.expected {
                    let statement = client.prepare_cached(UPDATE).await?;
                    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                        [&namespace, &key, &value, &change.who, &change.why, &revision];
                    client.query_opt(&statement, &parameters).await?
                } else {
                    let statement = client.prepare_cached(INSERT).await?;
                    client.query_opt(&statement, &[&namespace, &key, &value, &change.who, &change.why]).await?
                };
                row.as_ref().map(setting).transpose()
            })
            .await?;
        if let Some(written) = written {
            return typed(written);
        }
        match self.get_value(namespace, key).await? {
            Some(current) if is_own_write(&current, &value, change) => typed(current),
            Some(current) => Err(Error::conflict(
                name(),
                format!(
                    "is at revision {}, written by {}; the write was based on {}",
                    current.revision,
                    current.changed_by,
                    change.expected.map_or("no value".to_owned(), |r| format!("revision {r}")),
                ),
            )),
            None => Err(Error::conflict(name(), "has no value yet; the write was based on a revision")),
        }
    }

    /// The last changes, newest first; at most 10,000.
    ///
    /// # Errors
    /// As [`Postgres::call`].
    pub async fn history(&self, namespace: &str, key: &str, limit: u32) -> Result<Vec<Revision>> {
        let limit = i64::from(limit.min(HISTORY_MAX));
        self.postgres
            .call("read a setting's history", async |client| {
                let statement = client.prepare_cached(HISTORY).await?;
                client.query(&statement, &[&namespace, &key, &limit]).await?.iter().map(revision).collect()
            })
            .await
    }

    /// Brings back the value that revision `to` made, as a new revision.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no such revision; else as [`Settings::set`], [`Error::Conflict`] too.
    pub async fn roll_back(&self, namespace: &str, key: &str, to: i64, change: Change<'_>) -> Result<Setting<Value>> {
        let value = self.at(namespace, key, to).await?.after;
        self.set(namespace, key, &value, change).await
    }

    /// One revision of the past.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no such revision; else as [`Postgres::call`].
    pub async fn at(&self, namespace: &str, key: &str, number: i64) -> Result<Revision> {
        let found = self
            .postgres
            .call("read a setting's history", async |client| {
                let statement = client.prepare_cached(AT).await?;
                let row = client.query_opt(&statement, &[&namespace, &key, &number]).await?;
                row.as_ref().map(revision).transpose()
            })
            .await?;
        found.ok_or_else(|| Error::invalid(format!("setting {namespace}/{key}"), format!("has no revision {number}")))
    }

    async fn get_value(&self, namespace: &str, key: &str) -> Result<Option<Setting<Value>>> {
        self.postgres
            .call("read setting", async |client| {
                let statement = client.prepare_cached(GET).await?;
                client.query_opt(&statement, &[&namespace, &key]).await?.as_ref().map(setting).transpose()
            })
            .await
    }
}

/// True where the current value is what this very change would have made: it did, and its answer was lost.
fn is_own_write(current: &Setting<Value>, value: &Value, change: Change<'_>) -> bool {
    let follows = change.expected.is_none_or(|r| r.checked_add(1) == Some(current.revision));
    follows && current.value == *value && current.changed_by == change.who && current.reason == change.why
}

fn typed<T: DeserializeOwned>(setting: Setting<Value>) -> Result<Setting<T>> {
    let Setting { namespace, key, value, revision, changed_by, reason, changed_at } = setting;
    let value = serde_json::from_value(value).map_err(|e| {
        Error::invalid(format!("setting {namespace}/{key}"), format!("revision {revision} cannot be read: {e}"))
    })?;
    Ok(Setting { namespace, key, value, revision, changed_by, reason, changed_at })
}

fn setting(row: &Row) -> Result<Setting<Value>, Failure> {
    Ok(Setting {
        namespace: row.try_get(0)?,
        key: row.try_get(1)?,
        value: row.try_get(2)?,
        revision: row.try_get(3)?,
        changed_by: row.try_get(4)?,
        reason: row.try_get(5)?,
        changed_at: timestamp(row.try_get(6)?)?,
    })
}

fn revision(row: &Row) -> Result<Revision, Failure> {
    Ok(Revision {
        revision: row.try_get(0)?,
        before: row.try_get(1)?,
        after: row.try_get(2)?,
        changed_by: row.try_get(3)?,
        login: row.try_get(4)?,
        reason: row.try_get(5)?,
        changed_at: timestamp(row.try_get(6)?)?,
    })
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}
