//! How much each finding weighs: a setting (`tokens`/`policy`), so that it has revisions, a reason and an author.
//!
//! Constraints: a missing key has its default, a misspelt one is refused (a policy that silently does not hold is worse
//! than none). The defaults are a careful trader's: what blocks a trade or hands it to somebody's code is refused, what
//! takes money or the tokens themselves is costly, what only gives somebody a power that USDC's issuer has too is told.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Verdict;
use crate::tokens::Address;

/// The weights. As JSON: `{"permanent_delegate": "refused", "transfer_fee_refused_bps": 300}`; what is left out keeps its
/// default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Policy {
    /// From this many basis points on a transfer fee is costly. 1: every fee is paid on the way in and on the way out.
    pub transfer_fee_costly_bps: u16,
    /// From this many on it is refused. 500: a round trip then loses a tenth. Also weighed: a fee that is written
    /// already and holds from a later epoch, because two epochs are soon over.
    pub transfer_fee_refused_bps: u16,
    /// Somebody may write another fee. Tradable: it takes two epochs to hold, and is told when it is written.
    pub transfer_fee_authority: Verdict,
    /// A program is called on each transfer. Refused: it may reject a sale; `trusted_hook_programs` makes exceptions.
    pub transfer_hook: Verdict,
    /// No program, but somebody may name one. Tradable: most regulated tokens have it, PYUSD among them.
    pub transfer_hook_authority: Verdict,
    /// Somebody may take anyone's tokens, a pool's too. Costly: no price protects against it.
    pub permanent_delegate: Verdict,
    /// New accounts are frozen. Refused: what is bought does not arrive.
    pub default_frozen: Verdict,
    /// Refused: what is bought cannot be sold.
    pub non_transferable: Verdict,
    /// Refused: nothing moves now.
    pub paused: Verdict,
    /// Somebody may pause it. Tradable: regulated tokens have it, and a pause shows at once.
    pub pause_authority: Verdict,
    /// Somebody may mint more. Tradable: every stablecoin has it.
    pub mint_authority: Verdict,
    /// Somebody may freeze single accounts. Tradable: USDC has it.
    pub freeze_authority: Verdict,
    /// Somebody may close the mint. Tradable: only at a supply of 0.
    pub close_authority: Verdict,
    /// Shown amounts are multiples. Tradable: raw amounts are what is traded; the multiplier is told.
    pub scaled_amounts: Verdict,
    /// Shown amounts grow. Tradable, for the same reason.
    pub interest_bearing: Verdict,
    /// An announced change of the multiplier. Costly: prices per shown unit jump by the factor at that second.
    pub multiplier_change: Verdict,
    /// Amounts may be hidden. Tradable: open transfers work as ever.
    pub confidential_transfers: Verdict,
    /// Burning takes a second signature. Tradable: trading burns nothing.
    pub permissioned_burn: Verdict,
    /// More than 19 decimals. Refused: every price is wrong by powers of ten.
    pub impossible_decimals: Verdict,
    /// Metadata in the mint that do not prove to be its own. Costly: somebody may pretend to be another token.
    pub metadata_unproven: Verdict,
    /// Metadata in another account. Tradable: usual, and not believed until that account points back.
    pub metadata_elsewhere: Verdict,
    /// An extension of the future. Refused: nobody here knows what it does to a transfer.
    pub unknown_extension: Verdict,
    /// An extension that cannot be read, or a multiplier that is no number. Refused: what it does is not known.
    pub broken_extension: Verdict,
    /// Only lists know the token. Refused: nothing about it was ever seen.
    pub not_on_chain: Verdict,
    /// Keys whose powers (delegate, mint, freeze, close, pause, fee, hook) are told and weigh nothing. Empty.
    #[serde(deserialize_with = "read", serialize_with = "write")]
    pub trusted_authorities: Vec<Address>,
    /// Hook programs that somebody has read, and that weigh nothing. Empty.
    #[serde(deserialize_with = "read", serialize_with = "write")]
    pub trusted_hook_programs: Vec<Address>,
    /// Mints that are refused whatever they are. Empty.
    #[serde(deserialize_with = "read", serialize_with = "write")]
    pub refused_mints: Vec<Address>,
}

impl Policy {
    /// The setting's namespace.
    pub const NAMESPACE: &'static str = "tokens";
    /// The setting's key.
    pub const KEY: &'static str = "policy";
}

impl Default for Policy {
    fn default() -> Self {
        use Verdict::{Costly, Refused, Tradable};
        Self {
            transfer_fee_costly_bps: 1,
            transfer_fee_refused_bps: 500,
            transfer_fee_authority: Tradable,
            transfer_hook: Refused,
            transfer_hook_authority: Tradable,
            permanent_delegate: Costly,
            default_frozen: Refused,
            non_transferable: Refused,
            paused: Refused,
            pause_authority: Tradable,
            mint_authority: Tradable,
            freeze_authority: Tradable,
            close_authority: Tradable,
            scaled_amounts: Tradable,
            interest_bearing: Tradable,
            multiplier_change: Costly,
            confidential_transfers: Tradable,
            permissioned_burn: Tradable,
            impossible_decimals: Refused,
            metadata_unproven: Costly,
            metadata_elsewhere: Tradable,
            unknown_extension: Refused,
            broken_extension: Refused,
            not_on_chain: Refused,
            trusted_authorities: Vec::new(),
            trusted_hook_programs: Vec::new(),
            refused_mints: Vec::new(),
        }
    }
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not an address in base58"))))
        .collect()
}

fn write<S: Serializer>(addresses: &[Address], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(addresses.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_out_keeps_its_default_and_what_is_misspelt_is_refused() {
        let usdc = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
        let policy: Policy =
            serde_json::from_value(json!({"permanent_delegate": "refused", "trusted_authorities": [usdc]})).unwrap();
        assert_eq!(policy.permanent_delegate, Verdict::Refused);
        assert_eq!(policy.transfer_fee_refused_bps, 500);
        assert_eq!(policy.trusted_authorities, [usdc.parse().unwrap()]);
        let again: Policy = serde_json::from_value(serde_json::to_value(&policy).unwrap()).unwrap();
        assert_eq!(again, policy);
        for wrong in [
            json!({"permanent_delegat": "refused"}),
            json!({"paused": "maybe"}),
            json!({"refused_mints": ["no address"]}),
            json!({"transfer_fee_costly_bps": -1}),
        ] {
            assert!(serde_json::from_value::<Policy>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
