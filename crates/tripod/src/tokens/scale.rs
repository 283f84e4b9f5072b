//! By how much the amounts that people see differ from the raw ones: ScaledUiAmount and InterestBearingConfig.
//!
//! Constraints: raw amounts, which are what is moved, priced and recorded, are never touched by either extension; the
//! multiplier is for what is shown, and for prices that somebody else quotes per shown unit. Its official meaning **is**
//! an f64: the account holds one (scaled amounts), or the program computes one with `exp` (interest). So it is given as
//! the text of that f64 (the shortest that reads back as the same bits), and no money arithmetic is offered on it.
//! Time passes without a write to the account: `now` is an argument.
//!
//! ```text
//! scaled:   now < effective ? multiplier : new multiplier
//! interest: e^(average rate × (last update − start)) × e^(current rate × (now − last update)),  a year = 365.24 days
//! ```

use serde::Serialize;
use spl_token_2022_interface::extension::interest_bearing_mint::InterestBearingConfig;
use spl_token_2022_interface::extension::scaled_ui_amount::ScaledUiAmountConfig;

use crate::value::Timestamp;

/// Seconds of the program's year: 365.24 days.
const SECONDS_PER_YEAR: f64 = 31_556_736.0;
/// Basis points of 1.
const ONE_IN_BASIS_POINTS: f64 = 10_000.0;

/// What shown amounts are, in raw ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Multiplier {
    /// Shown amount = raw amount × this / 10^decimals; the text of an f64.
    pub value: String,
    /// The change that the account announces.
    pub next: Option<NextMultiplier>,
}

/// A multiplier that is announced.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NextMultiplier {
    /// The text of an f64.
    pub value: String,
    /// Seconds since 1970; from then on.
    pub effective_timestamp: i64,
}

/// The same, before it is shown: a multiplier that is no positive number is one that nobody can use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) value: f64,
    pub(super) next: Option<(f64, i64)>,
}

impl Scale {
    pub(super) fn of_scaled(config: &ScaledUiAmountConfig, now: Timestamp) -> Self {
        let effective = i64::from(config.new_multiplier_effective_timestamp);
        let (value, new) = (f64::from(config.multiplier), f64::from(config.new_multiplier));
        if seconds(now) >= effective {
            Self { value: new, next: None }
        } else {
            // The same number again is no change.
            Self { value, next: (value.to_bits() != new.to_bits()).then_some((new, effective)) }
        }
    }

    pub(super) fn of_interest(config: &InterestBearingConfig, now: Timestamp) -> Self {
        let start = i64::from(config.initialization_timestamp);
        let update = i64::from(config.last_update_timestamp);
        let before = exponent(config.pre_update_average_rate.into(), start, update);
        let after = exponent(config.current_rate.into(), update, seconds(now));
        let value = before.zip(after).map_or(f64::NAN, |(before, after)| before.exp() * after.exp());
        Self { value, next: None }
    }

    /// True where somebody can use it.
    pub(super) fn is_valid(self) -> bool {
        let valid = |value: f64| value.is_finite() && value > 0.0;
        valid(self.value) && self.next.is_none_or(|(value, _)| valid(value))
    }

    pub(super) fn shown(self) -> Multiplier {
        Multiplier {
            value: self.value.to_string(),
            next: self
                .next
                .map(|(value, effective_timestamp)| NextMultiplier { value: value.to_string(), effective_timestamp }),
        }
    }
}

/// Rate times time; none where the times are further apart than i64 counts.
#[expect(clippy::cast_precision_loss, reason = "the program's own conversion: its multiplier is an f64")]
fn exponent(rate_basis_points: i16, from: i64, to: i64) -> Option<f64> {
    let product = i128::from(rate_basis_points) * i128::from(to.checked_sub(from)?);
    Some(product as f64 / SECONDS_PER_YEAR / ONE_IN_BASIS_POINTS)
}

/// Whole seconds, as the chain's clock has them.
pub(super) fn seconds(time: Timestamp) -> i64 {
    time.as_nanos() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use spl_token_2022_interface::extension::scaled_ui_amount::PodF64;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000).unwrap()
    }

    fn interest(start: i64, average: i16, update: i64, rate: i16) -> InterestBearingConfig {
        InterestBearingConfig {
            initialization_timestamp: start.into(),
            pre_update_average_rate: average.into(),
            last_update_timestamp: update.into(),
            current_rate: rate.into(),
            ..InterestBearingConfig::default()
        }
    }

    fn scaled(value: f64, new: f64, effective: i64) -> ScaledUiAmountConfig {
        ScaledUiAmountConfig {
            multiplier: PodF64::from(value),
            new_multiplier: PodF64::from(new),
            new_multiplier_effective_timestamp: effective.into(),
            ..ScaledUiAmountConfig::default()
        }
    }

    proptest! {
        /// The official crate gives no multiplier, but shows amounts: 10^9 raw units with no decimals, rounded.
        #[test]
        fn interest_is_the_official_interest(
            start in 0_i64..2_000_000_000, gap in 0_i64..100_000_000, after in 0_i64..200_000_000,
            average in -5_000_i16..5_000, rate in -5_000_i16..5_000,
        ) {
            let config = interest(start, average, start + gap, rate);
            let now = start + gap + after;
            let ours = Scale::of_interest(&config, at(now)).value * 1_000_000_000.0;
            let official = config.amount_to_ui_amount(1_000_000_000, 0, now).unwrap();
            prop_assert_eq!(format!("{ours:.0}"), official);
        }

        #[test]
        fn the_scaled_multiplier_is_the_official_one(
            value in 0.001_f64..1_000.0, new in 0.001_f64..1_000.0, effective in 0_i64..4_000_000_000, now in 0_i64..4_000_000_000,
        ) {
            let config = scaled(value, new, effective);
            let ours = (1e12 * Scale::of_scaled(&config, at(now)).value).trunc();
            prop_assert_eq!(format!("{ours:.0}"), config.amount_to_ui_amount(1_000_000_000_000, 0, now).unwrap());
        }
    }

    #[test]
    fn the_new_multiplier_holds_from_its_second_on() {
        let config = scaled(1.0, 10.0, 1_000);
        let before = Scale::of_scaled(&config, at(999));
        assert_eq!((before.value, before.next), (1.0, Some((10.0, 1_000))));
        let after = Scale::of_scaled(&config, at(1_000));
        assert_eq!((after.value, after.next), (10.0, None));
        assert_eq!(Scale::of_scaled(&scaled(1.0, 1.0, 2_000), at(0)).next, None, "no change is announced");
    }

    #[test]
    fn a_year_at_five_percent_is_e_to_a_twentieth() {
        let year = 31_556_736;
        let scale = Scale::of_interest(&interest(0, 500, 0, 500), at(year));
        assert_eq!(scale.shown().value, "1.0512710963760241");
        assert_eq!(Scale::of_interest(&interest(0, 0, 0, 0), at(year)).shown().value, "1");
    }

    #[test]
    fn what_no_price_survives_is_not_valid() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(!Scale::of_scaled(&scaled(value, 1.0, i64::MAX), at(0)).is_valid(), "{value}");
            assert!(!Scale::of_scaled(&scaled(1.0, value, i64::MAX), at(0)).is_valid(), "{value} is announced");
        }
        let absurd = interest(i64::MIN, 1, i64::MAX, 1);
        assert!(!Scale::of_interest(&absurd, at(0)).is_valid());
    }
}
