//! Any bytes as a mint account: refused or a mint, and everything that can be asked of that mint answers without a panic.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tripod::tokens::{Address, Mint, Policy, TOKEN_2022_PROGRAM, TOKEN_PROGRAM, assess, decode};
use tripod::value::Timestamp;

/// What the fuzzer starts from: bytes as they are, or a mint with extensions, so that it need not find the base.
#[derive(Debug, Arbitrary)]
enum Account {
    Raw { extensible: bool, data: Vec<u8> },
    Extended { base: [u8; 82], extensions: Vec<(ExtensionNumber, Vec<u8>)>, rest: Vec<u8> },
}

/// Most numbers are of extensions that exist.
#[derive(Debug, Arbitrary)]
enum ExtensionNumber {
    Known(u8),
    Any(u16),
}

fn data(account: Account) -> (Address, Vec<u8>) {
    match account {
        Account::Raw { extensible, data } => (if extensible { TOKEN_2022_PROGRAM } else { TOKEN_PROGRAM }, data),
        Account::Extended { mut base, extensions, rest } => {
            // Tags of the two authorities, and the initialised byte.
            for at in [0, 46] {
                base[at] &= 1;
                base[at + 1..at + 4].fill(0);
            }
            base[45] = 1;
            let mut data = base.to_vec();
            data.resize(165, 0);
            data.push(1);
            for (number, value) in extensions {
                let number = match number {
                    ExtensionNumber::Known(number) => u16::from(number % 32),
                    ExtensionNumber::Any(number) => number,
                };
                data.extend_from_slice(&number.to_le_bytes());
                data.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
                data.extend_from_slice(&value);
            }
            data.extend_from_slice(&rest);
            (TOKEN_2022_PROGRAM, data)
        }
    }
}

fn ask(address: &Address, mint: &Mint, data: &[u8]) {
    let held: usize = mint.extensions.iter().map(|extension| extension.raw().len()).sum();
    assert!(held <= data.len(), "more bytes of extensions than there are");
    for extension in &mint.extensions {
        let _ = (extension.number(), extension.name(), extension.fields());
    }
    let _ = mint.metadata(address);
    for epoch in [0, 900, u64::MAX] {
        if let Some(fees) = mint.transfer_fees() {
            let _ = (fees.next_change(epoch), fees.unknown_from(epoch));
            let fee = fees.at(epoch);
            for amount in [0, 1, 1_000_000_007, u64::MAX] {
                assert!(fee.fee(amount) <= amount && fee.net(amount) == amount - fee.fee(amount));
                if let Some(gross) = fee.gross_for(amount) {
                    assert!(fee.net(gross) >= amount, "{amount} are wanted, {gross} leave {}", fee.net(gross));
                }
                let _ = fee.fee_on_top_of(amount);
            }
        }
        let _ = assess(address, mint, epoch, Timestamp::now(), &Policy::default());
    }
}

fuzz_target!(|account: Account| {
    let (owner, data) = data(account);
    let address = Address::new_from_array([7; 32]);
    if let Ok(mint) = decode(&owner, &data) {
        ask(&address, &mint, &data);
    }
});
