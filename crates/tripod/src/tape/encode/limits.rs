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
#[inline]
pub(super) fn long(value: i64) -> Result<(), String> {
    if value == i64::MIN { Err("is i64::MIN, which QuestDB keeps as NULL".into()) } else { Ok(()) }
}

/// QuestDB's NULL in a DOUBLE column is NaN; it keeps infinities as NULL too.
#[inline]
pub(super) fn double(value: f64) -> Result<(), String> {
    if value.is_finite() { Ok(()) } else { Err(not_finite(value)) }
}

#[cold]
fn not_finite(value: f64) -> String {
    format!("is {value}, which QuestDB keeps as NULL")
}

/// Whether DECIMAL(precision, scale) keeps `value` to the last digit. Zeros at the end do not count.
#[inline]
pub(super) fn decimal(value: Decimal, precision: u8, scale: u8) -> Result<(), String> {
    let mantissa = value.mantissa().unsigned_abs();
    let digits_after_point = value.scale();
    if digits_after_point > u32::from(scale) && !ends_in_zeros(mantissa, digits_after_point - u32::from(scale)) {
        return Err(too_many_after_point(value, precision, scale));
    }
    // |value| < 10^(precision - scale), with both sides times 10^digits_after_point.
    let exponent = u32::from(precision.saturating_sub(scale)) + digits_after_point;
    let index = usize::try_from(exponent).unwrap_or(MANTISSA_DIGITS_MAX);
    if index < MANTISSA_DIGITS_MAX && POWERS_OF_TEN.get(index).is_some_and(|limit| mantissa >= *limit) {
        return Err(too_many_before_point(value, precision, scale));
    }
    Ok(())
}

/// Divides, so it is kept out of the way of values that have fewer digits than their column.
#[inline(never)]
fn ends_in_zeros(mantissa: u128, zeros: u32) -> bool {
    power_of_ten(zeros).is_some_and(|power| mantissa.is_multiple_of(power))
}

#[cold]
fn too_many_after_point(value: Decimal, precision: u8, scale: u8) -> String {
    format!(
        "is {value}; DECIMAL({precision},{scale}) keeps {scale} digits after the point, and no digit is rounded away"
    )
}

#[cold]
fn too_many_before_point(value: Decimal, precision: u8, scale: u8) -> String {
    let digits = precision.saturating_sub(scale);
    format!("is {value}; DECIMAL({precision},{scale}) keeps {digits} digits before the point")
}

/// 10^`exponent`, where u128 holds it.
pub(super) fn power_of_ten(exponent: u32) -> Option<u128> {
    POWERS_OF_TEN.get(usize::try_from(exponent).ok()?).copied()
}

/// A symbol is short, not empty (QuestDB would tell '' from NULL, readers would not), and without NUL (refused).
#[inline]
pub(super) fn symbol(value: &str) -> Result<(), String> {
    symbol_length(value)?;
    no_nul(value)
}

/// The length of a symbol that is neither empty nor too long; whether it has a NUL is left to be looked at.
#[inline]
pub(super) fn symbol_length(value: &str) -> Result<u8, String> {
    match u8::try_from(value.len()) {
        Ok(length @ 1..) if value.len() <= SYMBOL_BYTES_MAX => Ok(length),
        _ => Err(not_a_symbol(value)),
    }
}

#[cold]
fn not_a_symbol(value: &str) -> String {
    if value.is_empty() {
        return "is an empty symbol; use None for an absent one".into();
    }
    format!("has {} bytes; a symbol has at most {SYMBOL_BYTES_MAX}", value.len())
}

/// Text within its column's maximum and without NUL: QuestDB stores it, and its JSON is then unreadable.
#[inline]
pub(super) fn text(value: &str, max_bytes: u16) -> Result<(), String> {
    text_length(value, max_bytes)?;
    no_nul(value)
}

/// The length of text within its column's maximum; whether it has a NUL is left to be looked at.
#[inline]
pub(super) fn text_length(value: &str, max_bytes: u16) -> Result<u16, String> {
    match u16::try_from(value.len()) {
        Ok(length) if length <= max_bytes => Ok(length),
        _ => Err(too_long(value, max_bytes)),
    }
}

#[cold]
fn too_long(value: &str, max_bytes: u16) -> String {
    format!("has {} bytes; the column has room for {max_bytes}", value.len())
}

/// Why text with a NUL byte is refused.
pub(super) const HAS_NUL: &str = "has a NUL byte, which makes QuestDB's answers unreadable";

fn no_nul(value: &str) -> Result<(), String> {
    // All bytes whatever they are, so that the compiler looks at many at once: on short text twice as fast as `contains`.
    if value.bytes().fold(false, |found, byte| found | (byte == 0)) {
        return Err(HAS_NUL.into());
    }
    Ok(())
}
