//! What a transfer costs: the fees of the TransferFeeConfig extension, exact to the smallest unit.
//!
//! Constraints: u64 amounts, u128 between; no float, no rounding but the program's own (up, then capped). A fee is a
//! question of the epoch, never a fact of the token: the older holds before the newer's epoch, the newer from it on.
//! Pure: the epoch is an argument.
//!
//! ```text
//!            older                    newer
//! ──────────────────────────┬──────────────────────────▶ epoch
//!  a change written at E    └ comes into force at E + 2
//!
//! fee(amount)   = min(⌈amount × basis points / 10,000⌉, maximum)
//! gross_for(net) = the smallest amount of which exactly `net` arrives
//! ```

use serde::Serialize;
use spl_token_2022_interface::extension::transfer_fee::{TransferFee, TransferFeeConfig};

use super::Address;

/// 100 %: the program takes no more.
pub const BASIS_POINTS_MAX: u16 = 10_000;

/// A change that is written in one epoch comes into force this many epochs later.
pub const FEE_NOTICE_EPOCHS: u64 = 2;

/// One fee, and since when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fee {
    epoch: u64,
    basis_points: u16,
    maximum: u64,
}

impl Fee {
    /// A fee of `basis_points` of the amount, at most `maximum` of the smallest unit, from `epoch` on.
    ///
    /// # Errors
    /// In words, for more than [`BASIS_POINTS_MAX`]: the program writes none, but bytes can say it.
    pub fn new(epoch: u64, basis_points: u16, maximum: u64) -> Result<Self, String> {
        if basis_points > BASIS_POINTS_MAX {
            return Err(format!("a transfer fee of {basis_points} basis points; at most {BASIS_POINTS_MAX} exist"));
        }
        Ok(Self { epoch, basis_points, maximum })
    }

    fn read(fee: &TransferFee) -> Result<Self, String> {
        Self::new(fee.epoch.into(), fee.transfer_fee_basis_points.into(), fee.maximum_fee.into())
    }

    /// The first epoch in which it holds.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Hundredths of a percent; at most [`BASIS_POINTS_MAX`].
    #[must_use]
    pub fn basis_points(&self) -> u16 {
        self.basis_points
    }

    /// The cap, in the smallest unit.
    #[must_use]
    pub fn maximum(&self) -> u64 {
        self.maximum
    }

    /// True where no transfer of any amount costs anything.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.basis_points == 0 || self.maximum == 0
    }

    /// The same price, whenever it began.
    #[must_use]
    pub fn costs_the_same(&self, other: &Self) -> bool {
        (self.is_free() && other.is_free()) || (self.basis_points, self.maximum) == (other.basis_points, other.maximum)
    }

    /// What is withheld of `amount`; never more than the amount.
    #[must_use]
    pub fn fee(&self, amount: u64) -> u64 {
        let raw = (u128::from(amount) * u128::from(self.basis_points)).div_ceil(u128::from(BASIS_POINTS_MAX));
        // At most the amount, because the basis points are at most all of it.
        u64::try_from(raw).unwrap_or(amount).min(self.maximum)
    }

    /// What arrives of `amount`.
    #[must_use]
    pub fn net(&self, amount: u64) -> u64 {
        amount.saturating_sub(self.fee(amount))
    }

    /// What to send so that exactly `net` arrives: the smallest such amount. None where no u64 is enough.
    #[must_use]
    pub fn gross_for(&self, net: u64) -> Option<u64> {
        if net == 0 || self.is_free() {
            return Some(net);
        }
        // Without the cap: the smallest gross with ⌊gross × kept / 10,000⌋ = net. At 100 % only the cap lets any through.
        let kept = u128::from(BASIS_POINTS_MAX.saturating_sub(self.basis_points));
        let uncapped = (kept > 0).then(|| (u128::from(net) * u128::from(BASIS_POINTS_MAX)).div_ceil(kept));
        let capped = u128::from(net) + u128::from(self.maximum);
        u64::try_from(uncapped.map_or(capped, |uncapped| uncapped.min(capped))).ok()
    }

    /// What is withheld of [`Fee::gross_for`] of `net`.
    #[must_use]
    pub fn fee_on_top_of(&self, net: u64) -> Option<u64> {
        self.gross_for(net)?.checked_sub(net)
    }
}

/// The two fees of a mint, and who may change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferFees {
    /// Holds before the newer one's epoch.
    pub older: Fee,
    /// Holds from its epoch on.
    pub newer: Fee,
    /// Who may set another; none fixes it for ever.
    pub authority: Option<Address>,
}

impl TransferFees {
    /// From the extension's value.
    ///
    /// # Errors
    /// In words, where a fee is beyond 100 %.
    pub(super) fn read(config: &TransferFeeConfig) -> Result<Self, String> {
        Ok(Self {
            older: Fee::read(&config.older_transfer_fee)?,
            newer: Fee::read(&config.newer_transfer_fee)?,
            authority: config.transfer_fee_config_authority.into(),
        })
    }

    /// The fee of a transfer in `epoch`.
    #[must_use]
    pub fn at(&self, epoch: u64) -> &Fee {
        if epoch >= self.newer.epoch { &self.newer } else { &self.older }
    }

    /// The fee that is known to come after `epoch`, where it costs something else.
    #[must_use]
    pub fn next_change(&self, epoch: u64) -> Option<&Fee> {
        (epoch < self.newer.epoch && !self.newer.costs_the_same(&self.older)).then_some(&self.newer)
    }

    /// The first epoch in which a fee may hold that nobody has written yet in `epoch`; none where nobody may write one.
    #[must_use]
    pub fn unknown_from(&self, epoch: u64) -> Option<u64> {
        self.authority.map(|_| epoch.saturating_add(FEE_NOTICE_EPOCHS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use spl_token_2022_interface::extension::transfer_fee::TransferFeeConfig;

    fn official(fee: &Fee) -> TransferFee {
        TransferFee {
            epoch: fee.epoch.into(),
            maximum_fee: fee.maximum.into(),
            transfer_fee_basis_points: fee.basis_points.into(),
        }
    }

    /// Amounts of every size, and those at the ends of u64 where it would overflow.
    fn amounts() -> impl Strategy<Value = u64> {
        prop_oneof![
            (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift),
            (0_u64..20_000).prop_map(|below| u64::MAX - below),
            0_u64..20_000,
        ]
    }

    fn fees() -> impl Strategy<Value = Fee> {
        let basis_points = prop_oneof![0..=BASIS_POINTS_MAX, Just(0), Just(1), Just(9_999), Just(10_000)];
        (0_u64..2_000, basis_points, amounts()).prop_map(|(epoch, bps, maximum)| Fee::new(epoch, bps, maximum).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_fee_is_the_official_one(fee in fees(), amount in amounts()) {
            let official = official(&fee);
            prop_assert_eq!(Some(fee.fee(amount)), official.calculate_fee(amount));
            prop_assert_eq!(Some(fee.net(amount)), official.calculate_post_fee_amount(amount));
        }

        #[test]
        fn the_inverse_is_the_official_one_wherever_there_is_an_official_one(fee in fees(), net in amounts()) {
            let theirs = official(&fee).calculate_pre_fee_amount(net);
            prop_assert_eq!(fee.gross_for(net), theirs);
            prop_assert_eq!(fee.fee_on_top_of(net), official(&fee).calculate_inverse_fee(net));
        }

        #[test]
        fn exactly_what_was_wanted_arrives_and_one_unit_less_is_not_enough(fee in fees(), net in amounts()) {
            match fee.gross_for(net) {
                Some(gross) => {
                    prop_assert_eq!(fee.net(gross), net);
                    prop_assert!(gross == 0 || fee.net(gross - 1) < net);
                }
                // Nothing that can be sent is enough.
                None => prop_assert!(fee.net(u64::MAX) < net),
            }
        }

        #[test]
        fn the_epoch_chooses_as_the_official_function_does(older in fees(), newer in fees(), epoch in 0_u64..2_000) {
            let config = TransferFeeConfig {
                older_transfer_fee: official(&older),
                newer_transfer_fee: official(&newer),
                ..TransferFeeConfig::default()
            };
            let fees = TransferFees::read(&config).unwrap();
            prop_assert_eq!(&official(fees.at(epoch)), config.get_epoch_fee(epoch));
        }
    }

    #[test]
    fn small_numbers_by_hand() {
        let fee = Fee::new(0, 1_000, u64::MAX).unwrap();
        assert_eq!([0, 1, 9, 10, 11, 20].map(|amount| fee.fee(amount)), [0, 1, 1, 1, 2, 2], "always rounded up");
        assert_eq!(fee.gross_for(9), Some(10), "10 and 11 both bring 9");
        let capped = Fee::new(0, 50, 5_000).unwrap();
        assert_eq!((capped.fee(1_000_000), capped.fee(u64::MAX)), (5_000, 5_000));
        assert_eq!(capped.gross_for(u64::MAX - 5_000), Some(u64::MAX));
        assert_eq!(capped.gross_for(u64::MAX - 4_999), None);
        let all = Fee::new(0, 10_000, 7).unwrap();
        assert_eq!((all.net(7), all.net(8), all.gross_for(1)), (0, 1, Some(8)));
        assert!(Fee::new(0, 10_001, 0).is_err());
    }

    #[test]
    fn a_change_is_known_until_it_holds_and_what_costs_the_same_is_none() {
        let fee = |epoch, bps, maximum| Fee::new(epoch, bps, maximum).unwrap();
        let fees = |older, newer, authority| TransferFees { older, newer, authority };
        let rise = fees(fee(5, 10, 9), fee(100, 20, 9), Some(Address::default()));
        assert_eq!(rise.next_change(99), Some(&rise.newer));
        assert_eq!((rise.next_change(100), rise.unknown_from(99)), (None, Some(101)));
        assert_eq!(fees(fee(5, 10, 0), fee(100, 20, 0), None).next_change(5), None, "both are free");
        assert_eq!(fees(fee(5, 10, 0), fee(100, 20, 0), None).unknown_from(5), None);
    }
}
