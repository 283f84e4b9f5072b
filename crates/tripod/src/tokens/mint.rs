//! An account's bytes as a mint: SPL Token or Token-2022.
//!
//! Constraints: bytes that are no mint are refused with the reason, never half read; bytes that are one always give a
//! mint, whatever stands behind the base. An authority's tag decides, not its bytes: a tag of none may leave an old
//! key behind it.
//!
//! ```text
//!   0 mint authority (tag u32, key) │ 36 supply u64 │ 44 decimals │ 45 initialised │ 46 freeze authority │ 82
//!  82 zeroes                                                        │ 165 account type, 1 = mint │ 166 extensions
//! ```

use spl_token_2022_interface::extension::metadata_pointer::MetadataPointer;
use spl_token_2022_interface::extension::transfer_fee::TransferFeeConfig;

use super::extension::{Extension, walk};
use super::{Address, Metadata, TransferFees};
use crate::error::Error;

/// The SPL Token program.
pub const TOKEN_PROGRAM: Address = Address::from_str_const("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
/// The Token-2022 program.
pub const TOKEN_2022_PROGRAM: Address = Address::from_str_const("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");

/// Bytes of a mint without extensions.
const BASE_BYTES: usize = 82;
/// Bytes of a token account without extensions; where the account type of either stands.
const ACCOUNT_BYTES: usize = 165;
/// Bytes of a multisig; the program never makes a mint of this length.
const MULTISIG_BYTES: usize = 355;
/// Bytes of the largest account that Solana allows.
pub(super) const ACCOUNT_BYTES_MAX: usize = 10 * 1024 * 1024;

/// A mint as its account says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mint {
    /// The program that owns the account.
    pub program: Address,
    /// Who may mint more; none fixes the supply for ever.
    pub mint_authority: Option<Address>,
    /// In the smallest unit.
    pub supply: u64,
    /// Digits behind the decimal point. The chain allows any byte; beyond [`DECIMALS_MAX`](super::DECIMALS_MAX) not
    /// one whole token exists.
    pub decimals: u8,
    /// Who may freeze single accounts.
    pub freeze_authority: Option<Address>,
    /// In account order; empty for the SPL Token program.
    pub extensions: Vec<Extension>,
}

impl Mint {
    /// The metadata inside the mint, where it can be trusted: the mint's own pointer names this very account, and
    /// the metadata names it back.
    #[must_use]
    pub fn metadata(&self, mint: &Address) -> Option<Metadata> {
        let pointer = self.extensions.iter().find_map(Extension::value::<MetadataPointer>)?;
        let pointed = Option::<Address>::from(pointer.metadata_address)?;
        let metadata = self.extensions.iter().find_map(Extension::metadata)?;
        (pointed == *mint && metadata.mint == *mint).then_some(metadata)
    }

    /// The transfer fees, where the mint has them and they can be read.
    #[must_use]
    pub fn transfer_fees(&self) -> Option<TransferFees> {
        let config = self.extensions.iter().find_map(Extension::value::<TransferFeeConfig>)?;
        TransferFees::read(&config).ok()
    }
}

/// Why bytes are not a mint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// Another program owns the account.
    #[error("the account belongs to the program {0}, not to a token program")]
    Owner(Address),
    /// No mint has this length.
    #[error("{0} bytes are no mint's length; 82, or more than 165 but 355")]
    Length(usize),
    /// It is a token account: somebody's balance of a mint.
    #[error("is a token account, not a mint; its mint is {0}")]
    TokenAccount(Address),
    /// It is a multisig.
    #[error("is a multisig, not a mint")]
    Multisig,
    /// The account was made and never initialised, or closed.
    #[error("is a mint that was never initialised")]
    Uninitialised,
    /// An authority's tag is neither none nor some.
    #[error("its {what} has the tag {tag}; 0 and 1 exist")]
    Tag {
        /// Which authority.
        what: &'static str,
        /// The tag.
        tag: u32,
    },
    /// The initialised byte is neither 0 nor 1.
    #[error("its initialised byte is {0}; 0 and 1 exist")]
    Initialised(u8),
    /// The bytes between the base and the account type are not zero.
    #[error("its padding is not zero")]
    Padding,
    /// The account type is neither mint nor token account.
    #[error("its account type is {0}, a mint's is 1")]
    AccountType(u8),
}

impl From<MintError> for Error {
    fn from(error: MintError) -> Self {
        Self::invalid("mint account", error.to_string())
    }
}

/// Reads a mint from an account's `owner` and `data`. Never panics, allocates no more than the data's own size.
///
/// # Errors
/// [`MintError`], naming what the bytes are instead where that can be said.
pub fn decode(owner: &Address, data: &[u8]) -> Result<Mint, MintError> {
    let extensible = *owner == TOKEN_2022_PROGRAM;
    if !extensible && *owner != TOKEN_PROGRAM {
        return Err(MintError::Owner(*owner));
    }
    let extensions = match data.len() {
        BASE_BYTES => &[],
        MULTISIG_BYTES => return Err(MintError::Multisig),
        ACCOUNT_BYTES => return Err(token_account(data)),
        length if length < BASE_BYTES || !extensible || length > ACCOUNT_BYTES_MAX => {
            return Err(MintError::Length(length));
        }
        length => match data.split_at_checked(ACCOUNT_BYTES) {
            Some((_, [1, tlv @ ..])) => tlv,
            Some((_, [2, ..])) => return Err(token_account(data)),
            Some((_, [other, ..])) => return Err(MintError::AccountType(*other)),
            _ => return Err(MintError::Length(length)),
        },
    };
    if data.iter().skip(BASE_BYTES).take(ACCOUNT_BYTES - BASE_BYTES).any(|b| *b != 0) {
        return Err(MintError::Padding);
    }
    let mut base = Base { rest: data };
    let mint_authority = base.authority("mint authority")?;
    let supply = u64::from_le_bytes(base.take()?);
    let [decimals, initialised] = base.take()?;
    let freeze_authority = base.authority("freeze authority")?;
    match initialised {
        1 => {}
        0 => return Err(MintError::Uninitialised),
        other => return Err(MintError::Initialised(other)),
    }
    Ok(Mint { program: *owner, mint_authority, supply, decimals, freeze_authority, extensions: walk(extensions) })
}

/// A token account begins with its mint's 32 bytes.
fn token_account(data: &[u8]) -> MintError {
    match data.first_chunk::<32>() {
        Some(mint) => MintError::TokenAccount(Address::new_from_array(*mint)),
        None => MintError::Length(data.len()),
    }
}

/// Reads the base front to back. The length was checked; running out is still an error, not a panic.
struct Base<'a> {
    rest: &'a [u8],
}

impl Base<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MintError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(MintError::Length(self.rest.len()))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn authority(&mut self, what: &'static str) -> Result<Option<Address>, MintError> {
        let tag = u32::from_le_bytes(self.take()?);
        let key = Address::new_from_array(self.take()?);
        match tag {
            0 => Ok(None),
            1 => Ok(Some(key)),
            tag => Err(MintError::Tag { what, tag }),
        }
    }
}
