//! Events in a real Redis: the cap, groups, dead consumers, streams and groups that vanish.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use ::redis::AsyncCommands;
use serde::{Deserialize, Serialize};
use tripod::events::{Consumer, ConsumerOptions, Draft, Event, EventId, Events, GroupInfo, Start};
use tripod::{Config, Error};

use crate::redis_link::{TestRedis, eventually};

mod bounds;
mod dead;
mod failover;
mod follow;
mod killed;
mod restart;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Fill {
    number: u64,
    text: String,
}

fn fill(number: u64) -> Fill {
    Fill { number, text: "x".repeat(100) }
}

fn drafts(numbers: std::ops::Range<u64>) -> Vec<Draft> {
    numbers.map(|n| Draft::new("fill", &fill(n)).unwrap()).collect()
}

fn number(event: &Event) -> u64 {
    event.decode::<Fill>().unwrap().number
}

fn capped(mut config: Config, cap: u64) -> Config {
    config.events.cap = cap;
    config.events.claim_after_ms = 200;
    config
}

fn options() -> ConsumerOptions {
    ConsumerOptions { block: Duration::from_millis(50), ..ConsumerOptions::default() }
}

async fn group(events: &Events, topic: &str, name: &str) -> GroupInfo {
    let info = events.info(topic).await.unwrap().unwrap();
    info.groups.into_iter().find(|group| group.name == name).unwrap()
}

/// Reads and acknowledges until nothing is left.
async fn drain(consumer: &mut Consumer) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let batch = consumer.next().await.unwrap();
        if batch.is_empty() {
            return numbers;
        }
        numbers.extend(batch.iter().map(number));
        consumer.ack(&batch.iter().map(|event| event.id).collect::<Vec<_>>()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cap_holds_at_every_moment_while_25_000_are_published() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 10_000)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let publishing = {
        let publisher = publisher.clone();
        tokio::spawn(async move {
            for start in (0..25_000).step_by(1000) {
                publisher.publish_many(&drafts(start..start + 1000)).await.unwrap();
            }
        })
    };
    let mut ask = server.ask().await;
    let mut longest = 0_u64;
    while !publishing.is_finished() {
        let length: u64 = ask.xlen("events:fills").await.unwrap();
        assert!(length <= 10_000, "{length}");
        longest = longest.max(length);
    }
    publishing.await.unwrap();
    assert_eq!(longest, 10_000, "the length was not looked at while the stream was full");
    let all: Vec<(String, HashMap<String, String>)> =
        ::redis::cmd("XRANGE").arg("events:fills").arg("-").arg("+").query_async(&mut ask).await.unwrap();
    assert_eq!(all.len(), 10_000);
    for (index, (_, fields)) in all.iter().enumerate() {
        let stored: Fill = serde_json::from_str(&fields["payload"]).unwrap();
        assert_eq!(stored, fill(15_000 + u64::try_from(index).unwrap()));
        assert_eq!((fields["type"].as_str(), fields.len()), ("fill", 3));
        assert!(fields["time"].parse::<i64>().is_ok());
    }
}

#[tokio::test]
async fn a_publish_gives_the_id_it_has_in_the_stream_and_a_key_makes_it_one_event() {
    let server = TestRedis::events();
    let events = Events::connect(&server.config()).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let first = publisher.publish("fill", &fill(1)).await.unwrap();
    let second = publisher.publish("fill", &fill(2)).await.unwrap();
    assert!(second > first);

    let keyed = |n: u64| Draft::new("fill", &fill(n)).unwrap().with_key(&"5".repeat(88)).unwrap();
    let third = publisher.publish_draft(&keyed(3)).await.unwrap();
    assert_eq!(publisher.publish_draft(&keyed(3)).await.unwrap(), third);
    let mut many = drafts(4..6);
    many.push(keyed(3));
    many.push(Draft::new("fill", &fill(6)).unwrap().with_key("another").unwrap());
    // The server forgets its scripts; a pipeline brings its own.
    let mut ask = server.ask().await;
    ::redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut ask).await.unwrap();
    let ids = publisher.publish_many(&many).await.unwrap();
    assert_eq!(ids[2], third);
    assert_eq!(ids.len(), 4);

    let all: Vec<(String, HashMap<String, String>)> =
        ::redis::cmd("XRANGE").arg("events:fills").arg("-").arg("+").query_async(&mut ask).await.unwrap();
    let stored: Vec<EventId> = all.iter().map(|(id, _)| id.parse().unwrap()).collect();
    assert_eq!(stored, [first, second, third, ids[0], ids[1], ids[3]]);
    let life_ms: i64 = ask.pttl("once:{events:fills}:another").await.unwrap();
    assert!((500_000..=600_000).contains(&life_ms), "{life_ms}");

    let mut config = server.config();
    config.events.payload_bytes_max = 64;
    let narrow = Events::connect(&config).await.unwrap().publisher("fills").unwrap();
    let mut mixed = vec![Draft::new("fill", &1).unwrap()];
    mixed.extend(drafts(0..1));
    assert!(matches!(narrow.publish_many(&mixed).await, Err(Error::Invalid { .. })));
    assert_eq!(ask.xlen::<_, u64>("events:fills").await.unwrap(), 6, "a refused batch left something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_two_reads_everything_exactly_once() {
    const COUNT: u64 = 3000;
    let server = TestRedis::events();
    let events = Events::connect(&server.config()).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let seen: Mutex<HashMap<u64, u32>> = Mutex::default();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let work = async |mut consumer: Consumer| {
        let mut stopped = stopped.clone();
        let handler = |event: Event| {
            *seen.lock().unwrap().entry(number(&event)).or_default() += 1;
            std::future::ready(Ok::<_, Error>(()))
        };
        let until = async move {
            stopped.wait_for(|stop| *stop).await.unwrap();
        };
        consumer.run(handler, until).await.unwrap();
        let counts = consumer.counts();
        consumer.close().await.unwrap();
        counts
    };
    let one = events.consumer("fills", "ledger", options()).await.unwrap();
    let two = events.consumer("fills", "ledger", options()).await.unwrap();
    assert_ne!(one.name(), two.name());
    let publish = async {
        for start in (0..COUNT).step_by(100) {
            publisher.publish_many(&drafts(start..start + 100)).await.unwrap();
        }
        eventually("all are handled", async || seen.lock().unwrap().len() == usize::try_from(COUNT).unwrap()).await;
        stop.send(true).unwrap();
    };
    let (one, two, ()) = tokio::join!(work(one), work(two), publish);
    assert!(seen.lock().unwrap().iter().all(|(_, times)| *times == 1));
    assert_eq!(one.acknowledged + two.acknowledged, COUNT);

    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread, info.trimmed_pending), (0, 0, Some(0), 0));
    let mut ask = server.ask().await;
    let consumers: Vec<::redis::Value> =
        ::redis::cmd("XINFO").arg("CONSUMERS").arg("events:fills").arg("ledger").query_async(&mut ask).await.unwrap();
    assert!(consumers.is_empty(), "a closed consumer leaves its group");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_consumer_held_goes_to_a_live_one() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 10_000)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    publisher.publish_many(&drafts(0..250)).await.unwrap();
    let mut dead = events.consumer("fills", "ledger", options()).await.unwrap();
    let mut held = dead.next().await.unwrap();
    held.extend(dead.next().await.unwrap());
    assert_eq!(held.len(), 200);
    let done: Vec<EventId> = held.iter().take(30).map(|event| event.id).collect();
    dead.ack(&done).await.unwrap();
    drop(dead);

    let mut live = events.consumer("fills", "ledger", options()).await.unwrap();
    let mut numbers = Vec::new();
    eventually("everything that was not acknowledged arrives", async || {
        numbers.extend(drain(&mut live).await);
        numbers.len() >= 220
    })
    .await;
    numbers.sort_unstable();
    assert_eq!(numbers, (30..250).collect::<Vec<u64>>());
    assert_eq!(live.counts().claimed, 170);
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.pending), (0, 0));
    // The dead one's name goes too, once it has been silent ten times as long.
    let mut ask = server.ask().await;
    eventually("the dead consumer's name is removed", async || {
        assert!(drain(&mut live).await.is_empty());
        let consumers: Vec<::redis::Value> = ::redis::cmd("XINFO")
            .arg("CONSUMERS")
            .arg("events:fills")
            .arg("ledger")
            .query_async(&mut ask)
            .await
            .unwrap();
        consumers.len() == 1
    })
    .await;
}

#[tokio::test]
async fn an_event_whose_handler_fails_comes_again_and_the_others_do_not() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 10_000)).await.unwrap();
    events.publisher("fills").unwrap().publish_many(&drafts(0..10)).await.unwrap();
    let mut consumer = events.consumer("fills", "ledger", options()).await.unwrap();
    let calls: Mutex<Vec<(u64, bool)>> = Mutex::default();
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let handler = |event: Event| {
        let n = number(&event);
        calls.lock().unwrap().push((n, event.claimed));
        if event.claimed {
            stop.send(true).unwrap();
        }
        std::future::ready(if n == 4 && !event.claimed { Err("not now") } else { Ok(()) })
    };
    let until = async move {
        stopped.wait_for(|stop| *stop).await.unwrap();
    };
    consumer.run(handler, until).await.unwrap();
    let calls = calls.into_inner().unwrap();
    let expected: Vec<(u64, bool)> = (0..10).map(|n| (n, false)).chain([(4, true)]).collect();
    assert_eq!(calls, expected);
    assert_eq!((consumer.counts().failed, consumer.counts().acknowledged), (1, 10));
}

#[tokio::test]
async fn what_the_cap_took_is_counted_for_each_group() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 100)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    assert_eq!(events.info("fills").await.unwrap(), None);
    publisher.publish_many(&drafts(0..150)).await.unwrap();

    // Made when 50 were trimmed already: those are not its loss.
    let mut reader = events.consumer("fills", "reader", ConsumerOptions { batch: 30, ..options() }).await.unwrap();
    let mut newest =
        events.consumer("fills", "newest", ConsumerOptions { start: Start::Newest, ..options() }).await.unwrap();
    let info = group(&events, "fills", "reader").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread, info.trimmed_pending), (100, 0, Some(0), 0));

    // Reads 50..80, keeps them, acknowledges nothing; then 250 more come, and 80..300 is gone unread.
    let held = reader.next().await.unwrap();
    assert_eq!(held.iter().map(number).collect::<Vec<_>>(), (50..80).collect::<Vec<_>>());
    let info = group(&events, "fills", "reader").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread, info.trimmed_pending), (70, 30, Some(0), 0));
    publisher.publish_many(&drafts(150..400)).await.unwrap();
    let info = group(&events, "fills", "reader").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread, info.trimmed_pending), (100, 30, Some(220), 30));

    // An acknowledgement still counts: the consumer has handled the event. The other 20 nobody can be given again.
    reader.ack(&held.iter().take(10).map(|event| event.id).collect::<Vec<_>>()).await.unwrap();
    let mut numbers = Vec::new();
    eventually("the trimmed ones are collected", async || {
        numbers.extend(drain(&mut reader).await);
        reader.counts().trimmed_pending == 20
    })
    .await;
    assert_eq!(numbers, (300..400).collect::<Vec<_>>());
    let info = group(&events, "fills", "reader").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread, info.trimmed_pending), (0, 0, Some(220), 20));

    // The group that began with the newest has 250 behind it, of which it can read 100.
    let info = group(&events, "fills", "newest").await;
    assert_eq!((info.lag, info.trimmed_unread), (100, Some(150)));
    assert_eq!(drain(&mut newest).await, (300..400).collect::<Vec<_>>());
    let info = events.info("fills").await.unwrap().unwrap();
    assert_eq!((info.length, info.cap, info.groups.len()), (100, 100, 2));
    assert_eq!((info.groups[0].lag, info.groups[0].trimmed_unread), (0, Some(150)));
    let json = serde_json::to_value(&info).unwrap();
    let names: Vec<&str> = json["groups"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["lag", "name", "pending", "trimmed_pending", "trimmed_unread"]);
    assert_eq!(events.topics().await.unwrap(), ["fills"]);

    // Deleted by hand, it cannot be known any more, and is not guessed.
    publisher.publish_many(&drafts(400..402)).await.unwrap();
    let mut ask = server.ask().await;
    let all: Vec<(String, ::redis::Value)> =
        ::redis::cmd("XRANGE").arg("events:fills").arg("-").arg("+").query_async(&mut ask).await.unwrap();
    ask.xdel::<_, _, ()>("events:fills", &[&all[99].0]).await.unwrap();
    let info = group(&events, "fills", "reader").await;
    assert_eq!((info.lag, info.trimmed_unread), (1, None));
}

/// Breaks something under a running consumer and expects that what is published afterwards arrives.
async fn survives(what: &str, command: &[&str]) {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 10_000)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    publisher.publish_many(&drafts(0..5)).await.unwrap();
    let mut consumer = events.consumer("fills", "ledger", options()).await.unwrap();
    assert_eq!(drain(&mut consumer).await, [0, 1, 2, 3, 4]);

    let mut ask = server.ask().await;
    ::redis::cmd(command[0]).arg(&command[1..]).exec_async(&mut ask).await.unwrap();
    publisher.publish_many(&drafts(5..8)).await.unwrap();
    let mut numbers = Vec::new();
    eventually(what, async || {
        numbers.extend(drain(&mut consumer).await);
        numbers.len() >= 3
    })
    .await;
    assert_eq!(numbers, [5, 6, 7], "{what}");
    assert_eq!(consumer.counts().groups_made_again, 1, "{what}: made again more often than needed");
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread), (0, 0, Some(0)), "{what}");
}

#[tokio::test]
async fn a_deleted_stream_a_destroyed_group_and_a_flush_are_survived() {
    survives("after DEL", &["DEL", "events:fills"]).await;
    survives("after XGROUP DESTROY", &["XGROUP", "DESTROY", "events:fills", "ledger"]).await;
    survives("after FLUSHALL", &["FLUSHALL"]).await;
}

#[tokio::test]
async fn a_group_made_again_begins_before_what_was_not_acknowledged() {
    let server = TestRedis::events();
    let events = Events::connect(&server.config()).await.unwrap();
    events.publisher("fills").unwrap().publish_many(&drafts(0..10)).await.unwrap();
    let mut consumer = events.consumer("fills", "ledger", options()).await.unwrap();
    let held = consumer.next().await.unwrap();
    // 0..4 and 7 are done; 4, 5, 6, 8, 9 are not.
    let done: Vec<EventId> =
        held.iter().filter(|event| matches!(number(event), 0..4 | 7)).map(|event| event.id).collect();
    consumer.ack(&done).await.unwrap();
    let mut ask = server.ask().await;
    ::redis::cmd("XGROUP").arg(&["DESTROY", "events:fills", "ledger"]).exec_async(&mut ask).await.unwrap();
    let mut numbers = Vec::new();
    eventually("what was not acknowledged comes again", async || {
        numbers.extend(drain(&mut consumer).await);
        !numbers.is_empty()
    })
    .await;
    assert_eq!(numbers, (4..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_outlives_a_killed_server_and_a_dropped_call() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 10_000)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let mut consumer = events.consumer("fills", "ledger", options()).await.unwrap();
    // A call dropped while the server holds it back: its answer must not be taken for the next call's.
    for _ in 0..5 {
        let dropped = tokio::time::timeout(Duration::from_millis(10), consumer.next()).await;
        assert!(dropped.is_err(), "nothing was published yet");
    }
    publisher.publish_many(&drafts(0..20)).await.unwrap();
    let mut numbers = Vec::new();
    eventually("everything arrives", async || {
        numbers.extend(drain(&mut consumer).await);
        numbers.len() >= 20
    })
    .await;
    server.kill();
    let error = consumer.next().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    server.restart();
    eventually("the publisher is back", async || publisher.publish_many(&drafts(20..30)).await.is_ok()).await;
    eventually("the consumer is back", async || {
        while let Ok(batch) = consumer.next().await {
            if batch.is_empty() {
                break;
            }
            numbers.extend(batch.iter().map(number));
            consumer.ack(&batch.iter().map(|event| event.id).collect::<Vec<_>>()).await.unwrap();
        }
        numbers.len() >= 30
    })
    .await;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_without_memory_says_so_and_a_pipeline_too() {
    let server = TestRedis::events();
    let events = Events::connect(&server.config()).await.unwrap();
    let mut ask = server.ask().await;
    ::redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).exec_async(&mut ask).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    for error in [
        publisher.publish("fill", &fill(1)).await.unwrap_err(),
        publisher.publish_many(&drafts(0..3)).await.unwrap_err(),
        publisher.publish_draft(&Draft::new("fill", &1).unwrap().with_key("k").unwrap()).await.unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Refused { code: Some(code), .. } if code == "OOM"), "{error:?}");
        assert!(error.to_string().contains("maxmemory"), "{error}");
    }
    assert!(events.link().is_connected(), "a refusal is no reason to reconnect");
}
