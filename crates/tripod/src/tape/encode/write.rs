//! Row to bytes, in two passes over [`Row::write`](crate::tape::row::Row::write): [`Measure`] checks and counts,
//! [`Fill`] writes.
//!
//! Both walk the spec's columns along with the calls, so that a hand-written row that hands over the wrong column is an
//! error that names it, not bytes that nobody can read.

use crate::error::{Error, Result};
use crate::tape::encode::{NULLS_AT, limits, nulls_bytes};
use crate::tape::row::ColumnWriter;
use crate::tape::spec::{ColumnSpec, Kind, TableSpec};
use crate::value::{Decimal, Timestamp, Uuid};

/// The place in the spec.
struct Columns<'s> {
    spec: &'s TableSpec,
    next: usize,
}

impl<'s> Columns<'s> {
    /// The column that the row must hand over now.
    #[inline]
    fn step(&mut self, given: &'static str, fits: impl FnOnce(Kind) -> bool, present: bool) -> Result<&'s ColumnSpec> {
        let Some(column) = self.spec.columns.get(self.next) else {
            return Err(self.past_the_end(given));
        };
        if !fits(column.kind) {
            return Err(self.wrong_kind(column, given));
        }
        if !present && !column.optional {
            return Err(self.refuse(column, "is mandatory and absent".into()));
        }
        self.next += 1;
        Ok(column)
    }

    fn finish(&self) -> Result<()> {
        match self.spec.columns.get(self.next) {
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
        Self { columns: Columns { spec, next: 0 }, bytes: nulls_bytes(spec) }
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
    fn text(&mut self, value: Option<&str>) -> Result<()> {
        self.take("text", is_text, value, |value, kind| match kind {
            Kind::Text { max_bytes } => limits::text(value, max_bytes).map(|()| 2 + value.len()),
            _ => Err("is not a text column".into()),
        })
    }
}

/// Writes the payload. The values were checked by [`Measure`]; here only the room and the order are.
pub(super) struct Fill<'s, 'o> {
    columns: Columns<'s>,
    out: &'o mut [u8],
    at: usize,
}

impl<'s, 'o> Fill<'s, 'o> {
    pub(super) fn new(spec: &'s TableSpec, out: &'o mut [u8]) -> Result<Self> {
        let values_at = NULLS_AT + nulls_bytes(spec);
        let available = out.len();
        match out.get_mut(NULLS_AT..values_at) {
            // The room may hold an older record's bytes.
            Some(nulls) => nulls.fill(0),
            None => return Err(no_room(spec, available)),
        }
        // The designated timestamp comes first and goes to the front; the others follow behind the NULL bits.
        Ok(Self { columns: Columns { spec, next: 0 }, out, at: 0 })
    }

    pub(super) fn finish(self) -> Result<()> {
        self.columns.finish()?;
        if self.at == self.out.len() { Ok(()) } else { Err(no_room(self.columns.spec, self.out.len())) }
    }

    #[inline]
    fn step(&mut self, given: &'static str, fits: impl FnOnce(Kind) -> bool, present: bool) -> Result<()> {
        let index = self.columns.next;
        self.columns.step(given, fits, present)?;
        if !present && let Some(byte) = self.out.get_mut(NULLS_AT + index / 8) {
            *byte |= 1 << (index % 8);
        }
        if index == 1 {
            self.at = NULLS_AT + nulls_bytes(self.columns.spec);
        }
        Ok(())
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let available = self.out.len();
        match self.at.checked_add(bytes.len()).and_then(|end| self.out.get_mut(self.at..end)) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.at += bytes.len();
                Ok(())
            }
            None => Err(no_room(self.columns.spec, available)),
        }
    }
}

impl ColumnWriter for Fill<'_, '_> {
    #[inline]
    fn boolean(&mut self, value: bool) -> Result<()> {
        self.step("boolean", |kind| kind == Kind::Boolean, true)?;
        self.put(&[u8::from(value)])
    }

    #[inline]
    fn long(&mut self, value: Option<i64>) -> Result<()> {
        self.step("long", |kind| kind == Kind::Long, value.is_some())?;
        value.map_or(Ok(()), |value| self.put(&value.to_le_bytes()))
    }

    #[inline]
    fn double(&mut self, value: Option<f64>) -> Result<()> {
        self.step("double", |kind| kind == Kind::Double, value.is_some())?;
        value.map_or(Ok(()), |value| self.put(&value.to_le_bytes()))
    }

    #[inline]
    fn decimal(&mut self, value: Option<Decimal>) -> Result<()> {
        self.step("decimal", is_decimal, value.is_some())?;
        value.map_or(Ok(()), |value| self.put(&value.serialize()))
    }

    #[inline]
    fn unsigned(&mut self, value: Option<u64>) -> Result<()> {
        self.step("unsigned", |kind| kind == Kind::Unsigned, value.is_some())?;
        value.map_or(Ok(()), |value| self.put(&value.to_le_bytes()))
    }

    #[inline]
    fn timestamp(&mut self, value: Option<Timestamp>) -> Result<()> {
        self.step("timestamp", |kind| kind == Kind::Timestamp, value.is_some())?;
        value.map_or(Ok(()), |value| self.put(&value.as_nanos().to_le_bytes()))
    }

    #[inline]
    fn uuid(&mut self, value: Option<Uuid>) -> Result<()> {
        self.step("uuid", |kind| kind == Kind::Uuid, value.is_some())?;
        value.map_or(Ok(()), |value| self.put(value.as_bytes()))
    }

    #[inline]
    fn symbol(&mut self, value: Option<&str>) -> Result<()> {
        self.step("symbol", |kind| kind == Kind::Symbol, value.is_some())?;
        let Some(value) = value else { return Ok(()) };
        let length = u8::try_from(value.len()).map_err(|_| no_room(self.columns.spec, self.out.len()))?;
        self.put(&[length])?;
        self.put(value.as_bytes())
    }

    #[inline]
    fn text(&mut self, value: Option<&str>) -> Result<()> {
        self.step("text", is_text, value.is_some())?;
        let Some(value) = value else { return Ok(()) };
        let length = u16::try_from(value.len()).map_err(|_| no_room(self.columns.spec, self.out.len()))?;
        self.put(&length.to_le_bytes())?;
        self.put(value.as_bytes())
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
