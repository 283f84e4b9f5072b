//! A primary that is killed, and one that hangs, under publishers and a consumer that go on.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tripod::Config;
use tripod::events::{Draft, Event, Events};
use tripod_stack::{ServerName, Servers, TestStack};

use super::{fill, options};

/// A failover on a machine that builds at the same time.
const LONG: Duration = Duration::from_secs(60);

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LONG, "waited {LONG:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn config(stack: &TestStack) -> Config {
    let mut config = Config::load(stack.config_path()).unwrap();
    config.redis.events.deadline_ms = 1000;
    (config.events.cap, config.events.claim_after_ms) = (1_000_000, 1000);
    config
}

async fn ask(stack: &TestStack, node: ServerName) -> ::redis::aio::MultiplexedConnection {
    let admin = stack.admin(node);
    let url = format!("redis://{}:{}@{}", admin.user, admin.password(), stack.address(node));
    // A whole stream in one answer takes longer than the driver's half a second where the machine is busy.
    let patient = ::redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
    ::redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&patient).await.unwrap()
}

/// Keys in the stream of the node that is the primary, with how often each is there.
async fn keys_on(stack: &TestStack, node: ServerName) -> HashMap<String, u64> {
    let mut ask = ask(stack, node).await;
    let all: Vec<(String, HashMap<String, String>)> =
        ::redis::cmd("XRANGE").arg("events:fills").arg("-").arg("+").query_async(&mut ask).await.unwrap();
    let mut keys = HashMap::new();
    for (_, fields) in all {
        *keys.entry(fields["key"].clone()).or_default() += 1;
    }
    keys
}

/// Publishes and consumes while `trouble` goes on; afterwards every acknowledged event is there once, and handled.
async fn goes_on(stack: &TestStack, trouble: impl AsyncFnOnce(&Events)) {
    let config = config(stack);
    let events = Events::connect(&config).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let (over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashSet::new())));
    let effects: Mutex<HashMap<String, u64>> = Mutex::default();
    let (end, taken) = (Arc::clone(&over), Arc::clone(&acknowledged));
    // A task of its own: what asks the servers below holds up its thread.
    let publishing = tokio::spawn(async move {
        for n in 0_u64.. {
            if end.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("key-{n}");
            let draft = Draft::new("fill", &fill(n)).unwrap().with_key(&key).unwrap();
            // One try: what is not acknowledged is not claimed to be there.
            if publisher.publish_draft(&draft).await.is_ok() {
                taken.lock().unwrap().insert(key);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let mut consumer = events.consumer("fills", "ledger", options()).await.unwrap();
    let handler = |event: Event| {
        *effects.lock().unwrap().entry(event.effect_key()).or_default() += 1;
        std::future::ready(Ok::<_, String>(()))
    };
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let until = async move { drop(stopped.wait_for(|stop| *stop).await) };
    let troubling = async {
        trouble(&events).await;
        eventually("it goes on", async || acknowledged.lock().unwrap().len() > 200).await;
        over.store(true, Ordering::Relaxed);
        eventually("every acknowledged event is handled", async || {
            let acknowledged = acknowledged.lock().unwrap();
            let effects = effects.lock().unwrap();
            acknowledged.iter().all(|key| effects.contains_key(key))
        })
        .await;
        stop.send(true).unwrap();
    };
    let (handled, published, ()) = tokio::join!(consumer.run(handler, until), publishing, troubling);
    handled.unwrap();
    published.unwrap();
    let acknowledged = acknowledged.lock().unwrap().clone();
    let there = keys_on(stack, stack.events_primary().unwrap()).await;
    let lost: Vec<&String> = acknowledged.iter().filter(|key| !there.contains_key(*key)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}; {:?}", events.kept());
    assert!(there.values().all(|times| *times == 1), "an event is there twice under one key");
    let kept = events.kept();
    assert!(kept.checks > 0 && kept.missing == kept.republished, "{kept:?}");
}

async fn another_primary_than(stack: &TestStack, old: ServerName, events: &Events) {
    let address = stack.address(old);
    eventually("the link leads to another primary", async || {
        events.link().is_connected() && events.link().address() != address
    })
    .await;
    eventually("it takes writes", async || events.publisher("probe").unwrap().publish("probe", &1).await.is_ok()).await;
}

#[expect(clippy::print_stdout, reason = "how long it took is worth reading, and is no assertion")]
async fn survives_kills(rounds: u32) {
    let stack = TestStack::start_supervised(Servers::EVENTS_HA).unwrap();
    goes_on(&stack, async |events| {
        for round in 0..rounds {
            let old = stack.events_primary().unwrap();
            let start = Instant::now();
            stack.kill(old).unwrap();
            another_primary_than(&stack, old, events).await;
            println!("round {round}: {old} was killed; writes again after {:?}", start.elapsed());
            // The next one needs somebody to take over, and the sentinels to know it.
            eventually("the killed one is back as a replica, and the sentinels agree", async || {
                let servers = stack.check().unwrap();
                let sentinels = servers.iter().filter(|server| server.name.is_sentinel());
                let views: HashSet<_> = sentinels.map(|server| server.role.clone()).collect();
                views.len() == 1 && servers.iter().all(|server| server.state == tripod_stack::RunState::Running)
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_costs_seconds_and_no_acknowledged_event() {
    survives_kills(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "four minutes: `make soak`"]
async fn twenty_killed_primaries_cost_no_acknowledged_event() {
    survives_kills(20).await;
}

/// It accepts connections and answers nothing, is replaced, and thaws: whoever kept a connection to it may have a write
/// accepted that is thrown away. The link is not there any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hung_and_thaws_is_left_and_what_it_took_is_counted() {
    let stack = TestStack::start_supervised(Servers::EVENTS_HA).unwrap();
    goes_on(&stack, async |events| {
        let old = stack.events_primary().unwrap();
        let mut stayed = ask(&stack, old).await;
        stack.freeze(old);
        another_primary_than(&stack, old, events).await;
        stack.thaw(old);
        // Somebody who stayed: accepted until it notices that it has no replica, or that it is one.
        let (mut accepted, mut refused) = (0_u64, false);
        eventually("it refuses or is a replica", async || {
            let write = ::redis::cmd("XADD").arg(&["events:stayed", "*", "a", "b"]).exec_async(&mut stayed).await;
            accepted += u64::from(write.is_ok());
            refused |= write.is_err();
            refused
        })
        .await;
        eventually("it is a replica", async || {
            let roles = stack.check().unwrap();
            let role = roles.iter().find(|server| server.name == old).and_then(|server| server.role.clone());
            role.is_some_and(|role| role.starts_with("replica") && role.ends_with("connected"))
        })
        .await;
        let there: u64 =
            ::redis::cmd("XLEN").arg("events:stayed").query_async(&mut ask(&stack, old).await).await.unwrap();
        println!("accepted after the thaw: {accepted}, of which {} are lost", accepted - there);
        assert_eq!(events.link().address(), stack.address(stack.events_primary().unwrap()));
    })
    .await;
}
