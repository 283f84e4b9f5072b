//! The SQL of a table. The order of the clauses is QuestDB's: TTL stands before WAL and DEDUP or is a syntax error.
//!
//! Names are quoted, so that a column may be called `at` or `to`; [`TableSpec::check`] has made sure that a name holds
//! nothing that could end the quotes.

use std::fmt;

use crate::tape::spec::{ColumnSpec, Kind, TableSpec};

impl fmt::Display for Kind {
    /// The type as QuestDB writes it, in DDL and in SHOW COLUMNS alike.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::Long => f.write_str("LONG"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision},{scale})"),
            Self::Unsigned => f.write_str("DECIMAL(20,0)"),
            Self::Timestamp => f.write_str("TIMESTAMP_NS"),
            Self::Uuid => f.write_str("UUID"),
            Self::Symbol => f.write_str("SYMBOL"),
            Self::Text { .. } => f.write_str("VARCHAR"),
        }
    }
}

impl ColumnSpec {
    /// `"name" TYPE`, as CREATE TABLE and ADD COLUMN take it.
    #[must_use]
    pub fn definition(&self) -> String {
        format!("\"{}\" {}", self.name, self.kind)
    }
}

impl TableSpec {
    /// The table's name on the server.
    #[must_use]
    pub fn server_name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.name)
    }

    /// CREATE TABLE IF NOT EXISTS: daily partitions, TTL, WAL, DEDUP on the keys. Expects a spec that passed
    /// [`TableSpec::check`] and a prefix that passed [`super::check_prefix`].
    #[must_use]
    pub fn ddl(&self, prefix: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(ColumnSpec::definition).collect();
        let keys: Vec<String> = self.keys().map(|key| format!("\"{}\"", key.name)).collect();
        let designated = self.columns.first().map_or("", |column| &column.name);
        format!(
            "CREATE TABLE IF NOT EXISTS \"{table}\" ({columns}) TIMESTAMP(\"{designated}\") PARTITION BY DAY \
             TTL {days} DAYS WAL DEDUP UPSERT KEYS({keys})",
            table = self.server_name(prefix),
            columns = columns.join(", "),
            days = self.retain_days,
            keys = keys.join(", "),
        )
    }
}
