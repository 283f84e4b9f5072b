//! Which bot runs which revisions: what bots that watch a namespace say of themselves, beside what stands.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::watch::RefusedSetting;
use super::{Settings, as_text};
use crate::error::{Error, Result};
use crate::postgres::{Failure, timestamp};
use crate::value::Timestamp;

/// Bots that one question answers at most.
const BOTS_MAX: i64 = 10_000;

const APPLIED: &str = "
SELECT a.bot, a.namespace, a.revisions, a.refused, a.applied_at, a.deadline_ms,
       greatest(0, extract(epoch FROM clock_timestamp() - a.seen_at) * 1000)::bigint,
       coalesce((SELECT jsonb_object_agg(s.key, s.revision) FROM tripod.settings AS s WHERE s.namespace = a.namespace),
                '{}')
FROM tripod.settings_applied AS a ORDER BY a.namespace, a.bot LIMIT $1";

/// What one bot runs of one namespace.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AppliedSettings {
    /// The bot.
    pub bot: String,
    /// The namespace.
    pub namespace: String,
    /// The revision of each key that it runs.
    pub revisions: BTreeMap<String, i64>,
    /// What it could not read.
    pub refused: Vec<RefusedSetting>,
    /// Keys of which another revision stands now.
    pub behind: Vec<String>,
    /// When it took its last change, by the server's clock.
    #[serde(serialize_with = "as_text")]
    pub applied_at: Timestamp,
    /// How long it has said nothing.
    #[serde(rename = "age_ms", serialize_with = "crate::health::as_ms")]
    pub age: Duration,
    /// It says something at least this often.
    #[serde(rename = "deadline_ms", serialize_with = "crate::health::as_ms")]
    pub deadline: Duration,
}

impl AppliedSettings {
    /// True where it has not said anything for so long that it is taken for gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.age > self.deadline
    }
}

impl Settings {
    /// What each bot runs that watches a namespace; at most 10,000.
    ///
    /// # Errors
    /// As [`Postgres::call`](crate::postgres::Postgres::call).
    pub async fn applied(&self) -> Result<Vec<AppliedSettings>> {
        self.postgres
            .call("read which settings run", async |client| {
                let statement = client.prepare_cached(APPLIED).await?;
                client.query(&statement, &[&BOTS_MAX]).await?.iter().map(applied).collect()
            })
            .await
    }
}

fn applied(row: &Row) -> Result<AppliedSettings, Failure> {
    let revisions: BTreeMap<String, i64> = from_json("revisions", row.try_get(2)?)?;
    let standing: BTreeMap<String, i64> = from_json("settings", row.try_get(7)?)?;
    let keys: std::collections::BTreeSet<&String> = revisions.keys().chain(standing.keys()).collect();
    let behind = keys.into_iter().filter(|key| revisions.get(*key) != standing.get(*key)).cloned().collect();
    let milliseconds = |column: usize| -> Result<Duration, Failure> {
        Ok(Duration::from_millis(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0)))
    };
    Ok(AppliedSettings {
        bot: row.try_get(0)?,
        namespace: row.try_get(1)?,
        behind,
        revisions,
        refused: from_json("refused", row.try_get(3)?)?,
        applied_at: timestamp(row.try_get(4)?)?,
        deadline: milliseconds(5)?,
        age: milliseconds(6)?,
    })
}

fn from_json<T: serde::de::DeserializeOwned>(column: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| Error::invalid(format!("settings_applied.{column}"), e.to_string()))
}
