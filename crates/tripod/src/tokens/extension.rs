//! The extensions behind a Token-2022 mint: type-length-value entries, walked by ourselves.
//!
//! Constraints: the official walker fails for the whole account at the first type it does not know or the first length
//! that does not fit; a store must not. Here every entry comes out, known or not, whole or cut, with its bytes. Bounded:
//! at most 64 entries, the rest as one.
//!
//! ```text
//! 166: │ type u16 │ length u16 │ value │ type u16 │ … until type 0, or fewer than two bytes are left
//! ```

use super::{Metadata, fields};

/// Entries of one account at most; the program writes each number once, so real accounts stay below 29. What is beyond
/// is kept in the last entry's bytes.
pub(super) const EXTENSIONS_MAX: usize = 64;

/// Number of the TokenMetadata extension.
const TOKEN_METADATA: u16 = 19;

/// The names of extension numbers 0 to 28, as in the official `ExtensionType`.
pub const EXTENSION_NAMES: [&str; 29] = [
    "Uninitialized",
    "TransferFeeConfig",
    "TransferFeeAmount",
    "MintCloseAuthority",
    "ConfidentialTransferMint",
    "ConfidentialTransferAccount",
    "DefaultAccountState",
    "ImmutableOwner",
    "MemoTransfer",
    "NonTransferable",
    "InterestBearingConfig",
    "CpiGuard",
    "PermanentDelegate",
    "NonTransferableAccount",
    "TransferHook",
    "TransferHookAccount",
    "ConfidentialTransferFeeConfig",
    "ConfidentialTransferFeeAmount",
    "MetadataPointer",
    "TokenMetadata",
    "GroupPointer",
    "TokenGroup",
    "GroupMemberPointer",
    "TokenGroupMember",
    "ConfidentialMintBurn",
    "ScaledUiAmount",
    "Pausable",
    "PausableAccount",
    "PermissionedBurn",
];

/// One entry of a mint's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    number: u16,
    raw: Vec<u8>,
    broken: Option<String>,
}

impl Extension {
    /// The extension's number, known or not.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The official name, or `Unknown(99)`.
    #[must_use]
    pub fn name(&self) -> String {
        match EXTENSION_NAMES.get(usize::from(self.number)) {
            Some(name) => (*name).to_owned(),
            None => format!("Unknown({})", self.number),
        }
    }

    /// The value's bytes as they stand in the account; of a cut entry, what is left of it.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The decoded fields, named as RPC nodes name them (camelCase); u64 as text, keys in base58, none as null.
    ///
    /// # Errors
    /// Why this entry has no fields: its number is unknown, belongs to token accounts, or its bytes do not fit.
    pub fn fields(&self) -> Result<serde_json::Value, String> {
        match &self.broken {
            Some(why) => Err(why.clone()),
            None => fields::decode(self.number, &self.raw),
        }
    }

    /// As the store has it: what could not be decoded when it was seen stays that.
    pub(super) fn from_store(number: u16, raw: Vec<u8>, decode_error: Option<String>) -> Self {
        Self { number, raw, broken: decode_error }
    }

    /// True where the account did not end inside it.
    pub(super) fn is_whole(&self) -> bool {
        self.broken.is_none()
    }

    /// The value as metadata, where it is that and can be read.
    pub(super) fn metadata(&self) -> Option<Metadata> {
        (self.is_whole() && self.number == TOKEN_METADATA).then(|| Metadata::read(&self.raw).ok())?
    }

    /// The value as the official type, where this entry has that type's number and exactly its length.
    pub(super) fn value<T: spl_token_2022_interface::extension::Extension + bytemuck::AnyBitPattern>(
        &self,
    ) -> Option<T> {
        let number = u16::from(T::TYPE);
        (self.broken.is_none() && self.number == number).then(|| bytemuck::try_pod_read_unaligned(&self.raw).ok())?
    }
}

/// All entries of `tlv`, in account order.
pub(super) fn walk(tlv: &[u8]) -> Vec<Extension> {
    let mut extensions = Vec::new();
    let mut rest = tlv;
    while let Some((number, behind)) = rest.split_first_chunk::<2>() {
        let number = u16::from_le_bytes(*number);
        if number == 0 {
            break;
        }
        if extensions.len() + 1 == EXTENSIONS_MAX && behind.len() > 2 {
            let broken = Some(format!("is entry {EXTENSIONS_MAX}, and the account goes on; the rest is kept here"));
            extensions.push(Extension { number, raw: behind.to_vec(), broken });
            break;
        }
        let Some((length, behind)) = behind.split_first_chunk::<2>() else {
            let broken = Some("the account ends inside its length".to_owned());
            extensions.push(Extension { number, raw: behind.to_vec(), broken });
            break;
        };
        let length = usize::from(u16::from_le_bytes(*length));
        let Some((value, behind)) = behind.split_at_checked(length) else {
            let broken = Some(format!("says {length} bytes, the account has {} left", behind.len()));
            extensions.push(Extension { number, raw: behind.to_vec(), broken });
            break;
        };
        extensions.push(Extension { number, raw: value.to_vec(), broken: None });
        rest = behind;
    }
    extensions
}

#[cfg(test)]
mod tests {
    use super::*;
    use spl_token_2022_interface::extension::ExtensionType;

    #[test]
    fn the_names_and_numbers_are_the_official_ones() {
        for (number, name) in EXTENSION_NAMES.iter().enumerate() {
            let official = ExtensionType::try_from(u16::try_from(number).unwrap()).unwrap();
            assert_eq!(format!("{official:?}"), *name);
        }
        assert!(ExtensionType::try_from(29).is_err(), "the official crate knows more than 29: name the new ones");
    }

    #[test]
    fn an_unknown_entry_is_kept_and_what_stands_behind_it_is_read() {
        let found = walk(&[99, 0, 3, 0, 7, 8, 9, 9, 0, 0, 0, 0, 0, 1]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].number(), found[0].raw(), found[0].name().as_str()), (99, &[7, 8, 9][..], "Unknown(99)"));
        assert!(found[0].fields().is_err());
        assert_eq!(found[1].name(), "NonTransferable");
        assert_eq!(found[1].fields().unwrap(), serde_json::json!({}));
    }

    #[test]
    fn a_cut_entry_keeps_what_is_left_and_says_so() {
        assert!(walk(&[]).is_empty());
        assert!(walk(&[9]).is_empty());
        assert!(walk(&[0, 0, 9, 0, 0, 0]).is_empty());
        let half = walk(&[9, 0, 0]);
        assert_eq!((half[0].number(), half[0].raw()), (9, &[0][..]));
        let cut = walk(&[12, 0, 32, 0, 1, 2]);
        assert_eq!(cut[0].raw(), [1, 2]);
        assert!(cut[0].fields().unwrap_err().contains("says 32 bytes"));
    }

    #[test]
    fn a_hostile_account_costs_a_bounded_number_of_entries() {
        let many: Vec<u8> = [9, 0, 0, 0].repeat(2_000);
        let found = walk(&many);
        assert_eq!(found.len(), EXTENSIONS_MAX);
        assert!(found[EXTENSIONS_MAX - 1].fields().unwrap_err().contains("goes on"));
    }
}
