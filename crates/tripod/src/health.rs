//! Health: each component says how it is and by when it will say so again.
//!
//! Constraints: a dead component cannot say that it is dead, so whether one is stale is computed by the reader, from
//! the server's clock alone; no two clocks are ever compared. That clock may go back, too: a heartbeat that is from the
//! future by more than its deadline proves nothing, and counts as overdue until the next. A heartbeat is one small update
//! that touches no index. Changes of status are kept by the server itself, in one partition per day; whoever sends
//! heartbeats also sees now and then that the days ahead are there and the old ones go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::postgres::{Failure, Postgres, timestamp};
use crate::value::Timestamp;

/// Bytes of a heartbeat's details as JSON at most.
const DETAILS_BYTES_MAX: usize = 16 * 1024;
/// Components that one question answers at most.
const COMPONENTS_MAX: i64 = 10_000;
/// Changes that one question answers at most.
const CHANGES_MAX: u32 = 10_000;
/// Between two looks at the days: they are made a week ahead.
const KEEP_DAYS_EVERY: Duration = Duration::from_secs(6 * 3_600);

const HEARTBEAT: &str = "
INSERT INTO tripod.health AS h (component, status, details, deadline_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (component) DO UPDATE SET
    status = excluded.status, details = excluded.details, deadline_ms = excluded.deadline_ms,
    heartbeat_at = excluded.heartbeat_at,
    since = CASE WHEN h.status = excluded.status THEN h.since ELSE excluded.since END";
const LIST: &str = "
SELECT component, status, details, deadline_ms, heartbeat_at, since,
       (extract(epoch FROM clock_timestamp() - heartbeat_at) * 1000)::bigint
FROM tripod.health ORDER BY component LIMIT $1";
const CHANGES: &str = "
SELECT component, before, after, details, changed_at FROM tripod.health_changes
WHERE $1::text IS NULL OR component = $1 ORDER BY id DESC LIMIT $2";
pub(crate) const KEEP_DAYS: &str = "SELECT made, dropped FROM tripod.keep_health_days()";

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
    #[serde(rename = "deadline_ms", serialize_with = "as_ms")]
    pub deadline: Duration,
    /// Age of its last heartbeat when this was read, by the server's clock.
    #[serde(rename = "age_ms", serialize_with = "as_ms")]
    pub age: Duration,
    /// How far its last heartbeat is in the future, by the server's clock: that went back since. Zero is usual.
    #[serde(rename = "ahead_ms", serialize_with = "as_ms")]
    pub ahead: Duration,
    /// Its last heartbeat.
    #[serde(serialize_with = "as_text")]
    pub heartbeat_at: Timestamp,
    /// Since when its status is what it is.
    #[serde(serialize_with = "as_text")]
    pub since: Timestamp,
}

impl Component {
    /// True where the heartbeat is overdue, or from the future by more than its deadline: what it said last is then no
    /// longer known to be so.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.status != Status::Stopped && (self.age > self.deadline || self.ahead > self.deadline)
    }
}

/// One change of status.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StatusChange {
    /// The component.
    pub component: String,
    /// What it was; none for its first heartbeat.
    pub before: Option<Status>,
    /// What it became.
    pub after: Status,
    /// What it said with it.
    pub details: Value,
    /// When, by the server's clock.
    #[serde(serialize_with = "as_text")]
    pub changed_at: Timestamp,
}

/// The store; a cheap handle.
#[derive(Debug, Clone)]
pub struct Health {
    postgres: Postgres,
    /// When this handle last looked at the days.
    days_kept: Arc<Mutex<Option<Instant>>>,
}

impl Health {
    /// A handle on the health records behind `postgres`.
    #[must_use]
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres, days_kept: Arc::default() }
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
            .await?;
        if self.days_are_due() {
            // Beside the heartbeat, which waits for nothing; it ends within a call's deadline.
            let health = self.clone();
            tokio::spawn(async move {
                if let Err(error) = health.keep_days().await {
                    tracing::debug!(%error, "days of health were not kept; the default partition takes what comes");
                }
            });
        }
        Ok(())
    }

    fn days_are_due(&self) -> bool {
        let mut kept = self.days_kept.lock().unwrap_or_else(PoisonError::into_inner);
        let due = kept.is_none_or(|at| at.elapsed() >= KEEP_DAYS_EVERY);
        if due {
            *kept = Some(Instant::now());
        }
        due
    }

    /// Makes the partitions of today and a week ahead and drops those older than the setting `health/keep_days` (90
    /// where it is not set). [`Health::heartbeat`] and `tripod migrate` do it by themselves. Gives how many days were
    /// made and dropped. Safe to repeat; one at a time does it, another finds nothing to do.
    ///
    /// # Errors
    /// As [`Postgres::call`]; [`Error::Busy`] where readers of the changes held them for a quarter of a second.
    pub async fn keep_days(&self) -> Result<(u32, u32)> {
        self.postgres
            .call("keep the days of health", async |client| {
                let statement = client.prepare_cached(KEEP_DAYS).await?;
                let row = client.query_one(&statement, &[]).await?;
                let count = |column| -> Result<u32, Failure> {
                    Ok(u32::try_from(row.try_get::<_, i32>(column)?).unwrap_or_default())
                };
                Ok((count(0)?, count(1)?))
            })
            .await
    }

    /// The last changes of status, newest first, of one component or of all; at most 10,000.
    ///
    /// # Errors
    /// As [`Postgres::call`].
    pub async fn changes(&self, component: Option<&str>, limit: u32) -> Result<Vec<StatusChange>> {
        let limit = i64::from(limit.min(CHANGES_MAX));
        self.postgres
            .call("read changes of health", async |client| {
                let statement = client.prepare_cached(CHANGES).await?;
                client.query(&statement, &[&component, &limit]).await?.iter().map(change).collect()
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

fn change(row: &tokio_postgres::Row) -> Result<StatusChange, Failure> {
    let before: Option<&str> = row.try_get(1)?;
    Ok(StatusChange {
        component: row.try_get(0)?,
        before: before.map(Status::parse).transpose()?,
        after: Status::parse(row.try_get(2)?)?,
        details: row.try_get(3)?,
        changed_at: timestamp(row.try_get(4)?)?,
    })
}

fn component(row: &tokio_postgres::Row) -> Result<Component, Failure> {
    let (deadline, age): (i64, i64) = (row.try_get(3)?, row.try_get(6)?);
    let milliseconds = |count: i64| Duration::from_millis(u64::try_from(count).unwrap_or(0));
    Ok(Component {
        name: row.try_get(0)?,
        status: Status::parse(row.try_get(1)?)?,
        details: row.try_get(2)?,
        deadline: milliseconds(deadline),
        age: milliseconds(age),
        ahead: milliseconds(age.saturating_neg()),
        heartbeat_at: timestamp(row.try_get(4)?)?,
        since: timestamp(row.try_get(5)?)?,
    })
}

/// Whole milliseconds.
pub(crate) fn as_ms<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_is_what_is_overdue_and_did_not_say_goodbye() {
        let component = |status, age_ms: i64| Component {
            name: "bot".into(),
            status,
            details: Value::Null,
            deadline: Duration::from_millis(100),
            age: Duration::from_millis(age_ms.max(0).unsigned_abs()),
            ahead: Duration::from_millis(age_ms.min(0).unsigned_abs()),
            heartbeat_at: Timestamp::now(),
            since: Timestamp::now(),
        };
        assert!(!component(Status::Ok, 100).is_stale());
        assert!(component(Status::Ok, 101).is_stale());
        assert!(component(Status::Failed, 101).is_stale());
        assert!(!component(Status::Stopped, 1_000_000).is_stale());
        assert!(!component(Status::Ok, -100).is_stale(), "clocks of two servers differ by that much");
        assert!(component(Status::Ok, -101).is_stale(), "the clock went back; nobody knows how old this is");
    }
}
