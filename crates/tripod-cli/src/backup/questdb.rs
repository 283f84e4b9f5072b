//! QuestDB's part: a checkpoint, the files below it, and what the live server says of its tables.
//!
//! Constraints: a checkpoint keeps every file that its tables need, while the server goes on writing; left open, its disk
//! fills with what is not cleaned up any more. So it is noted before it is opened, and released in every outcome; whoever finds
//! a note and nobody at work releases it. A checkpoint without a note is somebody else's and is left alone. The server's
//! config files, which hold its passwords, are not copied.
//!
//! Picture: what is copied
//! ```text
//! ROOT/.checkpoint/db/TABLE/…    tables as they were at the checkpoint: meta, txn, the sequencer's newest transaction
//! ROOT/db/TABLE/…                columns and log, of the tables that the checkpoint has; what is newer is cut off at the start
//! ROOT/db/…                      the list of tables
//! ```
//! Operation: count and span → barrier → CHECKPOINT CREATE → copy → RELEASE → read the spans whose count has not moved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::retention::{Checksum, ExactColumn, ExactKind, columns_of, days_of, read_span};
use tripod::tape::schema::{self, LiveTable};
use tripod::{Error, Timestamp};

use super::files::{Found, Source, sync_dir, write_synced};
use super::manifest::{Span, Table, Tape};
use super::store::Store;
use super::{Part, Shown, pause};
use crate::exit::Stop;

/// Where barriers are written.
const BARRIERS: &str = "tripod_backups";
/// Rows younger than this may still be on their way in: they are a span of their own.
const ON_THE_WAY: Duration = Duration::from_secs(5);
/// For a row to be visible, and for a table to apply what it was given.
const APPLIED_WITHIN: Duration = Duration::from_secs(60);
/// For a checkpoint to be released: one that is still being made cannot be.
const RELEASED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a table had before the checkpoint.
#[derive(Debug)]
pub(super) struct Before {
    tables: BTreeMap<String, TableBefore>,
    views: Vec<String>,
    /// Rows before this are no longer on their way.
    until: Timestamp,
}

#[derive(Debug)]
struct TableBefore {
    id: i64,
    directory: String,
    rows: u64,
    /// What can be compared by value; none where the table has a type that Tripod does not make.
    exact: Option<Exact>,
    /// From, to, rows.
    spans: Vec<(Timestamp, Timestamp, u64)>,
}

#[derive(Debug, Clone)]
struct Exact {
    designated: String,
    columns: Vec<ExactColumn>,
}

impl Exact {
    /// How a table is read row by row; none for one of another make.
    fn of(table: &LiveTable) -> Option<Self> {
        let designated = table.designated.clone()?;
        let columns = columns_of(table).ok().filter(|_| table.writable)?;
        let timestamp = columns.iter().find(|column| column.name == designated)?;
        (timestamp.kind == ExactKind::Timestamp).then_some(Self { designated, columns })
    }

    fn sum(&self, http: &QuestDbHttp, table: &str, from: Timestamp, to: Timestamp) -> tripod::Result<Checksum> {
        let mut sum = Checksum::default();
        read_span(http, table, &self.designated, &self.columns, (from, to), &mut |row| {
            sum.add(row);
            Ok(())
        })?;
        Ok(sum)
    }

    fn count(&self, http: &QuestDbHttp, table: &str, from: Timestamp, to: Timestamp) -> anyhow::Result<u64> {
        let at = &self.designated;
        number(http, &format!("SELECT count() FROM \"{table}\" WHERE \"{at}\" >= '{from}' AND \"{at}\" < '{to}'"))
    }
}

/// The tables and what they have, before the checkpoint.
pub(super) fn look(http: &QuestDbHttp) -> anyhow::Result<Before> {
    let until = Timestamp::now().checked_sub(ON_THE_WAY).unwrap_or(Timestamp::EPOCH);
    let live = schema::read_live(http)?;
    let numbers = numbers(http)?;
    let (mut tables, mut views) = (BTreeMap::new(), Vec::new());
    for (name, table) in live.0 {
        if !table.writable {
            views.push(name);
            continue;
        }
        // It moves by itself at each backup, and is looked at by itself after each restore.
        if name == BARRIERS {
            continue;
        }
        // Dropped since.
        let Some((id, directory)) = numbers.get(&name).cloned() else { continue };
        let exact = Exact::of(&table);
        let rows = number(http, &format!("SELECT count() FROM \"{name}\""))?;
        let mut spans = Vec::new();
        if let Some(exact) = &exact {
            let spans_of = match table.partition_by.as_str() {
                "DAY" | "HOUR" => days_of(http, &name)?.iter().map(|(day, _)| (day.begin(), day.end())).collect(),
                _ => vec![(Timestamp::EPOCH, end_of_time())],
            };
            for (begin, end) in spans_of {
                // What may still move stands apart, so that the rest of its day can be compared.
                let edge = until.clamp(begin, end);
                for (from, to) in [(begin, edge), (edge, end)].into_iter().filter(|(from, to)| from < to) {
                    spans.push((from, to, exact.count(http, &name, from, to)?));
                }
            }
        }
        tables.insert(name, TableBefore { id, directory, rows, exact, spans });
    }
    Ok(Before { tables, views, until })
}

/// Later than any row.
fn end_of_time() -> Timestamp {
    Timestamp::EPOCH.checked_add(Duration::from_hours(24 * 365 * 250)).unwrap_or(Timestamp::EPOCH)
}

/// The number and the directory of each table.
fn numbers(http: &QuestDbHttp) -> anyhow::Result<BTreeMap<String, (i64, String)>> {
    let listed = http.exec("SELECT table_name, id, directoryName FROM tables()")?;
    let one = |row: &Vec<Value>| {
        let [name, id, directory] = row.as_slice() else { return None };
        Some((name.as_str()?.to_owned(), (id.as_i64()?, directory.as_str()?.to_owned())))
    };
    listed.rows.iter().map(|row| one(row).context("QuestDB lists its tables in a way that is not known")).collect()
}

fn number(http: &QuestDbHttp, sql: &str) -> anyhow::Result<u64> {
    let rows = http.exec(sql)?.rows;
    let value = rows.first().and_then(|row| row.first()).and_then(Value::as_u64);
    value.with_context(|| format!("QuestDB answered `{sql}` with no number"))
}

/// Writes the barrier; when this returns it is visible, so a checkpoint has it.
pub(super) fn write_barrier(http: &QuestDbHttp, id: &str, barrier: &str) -> anyhow::Result<()> {
    http.exec(&format!(
        "CREATE TABLE IF NOT EXISTS {BARRIERS} (at TIMESTAMP_NS, id VARCHAR, barrier VARCHAR) TIMESTAMP(at) \
         PARTITION BY YEAR WAL DEDUP UPSERT KEYS(at, id)"
    ))?;
    let now = Timestamp::now();
    http.exec(&format!("INSERT INTO {BARRIERS} VALUES ('{now}', '{id}', '{barrier}')"))?;
    let end = Instant::now() + APPLIED_WITHIN;
    while !has_barrier(http, barrier)? {
        if Instant::now() >= end {
            let what = format!("a row that QuestDB took was not visible within {APPLIED_WITHIN:?}");
            return Err(Stop::untrue(what, "`tripod tape ls` shows suspended tables; `tripod doctor` says more").into());
        }
        pause(LOOK_EVERY);
    }
    Ok(())
}

/// Whether the barrier is there.
pub(super) fn has_barrier(http: &QuestDbHttp, barrier: &str) -> anyhow::Result<bool> {
    Ok(number(http, &format!("SELECT count() FROM {BARRIERS} WHERE barrier = '{barrier}'"))? > 0)
}

/// What stands in the note.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    backup: String,
    process: u32,
}

/// A checkpoint that is open. Dropping it releases it.
#[derive(Debug)]
pub(super) struct Checkpoint<'a> {
    http: &'a QuestDbHttp,
    store: &'a Store,
    open: bool,
}

impl<'a> Checkpoint<'a> {
    /// Opens one, for the backup `id`. Refused while one is open that no note of ours speaks of.
    pub(super) fn open(http: &'a QuestDbHttp, store: &'a Store, id: &str) -> anyhow::Result<Self> {
        if is_open(http)? {
            return Err(Stop::untrue(
                "a checkpoint is open on QuestDB, and no backup of this directory has opened it",
                "whoever copies the server's files ends it with CHECKPOINT RELEASE; if nobody does, do it yourself",
            )
            .into());
        }
        let note = Note { backup: id.to_owned(), process: std::process::id() };
        write_synced(&store.checkpoint_note(), &serde_json::to_vec(&note)?)?;
        sync_dir(store.dir())?;
        let checkpoint = Self { http, store, open: true };
        // Whatever the answer is, it may have been opened: dropped, this releases it.
        http.exec("CHECKPOINT CREATE").context("QuestDB made no checkpoint")?;
        Ok(checkpoint)
    }

    /// Releases it. When this returns none is open.
    pub(super) fn release(mut self) -> anyhow::Result<()> {
        self.open = false;
        release(self.http, self.store)
    }
}

impl Drop for Checkpoint<'_> {
    fn drop(&mut self) {
        if self.open
            && let Err(error) = release(self.http, self.store)
        {
            tracing::error!(%error, "the checkpoint is still open; the next `tripod backup` or `tripod up` releases it");
        }
    }
}

/// Releases the checkpoint that the note speaks of, where there is a note; says whether there was one.
pub(super) fn release_left(http: &QuestDbHttp, store: &Store) -> anyhow::Result<bool> {
    let there = store.checkpoint_note().exists();
    if there {
        release(http, store)?;
    }
    Ok(there)
}

fn release(http: &QuestDbHttp, store: &Store) -> anyhow::Result<()> {
    let end = Instant::now() + RELEASED_WITHIN;
    loop {
        match http.exec("CHECKPOINT RELEASE") {
            Ok(_) if !is_open(http)? => break,
            Ok(_) => {}
            // It is still being made, by a statement whose sender was killed.
            Err(Error::Refused { what, .. } | Error::Busy { what, .. }) if what.contains("in progress") => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= end {
            bail!("QuestDB has not released its checkpoint within {RELEASED_WITHIN:?}");
        }
        pause(LOOK_EVERY);
    }
    let note = store.checkpoint_note();
    std::fs::remove_file(&note).with_context(|| format!("cannot remove {}", note.display()))
}

/// Whether a checkpoint is open on the server.
pub(super) fn is_open(http: &QuestDbHttp) -> anyhow::Result<bool> {
    let answer = http.exec("SELECT in_progress FROM checkpoint_status()")?;
    let open = answer.rows.first().and_then(|row| row.first()).and_then(Value::as_bool);
    open.context("QuestDB does not say whether a checkpoint is open")
}

/// What the checkpoint's own files say.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) found: Found,
    /// When the newest table was taken down.
    pub(super) at: Timestamp,
    /// By directory: the newest transaction that is in it.
    txns: BTreeMap<String, i64>,
}

/// Lists what belongs to the open checkpoint of the server in `root`.
pub(super) fn list(root: &Path) -> anyhow::Result<Taken> {
    let part = Part::Questdb.as_str();
    let (mut found, mut txns) = (Found::default(), BTreeMap::new());
    let checkpoint = root.join(".checkpoint");
    found.dirs.push(part.to_owned());
    found.add(&checkpoint, &format!("{part}/.checkpoint"))?;
    let db = root.join("db");
    found.dirs.push(format!("{part}/db"));
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in entries(&checkpoint.join("db"))? {
        if !entry.is_dir() {
            continue;
        }
        let name = name_of(&entry)?;
        found.add(&db.join(&name), &format!("{part}/db/{name}"))?;
        if let Ok(taken) = std::fs::metadata(entry.join("_txn")).and_then(|meta| meta.modified()) {
            newest = newest.max(taken);
        }
        // The sequencer's newest transaction: eight bytes in this machine's order.
        let txn = std::fs::read(entry.join("txn_seq/_txn")).ok().and_then(|bytes| Some(*bytes.first_chunk::<8>()?));
        txns.extend(txn.map(|bytes| (name, i64::from_ne_bytes(bytes))));
    }
    for entry in entries(&db)?.into_iter().filter(|entry| entry.is_file()) {
        let name = name_of(&entry)?;
        found.files.push(Source { to: format!("{part}/db/{name}"), from: entry });
    }
    let at = newest.duration_since(SystemTime::UNIX_EPOCH).ok().and_then(|age| Timestamp::EPOCH.checked_add(age));
    let at = at.filter(|at| *at > Timestamp::EPOCH);
    let at = at.with_context(|| format!("{} holds no table; is that QuestDB's root?", checkpoint.display()))?;
    Ok(Taken { found, at, txns })
}

fn entries(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let paths = listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    paths.with_context(|| format!("cannot list {}", dir.display()))
}

fn name_of(path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(name.with_context(|| format!("{} has a name that is not UTF-8", path.display()))?.to_owned())
}

/// What the manifest says of the tables: read from the live server after the copy. A span whose rows are as many as
/// before is what the checkpoint has, and its sum is kept; sums that an earlier backup has of the same rows are taken
/// from there.
pub(super) fn facts(
    http: &QuestDbHttp,
    before: Before,
    taken: &Taken,
    vanished: u64,
    known: &[Table],
    shown: Shown<'_>,
) -> anyhow::Result<Tape> {
    let spans = before.tables.values().flat_map(|table| &table.spans).map(|(_, _, rows)| rows);
    shown.step("QuestDB: summing rows", Some(spans.sum()));
    let mut tables = Vec::new();
    for (name, table) in before.tables {
        let txn = taken.txns.get(&table.directory).copied();
        let mut spans = Vec::new();
        if let Some(exact) = &table.exact {
            let known = known.iter().find(|known| known.name == name && known.id == table.id);
            for (from, to, rows) in table.spans.iter().copied().filter(|(_, _, rows)| *rows > 0) {
                let whole_day = to < before.until;
                let same = |span: &&Span| whole_day && (span.from, span.to, span.rows) == (from, to, rows);
                if exact.count(http, &name, from, to)? != rows {
                    continue;
                }
                let checksum = match known.and_then(|known| known.spans.iter().find(same)) {
                    Some(span) => Some(span.checksum.clone()),
                    None => Some(exact.sum(http, &name, from, to)?).filter(|sum| sum.rows == rows).map(|sum| sum.hex()),
                };
                spans.extend(checksum.map(|checksum| Span { from, to, rows, checksum }));
                shown.add(rows);
            }
        }
        let rows_most = rows_when_applied(http, &name, txn)?;
        // Days that ended meanwhile went.
        let rows = rows_most.map_or(table.rows, |most| table.rows.min(most));
        tables.push(Table { name, id: table.id, txn, rows, rows_most, spans });
    }
    Ok(Tape { version: http.version()?, tables, views: before.views, vanished })
}

/// Rows when the table has applied `txn` at least; none where it does not.
fn rows_when_applied(http: &QuestDbHttp, table: &str, txn: Option<i64>) -> anyhow::Result<Option<u64>> {
    if let Some(txn) = txn {
        let end = Instant::now() + APPLIED_WITHIN;
        let sql = format!("SELECT writerTxn, suspended FROM wal_tables() WHERE name = '{table}'");
        loop {
            let answer = http.exec(&sql)?;
            let row = answer.rows.first();
            let applied = row.and_then(|row| row.first()).and_then(Value::as_i64);
            let suspended = row.and_then(|row| row.get(1)).and_then(Value::as_bool).unwrap_or(true);
            match applied {
                Some(applied) if applied >= txn => break,
                _ if suspended || Instant::now() >= end => return Ok(None),
                _ => pause(LOOK_EVERY),
            }
        }
    }
    number(http, &format!("SELECT count() FROM \"{table}\"")).map(Some)
}

/// A table after a restore.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// None where it is not there.
    pub(super) rows: Option<u64>,
    pub(super) compared: u64,
    pub(super) problems: Vec<String>,
}

/// Looks at a table on a restored server; compares its rows by value where `by_value`.
pub(super) fn examine(http: &QuestDbHttp, table: &Table, by_value: bool, shown: Shown<'_>) -> anyhow::Result<Restored> {
    let name = &table.name;
    let mut restored = Restored::default();
    let found = http.exec(&format!("SELECT sequencerTxn FROM wal_tables() WHERE name = '{name}'"))?;
    let txn = found.rows.first().and_then(|row| row.first()).and_then(Value::as_i64);
    restored.rows = match rows_when_applied(http, name, txn) {
        Ok(rows) => rows,
        Err(error) if is_missing(&error) => {
            restored.problems.push(format!("table {name} is not there"));
            return Ok(restored);
        }
        Err(error) => return Err(error),
    };
    let Some(rows) = restored.rows else {
        restored.problems.push(format!("table {name} does not apply its log: it is suspended, or too slow"));
        return Ok(restored);
    };
    if rows < table.rows || table.rows_most.is_some_and(|most| rows > most) {
        restored
            .problems
            .push(format!("table {name} has {rows} rows, and had {}", in_words(table.rows, table.rows_most)));
    }
    if txn != table.txn {
        let (txn, had) = (txn.unwrap_or(-1), table.txn.unwrap_or(-1));
        restored.problems.push(format!("table {name} is at transaction {txn}, and was at {had}"));
    }
    if !by_value {
        return Ok(restored);
    }
    let live = schema::read_live(http)?;
    let exact = live.0.get(name).and_then(Exact::of);
    for span in &table.spans {
        let sum = match &exact {
            Some(exact) => exact.sum(http, name, span.from, span.to)?,
            None => Checksum::default(),
        };
        shown.add(span.rows);
        if (sum.rows, sum.hex()) == (span.rows, span.checksum.clone()) {
            restored.compared += span.rows;
        } else {
            restored.problems.push(format!(
                "table {name} from {} to {}: {} rows whose values are not those of the {} that were backed up",
                span.from, span.to, sum.rows, span.rows
            ));
        }
    }
    Ok(restored)
}

/// `5`, or `5 to 7` where rows came in at the cut.
pub(super) fn in_words(rows: u64, most: Option<u64>) -> String {
    match most {
        Some(most) if most == rows => rows.to_string(),
        Some(most) => format!("{rows} to {most}"),
        None => format!("{rows} or more"),
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Error>();
    matches!(refused, Some(Error::Refused { what, .. }) if what.contains("does not exist"))
}

/// Views that are not what they should be.
pub(super) fn invalid_views(http: &QuestDbHttp, views: &[String]) -> anyhow::Result<Vec<String>> {
    let listed = http.exec("SELECT view_name, view_status FROM materialized_views()")?;
    let status = |view: &String| {
        let row = listed.rows.iter().find(|row| row.first().and_then(Value::as_str) == Some(view));
        row.and_then(|row| row.get(1)).and_then(Value::as_str).map(str::to_owned)
    };
    let wrong = views.iter().filter_map(|view| match status(view).as_deref() {
        Some("valid" | "refreshing") => None,
        Some(status) => Some(format!("view {view} is {status}")),
        None => Some(format!("view {view} is not there")),
    });
    Ok(wrong.collect())
}
