//! Where a group stands after its server was restarted, and what is said of it where that is not known.

use std::collections::HashMap;

use tripod::events::{Draft, EventId, Events};

use super::{capped, drafts, drain, fill, group, options};
use crate::redis_link::{TestRedis, eventually};

/// A group's own words: its last id, its read counter, what is pending.
async fn position(server: &TestRedis, topic: &str, name: &str) -> (String, Option<u64>, u64) {
    let mut ask = server.ask().await;
    let groups: Vec<HashMap<String, ::redis::Value>> =
        ::redis::cmd("XINFO").arg("GROUPS").arg(format!("events:{topic}")).query_async(&mut ask).await.unwrap();
    let text = |value: &::redis::Value| ::redis::from_redis_value_ref::<String>(value).unwrap();
    let group = groups.into_iter().find(|group| text(&group["name"]) == name).unwrap();
    let number = |field: &str| ::redis::from_redis_value_ref::<Option<u64>>(&group[field]).unwrap();
    (text(&group["last-delivered-id"]), number("entries-read"), number("pending").unwrap())
}

/// Publishes more than the cap while two consumers of a group read and acknowledge everything, and ends the server:
/// afterwards the group stands where it stood.
async fn keeps_its_place(in_order: bool) {
    const CAP: u64 = 1000;
    const COUNT: u64 = 3 * CAP + 7;
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), CAP)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let mut readers = [
        events.consumer("fills", "ledger", options()).await.unwrap(),
        events.consumer("fills", "ledger", options()).await.unwrap(),
    ];
    let mut read = 0;
    for start in (0..COUNT).step_by(100) {
        let end = COUNT.min(start + 100);
        let reading = async {
            // One of them is waiting when the events come, as a rule.
            for turn in 0.. {
                let reader = &mut readers[turn % 2];
                let ids: Vec<EventId> = reader.next().await.unwrap().iter().map(|event| event.id).collect();
                reader.ack(&ids).await.unwrap();
                read += u64::try_from(ids.len()).unwrap();
                if read >= end {
                    break;
                }
            }
        };
        let published = drafts(start..end);
        let (published, ()) = tokio::join!(publisher.publish_many(&published), reading);
        published.unwrap();
    }

    // One more by a key: a script adds it. It is given out and not acknowledged.
    let keyed = Draft::new("fill", &fill(COUNT)).unwrap().with_key("once").unwrap();
    let last = publisher.publish_draft(&keyed).await.unwrap();
    let held = readers[0].next().await.unwrap();
    assert_eq!(held.iter().map(|event| event.id).collect::<Vec<_>>(), [last]);

    let before = position(&server, "fills", "ledger").await;
    assert_eq!(before, (last.to_string(), Some(COUNT + 1), 1));
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread), (0, 1, Some(0)));
    if in_order {
        // The connection ends instead of an answer; `restart` waits until the process is gone.
        let _ = ::redis::cmd("SHUTDOWN").exec_async(&mut server.ask().await).await;
    } else {
        server.kill();
    }
    server.restart();
    assert_eq!(position(&server, "fills", "ledger").await, before);
    eventually("the link is back", async || events.link().ping().await.is_ok()).await;
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread), (0, 1, Some(0)));
    assert_eq!(publisher.publish_draft(&keyed).await.unwrap(), last, "the key was forgotten");

    // Nothing old comes but what was not acknowledged, and everything new.
    let mut later = events.consumer("fills", "ledger", options()).await.unwrap();
    let mut numbers = Vec::new();
    eventually("what was held is claimed", async || {
        numbers.extend(drain(&mut later).await);
        !numbers.is_empty()
    })
    .await;
    assert_eq!(numbers, [COUNT]);
    publisher.publish_many(&drafts(COUNT + 1..COUNT + 5)).await.unwrap();
    assert_eq!(drain(&mut later).await, (COUNT + 1..COUNT + 5).collect::<Vec<_>>());
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.pending, info.trimmed_unread), (0, 0, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_keeps_its_place_when_the_server_is_restarted_in_order() {
    keeps_its_place(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_keeps_its_place_when_the_server_is_killed() {
    keeps_its_place(false).await;
}

#[tokio::test]
async fn a_read_counter_that_was_lost_is_unknown_and_stays_so() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 100)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let mut consumer = events.consumer("fills", "ledger", options()).await.unwrap();
    publisher.publish_many(&drafts(0..50)).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 50);
    let ids = publisher.publish_many(&drafts(50..150)).await.unwrap();
    assert_eq!(group(&events, "fills", "ledger").await.trimmed_unread, Some(0));

    // As a restart leaves it that has replayed reads of other programs: a place, and no count.
    let mut ask = server.ask().await;
    let place = ids[9].to_string();
    let set = ["SETID", "events:fills", "ledger", place.as_str(), "ENTRIESREAD", "0"];
    ::redis::cmd("XGROUP").arg(&set).exec_async(&mut ask).await.unwrap();
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.trimmed_unread), (90, None));
    assert_eq!(drain(&mut consumer).await, (60..150).collect::<Vec<_>>());
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.trimmed_unread), (0, None), "counted on from nothing");
    publisher.publish_many(&drafts(150..155)).await.unwrap();
    assert_eq!(drain(&mut consumer).await, (150..155).collect::<Vec<_>>());
    assert_eq!(group(&events, "fills", "ledger").await.trimmed_unread, None, "guessed by the server");
}
