//! Tokens: what a mint's account bytes say, Token-2022 extensions included, and the store behind it.
//!
//! Constraints: u64 stays u64 (or `numeric(20,0)`), never a float, never an i64. An unknown or broken extension never
//! makes a token vanish: each is kept as raw bytes, with its own error. An older (slot, write version) changes
//! nothing. What the chain says outranks what a list says.
//!
//! Picture:
//! ```text
//! node ─▶ fetch ─┐
//! files ─▶ import ┴▶ decode() ─▶ Observation, Listing ─▶ Tokens ─▶ PostgreSQL (tokens, token_extensions, token_changes)
//!                                                                     │ changes, by notice and by poll
//! bot ◀─ assess(token, epoch, now, policy) ◀─ get(&mint) ◀─ TokenCache ◀┘ ─▶ Announcer ─▶ event: its assessment changed
//! ```

pub mod announce;
mod ask;
pub mod assess;
mod cache;
mod epoch;
mod extension;
mod fee;
pub mod fetch;
mod fields;
#[doc(hidden)]
pub mod find;
pub mod import;
mod metadata;
mod mint;
mod recent;
mod scale;
mod sql;
mod store;
mod stored;
mod text;

pub use announce::{Announcer, AssessmentChange, Terms};
pub use ask::{Hit, TokenChange};
pub use assess::{Assessment, Policy, Verdict, assess, assess_stored};
pub use cache::{CacheOptions, KnownToken, TOKENS_MAX, TokenCache, TokenRef};
pub use epoch::{SLOTS_PER_EPOCH, epoch_of, estimate_epoch};
pub use extension::{EXTENSION_NAMES, Extension};
pub use fee::{BASIS_POINTS_MAX, FEE_NOTICE_EPOCHS, Fee, TransferFees};
pub use find::Question;
pub use metadata::Metadata;
pub use mint::{Mint, MintError, TOKEN_2022_PROGRAM, TOKEN_PROGRAM, decode};
pub use recent::RecentChange;
pub use scale::{Multiplier, NextMultiplier};
pub use store::{Listing, Observation, Summary, Tokens};
pub use stored::{StoredExtension, StoredToken};

/// 32 bytes, shown in base58: a mint, a program, an authority.
pub use solana_address::Address;

/// Decimals beyond which not even one whole token fits a u64; a list that says more is wrong.
pub const DECIMALS_MAX: u8 = 19;
