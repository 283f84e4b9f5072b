//! Which Rust types may be a field of a row, and how each hands itself over.
//!
//! Picture:
//! ```text
//! no attribute          Field      ◀── ColumnValue (also Option<it>): i64 f64 u64 Timestamp Uuid Token · bool
//! symbol, text = N      TextField  ◀── AsText (also Option<it>): &str String Cow<str> Token, your enums
//! decimal = "p,s"       DecimalField: Decimal, Option<Decimal>
//! ```
//! A newtype becomes a column by implementing [`ColumnValue`], an enum by implementing [`AsText`].

use std::borrow::Cow;

use crate::error::Result;
use crate::tape::row::ColumnWriter;
use crate::tape::spec::Kind;
use crate::value::{Decimal, Timestamp, Token, Uuid};

/// A type that is a column by itself, present or absent. Implement it for a newtype:
///
/// ```
/// use tripod::tape::row::{ColumnValue, ColumnWriter};
/// use tripod::tape::spec::Kind;
///
/// struct ExecutionId(tripod::Uuid);
///
/// impl ColumnValue for ExecutionId {
///     const KIND: Kind = Kind::Uuid;
///
///     fn write<W: ColumnWriter>(value: Option<&Self>, writer: &mut W) -> tripod::Result<()> {
///         writer.uuid(value.map(|id| id.0))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a column of a row by itself",
    note = "columns are bool, i64, f64, u64, Timestamp, Uuid, Token and Option of each but bool",
    note = "text needs #[row(symbol)] or #[row(text = 256)], a Decimal needs #[row(decimal = \"28,18\")]",
    note = "other integers: convert to i64 or u64; your own type: implement tripod::tape::row::ColumnValue"
)]
pub trait ColumnValue {
    /// The column's type.
    const KIND: Kind;

    /// Hands the value over, or NULL.
    ///
    /// # Errors
    /// What the writer refuses.
    fn write<W: ColumnWriter>(value: Option<&Self>, writer: &mut W) -> Result<()>;
}

/// A field without an attribute: a [`ColumnValue`], an `Option` of one, or a `bool`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a column of a row by itself",
    note = "columns are bool, i64, f64, u64, Timestamp, Uuid, Token and Option of each but bool",
    note = "text needs #[row(symbol)] or #[row(text = 256)], a Decimal needs #[row(decimal = \"28,18\")]",
    note = "other integers: convert to i64 or u64; your own type: implement tripod::tape::row::ColumnValue"
)]
pub trait Field {
    /// The column's type.
    const KIND: Kind;
    /// Whether it may be absent.
    const OPTIONAL: bool;

    /// Hands the field over.
    ///
    /// # Errors
    /// What the writer refuses.
    fn write<W: ColumnWriter>(&self, writer: &mut W) -> Result<()>;
}

impl<T: ColumnValue> Field for T {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = false;

    #[inline(always)]
    fn write<W: ColumnWriter>(&self, writer: &mut W) -> Result<()> {
        T::write(Some(self), writer)
    }
}

impl<T: ColumnValue> Field for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;

    #[inline(always)]
    fn write<W: ColumnWriter>(&self, writer: &mut W) -> Result<()> {
        T::write(self.as_ref(), writer)
    }
}

/// Not a [`ColumnValue`], because QuestDB has no NULL boolean.
impl Field for bool {
    const KIND: Kind = Kind::Boolean;
    const OPTIONAL: bool = false;

    #[inline(always)]
    fn write<W: ColumnWriter>(&self, writer: &mut W) -> Result<()> {
        writer.boolean(*self)
    }
}

impl ColumnValue for i64 {
    const KIND: Kind = Kind::Long;

    #[inline(always)]
    fn write<W: ColumnWriter>(value: Option<&Self>, writer: &mut W) -> Result<()> {
        writer.long(value.copied())
    }
}

impl ColumnValue for f64 {
    const KIND: Kind = Kind::Double;

    #[inline(always)]
    fn write<W: ColumnWriter>(value: Option<&Self>, writer: &mut W) -> Result<()> {
        writer.double(value.copied())
    }
}

impl ColumnValue for u64 {
    const KIND: Kind = Kind::Unsigned;

    #[inline(always)]
    fn write<W: ColumnWriter>(value: Option<&Self>, writer: &mut W) -> Result<()> {
        writer.unsigned(value.copied())
    }
}

impl ColumnValue for Timestamp {
    const KIND: Kind = Kind::Timestamp;

    #[inline(always)]
    fn write<W: ColumnWriter>(value: Option<&Self>, writer: &mut W) -> Result<()> {
        writer.timestamp(value.copied())
    }
}

impl ColumnValue for Uuid {
    const KIND: Kind = Kind::Uuid;

    #[inline(always)]
    fn write<W: ColumnWriter>(value: Option<&Self>, writer: &mut W) -> Result<()> {
        writer.uuid(value.copied())
    }
}

impl ColumnValue for Token {
    const KIND: Kind = Kind::Symbol;

    #[inline(always)]
    fn write<W: ColumnWriter>(value: Option<&Self>, writer: &mut W) -> Result<()> {
        writer.token(value)
    }
}

/// A type that is text: of a bounded set with `#[row(symbol)]`, of any kind with `#[row(text = N)]`. Implement it for an
/// enum whose names are a column's values:
///
/// ```
/// enum Side { Buy, Sell }
///
/// impl tripod::tape::row::AsText for Side {
///     fn as_text(&self) -> &str {
///         match self {
///             Self::Buy => "buy",
///             Self::Sell => "sell",
///         }
///     }
/// }
/// ```
///
/// A number is no text, whatever the attribute says:
///
/// ```compile_fail,E0277
/// #[derive(tripod::tape::Row)]
/// #[row(table = "fills", importance = "critical")]
/// struct Fill {
///     #[row(timestamp)]
///     at: tripod::Timestamp,
///     #[row(key, symbol)]
///     id: u64,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not text, so it cannot be a symbol or text column",
    note = "text is &str, String, Cow<str>, Token and Option of each; your own enum: implement tripod::tape::row::AsText"
)]
pub trait AsText {
    /// The text.
    fn as_text(&self) -> &str;
}

impl AsText for str {
    #[inline]
    fn as_text(&self) -> &str {
        self
    }
}

impl AsText for String {
    #[inline]
    fn as_text(&self) -> &str {
        self
    }
}

impl AsText for Cow<'_, str> {
    #[inline]
    fn as_text(&self) -> &str {
        self
    }
}

impl AsText for Token {
    #[inline]
    fn as_text(&self) -> &str {
        self.as_str()
    }
}

impl<T: AsText + ?Sized> AsText for &T {
    #[inline]
    fn as_text(&self) -> &str {
        T::as_text(self)
    }
}

/// A field with `#[row(symbol)]` or `#[row(text = N)]`: an [`AsText`] or an `Option` of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not text, so it cannot be a symbol or text column",
    note = "text is &str, String, Cow<str>, Token and Option of each; your own enum: implement tripod::tape::row::AsText"
)]
pub trait TextField {
    /// Whether it may be absent.
    const OPTIONAL: bool;

    /// The text, or NULL.
    fn text(&self) -> Option<&str>;
}

impl<T: AsText> TextField for T {
    const OPTIONAL: bool = false;

    #[inline]
    fn text(&self) -> Option<&str> {
        Some(self.as_text())
    }
}

impl<T: AsText> TextField for Option<T> {
    const OPTIONAL: bool = true;

    #[inline]
    fn text(&self) -> Option<&str> {
        self.as_ref().map(AsText::as_text)
    }
}

/// A field with `#[row(decimal = "p,s")]`: a [`Decimal`] or an `Option` of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a decimal column",
    note = "decimal columns are tripod::Decimal and Option<tripod::Decimal>; a u64 is a column without an attribute"
)]
pub trait DecimalField {
    /// Whether it may be absent.
    const OPTIONAL: bool;

    /// The value, or NULL.
    fn decimal(&self) -> Option<Decimal>;
}

impl DecimalField for Decimal {
    const OPTIONAL: bool = false;

    #[inline]
    fn decimal(&self) -> Option<Decimal> {
        Some(*self)
    }
}

impl DecimalField for Option<Decimal> {
    const OPTIONAL: bool = true;

    #[inline]
    fn decimal(&self) -> Option<Decimal> {
        *self
    }
}
