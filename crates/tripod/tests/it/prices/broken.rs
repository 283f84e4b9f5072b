//! Prices while something is wrong: clocks, memory, a server that forgets or hangs.

use std::time::{Duration, Instant};

use ::redis::AsyncCommands;
use tripod::Error;
use tripod::prices::{Freshness, PriceUpdate, Prices};

use super::{SOL, token, update, with_ttl};
use crate::redis_link::{DEADLINE, TestRedis, eventually};

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn the_time_in_a_guard_is_the_servers_and_a_wrong_one_is_no_proof_of_freshness() {
    let server = TestRedis::prices();
    let mut ask = server.ask().await;
    let prices = Prices::connect(&server.config()).await.unwrap();
    let server_ms = async |ask: &mut ::redis::aio::MultiplexedConnection| {
        let (seconds, micros): (i64, i64) = ::redis::cmd("TIME").query_async(ask).await.unwrap();
        seconds * 1000 + micros / 1000
    };
    let before = server_ms(&mut ask).await;
    prices.write(&[update(SOL, "1.5", 7)]).await.unwrap();
    let after = server_ms(&mut ask).await;
    let guard: String = ask.get(format!("guard:{{price:{SOL}}}")).await.unwrap();
    let stamp: i64 = guard.split(' ').nth(2).unwrap().parse().unwrap();
    assert!((before..=after).contains(&stamp), "{before} {stamp} {after}");

    // A stamp that is an hour off: somebody else wrote it, or the server's clock was set.
    let stale = |age| Freshness::Stale { age };
    for (off_ms, known) in [(-HOUR_MS, true), (HOUR_MS, false)] {
        let guard = format!("1.5 8 {} x", after + off_ms);
        ask.pset_ex::<_, _, ()>(format!("price:{SOL}"), "1.5", 60_000).await.unwrap();
        ask.pset_ex::<_, _, ()>(format!("guard:{{price:{SOL}}}"), guard, 60_000).await.unwrap();
        let price = prices.read(&token(SOL)).await.unwrap().unwrap();
        assert_eq!((price.value.to_string().as_str(), price.slot), ("1.5", Some(8)));
        assert_eq!(price.age.is_some(), known, "{price:?}");
        assert!(price.age.is_none_or(|age| age >= Duration::from_secs(3590)), "{price:?}");
        assert_eq!(price.freshness(Duration::from_secs(60)), stale(price.age));
    }
}

/// As they are after the server's clock went back (stamps of the future, keys that live on) or forward (the feed's stamps
/// are of the future until the clocks were compared again).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_gives_no_price_that_it_cannot_date_and_none_past_its_life_when_the_servers_clock_was_set() {
    let server = TestRedis::prices();
    let mut ask = server.ask().await;
    let config = with_ttl(server.config(), 1000);
    let (writer, reader) = (Prices::connect(&config).await.unwrap(), Prices::connect(&config).await.unwrap());
    reader.follow().await.unwrap();
    let in_memory = |name: &str| reader.latest(&token(name)).is_some();
    let tomorrow_ms = tripod::Timestamp::now().as_millis() + HOUR_MS;

    // On the feed. Whoever is behind it in the feed is the proof that it was read.
    ask.publish::<_, _, ()>("prices", format!("60000 {tomorrow_ms}\nprice:FED 1 7 x")).await.unwrap();
    writer.write(&[update("BEHIND", "1", 1)]).await.unwrap();
    eventually("the feed is past it", async || in_memory("BEHIND")).await;
    assert!(!in_memory("FED"), "{:?}", reader.latest(&token("FED")));

    // In Redis, read for the first time and after a gap.
    for name in ["FED", "READ"] {
        let (price, guard) = (format!("price:{name}"), format!("guard:{{price:{name}}}"));
        ask.pset_ex::<_, _, ()>(price, "1.5", 60_000).await.unwrap();
        ask.pset_ex::<_, _, ()>(guard, format!("1.5 8 {tomorrow_ms} x"), 60_000).await.unwrap();
    }
    let _watch = reader.watch(&[(token("READ"), None), (token("FED"), None)]).await.unwrap();
    assert!(!in_memory("READ") && !in_memory("FED"));

    // One whose life is over in memory and, the clock having gone back, not in Redis.
    writer.write(&[update(SOL, "2", 9)]).await.unwrap();
    ask.pexpire::<_, ()>(format!("price:{SOL}"), HOUR_MS).await.unwrap();
    eventually("it came", async || reader.stats().memory_tokens == 4).await;
    eventually("its life is over", async || !in_memory(SOL)).await;
    let reloads = reader.stats().feed_reloads;
    ::redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).exec_async(&mut ask).await.unwrap();
    eventually("all was read again", async || reader.stats().feed_reloads > reloads).await;
    assert!(ask.exists::<_, bool>(format!("price:{SOL}")).await.unwrap(), "it would show nothing");
    for name in [SOL, "READ", "FED"] {
        assert!(!in_memory(name), "{:?}", reader.latest(&token(name)));
    }
    writer.write(&[update(SOL, "3", 10)]).await.unwrap();
    eventually("the next one is there", async || in_memory(SOL)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_flush_the_next_write_heals_price_and_guard_and_memory_never_went_back() {
    let server = TestRedis::prices();
    let config = with_ttl(server.config(), 60_000);
    let (writer, reader) = (Prices::connect(&config).await.unwrap(), Prices::connect(&config).await.unwrap());
    reader.follow().await.unwrap();
    writer.write(&[update(SOL, "1.5", 100)]).await.unwrap();
    let in_memory = || reader.latest(&token(SOL)).unwrap().slot;
    eventually("the price is in memory", async || reader.latest(&token(SOL)).is_some()).await;
    let mut ask = server.ask().await;
    ::redis::cmd("FLUSHALL").exec_async(&mut ask).await.unwrap();
    assert!(reader.read(&token(SOL)).await.unwrap().is_none());
    assert_eq!(in_memory(), Some(100));
    // Redis has forgotten the guard and takes an older slot; memory has not, and does not.
    let other = Prices::connect(&config).await.unwrap();
    assert_eq!(other.write(&[update(SOL, "1.4", 99)]).await.unwrap().written, 1);
    assert_eq!(other.write(&[update("LATER", "1", 1)]).await.unwrap().written, 1);
    eventually("the feed is past it", async || reader.latest(&token("LATER")).is_some()).await;
    assert_eq!(in_memory(), Some(100));
    writer.write(&[update(SOL, "1.6", 101)]).await.unwrap();
    eventually("the next one is in memory", async || in_memory() == Some(101)).await;
    assert_eq!(reader.read(&token(SOL)).await.unwrap().unwrap().slot, Some(101));
    assert_eq!(other.write(&[update(SOL, "1.4", 100)]).await.unwrap().older, 1, "the guard is back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_servers_memory_limit_a_price_is_there_or_is_not_and_is_never_another() {
    let server = TestRedis::prices();
    let mut ask = server.ask().await;
    let prices = Prices::connect(&with_ttl(server.config(), 60_000)).await.unwrap();
    prices.write(&[update(SOL, "1", 1)]).await.unwrap();
    let used = async |ask: &mut ::redis::aio::MultiplexedConnection| {
        let info: String = ::redis::cmd("INFO").arg("memory").query_async(ask).await.unwrap();
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        used.trim().parse::<u64>().unwrap()
    };
    // Room for a part of what comes.
    let limit = used(&mut ask).await + 1_000_000;
    ::redis::cmd("CONFIG").arg(&["SET", "maxmemory", &limit.to_string()]).exec_async(&mut ask).await.unwrap();
    let name = |n: u64| format!("TOKEN-WITH-A-NAME-AS-LONG-AS-A-MINTS-IS-{n:06}");
    for start in (0..6_000_u64).step_by(500) {
        let part: Vec<PriceUpdate> =
            (start..start + 500).map(|n| update(&name(n), &(n + 1).to_string(), n + 1)).collect();
        assert_eq!(prices.write(&part).await.unwrap().written, 500, "a write is taken at the limit, too");
    }
    let tokens: Vec<_> = (0..6_000).map(|n| token(&name(n))).collect();
    let mut there = 0;
    for (n, price) in (1_u64..).zip(prices.read_many(&tokens).await.unwrap()) {
        let Some(price) = price.unwrap() else { continue };
        there += 1;
        assert_eq!(price.value, n.into());
        assert!(price.slot.is_none_or(|slot| slot == n), "{price:?}");
    }
    assert!((1..6_000).contains(&there), "{there} of 6,000 are there: nothing was evicted");
    let info: String = ::redis::cmd("INFO").arg("stats").query_async(&mut ask).await.unwrap();
    let evicted = info.lines().find_map(|line| line.strip_prefix("evicted_keys:")).unwrap();
    assert!(evicted.trim().parse::<u64>().unwrap() > 0, "`status` and metrics show this count");

    // Where nothing can be evicted a write says what to do, and memory goes on.
    ::redis::cmd("FLUSHALL").exec_async(&mut ask).await.unwrap();
    ::redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).exec_async(&mut ask).await.unwrap();
    let error = prices.write(&[update(SOL, "2", 2)]).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { what, .. } if what.contains("maxmemory")), "{error:?}");
    assert_eq!(prices.latest(&token(SOL)).unwrap().slot, Some(2));
    assert_eq!(prices.stats().failed_calls, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_hangs_memory_answers_with_a_growing_age_until_the_life_is_over() {
    let server = TestRedis::prices();
    let config = with_ttl(server.config(), 3 * u64::try_from(DEADLINE.as_millis()).unwrap());
    let prices = Prices::connect(&config).await.unwrap();
    prices.follow().await.unwrap();
    prices.write(&[update(SOL, "1", 1)]).await.unwrap();
    let first = prices.latest(&token(SOL)).unwrap().age.unwrap();
    server.freeze();
    let began = Instant::now();
    let error = prices.read(&token(SOL)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. } | Error::Unreachable { .. }), "{error:?}");
    assert!(began.elapsed() < 2 * DEADLINE, "{:?}", began.elapsed());
    if let Some(price) = prices.latest(&token(SOL)) {
        assert!(price.age.unwrap() > first, "{price:?}");
        assert!(matches!(price.freshness(Duration::from_millis(1)), Freshness::Stale { age: Some(_) }));
    }
    eventually("the price is over, here too", async || prices.latest(&token(SOL)).is_none()).await;
    server.thaw();
    eventually("writes go on", async || prices.write(&[update(SOL, "2", 2)]).await.is_ok()).await;
    assert_eq!(prices.latest(&token(SOL)).unwrap().slot, Some(2));
}

#[tokio::test]
async fn the_same_price_twice_in_one_call_is_two_writes_in_their_order() {
    let server = TestRedis::prices();
    let prices = Prices::connect(&server.config()).await.unwrap();
    let many =
        [update(SOL, "5", 5), update("A", "1", 1), update(SOL, "6", 6), update(SOL, "4", 4), update("A", "2", 1)];
    let report = prices.write(&many).await.unwrap();
    assert_eq!((report.written, report.older), (4, 1));
    let mut ask = server.ask().await;
    let values: Vec<String> = ask.mget(&[format!("price:{SOL}"), "price:A".to_owned()]).await.unwrap();
    assert_eq!(values, ["6", "2"]);
}
