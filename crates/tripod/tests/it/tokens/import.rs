//! Files into a real store: packed dumps, torn lists, the same twice.

use std::io::Cursor;

use base64::Engine as _;
use serde_json::{Value, json};
use tripod::tokens::import::{Kind, Options, Report, import, open};
use tripod::tokens::{Summary, Tokens};

use super::samples::{PYUSD, accounts, file_of, token_list};
use crate::postgres_server::Database;

async fn read(tokens: &Tokens, text: impl Into<Vec<u8>>, name: &str) -> Report {
    let source = open(Cursor::new(text.into())).unwrap();
    import(tokens, source, &Options::new(name), |_| {}).await.unwrap()
}

/// As a node packs it. (That what other programs pack is read too has a test beside the reader.)
fn packed(account: &Value) -> Value {
    let data = base64::prelude::BASE64_STANDARD.decode(account["data"][0].as_str().unwrap()).unwrap();
    let packed = ruzstd::encoding::compress_to_vec(&data[..], ruzstd::encoding::CompressionLevel::Fastest);
    let mut account = account.clone();
    account["data"] = json!([base64::prelude::BASE64_STANDARD.encode(packed), "base64+zstd"]);
    account
}

#[tokio::test]
async fn every_answer_of_a_node_is_read_packed_or_plain() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    let files: Vec<Value> = accounts().iter().map(|a| file_of(&a.address.to_string()).unwrap()).collect();
    let keys: Vec<&str> = files.iter().map(|file| file["pubkey"].as_str().unwrap()).collect();
    let context = json!({"apiVersion": "2.3.6", "slot": 50});
    // As nodes order the keys: by hand, because a map would sort them.
    let program: Vec<String> = files
        .iter()
        .map(|file| format!("{{\"account\":{},\"pubkey\":{}}}", packed(&file["account"]), file["pubkey"]))
        .collect();
    let program = format!(
        "{{\"jsonrpc\":\"2.0\",\"result\":{{\"context\":{context},\"value\":[{}]}},\"id\":1}}",
        program.join(",")
    );
    let count = files.len();
    let first = read(&tokens, program.clone(), "file:program").await;
    assert_eq!(first.stored, Summary { new: count, ..Summary::default() }, "{first:?}");
    assert_eq!((first.kind, first.without_slot, first.torn.as_deref()), (Kind::Accounts, 0, None));
    let many: Vec<Value> = files.iter().map(|file| packed(&file["account"])).collect();
    let many = json!({"params": [keys, {}], "result": {"context": context, "value": many}});
    assert_eq!(read(&tokens, many.to_string(), "file:many").await.stored.unchanged, count);
    for (file, key) in files.iter().zip(&keys) {
        let info = json!({"params": [key], "result": {"context": context, "value": packed(&file["account"])}});
        assert_eq!(read(&tokens, info.to_string(), "file:info").await.stored.unchanged, 1);
    }
    for account in accounts() {
        let stored = tokens.get(&account.address).await.unwrap().unwrap();
        assert_eq!(stored.to_mint().unwrap(), account.mint(), "byte for byte");
    }
    // Cut in the middle of the last account: the ones before it are there, and it is said.
    let cut = read(&tokens, &program.as_bytes()[..program.len() - 40], "file:cut").await;
    assert_eq!((cut.stored.unchanged, cut.entries()), (count - 1, count - 1));
    assert!(cut.torn.unwrap().contains("EOF"));
}

#[tokio::test]
async fn a_list_that_stops_being_json_keeps_what_came_before_and_goes_on_where_it_was() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    let mut whole = Vec::new();
    std::io::Read::read_to_end(&mut token_list(), &mut whole).unwrap();
    let mut torn = whole[..whole.len() * 2 / 3].to_vec();
    torn.extend(b"<html>502 Bad Gateway</html>");
    let first = read(&tokens, torn, "list:solana").await;
    let taken = first.stored.new;
    assert!(first.torn.is_some() && taken > 100 && taken < 277, "{first:?}");
    assert_eq!(first.entries(), taken + first.stored.repeated + first.other_chains + first.refused.len());
    let superuser = database.superuser().await;
    let count = async || superuser.query_one("SELECT count(*) FROM tripod.tokens", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count().await, i64::try_from(taken).unwrap());
    let again = read(&tokens, whole.clone(), "list:solana").await;
    assert_eq!((again.stored.new, again.stored.unchanged), (277 - taken, taken));
    assert_eq!((again.entries(), again.other_chains, again.refused.len(), again.torn), (300, 20, 3, None));
    let twice = read(&tokens, whole, "list:solana").await;
    assert_eq!(twice.stored, Summary { unchanged: 277, ..Summary::default() });
    assert_eq!(count().await, 277);
}

/// A dump of a whole program, made while it is read: nothing of it is ever held as a whole.
#[tokio::test]
async fn a_dump_longer_than_a_batch_is_stored_batch_by_batch() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    let account = file_of(PYUSD).unwrap()["account"].clone();
    let entries: Vec<String> = (0..6_000_u32)
        .map(|n| {
            let mut key = [9; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            json!({"pubkey": tripod::tokens::Address::new_from_array(key).to_string(), "account": account}).to_string()
        })
        .collect();
    let text = format!("{{\"result\":{{\"context\":{{\"slot\":9}},\"value\":[{}]}}}}", entries.join(","));
    let mut told = Vec::new();
    let source = open(Cursor::new(text)).unwrap();
    let report = import(&tokens, source, &Options::new("file:x"), |stored| told.push(stored.new)).await.unwrap();
    assert_eq!((report.stored.new, told), (6_000, vec![5_000, 6_000]));
}
