//! A row's bytes: into the journal, back out as values, on to QuestDB as line protocol.
//!
//! Constraints: everything QuestDB would refuse, or take and silently alter, is refused here, before anything is
//! published. Nothing here allocates on a row's way in unless it fails. Reading never panics, whatever the bytes are,
//! and needs only the spec that travels with the journal, not the bot's code.
//!
//! Picture of a payload, little-endian:
//! ```text
//! ┌────────────────────┬──────────────────────┬──────────────────────────────────────────────┐
//! │ designated         │ NULL bits, one per   │ values of columns 1.. in order, NULLs absent │
//! │ timestamp, i64 ns  │ column, 1 = NULL     │                                              │
//! └────────────────────┴──────────────────────┴──────────────────────────────────────────────┘
//!   boolean 1 · long, double, unsigned, timestamp 8 · decimal, uuid 16 · symbol u8 + bytes · text u16 + bytes
//! ```
//! The timestamp stands first, so that a sink can judge a row's age ([`timestamp_of`]) without reading the rest.

mod limits;
mod line;
mod read;
mod text;
mod write;

use crate::error::Result;
use crate::tape::row::Row;
use crate::tape::spec::{ColumnSpec, Kind, SYMBOL_BYTES_MAX, TableSpec};
use crate::value::{Decimal, Timestamp, Uuid};

pub use line::append_line;

/// Where the NULL bits start: behind the designated timestamp.
const NULLS_AT: usize = 8;

/// Bytes of the NULL bits.
const fn nulls_bytes(spec: &TableSpec) -> usize {
    // `Vec::len` is const; a spec has at most 256 columns, so at most 32 bytes.
    spec.columns.len().div_ceil(8)
}

/// One column's value, as the journal keeps it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Absent.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// LONG.
    Long(i64),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL(p,s).
    Decimal(Decimal),
    /// DECIMAL(20,0).
    Unsigned(u64),
    /// TIMESTAMP_NS.
    Timestamp(Timestamp),
    /// UUID.
    Uuid(Uuid),
    /// SYMBOL.
    Symbol(&'a str),
    /// VARCHAR.
    Text(&'a str),
}

/// Runs every check on `row` and gives the bytes that [`fill`] will need. Allocates nothing unless it fails.
///
/// # Errors
/// [`crate::Error::Invalid`] naming table and column, where QuestDB would refuse a value or silently alter it, where a
/// mandatory column is absent, or where [`Row::write`] does not hand over the spec's columns in order.
pub fn measure<R: Row>(row: &R) -> Result<usize> {
    let mut writer = write::Measure::new(R::spec());
    row.write(&mut writer)?;
    writer.finish()
}

/// Checks as [`measure`] does, and writes the payload into exactly as many bytes as that said. Allocates nothing unless it
/// fails.
///
/// # Errors
/// [`crate::Error::Invalid`] as [`measure`], and where `out` is longer or shorter than the row. `out` then holds no payload.
pub fn fill<R: Row>(row: &R, out: &mut [u8]) -> Result<()> {
    let mut writer = write::Fill::new(R::spec(), out)?;
    row.write(&mut writer)?;
    writer.finish_full()
}

/// As [`fill`], into a room of at least [`bytes_max`] bytes; gives the bytes of the payload. Those behind it are left as
/// they were, or zero.
#[inline]
pub(super) fn fill_front<R: Row>(row: &R, out: &mut [u8]) -> Result<usize> {
    let mut writer = write::Fill::new(R::spec(), out)?;
    row.write(&mut writer)?;
    writer.finish()
}

/// Bytes that no payload of this spec is longer than.
pub(super) fn bytes_max(spec: &TableSpec) -> usize {
    let column = |column: &ColumnSpec| match column.kind {
        Kind::Boolean => 1,
        Kind::Long | Kind::Double | Kind::Unsigned | Kind::Timestamp => 8,
        Kind::Decimal { .. } | Kind::Uuid => 16,
        Kind::Symbol => 1 + SYMBOL_BYTES_MAX,
        Kind::Text { max_bytes } => 2 + usize::from(max_bytes),
    };
    // The designated timestamp is among the columns.
    nulls_bytes(spec) + spec.columns.iter().map(column).sum::<usize>()
}

/// The values of a payload, one per column of `spec`.
///
/// # Errors
/// [`crate::Error::Invalid`] where the bytes are not a payload of this spec.
pub fn decode<'a>(spec: &'a TableSpec, payload: &'a [u8]) -> Result<Vec<Value<'a>>> {
    let mut values = Vec::with_capacity(spec.columns.len());
    let mut reader = read::Reader::new(spec, payload)?;
    while let Some((_, value)) = reader.next()? {
        values.push(value);
    }
    Ok(values)
}

/// A payload's designated timestamp, without reading the rest. Bytes that are no payload count as 1970, which is outside
/// every retention.
#[must_use]
pub fn timestamp_of(payload: &[u8]) -> Timestamp {
    payload
        .first_chunk()
        .and_then(|bytes| Timestamp::from_nanos(i64::from_le_bytes(*bytes)).ok())
        .unwrap_or(Timestamp::EPOCH)
}

#[cfg(test)]
mod tests;
