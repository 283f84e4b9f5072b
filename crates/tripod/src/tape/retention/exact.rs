//! Rows of a day as values, and a checksum over them.
//!
//! Constraints: what is compared is the value, whatever way it came: a decimal is its integer at the column's scale, an
//! instant its nanoseconds, a float its bits. The sum does not depend on the order of rows of one nanosecond, which
//! QuestDB does not promise; a row that is missing, doubled or different changes it. Memory is bounded: a page of
//! [`PAGE_ROWS`] rows at a time.

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::Day;
use crate::error::{Error, Result, Server};
use crate::tape::questdb::QuestDbHttp;
use crate::tape::schema::LiveTable;
use crate::value::{Timestamp, Uuid};

/// Rows of one answer at most. More would be a little faster; an answer of JSON is held in memory whole.
const PAGE_ROWS: u64 = 20_000;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Absent.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// LONG.
    Long(i64),
    /// DOUBLE, its bits.
    Double(u64),
    /// DECIMAL, times 10 to the power of its column's scale.
    Decimal(i128),
    /// TIMESTAMP_NS, nanoseconds since 1970.
    Nanos(i64),
    /// UUID.
    Uuid(u128),
    /// SYMBOL or VARCHAR.
    Text(String),
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExactKind {
    /// BOOLEAN.
    Boolean,
    /// LONG.
    Long,
    /// DOUBLE.
    Double,
    /// DECIMAL of at most 38 digits.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// TIMESTAMP_NS.
    Timestamp,
    /// UUID.
    Uuid,
    /// SYMBOL or VARCHAR.
    Text,
}

/// A column of a table on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactColumn {
    /// Its name.
    pub name: String,
    /// Its type as QuestDB writes it.
    pub type_name: String,
    /// What it holds.
    pub kind: ExactKind,
}

impl ExactColumn {
    /// A column by its name and its type as QuestDB writes it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the type is none that Tripod makes, or a decimal of more than 38 digits.
    pub fn new(name: &str, type_name: &str) -> Result<Self> {
        let kind = match type_name {
            "BOOLEAN" => ExactKind::Boolean,
            "LONG" => ExactKind::Long,
            "DOUBLE" => ExactKind::Double,
            "TIMESTAMP_NS" => ExactKind::Timestamp,
            "UUID" => ExactKind::Uuid,
            "SYMBOL" | "VARCHAR" => ExactKind::Text,
            other => decimal_kind(other).ok_or_else(|| {
                Error::invalid(format!("column {name}"), format!("is {other}, which the archive has no form for"))
            })?,
        };
        Ok(Self { name: name.to_owned(), type_name: type_name.to_owned(), kind })
    }
}

fn decimal_kind(type_name: &str) -> Option<ExactKind> {
    let (precision, scale) = type_name.strip_prefix("DECIMAL(")?.strip_suffix(')')?.split_once(',')?;
    let precision = precision.parse().ok().filter(|precision| *precision <= 38)?;
    Some(ExactKind::Decimal { precision, scale: scale.parse().ok()? })
}

/// The columns of a table as they are read.
///
/// # Errors
/// As [`ExactColumn::new`].
pub fn columns_of(table: &LiveTable) -> Result<Vec<ExactColumn>> {
    table.columns.iter().map(|column| ExactColumn::new(&column.name, &column.type_name)).collect()
}

/// How many rows, and the sum of what each of them hashes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    /// Rows.
    pub rows: u64,
    sum: u128,
}

impl Checksum {
    /// Takes one row in.
    pub fn add(&mut self, row: &[Cell]) {
        let mut hasher = Sha256::new();
        for cell in row {
            match cell {
                Cell::Null => hasher.update([0]),
                Cell::Boolean(value) => hasher.update([1, u8::from(*value)]),
                Cell::Long(value) => feed(&mut hasher, 2, &value.to_le_bytes()),
                Cell::Double(value) => feed(&mut hasher, 3, &value.to_le_bytes()),
                Cell::Decimal(value) => feed(&mut hasher, 4, &value.to_le_bytes()),
                Cell::Nanos(value) => feed(&mut hasher, 5, &value.to_le_bytes()),
                Cell::Uuid(value) => feed(&mut hasher, 6, &value.to_le_bytes()),
                Cell::Text(text) => {
                    // With its length: "ab", "c" is not "a", "bc".
                    feed(&mut hasher, 7, &u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
                    hasher.update(text.as_bytes());
                }
            }
        }
        let hash = hasher.finalize();
        let half = hash.first_chunk::<16>().copied().unwrap_or_default();
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
        self.rows += 1;
    }

    /// The sum in hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

fn feed(hasher: &mut Sha256, tag: u8, bytes: &[u8]) {
    hasher.update([tag]);
    hasher.update(bytes);
}

/// Hands every row of a day to `take`, oldest first.
///
/// # Errors
/// As [`QuestDbHttp::exec`]; [`Error::Invalid`] where a value is none of its column; what `take` says.
pub fn read_day(
    http: &QuestDbHttp,
    table: &str,
    designated: &str,
    columns: &[ExactColumn],
    day: Day,
    take: &mut dyn FnMut(&[Cell]) -> Result<()>,
) -> Result<()> {
    read_span(http, table, designated, columns, (day.begin(), day.end()), take)
}

/// Hands every row from an instant up to, and without, another one to `take`, oldest first.
///
/// # Errors
/// As [`read_day`].
pub fn read_span(
    http: &QuestDbHttp,
    table: &str,
    designated: &str,
    columns: &[ExactColumn],
    span: (Timestamp, Timestamp),
    take: &mut dyn FnMut(&[Cell]) -> Result<()>,
) -> Result<()> {
    let source = |from: Timestamp, until: Timestamp| {
        format!("SELECT * FROM \"{table}\" WHERE \"{designated}\" >= '{from}' AND \"{designated}\" < '{until}'")
    };
    read(http, &source, columns, span, 1, take)
}

/// Reads what `source` selects between two instants, in pieces that are whole multiples of `step` nanoseconds.
pub(super) fn read(
    http: &QuestDbHttp,
    source: &dyn Fn(Timestamp, Timestamp) -> String,
    columns: &[ExactColumn],
    (from, until): (Timestamp, Timestamp),
    step: i64,
    take: &mut dyn FnMut(&[Cell]) -> Result<()>,
) -> Result<()> {
    let part = source(from, until);
    let counted = http.exec(&format!("SELECT count() FROM ({part})"))?;
    let count = counted.rows.first().and_then(|row| row.first()).and_then(Json::as_u64).unwrap_or(0);
    let halves = || -> Option<Timestamp> {
        let steps = (until.as_nanos() - from.as_nanos()) / step;
        let middle = from.as_nanos() + steps / 2 * step;
        (steps > 1).then(|| Timestamp::from_nanos(middle).ok()).flatten()
    };
    if count == 0 {
        return Ok(());
    }
    let mut split_at = if count > PAGE_ROWS { halves() } else { None };
    if split_at.is_none() {
        match http.exec(&format!("SELECT {} FROM ({part})", select_list(columns))) {
            Ok(page) => return page.rows.iter().try_for_each(|row| take(&cells(columns, row)?)),
            // Few rows, and long ones.
            Err(Error::Refused { what, .. }) if what.contains("is larger than") && halves().is_some() => {
                split_at = halves();
            }
            Err(error) => return Err(error),
        }
    }
    let Some(middle) = split_at else { return Ok(()) };
    read(http, source, columns, (from, middle), step, take)?;
    read(http, source, columns, (middle, until), step, take)
}

/// Instants as integers: text would have to be read back.
fn select_list(columns: &[ExactColumn]) -> String {
    let one = |column: &ExactColumn| match column.kind {
        ExactKind::Timestamp => format!("\"{name}\"::long \"{name}_ns\"", name = column.name),
        _ => format!("\"{}\"", column.name),
    };
    columns.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn cells(columns: &[ExactColumn], row: &[Json]) -> Result<Vec<Cell>> {
    columns.iter().zip(row).map(|(column, value)| cell(column, value)).collect()
}

fn cell(column: &ExactColumn, value: &Json) -> Result<Cell> {
    let text = || value.as_str();
    let cell = match column.kind {
        _ if value.is_null() => Some(Cell::Null),
        ExactKind::Boolean => value.as_bool().map(Cell::Boolean),
        ExactKind::Long => value.as_i64().map(Cell::Long),
        ExactKind::Double => value.as_f64().map(|value| Cell::Double(value.to_bits())),
        ExactKind::Decimal { scale, .. } => text().and_then(|text| scaled(text, scale)).map(Cell::Decimal),
        ExactKind::Timestamp => value.as_i64().map(Cell::Nanos),
        ExactKind::Uuid => text().and_then(|text| Uuid::parse_str(text).ok()).map(|uuid| Cell::Uuid(uuid.as_u128())),
        ExactKind::Text => text().map(|text| Cell::Text(text.to_owned())),
    };
    cell.ok_or_else(|| Error::Refused {
        server: Server::QuestDb,
        what: format!("its column {} of type {} says `{value}`", column.name, column.type_name),
        code: None,
        source: None,
    })
}

/// `-1.50` at scale 4 is -15000. None where digits would be lost.
fn scaled(text: &str, scale: u8) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let missing = usize::from(scale).checked_sub(fraction.len())?;
    format!("{whole}{fraction}{}", "0".repeat(missing)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_its_integer_and_no_digit_is_lost() {
        assert_eq!(scaled("-0.0001", 4), Some(-1));
        assert_eq!(scaled("18446744073709551615", 0), Some(18_446_744_073_709_551_615));
        assert_eq!(scaled("99999999999999999999.999999999999999999", 18), Some(10_i128.pow(38) - 1));
        assert_eq!(scaled("1", 2), Some(100));
        assert_eq!(scaled("1.234", 2), None);
        assert_eq!(scaled("1e3", 2), None);
    }

    #[test]
    fn a_checksum_tells_null_empty_and_zero_apart_and_not_the_order() {
        let sum = |rows: &[&[Cell]]| {
            let mut sum = Checksum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        let text = |text: &str| Cell::Text(text.into());
        let all = [
            sum(&[&[Cell::Null]]),
            sum(&[&[text("")]]),
            sum(&[&[Cell::Long(0)]]),
            sum(&[&[Cell::Decimal(0)]]),
            sum(&[&[Cell::Double(0)]]),
            sum(&[&[Cell::Double((-0.0_f64).to_bits())]]),
            sum(&[&[Cell::Boolean(false)]]),
            sum(&[&[Cell::Nanos(0)]]),
            sum(&[&[text("ab"), text("c")]]),
            sum(&[&[text("a"), text("bc")]]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|other| one != other), "{index}");
        }
        let (a, b) = ([Cell::Long(1)], [Cell::Long(2)]);
        assert_eq!(sum(&[&a, &b]), sum(&[&b, &a]));
        assert_ne!(sum(&[&a, &a]), sum(&[&a]));
    }
}
