//! What is found in a mint: its base, then each extension, read by the official types.
//!
//! Constraints: an extension that does not read as its type is a finding of its own. Where a number stands twice the
//! first is in force (the official reader takes it), and the account is not trusted.

use bytemuck::AnyBitPattern;
use spl_token_2022_interface::extension::confidential_mint_burn::ConfidentialMintBurn;
use spl_token_2022_interface::extension::confidential_transfer::ConfidentialTransferMint;
use spl_token_2022_interface::extension::confidential_transfer_fee::ConfidentialTransferFeeConfig;
use spl_token_2022_interface::extension::default_account_state::DefaultAccountState;
use spl_token_2022_interface::extension::interest_bearing_mint::InterestBearingConfig;
use spl_token_2022_interface::extension::metadata_pointer::MetadataPointer;
use spl_token_2022_interface::extension::mint_close_authority::MintCloseAuthority;
use spl_token_2022_interface::extension::pausable::PausableConfig;
use spl_token_2022_interface::extension::permanent_delegate::PermanentDelegate;
use spl_token_2022_interface::extension::permissioned_burn::PermissionedBurnConfig;
use spl_token_2022_interface::extension::scaled_ui_amount::ScaledUiAmountConfig;
use spl_token_2022_interface::extension::transfer_fee::TransferFeeConfig;
use spl_token_2022_interface::extension::transfer_hook::TransferHook;
use spl_token_2022_interface::extension::{Extension as Official, ExtensionType};

use super::{Assessment, Code, FeeTerms, Policy, Reason, Verdict};
use crate::tokens::fee::{Fee, TransferFees};
use crate::tokens::scale::{Multiplier, Scale};
use crate::tokens::{Address, DECIMALS_MAX, Extension, Mint};
use crate::value::Timestamp;

/// Findings so far.
pub(super) struct Findings<'a> {
    address: &'a Address,
    epoch: u64,
    now: Timestamp,
    policy: &'a Policy,
    reasons: Vec<Reason>,
    transfer_fee: Option<FeeTerms>,
    next_transfer_fee: Option<FeeTerms>,
    multiplier: Option<Multiplier>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(address: &'a Address, epoch: u64, now: Timestamp, policy: &'a Policy) -> Self {
        let (reasons, transfer_fee, next_transfer_fee, multiplier) = (Vec::new(), None, None, None);
        Self { address, epoch, now, policy, reasons, transfer_fee, next_transfer_fee, multiplier }
    }

    pub(super) fn conclude(mut self) -> Assessment {
        // Stable: of equal weight in account order.
        self.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.verdict));
        Assessment {
            mint: *self.address,
            epoch: self.epoch,
            at: self.now,
            verdict: self.reasons.first().map_or(Verdict::Tradable, |reason| reason.verdict),
            reasons: self.reasons,
            transfer_fee: self.transfer_fee,
            next_transfer_fee: self.next_transfer_fee,
            multiplier: self.multiplier,
        }
    }

    fn add(&mut self, code: Code, extension: Option<&Extension>, verdict: Verdict, detail: impl Into<String>) {
        let extension = extension.map(Extension::name);
        self.reasons.push(Reason { code, extension, detail: detail.into(), verdict });
    }

    /// Somebody's power; none where nobody has it.
    fn power(
        &mut self,
        code: Code,
        extension: Option<&Extension>,
        weight: Verdict,
        who: Option<Address>,
        what: impl Into<String>,
    ) {
        let Some(who) = who else { return };
        let what = what.into();
        if self.policy.trusted_authorities.contains(&who) {
            self.add(code, extension, Verdict::Tradable, format!("{who}, trusted by the policy, {what}"));
        } else {
            self.add(code, extension, weight, format!("{who} {what}"));
        }
    }

    pub(super) fn listed(&mut self) {
        if self.policy.refused_mints.contains(self.address) {
            self.add(Code::RefusedMint, None, Verdict::Refused, "the policy names this mint in refused_mints");
        }
    }

    pub(super) fn unseen(&mut self, decimals: u8) {
        let detail = "only lists name it; its account was never seen";
        self.add(Code::NotOnChain, None, self.policy.not_on_chain, detail);
        self.decimals(decimals);
    }

    pub(super) fn base(&mut self, mint: &Mint) {
        self.decimals(mint.decimals);
        self.power(Code::MintAuthority, None, self.policy.mint_authority, mint.mint_authority, "may mint more");
        let what = "may freeze single accounts";
        self.power(Code::FreezeAuthority, None, self.policy.freeze_authority, mint.freeze_authority, what);
    }

    fn decimals(&mut self, decimals: u8) {
        if decimals > DECIMALS_MAX {
            let detail = format!("{decimals} decimals: with more than {DECIMALS_MAX} not one token fits a u64");
            self.add(Code::ImpossibleDecimals, None, self.policy.impossible_decimals, detail);
        }
    }

    pub(super) fn extension(&mut self, mint: &Mint, e: &Extension, twice: bool) {
        if twice {
            let detail = "stands twice in the account; the first is in force";
            return self.add(Code::BrokenExtension, Some(e), self.policy.broken_extension, detail);
        }
        let Ok(kind) = ExtensionType::try_from(e.number()) else {
            let detail = format!("extension number {} is unknown to this version", e.number());
            return self.add(Code::UnknownExtension, Some(e), self.policy.unknown_extension, detail);
        };
        let read = match kind {
            ExtensionType::TransferFeeConfig => self.read(e, Self::transfer_fee),
            ExtensionType::MintCloseAuthority => self.read(e, |s, e, c: MintCloseAuthority| {
                let what = "may close the mint at a supply of 0; the address may come back as another token";
                s.power(Code::CloseAuthority, Some(e), s.policy.close_authority, c.close_authority.into(), what);
            }),
            ExtensionType::ConfidentialTransferMint => self
                .read(e, |s, e, _: ConfidentialTransferMint| s.confidential(e, "balances and amounts may be hidden")),
            ExtensionType::ConfidentialTransferFeeConfig => self.read(e, |s, e, _: ConfidentialTransferFeeConfig| {
                s.confidential(e, "fees of hidden transfers are hidden too");
            }),
            ExtensionType::ConfidentialMintBurn => self.read(e, |s, e, _: ConfidentialMintBurn| {
                s.confidential(e, "part of the supply is hidden");
            }),
            ExtensionType::DefaultAccountState => self.read(e, |s, e, c: DefaultAccountState| match c.state {
                1 => {}
                0 => s.add(Code::DefaultFrozen, Some(e), s.policy.default_frozen, "new accounts are uninitialized"),
                2 => {
                    let detail = "new accounts are frozen until the freeze authority thaws them";
                    s.add(Code::DefaultFrozen, Some(e), s.policy.default_frozen, detail);
                }
                other => s.broken(e, format!("account state {other} does not exist")),
            }),
            ExtensionType::NonTransferable if e.raw().is_empty() && e.is_whole() => {
                self.add(Code::NonTransferable, Some(e), self.policy.non_transferable, "it cannot be transferred");
                true
            }
            ExtensionType::InterestBearingConfig => self.read(e, |s, e, c: InterestBearingConfig| {
                let what = format!("shown amounts grow at {} basis points a year", i16::from(c.current_rate));
                s.scale(e, Code::InterestBearing, s.policy.interest_bearing, Scale::of_interest(&c, s.now), &what);
            }),
            ExtensionType::PermanentDelegate => self.read(e, |s, e, c: PermanentDelegate| {
                let what = "may move or burn anyone's tokens, those of pools included";
                s.power(Code::PermanentDelegate, Some(e), s.policy.permanent_delegate, c.delegate.into(), what);
            }),
            ExtensionType::TransferHook => self.read(e, Self::transfer_hook),
            ExtensionType::MetadataPointer => self.read(e, |s, e, c: MetadataPointer| s.metadata_pointer(mint, e, &c)),
            ExtensionType::TokenMetadata => self.metadata(mint, e),
            ExtensionType::ScaledUiAmount => self.read(e, |s, e, c: ScaledUiAmountConfig| {
                let scale = Scale::of_scaled(&c, s.now);
                s.scale(e, Code::ScaledAmounts, s.policy.scaled_amounts, scale, "shown amounts are raw ones");
            }),
            ExtensionType::Pausable => self.read(e, |s, e, c: PausableConfig| {
                if bool::from(c.paused) {
                    s.add(Code::Paused, Some(e), s.policy.paused, "all transfers, mints and burns are stopped");
                }
                let what = "may stop all transfers";
                s.power(Code::PauseAuthority, Some(e), s.policy.pause_authority, c.authority.into(), what);
            }),
            ExtensionType::PermissionedBurn => self.read(e, |s, e, c: PermissionedBurnConfig| {
                let what = "has to sign each burn";
                s.power(Code::PermissionedBurn, Some(e), s.policy.permissioned_burn, c.authority.into(), what);
            }),
            // They group tokens and say nothing about a trade, once they can be read. All else belongs to token
            // accounts, or does not fit; `fields` says why.
            _ => e.fields().is_ok(),
        };
        if !read {
            let why = e.fields().err().unwrap_or_else(|| "cannot be read".to_owned());
            self.broken(e, why);
        }
    }

    /// The extension as its official type, to `judge`; false where it is not that.
    fn read<T: Official + AnyBitPattern>(
        &mut self,
        extension: &Extension,
        judge: impl FnOnce(&mut Self, &Extension, T),
    ) -> bool {
        extension.value::<T>().map(|value| judge(self, extension, value)).is_some()
    }

    fn broken(&mut self, extension: &Extension, why: String) {
        self.add(Code::BrokenExtension, Some(extension), self.policy.broken_extension, why);
    }

    fn confidential(&mut self, extension: &Extension, detail: &str) {
        self.add(Code::ConfidentialTransfers, Some(extension), self.policy.confidential_transfers, detail);
    }

    fn transfer_fee(&mut self, e: &Extension, config: TransferFeeConfig) {
        let fees = match TransferFees::read(&config) {
            Ok(fees) => fees,
            Err(why) => return self.broken(e, why),
        };
        let (fee, epoch) = (fees.at(self.epoch), self.epoch);
        self.transfer_fee = Some(fee.into());
        if !fee.is_free() {
            self.add(
                Code::TransferFee,
                Some(e),
                self.weigh(fee),
                format!(
                    "each transfer costs {} basis points, at most {}, in epoch {epoch}",
                    fee.basis_points(),
                    fee.maximum()
                ),
            );
        }
        if let Some(next) = fees.next_change(epoch) {
            self.next_transfer_fee = Some(next.into());
            let (bps, max, from) = (next.basis_points(), next.maximum(), next.epoch());
            let detail = format!("each transfer costs {bps} basis points, at most {max}, from epoch {from} on");
            self.add(Code::TransferFeeNext, Some(e), self.weigh(next), detail);
        }
        if let Some(from) = fees.unknown_from(epoch) {
            let what = format!("may set another fee, to hold from epoch {from} at the earliest");
            self.power(Code::TransferFeeAuthority, Some(e), self.policy.transfer_fee_authority, fees.authority, what);
        }
    }

    fn weigh(&self, fee: &Fee) -> Verdict {
        match fee.basis_points() {
            _ if fee.is_free() => Verdict::Tradable,
            bps if bps >= self.policy.transfer_fee_refused_bps => Verdict::Refused,
            bps if bps >= self.policy.transfer_fee_costly_bps => Verdict::Costly,
            _ => Verdict::Tradable,
        }
    }

    fn transfer_hook(&mut self, e: &Extension, hook: TransferHook) {
        if let Some(program) = Option::<Address>::from(hook.program_id) {
            if self.policy.trusted_hook_programs.contains(&program) {
                let detail = format!("each transfer calls the program {program}, trusted by the policy");
                self.add(Code::TransferHook, Some(e), Verdict::Tradable, detail);
            } else {
                let detail = format!("each transfer calls the program {program}, which may reject it");
                self.add(Code::TransferHook, Some(e), self.policy.transfer_hook, detail);
            }
        }
        let what = "may name the program that each transfer calls";
        let weight = self.policy.transfer_hook_authority;
        self.power(Code::TransferHookAuthority, Some(e), weight, hook.authority.into(), what);
    }

    fn scale(&mut self, e: &Extension, code: Code, weight: Verdict, scale: Scale, what: &str) {
        if !scale.is_valid() {
            let detail = format!("shown amounts would be multiplied by {}, or are announced to be", scale.value);
            return self.add(Code::MultiplierInvalid, Some(e), self.policy.broken_extension, detail);
        }
        let shown = scale.shown();
        self.add(code, Some(e), weight, format!("{what}, multiplied by {} now", shown.value));
        if let Some(next) = &shown.next {
            let detail = format!("the multiplier is {} from {} (Unix time) on", next.value, next.effective_timestamp);
            self.add(Code::MultiplierChange, Some(e), self.policy.multiplier_change, detail);
        }
        self.multiplier = Some(shown);
    }

    fn metadata_pointer(&mut self, mint: &Mint, e: &Extension, pointer: &MetadataPointer) {
        let has_its_own = mint.extensions.iter().any(|e| e.number() == u16::from(ExtensionType::TokenMetadata));
        match Option::<Address>::from(pointer.metadata_address) {
            Some(elsewhere) if elsewhere != *self.address && !has_its_own => {
                let detail = format!("the metadata are in the account {elsewhere}; not believed unless it points back");
                self.add(Code::MetadataElsewhere, Some(e), self.policy.metadata_elsewhere, detail);
            }
            // Metadata in the mint itself are judged where they stand.
            _ => {}
        }
    }

    fn metadata(&mut self, mint: &Mint, e: &Extension) -> bool {
        let readable = e.metadata().is_some();
        if readable && mint.metadata(self.address).is_none() {
            let detail = "the metadata name another mint, or the mint's pointer does not name this account";
            self.add(Code::MetadataUnproven, Some(e), self.policy.metadata_unproven, detail);
        }
        readable
    }
}
