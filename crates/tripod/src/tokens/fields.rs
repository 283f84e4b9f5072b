//! One extension's bytes as named fields, by the official types (the metadata, which has no fixed layout, by our own
//! reader).
//!
//! Constraints: the layout is the official crates', not ours; the names are those of RPC nodes (`jsonParsed`), so that
//! a reader of one reads the other. u64 is text (JSON readers lose digits past 2^53), a float is text (JSON has no NaN),
//! 32 zero bytes mean none. A length that differs from the type's is an error, never a guess.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytemuck::{AnyBitPattern, NoUninit};
use serde_json::{Value, json};
use spl_token_2022_interface::extension::ExtensionType;
use spl_token_2022_interface::extension::confidential_mint_burn::ConfidentialMintBurn;
use spl_token_2022_interface::extension::confidential_transfer::ConfidentialTransferMint;
use spl_token_2022_interface::extension::confidential_transfer_fee::ConfidentialTransferFeeConfig;
use spl_token_2022_interface::extension::default_account_state::DefaultAccountState;
use spl_token_2022_interface::extension::group_member_pointer::GroupMemberPointer;
use spl_token_2022_interface::extension::group_pointer::GroupPointer;
use spl_token_2022_interface::extension::interest_bearing_mint::InterestBearingConfig;
use spl_token_2022_interface::extension::metadata_pointer::MetadataPointer;
use spl_token_2022_interface::extension::mint_close_authority::MintCloseAuthority;
use spl_token_2022_interface::extension::pausable::PausableConfig;
use spl_token_2022_interface::extension::permanent_delegate::PermanentDelegate;
use spl_token_2022_interface::extension::permissioned_burn::PermissionedBurnConfig;
use spl_token_2022_interface::extension::scaled_ui_amount::{PodF64, ScaledUiAmountConfig};
use spl_token_2022_interface::extension::transfer_fee::{TransferFee, TransferFeeConfig};
use spl_token_2022_interface::extension::transfer_hook::TransferHook;
use spl_token_group_interface::state::{TokenGroup, TokenGroupMember};

use super::metadata::Metadata;
use super::text::clean;
use super::{Address, EXTENSION_NAMES};

/// The fields of extension `number`, or why there are none.
pub(super) fn decode(number: u16, raw: &[u8]) -> Result<Value, String> {
    let Ok(kind) = ExtensionType::try_from(number) else {
        return Err(format!("number {number} is unknown to this version"));
    };
    Ok(match kind {
        ExtensionType::TransferFeeConfig => {
            let c: TransferFeeConfig = pod(raw)?;
            json!({
                "transferFeeConfigAuthority": key(c.transfer_fee_config_authority),
                "withdrawWithheldAuthority": key(c.withdraw_withheld_authority),
                "withheldAmount": amount(c.withheld_amount),
                "olderTransferFee": fee(&c.older_transfer_fee),
                "newerTransferFee": fee(&c.newer_transfer_fee),
            })
        }
        ExtensionType::MintCloseAuthority => {
            json!({ "closeAuthority": key(pod::<MintCloseAuthority>(raw)?.close_authority) })
        }
        ExtensionType::ConfidentialTransferMint => {
            let c: ConfidentialTransferMint = pod(raw)?;
            json!({
                "authority": key(c.authority),
                "autoApproveNewAccounts": bool::from(c.auto_approve_new_accounts),
                "auditorElgamalPubkey": sealed_key(&c.auditor_elgamal_pubkey),
            })
        }
        ExtensionType::DefaultAccountState => json!({
            "accountState": match pod::<DefaultAccountState>(raw)?.state {
                0 => "uninitialized",
                1 => "initialized",
                2 => "frozen",
                other => return Err(format!("account state {other} does not exist")),
            }
        }),
        ExtensionType::NonTransferable if raw.is_empty() => json!({}),
        ExtensionType::NonTransferable => return Err(wrong_length(raw.len(), 0)),
        ExtensionType::InterestBearingConfig => {
            let c: InterestBearingConfig = pod(raw)?;
            json!({
                "rateAuthority": key(c.rate_authority),
                "initializationTimestamp": i64::from(c.initialization_timestamp),
                "preUpdateAverageRate": i16::from(c.pre_update_average_rate),
                "lastUpdateTimestamp": i64::from(c.last_update_timestamp),
                "currentRate": i16::from(c.current_rate),
            })
        }
        ExtensionType::PermanentDelegate => json!({ "delegate": key(pod::<PermanentDelegate>(raw)?.delegate) }),
        ExtensionType::TransferHook => {
            let c: TransferHook = pod(raw)?;
            json!({ "authority": key(c.authority), "programId": key(c.program_id) })
        }
        ExtensionType::ConfidentialTransferFeeConfig => {
            let c: ConfidentialTransferFeeConfig = pod(raw)?;
            json!({
                "authority": key(c.authority),
                "withdrawWithheldAuthorityElgamalPubkey": sealed(&c.withdraw_withheld_authority_elgamal_pubkey),
                "harvestToMintEnabled": bool::from(c.harvest_to_mint_enabled),
                "withheldAmount": sealed(&c.withheld_amount),
            })
        }
        ExtensionType::MetadataPointer => {
            let c: MetadataPointer = pod(raw)?;
            json!({ "authority": key(c.authority), "metadataAddress": key(c.metadata_address) })
        }
        ExtensionType::TokenMetadata => {
            let c = Metadata::read(raw)?;
            let additional: Vec<[String; 2]> =
                c.additional.iter().map(|(name, value)| [clean(name), clean(value)]).collect();
            json!({
                "updateAuthority": key(c.update_authority),
                "mint": c.mint.to_string(),
                "name": clean(&c.name),
                "symbol": clean(&c.symbol),
                "uri": clean(&c.uri),
                "additionalMetadata": additional,
            })
        }
        ExtensionType::GroupPointer => {
            let c: GroupPointer = pod(raw)?;
            json!({ "authority": key(c.authority), "groupAddress": key(c.group_address) })
        }
        ExtensionType::TokenGroup => {
            let c: TokenGroup = pod(raw)?;
            json!({
                "updateAuthority": key(c.update_authority),
                "mint": c.mint.to_string(),
                "size": amount(c.size),
                "maxSize": amount(c.max_size),
            })
        }
        ExtensionType::GroupMemberPointer => {
            let c: GroupMemberPointer = pod(raw)?;
            json!({ "authority": key(c.authority), "memberAddress": key(c.member_address) })
        }
        ExtensionType::TokenGroupMember => {
            let c: TokenGroupMember = pod(raw)?;
            json!({
                "mint": c.mint.to_string(),
                "group": c.group.to_string(),
                "memberNumber": amount(c.member_number),
            })
        }
        ExtensionType::ConfidentialMintBurn => {
            let c: ConfidentialMintBurn = pod(raw)?;
            json!({
                "confidentialSupply": sealed(&c.confidential_supply),
                "decryptableSupply": sealed(&c.decryptable_supply),
                "supplyElgamalPubkey": sealed(&c.supply_elgamal_pubkey),
                "pendingBurn": sealed(&c.pending_burn),
            })
        }
        ExtensionType::ScaledUiAmount => {
            let c: ScaledUiAmountConfig = pod(raw)?;
            json!({
                "authority": key(c.authority),
                "multiplier": float(c.multiplier),
                "newMultiplierEffectiveTimestamp": i64::from(c.new_multiplier_effective_timestamp),
                "newMultiplier": float(c.new_multiplier),
            })
        }
        ExtensionType::Pausable => {
            let c: PausableConfig = pod(raw)?;
            json!({ "authority": key(c.authority), "paused": bool::from(c.paused) })
        }
        ExtensionType::PermissionedBurn => {
            json!({ "authority": key(pod::<PermissionedBurnConfig>(raw)?.authority) })
        }
        _ => {
            let name = EXTENSION_NAMES.get(usize::from(number)).copied().unwrap_or_default();
            return Err(format!("{name} belongs to token accounts, not to mints"));
        }
    })
}

fn pod<T: AnyBitPattern>(raw: &[u8]) -> Result<T, String> {
    bytemuck::try_pod_read_unaligned(raw).map_err(|_| wrong_length(raw.len(), size_of::<T>()))
}

fn wrong_length(have: usize, want: usize) -> String {
    format!("has {have} bytes, this extension has {want}")
}

/// A key that may be none.
fn key(key: impl Into<Option<Address>>) -> Value {
    key.into().map_or(Value::Null, |k| Value::String(k.to_string()))
}

fn amount(value: impl Into<u64>) -> Value {
    Value::String(value.into().to_string())
}

fn float(value: PodF64) -> Value {
    Value::String(f64::from(value).to_string())
}

fn fee(fee: &TransferFee) -> Value {
    json!({
        "epoch": amount(fee.epoch),
        "maximumFee": amount(fee.maximum_fee),
        "transferFeeBasisPoints": u16::from(fee.transfer_fee_basis_points),
    })
}

/// Encrypted values and their keys, in base64 as everywhere on Solana.
fn sealed<T: NoUninit>(value: &T) -> Value {
    Value::String(BASE64_STANDARD.encode(bytemuck::bytes_of(value)))
}

fn sealed_key<T: NoUninit>(value: &T) -> Value {
    if bytemuck::bytes_of(value).iter().all(|b| *b == 0) { Value::Null } else { sealed(value) }
}
