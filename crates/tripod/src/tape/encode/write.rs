//! Row to bytes, in one pass over [`Row::write`](crate::tape::row::Row::write): [`Fill`] checks and writes. [`Measure`]
//! checks and counts, for whoever needs the length first.
//!
//! Both walk the spec's columns along with the calls, so that a hand-written row that hands over the wrong column is an
//! error that names it, not bytes that nobody can read.
//!
//! This is most of what `record()` costs, hence: every method of [`Fill`] is inlined and no error path takes a reference
//! to it, so that its place in the room and its NULL bits stay in registers; short text is copied in words, not by a
//! call; and the look for NUL bytes is made on the words that are copied.

use crate::error::{Error, Result};
use crate::tape::encode::{NULLS_AT, limits, nulls_bytes, text};
use crate::tape::row::ColumnWriter;
use crate::tape::spec::{COLUMNS_MAX, ColumnSpec, Kind, TableSpec};
use crate::value::{Decimal, Timestamp, Token, Uuid};

/// The place in the spec.
struct Columns<'s> {
    spec: &'s TableSpec,
    rest: std::slice::Iter<'s, ColumnSpec>,
}

impl<'s> Columns<'s> {
    fn new(spec: &'s TableSpec) -> Self {
        Self { spec, rest: spec.columns.iter() }
    }

    /// The column that the row must hand over now.
    #[inline(always)]
    fn step(&mut self, given: &'static str, fits: impl FnOnce(Kind) -> bool, present: bool) -> Result<&'s ColumnSpec> {
        let Some(column) = self.rest.next() else {
            return Err(past_the_end(self.spec, given));
        };
        if !fits(column.kind) {
            return Err(wrong_kind(self.spec, column, given));
        }
        if !present && !column.optional {
            return Err(absent(self.spec, column));
        }
        Ok(column)
    }

    fn finish(&self) -> Result<()> {
        match self.rest.as_slice().first() {
            None => Ok(()),
            Some(column) => Err(refuse(self.spec, column, "was not handed over by the row".into())),
        }
    }
}

#[cold]
fn refuse(spec: &TableSpec, column: &ColumnSpec, why: String) -> Error {
    Error::invalid(format!("{}.{}", spec.name, column.name), why)
}

#[cold]
fn absent(spec: &TableSpec, column: &ColumnSpec) -> Error {
    refuse(spec, column, "is mandatory and absent".into())
}

#[cold]
fn wrong_kind(spec: &TableSpec, column: &ColumnSpec, given: &'static str) -> Error {
    refuse(spec, column, format!("is {}; the row handed over a {given} here", column.kind))
}

#[cold]
fn past_the_end(spec: &TableSpec, given: &'static str) -> Error {
    Error::invalid(
        spec.name.as_str(),
        format!("has {} columns; the row handed over one more, a {given}", spec.columns.len()),
    )
}

/// Checks each value and counts the bytes of the payload.
pub(super) struct Measure<'s> {
    columns: Columns<'s>,
    bytes: usize,
}

impl<'s> Measure<'s> {
    pub(super) fn new(spec: &'s TableSpec) -> Self {
        // The designated timestamp counts when it is handed over.
        Self { columns: Columns::new(spec), bytes: nulls_bytes(spec) }
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
            self.bytes += check(value, column.kind).map_err(|why| refuse(self.columns.spec, column, why))?;
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

/// NULL bits of as many columns as a spec may have.
const NULL_WORDS: usize = COLUMNS_MAX.div_ceil(64);

/// Checks each value and writes the payload to the front of the room; it leaves the bytes behind the payload as they
/// are, or zero.
pub(super) struct Fill<'s, 'o> {
    columns: Columns<'s>,
    /// The next column.
    index: usize,
    nulls: [u64; NULL_WORDS],
    out: &'o mut [u8],
    /// Where the next value goes.
    at: usize,
}

impl<'s, 'o> Fill<'s, 'o> {
    #[inline(always)]
    pub(super) fn new(spec: &'s TableSpec, out: &'o mut [u8]) -> Result<Self> {
        let at = NULLS_AT + nulls_bytes(spec);
        if out.len() < at {
            return Err(no_room(spec, out.len()));
        }
        Ok(Self { columns: Columns::new(spec), index: 0, nulls: [0; NULL_WORDS], out, at })
    }

    /// Bytes of the payload.
    #[inline(always)]
    pub(super) fn finish(self) -> Result<usize> {
        self.columns.finish()?;
        let bytes = bytemuck::cast::<[u64; NULL_WORDS], [u8; NULL_WORDS * 8]>(self.nulls.map(u64::to_le));
        let room = self.out.get_mut(NULLS_AT..NULLS_AT + nulls_bytes(self.columns.spec));
        for (room, byte) in room.unwrap_or_default().iter_mut().zip(bytes) {
            *room = byte;
        }
        Ok(self.at)
    }

    /// As [`Self::finish`], for a room that was measured.
    pub(super) fn finish_full(self) -> Result<()> {
        let (spec, room) = (self.columns.spec, self.out.len());
        if self.finish()? == room { Ok(()) } else { Err(no_room(spec, room)) }
    }

    /// Takes a value and writes it, or marks the column as NULL.
    #[inline(always)]
    fn take<T>(
        &mut self,
        given: &'static str,
        fits: impl FnOnce(Kind) -> bool,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T, &'s ColumnSpec) -> Result<()>,
    ) -> Result<()> {
        let column = self.columns.step(given, fits, value.is_some())?;
        let index = self.index;
        self.index = index + 1;
        match value {
            Some(value) => write(self, value, column),
            None => {
                // A spec has no more columns than there are bits; `finish` refuses one that had.
                if let Some(word) = self.nulls.get_mut(index / 64) {
                    *word |= 1 << (index % 64);
                }
                Ok(())
            }
        }
    }

    /// A value of `N` bytes.
    #[inline(always)]
    fn fixed<const N: usize>(&mut self, value: [u8; N]) -> Result<()> {
        let Some(room) = self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) else {
            return Err(no_room(self.columns.spec, self.out.len()));
        };
        *room = value;
        self.at += N;
        Ok(())
    }

    /// The room for `bytes` of text.
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> Result<&mut [u8]> {
        let (spec, len) = (self.columns.spec, self.out.len());
        let Some(room) = self.out.get_mut(self.at..).and_then(|rest| rest.get_mut(..bytes)) else {
            return Err(no_room(spec, len));
        };
        self.at += bytes;
        Ok(room)
    }
}

impl ColumnWriter for Fill<'_, '_> {
    #[inline(always)]
    fn boolean(&mut self, value: bool) -> Result<()> {
        self.take("boolean", |kind| kind == Kind::Boolean, Some(value), |fill, value, _| fill.fixed([u8::from(value)]))
    }

    #[inline(always)]
    fn long(&mut self, value: Option<i64>) -> Result<()> {
        self.take(
            "long",
            |kind| kind == Kind::Long,
            value,
            |fill, value, column| {
                limits::long(value).map_err(|why| refuse(fill.columns.spec, column, why))?;
                fill.fixed(value.to_le_bytes())
            },
        )
    }

    #[inline(always)]
    fn double(&mut self, value: Option<f64>) -> Result<()> {
        self.take(
            "double",
            |kind| kind == Kind::Double,
            value,
            |fill, value, column| {
                limits::double(value).map_err(|why| refuse(fill.columns.spec, column, why))?;
                fill.fixed(value.to_le_bytes())
            },
        )
    }

    #[inline(always)]
    fn decimal(&mut self, value: Option<Decimal>) -> Result<()> {
        self.take("decimal", is_decimal, value, |fill, value, column| {
            if let Kind::Decimal { precision, scale } = column.kind {
                limits::decimal(value, precision, scale).map_err(|why| refuse(fill.columns.spec, column, why))?;
            }
            fill.fixed(decimal_bytes(value))
        })
    }

    #[inline(always)]
    fn unsigned(&mut self, value: Option<u64>) -> Result<()> {
        self.take("unsigned", |kind| kind == Kind::Unsigned, value, |fill, value, _| fill.fixed(value.to_le_bytes()))
    }

    #[inline(always)]
    fn timestamp(&mut self, value: Option<Timestamp>) -> Result<()> {
        self.take(
            "timestamp",
            |kind| kind == Kind::Timestamp,
            value,
            |fill, value, _| {
                let bytes = value.as_nanos().to_le_bytes();
                // The designated one: it stands in front of the NULL bits.
                if fill.index == 1 {
                    let Some(room) = fill.out.first_chunk_mut() else {
                        return Err(no_room(fill.columns.spec, fill.out.len()));
                    };
                    *room = bytes;
                    return Ok(());
                }
                fill.fixed(bytes)
            },
        )
    }

    #[inline(always)]
    fn uuid(&mut self, value: Option<Uuid>) -> Result<()> {
        self.take("uuid", |kind| kind == Kind::Uuid, value, |fill, value, _| fill.fixed(value.into_bytes()))
    }

    #[inline(always)]
    fn symbol(&mut self, value: Option<&str>) -> Result<()> {
        self.take(
            "symbol",
            |kind| kind == Kind::Symbol,
            value,
            |fill, value, column| {
                let spec = fill.columns.spec;
                let length = limits::symbol_length(value).map_err(|why| refuse(spec, column, why))?;
                fill.fixed([length])?;
                let clean = text::copy(value.as_bytes(), fill.room(value.len())?);
                if clean { Ok(()) } else { Err(has_nul(spec, column)) }
            },
        )
    }

    #[inline(always)]
    fn token(&mut self, value: Option<&Token>) -> Result<()> {
        // A Token is a good symbol by construction.
        self.take(
            "symbol",
            |kind| kind == Kind::Symbol,
            value,
            |fill, value, _| {
                let (length, padded) = value.padded();
                fill.fixed([length])?;
                match fill.out.get_mut(fill.at..).and_then(<[u8]>::first_chunk_mut) {
                    // All of it, zeros included, in a few stores; the next value goes over the zeros.
                    Some(room) => {
                        *room = *padded;
                        fill.at += usize::from(length);
                    }
                    None => fill.room(usize::from(length))?.copy_from_slice(value.as_bytes()),
                }
                Ok(())
            },
        )
    }

    #[inline(always)]
    fn text(&mut self, value: Option<&str>) -> Result<()> {
        self.take("text", is_text, value, |fill, value, column| {
            let spec = fill.columns.spec;
            let Kind::Text { max_bytes } = column.kind else { return Err(wrong_kind(spec, column, "text")) };
            let length = limits::text_length(value, max_bytes).map_err(|why| refuse(spec, column, why))?;
            fill.fixed(length.to_le_bytes())?;
            let clean = text::copy(value.as_bytes(), fill.room(value.len())?);
            if clean { Ok(()) } else { Err(has_nul(spec, column)) }
        })
    }
}

/// As `Decimal::serialize`: flags (scale, sign), then 96 bits of mantissa.
#[inline(always)]
fn decimal_bytes(value: Decimal) -> [u8; 16] {
    let flags = (value.scale() << 16) | (u32::from(value.is_sign_negative()) << 31);
    (u128::from(flags) | (value.mantissa().unsigned_abs() << 32)).to_le_bytes()
}

#[cold]
fn has_nul(spec: &TableSpec, column: &ColumnSpec) -> Error {
    refuse(spec, column, limits::HAS_NUL.into())
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
