//! `tripod tape ls`, `tape query`.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tripod::Config;
use tripod::tape::query::{Limits, Reader, Table};
use tripod::tape::questdb::{QuestDbHttp, Rows};
use tripod::tape::schema::read_views;

use super::{ask_questdb, questdb_name, retention};
use crate::args::{Global, Query, Tape};
use crate::exit::Exit;
use crate::output::{self, Output};

/// The span of a large table is read from its partitions' edges; a loaded server may still take a while.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn run(command: Tape, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    match command {
        Tape::Ls => ls(&config, output).await,
        Tape::Query(query) => ask(&query, &config, output).await,
        Tape::Export(export) => retention::export(&export, &config, output).await,
        Tape::Retention(command) => retention::run(&command, &config, output).await,
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    tables: Vec<TableInfo>,
}

#[derive(Debug, Serialize)]
struct TableInfo {
    server: String,
    name: String,
    /// `table` or `view`.
    kind: &'static str,
    rows: u64,
    /// Designated timestamps of the oldest and the newest row.
    first: Option<String>,
    last: Option<String>,
    /// As in `30 days`; absent where rows stay for ever.
    ttl: Option<String>,
    disk_bytes: u64,
    suspended: bool,
    /// A view: why it does not follow its table any more.
    invalid: Option<String>,
    /// A view: transactions of its table that it has not taken in yet.
    behind: Option<u64>,
}

async fn ls(config: &Config, output: Output) -> anyhow::Result<Exit> {
    let mut tables = Vec::new();
    for (number, server) in config.questdb.iter().enumerate() {
        let (name, prefix) = (questdb_name(config, number), config.tape.table_prefix.clone());
        tables.extend(ask_questdb(server, ANSWER_WITHIN, move |http| list(http, &name, &prefix)).await?);
    }
    let listed = Listed { tables };
    output.result(&listed, || words(&listed.tables))?;
    Ok(Exit::Done)
}

const TABLES: &str = "SELECT t.table_name, t.table_type, t.designatedTimestamp, t.ttlValue, t.ttlUnit, \
     t.table_suspended, s.rowCount, s.diskSize FROM tables() t LEFT JOIN table_storage() s \
     ON s.tableName = t.table_name ORDER BY 1";

fn list(http: &QuestDbHttp, server: &str, prefix: &str) -> tripod::Result<Vec<TableInfo>> {
    let listed = http.exec(TABLES)?;
    let views = read_views(http)?;
    let mut tables = Vec::new();
    for row in &listed.rows {
        let name = text(row.first());
        // A name with a quote in it could not be asked about, and none of ours has one.
        if !name.starts_with(prefix) || name.starts_with("sys.") || name.contains('"') {
            continue;
        }
        let (first, last) = match text(row.get(2)).as_str() {
            designated if designated.is_empty() || designated.contains('"') => (None, None),
            designated => span(http, &name, designated)?,
        };
        let ttl = number(row.get(3));
        tables.push(TableInfo {
            server: server.to_owned(),
            kind: if text(row.get(1)) == "T" { "table" } else { "view" },
            rows: number(row.get(6)),
            first,
            last,
            ttl: (ttl > 0).then(|| format!("{ttl} {}s", text(row.get(4)).to_lowercase())),
            disk_bytes: number(row.get(7)),
            suspended: row.get(5).and_then(Value::as_bool).unwrap_or(false),
            invalid: views.0.get(&name).and_then(|view| view.invalid.clone()),
            behind: views.0.get(&name).map(|view| view.behind),
            name,
        });
    }
    Ok(tables)
}

/// The edges of a table; none where it is empty or was dropped since.
fn span(http: &QuestDbHttp, table: &str, designated: &str) -> tripod::Result<(Option<String>, Option<String>)> {
    let sql = format!("SELECT min(\"{designated}\"), max(\"{designated}\") FROM \"{table}\"");
    let Rows { rows, .. } = match http.exec(&sql) {
        Err(tripod::Error::Refused { what, .. }) if what.contains("does not exist") => return Ok((None, None)),
        rows => rows?,
    };
    let edge = |at: usize| rows.first()?.get(at)?.as_str().map(str::to_owned);
    Ok((edge(0), edge(1)))
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or(0)
}

fn words(tables: &[TableInfo]) -> String {
    if tables.is_empty() {
        return "no table yet; `tripod migrate` makes them".to_owned();
    }
    let mut table = output::table(&["server", "table", "rows", "first", "last", "TTL", "disk", ""]);
    for info in tables {
        let note = match (info.suspended, &info.invalid, info.behind) {
            (true, ..) => "SUSPENDED: ALTER TABLE … RESUME WAL".to_owned(),
            (false, Some(why), _) => format!("INVALID view: {why}"),
            (false, None, Some(0)) => "view".to_owned(),
            (false, None, Some(behind)) => format!("view, {behind} transactions behind"),
            (false, None, None) => String::new(),
        };
        table.add_row([
            info.server.as_str(),
            &info.name,
            &info.rows.to_string(),
            info.first.as_deref().unwrap_or("-"),
            info.last.as_deref().unwrap_or("-"),
            info.ttl.as_deref().unwrap_or("for ever"),
            &output::mebibytes(info.disk_bytes),
            &note,
        ]);
    }
    output::align_right(&mut table, 2..3);
    output::align_right(&mut table, 6..7);
    output::table_text(&table)
}

#[derive(Debug, Serialize)]
struct Answered<'a> {
    columns: Vec<Column<'a>>,
    rows: &'a [Vec<Value>],
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Column<'a> {
    name: &'a str,
    r#type: &'a str,
}

async fn ask(query: &Query, config: &Config, output: Output) -> anyhow::Result<Exit> {
    let mut limits = Limits::default();
    limits.deadline = Duration::from_secs(query.deadline);
    limits.rows_max = usize::try_from(query.limit)?;
    let reader = Reader::open(config, limits)?;
    let answer = reader.sql(&query.sql, limits.rows_max).await?;
    let columns = answer.columns.iter().map(|(name, r#type)| Column { name, r#type }).collect();
    let document = Answered { columns, rows: &answer.rows, truncated: answer.truncated };
    output.result(&document, || rows_as_table(&answer))?;
    if answer.truncated {
        output.say(format!("only the first {} rows; --limit N prints more", query.limit));
    }
    Ok(Exit::Done)
}

fn rows_as_table(answer: &Table) -> String {
    let header: Vec<_> = answer.columns.iter().map(|(name, _)| name.as_str()).collect();
    let mut table = output::table(&header);
    for row in &answer.rows {
        table.add_row(row.iter().map(|value| match value {
            Value::Null => "NULL".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }));
    }
    for (index, (_, kind)) in answer.columns.iter().enumerate() {
        let is_number = ["INT", "LONG", "SHORT", "DOUBLE", "DECIMAL"].iter().any(|number| kind.starts_with(number));
        if is_number {
            output::align_right(&mut table, index..index + 1);
        }
    }
    output::table_text(&table)
}
