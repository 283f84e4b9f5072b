//! What files hold: the public token list (the solana-labs JSON format), Jupiter's CSV, and account dumps as RPC nodes
//! answer them.
//!
//! Constraints: one bad entry never costs the others: it is refused with its place and the reason. Only one chain is
//! taken (the list mixes mainnet, testnet and devnet). Importing is idempotent, so an import that was cut short is
//! simply run again.
//!
//! ```text
//! file ─▶ read(): JSON with `tokens`? a CSV header? else accounts ─▶ Contents ─▶ store() ─▶ Report
//! ```

mod dump;
mod jupiter;

use std::io::Read;

pub use dump::{Dump, DumpHints};

use serde::Deserialize;

use super::store::{Listing, Summary, Tokens};
use super::text::clean_or_none;
use super::{Address, DECIMALS_MAX};
use crate::error::{Error, Result};

/// The list's number for Solana's mainnet.
pub const MAINNET: u64 = 101;

/// Bytes of a list at most; the public one has 7 MB.
const LIST_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of a name at most. The longest of the public list has 58.
const TEXT_BYTES_MAX: usize = 1_024;

/// An entry that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// Its place in the list, from 0.
    pub place: usize,
    /// Its address or symbol, where it has one.
    pub entry: String,
    /// The reason.
    pub why: String,
}

/// What a list holds for one chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// The entries that can be stored.
    pub listings: Vec<Listing>,
    /// Those that cannot, each with the reason.
    pub refused: Vec<Refused>,
    /// How many are of another chain.
    pub other_chains: usize,
}

/// What an import did. Each entry is in exactly one of the counts, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Report {
    /// Counts of the entries that reached the store.
    #[serde(flatten)]
    pub stored: Summary,
    /// Entries of other chains.
    pub other_chains: usize,
    /// Accounts that hold somebody's balance, not a mint; a dump of a whole program is full of them.
    pub token_accounts: usize,
    /// Entries that were not taken, each with the reason.
    pub refused: Vec<Refused>,
}

/// What a file turned out to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contents {
    /// The solana-labs format.
    TokenList(List),
    /// Jupiter's CSV.
    JupiterCsv(List),
    /// Accounts.
    Accounts(Dump),
}

impl Contents {
    /// In words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TokenList(_) => "token list",
            Self::JupiterCsv(_) => "jupiter csv",
            Self::Accounts(_) => "accounts",
        }
    }
}

/// Reads a file of any of the formats, known by what it begins with. Held in memory: at most 256 MiB of it.
///
/// # Errors
/// [`Error::Invalid`] where it is none of them, torn, or longer.
pub fn read(source: impl Read, chain: u64, hints: &DumpHints) -> Result<Contents> {
    let mut bytes = Vec::new();
    source
        .take(LIST_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::invalid("import", format!("cannot be read: {e}")))?;
    if bytes.len() > usize::try_from(LIST_BYTES_MAX).unwrap_or(usize::MAX) {
        return Err(Error::invalid("import", "is longer than 256 MiB; split it"));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Err(Error::invalid("import", "is empty")),
        Some(b'{' | b'[') => read_json(text, chain, hints),
        Some(_) => Ok(Contents::JupiterCsv(jupiter::read(text)?)),
    }
}

fn read_json(text: &[u8], chain: u64, hints: &DumpHints) -> Result<Contents> {
    let mut dump = Dump::default();
    for (number, document) in serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>().enumerate() {
        let mut document = document.map_err(|e| Error::invalid("import", format!("is not whole JSON: {e}")))?;
        match document.get_mut("tokens").map(serde_json::Value::take) {
            Some(serde_json::Value::Array(tokens)) if number == 0 => {
                return Ok(Contents::TokenList(list_of(tokens, chain)));
            }
            _ => dump.add(&document, hints),
        }
    }
    if dump.is_empty() {
        let why = "holds neither a token list (`tokens`), nor accounts as an RPC node gives them";
        return Err(Error::invalid("import", why));
    }
    Ok(Contents::Accounts(dump))
}

/// Stores what a file held. `name` is kept as who said it.
///
/// # Errors
/// As [`Tokens::store`] and [`Tokens::store_listings`].
pub async fn store(tokens: &Tokens, contents: Contents, name: &str) -> Result<Report> {
    match contents {
        Contents::TokenList(list) | Contents::JupiterCsv(list) => store_list(tokens, list, name).await,
        Contents::Accounts(dump) => {
            let stored = tokens.store(&dump.observations, name).await?;
            Ok(Report { stored, other_chains: 0, token_accounts: dump.token_accounts, refused: dump.refused })
        }
    }
}

async fn store_list(tokens: &Tokens, list: List, name: &str) -> Result<Report> {
    let stored = tokens.store_listings(&list.listings, name).await?;
    Ok(Report { stored, other_chains: list.other_chains, token_accounts: 0, refused: list.refused })
}

#[derive(Deserialize)]
struct File {
    tokens: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    chain_id: u64,
    address: String,
    symbol: String,
    name: String,
    decimals: u64,
}

/// Reads a list and keeps the entries of `chain` (usually [`MAINNET`]).
///
/// # Errors
/// [`Error::Invalid`] where the whole is not JSON with a `tokens` list, or is longer than 256 MiB.
pub fn read_list(source: impl Read, chain: u64) -> Result<List> {
    let mut source = source.take(LIST_BYTES_MAX);
    let file: File = serde_json::from_reader(std::io::BufReader::new(&mut source)).map_err(|e| {
        let why = if source.limit() == 0 { "is longer than 256 MiB".to_owned() } else { e.to_string() };
        Error::invalid("token list", why)
    })?;
    Ok(list_of(file.tokens, chain))
}

fn list_of(tokens: Vec<serde_json::Value>, chain: u64) -> List {
    let mut list = List::default();
    for (place, value) in tokens.into_iter().enumerate() {
        let label = |key: &str| value.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        let entry = label("address").or_else(|| label("symbol")).unwrap_or_default();
        match Entry::deserialize(&value).map_err(|e| e.to_string()) {
            Ok(e) if e.chain_id != chain => list.other_chains += 1,
            Ok(e) => match listing(&e) {
                Ok(listing) => list.listings.push(listing),
                Err(why) => list.refused.push(Refused { place, entry, why }),
            },
            Err(why) => list.refused.push(Refused { place, entry, why }),
        }
    }
    list
}

fn listing(entry: &Entry) -> Result<Listing, String> {
    let mint: Address = entry.address.parse().map_err(|_| "the address is not base58 of 32 bytes".to_owned())?;
    let decimals = u8::try_from(entry.decimals).ok().filter(|d| *d <= DECIMALS_MAX).ok_or_else(|| {
        format!("{} decimals: with more than {DECIMALS_MAX} not one token fits a u64", entry.decimals)
    })?;
    for (what, text) in [("name", &entry.name), ("symbol", &entry.symbol)] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("the {what} has {} bytes; at most {TEXT_BYTES_MAX}", text.len()));
        }
    }
    Ok(Listing { mint, decimals, name: clean_or_none(&entry.name), symbol: clean_or_none(&entry.symbol) })
}

/// Reads a list and stores it. `list_name` goes into `named_by` and `source`: `list:solana`.
///
/// When it returns Ok, every entry is stored, refused with a reason, or of another chain. After an error, run it again.
///
/// # Errors
/// As [`read_list`] and [`Tokens::store_listings`].
pub async fn import_list(tokens: &Tokens, source: impl Read + Send, chain: u64, list_name: &str) -> Result<Report> {
    let list = read_list(source, chain)?;
    store_list(tokens, list, list_name).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_entry_is_named_and_the_others_are_kept() {
        let list = br#"{"name":"x","tokens":[
            {"chainId":101,"address":"So11111111111111111111111111111111111111112","symbol":"SOL","name":"Wrapped","decimals":9},
            {"chainId":103,"address":"So11111111111111111111111111111111111111112","symbol":"SOL","name":"Wrapped","decimals":9},
            {"chainId":101,"address":"not base58","symbol":"A","name":"A","decimals":0},
            {"chainId":101,"address":"EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v","symbol":"B","name":"B","decimals":20},
            {"chainId":101,"address":"EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v","symbol":"B","name":"B","decimals":-1},
            {"symbol":"no address"}, 7]}"#;
        let list = read_list(&list[..], MAINNET).unwrap();
        assert_eq!((list.listings.len(), list.other_chains), (1, 1));
        let refused: Vec<_> = list.refused.iter().map(|r| (r.place, r.entry.as_str())).collect();
        let usdc = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
        assert_eq!(refused, [(2, "not base58"), (3, usdc), (4, usdc), (5, "no address"), (6, "")]);
        assert!(list.refused[1].why.contains("20 decimals"), "{}", list.refused[1].why);
    }

    #[test]
    fn what_is_no_list_is_one_error() {
        for text in ["", "[]", "{}", r#"{"tokens":7}"#, r#"{"tokens":[{"a":1}"#] {
            assert!(matches!(read_list(text.as_bytes(), MAINNET), Err(Error::Invalid { .. })), "{text}");
        }
    }
}
