//! The public token list: one entry, and a whole list that fits into memory.

use std::io::Read;

use serde::Deserialize;
use serde_json::Value;

use super::collect::{Batch, Collector, Unwanted};
use super::{Kind, Refused, Report};
use crate::error::{Error, Result};
use crate::tokens::store::{Listing, Tokens};
use crate::tokens::text::clean_or_none;
use crate::tokens::{Address, DECIMALS_MAX};

/// Bytes of a name at most. The longest of the public list has 58.
const TEXT_BYTES_MAX: usize = 1_024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) chain_id: u64,
    pub(super) address: String,
    pub(super) symbol: String,
    pub(super) name: String,
    pub(super) decimals: u64,
}

/// One element of `tokens`.
pub(super) fn entry<F: FnMut(Batch) -> bool>(
    value: &Value,
    collector: &mut Collector<F>,
) -> std::result::Result<(), Unwanted> {
    let taken = Entry::deserialize(value)
        .map_err(|e| e.to_string())
        .and_then(|entry| if entry.chain_id == collector.chain { listing(&entry).map(Some) } else { Ok(None) });
    match taken {
        Ok(Some(listing)) => collector.listed(listing),
        Ok(None) => {
            collector.of_another_chain();
            Ok(())
        }
        Err(why) => {
            let label = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
            collector.refuse(label("address").or_else(|| label("symbol")).unwrap_or_default(), why);
            Ok(())
        }
    }
}

pub(super) fn listing(entry: &Entry) -> std::result::Result<Listing, String> {
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

/// What a list holds for one chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct List {
    /// The entries that can be stored, each mint once.
    pub listings: Vec<Listing>,
    /// Those that cannot, each with the reason.
    pub refused: Vec<Refused>,
    /// How many are of another chain.
    pub other_chains: usize,
    /// How many name a mint that an earlier one named.
    pub repeated: usize,
}

/// Reads a whole list into memory and keeps the entries of `chain` (usually [`MAINNET`](super::MAINNET)).
///
/// # Errors
/// [`Error::Invalid`] where the whole is not JSON with a `tokens` list. [`import`](super::import()) keeps what came
/// before the place where a list is torn; this does not.
pub fn read_list(source: impl Read, chain: u64) -> Result<List> {
    let mut list = List::default();
    let mut collector = Collector::new(chain, 0, None, |batch| {
        if let Batch::Listings(listings) = batch {
            list.listings.extend(listings);
        }
        true
    });
    let read = super::json::read(std::io::BufReader::new(source), &mut collector);
    let report = collector.finish(read.err())?;
    if let Some(why) = report.torn {
        return Err(Error::invalid("token list", why));
    }
    if report.kind != Kind::TokenList {
        return Err(Error::invalid("token list", "holds accounts, not `tokens`"));
    }
    let Report { refused, other_chains, stored, .. } = report;
    Ok(List { refused, other_chains, repeated: stored.repeated, ..list })
}

/// Reads a list and stores it. `list_name` goes into `named_by` and `source`: `list:solana`.
///
/// When it returns Ok, every entry is stored, refused with a reason, or of another chain. After an error, run it again.
///
/// # Errors
/// As [`read_list`] and [`Tokens::store_listings`].
pub async fn import_list(tokens: &Tokens, source: impl Read + Send, chain: u64, list_name: &str) -> Result<Report> {
    let list = read_list(source, chain)?;
    let mut stored = tokens.store_listings(&list.listings, list_name).await?;
    stored.repeated += list.repeated;
    let (other_chains, refused) = (list.other_chains, list.refused);
    Ok(Report { kind: Kind::TokenList, stored, other_chains, refused, ..Report::default() })
}

#[cfg(test)]
mod tests {
    use super::super::MAINNET;
    use super::*;

    #[test]
    fn each_bad_entry_is_named_and_the_others_are_kept() {
        let list = br#"{"name":"x","tokens":[
            {"chainId":101,"address":"So11111111111111111111111111111111111111112","symbol":"SOL","name":"Wrapped","decimals":9},
            {"chainId":103,"address":"So11111111111111111111111111111111111111112","symbol":"SOL","name":"Wrapped","decimals":9},
            {"chainId":101,"address":"not base58","symbol":"A","name":"A","decimals":0},
            {"chainId":101,"address":"EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v","symbol":"B","name":"B","decimals":20},
            {"chainId":101,"address":"EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v","symbol":"B","name":"B","decimals":-1},
            {"chainId":101,"address":"So11111111111111111111111111111111111111112","symbol":"S2","name":"Again","decimals":9},
            {"symbol":"no address"}, 7]}"#;
        let list = read_list(&list[..], MAINNET).unwrap();
        assert_eq!((list.listings.len(), list.other_chains, list.repeated), (1, 1, 1));
        assert_eq!(list.listings[0].symbol.as_deref(), Some("SOL"), "the first of a mint holds");
        let refused: Vec<_> = list.refused.iter().map(|r| (r.place, r.entry.as_str())).collect();
        let usdc = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
        assert_eq!(refused, [(2, "not base58"), (3, usdc), (4, usdc), (6, "no address"), (7, "")]);
        assert!(list.refused[1].why.contains("20 decimals"), "{}", list.refused[1].why);
    }

    #[test]
    fn what_is_no_list_is_one_error() {
        for text in ["", "[]", "{}", r#"{"tokens":7}"#, r#"{"tokens":[{"a":1}"#] {
            assert!(matches!(read_list(text.as_bytes(), MAINNET), Err(Error::Invalid { .. })), "{text}");
        }
    }
}
