//! What a row is to the recorder: something that hands its columns over in order, without allocating.
//!
//! Constraints: a row is recorded on a hot path, so nothing here owns, boxes or formats. The derive writes both methods
//! of [`Row`]; a hand-written one that disagrees with its own spec is refused when it is recorded.

mod field;

use crate::error::Result;
use crate::tape::spec::TableSpec;
use crate::value::{Decimal, Timestamp, Token, Uuid};

pub use field::{AsText, ColumnValue, DecimalField, Field, TextField};

/// A struct that is one row of a table. Usually derived: see [the derive](derive@crate::tape::Row).
pub trait Row {
    /// The table.
    fn spec() -> &'static TableSpec;

    /// Hands over each column of [`Row::spec`], in order, exactly once.
    ///
    /// # Errors
    /// What the writer refuses: a value that QuestDB would refuse or silently alter.
    fn write<W: ColumnWriter>(&self, writer: &mut W) -> Result<()>;
}

/// Takes a row's columns in the order of its spec; `None` is NULL.
pub trait ColumnWriter {
    /// A boolean.
    fn boolean(&mut self, value: bool) -> Result<()>;
    /// A signed integer.
    fn long(&mut self, value: Option<i64>) -> Result<()>;
    /// A float.
    fn double(&mut self, value: Option<f64>) -> Result<()>;
    /// A decimal.
    fn decimal(&mut self, value: Option<Decimal>) -> Result<()>;
    /// An unsigned integer.
    fn unsigned(&mut self, value: Option<u64>) -> Result<()>;
    /// An instant.
    fn timestamp(&mut self, value: Option<Timestamp>) -> Result<()>;
    /// A UUID.
    fn uuid(&mut self, value: Option<Uuid>) -> Result<()>;
    /// Text of a bounded set.
    fn symbol(&mut self, value: Option<&str>) -> Result<()>;
    /// A token, which is a symbol that was checked when it was made.
    fn token(&mut self, value: Option<&Token>) -> Result<()> {
        self.symbol(value.map(Token::as_str))
    }
    /// Text with a maximum.
    fn text(&mut self, value: Option<&str>) -> Result<()>;
}
