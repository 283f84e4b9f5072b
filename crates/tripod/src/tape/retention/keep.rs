//! A rollup's day: compared with the rows themselves, and put into the table that outlives them.
//!
//! Constraints: the rows are the truth as long as they are there, so the long-lived table is made equal to them, and a
//! view that says otherwise is told of, not believed. Doing it again changes nothing: the table has DEDUP keys. Nothing
//! is done for a day without rows: that would take a bucket's remains for the bucket.

use super::Day;
use super::exact::{self, Checksum, ExactColumn};
use crate::error::{Error, Result};
use crate::tape::questdb::QuestDbHttp;
use crate::tape::schema::{Rollup, wait_table};
use crate::value::Timestamp;

/// What became of a rollup's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Buckets, in the table and by the rows alike.
    pub buckets: u64,
    /// Rows were put into the table: it did not have the day, or not as it is.
    pub written: bool,
    /// The view says the same.
    pub view_agrees: bool,
}

/// Makes the long-lived table of `rollup` equal to the rows of the day, and compares both with the view. When this returns
/// Ok, a SELECT from the table gives, value by value, what the rows give.
///
/// # Errors
/// As [`QuestDbHttp::exec`]; [`Error::Conflict`] where the table differs although the day was just put into it: rows of
/// the day arrived meanwhile, so run it again.
pub fn keep_day(http: &QuestDbHttp, rollup: &Rollup, prefix: &str, day: Day) -> Result<Kept> {
    let spec = rollup.kept(1);
    let table = spec.server_name(prefix);
    let columns: Vec<_> = spec
        .columns
        .iter()
        .map(|column| ExactColumn::new(&column.name, &column.kind.to_string()))
        .collect::<Result<_>>()?;
    let of_rows = |from: Timestamp, until: Timestamp| rollup.from_rows(prefix, &from.to_string(), &until.to_string());
    let of = |name: &str| {
        let name = name.to_owned();
        move |from: Timestamp, until: Timestamp| {
            format!("SELECT * FROM \"{name}\" WHERE at >= '{from}' AND at < '{until}'")
        }
    };
    let sum = |source: &dyn Fn(Timestamp, Timestamp) -> String| -> Result<Checksum> {
        let mut sum = Checksum::default();
        exact::read(http, source, &columns, (day.begin(), day.end()), rollup.bucket_nanos(), &mut |row| {
            sum.add(row);
            Ok(())
        })?;
        Ok(sum)
    };
    let rows = sum(&of_rows)?;
    let mut kept = sum(&of(&table))?;
    let written = kept != rows && rows.rows > 0;
    if written {
        let names: Vec<_> = columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        http.exec(&format!("INSERT INTO \"{table}\" ({}) {}", names.join(", "), of_rows(day.begin(), day.end())))?;
        wait_table(http, &table, &|| format!("the rollup of {day}"))?;
        kept = sum(&of(&table))?;
    }
    if kept != rows {
        return Err(Error::conflict(
            format!("{table} of {day}"),
            format!("has {} buckets, the rows give {}, and they are not equal", kept.rows, rows.rows),
        ));
    }
    let view_agrees = sum(&of(&rollup.view(prefix)))? == rows;
    Ok(Kept { buckets: rows.rows, written, view_agrees })
}
