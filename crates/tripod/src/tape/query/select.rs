//! From a table's spec to the columns that are asked for, and from an answer's row to values.
//!
//! Constraints: columns are read in the order in which they are asked for, and each by its name where it is a table's;
//! a NULL where none can be, or a value out of range, is an error that names table and column.

use std::fmt::Write as _;
use std::str::FromStr;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::decimal::Exact;
use crate::error::{Error, Result};
use crate::postgres::Unsigned;
use crate::tape::spec::{Kind, TableSpec};
use crate::tape::tables::ExecutionStatus;
use crate::value::{Decimal, Timestamp, Token, Uuid};

/// What a timestamp is called that is asked for as a LONG. Not its own name: QuestDB 9.3.4 then sorts by the LONG, after
/// it has already applied the LIMIT, and gives the last of the first rows instead of the last rows.
const AS_LONG: &str = "_ns";

/// The columns of a table as they are asked for; `alias` (`a.`) stands before each.
pub(super) fn select_list(spec: &TableSpec, alias: &str) -> String {
    let mut list = String::new();
    for column in &spec.columns {
        let separator = if list.is_empty() { "" } else { ", " };
        // As TIMESTAMP_NS the last three digits would be lost on the way.
        let (cast, suffix) = if column.kind == Kind::Timestamp { ("::long", AS_LONG) } else { ("", "") };
        let name = &column.name;
        // Writing to a String cannot fail.
        let _ = write!(list, "{separator}{alias}\"{name}\"{cast} \"{name}{suffix}\"");
    }
    list
}

/// The columns of one row, read one after the other.
pub(super) struct Columns<'a> {
    row: &'a Row,
    table: &'a str,
    at: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a Row, table: &'a str) -> Self {
        Self { row, table, at: 0 }
    }

    /// The next column, which must be of this name.
    pub(super) fn named<T: Cell>(&mut self, name: &str) -> Result<T> {
        match self.row.columns().get(self.at) {
            Some(column) if column.name().strip_suffix(AS_LONG).is_some_and(|own| own == name) => self.next(),
            Some(column) if column.name() == name => self.next(),
            found => Err(Error::invalid(
                format!("{}.{name}", self.table),
                format!("is not where it was asked for, but `{}`", found.map_or("nothing", |column| column.name())),
            )),
        }
    }

    /// The next column.
    pub(super) fn next<T: Cell>(&mut self) -> Result<T> {
        let at = self.at;
        self.at += 1;
        T::read(self, at)
    }

    fn raw<T: FromSql<'a>>(&self, at: usize) -> Result<Option<T>> {
        self.row.try_get(at).map_err(|e| {
            let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            self.refuse(at, why)
        })
    }

    fn refuse(&self, at: usize, why: impl Into<String>) -> Error {
        let column = self.row.columns().get(at).map_or("?", |column| column.name());
        Error::invalid(format!("{}.{column}", self.table), why)
    }
}

/// A value that a column may hold.
pub(super) trait Cell: Sized {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>>;

    fn read(columns: &Columns<'_>, at: usize) -> Result<Self> {
        Self::read_optional(columns, at)?.ok_or_else(|| columns.refuse(at, "is NULL, which it never is when recorded"))
    }
}

impl<T: Cell> Cell for Option<T> {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>> {
        T::read_optional(columns, at).map(Some)
    }
}

impl Cell for i64 {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>> {
        columns.raw(at)
    }
}

impl Cell for Uuid {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>> {
        columns.raw(at)
    }
}

impl Cell for String {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>> {
        columns.raw(at)
    }
}

/// A DECIMAL(20,0), or a count, which is a LONG.
impl Cell for u64 {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>> {
        let is_long = columns.row.columns().get(at).is_some_and(|column| i64::accepts(column.type_()));
        if !is_long {
            return Ok(columns.raw::<Unsigned>(at)?.map(|unsigned| unsigned.0));
        }
        let count = columns.raw::<i64>(at)?;
        count.map(|n| Self::try_from(n).map_err(|_| columns.refuse(at, format!("{n} is negative")))).transpose()
    }
}

impl Cell for Decimal {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>> {
        Ok(columns.raw::<Exact>(at)?.map(|exact| exact.0))
    }
}

impl Cell for Timestamp {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>> {
        let nanos = columns.raw::<i64>(at)?;
        nanos.map(|n| Self::from_nanos(n).map_err(|e| columns.refuse(at, e.to_string()))).transpose()
    }
}

fn parsed<T: FromStr<Err = Error>>(columns: &Columns<'_>, at: usize) -> Result<Option<T>> {
    let text = columns.raw::<&str>(at)?;
    text.map(|text| text.parse().map_err(|e: Error| columns.refuse(at, e.to_string()))).transpose()
}

impl Cell for Token {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>> {
        parsed(columns, at)
    }
}

impl Cell for ExecutionStatus {
    fn read_optional(columns: &Columns<'_>, at: usize) -> Result<Option<Self>> {
        parsed(columns, at)
    }
}
