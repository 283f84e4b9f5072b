//! PostgreSQL's tables as they are at a restore point: their counts, and a sum of what is in them.
//!
//! Constraints: the counts are those of the point, and nobody is locked out for them. A snapshot is taken, the point is
//! written, and the server is asked which transactions have ended meanwhile: where none has, what the snapshot sees is
//! what the point has. Else it is tried again with another point; the last one counts.

use std::time::Duration;

use tripod::postgres::{Client, Failure};

use super::manifest::Relation;
use super::postgres::{PgPlace, RestorePoint, restore_point};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Every row is read once and hashed by the server: a million tokens take some seconds.
const COUNTED_WITHIN: Duration = Duration::from_mins(15);
/// Somebody writes in the very millisecond of the point so often at most, before it is taken as it is.
const TRIES_MAX: u32 = 20;

/// What the texts of values depend on.
const PLAIN: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
                     SET extra_float_digits = 1; SET bytea_output = 'hex'";

/// A restore point, and what the tables had at it.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) point: RestorePoint,
    /// Whether no transaction ended between the point and the counts.
    pub(super) exact: bool,
    pub(super) tables: Vec<Relation>,
}

/// Writes the barrier; when this returns it is committed, so a later restore point has it.
pub(super) fn write_barrier(place: &PgPlace, id: &str, barrier: &str) -> anyhow::Result<()> {
    place.ask("write the barrier", ANSWER_WITHIN, async |client| {
        client
            .batch_execute(
                "CREATE SCHEMA IF NOT EXISTS tripod_backup;
                 CREATE TABLE IF NOT EXISTS tripod_backup.barriers
                     (id text PRIMARY KEY, barrier text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())",
            )
            .await?;
        let sql = "INSERT INTO tripod_backup.barriers (id, barrier) VALUES ($1, $2)";
        client.execute(sql, &[&id, &barrier]).await?;
        Ok(())
    })
}

/// Whether the barrier is there.
pub(super) fn has_barrier(place: &PgPlace, barrier: &str) -> anyhow::Result<bool> {
    place.ask("look for the barrier", ANSWER_WITHIN, async |client| {
        let there: bool =
            client.query_one("SELECT to_regclass('tripod_backup.barriers') IS NOT NULL", &[]).await?.try_get(0)?;
        if !there {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT FROM tripod_backup.barriers WHERE barrier = $1)";
        Ok(client.query_one(sql, &[&barrier]).await?.try_get(0)?)
    })
}

/// Writes a restore point for the backup `id`. `taken` is called as soon as it is written; the counts come after it.
pub(super) fn take_point(place: &PgPlace, id: &str, taken: impl FnOnce() + Send) -> anyhow::Result<Point> {
    let (mut failed, mut taken) = (None, Some(taken));
    let point = place.ask("count at a restore point", COUNTED_WITHIN, async |client| {
        client.batch_execute(PLAIN).await?;
        let mut tries = 0;
        let (point, exact) = loop {
            tries += 1;
            client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let before = snapshot(client, "SELECT pg_current_snapshot()::text").await?;
            // On a connection of its own, while this one keeps its snapshot.
            let point = match restore_point(place, &format!("tripod-{id}-{tries}")) {
                Ok(point) => point,
                Err(error) => {
                    failed = Some(error);
                    client.batch_execute("ROLLBACK").await?;
                    return Ok(None);
                }
            };
            let after = later_snapshot(place);
            let exact = after.is_some_and(|after| after == before);
            if exact || tries >= TRIES_MAX {
                break (point, exact);
            }
            client.batch_execute("ROLLBACK").await?;
        };
        if let Some(taken) = taken.take() {
            taken();
        }
        let tables = count(client).await?;
        client.batch_execute("COMMIT").await?;
        Ok(Some(Point { point, exact, tables }))
    })?;
    match (point, failed) {
        (Some(point), _) => Ok(point),
        (None, Some(error)) => Err(error),
        (None, None) => anyhow::bail!("PostgreSQL gave no restore point"),
    }
}

async fn snapshot(client: &Client, sql: &str) -> Result<String, Failure> {
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// What another session sees now; none where it cannot be asked.
fn later_snapshot(place: &PgPlace) -> Option<String> {
    let sql = "SELECT pg_current_snapshot()::text";
    place.ask("ask which transactions ended", ANSWER_WITHIN, async |client| snapshot(client, sql).await).ok()
}

/// What the tables have now.
pub(super) fn look(place: &PgPlace) -> anyhow::Result<Vec<Relation>> {
    place.ask("count every table", COUNTED_WITHIN, async |client| {
        client.batch_execute(PLAIN).await?;
        count(client).await
    })
}

async fn count(client: &Client) -> Result<Vec<Relation>, Failure> {
    // Unlogged tables are empty after any recovery.
    let names = client
        .query(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class AS c
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND c.relpersistence = 'p'
               AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1",
            &[],
        )
        .await?;
    let mut tables = Vec::new();
    for row in names {
        let name: String = row.try_get(0)?;
        // A sum of hashes: the same rows in any order, and no other rows but by a chance of one in 2^64.
        let sql =
            format!("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {name} AS t");
        let found = client.query_one(&sql, &[]).await?;
        let rows: i64 = found.try_get(0)?;
        tables.push(Relation { name, rows: u64::try_from(rows).unwrap_or(0), sum: found.try_get(1)? });
    }
    Ok(tables)
}
