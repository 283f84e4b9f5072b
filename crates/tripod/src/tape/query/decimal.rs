//! A DECIMAL of QuestDB, digit for digit.
//!
//! The wire form is PostgreSQL's numeric: base-10,000 digits, most significant first; count, weight of the first, sign,
//! scale, digits. A sum has up to 76 digits; what [`Decimal`] cannot hold exactly is an error, never rounded.

use tokio_postgres::types::{FromSql, Type, accepts};

use crate::value::Decimal;

type Boxed = Box<dyn std::error::Error + Sync + Send>;

/// A decimal as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exact(pub(super) Decimal);

const BASE: i128 = 10_000;
const DIGITS_PER_GROUP: i32 = 4;
const NEGATIVE: u16 = 0x4000;

impl<'a> FromSql<'a> for Exact {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        let mut words = raw.chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
        let mut next = || words.next().ok_or("numeric is cut short");
        let (count, weight, sign, _scale) = (next()?, next()?.cast_signed(), next()?, next()?);
        if sign != 0 && sign != NEGATIVE {
            return Err("numeric is not a number".into());
        }
        let mut groups = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let group = i128::from(next()?);
            if group >= BASE {
                return Err("numeric has a digit beyond its base".into());
            }
            groups.push(group);
        }
        // Zeros at the end say nothing about the value, and would overflow what the value fits.
        while groups.last() == Some(&0) {
            groups.pop();
        }
        let magnitude = exact(&groups, i32::from(weight)).ok_or("numeric has more digits than a Decimal holds")?;
        Ok(Self(if sign == NEGATIVE { -magnitude } else { magnitude }))
    }

    accepts!(NUMERIC);
}

/// The value of base-10,000 digits whose first has this weight; the last is not zero.
fn exact(groups: &[i128], weight: i32) -> Option<Decimal> {
    let Some((last, before)) = groups.split_last() else { return Some(Decimal::ZERO) };
    let mut mantissa = before.iter().try_fold(0_i128, |sum, group| sum.checked_mul(BASE)?.checked_add(*group))?;
    // Digits behind the point, negative where zeros are missing before it.
    let mut scale = (i32::try_from(groups.len()).ok()? - 1 - weight).checked_mul(DIGITS_PER_GROUP)?;
    let (mut last, mut last_digits) = (*last, 4);
    while scale > 0 && last % 10 == 0 && last_digits > 1 {
        (last, last_digits, scale) = (last / 10, last_digits - 1, scale - 1);
    }
    mantissa = mantissa.checked_mul(10_i128.pow(last_digits))?.checked_add(last)?;
    if scale < 0 {
        mantissa = mantissa.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
        scale = 0;
    }
    Decimal::try_from_i128_with_scale(mantissa, scale.unsigned_abs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(words: &[u16]) -> Result<Decimal, Boxed> {
        let raw: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        Exact::from_sql(&Type::NUMERIC, &raw).map(|exact| exact.0)
    }

    #[test]
    fn what_questdb_sends_is_read() {
        // As QuestDB 9.3.4 sent them: 1.5 and 99999999999999999999.5 as DECIMAL(38,18), u64::MAX, a sum of DECIMAL(76,18).
        let cases: [(&[u16], &str); 4] = [
            (&[6, 0, 0, 18, 1, 5000, 0, 0, 0, 0], "1.5"),
            (&[10, 4, 0, 18, 9999, 9999, 9999, 9999, 9999, 5000, 0, 0, 0, 0], "99999999999999999999.5"),
            (&[5, 4, 0, 0, 1844, 6744, 737, 955, 1615], "18446744073709551615"),
            (&[11, 5, 0, 18, 1, 0, 0, 0, 0, 2, 7000, 0, 0, 0, 0], "100000000000000000002.7"),
        ];
        for (words, value) in cases {
            assert_eq!(read(words).unwrap(), value.parse::<Decimal>().unwrap(), "{value}");
        }
        assert_eq!(read(&[0, 0, 0, 0]).unwrap(), Decimal::ZERO);
        assert_eq!(read(&[1, 1, 0x4000, 0, 1]).unwrap(), Decimal::from(-10_000));
        assert_eq!(read(&[1, u16::MAX, 0, 4, 1]).unwrap(), Decimal::new(1, 4));
    }

    #[test]
    fn what_a_decimal_cannot_hold_is_an_error_and_no_rounding() {
        let wide: Vec<u16> = [9, 4, 0, 18].into_iter().chain([9999; 9]).collect();
        assert!(read(&wide).is_err());
        assert!(read(&[1, 30, 0, 0, 1]).is_err());
        assert!(read(&[0, 0, 0xC000, 0]).is_err(), "NaN");
    }

    proptest! {
        #[test]
        fn torn_bytes_are_an_error_or_a_number_never_a_panic(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Exact::from_sql(&Type::NUMERIC, &raw);
        }

        #[test]
        fn every_decimal_that_is_written_is_read(mantissa in any::<i64>(), scale in 0_u32..=18) {
            let value = Decimal::new(mantissa, scale);
            // The digits in groups of four around the point, as a server writes them.
            let scale = usize::try_from(scale).unwrap();
            let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let (whole, fraction) = (format!("{whole:0>24}"), format!("{fraction:0<20}"));
            let groups: Vec<u16> = [whole, fraction].concat().as_bytes()
                .chunks(4).map(|group| std::str::from_utf8(group).unwrap().parse().unwrap()).collect();
            let sign = if value.is_sign_negative() && !value.is_zero() { NEGATIVE } else { 0 };
            let mut words = vec![u16::try_from(groups.len()).unwrap(), 5, sign, 18];
            words.extend(groups);
            prop_assert_eq!(read(&words).unwrap(), value);
        }
    }
}
