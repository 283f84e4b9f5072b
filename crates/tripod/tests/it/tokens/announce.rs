//! A change of assessment becomes one event, whoever sees it and however long Redis is away.

use std::time::Duration;

use tokio::sync::watch;
use tripod::events::{Consumer, ConsumerOptions, Event, Events};
use tripod::tokens::announce::{KIND, TOPIC};
use tripod::tokens::{
    Announcer, AssessmentChange, CacheOptions, Observation, Policy, Terms, TokenCache, Tokens, Verdict,
};

use super::samples::{BERN, PYUSD, USDC, account};
use crate::postgres_server::{Database, wait_until};
use crate::redis_link::TestRedis;

/// Longer than a loaded machine takes.
const LONG: Duration = Duration::from_secs(60);

fn by_clock() -> CacheOptions {
    let mut options = CacheOptions::default();
    options.poll_interval = Duration::from_millis(50);
    options
}

async fn events_of(consumer: &mut Consumer, count: usize) -> Vec<Event> {
    let mut found = Vec::new();
    while found.len() < count {
        // Redis may just have been away.
        let Ok(batch) = tokio::time::timeout(LONG, consumer.next()).await.expect("events in time") else { continue };
        consumer.ack(&batch.iter().map(|event| event.id).collect::<Vec<_>>()).await.unwrap();
        found.extend(batch);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_bots_that_see_a_change_publish_one_event_also_after_redis_was_away() {
    let database = Database::migrated().await;
    let redis = TestRedis::events();
    let tokens = Tokens::new(database.bot());
    let bern = account(BERN);
    let usdc = account(USDC);
    tokens.store(&[bern.seen_at(10), usdc.seen_at(10)], "rpc").await.unwrap();
    let events = Events::connect(&redis.config()).await.unwrap();
    let options = ConsumerOptions { block: Duration::from_millis(50), ..ConsumerOptions::default() };
    let mut consumer = events.consumer(TOPIC, "desk", options).await.unwrap();
    let (_terms, terms) = watch::channel(Terms { epoch: 697, policy: Policy::default() });
    let mut bots = Vec::new();
    for _ in 0..2 {
        let cache = TokenCache::open(&database.config, by_clock()).await.unwrap();
        let announcer = Announcer::start(&cache, events.publisher(TOPIC).unwrap(), terms.clone());
        bots.push((cache, announcer));
    }
    // Supply alone is no change of assessment; a token that nobody knew is none either.
    let mut supply: Observation = usdc.seen_at(11);
    supply.mint.supply += 1;
    tokens.store(&[supply, account(PYUSD).seen_at(11)], "rpc").await.unwrap();
    // BERN becomes somebody's to take.
    let mut taken = bern.seen_at(12);
    taken.mint.extensions.extend(account(PYUSD).mint().extensions.into_iter().filter(|e| e.number() == 12));
    tokens.store(&[taken], "rpc").await.unwrap();
    for (cache, announcer) in &bots {
        wait_until("both caches have it", async || cache.get(&bern.address).is_some_and(|t| t.slot == 12)).await;
        wait_until("both have published", async || announcer.published() == 1).await;
    }
    let found = events_of(&mut consumer, 1).await;
    let change: AssessmentChange = found[0].decode().unwrap();
    assert_eq!((found[0].kind.as_str(), change.mint.as_str(), change.slot.as_str()), (KIND, BERN, "12"));
    assert_eq!((change.before, change.after, change.epoch.as_str()), (Verdict::Costly, Verdict::Costly, "697"));
    assert!(change.found.len() == 1 && change.found[0].starts_with("permanent_delegate: "), "{change:?}");
    assert!(change.gone.is_empty(), "{change:?}");

    redis.kill();
    tokens.store(&[bern.seen_at(13)], "rpc").await.unwrap();
    for (cache, _) in &bots {
        wait_until("memory does not wait for Redis", async || cache.get(&bern.address).is_some_and(|t| t.slot == 13))
            .await;
    }
    redis.restart();
    let found = events_of(&mut consumer, 1).await;
    let change: AssessmentChange = found[0].decode().unwrap();
    assert_eq!((change.slot.as_str(), change.gone.len(), change.found.len()), ("13", 1, 0), "{change:?}");
    for (_, announcer) in &bots {
        wait_until("both have it off their hands", async || announcer.published() == 2).await;
        assert_eq!(announcer.missed(), 0);
    }
    assert_eq!(events.info(TOPIC).await.unwrap().unwrap().length, 2, "one event each, by the server's count");
}
