//! Row to bytes, in two passes over [`Row::write`](crate::tape::row::Row::write): [`Measure`] checks and counts,
//! [`Fill`] writes.
//!
//! [`Measure`] walks the spec's columns along with the calls, so that a hand-written row that hands over the wrong column
//! is an error that names it, not bytes that nobody can read.

use crate::error::{Error, Result};
use crate::tape::encode::{NULLS_AT, limits, nulls_bytes};
use crate::tape::row::ColumnWriter;
use crate::tape::spec::{ColumnSpec, Kind, TableSpec};
use crate::value::{Decimal, Timestamp, Token, Uuid};

/// The place in the spec.
struct Columns<'s> {
    spec: &'s TableSpec,
    rest: std::slice::Iter<'s, ColumnSpec>,
}

impl<'s> Columns<'s> {
    /// The column that the row must hand over now.
    #[inline]
    fn step(&mut self, given: &'static str, fits: impl FnOnce(Kind) -> bool, present: bool) -> Result<&'s ColumnSpec> {
        let Some(column) = self.rest.next() else {
            return Err(self.past_the_end(given));
        };
        if !fits(column.kind) {
            return Err(self.wrong_kind(column, given));
        }
        if !present && !column.optional {
            return Err(self.refuse(column, "is mandatory and absent".into()));
        }
        Ok(column)
    }

    fn finish(&self) -> Result<()> {
        match self.rest.as_slice().first() {
            None => Ok(()),
            Some(column) => Err(self.refuse(column, "was not handed over by the row".into())),
        }
    }

    #[cold]
    fn refuse(&self, column: &ColumnSpec, why: String) -> Error {
        Error::invalid(format!("{}.{}", self.spec.name, column.name), why)
    }

    #[cold]
    fn wrong_kind(&self, column: &ColumnSpec, given: &'static str) -> Error {
        self.refuse(column, format!("is {}; the row handed over a {given} here", column.kind))
    }

    #[cold]
    fn past_the_end(&self, given: &'static str) -> Error {
        Error::invalid(
            self.spec.name.as_str(),
            format!("has {} columns; the row handed over one more, a {given}", self.spec.columns.len()),
        )
    }
}

/// Checks each value and counts the bytes of the payload.
pub(super) struct Measure<'s> {
    columns: Columns<'s>,
    bytes: usize,
}

impl<'s> Measure<'s> {
    pub(super) fn new(spec: &'s TableSpec) -> Self {
        // The designated timestamp counts when it is handed over.
        Self { columns: Columns { spec, rest: spec.columns.iter() }, bytes: nulls_bytes(spec) }
    }

    pub(super) fn finish(self) -> Result<usize> {
        self.columns.finish()?;
        Ok(self.bytes)
    }

    /// Takes a value of `bytes` bytes where there is one.
    #[inline]
    fn take<T>(
        &mut self,
        given: &'static str,
        fits: impl FnOnce(Kind) -> bool,
        value: Option<T>,
        check: impl FnOnce(T, Kind) -> Result<usize, String>,
    ) -> Result<()> {
        let column = self.columns.step(given, fits, value.is_some())?;
        if let Some(value) = value {
            self.bytes += check(value, column.kind).map_err(|why| self.columns.refuse(column, why))?;
        }
        Ok(())
    }
}

impl ColumnWriter for Measure<'_> {
    #[inline]
    fn boolean(&mut self, value: bool) -> Result<()> {
        self.take("boolean", |kind| kind == Kind::Boolean, Some(value), |_, _| Ok(1))
    }

    #[inline]
    fn long(&mut self, value: Option<i64>) -> Result<()> {
        self.take("long", |kind| kind == Kind::Long, value, |value, _| limits::long(value).map(|()| 8))
    }

    #[inline]
    fn double(&mut self, value: Option<f64>) -> Result<()> {
        self.take("double", |kind| kind == Kind::Double, value, |value, _| limits::double(value).map(|()| 8))
    }

    #[inline]
    fn decimal(&mut self, value: Option<Decimal>) -> Result<()> {
        self.take("decimal", is_decimal, value, |value, kind| match kind {
            Kind::Decimal { precision, scale } => limits::decimal(value, precision, scale).map(|()| 16),
            _ => Err("is not a decimal column".into()),
        })
    }

    #[inline]
    fn unsigned(&mut self, value: Option<u64>) -> Result<()> {
        self.take("unsigned", |kind| kind == Kind::Unsigned, value, |_, _| Ok(8))
    }

    #[inline]
    fn timestamp(&mut self, value: Option<Timestamp>) -> Result<()> {
        // A Timestamp is within QuestDB's range by construction.
        self.take("timestamp", |kind| kind == Kind::Timestamp, value, |_, _| Ok(8))
    }

    #[inline]
    fn uuid(&mut self, value: Option<Uuid>) -> Result<()> {
        self.take("uuid", |kind| kind == Kind::Uuid, value, |_, _| Ok(16))
    }

    #[inline]
    fn symbol(&mut self, value: Option<&str>) -> Result<()> {
        self.take(
            "symbol",
            |kind| kind == Kind::Symbol,
            value,
            |value, _| limits::symbol(value).map(|()| 1 + value.len()),
        )
    }

    #[inline]
    fn token(&mut self, value: Option<&Token>) -> Result<()> {
        // A Token is a good symbol by construction.
        self.take("symbol", |kind| kind == Kind::Symbol, value, |value, _| Ok(1 + value.as_bytes().len()))
    }

    #[inline]
    fn text(&mut self, value: Option<&str>) -> Result<()> {
        self.take("text", is_text, value, |value, kind| match kind {
            Kind::Text { max_bytes } => limits::text(value, max_bytes).map(|()| 2 + value.len()),
            _ => Err("is not a text column".into()),
        })
    }
}

/// Writes the payload. Order and values were checked by [`Measure`]; here only the room and the number of columns are,
/// because a second check of everything would cost as much as the writing.
pub(super) struct Fill<'s, 'o> {
    spec: &'s TableSpec,
    /// The next column.
    index: usize,
    /// Bytes of the whole payload, for errors.
    bytes: usize,
    designated: &'o mut [u8; NULLS_AT],
    nulls: &'o mut [u8],
    /// The room that is left for values.
    values: &'o mut [u8],
}

impl<'s, 'o> Fill<'s, 'o> {
    pub(super) fn new(spec: &'s TableSpec, out: &'o mut [u8]) -> Result<Self> {
        let bytes = out.len();
        let parts = out.split_first_chunk_mut().and_then(|(designated, rest)| {
            rest.split_at_mut_checked(nulls_bytes(spec)).map(|(nulls, values)| (designated, nulls, values))
        });
        let Some((designated, nulls, values)) = parts else { return Err(no_room(spec, bytes)) };
        // The room may hold an older record's bytes.
        nulls.fill(0);
        Ok(Self { spec, index: 0, bytes, designated, nulls, values })
    }

    pub(super) fn finish(self) -> Result<()> {
        let all = self.index == self.spec.columns.len() && self.values.is_empty();
        if all { Ok(()) } else { Err(no_room(self.spec, self.bytes)) }
    }

    /// The next column is NULL.
    #[inline]
    fn null(&mut self) -> Result<()> {
        let Some(byte) = self.nulls.get_mut(self.index / 8) else { return Err(no_room(self.spec, self.bytes)) };
        *byte |= 1 << (self.index % 8);
        self.index += 1;
        Ok(())
    }

    /// The next column has a value of `N` bytes.
    #[inline]
    fn fixed<const N: usize>(&mut self, value: Option<[u8; N]>) -> Result<()> {
        let Some(value) = value else { return self.null() };
        match std::mem::take(&mut self.values).split_first_chunk_mut() {
            Some((room, rest)) => {
                *room = value;
                self.values = rest;
                self.index += 1;
                Ok(())
            }
            None => Err(no_room(self.spec, self.bytes)),
        }
    }

    /// The next column has text: its length in `N` bytes, then the text.
    #[inline]
    fn prefixed<const N: usize>(&mut self, length: [u8; N], text: &[u8]) -> Result<()> {
        self.fixed(Some(length))?;
        match std::mem::take(&mut self.values).split_at_mut_checked(text.len()) {
            Some((room, rest)) => {
                room.copy_from_slice(text);
                self.values = rest;
                Ok(())
            }
            None => Err(no_room(self.spec, self.bytes)),
        }
    }

    #[inline]
    fn short(&mut self, text: Option<&[u8]>) -> Result<()> {
        let Some(text) = text else { return self.null() };
        let Ok(length) = u8::try_from(text.len()) else { return Err(no_room(self.spec, self.bytes)) };
        self.prefixed([length], text)
    }
}

impl ColumnWriter for Fill<'_, '_> {
    #[inline]
    fn boolean(&mut self, value: bool) -> Result<()> {
        self.fixed(Some([u8::from(value)]))
    }

    #[inline]
    fn long(&mut self, value: Option<i64>) -> Result<()> {
        self.fixed(value.map(i64::to_le_bytes))
    }

    #[inline]
    fn double(&mut self, value: Option<f64>) -> Result<()> {
        self.fixed(value.map(f64::to_le_bytes))
    }

    #[inline]
    fn decimal(&mut self, value: Option<Decimal>) -> Result<()> {
        self.fixed(value.map(|value| value.serialize()))
    }

    #[inline]
    fn unsigned(&mut self, value: Option<u64>) -> Result<()> {
        self.fixed(value.map(u64::to_le_bytes))
    }

    #[inline]
    fn timestamp(&mut self, value: Option<Timestamp>) -> Result<()> {
        let value = value.map(|value| value.as_nanos().to_le_bytes());
        match value {
            // The designated one: it stands in front of the NULL bits.
            Some(value) if self.index == 0 => {
                *self.designated = value;
                self.index = 1;
                Ok(())
            }
            value => self.fixed(value),
        }
    }

    #[inline]
    fn uuid(&mut self, value: Option<Uuid>) -> Result<()> {
        self.fixed(value.map(Uuid::into_bytes))
    }

    #[inline]
    fn symbol(&mut self, value: Option<&str>) -> Result<()> {
        self.short(value.map(str::as_bytes))
    }

    #[inline]
    fn token(&mut self, value: Option<&Token>) -> Result<()> {
        self.short(value.map(Token::as_bytes))
    }

    #[inline]
    fn text(&mut self, value: Option<&str>) -> Result<()> {
        let Some(text) = value else { return self.null() };
        let Ok(length) = u16::try_from(text.len()) else { return Err(no_room(self.spec, self.bytes)) };
        self.prefixed(length.to_le_bytes(), text.as_bytes())
    }
}

fn is_decimal(kind: Kind) -> bool {
    matches!(kind, Kind::Decimal { .. })
}

fn is_text(kind: Kind) -> bool {
    matches!(kind, Kind::Text { .. })
}

#[cold]
fn no_room(spec: &TableSpec, available: usize) -> Error {
    Error::invalid(
        spec.name.as_str(),
        format!("a row does not fill the {available} bytes measured for it; did it change between two reads?"),
    )
}
