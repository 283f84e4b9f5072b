//! The raw client with a drill's rows: `questdb-rs` as its documentation shows it, nothing retried, nothing kept.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use questdb::ingress::{Buffer, ColumnName, Sender, TableName, TimestampNanos};
use serde_json::Value;
use tripod::Decimal;
use tripod::tape::Row as _;
use tripod::tape::questdb::QuestDbHttp;

use super::row::{DrillRow, Place, Recipe};
use super::scene::Scene;
use super::server::pause;

/// Enough for a few seconds.
const ROWS: u64 = 400_000;
const STATEMENT_WITHIN: Duration = Duration::from_secs(30);
const VISIBLE_WITHIN: Duration = Duration::from_secs(120);
const COUNT_EVERY: Duration = Duration::from_millis(5);

/// Rows a second until all are visible in a table of the same columns, keys and time to live; it is removed again.
pub(super) fn rows_per_second(scene: &Scene, table: &str) -> anyhow::Result<u64> {
    let server = scene.config.questdb.first().context("the config names no QuestDB")?;
    let http = QuestDbHttp::new(server, STATEMENT_WITHIN)?;
    let remove = || http.exec(&format!("DROP TABLE IF EXISTS \"{table}\""));
    remove()?;
    let spec = DrillRow::spec();
    let prefix = table.strip_suffix(&*spec.name).context("the raw table is not named as a table of drills")?;
    http.exec(&spec.ddl(prefix))?;
    let limits = &scene.config.tape;
    let timeout = Duration::from_millis(limits.request_timeout_ms);
    let mut sender = QuestDbHttp::sender_conf(server, timeout)?.build().context("the raw client cannot connect")?;
    // Made beforehand: what is measured is the client.
    let rows = rows(scene.recipe)?;
    let started = Instant::now();
    send(&mut sender, table, &rows, (limits.flush_rows.max(1), limits.flush_kib.saturating_mul(1024)))?;
    let end = Instant::now() + VISIBLE_WITHIN;
    loop {
        let answer = http.exec(&format!("SELECT count() FROM \"{table}\""))?.rows;
        if answer.first().and_then(|row| row.first()).and_then(Value::as_u64) >= Some(ROWS) {
            break;
        }
        ensure!(Instant::now() < end, "the raw client's rows are not visible after {VISIBLE_WITHIN:?}");
        pause(COUNT_EVERY);
    }
    let took_ms = started.elapsed().as_millis().max(1);
    remove()?;
    Ok(u64::try_from(u128::from(ROWS) * 1000 / took_ms)?)
}

fn rows(recipe: Recipe) -> tripod::Result<Vec<DrillRow<'static>>> {
    (0..ROWS).map(|number| recipe.row(Place { thread: 0, number })).collect()
}

fn send(
    sender: &mut Sender,
    table: &str,
    rows: &[DrillRow<'_>],
    (rows_max, bytes_max): (usize, usize),
) -> anyhow::Result<()> {
    let mut buffer = sender.new_buffer();
    for row in rows {
        encode(&mut buffer, table, row).context("the raw client refuses a row")?;
        if buffer.row_count() >= rows_max || buffer.len() >= bytes_max {
            sender.flush(&mut buffer).context("the raw client's request failed")?;
        }
    }
    if !buffer.is_empty() {
        sender.flush(&mut buffer).context("the raw client's request failed")?;
    }
    Ok(())
}

fn encode(buffer: &mut Buffer, table: &str, row: &DrillRow<'_>) -> questdb::Result<()> {
    let name = ColumnName::new_unchecked;
    buffer
        .table(TableName::new_unchecked(table))?
        .symbol(name("worker"), row.worker)?
        .symbol(name("token"), row.token.as_str())?
        .column_str(name("id"), row.id.to_string())?
        .column_i64(name("number"), row.number)?
        .column_dec(name("amount"), &Decimal::from(row.amount))?
        .column_dec(name("price"), &row.price)?
        .column_f64(name("ratio"), row.ratio)?
        .column_bool(name("flag"), row.flag)?;
    if let Some(at) = row.seen_at {
        buffer.column_ts(name("seen_at"), TimestampNanos::new(at.as_nanos()))?;
    }
    if let Some(note) = row.note {
        buffer.column_str(name("note"), note)?;
    }
    buffer.at(TimestampNanos::new(row.at.as_nanos()))
}
