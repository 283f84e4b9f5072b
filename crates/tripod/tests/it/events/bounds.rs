//! What is bounded, what is counted when a bound is reached, and what is put back after a server has lost it.

use std::collections::HashSet;
use std::time::Duration;

use ::redis::AsyncCommands;
use tripod::Error;
use tripod::events::{Draft, Events, QueueOptions, WhenFull};

use super::{capped, drafts, drain, fill, group, options};
use crate::redis_link::{PATIENCE, TestRedis, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_asleep_while_100_000_pass_is_told_exactly_what_it_missed() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 10_000)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    publisher.publish_many(&drafts(0..500)).await.unwrap();
    let mut reader = events.consumer("fills", "ledger", options()).await.unwrap();
    let mut second = events.consumer("fills", "ledger", options()).await.unwrap();
    let held = reader.next().await.unwrap();
    assert_eq!(held.len(), 100, "given out, and not acknowledged");
    // 500 + 99,500: the stream holds the last 10,000, the group has been given 100.
    for start in (500..100_000).step_by(500) {
        publisher.publish_many(&drafts(start..start + 500)).await.unwrap();
    }
    let mut ask = server.ask().await;
    assert_eq!(ask.xlen::<_, u64>("events:fills").await.unwrap(), 10_000);
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.pending), (10_000, 100));
    assert_eq!((info.trimmed_unread, info.trimmed_pending), (Some(89_900), 100), "apart, and exact");

    // One of the two is told, once.
    let mut numbers = drain(&mut reader).await;
    numbers.extend(drain(&mut second).await);
    numbers.sort_unstable();
    assert_eq!(numbers, (90_000..100_000).collect::<Vec<_>>());
    eventually("the pending list is collected", async || {
        drain(&mut second).await;
        reader.counts().trimmed_pending + second.counts().trimmed_pending == 100
    })
    .await;
    let told = reader.counts().trimmed_unread + second.counts().trimmed_unread;
    assert_eq!(told, 89_900);
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread, info.trimmed_pending), (0, 0, Some(89_900), 100));

    // Again, a little: what was told is not told again.
    publisher.publish_many(&drafts(0..10_050)).await.unwrap();
    drain(&mut second).await;
    assert_eq!(second.counts().trimmed_unread + reader.counts().trimmed_unread, 89_900 + 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_acknowledges_nothing_does_not_make_the_server_grow() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 500)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let mut greedy = events.consumer("fills", "ledger", options()).await.unwrap();
    for start in (0..20_000).step_by(100) {
        publisher.publish_many(&drafts(start..start + 100)).await.unwrap();
        greedy.next().await.unwrap();
    }
    let mut collector = events.consumer("fills", "ledger", options()).await.unwrap();
    eventually("what was trimmed has left the pending list", async || {
        drain(&mut collector).await;
        group(&events, "fills", "ledger").await.pending == 0
    })
    .await;
    let info = group(&events, "fills", "ledger").await;
    let handled = collector.counts().acknowledged;
    assert_eq!(info.trimmed_unread, Some(0));
    assert_eq!(info.trimmed_pending + handled, 20_000, "each is either handled or counted as trimmed");
    let mut ask = server.ask().await;
    let memory: String = ::redis::cmd("INFO").arg("memory").query_async(&mut ask).await.unwrap();
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).unwrap();
    assert!(used.trim().parse::<u64>().unwrap() < 2 << 20, "{used} bytes are held for 500 events");
}

/// As after a power failure: the end of the append-only file was not on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_torn_append_only_file_lost_is_put_back_under_its_key() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 10_000)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let keyed = |n: u64| Draft::new("fill", &fill(n)).unwrap().with_key(&format!("k{n}")).unwrap();
    let mut before = publisher.publish_many(&drafts(0..50)).await.unwrap();
    for n in 50..100 {
        before.push(publisher.publish_draft(&keyed(n)).await.unwrap());
    }
    server.kill();
    let dir = server.data_path().join("appendonlydir");
    let file =
        std::fs::read_dir(&dir).unwrap().flatten().find(|file| file.path().to_string_lossy().ends_with(".incr.aof"));
    let file = std::fs::File::options().write(true).open(file.unwrap().path()).unwrap();
    let whole = file.metadata().unwrap().len();
    // In the middle of an event, about twenty before the end.
    file.set_len(whole - 20 * 400 - 7).unwrap();
    server.restart();
    assert!(server.log().contains("aof-load-truncated"), "the server says what it did:\n{}", server.log());

    eventually("what is missing is published again", async || {
        events.kept().republished > 0 && events.kept().checks > 0
    })
    .await;
    let kept = events.kept();
    assert!(kept.missing >= 10 && kept.missing == kept.republished, "{kept:?}");
    let mut ask = server.ask().await;
    let all: Vec<(String, std::collections::HashMap<String, String>)> =
        ::redis::cmd("XRANGE").arg("events:fills").arg("-").arg("+").query_async(&mut ask).await.unwrap();
    let numbers: Vec<u64> =
        all.iter().map(|(_, fields)| serde_json::from_str::<super::Fill>(&fields["payload"]).unwrap().number).collect();
    assert_eq!(numbers.len(), 100, "each is there once");
    assert_eq!(numbers.iter().copied().collect::<HashSet<_>>(), (0..100).collect());
    // Those that came again name the id that they had.
    let again: Vec<&String> = all.iter().filter_map(|(_, fields)| fields.get("first")).collect();
    assert_eq!(u64::try_from(again.len()).unwrap(), kept.missing);
    assert!(again.iter().all(|first| before.iter().any(|id| id.to_string() == **first)));
    // A retry of the caller's own is still the same event.
    publisher.publish_draft(&keyed(99)).await.unwrap();
    assert_eq!(ask.xlen::<_, u64>("events:fills").await.unwrap(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_holds_what_it_may_while_the_server_is_away_and_sends_it_in_order() {
    let server = TestRedis::events();
    let events = Events::connect(&server.config()).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let limits = |when_full| QueueOptions { events_max: 100, when_full, ..QueueOptions::default() };
    let drops = publisher.queued(limits(WhenFull::DropOldest)).unwrap();
    let refuses = events.publisher("other").unwrap().queued(limits(WhenFull::Refuse)).unwrap();
    assert!(publisher.queued(QueueOptions { events_max: 0, ..QueueOptions::default() }).is_err());
    for draft in drafts(0..10) {
        drops.push(draft).unwrap();
    }
    drops.flush(PATIENCE).await.unwrap();
    server.kill();
    eventually("the link knows it", async || events.link().ping().await.is_err()).await;
    let error = publisher.publish("fill", &fill(0)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "without a queue it is an error at once: {error:?}");
    for draft in drafts(10..260) {
        drops.push(draft).unwrap();
    }
    let refused =
        drafts(0..130).into_iter().filter(|draft| matches!(refuses.push(draft.clone()), Err(Error::Busy { .. })));
    assert_eq!(refused.count(), 30);
    let counts = drops.counts();
    assert_eq!((counts.pushed, counts.published, counts.dropped, counts.waiting), (260, 10, 150, 100));
    assert_eq!(refuses.counts().refused, 30);
    assert!(matches!(drops.flush(Duration::from_millis(20)).await, Err(Error::Deadline { .. })));

    server.restart();
    drops.flush(PATIENCE).await.unwrap();
    refuses.flush(PATIENCE).await.unwrap();
    let mut consumer = events.consumer("fills", "ledger", options()).await.unwrap();
    let numbers = drain(&mut consumer).await;
    // Those on the way when the room ran out stayed; in order in any case.
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers.len(), 110, "each of what was not dropped, once");
    assert_eq!(numbers.last(), Some(&259));
    let mut consumer = events.consumer("other", "ledger", options()).await.unwrap();
    assert_eq!(drain(&mut consumer).await, (0..100).collect::<Vec<_>>());
}
