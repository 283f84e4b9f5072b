//! One account as RPC nodes and `solana account --output json` give it: owner, and data in base64 or base64+zstd.
//!
//! Constraints: what is packed may claim to be larger than any account; it is unpacked up to the largest that Solana
//! allows and no further, in a window no larger than that.

use std::io::Read as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ruzstd::decoding::StreamingDecoder;
use serde_json::Value;

use crate::tokens::mint::ACCOUNT_BYTES_MAX;
use crate::tokens::{Address, MintError, Observation, decode};

/// Bytes of a packed account's window at most; nodes pack with 2 MiB, the largest account would fit three times.
const WINDOW_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// None for a token account.
pub(crate) fn observation(account: &Value, address: &str, slot: u64) -> Result<Option<Observation>, String> {
    if address.is_empty() {
        return Err(
            "the file does not say which account it is; put `pubkey` beside it, or the request's `params` before \
                    it, or name the file after the address"
                .to_owned(),
        );
    }
    let address: Address = address.parse().map_err(|_| "the address is not base58 of 32 bytes".to_owned())?;
    let owner = account.get("owner").and_then(Value::as_str).unwrap_or_default();
    let owner: Address = owner.parse().map_err(|_| "its owner is not base58 of 32 bytes".to_owned())?;
    let data = data(account.get("data"))?;
    match decode(&owner, &data) {
        Ok(mint) => Ok(Some(Observation { address, mint, slot, write_version: 0 })),
        Err(MintError::TokenAccount(_)) => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}

fn data(data: Option<&Value>) -> Result<Vec<u8>, String> {
    let asked = "ask the node for `\"encoding\": \"base64\"` or `base64+zstd`";
    let Some(Value::Array(pair)) = data else {
        return Err(match data {
            Some(Value::Object(_)) => format!("its data are parsed already; {asked}"),
            _ => format!("its data are in base58, or missing; {asked}"),
        });
    };
    match (pair.first().and_then(Value::as_str), pair.get(1).and_then(Value::as_str)) {
        (Some(text), Some("base64")) => from_base64(text),
        (Some(text), Some("base64+zstd")) => unpack(&from_base64(text)?),
        (_, Some(other)) => Err(format!("its data are in {other}; {asked}")),
        _ => Err(format!("its data have no encoding; {asked}")),
    }
}

/// An account's data as nodes write them.
///
/// # Errors
/// What is no base64, in words.
pub fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text).map_err(|e| format!("its data: {e}"))
}

/// Whatever the frame says about itself, at most one byte more than an account can have is unpacked.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("its data cannot be unpacked (zstd): {e}");
    let limit = u64::try_from(ACCOUNT_BYTES_MAX).unwrap_or(u64::MAX);
    // The decoder holds a whole window before it gives anything back.
    let window = window_bytes(packed).ok_or_else(|| failed(&"it does not begin as a frame"))?;
    if window > WINDOW_BYTES_MAX {
        return Err(failed(&format!("it asks for a window of {window} bytes; at most {WINDOW_BYTES_MAX}")));
    }
    let frame = StreamingDecoder::new(packed).map_err(|e| failed(&e))?;
    let mut data = Vec::new();
    frame.take(limit.saturating_add(1)).read_to_end(&mut data).map_err(|e| failed(&e))?;
    if data.len() > ACCOUNT_BYTES_MAX {
        return Err(format!("its data are longer than {ACCOUNT_BYTES_MAX} bytes when unpacked; no account is"));
    }
    Ok(data)
}

/// What a frame's header asks for (RFC 8878, 3.1.1.1); none where it is no header.
fn window_bytes(packed: &[u8]) -> Option<u64> {
    let (descriptor, rest) = packed.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?.split_first()?;
    if descriptor & 0x20 == 0 {
        let window = rest.first()?;
        let base = 1_u64.checked_shl(10 + u32::from(window >> 3))?;
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: its window is its content.
    let dictionary_id = [0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let content = rest.get(*dictionary_id..)?;
    let number = |count: usize| -> Option<u64> {
        let bytes = content.get(..count)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    };
    match descriptor >> 6 {
        0 => number(1),
        1 => Some(number(2)? + 256),
        2 => number(4),
        _ => number(8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use serde_json::json;

    fn packed(bytes: &[u8]) -> Value {
        json!([BASE64_STANDARD.encode(compress_to_vec(bytes, CompressionLevel::Fastest)), "base64+zstd"])
    }

    /// What `zstd -19` of Facebook's own program makes of USDC's 82 bytes.
    const USDC_BY_ZSTD: &str = "KLUv/QBokQIAAQAAAJj+huiNm+Lqi8HMpIeLKYjCQPUrhCS/tA7Rot3LXhmbWby/MU8aDQAGAQEAAABicKqKWcWUBbRShshncubNEm6bil06OFNtN/e0FOi2Zw==";

    #[test]
    fn what_another_program_packed_is_the_same_account() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../samples/mints/EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v.json"
        );
        let plain: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let plain = data(Some(&plain["account"]["data"])).unwrap();
        assert_eq!(data(Some(&json!([USDC_BY_ZSTD, "base64+zstd"]))).unwrap(), plain);
        assert_eq!(data(Some(&packed(&plain))).unwrap(), plain);
    }

    #[test]
    fn a_frame_that_lies_or_swells_is_refused() {
        let swollen = packed(&vec![0; ACCOUNT_BYTES_MAX + 1]);
        assert!(swollen[0].as_str().unwrap().len() < 100_000, "it is small on the wire");
        assert!(data(Some(&swollen)).unwrap_err().contains("longer than"));
        assert_eq!(data(Some(&packed(&vec![7; 300_000]))).unwrap(), vec![7; 300_000]);
        let whole = compress_to_vec(&[3_u8; 500][..], CompressionLevel::Fastest);
        for cut in 0..whole.len() {
            let text = BASE64_STANDARD.encode(&whole[..cut]);
            assert!(data(Some(&json!([text, "base64+zstd"]))).is_err(), "cut at {cut}");
        }
        // A header that asks for a window of gigabytes.
        let greedy = BASE64_STANDARD.encode([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 1, 0, 0]);
        assert!(data(Some(&json!([greedy, "base64+zstd"]))).unwrap_err().contains("window"));
    }
}
