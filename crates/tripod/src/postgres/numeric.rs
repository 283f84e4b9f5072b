//! u64 as PostgreSQL's `numeric(20,0)`: bigint ends at half of it, and text would be parsed twice.
//!
//! The wire form is base-10,000 digits, most significant first: count, weight of the first, sign, scale, digits.

use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

type Boxed = Box<dyn std::error::Error + Sync + Send>;

/// A u64 that is stored as `numeric(20,0)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsigned(pub(crate) u64);

const BASE: u64 = 10_000;
/// 20 decimal digits are five groups of four.
const GROUPS_MAX: usize = 5;

impl ToSql for Unsigned {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        let mut groups = [0_i16; GROUPS_MAX];
        let mut rest = self.0;
        let mut count = 0_usize;
        while rest > 0 {
            groups[count] = i16::try_from(rest % BASE)?;
            rest /= BASE;
            count += 1;
        }
        let digits = i16::try_from(count)?;
        for header in [digits, (digits - 1).max(0), 0, 0] {
            out.extend_from_slice(&header.to_be_bytes());
        }
        for group in groups[..count].iter().rev() {
            out.extend_from_slice(&group.to_be_bytes());
        }
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Unsigned {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        let mut words = raw.chunks_exact(2).map(|w| i16::from_be_bytes([w[0], w[1]]));
        let mut next = || words.next().ok_or("numeric is cut short");
        let (count, weight, sign, _scale) = (next()?, next()?, next()?, next()?);
        if sign != 0 {
            return Err("numeric is negative or not a number".into());
        }
        let mut value = 0_u64;
        for place in 0..=weight.max(-1) {
            // Trailing zero groups are not sent.
            let group = if place < count { u64::try_from(next()?)? } else { 0 };
            value = value.checked_mul(BASE).and_then(|v| v.checked_add(group)).ok_or("numeric is beyond u64")?;
        }
        // Whatever stands behind the decimal point; the column's scale of 0 leaves none.
        if count > weight.saturating_add(1).max(0) {
            return Err("numeric has a fraction".into());
        }
        Ok(Self(value))
    }

    accepts!(NUMERIC);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(value: u64) -> BytesMut {
        let mut out = BytesMut::new();
        Unsigned(value).to_sql(&Type::NUMERIC, &mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            prop_assert_eq!(Unsigned::from_sql(&Type::NUMERIC, &wire(value)).unwrap(), Unsigned(value));
        }

        #[test]
        fn torn_bytes_are_an_error_or_a_number_never_a_panic(raw in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = Unsigned::from_sql(&Type::NUMERIC, &raw);
        }
    }

    #[test]
    fn the_ends_and_the_zeroes_within_survive() {
        for value in [0, 1, 9_999, 10_000, 100_000_000, 1_0000_0000_0001, i64::MAX.unsigned_abs(), u64::MAX] {
            assert_eq!(Unsigned::from_sql(&Type::NUMERIC, &wire(value)).unwrap(), Unsigned(value));
        }
        // 10,000 as the server sends it: one group, weight one, the zero group left out.
        let server = [0, 1, 0, 1, 0, 0, 0, 0, 0, 1];
        assert_eq!(Unsigned::from_sql(&Type::NUMERIC, &server).unwrap(), Unsigned(10_000));
    }
}
