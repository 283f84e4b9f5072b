//! Health: each component says how it is and by when it will say so again.
//!
//! Constraints: a dead component cannot say that it is dead, so whether one is stale is computed by the reader, from
//! the server's clock alone; no two clocks are ever compared. A heartbeat is one small update that touches no index.
//! Changes of status are kept by the server itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::postgres::{Failure, Postgres, timestamp};
use crate::value::Timestamp;

/// Bytes of a heartbeat's details as JSON at most.
const DETAILS_BYTES_MAX: usize = 16 * 1024;
/// Components that one question answers at most.
const COMPONENTS_MAX: i64 = 10_000;

const HEARTBEAT: &str = "
INSERT INTO tripod.health AS h (component, status, details, deadline_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (component) DO UPDATE SET
    status = excluded.status, details = excluded.details, deadline_ms = excluded.deadline_ms,
    heartbeat_at = excluded.heartbeat_at,
    since = CASE WHEN h.status = excluded.status THEN h.since ELSE excluded.since END";
const LIST: &str = "
SELECT component, status, details, deadline_ms, heartbeat_at, since,
       greatest(0, extract(epoch FROM clock_timestamp() - heartbeat_at) * 1000)::bigint
FROM tripod.health ORDER BY component LIMIT $1";

/// How a component says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, with something missing.
    Degraded,
    /// Does not work.
    Failed,
    /// Ended on purpose; owes no further heartbeat.
    Stopped,
}

impl Status {
    /// The status in the store and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        match text {
            "ok" => Ok(Self::Ok),
            "degraded" => Ok(Self::Degraded),
            "failed" => Ok(Self::Failed),
            "stopped" => Ok(Self::Stopped),
            other => Err(Error::invalid("health.status", format!("`{other}` is unknown; upgrade this program"))),
        }
    }
}

/// One component as the reader sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Component {
    /// Its name: `bot-1/sink-main`.
    pub name: String,
    /// What it said last.
    pub status: Status,
    /// What it said with it.
    pub details: Value,
    /// It promised a heartbeat at least this often.
    pub deadline: Duration,
    /// Age of its last heartbeat when this was read, by the server's clock.
    pub age: Duration,
    /// Its last heartbeat.
    #[serde(serialize_with = "as_text")]
    pub heartbeat_at: Timestamp,
    /// Since when its status is what it is.
    #[serde(serialize_with = "as_text")]
    pub since: Timestamp,
}

impl Component {
    /// True where the heartbeat is overdue: what it said last is then no longer known to be so.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.status != Status::Stopped && self.age > self.deadline
    }
}

/// The store; a cheap handle.
#[derive(Debug, Clone)]
pub struct Health {
    postgres: Postgres,
}

impl Health {
    /// A handle on the health records behind `postgres`.
    #[must_use]
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    /// Says how `component` is, and that it will say so again within `deadline`. When it returns Ok, readers see it,
    /// and a changed status is in the record of changes. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::Invalid`] for details beyond 16 KiB or a deadline under 1 ms; [`Error::Refused`] with 23514 for a name
    /// that is not 1 to 64 of `a-z 0-9 _ . / -`; else as [`Postgres::call`].
    pub async fn heartbeat(&self, component: &str, status: Status, details: &Value, deadline: Duration) -> Result<()> {
        let bytes = details.to_string().len();
        if bytes > DETAILS_BYTES_MAX {
            let why = format!("{bytes} bytes; at most {DETAILS_BYTES_MAX}");
            return Err(Error::invalid(format!("details of {component}"), why));
        }
        let deadline_ms = i64::try_from(deadline.as_millis())
            .ok()
            .filter(|ms| *ms > 0)
            .ok_or_else(|| Error::invalid(format!("deadline of {component}"), "is not at least 1 ms"))?;
        self.postgres
            .call("write heartbeat", async |client| {
                let statement = client.prepare_cached(HEARTBEAT).await?;
                client.execute(&statement, &[&component, &status.as_str(), details, &deadline_ms]).await?;
                Ok(())
            })
            .await
    }

    /// Every component, by name, with the age of its last heartbeat. At most 10,000.
    ///
    /// # Errors
    /// As [`Postgres::call`].
    pub async fn list(&self) -> Result<Vec<Component>> {
        self.postgres
            .call("read health", async |client| {
                let statement = client.prepare_cached(LIST).await?;
                client.query(&statement, &[&COMPONENTS_MAX]).await?.iter().map(component).collect()
            })
            .await
    }
}

fn component(row: &tokio_postgres::Row) -> Result<Component, Failure> {
    let milliseconds = |column: usize| -> Result<Duration, Failure> {
        Ok(Duration::from_millis(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0)))
    };
    Ok(Component {
        name: row.try_get(0)?,
        status: Status::parse(row.try_get(1)?)?,
        details: row.try_get(2)?,
        deadline: milliseconds(3)?,
        age: milliseconds(6)?,
        heartbeat_at: timestamp(row.try_get(4)?)?,
        since: timestamp(row.try_get(5)?)?,
    })
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_is_what_is_overdue_and_did_not_say_goodbye() {
        let component = |status, age_ms| Component {
            name: "bot".into(),
            status,
            details: Value::Null,
            deadline: Duration::from_millis(100),
            age: Duration::from_millis(age_ms),
            heartbeat_at: Timestamp::now(),
            since: Timestamp::now(),
        };
        assert!(!component(Status::Ok, 100).is_stale());
        assert!(component(Status::Ok, 101).is_stale());
        assert!(component(Status::Failed, 101).is_stale());
        assert!(!component(Status::Stopped, 1_000_000).is_stale());
    }
}
