//! What a server has.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result, Server};
use crate::tape::questdb::{QuestDbHttp, Rows};

/// A server's tables by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveTables(pub BTreeMap<String, LiveTable>);

/// One table of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTable {
    /// A table that rows can be written to, not a view.
    pub writable: bool,
    /// The designated timestamp.
    pub designated: Option<String>,
    /// `DAY`, `HOUR`, `NONE`, …
    pub partition_by: String,
    /// Rows go through the write-ahead log.
    pub wal: bool,
    /// TTL in hours; `None` keeps for ever.
    pub ttl_hours: Option<u64>,
    /// In the order of the table.
    pub columns: Vec<LiveColumn>,
}

/// One column of a server's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveColumn {
    /// Its name.
    pub name: String,
    /// Its type, as QuestDB writes it: `DECIMAL(28,18)`.
    pub type_name: String,
    /// Part of DEDUP UPSERT KEYS.
    pub key: bool,
}

impl LiveTable {
    /// The column of this name. QuestDB takes `Price` and `price` for one name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&LiveColumn> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// Reads every table of the server but its own (`sys.…`, telemetry): one statement, and one more per table.
///
/// # Errors
/// As [`QuestDbHttp::exec`].
pub fn read_live(http: &QuestDbHttp) -> Result<LiveTables> {
    let listed = http.exec(
        "SELECT table_name, table_type, designatedTimestamp, partitionBy, walEnabled, ttlValue, ttlUnit FROM tables()",
    )?;
    let mut tables = BTreeMap::new();
    for row in &listed.rows {
        let name = text(&listed, row, "table_name")?;
        // A name with a quote in it cannot be one of ours, and could not be asked about.
        if name.starts_with("sys.") || name.starts_with("telemetry") || name.contains('"') {
            continue;
        }
        // A table that was dropped since is not there.
        let Some(columns) = read_columns(http, &name)? else { continue };
        let table = LiveTable {
            writable: text(&listed, row, "table_type")? == "T",
            designated: Some(text(&listed, row, "designatedTimestamp")?).filter(|name| !name.is_empty()),
            partition_by: text(&listed, row, "partitionBy")?,
            wal: flag(&listed, row, "walEnabled")?,
            ttl_hours: ttl_hours(number(&listed, row, "ttlValue")?, &text(&listed, row, "ttlUnit")?),
            columns,
        };
        tables.insert(name, table);
    }
    Ok(LiveTables(tables))
}

fn read_columns(http: &QuestDbHttp, table: &str) -> Result<Option<Vec<LiveColumn>>> {
    let listed = match http.exec(&format!("SHOW COLUMNS FROM \"{table}\"")) {
        Ok(listed) => listed,
        Err(Error::Refused { what, .. }) if what.contains("does not exist") => return Ok(None),
        Err(error) => return Err(error),
    };
    let columns = listed.rows.iter().map(|row| {
        Ok(LiveColumn {
            name: text(&listed, row, "column")?,
            type_name: text(&listed, row, "type")?,
            key: flag(&listed, row, "upsertKey")?,
        })
    });
    columns.collect::<Result<_>>().map(Some)
}

/// A TTL in hours. Months and years, which Tripod never sets, count as 30 and 365 days: enough to tell longer from
/// shorter.
pub(super) fn ttl_hours(value: u64, unit: &str) -> Option<u64> {
    let hours_per_unit = match unit {
        "HOUR" => 1,
        "DAY" => 24,
        "WEEK" => 7 * 24,
        "MONTH" => 30 * 24,
        _ => 365 * 24,
    };
    (value > 0).then(|| value.saturating_mul(hours_per_unit))
}

fn cell<'a>(rows: &Rows, row: &'a [Value], column: &str) -> Result<&'a Value> {
    Ok(row.get(rows.column(column)?).unwrap_or(&Value::Null))
}

/// NULL is the empty text.
pub(super) fn text(rows: &Rows, row: &[Value], column: &str) -> Result<String> {
    match cell(rows, row, column)? {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => Err(unexpected(column, other)),
    }
}

fn flag(rows: &Rows, row: &[Value], column: &str) -> Result<bool> {
    let value = cell(rows, row, column)?;
    value.as_bool().ok_or_else(|| unexpected(column, value))
}

pub(super) fn number(rows: &Rows, row: &[Value], column: &str) -> Result<u64> {
    let value = cell(rows, row, column)?;
    value.as_u64().ok_or_else(|| unexpected(column, value))
}

fn unexpected(column: &str, value: &Value) -> Error {
    Error::Refused {
        server: Server::QuestDb,
        what: format!("its column `{column}` says `{value}`; is it a version that Tripod was tested with?"),
        code: None,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_compared_in_hours_and_zero_is_for_ever() {
        assert_eq!(ttl_hours(0, "HOUR"), None);
        assert_eq!(ttl_hours(36, "HOUR"), Some(36));
        assert_eq!(ttl_hours(30, "DAY"), Some(720));
        assert_eq!(ttl_hours(2, "WEEK"), Some(336));
        assert!(ttl_hours(1, "MONTH") < ttl_hours(1, "YEAR"));
    }
}
