//! What a spec must be before anything is built on it.
//!
//! Constraints: every rule here is one that QuestDB or the line protocol would otherwise break later and far away, when
//! rows are already in the journal. Each refusal names table, column, and what to change.

use crate::error::{Error, Result};
use crate::tape::spec::{ColumnSpec, Kind, TableSpec};

/// Bytes of a table's or column's name at most. QuestDB takes 127 with the prefix; the rest is room for it and for the
/// names of views.
pub const NAME_BYTES_MAX: usize = 64;

/// Bytes of a table prefix at most.
pub const PREFIX_BYTES_MAX: usize = 32;

/// Columns of a table at most. A record has one NULL bit for each.
pub const COLUMNS_MAX: usize = 256;

/// Digits after the point at most: what a [`crate::Decimal`] can hold.
pub const SCALE_MAX: u8 = 28;

/// Digits of a decimal at most: QuestDB keeps 38 in 16 bytes, and a [`crate::Decimal`] never has more than 29.
const PRECISION_MAX: u8 = 38;

/// Bytes of a symbol at most. Symbols are kept once each, in memory, for ever: bounded sets of short names only.
pub const SYMBOL_BYTES_MAX: usize = 64;

impl TableSpec {
    /// Checks everything that would fail on the server or lose rows later: names, keys, digits, retention.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the table or column and what to change.
    pub fn check(&self) -> Result<()> {
        check_name("table", &self.name)?;
        let table = self.name.as_str();
        if self.retain_days == 0 {
            return Err(Error::invalid(table, "retain_days is 0; keep at least 1 day (0 would mean for ever)"));
        }
        if self.columns.len() > COLUMNS_MAX {
            return Err(Error::invalid(
                table,
                format!("has {} columns; at most {COLUMNS_MAX}, split the table", self.columns.len()),
            ));
        }
        let Some(designated) = self.columns.first() else {
            return Err(Error::invalid(table, "has no columns; the first is the designated timestamp"));
        };
        if designated.kind != Kind::Timestamp {
            return Err(Error::invalid(
                format!("{table}.{}", designated.name),
                "is the first column and so the designated timestamp, but not of kind timestamp",
            ));
        }
        if !self.columns.iter().skip(1).any(|column| column.key) {
            return Err(Error::invalid(
                table,
                "has no key besides its timestamp; two rows of the same instant would become one, so mark as key what \
                 tells them apart (an id, or source and seq)",
            ));
        }
        for (index, column) in self.columns.iter().enumerate() {
            check_name("column", &column.name).map_err(|e| Error::invalid(table, e.to_string()))?;
            if self.columns.iter().take(index).any(|earlier| earlier.name == column.name) {
                return Err(Error::invalid(format!("{table}.{}", column.name), "stands twice; rename one"));
            }
            column
                .check(index == 0)
                .map_err(|why| Error::invalid(format!("{table}.{}", column.name), why.to_owned()))?;
        }
        Ok(())
    }
}

impl ColumnSpec {
    fn check(&self, designated: bool) -> Result<(), &'static str> {
        if designated && !self.key {
            return Err("is the designated timestamp and so always a key; set key");
        }
        if self.key && self.optional {
            return Err("is a key and optional; rows without it could not be told apart, so make it mandatory");
        }
        match self.kind {
            Kind::Boolean if self.optional => Err("is an optional boolean; QuestDB has no NULL boolean, use a symbol"),
            Kind::Double if self.key => Err("is a double and a key; floats that look alike differ, use a decimal"),
            Kind::Decimal { precision, .. } if !(1..=PRECISION_MAX).contains(&precision) => {
                Err("needs a precision of 1 to 38 digits")
            }
            Kind::Decimal { scale, .. } if scale > SCALE_MAX => {
                Err("has a scale above 28, more digits after the point than a Decimal holds; lower it")
            }
            Kind::Decimal { precision, scale } if scale > precision => {
                Err("has a scale above its precision; raise the precision")
            }
            Kind::Text { max_bytes: 0 } => Err("has room for 0 bytes of text; raise max_bytes"),
            _ => Ok(()),
        }
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::invalid(format!("{what} `{name}`"), why));
    if name.is_empty() {
        return refuse("has an empty name".into());
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse(format!("has a name of {} bytes; at most {NAME_BYTES_MAX}", name.len()));
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !is_plain(name) {
        return refuse("needs a name of lower-case letters, digits and `_` that starts with a letter".into());
    }
    Ok(())
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Checks what is put before each table's name on the server; empty is fine.
///
/// # Errors
/// [`Error::Invalid`] where the prefix is too long or has other characters than lower-case letters, digits and `_`.
pub fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.len() > PREFIX_BYTES_MAX || !is_plain(prefix) || prefix.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Error::invalid(
            "table_prefix",
            format!(
                "`{prefix}` is not at most {PREFIX_BYTES_MAX} lower-case letters, digits and `_` that start with a \
                 letter or `_`"
            ),
        ));
    }
    Ok(())
}
