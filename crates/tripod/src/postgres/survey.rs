//! How a PostgreSQL server is, each second, for screens and alerts: its clock, its archive, its standbys.
//!
//! Constraints: one prepared statement a look; every fifth asks for the standbys, too. It changes nothing. Standbys are
//! seen whole by the operator's login only.

use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::{Failure, Postgres, timestamp};
use crate::audit::skew;
use crate::error::Result;
use crate::value::Timestamp;

/// Of so many looks one asks for the standbys.
const ALL_EVERY: u32 = 5;

const STATE: &str = "
SELECT clock_timestamp(), current_setting('server_version'),
       coalesce(last_failed_time > last_archived_time, last_failed_time IS NOT NULL),
       failed_count, coalesce(last_failed_wal, '')
FROM pg_catalog.pg_stat_archiver";

const STANDBYS: &str = "
SELECT coalesce(nullif(application_name, ''), 'standby'), coalesce(host(client_addr), 'socket'),
       coalesce(state, 'unknown'), coalesce(sync_state, 'unknown'),
       (extract(epoch FROM coalesce(replay_lag, interval '0')) * 1000)::bigint
FROM pg_catalog.pg_stat_replication
WHERE application_name <> 'pg_basebackup' AND state IS DISTINCT FROM 'backup' ORDER BY 1, 2";

/// A standby as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standby {
    /// The name that it connects with.
    pub name: String,
    /// Where it connects from.
    pub address: String,
    /// `streaming`, or what it does to become that, in the server's own words.
    pub state: String,
    /// `sync` or `async`, in the server's own words.
    pub sync: String,
    /// How far it is behind in what it has applied; none where this login may not see it.
    pub lag: Option<Duration>,
}

/// What one look found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PostgresLook {
    /// The server's version, as in `15.14`.
    pub version: String,
    /// How long the answer took.
    pub took: Duration,
    /// How far its clock is from this machine's, either way.
    pub clock_skew: Duration,
    /// The last try to archive a file of the log failed: which file, and how many tries did in all.
    pub archive_failing: Option<(String, u64)>,
    /// Its standbys; as old as a look at all there is.
    pub standbys: Vec<Standby>,
}

/// What is known from look to look.
#[derive(Debug)]
pub struct PostgresSurvey {
    postgres: Postgres,
    looks: u32,
    standbys: Vec<Standby>,
}

impl PostgresSurvey {
    /// Of one pool; nothing is asked yet. Its deadline is each look's.
    #[must_use]
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres, looks: 0, standbys: Vec::new() }
    }

    /// Looks once.
    ///
    /// # Errors
    /// As [`Postgres::call`]; after one, everything is asked again.
    pub async fn look(&mut self) -> Result<PostgresLook> {
        let all = self.looks.is_multiple_of(ALL_EVERY);
        let looked = self
            .postgres
            .call("look at the server", async |client| {
                // Prepared before the clock is looked at: that is a round trip of its own, the first time.
                let statement = client.prepare_cached(STATE).await?;
                let (start, asked_at) = (Instant::now(), Timestamp::now());
                let row = client.query_one(&statement, &[]).await?;
                let took = start.elapsed();
                let clock_skew = skew(asked_at, timestamp(row.try_get(0)?)?, Timestamp::now());
                let standbys = if all { Some(standbys(client).await?) } else { None };
                Ok((state(&row, took, clock_skew)?, standbys))
            })
            .await;
        self.looks = if looked.is_ok() { self.looks.wrapping_add(1) } else { 0 };
        let (mut look, standbys) = looked?;
        if let Some(standbys) = standbys {
            self.standbys = standbys;
        }
        look.standbys.clone_from(&self.standbys);
        Ok(look)
    }
}

fn state(row: &Row, took: Duration, clock_skew: Duration) -> Result<PostgresLook, Failure> {
    let version: &str = row.try_get(1)?;
    let failing: bool = row.try_get(2)?;
    let times = u64::try_from(row.try_get::<_, i64>(3)?).unwrap_or(0);
    Ok(PostgresLook {
        // "15.14 (Debian 15.14-0+deb12u1)"
        version: version.split(' ').next().unwrap_or_default().to_owned(),
        took,
        clock_skew,
        archive_failing: failing.then_some((row.try_get(4)?, times)),
        standbys: Vec::new(),
    })
}

async fn standbys(client: &super::Client) -> Result<Vec<Standby>, Failure> {
    let statement = client.prepare_cached(STANDBYS).await?;
    let rows = client.query(&statement, &[]).await?;
    rows.iter()
        .map(|row| {
            let state: String = row.try_get(2)?;
            let lag = u64::try_from(row.try_get::<_, i64>(4)?).unwrap_or(0);
            Ok(Standby {
                name: row.try_get(0)?,
                address: row.try_get(1)?,
                // A login without the right sees neither state nor lag.
                lag: (state != "unknown").then_some(Duration::from_millis(lag)),
                state,
                sync: row.try_get(3)?,
            })
        })
        .collect()
}
