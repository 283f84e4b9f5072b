//! Bytes to line protocol, in questdb-rs's buffer.
//!
//! Constraints: exactly what the journal holds arrives, to the last digit. Decimals and u64 go as binary decimals
//! (protocol version 3), times as nanoseconds, UUIDs as text (the line protocol has no UUID), NULLs by leaving the
//! column out. Symbols stand before all other columns, as the protocol wants it, so the payload is walked twice.

use questdb::ingress::{Buffer, ColumnName, DecimalView, ProtocolVersion, TableName, TimestampNanos};

use crate::error::{Error, Result};
use crate::tape::encode::read::Reader;
use crate::tape::encode::{Value, limits, timestamp_of};
use crate::tape::spec::{Kind, TableSpec};
use crate::value::Decimal;

/// Appends one payload to `buffer` as a row of `table` (the name with its prefix), designated timestamp in nanoseconds.
/// When this fails, the buffer is as it was. Uses the buffer's marker; one that was set before is gone.
///
/// # Errors
/// [`Error::Invalid`] where the bytes are not a payload of `spec`, or the buffer is not one of protocol version 3.
pub fn append_line(spec: &TableSpec, table: &str, payload: &[u8], buffer: &mut Buffer) -> Result<()> {
    if buffer.protocol_version() < ProtocolVersion::V3 {
        return Err(Error::invalid(table, "the line buffer must be of protocol version 3, the first with decimals"));
    }
    buffer.set_marker().map_err(|e| refused(table, &e))?;
    let appended = append(spec, table, payload, buffer);
    match appended {
        Ok(()) => buffer.clear_marker(),
        // Cannot fail: the marker was set above. If it did, the caller's error is still the one to see.
        Err(_) => drop(buffer.rewind_to_marker()),
    }
    appended
}

fn append(spec: &TableSpec, table: &str, payload: &[u8], buffer: &mut Buffer) -> Result<()> {
    let refused = |e: questdb::Error| refused(table, &e);
    // The names passed `TableSpec::check`, which is stricter; checking each again would cost as much as the row itself.
    buffer.table(TableName::new_unchecked(table)).map_err(refused)?;
    let mut reader = Reader::new(spec, payload)?;
    while let Some((column, value)) = reader.next_of(|kind| kind == Kind::Symbol)? {
        if let Value::Symbol(text) = value {
            buffer.symbol(ColumnName::new_unchecked(&column.name), text).map_err(refused)?;
        }
    }
    let mut reader = Reader::new(spec, payload)?;
    // The designated timestamp ends the line.
    reader.next()?;
    while let Some((column, value)) = reader.next_of(|kind| kind != Kind::Symbol)? {
        let name = ColumnName::new_unchecked(&column.name);
        match value {
            Value::Null | Value::Symbol(_) => continue,
            Value::Boolean(value) => buffer.column_bool(name, value),
            Value::Long(value) => buffer.column_i64(name, value),
            Value::Double(value) => buffer.column_f64(name, value),
            Value::Decimal(value) => {
                let (mantissa, scale) = rescaled(value, column.kind);
                column_decimal(buffer, name, mantissa, scale)
            }
            Value::Unsigned(value) => column_decimal(buffer, name, i128::from(value), 0),
            Value::Timestamp(value) => buffer.column_ts(name, TimestampNanos::new(value.as_nanos())),
            Value::Uuid(value) => {
                let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
                buffer.column_str(name, &*value.hyphenated().encode_lower(&mut text))
            }
            Value::Text(value) => buffer.column_str(name, value),
        }
        .map_err(refused)?;
    }
    buffer.at(TimestampNanos::new(timestamp_of(payload).as_nanos())).map_err(refused)
}

/// The value without the zeros at its end that its column has no room for; nothing else is ever cut.
fn rescaled(value: Decimal, kind: Kind) -> (i128, u32) {
    let (mantissa, scale) = (value.mantissa(), value.scale());
    let Kind::Decimal { scale: room, .. } = kind else { return (mantissa, scale) };
    let power = scale.checked_sub(u32::from(room)).filter(|n| *n > 0).and_then(limits::power_of_ten);
    match power.and_then(|power| i128::try_from(power).ok()) {
        Some(power) if mantissa % power == 0 => (mantissa / power, u32::from(room)),
        _ => (mantissa, scale),
    }
}

/// Writes a decimal as few big-endian bytes as hold its sign. The driver's own conversion allocates for each value.
fn column_decimal<'b>(
    buffer: &'b mut Buffer,
    name: ColumnName<'_>,
    mantissa: i128,
    scale: u32,
) -> questdb::Result<&'b mut Buffer> {
    let bytes = mantissa.to_be_bytes();
    let sign_bits = if mantissa < 0 { mantissa.leading_ones() } else { mantissa.leading_zeros() };
    // One sign bit has to stay.
    let spare_bytes = usize::try_from((sign_bits - 1) / 8).unwrap_or(0).min(bytes.len() - 1);
    buffer.column_dec(name, DecimalView::try_new_scaled(scale, &bytes[spare_bytes..])?)
}

#[cold]
fn refused(table: &str, error: &questdb::Error) -> Error {
    Error::invalid(table, format!("the line protocol's encoder refuses the row: {}", error.msg()))
}
