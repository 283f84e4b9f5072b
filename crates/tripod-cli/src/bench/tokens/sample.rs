//! The mints of the bench: real accounts under made addresses.

use anyhow::Context as _;
use serde_json::Value;
use tripod::tokens::{Address, Observation, decode};

/// PYUSD: eight extensions, 866 bytes. In base64, as `samples/mints` has it.
const PYUSD: &str = include_str!("../../../../../samples/mints/2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo.json");
/// sUSD: three extensions.
const SUSD: &str = include_str!("../../../../../samples/mints/susdabGDNbhrnCa6ncrYo81u4s9GM8ecK2UwMyZiq4X.json");
/// USDC: none.
const USDC: &str = include_str!("../../../../../samples/mints/EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v.json");

/// Owner and data of the mint with eight extensions.
pub(super) fn eight_extensions() -> anyhow::Result<(Address, Vec<u8>)> {
    account(PYUSD)
}

fn account(file: &str) -> anyhow::Result<(Address, Vec<u8>)> {
    let file: Value = serde_json::from_str(file)?;
    let text = |pointer: &str| file.pointer(pointer).and_then(Value::as_str).context("a sample without its account");
    let owner = text("/account/owner")?.parse().ok().context("a sample's owner")?;
    Ok((owner, tripod::tokens::import::from_base64(text("/account/data/0")?).map_err(anyhow::Error::msg)?))
}

/// Of ten: one with eight extensions, four with three, five with none.
pub(super) fn observations(count: u32) -> anyhow::Result<Vec<Observation>> {
    let kinds = [PYUSD, SUSD, USDC].map(|file| {
        let (owner, data) = account(file)?;
        anyhow::Ok(decode(&owner, &data)?)
    });
    let [eight, three, none] = kinds;
    let (eight, three, none) = (eight?, three?, none?);
    Ok((0..count)
        .map(|number| {
            let mint = match number % 10 {
                0 => &eight,
                1..=4 => &three,
                _ => &none,
            };
            Observation { address: address(number), mint: mint.clone(), slot: 1, write_version: 0 }
        })
        .collect())
}

/// How many extensions those have.
pub(super) fn extensions(count: u32) -> u32 {
    count / 10 * (8 + 4 * 3)
}

/// Addresses of real mints are spread evenly; these are, too.
fn address(number: u32) -> Address {
    let mut bytes = [0; 32];
    for (at, part) in bytes.chunks_exact_mut(8).enumerate() {
        let word = u64::from(number) + 1 + u64::try_from(at).unwrap_or(0) * 0x1_0000_0000;
        part.copy_from_slice(&word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    }
    Address::new_from_array(bytes)
}
