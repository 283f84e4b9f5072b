//! What QuestDB keeps of a value exactly, and what not. Pure; each refusal says the limit that it broke.

use crate::tape::spec::SYMBOL_BYTES_MAX;
use crate::value::Decimal;

/// 10 to the power of the index; 10^38 is the last that u128 holds.
pub(super) const POWERS_OF_TEN: [u128; 39] = {
    let mut powers = [1_u128; 39];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// A mantissa has 96 bits: below 10^29 whatever it is.
const MANTISSA_DIGITS_MAX: usize = 29;

/// QuestDB's NULL in a LONG column.
pub(super) fn long(value: i64) -> Result<(), String> {
    if value == i64::MIN { Err("is i64::MIN, which QuestDB keeps as NULL".into()) } else { Ok(()) }
}

/// QuestDB's NULL in a DOUBLE column is NaN; it keeps infinities as NULL too.
pub(super) fn double(value: f64) -> Result<(), String> {
    if value.is_finite() { Ok(()) } else { Err(format!("is {value}, which QuestDB keeps as NULL")) }
}

/// Whether DECIMAL(precision, scale) keeps `value` to the last digit. Zeros at the end do not count.
pub(super) fn decimal(value: Decimal, precision: u8, scale: u8) -> Result<(), String> {
    let mantissa = value.mantissa().unsigned_abs();
    let digits_after_point = value.scale();
    if let Some(too_many) = digits_after_point.checked_sub(u32::from(scale)).filter(|n| *n > 0)
        && power_of_ten(too_many).is_none_or(|power| !mantissa.is_multiple_of(power))
    {
        return Err(format!(
            "is {value}; DECIMAL({precision},{scale}) keeps {scale} digits after the point, and no digit is rounded away"
        ));
    }
    // |value| < 10^(precision - scale), with both sides times 10^digits_after_point.
    let exponent = u32::from(precision.saturating_sub(scale)) + digits_after_point;
    let index = usize::try_from(exponent).unwrap_or(MANTISSA_DIGITS_MAX);
    if index < MANTISSA_DIGITS_MAX && POWERS_OF_TEN.get(index).is_some_and(|limit| mantissa >= *limit) {
        return Err(format!(
            "is {value}; DECIMAL({precision},{scale}) keeps {} digits before the point",
            precision.saturating_sub(scale)
        ));
    }
    Ok(())
}

/// 10^`exponent`, where u128 holds it.
pub(super) fn power_of_ten(exponent: u32) -> Option<u128> {
    POWERS_OF_TEN.get(usize::try_from(exponent).ok()?).copied()
}

/// A symbol is short, not empty (QuestDB would tell '' from NULL, readers would not), and without NUL (refused).
pub(super) fn symbol(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("is an empty symbol; use None for an absent one".into());
    }
    if value.len() > SYMBOL_BYTES_MAX {
        return Err(format!("has {} bytes; a symbol has at most {SYMBOL_BYTES_MAX}", value.len()));
    }
    no_nul(value)
}

/// Text within its column's maximum and without NUL: QuestDB stores it, and its JSON is then unreadable.
pub(super) fn text(value: &str, max_bytes: u16) -> Result<(), String> {
    if value.len() > usize::from(max_bytes) {
        return Err(format!("has {} bytes; the column has room for {max_bytes}", value.len()));
    }
    no_nul(value)
}

fn no_nul(value: &str) -> Result<(), String> {
    // All bytes whatever they are, so that the compiler looks at many at once: on short text twice as fast as `contains`.
    if value.bytes().fold(false, |found, byte| found | (byte == 0)) {
        return Err("has a NUL byte, which makes QuestDB's answers unreadable".into());
    }
    Ok(())
}
