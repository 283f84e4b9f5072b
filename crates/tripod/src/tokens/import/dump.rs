//! Accounts as RPC nodes and `solana account --output json` give them.
//!
//! Constraints: an answer to getAccountInfo or getMultipleAccounts does not say which accounts it is about. The address is
//! taken from what stands beside it (`pubkey`, or the request's `params`), for a single account from the file's name; else
//! it is refused, never guessed from the contents.
//!
//! ```text
//! {pubkey, account} · [..] · {result: {context: {slot}, value}} · {result: [..]} · {request: {params}, response: {..}}
//! ```

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::Refused;
use crate::tokens::{Address, MintError, Observation, decode};

/// What a file does not say itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpHints {
    /// The slot of accounts that come without one. 0: older than any that has one.
    pub slot: u64,
    /// The address of an only account that comes without one.
    pub address: Option<Address>,
}

impl DumpHints {
    /// Both hints.
    #[must_use]
    pub fn new(slot: u64, address: Option<Address>) -> Self {
        Self { slot, address }
    }
}

/// The accounts of a dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dump {
    /// The mints.
    pub observations: Vec<Observation>,
    /// How many of the mints came without a slot, and have the hint's.
    pub without_slot: usize,
    /// How many held somebody's balance.
    pub token_accounts: usize,
    /// What was not taken; the place counts accounts from 0.
    pub refused: Vec<Refused>,
    accounts: usize,
}

/// Where an account stands, as far as what surrounds it says.
#[derive(Clone, Copy)]
struct Around<'a> {
    /// As the file says.
    slot: Option<u64>,
    /// Where it says none.
    slot_else: u64,
    /// The request's first parameter: an address, or a list of them.
    asked: Option<&'a Value>,
    only: Option<&'a Address>,
}

impl Dump {
    /// True where nothing looked like an account.
    pub(super) fn is_empty(&self) -> bool {
        self.accounts == 0
    }

    pub(super) fn add(&mut self, document: &Value, hints: &DumpHints) {
        let asked = document.pointer("/request/params/0").or_else(|| document.pointer("/params/0"));
        let around = Around { slot: None, slot_else: hints.slot, asked, only: hints.address.as_ref() };
        self.walk(document, around);
    }

    fn walk(&mut self, value: &Value, around: Around<'_>) {
        let slot = value.pointer("/context/slot").or_else(|| value.get("slot")).and_then(Value::as_u64);
        let around = Around { slot: slot.or(around.slot), ..around };
        let pubkey = value.get("pubkey").and_then(Value::as_str);
        if let Some(account) = value.get("account") {
            return self.account(account, pubkey, around);
        }
        if value.get("owner").is_some() && value.get("data").is_some() {
            return self.account(value, pubkey, around);
        }
        if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
            let said = error.get("message").and_then(Value::as_str).unwrap_or("no message");
            return self.refuse(String::new(), format!("the node answered with an error: {said}"));
        }
        if let Some(inner) = ["response", "result", "value"].iter().find_map(|key| value.get(key)) {
            return match inner {
                Value::Null => {
                    let label = asked_for(around.asked, None).unwrap_or_default().to_owned();
                    self.refuse(label, "there is no account at this address".to_owned());
                }
                inner => self.walk(inner, around),
            };
        }
        if let Value::Array(entries) = value {
            for (place, entry) in entries.iter().enumerate() {
                let asked = around.asked.and_then(|asked| asked.get(place));
                // The file's name can stand for one account only.
                let only = around.only.filter(|_| entries.len() == 1);
                let around = Around { asked, only, ..around };
                match entry {
                    Value::Null => {
                        let label = asked.and_then(Value::as_str).unwrap_or_default().to_owned();
                        self.refuse(label, "there is no account at this address".to_owned());
                    }
                    entry => self.walk(entry, around),
                }
            }
        }
    }

    fn refuse(&mut self, entry: String, why: String) {
        let place = self.accounts;
        self.accounts += 1;
        self.refused.push(Refused { place, entry, why });
    }

    fn account(&mut self, account: &Value, pubkey: Option<&str>, around: Around<'_>) {
        let only = around.only.map(ToString::to_string);
        let label = asked_for(around.asked, pubkey).or(only.as_deref()).unwrap_or_default().to_owned();
        match observation(account, &label, around.slot.unwrap_or(around.slot_else)) {
            Ok(Some(seen)) => {
                self.accounts += 1;
                self.without_slot += usize::from(around.slot.is_none());
                self.observations.push(seen);
            }
            Ok(None) => {
                self.accounts += 1;
                self.token_accounts += 1;
            }
            Err(why) => self.refuse(label, why),
        }
    }
}

fn asked_for<'a>(asked: Option<&'a Value>, pubkey: Option<&'a str>) -> Option<&'a str> {
    pubkey.or_else(|| asked.and_then(Value::as_str))
}

/// None for a token account.
fn observation(account: &Value, address: &str, slot: u64) -> Result<Option<Observation>, String> {
    if address.is_empty() {
        return Err("the file does not say which account it is; put `pubkey` or the request's `params` beside it, or \
                    name the file after the address"
            .to_owned());
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
    let asked = "ask the node for `\"encoding\": \"base64\"`";
    match data {
        Some(Value::Array(pair)) => match (pair.first().and_then(Value::as_str), pair.get(1).and_then(Value::as_str)) {
            (Some(text), Some("base64")) => BASE64_STANDARD.decode(text).map_err(|e| format!("its data: {e}")),
            (_, Some(other)) => Err(format!("its data are in {other}; {asked}")),
            _ => Err(format!("its data have no encoding; {asked}")),
        },
        Some(Value::Object(_)) => Err(format!("its data are parsed already; {asked}")),
        _ => Err(format!("its data are in base58, or missing; {asked}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Contents, MAINNET, read};
    use super::*;
    use serde_json::json;

    const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
    const SOL: &str = "So11111111111111111111111111111111111111112";

    fn account(bytes: &[u8]) -> Value {
        json!({"lamports": 1, "owner": "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
               "data": [BASE64_STANDARD.encode(bytes), "base64"], "executable": false, "rentEpoch": 0})
    }

    fn mint() -> Value {
        let mut bytes = [0; 82];
        (bytes[44], bytes[45]) = (6, 1);
        account(&bytes)
    }

    fn read_all(documents: &[Value], hints: &DumpHints) -> Dump {
        let text: String = documents.iter().map(|d| format!("{d}\n")).collect();
        match read(text.as_bytes(), MAINNET, hints).unwrap() {
            Contents::Accounts(dump) => dump,
            other => panic!("{other:?}"),
        }
    }

    fn seen(dump: &Dump) -> Vec<(String, u64)> {
        dump.observations.iter().map(|o| (o.address.to_string(), o.slot)).collect()
    }

    #[test]
    fn every_shape_that_names_its_accounts_is_read_with_its_slot() {
        let hints = DumpHints::new(7, None);
        let both = [(USDC.to_owned(), 9), (SOL.to_owned(), 9)];
        let context = json!({"slot": 9, "apiVersion": "2.0"});
        let one = json!({"pubkey": USDC, "account": mint()});
        let two = json!({"pubkey": SOL, "account": mint()});
        assert_eq!(seen(&read_all(std::slice::from_ref(&one), &hints)), [(USDC.to_owned(), 7)]);
        let mut with_slot = one.clone();
        with_slot["slot"] = json!(9);
        assert_eq!(seen(&read_all(&[with_slot], &hints)), both[..1]);
        let program = json!({"jsonrpc": "2.0", "id": 1, "result": [one, two]});
        assert_eq!(seen(&read_all(&[program], &hints)).len(), 2);
        let program = json!({"result": {"context": context, "value": [one, two]}});
        assert_eq!(seen(&read_all(&[program], &hints)), both);
        let many = json!({"params": [[USDC, SOL], {}], "result": {"context": context, "value": [mint(), mint()]}});
        assert_eq!(seen(&read_all(std::slice::from_ref(&many), &hints)), both);
        let pair = json!({"request": {"method": "getMultipleAccounts", "params": [[USDC, SOL]]},
                          "response": {"result": {"context": context, "value": [mint(), mint()]}}});
        assert_eq!(seen(&read_all(&[pair], &hints)), both);
        let info = json!({"params": [USDC], "result": {"context": context, "value": mint()}});
        assert_eq!(seen(&read_all(&[info.clone(), many], &hints)).len(), 3, "one document after the other");
        let nameless = json!({"jsonrpc": "2.0", "result": {"context": context, "value": mint()}});
        let by_file = DumpHints::new(0, Some(USDC.parse().unwrap()));
        assert_eq!(seen(&read_all(&[nameless], &by_file)), both[..1]);
    }

    #[test]
    fn what_is_not_taken_has_a_reason_and_costs_nobody_else() {
        let zstd = json!({"owner": USDC, "data": ["x", "base64+zstd"]});
        let parsed = json!({"owner": USDC, "data": {"parsed": {}}});
        let base58 = json!({"owner": USDC, "data": "3yZe7d"});
        let accounts = [
            json!({"pubkey": USDC, "account": mint()}),
            json!({"pubkey": SOL, "account": account(&[0; 165])}),
            json!({"pubkey": SOL, "account": account(&[0; 10])}),
            json!({"pubkey": SOL, "account": zstd}),
            json!({"pubkey": SOL, "account": parsed}),
            json!({"pubkey": SOL, "account": base58}),
            json!({"pubkey": "x", "account": mint()}),
            mint(),
            Value::Null,
        ];
        let dump = read_all(&[json!({"result": accounts})], &DumpHints::new(0, Some(USDC.parse().unwrap())));
        assert_eq!((dump.observations.len(), dump.token_accounts, dump.without_slot), (1, 1, 1));
        let why: Vec<&str> = dump.refused.iter().map(|r| r.why.as_str()).collect();
        for (why, word) in why.iter().zip(["10 bytes", "base64+zstd", "parsed", "base58", "address", "which", "no acc"])
        {
            assert!(why.contains(word), "{why}");
        }
        assert_eq!(dump.refused.iter().map(|r| r.place).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8]);
        let missing = read_all(
            &[json!({"params": [SOL], "result": {"context": {"slot": 1}, "value": null}})],
            &DumpHints::default(),
        );
        assert_eq!(missing.refused[0].entry, SOL);
        let error =
            read_all(&[json!({"error": {"code": -32005, "message": "too many requests"}})], &DumpHints::default());
        assert!(error.refused[0].why.contains("too many requests"));
    }

    #[test]
    fn what_holds_no_account_is_one_error() {
        for text in ["", " \n", "{}", "[]", "[1,2]", "{\"result\": []}", "{\"pubkey\"", "[{]"] {
            assert!(read(text.as_bytes(), MAINNET, &DumpHints::default()).is_err(), "{text}");
        }
        let list = format!(
            "\u{feff}{{\"tokens\":[{{\"chainId\":101,\"address\":\"{SOL}\",\"symbol\":\"S\",\"name\":\"S\",\"decimals\":9}}]}}"
        );
        assert!(
            matches!(read(list.as_bytes(), MAINNET, &DumpHints::default()), Ok(Contents::TokenList(l)) if l.listings.len() == 1)
        );
    }
}
