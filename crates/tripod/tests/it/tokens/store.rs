//! The store: the newest wins in whatever order things come, nothing is lost, every change is kept.

use serde_json::{Value, json};
use tripod::Error;
use tripod::tokens::import::{MAINNET, import_list};
use tripod::tokens::{Address, Observation, Summary, TOKEN_2022_PROGRAM, Tokens, decode};

use super::samples::{BERN, BONK, PYUSD, USDC, account, accounts, token_list};
use crate::postgres_server::Database;

async fn store() -> (Database, Tokens) {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    (database, tokens)
}

/// (field, before, after) of every change, oldest first, as the server has them.
async fn changes(database: &Database) -> Vec<(String, Option<Value>, Option<Value>)> {
    let rows = database.superuser().await;
    let rows = rows.query("SELECT field, before, after FROM tripod.token_changes ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect()
}

#[tokio::test]
async fn what_is_stored_is_read_back_whole() {
    let (_database, tokens) = store().await;
    let observations: Vec<Observation> = accounts().iter().map(|a| a.seen_at(452_061_257)).collect();
    let summary = tokens.store(&observations, "samples").await.unwrap();
    assert_eq!(summary, Summary { new: observations.len(), ..Summary::default() });
    let mints: Vec<Address> = observations.iter().map(|o| o.address).collect();
    let stored = tokens.get_many(&mints).await.unwrap();
    assert_eq!(stored.len(), observations.len());
    for seen in &observations {
        let token = stored.iter().find(|t| t.mint == seen.address).unwrap();
        assert_eq!((token.program, token.supply), (Some(seen.mint.program), Some(seen.mint.supply)));
        assert_eq!(token.decimals, seen.mint.decimals);
        assert_eq!(token.mint_authority, seen.mint.mint_authority);
        assert_eq!(token.freeze_authority, seen.mint.freeze_authority);
        assert_eq!((token.slot, token.source.as_str()), (452_061_257, "samples"));
        assert_eq!(token.extensions.len(), seen.mint.extensions.len());
        for (have, want) in token.extensions.iter().zip(&seen.mint.extensions) {
            assert_eq!((have.number, have.raw.as_slice()), (want.number(), want.raw()));
            assert_eq!(have.fields, Some(want.fields().unwrap()));
        }
    }
    let pyusd = tokens.get(&account(PYUSD).address).await.unwrap().unwrap();
    assert_eq!((pyusd.symbol.as_deref(), pyusd.named_by.as_deref()), (Some("PYUSD"), Some("chain")));
    let json = serde_json::to_value(tokens.get(&account(BONK).address).await.unwrap().unwrap()).unwrap();
    assert_eq!(json["supply"], "8799471727649623533");
    assert_eq!(tokens.get(&Address::default()).await.unwrap(), None);
    assert_eq!(tokens.by_symbol(" pyusd ").await.unwrap(), [pyusd]);
}

#[tokio::test]
async fn an_older_slot_after_a_newer_one_changes_nothing_and_is_counted() {
    let (database, tokens) = store().await;
    let mut newer = account(USDC).seen_at(200);
    newer.write_version = 5;
    let mut older = newer.clone();
    older.mint.supply = 1;
    older.mint.freeze_authority = None;
    tokens.store(&[newer.clone()], "geyser").await.unwrap();
    for (slot, write_version) in [(199, 9), (200, 4), (0, 0)] {
        (older.slot, older.write_version) = (slot, write_version);
        let summary = tokens.store(&[older.clone()], "rpc").await.unwrap();
        assert_eq!(summary, Summary { older: 1, ..Summary::default() }, "{slot}/{write_version}");
    }
    let again = tokens.store(&[newer.clone()], "geyser").await.unwrap();
    assert_eq!(again, Summary { unchanged: 1, ..Summary::default() });
    let stored = tokens.get(&newer.address).await.unwrap().unwrap();
    assert_eq!((stored.supply, stored.slot, stored.write_version), (Some(newer.mint.supply), 200, 5));
    assert_eq!(stored.freeze_authority, newer.mint.freeze_authority);
    assert!(changes(&database).await.is_empty());
    // In one call the newest of several is taken, in any order.
    (older.slot, older.write_version) = (300, 0);
    let mut newest = older.clone();
    (newest.slot, newest.mint.supply) = (301, 77);
    let summary = tokens.store(&[older.clone(), newest, older], "rpc").await.unwrap();
    assert_eq!(summary, Summary { changed: 1, repeated: 2, ..Summary::default() });
    assert_eq!(tokens.get(&newer.address).await.unwrap().unwrap().supply, Some(77));
}

/// Each write says its slot in the supply, the decimals and the number of extensions, so that a mixture of two would show.
fn marked(account: &super::samples::Account, slot: u64) -> Observation {
    let mut seen = account.seen_at(slot);
    seen.mint.supply = slot;
    seen.mint.decimals = u8::try_from(slot % 20).unwrap();
    seen.mint.extensions.truncate(usize::try_from(slot % 4).unwrap());
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_writers_in_any_order_end_at_the_newest_with_the_whole_history() {
    const WRITERS: u64 = 100;
    let (database, tokens) = store().await;
    let addresses: Vec<_> = [USDC, BONK, PYUSD, BERN].map(account).into();
    // 37 and 100 share no factor, so this is every slot once, out of order.
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| (n * 37) % WRITERS + 1)
        .map(|slot| {
            let tokens = tokens.clone();
            let mut seen: Vec<Observation> = addresses.iter().map(|a| marked(a, slot)).collect();
            if slot % 2 == 0 {
                seen.reverse();
            }
            tokio::spawn(async move { tokens.store(&seen, &format!("writer {slot}")).await })
        })
        .collect();
    let mut total = Summary::default();
    for writer in writers {
        total += writer.await.unwrap().expect("no deadlock, no error");
    }
    assert_eq!(total.new, 4, "each mint is new once");
    assert_eq!(total.new + total.changed + total.unchanged + total.older, 400);
    let superuser = database.superuser().await;
    for account in &addresses {
        let newest = marked(account, WRITERS);
        let stored = tokens.get(&account.address).await.unwrap().unwrap();
        assert_eq!((stored.slot, stored.supply), (WRITERS, Some(WRITERS)));
        assert_eq!((stored.decimals, stored.extensions.len()), (newest.mint.decimals, newest.mint.extensions.len()));
        // The history is one chain: ever later slots, each beginning with what the one before it ended with.
        let mint: &[u8] = account.address.as_ref();
        let rows = superuser
            .query(
                "SELECT slot, before::text::int, after::text::int FROM tripod.token_changes
                 WHERE mint = $1 AND field = 'decimals' ORDER BY id",
                &[&mint],
            )
            .await
            .unwrap();
        let steps: Vec<(i64, i32, i32)> = rows.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
        assert!(steps.is_sorted_by(|a, b| a.0 < b.0), "{steps:?}");
        for pair in steps.windows(2) {
            assert_eq!(pair[0].2, pair[1].1, "a change is missing between {pair:?}");
        }
        assert!(steps.iter().all(|(slot, _, after)| i64::from(*after) == slot % 20), "{steps:?}");
        assert_eq!(steps.last().map(|s| s.2), (!steps.is_empty()).then_some(0), "it ends with slot 100's");
    }
    assert_eq!(superuser.query_one("SELECT count(*) FROM tripod.tokens", &[]).await.unwrap().get::<_, i64>(0), 4);
}

#[tokio::test]
async fn a_mint_twice_in_a_batch_is_its_newest_whichever_came_first() {
    let (database, tokens) = store().await;
    let bern = account(BERN);
    for (order, base) in [([1, 2], 10), ([2, 1], 20)] {
        let batch: Vec<Observation> = order.iter().map(|n| marked(&bern, base + n)).collect();
        let summary = tokens.store(&batch, "rpc").await.unwrap();
        assert_eq!((summary.new + summary.changed, summary.repeated), (1, 1));
        let stored = tokens.get(&bern.address).await.unwrap().unwrap();
        assert_eq!((stored.slot, stored.supply), (base + 2, Some(base + 2)));
    }
    // The same slot twice: by write version, and without one the first.
    let mut two = [marked(&bern, 30), marked(&bern, 30)];
    (two[0].write_version, two[1].write_version) = (2, 1);
    (two[0].mint.supply, two[1].mint.supply) = (2, 1);
    tokens.store(&two, "geyser").await.unwrap();
    assert_eq!(tokens.get(&bern.address).await.unwrap().unwrap().supply, Some(2));
    assert_eq!(changes(&database).await.iter().filter(|c| c.0 == "decimals").count(), 2, "12 to 22 to 30, mod 20");
}

/// One writer holds the row while another, newer or older one waits for it.
#[tokio::test]
async fn of_two_writers_the_one_that_waits_decides_by_what_the_other_left() {
    let (database, tokens) = store().await;
    let bern = account(BERN);
    tokens.store(&[marked(&bern, 10)], "rpc").await.unwrap();
    for (holds, waits) in [(20_u64, 21_u64), (31, 30)] {
        let holder = database.superuser().await;
        let mint: &[u8] = bern.address.as_ref();
        holder.batch_execute("BEGIN").await.unwrap();
        let sql = "UPDATE tripod.tokens SET slot = $2, write_version = 0, supply = $2::bigint WHERE mint = $1";
        holder.execute(sql, &[&mint, &i64::try_from(holds).unwrap()]).await.unwrap();
        let waiting = {
            let (tokens, seen) = (tokens.clone(), marked(&bern, waits));
            tokio::spawn(async move { tokens.store(&[seen], "rpc").await })
        };
        let asks = database.superuser().await;
        crate::postgres_server::wait_until("the other one waits for the row", async || {
            let sql =
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            asks.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
        holder.batch_execute("COMMIT").await.unwrap();
        let summary = waiting.await.unwrap().unwrap();
        let newest = holds.max(waits);
        assert_eq!((summary.changed, summary.older), if waits > holds { (1, 0) } else { (0, 1) });
        let stored = tokens.get(&bern.address).await.unwrap().unwrap();
        assert_eq!((stored.slot, stored.supply), (newest, Some(newest)));
    }
}

#[tokio::test]
async fn every_change_is_kept_with_what_it_was_and_learning_is_no_change() {
    let (database, tokens) = store().await;
    let bern = account(BERN);
    tokens.store(&[bern.seen_at(10)], "rpc").await.unwrap();
    let mut supply_only = bern.seen_at(11);
    supply_only.mint.supply -= 1;
    tokens.store(&[supply_only], "rpc").await.unwrap();
    assert!(changes(&database).await.is_empty(), "supply is not what a token is");

    let mut changed = bern.seen_at(12);
    changed.mint.freeze_authority = Some(account(USDC).address);
    changed.mint.extensions = account(PYUSD).mint().extensions;
    tokens.store(&[changed], "rpc").await.unwrap();
    let found = changes(&database).await;
    let freeze = found.iter().find(|c| c.0 == "freeze_authority").unwrap();
    let hex: String = account(USDC).address.to_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!((&freeze.1, &freeze.2), (&None, &Some(json!(hex))));
    let fee = found.iter().find(|c| c.0 == "extension TransferFeeConfig").unwrap();
    assert_eq!(fee.1.as_ref().unwrap()["newerTransferFee"]["transferFeeBasisPoints"], 269);
    assert_eq!(fee.2.as_ref().unwrap()["newerTransferFee"]["transferFeeBasisPoints"], 0);
    let added = found.iter().filter(|c| c.0.starts_with("extension") && c.1.is_none()).count();
    assert_eq!((added, found.len()), (7, 9), "{found:?}");

    tokens.store(&[bern.seen_at(13)], "rpc").await.unwrap();
    let removed =
        changes(&database).await.into_iter().filter(|c| c.2.is_none() && c.0.starts_with("extension")).count();
    assert_eq!(removed, 7);
    let stored = tokens.get(&bern.address).await.unwrap().unwrap();
    assert_eq!(stored.extensions.len(), 1);
}

#[tokio::test]
async fn an_unknown_a_broken_and_a_doubled_extension_are_kept_with_their_reasons() {
    let (_database, tokens) = store().await;
    let mut data = account(USDC).data;
    data.resize(165, 0);
    data.push(1);
    data.extend([99, 0, 2, 0, 7, 7]);
    data.extend([6, 0, 1, 0, 2]);
    data.extend([6, 0, 1, 0, 1]);
    // Metadata whose name holds what PostgreSQL refuses in text and jsonb.
    let mut metadata = vec![0_u8; 64];
    for text in ["a\0b\0\0", "S\0", "u"] {
        metadata.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        metadata.extend(text.as_bytes());
    }
    metadata.extend([0; 4]);
    data.extend([19, 0, u8::try_from(metadata.len()).unwrap(), 0]);
    data.extend(metadata);
    data.extend([12, 0, 32, 0, 1]);
    let address = Address::new_from_array([9; 32]);
    let mint = decode(&TOKEN_2022_PROGRAM, &data).unwrap();
    tokens.store(&[Observation { address, mint, slot: 1, write_version: 0 }], "made by hand").await.unwrap();
    let stored = tokens.get(&address).await.unwrap().unwrap();
    let told: Vec<_> = stored.extensions.iter().map(|e| (e.name.as_str(), e.fields.is_some())).collect();
    assert_eq!(
        told,
        [
            ("Unknown(99)", false),
            ("DefaultAccountState", true),
            ("DefaultAccountState", true),
            ("TokenMetadata", true),
            ("PermanentDelegate", false)
        ]
    );
    assert_eq!(stored.extensions[0].raw, [7, 7]);
    assert!(stored.extensions[0].decode_error.as_deref().unwrap().contains("unknown"));
    assert!(stored.extensions[4].decode_error.as_deref().unwrap().contains("says 32 bytes"));
    assert_eq!(stored.extensions[3].fields.as_ref().unwrap()["name"], "a\u{fffd}b");
    assert_eq!(stored.name, None, "no pointer names this mint: the metadata is not believed");
}

#[tokio::test]
async fn the_token_list_imported_twice_is_imported_once() {
    let (database, tokens) = store().await;
    let first = import_list(&tokens, token_list(), MAINNET, "list:solana").await.unwrap();
    assert_eq!(first.stored, Summary { new: 277, ..Summary::default() });
    assert_eq!((first.other_chains, first.refused.len()), (20, 3));
    for refused in &first.refused {
        assert!(refused.why.contains("decimals"), "{refused:?}");
    }
    let second = import_list(&tokens, token_list(), MAINNET, "list:solana").await.unwrap();
    assert_eq!(second.stored, Summary { unchanged: 277, ..Summary::default() });
    assert!(changes(&database).await.is_empty());

    let superuser = database.superuser().await;
    let count = async |sql: &str| superuser.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count("SELECT count(*) FROM tripod.tokens").await, 277);
    assert_eq!(count("SELECT count(*) FROM tripod.tokens WHERE name ~ '[^[:ascii:]]'").await, 15);
    assert_eq!(tokens.by_symbol("nftp").await.unwrap().len(), 12, "a shared symbol has many answers");
}

#[tokio::test]
async fn the_chain_outranks_a_list_whichever_came_first() {
    let (database, tokens) = store().await;
    let list = async |name: &str| {
        let list = json!({"tokens": [
            {"chainId": 101, "address": USDC, "symbol": "USDC", "name": name, "decimals": 7},
            {"chainId": 101, "address": PYUSD, "symbol": "FAKE", "name": name, "decimals": 6},
        ]});
        import_list(&tokens, list.to_string().as_bytes(), MAINNET, "list:x").await.unwrap().stored
    };
    assert_eq!(list("one").await, Summary { new: 2, ..Summary::default() });
    let seen: Vec<Observation> = [USDC, PYUSD].map(|a| account(a).seen_at(0)).into();
    assert_eq!(tokens.store(&seen, "rpc").await.unwrap(), Summary { changed: 2, ..Summary::default() });
    let usdc = tokens.get(&seen[0].address).await.unwrap().unwrap();
    assert_eq!((usdc.name.as_deref(), usdc.decimals, usdc.source.as_str()), (Some("one"), 6, "rpc"));
    let pyusd = tokens.get(&seen[1].address).await.unwrap().unwrap();
    assert_eq!((pyusd.name.as_deref(), pyusd.named_by.as_deref()), (Some("PayPal USD"), Some("chain")));

    // The list may rename what only a list named; not what the chain names, and no decimals.
    assert_eq!(list("two").await, Summary { changed: 1, older: 1, ..Summary::default() });
    let usdc = tokens.get(&seen[0].address).await.unwrap().unwrap();
    assert_eq!((usdc.name.as_deref(), usdc.decimals), (Some("two"), 6));
    assert_eq!(tokens.get(&seen[1].address).await.unwrap().unwrap().symbol.as_deref(), Some("PYUSD"));
    let fields: Vec<String> = changes(&database).await.into_iter().map(|c| c.0).collect();
    for field in ["decimals", "name", "symbol"] {
        assert!(fields.iter().any(|f| f == field), "{field} in {fields:?}");
    }
    assert!(
        !fields.iter().any(|f| f.contains("authority") || f == "program" || f.starts_with("extension")),
        "{fields:?}"
    );
}

#[tokio::test]
async fn a_slot_beyond_the_column_and_too_many_mints_are_refused() {
    let (_database, tokens) = store().await;
    let error = tokens.store(&[account(USDC).seen_at(u64::MAX)], "rpc").await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    let error = tokens.get_many(&vec![Address::default(); 10_001]).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    let mut most = account(USDC).seen_at(1);
    most.mint.supply = u64::MAX;
    tokens.store(&[most.clone()], "rpc").await.unwrap();
    assert_eq!(tokens.get(&most.address).await.unwrap().unwrap().supply, Some(u64::MAX));
}
