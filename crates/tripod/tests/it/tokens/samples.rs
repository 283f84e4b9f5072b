//! The real accounts and the token list under `samples/`.

use std::fs::File;
use std::path::PathBuf;

use base64::Engine as _;
use tripod::tokens::{Address, Mint, Observation, decode};

pub(crate) const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
pub(crate) const PYUSD: &str = "2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo";
pub(crate) const BERN: &str = "CKfatsPMUf8SkiURsDXs7eK6GWb4Jsd6UDbs7twMCWxo";
pub(crate) const BONK: &str = "DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263";
pub(crate) const MEGA: &str = "5gSwsLGzyCwgwPJSnxjsQCaFeE19ZFaibHMLky9TDFim";

/// A real account.
pub(crate) struct Account {
    pub(crate) address: Address,
    pub(crate) owner: Address,
    pub(crate) data: Vec<u8>,
}

impl Account {
    pub(crate) fn mint(&self) -> Mint {
        decode(&self.owner, &self.data).unwrap_or_else(|e| panic!("{}: {e}", self.address))
    }

    pub(crate) fn seen_at(&self, slot: u64) -> Observation {
        Observation { address: self.address, mint: self.mint(), slot, write_version: 0 }
    }
}

/// The file of a real account, where there is one.
pub(crate) fn file_of(address: &str) -> Option<serde_json::Value> {
    let file = File::open(folder().join(format!("mints/{address}.json"))).ok()?;
    Some(serde_json::from_reader(file).unwrap())
}

pub(crate) fn account(address: &str) -> Account {
    let json = file_of(address).unwrap_or_else(|| panic!("no sample {address}"));
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    Account {
        address: text(&json["pubkey"]).parse().unwrap(),
        owner: text(&json["account"]["owner"]).parse().unwrap(),
        data: base64::prelude::BASE64_STANDARD.decode(text(&json["account"]["data"][0])).unwrap(),
    }
}

pub(crate) fn accounts() -> Vec<Account> {
    let mut names: Vec<String> = std::fs::read_dir(folder().join("mints"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() >= 8, "the samples are gone");
    names.iter().map(|name| account(name)).collect()
}

pub(crate) fn token_list() -> File {
    File::open(folder().join("tokens/solana.tokenlist.sample.json")).unwrap()
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../samples"].iter().collect()
}
