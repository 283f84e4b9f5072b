//! Tokens in memory: what another connection writes arrives, with a notice and without.

use std::time::Duration;

use tripod::tokens::{Address, CacheOptions, KnownToken, Policy, TokenCache, Tokens, Verdict};

use super::samples::{BERN, PYUSD, USDC, account, accounts, token_list};
use crate::postgres_server::{Database, wait_until};

/// Longer than any test waits: what arrives, arrives by a notice.
fn by_notice() -> CacheOptions {
    let mut options = CacheOptions::default();
    options.poll_interval = Duration::from_secs(600);
    options
}

fn by_clock() -> CacheOptions {
    let mut options = CacheOptions::default();
    options.poll_interval = Duration::from_millis(50);
    options
}

fn supply(cache: &TokenCache, mint: &Address) -> Option<u64> {
    cache.get(mint)?.account.as_ref().map(|account| account.supply)
}

/// Waits for memory to say so; its own signal wakes the wait.
async fn wait_for(cache: &TokenCache, what: &str, condition: impl Fn(&TokenCache) -> bool + Send + Sync) {
    let mut changes = cache.changes();
    let arrived = tokio::time::timeout(Duration::from_secs(10), async {
        while !condition(cache) {
            changes.changed().await.unwrap();
        }
    });
    assert!(arrived.await.is_ok(), "{what}: not within ten seconds");
}

#[tokio::test]
async fn everything_is_there_from_the_start_and_equal_to_the_store() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    let seen: Vec<_> = accounts().iter().map(|account| account.seen_at(77)).collect();
    tokens.store(&seen, "samples").await.unwrap();
    let list = tripod::tokens::import::read_list(token_list(), tripod::tokens::import::MAINNET).unwrap();
    tokens.store_listings(&list.listings, "list:solana").await.unwrap();
    let cache = TokenCache::open(&database.config, by_notice()).await.unwrap();
    let superuser = database.superuser().await;
    let count: i64 = superuser.query_one("SELECT count(*) FROM tripod.tokens", &[]).await.unwrap().get(0);
    assert_eq!(i64::try_from(cache.len()).unwrap(), count);
    assert!(cache.age() < Duration::from_secs(60) && cache.turned_away() == 0 && !cache.is_empty());
    for seen in &seen {
        let known: KnownToken = (*cache.get(&seen.address).unwrap()).clone();
        assert_eq!(known.account.as_ref(), Some(&seen.mint), "extensions in account order, byte for byte");
        assert_eq!((known.slot, known.decimals), (77, seen.mint.decimals));
        let stored = tokens.get(&seen.address).await.unwrap().unwrap();
        assert_eq!(
            (known.name.as_deref(), known.symbol.as_deref()),
            (stored.name.as_deref(), stored.symbol.as_deref())
        );
    }
    let listed = list.listings.iter().find(|l| !seen.iter().any(|s| s.address == l.mint)).unwrap();
    let known = cache.get(&listed.mint).unwrap();
    assert!(known.account.is_none());
    let verdict = known.assess(1, tripod::Timestamp::EPOCH, &Policy::default());
    assert_eq!((verdict.verdict, verdict.mint), (Verdict::Refused, listed.mint));
    assert!(cache.get(&Address::default()).is_none());
}

#[tokio::test]
async fn what_another_connection_writes_arrives_by_notice() {
    let database = Database::migrated().await;
    let cache = TokenCache::open(&database.config, by_notice()).await.unwrap();
    wait_until("it listens", async || cache.is_listening()).await;
    let tokens = Tokens::new(database.bot());
    let bern = account(BERN);
    tokens.store(&[bern.seen_at(10)], "rpc").await.unwrap();
    wait_for(&cache, "a new token", |cache| cache.get(&bern.address).is_some()).await;
    // The set of extensions is the newest one's.
    let mut changed = bern.seen_at(11);
    changed.mint.supply = 1;
    changed.mint.extensions = account(PYUSD).mint().extensions;
    tokens.store(&[changed.clone()], "rpc").await.unwrap();
    wait_for(&cache, "its change", |cache| supply(cache, &bern.address) == Some(1)).await;
    assert_eq!(cache.get(&bern.address).unwrap().account, Some(changed.mint));
    // A list's name for a token that the chain did not name.
    let listing = tripod::tokens::Listing {
        mint: account(USDC).address,
        decimals: 6,
        name: Some("USD Coin".into()),
        symbol: Some("USDC".into()),
    };
    tokens.store_listings(&[listing], "list:x").await.unwrap();
    let usdc = account(USDC).address;
    wait_for(&cache, "a listed token", |cache| cache.get(&usdc).is_some()).await;
    // Somebody's psql: no column says that it was changed, the trigger does.
    let superuser = database.superuser().await;
    superuser.batch_execute("UPDATE tripod.tokens SET symbol = 'BY HAND' WHERE symbol = 'USDC'").await.unwrap();
    wait_for(&cache, "a change by hand", |cache| cache.get(&usdc).unwrap().symbol.as_deref() == Some("BY HAND")).await;
}

#[tokio::test]
async fn a_listener_that_was_killed_costs_time_and_no_change() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    let cache = TokenCache::open(&database.config, by_notice()).await.unwrap();
    let superuser = database.superuser().await;
    for round in 1..=3_u64 {
        wait_until("it listens", async || cache.is_listening()).await;
        // Together: what is written while nobody listens has no notice that anyone hears.
        let killed = superuser
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND query LIKE 'LISTEN%'",
                &[],
            )
            .await
            .unwrap();
        assert_eq!(killed.len(), 1, "one listener");
        let mut seen = account(USDC).seen_at(round);
        seen.mint.supply = round;
        tokens.store(&[seen.clone()], "rpc").await.unwrap();
        wait_for(&cache, "the change", |cache| supply(cache, &seen.address) == Some(round)).await;
    }
}

#[tokio::test]
async fn without_any_notice_it_arrives_by_the_clock() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    let superuser = database.superuser().await;
    superuser.batch_execute("ALTER TABLE tripod.tokens DISABLE TRIGGER announce").await.unwrap();
    let cache = TokenCache::open(&database.config, by_clock()).await.unwrap();
    tokens.store(&[account(BERN).seen_at(10)], "rpc").await.unwrap();
    let bern = account(BERN).address;
    wait_for(&cache, "a new token", |cache| cache.get(&bern).is_some()).await;
    // More than one page, all of one transaction.
    superuser
        .batch_execute(
            "INSERT INTO tripod.tokens (mint, decimals, slot, write_version, source)
             SELECT decode(md5(n::text) || md5(n::text), 'hex'), 1, 0, 0, 'by hand' FROM generate_series(1, 5000) AS n",
        )
        .await
        .unwrap();
    wait_for(&cache, "5,000 tokens", |cache| cache.len() == 5_001).await;
}

/// The trap of every sequence: the transaction that began first commits last.
#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    let [bern, usdc] = [BERN, USDC].map(account);
    tokens.store(&[bern.seen_at(1), usdc.seen_at(1)], "rpc").await.unwrap();
    let cache = TokenCache::open(&database.config, by_clock()).await.unwrap();
    let slow = database.superuser().await;
    slow.batch_execute("BEGIN").await.unwrap();
    let mint: &[u8] = bern.address.as_ref();
    slow.execute("UPDATE tripod.tokens SET supply = 5, slot = 5 WHERE mint = $1", &[&mint]).await.unwrap();
    // Later ones are written, committed and seen.
    for slot in 2..=4 {
        let mut seen = usdc.seen_at(slot);
        seen.mint.supply = slot;
        tokens.store(&[seen], "rpc").await.unwrap();
        wait_for(&cache, "the later one", |cache| supply(cache, &usdc.address) == Some(slot)).await;
    }
    assert_ne!(supply(&cache, &bern.address), Some(5));
    slow.batch_execute("COMMIT").await.unwrap();
    wait_for(&cache, "the late one", |cache| supply(cache, &bern.address) == Some(5)).await;
}

#[tokio::test]
async fn a_table_that_was_filled_anew_is_read_anew() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    let [bern, usdc] = [BERN, USDC].map(account);
    tokens.store(&[bern.seen_at(1)], "rpc").await.unwrap();
    let cache = TokenCache::open(&database.config, by_clock()).await.unwrap();
    // As a restore does it: rows with the numbers of another server, long past.
    let superuser = database.superuser().await;
    let mint: &[u8] = usdc.address.as_ref();
    superuser.batch_execute("BEGIN; TRUNCATE tripod.tokens CASCADE").await.unwrap();
    superuser
        .execute(
            "INSERT INTO tripod.tokens (mint, decimals, slot, write_version, source, changed_in)
             VALUES ($1, 6, 0, 0, 'restored', '3')",
            &[&mint],
        )
        .await
        .unwrap();
    superuser.batch_execute("COMMIT").await.unwrap();
    wait_for(&cache, "the restored token", |cache| cache.get(&usdc.address).is_some()).await;
    assert!(cache.get(&bern.address).is_some(), "what the chain said is not forgotten");
}
