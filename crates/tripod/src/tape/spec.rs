//! What a table is: its name, columns, keys, importance, retention. One value of [`TableSpec`] is the source of the
//! journal encoding, the line-protocol encoding, the DDL and the docs.
//!
//! Constraints: a spec travels as JSON (in each journal segment's header and beside the journal), so that `migrate`,
//! `deliver`, `restore` handle a bot's own table without the bot's code. Fields may be added, never renamed. Whatever
//! comes out of [`TableSpec::from_json`] has passed [`TableSpec::check`]; the encodings rely on it.
//!
//! Picture:
//! ```text
//! #[derive(Row)] ──▶ TableSpec ──check──▶ journal (JSON) ──▶ DDL, journal bytes ⇄ values, line protocol
//! ```

mod check;
mod ddl;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use check::{COLUMNS_MAX, NAME_BYTES_MAX, PREFIX_BYTES_MAX, SCALE_MAX, SYMBOL_BYTES_MAX, check_prefix};

/// How much a lost row would matter; decides the journal it goes to and what a full journal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Importance {
    /// `record()` refuses when it cannot keep the row: stop trading.
    Critical,
    /// The new row is dropped and counted when the journal is full.
    Standard,
    /// As standard, with the smallest budget.
    Debug,
}

impl Importance {
    /// All three, in the order of their journals.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Standard, Self::Debug];

    /// The journal directory's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Standard => "standard",
            Self::Debug => "debug",
        }
    }
}

/// A column's type, as the journal and QuestDB keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Kind {
    /// `bool`, BOOLEAN. QuestDB has no NULL boolean, so it is never optional.
    Boolean,
    /// `i64`, LONG. `i64::MIN` is refused (QuestDB reads it as NULL).
    Long,
    /// `f64`, DOUBLE. NaN and infinities are refused (QuestDB reads them as NULL). Never money.
    Double,
    /// [`crate::Decimal`], DECIMAL(precision, scale). A value that does not fit exactly is refused, never rounded.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most 28.
        scale: u8,
    },
    /// `u64` (slots, lamports, raw amounts), DECIMAL(20,0): never through i64.
    Unsigned,
    /// [`crate::Timestamp`], TIMESTAMP_NS.
    Timestamp,
    /// [`crate::Uuid`], UUID.
    Uuid,
    /// Text of a bounded set, SYMBOL: 1 to 64 bytes; empty refused.
    Symbol,
    /// Text with a maximum, VARCHAR. NUL refused (it makes QuestDB's JSON unreadable).
    Text {
        /// Bytes at most, up to 65535.
        max_bytes: u16,
    },
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSpec {
    /// Its name: lower-case letters, digits, `_`.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Part of DEDUP UPSERT KEYS.
    #[serde(default)]
    pub key: bool,
    /// May be absent (NULL). Keys and the designated timestamp never are.
    #[serde(default)]
    pub optional: bool,
    /// What it means, with its unit.
    #[serde(default)]
    pub doc: String,
}

/// One table. The first column is the designated timestamp and is always a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// Its name on the server, before `table_prefix`.
    pub name: String,
    /// How much a lost row would matter.
    pub importance: Importance,
    /// TTL in whole days; partitions are days.
    pub retain_days: u16,
    /// The columns; the first is the designated timestamp.
    pub columns: Vec<ColumnSpec>,
    /// What a row is.
    #[serde(default)]
    pub doc: String,
}

impl TableSpec {
    /// The spec as JSON, the form in which it travels.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the spec fails [`TableSpec::check`]: a wrong spec must not outlive its program.
    pub fn to_json(&self) -> Result<String> {
        self.check()?;
        serde_json::to_string(self).map_err(|e| Error::invalid(self.name.as_str(), format!("has no JSON form: {e}")))
    }

    /// Reads and checks what [`TableSpec::to_json`] wrote. Unknown fields are ignored: a newer version may have them.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the text is not a spec or the spec fails [`TableSpec::check`].
    pub fn from_json(text: &str) -> Result<Self> {
        let spec: Self =
            serde_json::from_str(text).map_err(|e| Error::invalid("table spec", format!("cannot be read: {e}")))?;
        spec.check()?;
        Ok(spec)
    }

    /// The columns of DEDUP UPSERT KEYS, in order; the designated timestamp first.
    pub fn keys(&self) -> impl Iterator<Item = &ColumnSpec> {
        self.columns.iter().enumerate().filter(|(index, column)| *index == 0 || column.key).map(|(_, column)| column)
    }
}

#[cfg(test)]
mod tests;
