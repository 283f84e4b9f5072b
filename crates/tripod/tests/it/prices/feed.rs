//! Memory and its watchers: other processes' prices, changes, gaps.

use std::time::Duration;

use ::redis::AsyncCommands;
use tokio::time::timeout;
use tripod::prices::{PriceUpdate, PriceWatch, Prices};
use tripod::redis::Label;
use tripod::{Decimal, Error};

use super::{SOL, token, update, with_ttl};
use crate::redis_link::{PATIENCE, TestRedis, eventually};

/// Token and slot of the next change.
async fn next(watch: &mut PriceWatch) -> (String, Option<u64>) {
    let change = timeout(PATIENCE, watch.next()).await.expect("no change came");
    (change.token.to_string(), change.price.slot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_gets_what_is_there_and_then_the_newest_of_each_change() {
    let server = TestRedis::prices();
    let config = with_ttl(server.config(), 60_000);
    let (writer, reader) = (Prices::connect(&config).await.unwrap(), Prices::connect(&config).await.unwrap());
    let orca = Label::new("venue", "orca").unwrap();
    let at_orca = |value: &str, slot| PriceUpdate { venue: Some(orca), ..update(SOL, value, slot) };
    writer.write(&[update(SOL, "1", 10), update("OTHER", "5", 1), at_orca("2", 3)]).await.unwrap();

    let mut watch = reader.watch(&[(token(SOL), None), (token(SOL), Some(orca)), (token("NONE"), None)]).await.unwrap();
    assert_eq!(next(&mut watch).await, (SOL.to_owned(), Some(10)), "what was written before");
    let change = timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!((change.venue, change.price.value), (Some(orca), Decimal::from(2)));
    assert!(change.price.age.is_some());
    assert_eq!((watch.waiting(), watch.skipped()), (0, 0));

    // A hundred changes that nobody takes are one, and it is the newest. Others' tokens do not count.
    for slot in 11..=110 {
        writer.write(&[update(SOL, &slot.to_string(), slot), update("OTHER", "6", slot)]).await.unwrap();
    }
    eventually("the last one is in memory", async || reader.latest(&token(SOL)).unwrap().slot == Some(110)).await;
    assert_eq!((watch.waiting(), watch.skipped()), (1, 99));
    assert_eq!(next(&mut watch).await, (SOL.to_owned(), Some(110)));
    // The same price of the same slot again is no change.
    writer.write(&[update(SOL, "110", 110)]).await.unwrap();
    writer.write(&[update("NONE", "9", 1)]).await.unwrap();
    assert_eq!(next(&mut watch).await, ("NONE".to_owned(), Some(1)));

    assert!(matches!(reader.watch(&[]).await, Err(Error::Invalid { .. })));
    let stats = reader.stats();
    assert_eq!((stats.memory_tokens, stats.following, stats.feed_unreadable), (4, true, 0), "{stats:?}");
    assert!(stats.feed_batches >= 100 && stats.feed_prices >= 200, "{stats:?}");
    assert_eq!((writer.stats().written, writer.stats().older), (205, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_of_everything_keeps_no_more_than_it_was_given() {
    let server = TestRedis::prices();
    let config = with_ttl(server.config(), 60_000);
    let (writer, reader) = (Prices::connect(&config).await.unwrap(), Prices::connect(&config).await.unwrap());
    let mut watch = reader.watch_all(10).await.unwrap();
    let many: Vec<PriceUpdate> = (0..250).map(|n| update(&format!("T{n}"), "1", 2)).collect();
    writer.write(&many).await.unwrap();
    // Its batches go out together, so any may come last; within one the order is that of the call.
    eventually("the watcher was told of all", async || watch.skipped() >= 240).await;
    assert_eq!((watch.waiting(), watch.skipped()), (10, 240));
    let mut told = Vec::new();
    for _ in 0..10 {
        let (name, slot) = next(&mut watch).await;
        assert_eq!(slot, Some(2));
        told.push(name[1..].parse::<u32>().unwrap());
    }
    assert!(told.windows(2).all(|two| two[1] == two[0] + 1), "{told:?} are not the last of a batch");
    assert!((0..250).all(|n| reader.latest(&token(&format!("T{n}"))).is_some()));
    drop(watch);
    writer.write(&[update("T1", "2", 3)]).await.unwrap();
    eventually("memory goes on without a watcher", async || reader.latest(&token("T1")).unwrap().slot == Some(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_told_what_changed_in_a_gap_also_of_a_token_that_memory_did_not_know() {
    let server = TestRedis::prices();
    let config = with_ttl(server.config(), 60_000);
    let reader = Prices::connect(&config).await.unwrap();
    let mut watch = reader.watch(&[(token(SOL), None), (token("NEW"), None)]).await.unwrap();
    let mut ask = server.ask().await;
    let now_ms = tripod::Timestamp::now().as_millis();
    // Written in the moment the feed breaks, and never published.
    let mut gap = ::redis::pipe();
    gap.cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).ignore();
    for (name, slot) in [(SOL, 7), ("NEW", 8)] {
        gap.cmd("PSETEX").arg(format!("price:{name}")).arg(60_000).arg("1.8").ignore();
        gap.cmd("PSETEX")
            .arg(format!("guard:{{price:{name}}}"))
            .arg(60_000)
            .arg(format!("1.8 {slot} {now_ms} x"))
            .ignore();
    }
    gap.exec_async(&mut ask).await.unwrap();
    let mut told = [next(&mut watch).await, next(&mut watch).await];
    told.sort();
    assert_eq!(told, [("NEW".to_owned(), Some(8)), (SOL.to_owned(), Some(7))]);
    eventually("the reading is counted", async || reader.stats().feed_reloads == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_publish_on_the_channel_is_counted_and_harms_nothing() {
    let server = TestRedis::prices();
    let config = with_ttl(server.config(), 60_000);
    let (writer, reader) = (Prices::connect(&config).await.unwrap(), Prices::connect(&config).await.unwrap());
    reader.follow().await.unwrap();
    let mut ask = server.ask().await;
    let large = "x".repeat(1 << 20);
    for garbage in ["", "hello", "2000", "-1 5\nprice:A 1 1 x", "2000 99999999999999999999\n", "\u{202e} 1\n", &large] {
        ask.publish::<_, _, ()>("prices", garbage).await.unwrap();
    }
    ask.publish::<_, _, ()>("prices", b"\xff\xfe".as_slice()).await.unwrap();
    // Lines that make no sense, beside one that does; its life is longer than any price's may be.
    let now_ms = tripod::Timestamp::now().as_millis();
    let mixed =
        format!("999999999 {now_ms}\nprice:A 0 1 x\nprice:B -1 1 x\nprice:{{C}} 1 1 x\nprice:D 1 -1 x\nprice:E 1 1 x");
    ask.publish::<_, _, ()>("prices", mixed).await.unwrap();
    writer.write(&[update(SOL, "1.5", 100)]).await.unwrap();
    eventually("the price is there", async || reader.latest(&token(SOL)).is_some()).await;
    assert_eq!((reader.stats().feed_unreadable, reader.stats().memory_tokens), (8, 2));
    assert!(reader.latest(&token("E")).unwrap().age.unwrap() < Duration::from_secs(60));
}
