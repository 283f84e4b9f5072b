//! JSON read front to back: the entries of the one long array, each by itself, and what stands around them.
//!
//! Constraints: an answer to getAccountInfo or getMultipleAccounts does not say which accounts it is about. The address is
//! taken from what stands with it (`pubkey`) or before it (the request's `params`), for a single account from the file's
//! name; else it is refused, never guessed from the contents. In the same way the slot: nodes put `context` first. One
//! entry is held at a time, and is no longer than [`ENTRY_BYTES_MAX`].
//!
//! ```text
//! {tokens: [..]}
//! {pubkey, account} · [..] · {result: {context: {slot}, value}} · {result: [..]} · {request: {params}, response: {..}}
//! ```
//! One document after the other is read too.

use std::cell::Cell;
use std::fmt;
use std::io::{BufRead, Read};
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::collect::{Batch, Collector, Unwanted};
use super::{ENTRY_BYTES_MAX, Kind, account, list};
use crate::tokens::Address;

/// What is kept of an object beside its long part.
const KEPT: [&str; 9] = ["account", "context", "data", "error", "owner", "params", "pubkey", "request", "slot"];
/// Where the long part is.
const INNER: [&str; 3] = ["response", "result", "value"];

/// Reads to the end.
///
/// # Errors
/// Why and where the file is torn, in words. What came before was handed over.
pub(super) fn read<F: FnMut(Batch) -> bool>(source: impl BufRead, collector: &mut Collector<F>) -> Result<(), String> {
    let left = Rc::new(Cell::new(ENTRY_BYTES_MAX));
    let mut documents = serde_json::Deserializer::from_reader(Metered { source, left: Rc::clone(&left) });
    let mut is_first = true;
    loop {
        let mut place = Place { collector, left: &left, slot: None, asked: None, root: Some(is_first) };
        place.next();
        Walk(&mut place).deserialize(&mut documents).map_err(|e| e.to_string())?;
        is_first = false;
        place.next();
        match documents.end() {
            Ok(()) => return Ok(()),
            // Something follows: the next document, or what is no JSON and will be found out as that.
            Err(e) if e.is_syntax() => {}
            Err(e) => return Err(e.to_string()),
        }
    }
}

/// Gives no more than what is left for the entry at hand.
struct Metered<R> {
    source: R,
    left: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Metered<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let have = self.source.fill_buf()?;
        let count = have.len().min(out.len());
        let Some(left) = self.left.get().checked_sub(u64::try_from(count).unwrap_or(u64::MAX)) else {
            return Err(std::io::Error::other(format!("an entry is longer than {ENTRY_BYTES_MAX} bytes")));
        };
        self.left.set(left);
        out[..count].copy_from_slice(&have[..count]);
        self.source.consume(count);
        Ok(count)
    }
}

/// Where the reading stands, as far as what surrounds it said.
struct Place<'a, F> {
    collector: &'a mut Collector<F>,
    left: &'a Cell<u64>,
    /// As the file says.
    slot: Option<u64>,
    /// The request's first parameter: an address, or a list of them.
    asked: Option<Value>,
    /// At the document's own level: whether it is the first one.
    root: Option<bool>,
}

impl<F: FnMut(Batch) -> bool> Place<'_, F> {
    /// The next entry begins.
    fn next(&self) {
        self.left.set(ENTRY_BYTES_MAX);
    }

    /// Remembers what a key says about what follows.
    fn note(&mut self, key: &str, value: &Value) {
        match key {
            "context" => self.slot = value.get("slot").and_then(Value::as_u64).or(self.slot),
            "slot" => self.slot = value.as_u64().or(self.slot),
            "params" => self.asked = value.get(0).cloned(),
            "request" => self.asked = value.pointer("/params/0").cloned(),
            _ => {}
        }
    }

    /// One element of the long array, whole.
    fn element(&mut self, at: usize, element: &Value, is_alone: bool) -> Result<(), Unwanted> {
        let asked = self.asked.as_ref().and_then(|asked| asked.get(at));
        // The file's name can stand for one account only.
        let only = self.collector.only.filter(|_| is_alone);
        take(element, Around { slot: self.slot, asked, only }, self.collector)
    }
}

/// The same for one entry.
#[derive(Clone, Copy)]
struct Around<'a> {
    slot: Option<u64>,
    asked: Option<&'a Value>,
    only: Option<Address>,
}

/// A document, or the long part of one.
struct Walk<'p, 'a, F>(&'p mut Place<'a, F>);

impl<'de, F: FnMut(Batch) -> bool> DeserializeSeed<'de> for Walk<'_, '_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Batch) -> bool> Visitor<'de> for Walk<'_, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token list or accounts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let place = self.0;
        let root = place.root.take();
        let mut kept = Map::new();
        place.next();
        while let Some(key) = map.next_key::<String>()? {
            if key == "tokens" && root == Some(true) {
                map.next_value_seed(Tokens(place))?;
            } else if INNER.contains(&key.as_str()) {
                map.next_value_seed(Walk(place))?;
            } else if KEPT.contains(&key.as_str()) {
                let value: Value = map.next_value()?;
                place.note(&key, &value);
                kept.insert(key, value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            place.next();
        }
        let around = Around { slot: place.slot, asked: place.asked.as_ref(), only: place.collector.only };
        take(&Value::Object(kept), around, place.collector).map_err(unwanted)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let place = self.0;
        place.root = None;
        place.next();
        let Some(first) = elements.next_element::<Value>()? else { return Ok(()) };
        place.next();
        // The first is taken also where the second is torn.
        let second = elements.next_element::<Value>();
        place.element(0, &first, matches!(second, Ok(None))).map_err(unwanted)?;
        drop(first);
        let mut element = second?;
        for at in 1.. {
            let Some(value) = element else { break };
            place.element(at, &value, false).map_err(unwanted)?;
            place.next();
            element = elements.next_element()?;
        }
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        let Place { collector, asked, root: None, .. } = self.0 else { return Ok(()) };
        collector.refuse(label_of(asked.as_ref()), NO_ACCOUNT.to_owned());
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// The value of `tokens`; what is no list holds no token.
struct Tokens<'p, 'a, F>(&'p mut Place<'a, F>);

impl<'de, F: FnMut(Batch) -> bool> DeserializeSeed<'de> for Tokens<'_, '_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Batch) -> bool> Visitor<'de> for Tokens<'_, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let place = self.0;
        place.collector.holds(Kind::TokenList);
        place.next();
        while let Some(entry) = entries.next_element::<Value>()? {
            list::entry(&entry, place.collector).map_err(unwanted)?;
            place.next();
        }
        Ok(())
    }
}

/// One entry, whole: an account, what an RPC node answered, or several of either.
fn take<F: FnMut(Batch) -> bool>(
    value: &Value,
    around: Around<'_>,
    collector: &mut Collector<F>,
) -> Result<(), Unwanted> {
    let slot = value.pointer("/context/slot").or_else(|| value.get("slot")).and_then(Value::as_u64);
    let asked = value.pointer("/request/params/0").or_else(|| value.pointer("/params/0"));
    let around = Around { slot: slot.or(around.slot), asked: asked.or(around.asked), ..around };
    let pubkey = value.get("pubkey").and_then(Value::as_str);
    if let Some(account) = value.get("account") {
        return take_account(account, pubkey, around, collector);
    }
    if value.get("owner").is_some() && value.get("data").is_some() {
        return take_account(value, pubkey, around, collector);
    }
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        let said = error.get("message").and_then(Value::as_str).unwrap_or("no message");
        collector.refuse(String::new(), format!("the node answered with an error: {said}"));
        return Ok(());
    }
    match (INNER.iter().find_map(|key| value.get(key)), value) {
        (Some(Value::Null), _) | (None, Value::Null) => {
            collector.refuse(label_of(around.asked), NO_ACCOUNT.to_owned());
            Ok(())
        }
        (Some(inner), _) => take(inner, around, collector),
        (None, Value::Array(elements)) => elements.iter().enumerate().try_for_each(|(at, element)| {
            let asked = around.asked.and_then(|asked| asked.get(at));
            let only = around.only.filter(|_| elements.len() == 1);
            take(element, Around { asked, only, ..around }, collector)
        }),
        _ => Ok(()),
    }
}

fn take_account<F: FnMut(Batch) -> bool>(
    value: &Value,
    pubkey: Option<&str>,
    around: Around<'_>,
    collector: &mut Collector<F>,
) -> Result<(), Unwanted> {
    let only = around.only.map(|address| address.to_string());
    let label = pubkey.or_else(|| around.asked.and_then(Value::as_str)).or(only.as_deref()).unwrap_or_default();
    match account::observation(value, label, around.slot.unwrap_or(collector.slot_else)) {
        Ok(Some(seen)) => return collector.observed(seen, around.slot.is_some()),
        Ok(None) => collector.balance(),
        Err(why) => collector.refuse(label.to_owned(), why),
    }
    Ok(())
}

const NO_ACCOUNT: &str = "there is no account at this address";

fn label_of(asked: Option<&Value>) -> String {
    asked.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// It ends the reading; [`Collector::finish`] says why.
fn unwanted<E: serde::de::Error>(Unwanted: Unwanted) -> E {
    E::custom("nobody wants the rest")
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::json;

    use super::super::{MAINNET, Report};
    use super::*;
    use crate::error::Error;
    use crate::tokens::{Listing, Observation};

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

    #[derive(Default, Debug)]
    struct Dump {
        observations: Vec<Observation>,
        listings: Vec<Listing>,
        report: Report,
    }

    fn read_text(text: impl Read, slot: u64, address: Option<&str>) -> Result<Dump, Error> {
        let mut dump = Dump::default();
        let (observations, listings) = (&mut dump.observations, &mut dump.listings);
        let mut collector = Collector::new(MAINNET, slot, address.map(|a| a.parse().unwrap()), |batch| {
            match batch {
                Batch::Observations(batch) => observations.extend(batch),
                Batch::Listings(batch) => listings.extend(batch),
            }
            true
        });
        let read = read(std::io::BufReader::new(text), &mut collector);
        let report = collector.finish(read.err())?;
        Ok(Dump { report, ..dump })
    }

    fn read_all(documents: &[Value], slot: u64, address: Option<&str>) -> Dump {
        let text: String = documents.iter().map(|d| format!("{d}\n")).collect();
        let dump = read_text(text.as_bytes(), slot, address).unwrap();
        assert_eq!(dump.report.torn, None);
        dump
    }

    fn seen(dump: &Dump) -> Vec<(String, u64)> {
        dump.observations.iter().map(|o| (o.address.to_string(), o.slot)).collect()
    }

    #[test]
    fn every_shape_that_names_its_accounts_is_read_with_its_slot() {
        let both = [(USDC.to_owned(), 9), (SOL.to_owned(), 9)];
        let context = json!({"slot": 9, "apiVersion": "2.0"});
        let one = json!({"pubkey": USDC, "account": mint()});
        let two = json!({"pubkey": SOL, "account": mint()});
        assert_eq!(seen(&read_all(std::slice::from_ref(&one), 7, None)), [(USDC.to_owned(), 7)]);
        let mut with_slot = one.clone();
        with_slot["slot"] = json!(9);
        assert_eq!(seen(&read_all(&[with_slot], 7, None)), both[..1]);
        let program = json!({"jsonrpc": "2.0", "id": 1, "result": [one, two]});
        assert_eq!(seen(&read_all(&[program], 7, None)).len(), 2);
        let program = json!({"result": {"context": context, "value": [one, two]}});
        assert_eq!(seen(&read_all(&[program], 7, None)), both);
        let many = json!({"params": [[USDC, SOL], {}], "result": {"context": context, "value": [mint(), mint()]}});
        assert_eq!(seen(&read_all(std::slice::from_ref(&many), 7, None)), both);
        let pair = json!({"request": {"method": "getMultipleAccounts", "params": [[USDC, SOL]]},
                          "response": {"result": {"context": context, "value": [mint(), mint()]}}});
        assert_eq!(seen(&read_all(&[pair], 7, None)), both);
        let info = json!({"params": [USDC], "result": {"context": context, "value": mint()}});
        assert_eq!(seen(&read_all(&[info.clone(), many], 7, None)).len(), 3, "one document after the other");
        let nameless = json!({"jsonrpc": "2.0", "result": {"context": context, "value": mint()}});
        assert_eq!(seen(&read_all(&[nameless], 0, Some(USDC))), both[..1]);
    }

    #[test]
    fn what_is_not_taken_has_a_reason_and_costs_nobody_else() {
        let zstd = json!({"owner": USDC, "data": ["eA==", "base64+zstd"]});
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
        let dump = read_all(&[json!({"result": accounts})], 0, Some(USDC));
        let report = &dump.report;
        assert_eq!((dump.observations.len(), report.token_accounts, report.without_slot), (1, 1, 1));
        let why: Vec<&str> = report.refused.iter().map(|r| r.why.as_str()).collect();
        for (why, word) in why.iter().zip(["10 bytes", "zstd", "parsed", "base58", "address", "which", "no acc"]) {
            assert!(why.contains(word), "{why}");
        }
        assert_eq!(report.refused.iter().map(|r| r.place).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8]);
        let missing = read_all(&[json!({"params": [SOL], "result": {"context": {"slot": 1}, "value": null}})], 0, None);
        assert_eq!(missing.report.refused[0].entry, SOL);
        let error = read_all(&[json!({"error": {"code": -32005, "message": "too many requests"}})], 0, None);
        assert!(error.report.refused[0].why.contains("too many requests"));
    }

    #[test]
    fn what_holds_no_account_is_one_error_and_what_ends_early_is_torn() {
        for text in ["{}", "[]", "[1,2]", "{\"result\": []}", "{\"tokens\": [], \"result\": 7}", "7"] {
            let read = read_text(text.as_bytes(), 0, None);
            let is_empty_list = text.contains("tokens") && read.as_ref().is_ok_and(|d| d.report.entries() == 0);
            assert!(read.is_err() || is_empty_list, "{text}");
        }
        for text in ["{\"pubkey\"", "[{]", "{\"tokens\": 7}"] {
            let dump = read_text(text.as_bytes(), 0, None).unwrap();
            assert!(dump.report.torn.is_some() && dump.report.entries() == 0, "{text}");
        }
        let list = format!(
            "{{\"tokens\":[{{\"chainId\":101,\"address\":\"{SOL}\",\"symbol\":\"S\",\"name\":\"S\",\"decimals\":9}}]}}"
        );
        assert_eq!(read_text(list.as_bytes(), 0, None).unwrap().listings.len(), 1);
    }

    /// Cut at every byte: what was whole before the cut is there, and nothing else is.
    #[test]
    fn a_dump_cut_anywhere_keeps_what_was_whole() {
        let entries = [json!({"pubkey": USDC, "account": mint()}), json!({"pubkey": SOL, "account": mint()})];
        let text = json!({"result": {"context": {"slot": 9}, "value": entries}}).to_string();
        let ends: Vec<usize> = text.match_indices("\"}").map(|(at, found)| at + found.len()).collect();
        assert_eq!(ends.len(), 2, "an element ends with its pubkey");
        for cut in 1..text.len() {
            let dump = read_text(&text.as_bytes()[..cut], 0, None).unwrap();
            // Whether an element is whole is known when its last brace was read.
            assert_eq!(dump.observations.len(), ends.iter().filter(|end| **end <= cut).count(), "cut at {cut}");
            assert!(dump.report.torn.as_deref().unwrap().contains("EOF"), "cut at {cut}");
        }
        let garbage = text + "x";
        let dump = read_text(garbage.as_bytes(), 0, None).unwrap();
        assert!(dump.observations.len() == 2 && dump.report.torn.is_some());
    }

    /// As much as two hundred megabytes, made while it is read: only batches are ever held.
    #[test]
    fn a_long_dump_is_handed_over_in_batches() {
        let entry = json!({"pubkey": USDC, "account": mint()}).to_string() + ",";
        let count = 12_001;
        let body = entry.repeat(count);
        let text = format!("{{\"result\":{{\"context\":{{\"slot\":9}},\"value\":[{}]}}}}", body.trim_end_matches(','));
        let mut sizes = Vec::new();
        let mut collector = Collector::new(MAINNET, 0, None, |batch| {
            let Batch::Observations(batch) = batch else { panic!("listings of a dump") };
            sizes.push(batch.len());
            true
        });
        read(text.as_bytes(), &mut collector).unwrap();
        collector.finish(None).unwrap();
        assert_eq!(sizes, [5_000, 5_000, 2_001]);
        // Somebody who wants no more ends it there.
        let mut asked = 0;
        let mut collector = Collector::new(MAINNET, 0, None, |_| {
            asked += 1;
            false
        });
        assert!(read(text.as_bytes(), &mut collector).is_err());
        assert!(matches!(collector.finish(None), Err(Error::Closed(_))));
        assert_eq!(asked, 1);
    }

    #[test]
    fn an_entry_without_end_is_refused_before_it_fills_memory() {
        let endless = std::io::repeat(b'a');
        let text = b"{\"result\":[{\"pubkey\":\"".chain(endless);
        let dump = read_text(text, 0, None).unwrap();
        assert!(dump.report.torn.as_deref().unwrap().contains("longer than"), "{dump:?}");
    }
}
