//! Takes a mint's account as a node gives it, and decides whether to trade it, in this epoch and at this moment.
//!
//! ```text
//! cargo run -p tripod --example assess_token [EPOCH]
//! ```
//! No server is needed: the judgement is made from bytes, epoch, time and policy alone. A bot asks a `TokenCache` instead,
//! which has all tokens in memory and keeps them fresh.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use base64::Engine as _;
use tripod::Timestamp;
use tripod::tokens::{Address, Policy, Verdict, assess, decode};

/// BERN on mainnet in June 2026: 4.2 % a transfer before epoch 698, 2.69 % from it on.
const ACCOUNT: &str = include_str!("../../../samples/mints/CKfatsPMUf8SkiURsDXs7eK6GWb4Jsd6UDbs7twMCWxo.json");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let epoch: u64 = std::env::args().nth(1).as_deref().unwrap_or("697").parse()?;
    let file: serde_json::Value = serde_json::from_str(ACCOUNT)?;
    let text = |pointer: &str| file.pointer(pointer).and_then(serde_json::Value::as_str).ok_or("not an account");
    let address: Address = text("/pubkey")?.parse()?;
    let owner: Address = text("/account/owner")?.parse()?;
    let data = base64::prelude::BASE64_STANDARD.decode(text("/account/data/0")?)?;

    // A policy is a setting (`tripod settings set tokens policy …`); this desk pays no more than 3 % a transfer.
    let mut policy = Policy::default();
    policy.transfer_fee_refused_bps = 300;

    let mint = decode(&owner, &data)?;
    let found = assess(&address, &mint, epoch, Timestamp::now(), &policy);
    println!("{address} is {} in epoch {epoch}", found.verdict.as_str());
    for reason in &found.reasons {
        println!("  {:8} {reason}", reason.verdict.as_str());
    }

    // What to send so that a million arrive, exactly: the program rounds its fee up, and caps it.
    if let (Some(fees), true) = (mint.transfer_fees(), found.verdict != Verdict::Refused) {
        let fee = fees.at(epoch);
        println!(
            "1,000,000 sent, {} arrive; send {:?} that 1,000,000 do",
            fee.net(1_000_000),
            fee.gross_for(1_000_000)
        );
    }
    Ok(())
}
