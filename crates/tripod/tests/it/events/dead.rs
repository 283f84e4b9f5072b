//! Events whose handler fails, panics or hangs, and those that kill their consumer: dead letters, with their reasons.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::watch;
use tripod::events::{DeadLetter, Draft, Event, Events};

use super::{capped, drafts, drain, fill, group, number, options};
use crate::redis_link::{TestRedis, eventually};

/// Something to stop a running consumer with.
fn stop() -> (watch::Sender<bool>, impl Future<Output = ()> + Send) {
    let (stop, mut stopped) = watch::channel(false);
    (stop, async move { drop(stopped.wait_for(|stop| *stop).await) })
}

async fn letters(events: &Events) -> HashMap<u64, DeadLetter> {
    let dead = events.dead("fills", 100).await.unwrap();
    dead.into_iter().map(|dead| (serde_json::from_slice::<super::Fill>(&dead.payload).unwrap().number, dead)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_event_is_tried_so_often_and_no_more_and_harms_no_other() {
    const ERRS: u64 = 3;
    const PANICS: u64 = 5;
    const HANGS: u64 = 7;
    let server = TestRedis::events();
    let mut config = capped(server.config(), 10_000);
    (config.events.tries_max, config.events.handler_deadline_ms) = (3, 100);
    let events = Events::connect(&config).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    publisher.publish_many(&drafts(0..10)).await.unwrap();
    let keyed = Draft::new("fill", &fill(ERRS + 100)).unwrap().with_key("poison").unwrap();
    publisher.publish_draft(&keyed).await.unwrap();
    // Another group, which can handle all of it.
    let mut other = events.consumer("fills", "other", options()).await.unwrap();
    assert_eq!(drain(&mut other).await.len(), 11);

    let tries: Mutex<HashMap<u64, u64>> = Mutex::default();
    let mut consumer = events.consumer("fills", "ledger", options()).await.unwrap();
    let handler = |event: Event| {
        let tries = &tries;
        async move {
            let n = number(&event);
            *tries.lock().unwrap().entry(n).or_default() += 1;
            assert_eq!(event.tries, tries.lock().unwrap()[&n]);
            match n % 100 {
                ERRS => Err(format!("no such order {n}")),
                PANICS => panic!("out of bounds"),
                HANGS => std::future::pending().await,
                _ => Ok(()),
            }
        }
    };
    let (stop, until) = stop();
    let (done, ()) = tokio::join!(consumer.run(handler, until), async {
        eventually("all four are dead letters", async || events.dead("fills", 100).await.unwrap().len() == 4).await;
        stop.send(true).unwrap();
    });
    done.unwrap();

    let tries = tries.into_inner().unwrap();
    for (n, times) in &tries {
        let poisoned = [ERRS, PANICS, HANGS, ERRS + 100].contains(n);
        assert_eq!(*times, if poisoned { 3 } else { 1 }, "event {n}");
    }
    let counts = consumer.counts();
    assert_eq!((counts.acknowledged, counts.failed, counts.dead), (7, 12, 4));
    let info = group(&events, "fills", "ledger").await;
    assert_eq!((info.lag, info.pending), (0, 0), "the group is done with them");
    assert_eq!(events.info("fills").await.unwrap().unwrap().dead, 4);
    let dead = letters(&events).await;
    for (n, reason) in [(ERRS, "no such order 3"), (PANICS, "out of bounds"), (HANGS, "did not finish within 100ms")] {
        assert!(dead[&n].reason.contains(reason), "{:?}", dead[&n]);
        assert_eq!((dead[&n].tries, dead[&n].group.as_str(), dead[&n].kind.as_str()), (3, "ledger", "fill"));
    }

    // Published again it comes to this group alone, under the key that it had, or the id.
    for n in [ERRS, ERRS + 100] {
        events.redrive("fills", dead[&n].id).await.unwrap().unwrap();
        assert_eq!(events.redrive("fills", dead[&n].id).await.unwrap(), None, "it is not there any more");
    }
    let again = consumer.next().await.unwrap();
    let keys: Vec<String> = again.iter().map(Event::effect_key).collect();
    assert_eq!(keys, [dead[&ERRS].event.to_string(), "poison".to_owned()]);
    consumer.ack(&again.iter().map(|event| event.id).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(drain(&mut other).await, Vec::<u64>::new(), "the other group has handled them long ago");
    assert_eq!(group(&events, "fills", "other").await.pending, 0);
    assert_eq!(events.drop_dead("fills", &[dead[&PANICS].id, dead[&PANICS].id]).await.unwrap(), 1);
    assert_eq!(letters(&events).await.keys().copied().collect::<Vec<_>>(), [HANGS]);
}

#[tokio::test]
async fn an_event_that_kills_each_consumer_is_given_up_by_the_claim() {
    let server = TestRedis::events();
    let mut config = capped(server.config(), 10_000);
    (config.events.tries_max, config.events.dead_cap) = (2, 3);
    let events = Events::connect(&config).await.unwrap();
    events.publisher("fills").unwrap().publish_many(&drafts(0..5)).await.unwrap();
    for delivery in 1..=2 {
        let mut dies = events.consumer("fills", "ledger", options()).await.unwrap();
        let mut held = Vec::new();
        eventually("it is given them", async || {
            held.extend(dies.next().await.unwrap());
            held.len() == 5
        })
        .await;
        assert!(held.iter().all(|event| event.tries == delivery), "{held:?}");
    }
    let mut lives = events.consumer("fills", "ledger", options()).await.unwrap();
    eventually("they are given up", async || {
        assert!(drain(&mut lives).await.is_empty(), "given out a third time");
        lives.counts().dead == 5
    })
    .await;
    let dead = events.dead("fills", 100).await.unwrap();
    assert_eq!(dead.len(), 3, "the cap of the dead letters holds");
    assert!(dead[0].reason.contains("delivered 2 times and never acknowledged"), "{dead:?}");
    assert_eq!(group(&events, "fills", "ledger").await.pending, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_a_slow_handler_is_not_claimed_by_another_consumer() {
    let server = TestRedis::events();
    let mut config = capped(server.config(), 10_000);
    config.events.claim_after_ms = 1500;
    let events = Events::connect(&config).await.unwrap();
    events.publisher("fills").unwrap().publish_many(&drafts(0..8)).await.unwrap();
    let mut slow = events.consumer("fills", "ledger", options()).await.unwrap();
    let mut eager = events.consumer("fills", "ledger", options()).await.unwrap();
    let handled: Mutex<Vec<u64>> = Mutex::default();
    // The batch takes more than twice as long as after which a silent consumer's events are claimed.
    let handler = |event: Event| {
        let handled = &handled;
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            handled.lock().unwrap().push(number(&event));
            Ok::<_, String>(())
        }
    };
    let (stop, all) = stop();
    let first = slow.next().await.unwrap();
    assert_eq!(first.len(), 8);
    drop(slow);
    let mut slow = events.consumer("fills", "ledger", options()).await.unwrap();
    // It claims what the dropped one had, and is slow with it.
    let (done, ()) = tokio::join!(slow.run(handler, all), async {
        let mut stolen = 0;
        eventually("the slow one is done", async || {
            if handled.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
                return false;
            }
            stolen += eager.next().await.unwrap().len();
            handled.lock().unwrap().len() == 8
        })
        .await;
        stop.send(true).unwrap();
        assert_eq!(stolen, 0);
    });
    done.unwrap();
    assert_eq!(handled.into_inner().unwrap(), (0..8).collect::<Vec<_>>());
    assert_eq!((slow.counts().acknowledged, slow.counts().taken_over), (8, 0));
}
