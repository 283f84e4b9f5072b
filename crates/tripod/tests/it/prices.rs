//! Prices in a real Redis: the key contract, the guard against going back, foreign writers, age.

mod broken;
mod feed;
mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::redis::AsyncCommands;
use tripod::prices::{Freshness, PriceUpdate, Prices, SLOT_MAX};
use tripod::redis::Label;
use tripod::{Config, Decimal, Error, Token};

use crate::redis_link::{DEADLINE, TestRedis, eventually};

const SOL: &str = "So11111111111111111111111111111111111111112";

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

fn update(name: &str, value: &str, slot: u64) -> PriceUpdate {
    let source = Label::new("source", "jupiter").unwrap();
    PriceUpdate { token: token(name), value: value.parse().unwrap(), slot, source, venue: None }
}

fn with_ttl(mut config: Config, ttl_ms: u64) -> Config {
    config.prices.ttl_ms = ttl_ms;
    config
}

#[tokio::test]
async fn the_key_holds_exactly_the_decimal_for_exactly_its_life() {
    let server = TestRedis::prices();
    let mut ask = server.ask().await;
    let prices = Prices::connect(&with_ttl(server.config(), 1500)).await.unwrap();
    let report = prices.write(&[update(SOL, "152.1250", 298_417_223)]).await.unwrap();
    assert_eq!((report.written, report.older, report.guards_mended), (1, 0, 0));

    let key = format!("price:{SOL}");
    let value: String = ask.get(&key).await.unwrap();
    assert_eq!(value, "152.1250");
    let life_ms: i64 = ask.pttl(&key).await.unwrap();
    assert!((1000..=1500).contains(&life_ms), "{life_ms}");

    let guard_key = format!("guard:{{price:{SOL}}}");
    let guard: String = ask.get(&guard_key).await.unwrap();
    let words: Vec<&str> = guard.split(' ').collect();
    assert_eq!((words[0], words[1], words[3], words.len()), ("152.1250", "298417223", "jupiter", 4), "{guard}");
    let guard_life_ms: i64 = ask.pttl(&guard_key).await.unwrap();
    assert!((55_000..=60_000).contains(&guard_life_ms), "{guard_life_ms}");
    let keys: Vec<String> = ask.keys("*").await.unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");

    let price = prices.read(&token(SOL)).await.unwrap().unwrap();
    assert_eq!((price.value.to_string().as_str(), price.slot), ("152.1250", Some(298_417_223)));
    assert_eq!(price.source.unwrap().as_str(), "jupiter");
    assert_eq!(price.freshness(Duration::from_secs(10)), Freshness::Fresh);
    eventually("the price is past a limit of 5 ms", async || {
        let price = prices.read(&token(SOL)).await.unwrap().unwrap();
        matches!(price.freshness(Duration::from_millis(5)), Freshness::Stale { age: Some(_) })
    })
    .await;
    eventually("the price is gone after its life", async || prices.read(&token(SOL)).await.unwrap().is_none()).await;
    assert!(prices.latest(&token(SOL)).is_none(), "memory must not outlive Redis");
}

#[tokio::test]
async fn the_two_functions_of_the_specification() {
    let server = TestRedis::prices();
    let mut ask = server.ask().await;
    let prices = Prices::connect(&server.config()).await.unwrap();
    assert_eq!(prices.get_cached_price(SOL).await.unwrap(), None);
    let price: Decimal = "0.000000001234".parse().unwrap();
    prices.cache_price(SOL, price, Duration::from_millis(1200)).await.unwrap();
    assert_eq!(prices.get_cached_price(SOL).await.unwrap(), Some(price));
    let life_ms: i64 = ask.pttl(format!("price:{SOL}")).await.unwrap();
    assert!((800..=1200).contains(&life_ms), "{life_ms}");
    let read = prices.read(&token(SOL)).await.unwrap().unwrap();
    assert_eq!((read.slot, read.source), (None, None), "nobody said a slot");
    assert!(read.age.is_some());

    // It goes through the guard with the last known slot: it takes effect, and the protection by slot stays.
    prices.write(&[update(SOL, "2", 500)]).await.unwrap();
    prices.cache_price(SOL, "3".parse().unwrap(), Duration::from_secs(1)).await.unwrap();
    let read = prices.read(&token(SOL)).await.unwrap().unwrap();
    assert_eq!((read.value.to_string().as_str(), read.slot), ("3", Some(500)));
    assert_eq!(prices.write(&[update(SOL, "4", 499)]).await.unwrap().older, 1);
    assert_eq!(prices.get_cached_price(SOL).await.unwrap(), Some("3".parse().unwrap()));
}

#[tokio::test]
async fn an_older_slot_is_refused_also_after_the_price_has_expired() {
    let server = TestRedis::prices();
    let mut ask = server.ask().await;
    let prices = Prices::connect(&with_ttl(server.config(), 100)).await.unwrap();
    prices.write(&[update(SOL, "1", 500)]).await.unwrap();
    let report = prices.write(&[update(SOL, "2", 400)]).await.unwrap();
    assert_eq!((report.written, report.older), (0, 1));
    let key = format!("price:{SOL}");
    eventually("the price has expired", async || ask.get::<_, Option<String>>(&key).await.unwrap().is_none()).await;
    let report = prices.write(&[update(SOL, "2", 400)]).await.unwrap();
    assert_eq!((report.written, report.older), (0, 1));
    assert_eq!(ask.get::<_, Option<String>>(&key).await.unwrap(), None);
    // The same slot again, and a newer one: the last writer wins.
    assert_eq!(prices.write(&[update(SOL, "3", 500)]).await.unwrap().written, 1);
    assert_eq!(prices.write(&[update(SOL, "4", 501), update(SOL, "5", 500)]).await.unwrap().older, 1);
    assert_eq!(ask.get::<_, Option<String>>(&key).await.unwrap().as_deref(), Some("4"));
    assert_eq!(prices.latest(&token(SOL)).unwrap().slot, Some(501));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_writers_with_shuffled_slots_and_no_reader_ever_sees_a_slot_go_back() {
    const TOKENS: usize = 10;
    const SLOTS: u64 = 400;
    let server = TestRedis::prices();
    let config = server.config();
    let names: Vec<Token> = (0..TOKENS).map(|n| token(&format!("TOKEN{n}"))).collect();
    let done = Arc::new(AtomicBool::new(false));

    let reader = {
        let (prices, names, done) = (Prices::connect(&config).await.unwrap(), names.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut last = [0_u64; TOKENS];
            let mut seen = 0_u64;
            while !done.load(Ordering::Acquire) {
                for (index, price) in prices.read_many(&names).await.unwrap().into_iter().enumerate() {
                    let Some(price) = price.unwrap() else { continue };
                    let slot = price.slot.expect("only guarded writers are here");
                    assert!(slot >= last[index], "slot went from {} back to {slot}", last[index]);
                    assert_eq!(price.value, Decimal::from(slot), "value and slot of different writes");
                    last[index] = slot;
                    seen += 1;
                }
            }
            seen
        })
    };

    let mut writers = Vec::new();
    for seed in 1..=4_u64 {
        // Each writer has a connection of its own and every slot, in an order of its own.
        let (prices, names) = (Prices::connect(&config).await.unwrap(), names.clone());
        writers.push(tokio::spawn(async move {
            let mut slots: Vec<u64> = (1..=SLOTS).collect();
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            for i in (1..slots.len()).rev() {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let upto = u64::try_from(i).unwrap() + 1;
                slots.swap(i, usize::try_from(state % upto).unwrap());
            }
            let (mut written, mut older) = (0, 0);
            for slot in slots {
                let source = Label::new("source", &format!("writer-{seed}")).unwrap();
                let updates: Vec<PriceUpdate> = names
                    .iter()
                    .map(|token| PriceUpdate { token: *token, value: Decimal::from(slot), slot, source, venue: None })
                    .collect();
                let report = prices.write(&updates).await.unwrap();
                written += report.written;
                older += report.older;
            }
            (written, older)
        }));
    }
    let mut older = 0;
    for writer in writers {
        let (written, refused) = writer.await.unwrap();
        assert_eq!(written + refused, TOKENS * usize::try_from(SLOTS).unwrap());
        older += refused;
    }
    done.store(true, Ordering::Release);
    assert!(reader.await.unwrap() > 100, "the reader saw too little to prove anything");
    assert!(older > 1000, "only {older} writes were older; the slots were not shuffled");
    let mut ask = server.ask().await;
    for name in &names {
        let guard: String = ask.get(format!("guard:{{price:{name}}}")).await.unwrap();
        assert_eq!(guard.split(' ').nth(1), Some(SLOTS.to_string().as_str()));
    }
}

#[tokio::test]
async fn what_a_foreign_writer_sets_has_a_value_and_no_slot_and_does_not_lift_the_guard() {
    let server = TestRedis::prices();
    let mut ask = server.ask().await;
    let prices = Prices::connect(&server.config()).await.unwrap();
    prices.write(&[update(SOL, "10", 500)]).await.unwrap();
    ask.pset_ex::<_, _, ()>(format!("price:{SOL}"), "11", 2000).await.unwrap();
    let price = prices.read(&token(SOL)).await.unwrap().unwrap();
    assert_eq!((price.value, price.slot, price.age, price.source), (Decimal::from(11), None, None, None));
    assert_eq!(price.freshness(Duration::from_secs(60)), Freshness::Stale { age: None });
    assert_eq!(prices.write(&[update(SOL, "12", 499)]).await.unwrap().older, 1);

    // One of another token is a price too; one that is no price is an error, and hides no other.
    ask.set_ex::<_, _, ()>("price:FOREIGN", "0.5", 2).await.unwrap();
    ask.set_ex::<_, _, ()>("price:BROKEN", "half a dollar", 2).await.unwrap();
    let all = prices.read_many(&[token(SOL), token("BROKEN"), token("FOREIGN"), token("NONE")]).await.unwrap();
    assert_eq!(all[0].as_ref().unwrap().unwrap().value, Decimal::from(11));
    assert!(matches!(&all[1], Err(Error::Invalid { what, .. }) if what.contains("BROKEN")), "{:?}", all[1]);
    assert_eq!(all[2].as_ref().unwrap().unwrap().value, "0.5".parse().unwrap());
    assert!(matches!(all[3], Ok(None)));
}

#[tokio::test]
async fn a_guard_that_makes_no_sense_counts_as_none_and_is_reported_and_replaced() {
    let server = TestRedis::prices();
    let mut ask = server.ask().await;
    let prices = Prices::connect(&server.config()).await.unwrap();
    let guard_key = format!("guard:{{price:{SOL}}}");
    let endless = format!("1 {} 1 x", "9".repeat(300));
    for garbage in ["", "garbage", "1.5", "1.5 -3 1 x", "1.5 7 1 a b", "1.5 nan 1 x", endless.as_str()] {
        ask.set::<_, _, ()>(&guard_key, garbage).await.unwrap();
        let report = prices.write(&[update(SOL, "1.5", 7)]).await.unwrap();
        assert_eq!((report.written, report.guards_mended), (1, 1), "{garbage:?}");
        let guard: String = ask.get(&guard_key).await.unwrap();
        assert!(guard.starts_with("1.5 7 "), "{guard}");
    }
    // A key of another type in its place, in the middle of a batch.
    ask.del::<_, ()>(&guard_key).await.unwrap();
    ask.hset::<_, _, _, ()>(&guard_key, "a", "b").await.unwrap();
    let report = prices.write(&[update("A", "1", 1), update(SOL, "2", 8), update("B", "3", 1)]).await.unwrap();
    assert_eq!((report.written, report.guards_mended), (3, 1));
    assert_eq!(prices.read(&token(SOL)).await.unwrap().unwrap().slot, Some(8));
}

#[tokio::test]
async fn what_is_no_price_or_no_token_is_refused_before_anything_is_written() {
    let server = TestRedis::prices();
    let mut ask = server.ask().await;
    let prices = Prices::connect(&server.config()).await.unwrap();
    let one = Decimal::ONE;
    for name in ["", "{x}", "a\nb", "a b", "a:b", &"x".repeat(65), &"x".repeat(10_240)] {
        assert!(matches!(prices.cache_price(name, one, Duration::from_secs(1)).await, Err(Error::Invalid { .. })));
        assert!(matches!(prices.get_cached_price(name).await, Err(Error::Invalid { .. })), "{name:?}");
    }
    for value in [Decimal::ZERO, -one] {
        assert!(prices.cache_price(SOL, value, Duration::from_secs(1)).await.is_err());
        let error = prices.write(&[update("GOOD", "1", 1), PriceUpdate { value, ..update(SOL, "1", 1) }]).await;
        assert!(matches!(error, Err(Error::Invalid { .. })), "{error:?}");
    }
    for slot in [0, SLOT_MAX + 1, u64::MAX] {
        assert!(prices.write(&[update(SOL, "1", slot)]).await.is_err());
    }
    for ttl in [Duration::ZERO, Duration::from_secs(61)] {
        assert!(prices.cache_price(SOL, one, ttl).await.is_err());
    }
    assert_eq!(ask.keys::<_, Vec<String>>("*").await.unwrap(), Vec::<String>::new());
    assert!(prices.latest(&token("GOOD")).is_none());
    assert_eq!(prices.write(&[update(SOL, "79228162514264337593543950335", SLOT_MAX)]).await.unwrap().written, 1);
    assert_eq!(prices.read(&token(SOL)).await.unwrap().unwrap().value, Decimal::MAX);
}

#[tokio::test]
async fn a_prefix_and_a_venue_keep_prices_apart() {
    let server = TestRedis::prices();
    let mut config = server.config();
    let plain = Prices::connect(&config).await.unwrap();
    config.prices.key_prefix = "test-1:".into();
    let prefixed = Prices::connect(&config).await.unwrap();
    let orca = Label::new("venue", "orca").unwrap();
    plain.write(&[update(SOL, "1", 9)]).await.unwrap();
    prefixed.write(&[update(SOL, "2", 5), PriceUpdate { venue: Some(orca), ..update(SOL, "3", 4) }]).await.unwrap();
    assert_eq!(plain.get_cached_price(SOL).await.unwrap(), Some(Decimal::from(1)));
    assert_eq!(prefixed.get_cached_price(SOL).await.unwrap(), Some(Decimal::from(2)));
    assert_eq!(prefixed.read_at(&token(SOL), orca).await.unwrap().unwrap().slot, Some(4));
    assert_eq!(prefixed.latest_at(&token(SOL), orca).unwrap().value, Decimal::from(3));
    assert!(plain.read_at(&token(SOL), orca).await.unwrap().is_none());
    let mut keys: Vec<String> = server.ask().await.keys("test-1:*").await.unwrap();
    keys.sort();
    assert_eq!(keys[1], format!("test-1:guard:{{test-1:price:{SOL}}}"), "{keys:?}");
    config.prices.key_prefix = "{bad}".into();
    assert!(matches!(Prices::connect(&config).await, Err(Error::Invalid { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_follows_other_processes_and_heals_a_gap() {
    let server = TestRedis::prices();
    let config = with_ttl(server.config(), 60_000);
    let writer = Prices::connect(&config).await.unwrap();
    let reader = Prices::connect(&config).await.unwrap();
    reader.follow().await.unwrap();
    let slot_in_memory = || reader.latest(&token(SOL)).and_then(|price| price.slot);
    assert_eq!(slot_in_memory(), None);
    writer.write(&[update(SOL, "1.5", 100), update("OTHER", "2", 7)]).await.unwrap();
    eventually("the price is in the other's memory", async || slot_in_memory() == Some(100)).await;
    let price = reader.latest(&token(SOL)).unwrap();
    assert_eq!((price.value.to_string().as_str(), price.source.unwrap().as_str()), ("1.5", "jupiter"));
    assert!(price.age.unwrap() < Duration::from_secs(5));

    // While the server is away, memory answers, with an age that grows; the writer's own memory has its news.
    server.kill();
    assert!(matches!(reader.read(&token(SOL)).await, Err(Error::Unreachable { .. })));
    assert!(reader.latest(&token(SOL)).unwrap().age.unwrap() >= price.age.unwrap());
    assert!(writer.write(&[update(SOL, "1.6", 101)]).await.is_err());
    assert_eq!(writer.latest(&token(SOL)).unwrap().slot, Some(101));

    server.restart();
    eventually("the writer is back", async || writer.write(&[update(SOL, "1.7", 102)]).await.is_ok()).await;
    eventually("the reader is back too", async || slot_in_memory() == Some(102)).await;

    // A gap that nothing but reading again can heal: written in the moment the feed breaks, and never published.
    let (price_key, guard_key) = (format!("price:{SOL}"), format!("guard:{{price:{SOL}}}"));
    let mut ask = server.ask().await;
    let now_ms = tripod::Timestamp::now().as_millis();
    ::redis::pipe()
        .cmd("CLIENT")
        .arg(&["KILL", "TYPE", "pubsub"])
        .ignore()
        .cmd("PSETEX")
        .arg(price_key)
        .arg(60_000)
        .arg("1.8")
        .ignore()
        .cmd("PSETEX")
        .arg(guard_key)
        .arg(60_000)
        .arg(format!("1.8 103 {now_ms} somebody"))
        .ignore()
        .exec_async(&mut ask)
        .await
        .unwrap();
    eventually("the reader has the price of the gap", async || slot_in_memory() == Some(103)).await;
    assert_eq!(reader.latest(&token("OTHER")).unwrap().slot, Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_costs_a_write_its_deadline() {
    let server = TestRedis::prices();
    let prices = Prices::connect(&server.config()).await.unwrap();
    server.freeze();
    let start = Instant::now();
    let error = prices.write(&[update(SOL, "1", 1)]).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert!(start.elapsed() < 2 * DEADLINE, "{:?}", start.elapsed());
    assert_eq!(prices.latest(&token(SOL)).unwrap().slot, Some(1));
    server.thaw();
    eventually("writes go on", async || prices.write(&[update(SOL, "2", 2)]).await.is_ok()).await;
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_gets_them_again() {
    let server = TestRedis::prices();
    let prices = Prices::connect(&server.config()).await.unwrap();
    prices.write(&[update(SOL, "1", 1)]).await.unwrap();
    let mut ask = server.ask().await;
    ::redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut ask).await.unwrap();
    let many: Vec<PriceUpdate> = (0..250).map(|n| update(&format!("T{n}"), "1", 2)).collect();
    assert_eq!(prices.write(&many).await.unwrap().written, 250);
    let keys: Vec<String> = ask.keys("price:T*").await.unwrap();
    assert_eq!(keys.len(), 250);
}
