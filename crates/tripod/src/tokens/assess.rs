//! May this token be traded, and at what cost? A verdict with its reasons, each naming the extension and the value.
//!
//! Constraints: pure. The epoch, the time and the policy are arguments, because fees change by epoch and multipliers by
//! time while nobody writes to the account. Every finding is told, also one that weighs nothing; how much each weighs is
//! the [`Policy`]'s word alone. What cannot be read is never taken for harmless.
//!
//! ```text
//!  mint ──▶ findings (code, extension, detail) ──▶ policy: how much does each weigh? ──▶ the heaviest is the verdict
//!           ▲ epoch, now
//! ```

mod finding;
mod policy;

use serde::{Serialize, Serializer};

use super::fee::Fee;
use super::scale::Multiplier;
use super::{Address, Mint, StoredToken};
use crate::value::Timestamp;
use finding::Findings;

pub use policy::Policy;

/// What the findings come to, from harmless to forbidding; also the weight of one finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is in the way.
    Tradable,
    /// It can be traded, at a cost or a risk that belongs into the price.
    Costly,
    /// Do not trade it.
    Refused,
}

impl Verdict {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tradable => "tradable",
            Self::Costly => "costly",
            Self::Refused => "refused",
        }
    }
}

/// What was found; stable names, for scripts and alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The policy names this mint among those that are never traded.
    RefusedMint,
    /// Only lists know it: no account was ever seen.
    NotOnChain,
    /// Each transfer costs a fee in this epoch.
    TransferFee,
    /// Another fee is written already and holds from a later epoch.
    TransferFeeNext,
    /// Somebody may write another fee, with two epochs' notice.
    TransferFeeAuthority,
    /// Each transfer calls another program, which may reject it.
    TransferHook,
    /// No program is called, and somebody may name one.
    TransferHookAuthority,
    /// Somebody may move or burn anyone's tokens.
    PermanentDelegate,
    /// A new account is frozen until its authority thaws it.
    DefaultFrozen,
    /// It cannot be transferred at all.
    NonTransferable,
    /// All transfers are stopped.
    Paused,
    /// Somebody may stop all transfers.
    PauseAuthority,
    /// Somebody may mint more.
    MintAuthority,
    /// Somebody may freeze single accounts.
    FreezeAuthority,
    /// Somebody may close the mint at a supply of 0; the address may come back with other decimals and extensions.
    CloseAuthority,
    /// Shown amounts are multiples of raw ones.
    ScaledAmounts,
    /// Shown amounts grow with time.
    InterestBearing,
    /// The multiplier of shown amounts will change.
    MultiplierChange,
    /// The multiplier of shown amounts is no positive number.
    MultiplierInvalid,
    /// Amounts may be hidden: supply, volumes and holders are incomplete.
    ConfidentialTransfers,
    /// Burning takes a second signature.
    PermissionedBurn,
    /// Not even one whole token fits a u64.
    ImpossibleDecimals,
    /// The mint names itself in metadata that do not prove to be its own.
    MetadataUnproven,
    /// The mint's metadata are in another account.
    MetadataElsewhere,
    /// An extension that this version does not know.
    UnknownExtension,
    /// An extension whose bytes cannot be read.
    BrokenExtension,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reason {
    /// What was found.
    pub code: Code,
    /// The extension that says so; none for the mint's base.
    pub extension: Option<String>,
    /// The values, in words.
    pub detail: String,
    /// How much it weighs by the policy; the heaviest is the verdict.
    pub verdict: Verdict,
}

/// `code: detail`, as in the event of a change.
impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.code.serialize(&mut *f)?;
        write!(f, ": {}", self.detail)
    }
}

/// The fee of a transfer, as the contract of `--json` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FeeTerms {
    /// Basis points of the amount.
    pub bps: u16,
    /// At most this much, in the smallest unit; text in JSON.
    #[serde(serialize_with = "as_text")]
    pub max: u64,
    /// The first epoch in which it holds; text in JSON.
    #[serde(serialize_with = "as_text")]
    pub since_epoch: u64,
}

impl From<&Fee> for FeeTerms {
    fn from(fee: &Fee) -> Self {
        Self { bps: fee.basis_points(), max: fee.maximum(), since_epoch: fee.epoch() }
    }
}

/// The verdict on a token at one epoch and one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Assessment {
    /// The mint.
    #[serde(serialize_with = "as_text")]
    pub mint: Address,
    /// For this epoch; text in JSON.
    #[serde(serialize_with = "as_text")]
    pub epoch: u64,
    /// For this time.
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    /// The heaviest of the reasons.
    pub verdict: Verdict,
    /// Every finding, the heaviest first.
    pub reasons: Vec<Reason>,
    /// The fee of a transfer in this epoch; none where the mint has none.
    pub transfer_fee: Option<FeeTerms>,
    /// The fee that is known to follow.
    pub next_transfer_fee: Option<FeeTerms>,
    /// What shown amounts are multiplied by at this time; none where they are raw ones.
    pub multiplier: Option<Multiplier>,
}

/// Judges the mint at `address` for transfers in `epoch` and amounts shown at `now`.
#[must_use]
pub fn assess(address: &Address, mint: &Mint, epoch: u64, now: Timestamp, policy: &Policy) -> Assessment {
    let mut findings = Findings::new(address, epoch, now, policy);
    findings.listed();
    findings.base(mint);
    for (position, extension) in mint.extensions.iter().enumerate() {
        let twice = mint.extensions.iter().take(position).any(|e| e.number() == extension.number());
        findings.extension(mint, extension, twice);
    }
    findings.conclude()
}

/// Judges a token of the store. One that only lists know has never been seen, and is judged as that.
#[must_use]
pub fn assess_stored(token: &StoredToken, epoch: u64, now: Timestamp, policy: &Policy) -> Assessment {
    match token.to_mint() {
        Some(mint) => assess(&token.mint, &mint, epoch, now, policy),
        None => assess_unseen(&token.mint, token.decimals, epoch, now, policy),
    }
}

/// Judges a token that only lists know.
pub(super) fn assess_unseen(
    address: &Address,
    decimals: u8,
    epoch: u64,
    now: Timestamp,
    policy: &Policy,
) -> Assessment {
    let mut findings = Findings::new(address, epoch, now, policy);
    findings.listed();
    findings.unseen(decimals);
    findings.conclude()
}

fn as_text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}
