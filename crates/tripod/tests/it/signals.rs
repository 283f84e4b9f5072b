//! Signals over a real Redis: a slow receiver, a lost server.

use serde::{Deserialize, Serialize};
use tripod::Error;
use tripod::signals::{PAYLOAD_BYTES_MAX, Signal, Signals};

use crate::redis_link::{TestRedis, eventually};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Switch {
    on: bool,
    number: u64,
}

fn number(signal: &Signal) -> u64 {
    signal.decode::<Switch>().unwrap().number
}

#[tokio::test]
async fn a_signal_reaches_its_topic_and_no_other() {
    let server = TestRedis::events();
    let signals = Signals::connect(&server.config()).await.unwrap();
    let mut receiver = signals.subscribe(&["kill-switch", "settings"], 16).await.unwrap();
    assert_eq!(signals.publish("other", &Switch { on: false, number: 0 }).await.unwrap(), 0);
    assert_eq!(signals.publish("kill-switch", &Switch { on: true, number: 7 }).await.unwrap(), 1);
    let signal = receiver.recv().await;
    assert!(matches!(&signal, Signal::Message { topic, .. } if topic == "kill-switch"), "{signal:?}");
    assert_eq!(signal.decode::<Switch>().unwrap(), Switch { on: true, number: 7 });

    let large = signals.publish("settings", &"x".repeat(PAYLOAD_BYTES_MAX)).await.unwrap_err();
    assert!(matches!(large, Error::Invalid { .. }), "{large:?}");
    assert!(signals.publish("a b", &1).await.is_err());
    assert!(signals.subscribe(&[], 16).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_receiver_loses_the_oldest_and_is_told_how_many() {
    let server = TestRedis::events();
    let signals = Signals::connect(&server.config()).await.unwrap();
    let mut slow = signals.subscribe(&["hints"], 10).await.unwrap();
    let mut quick = signals.subscribe(&["hints"], 1000).await.unwrap();
    for number in 0..100 {
        signals.publish("hints", &Switch { on: true, number }).await.unwrap();
    }
    // The quick one has them all in order; since the server sends each message to both, the slow one's are here too
    // as soon as its last is the last.
    for expected in 0..100 {
        assert_eq!(number(&quick.recv().await), expected);
    }
    let mut missed = 0;
    let mut taken = Vec::new();
    while taken.last() != Some(&99) {
        match slow.recv().await {
            Signal::Missed(count) => missed += count,
            signal => taken.push(number(&signal)),
        }
    }
    assert!(missed >= 80, "only {missed} were dropped from a ring of 10");
    assert_eq!(missed + u64::try_from(taken.len()).unwrap(), 100);
    assert!(taken.is_sorted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_lost_connection_the_receiver_is_told_and_hears_again() {
    let server = TestRedis::events();
    let signals = Signals::connect(&server.config()).await.unwrap();
    let mut receiver = signals.subscribe(&["hints"], 16).await.unwrap();
    signals.publish("hints", &Switch { on: true, number: 1 }).await.unwrap();
    assert_eq!(number(&receiver.recv().await), 1);
    server.kill();
    let error = signals.publish("hints", &Switch { on: true, number: 2 }).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    server.restart();
    let resync = tokio::time::timeout(crate::redis_link::PATIENCE, receiver.recv()).await.unwrap();
    assert_eq!(resync, Signal::Resync);
    eventually("a signal reaches the receiver", async || {
        matches!(signals.publish("hints", &Switch { on: true, number: 3 }).await, Ok(1))
    })
    .await;
    assert_eq!(number(&receiver.recv().await), 3);
}

#[tokio::test]
async fn a_dropped_receiver_leaves_nothing_behind() {
    let server = TestRedis::events();
    let signals = Signals::connect(&server.config()).await.unwrap();
    let receiver = signals.subscribe(&["hints"], 16).await.unwrap();
    drop(receiver);
    eventually("the server knows no receiver", async || signals.publish("hints", &1).await.unwrap() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_server_ends_is_told_and_a_foreign_payload_ends_nothing() {
    let server = TestRedis::events();
    let signals = Signals::connect(&server.config()).await.unwrap();
    let mut receiver = signals.subscribe(&["hints"], 16).await.unwrap();
    let mut next =
        async || tokio::time::timeout(crate::redis_link::PATIENCE, receiver.recv()).await.expect("nothing came");
    let heard = async |number: u64| {
        eventually("a signal reaches the receiver", async || {
            matches!(signals.publish("hints", &Switch { on: true, number }).await, Ok(1))
        })
        .await;
    };
    let mut ask = server.ask().await;
    // What Redis does to a receiver whose output buffer is full.
    ::redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).exec_async(&mut ask).await.unwrap();
    assert_eq!(next().await, Signal::Resync);
    heard(1).await;
    assert_eq!(number(&next().await), 1);

    ::redis::cmd("PUBLISH").arg("signals:hints").arg(b"\xff\0".as_slice()).exec_async(&mut ask).await.unwrap();
    let foreign = next().await;
    assert!(matches!(&foreign, Signal::Message { payload, .. } if payload == b"\xff\0"), "{foreign:?}");
    assert!(matches!(foreign.decode::<Switch>(), Err(Error::Invalid { .. })));
    heard(3).await;
    assert_eq!(number(&next().await), 3);
}
