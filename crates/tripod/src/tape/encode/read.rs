//! Bytes to values, by any spec. Never panics: the bytes may come from a torn file or a journal of another version.

use crate::error::{Error, Result};
use crate::tape::encode::{NULLS_AT, Value, nulls_bytes};
use crate::tape::spec::{ColumnSpec, Kind, TableSpec};
use crate::value::{Decimal, Timestamp, Uuid};

/// Walks the columns of one payload.
pub(super) struct Reader<'a> {
    spec: &'a TableSpec,
    payload: &'a [u8],
    nulls: &'a [u8],
    /// The next column.
    column: usize,
    /// Whether the one before it is NULL.
    null: bool,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(spec: &'a TableSpec, payload: &'a [u8]) -> Result<Self> {
        let values_at = NULLS_AT + nulls_bytes(spec);
        let Some(nulls) = payload.get(NULLS_AT..values_at) else {
            return Err(Error::invalid(
                spec.name.as_str(),
                format!("{} bytes are too few for a payload of {} columns", payload.len(), spec.columns.len()),
            ));
        };
        let reader = Self { spec, payload, nulls, column: 0, null: false, at: 0 };
        // Bits beyond the last column are zero: a payload has exactly one form.
        if (spec.columns.len()..nulls.len() * 8).any(|index| reader.is_null(index)) {
            return Err(Error::invalid(spec.name.as_str(), "a payload marks columns that the spec does not have"));
        }
        Ok(reader)
    }

    /// The next column's value; `None` when all were read and no byte is left.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(&'a ColumnSpec, Value<'a>)>> {
        let Some(column) = self.step()? else { return Ok(None) };
        let value = if self.null { Value::Null } else { self.value(column)? };
        Ok(Some((column, value)))
    }

    /// The next column that is not NULL and whose kind is `wanted`; the others are passed over without a look at their
    /// values. `None` when no column is left.
    #[inline]
    pub(super) fn next_of(&mut self, wanted: impl Fn(Kind) -> bool) -> Result<Option<(&'a ColumnSpec, Value<'a>)>> {
        while let Some(column) = self.step()? {
            if self.null {
                continue;
            }
            if wanted(column.kind) {
                return self.value(column).map(|value| Some((column, value)));
            }
            self.pass_over(column)?;
        }
        Ok(None)
    }

    /// Goes to the next column and looks whether it is NULL; `None` when all were read and no byte is left.
    #[inline]
    fn step(&mut self) -> Result<Option<&'a ColumnSpec>> {
        let Some(column) = self.spec.columns.get(self.column) else {
            return if self.at == self.payload.len() { Ok(None) } else { Err(self.too_long()) };
        };
        if self.column == 1 {
            self.at = NULLS_AT + self.nulls.len();
        }
        self.null = self.is_null(self.column);
        if self.null && !column.optional {
            return Err(self.refuse(column, "is mandatory and marked absent"));
        }
        self.column += 1;
        Ok(Some(column))
    }

    #[inline]
    fn pass_over(&mut self, column: &ColumnSpec) -> Result<()> {
        let bytes = match column.kind {
            Kind::Boolean => 1,
            Kind::Long | Kind::Double | Kind::Unsigned | Kind::Timestamp => 8,
            Kind::Decimal { .. } | Kind::Uuid => 16,
            Kind::Symbol => usize::from(u8::from_le_bytes(self.chunk(column)?)),
            Kind::Text { .. } => usize::from(u16::from_le_bytes(self.chunk(column)?)),
        };
        self.at += bytes;
        if self.at > self.payload.len() { Err(self.refuse(column, "is cut off")) } else { Ok(()) }
    }

    fn is_null(&self, index: usize) -> bool {
        self.nulls.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    #[inline]
    fn value(&mut self, column: &'a ColumnSpec) -> Result<Value<'a>> {
        Ok(match column.kind {
            Kind::Boolean => match self.chunk::<1>(column)? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return Err(self.refuse(column, "is a boolean that is neither 0 nor 1")),
            },
            Kind::Long => Value::Long(i64::from_le_bytes(self.chunk(column)?)),
            Kind::Double => Value::Double(f64::from_le_bytes(self.chunk(column)?)),
            Kind::Unsigned => Value::Unsigned(u64::from_le_bytes(self.chunk(column)?)),
            Kind::Timestamp => {
                let nanos = i64::from_le_bytes(self.chunk(column)?);
                match Timestamp::from_nanos(nanos) {
                    Ok(timestamp) => Value::Timestamp(timestamp),
                    Err(_) => return Err(self.refuse(column, "is a timestamp outside 1970 to 2261")),
                }
            }
            Kind::Uuid => Value::Uuid(Uuid::from_bytes(self.chunk(column)?)),
            Kind::Decimal { .. } => {
                let bytes: [u8; 16] = self.chunk(column)?;
                // `deserialize` would quietly repair anything else; a payload that needs repair is not one of ours.
                if bytes[0] != 0 || bytes[1] != 0 || bytes[2] > 28 || bytes[3] & 0x7f != 0 {
                    return Err(self.refuse(column, "is not a decimal's bytes"));
                }
                Value::Decimal(Decimal::deserialize(bytes))
            }
            Kind::Symbol => {
                let [length] = self.chunk(column)?;
                Value::Symbol(self.text(column, usize::from(length))?)
            }
            Kind::Text { .. } => {
                let length = u16::from_le_bytes(self.chunk(column)?);
                Value::Text(self.text(column, usize::from(length))?)
            }
        })
    }

    #[inline]
    fn chunk<const N: usize>(&mut self, column: &ColumnSpec) -> Result<[u8; N]> {
        match self.payload.get(self.at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.refuse(column, "is cut off")),
        }
    }

    #[inline]
    fn text(&mut self, column: &ColumnSpec, length: usize) -> Result<&'a str> {
        let Some(bytes) = self.payload.get(self.at..).and_then(|rest| rest.get(..length)) else {
            return Err(self.refuse(column, "is cut off"));
        };
        self.at += length;
        std::str::from_utf8(bytes).map_err(|_| self.refuse(column, "is not UTF-8"))
    }

    #[cold]
    fn too_long(&self) -> Error {
        let left = self.payload.len().saturating_sub(self.at);
        Error::invalid(self.spec.name.as_str(), format!("a payload goes on for {left} bytes after its last column"))
    }

    #[cold]
    fn refuse(&self, column: &ColumnSpec, why: &str) -> Error {
        Error::invalid(format!("{}.{}", self.spec.name, column.name), format!("{why} (byte {} of a payload)", self.at))
    }
}
