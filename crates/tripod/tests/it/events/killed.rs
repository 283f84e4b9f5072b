//! A consumer that is a process of its own, and is killed while it works.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use ::redis::AsyncCommands;
use tripod::Config;
use tripod::events::{Draft, Event, Events};

use super::{fill, group, number, options};
use crate::redis_link::{TestRedis, eventually};

const CONFIG: &str = "TRIPOD_TEST_CONSUMER_CONFIG";
const EFFECTS: &str = "effects";

fn config(path: &Path) -> Config {
    let mut config = Config::load(path).unwrap();
    (config.events.claim_after_ms, config.events.tries_max) = (300, 1000);
    config
}

/// The process: handles events until it is killed. Its effect is written under the event's key, and counted apart.
#[tokio::test]
async fn consumer_process() {
    let Some(path) = std::env::var_os(CONFIG) else { return };
    let config = config(Path::new(&path));
    let events = Events::connect(&config).await.unwrap();
    let redis = &config.redis.events;
    let password = secrecy::ExposeSecret::expose_secret(&redis.password).to_owned();
    let url = format!("redis://{}:{password}@{}", redis.user, redis.addresses[0]);
    let connection = ::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let handler = |event: Event| {
        let mut connection = connection.clone();
        async move {
            let key = event.effect_key();
            let _: bool = connection.hset_nx(EFFECTS, &key, number(&event)).await?;
            connection.incr::<_, _, u64>("handled", 1).await.map(drop)
        }
    };
    let mut consumer = events.consumer("fills", "ledger", options()).await.unwrap();
    consumer.run(handler, std::future::pending()).await.unwrap();
}

fn start(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["events::killed::consumer_process", "--exact", "--nocapture"]).env(CONFIG, path);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

async fn is_killed(kills: u64) {
    const PER_LIFE: u64 = 200;
    let server = TestRedis::events();
    let events = Events::connect(&config(&server.config_path())).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let mut ask = server.ask().await;
    let mut published = 0;
    for life in 0..=kills {
        let mut child = start(&server.config_path());
        let drafts: Vec<Draft> = (published..published + PER_LIFE)
            .map(|n| Draft::new("fill", &fill(n)).unwrap().with_key(&format!("signature-{n}")).unwrap())
            .collect();
        publisher.publish_many(&drafts).await.unwrap();
        published += PER_LIFE;
        // Somewhere in the middle of its work, another place each time.
        let wanted = if life == kills { published } else { published - PER_LIFE + 7 * (life % 20 + 1) };
        eventually("it works", async || ask.hlen::<_, u64>(EFFECTS).await.unwrap() >= wanted).await;
        if life == kills {
            eventually("nothing is left", async || {
                let info = group(&events, "fills", "ledger").await;
                (info.lag, info.pending) == (0, 0)
            })
            .await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let effects: std::collections::HashMap<String, u64> = ask.hgetall(EFFECTS).await.unwrap();
    assert_eq!(u64::try_from(effects.len()).unwrap(), published, "an event has no effect, or two");
    assert!(effects.iter().all(|(key, n)| *key == format!("signature-{n}")));
    let handled: u64 = ask.get("handled").await.unwrap();
    assert!(handled >= published, "{handled}");
    assert_eq!(events.dead("fills", 1).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_killed_again_and_again_leaves_no_event_without_its_effect() {
    is_killed(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute: `make soak`"]
async fn a_consumer_killed_20_times_leaves_no_event_without_its_effect() {
    is_killed(20).await;
}
