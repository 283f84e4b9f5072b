//! The specification's proof: writers in processes of their own, slots in an order of their own, lives that run out in
//! between, and nobody ever sees a token's slot go back.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ::redis::AsyncCommands;
use tripod::prices::{PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::{Config, Decimal, Token};

use crate::redis_link::TestRedis;

const WRITERS: u64 = 8;
const TOKENS: usize = 50;
/// Prices run out many times while the writers write.
const TTL_MS: u64 = 25;
/// What a writer is given: config file, seed, slots.
const ORDER: &str = "TRIPOD_TEST_PRICE_WRITER";
/// A machine may be busy with much else.
const PATIENCE: Duration = Duration::from_secs(600);

fn names() -> Vec<Token> {
    (0..TOKENS).map(|n| Token::new(&format!("TOKEN{n}")).unwrap()).collect()
}

fn patient(path: &Path) -> Config {
    let mut config = Config::load(path).unwrap();
    config.redis.prices.deadline_ms = 30_000;
    config.prices.ttl_ms = TTL_MS;
    config
}

/// 1 to `count` in an order that only `seed` decides.
fn shuffled(count: u64, seed: u64) -> Vec<u64> {
    let mut slots: Vec<u64> = (1..=count).collect();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for i in (1..slots.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        slots.swap(i, usize::try_from(state % (u64::try_from(i).unwrap() + 1)).unwrap());
    }
    slots
}

/// The body of a writer; does nothing when run as a test of its own.
#[tokio::test]
#[ignore = "the body of a process that the other tests of this module start"]
async fn writer() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let mut words = order.splitn(3, ' ');
    let (seed, slots) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
    let prices = Prices::connect(&patient(Path::new(words.next().unwrap()))).await.unwrap();
    let (names, source) = (names(), Label::new("source", &format!("writer-{seed}")).unwrap());
    let (mut written, mut older) = (0, 0);
    for slot in shuffled(slots, seed) {
        let update =
            |token: &Token| PriceUpdate { token: *token, value: Decimal::from(slot), slot, source, venue: None };
        let report = prices.write(&names.iter().map(update).collect::<Vec<_>>()).await.unwrap();
        written += report.written;
        older += report.older;
    }
    assert_eq!(written + older, TOKENS * usize::try_from(slots).unwrap());
    assert!(older > 0, "the slots were not shuffled");
}

fn start(config: &Path, seed: u64, slots: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["prices::processes::writer", "--exact", "--ignored", "--nocapture"])
        .env(ORDER, format!("{seed} {slots} {}", config.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn no_slot_ever_goes_back(slots: u64) {
    let server = TestRedis::prices();
    let config = patient(&server.config_path());
    let (prices, names) = (Prices::connect(&config).await.unwrap(), names());
    prices.follow().await.unwrap();
    let mut ask = server.ask().await;
    let mut writers: Vec<Child> = (1..=WRITERS).map(|seed| start(&server.config_path(), seed, slots)).collect();

    // In Redis by the library, in Redis by any client, in memory: each reader on its own.
    let (mut library, mut client, mut memory) = ([0_u64; TOKENS], [0_u64; TOKENS], [0_u64; TOKENS]);
    let (mut seen, mut absent) = ([0_u64; 3], 0_u64);
    let keys: Vec<String> = names.iter().map(|name| format!("price:{name}")).collect();
    let began = Instant::now();
    while writers.iter_mut().any(|writer| writer.try_wait().unwrap().is_none()) {
        assert!(began.elapsed() < PATIENCE, "the writers do not end");
        let read = prices.read_many(&names).await.unwrap();
        let plain: Vec<Option<String>> = ask.mget(&keys).await.unwrap();
        for (n, name) in names.iter().enumerate() {
            let mut advance = |reader: usize, last: &mut [u64; TOKENS], slot: u64| {
                assert!(slot >= last[n], "reader {reader}: {name} went from slot {} back to {slot}", last[n]);
                last[n] = slot;
                seen[reader] += 1;
            };
            match read[n].as_ref().unwrap() {
                Some(price) => {
                    let slot = price.slot.expect("only guarded writers are here");
                    assert_eq!(price.value, Decimal::from(slot), "value and slot of different writes");
                    advance(0, &mut library, slot);
                }
                None => absent += 1,
            }
            if let Some(text) = &plain[n] {
                advance(1, &mut client, text.parse().expect("the bare decimal, which is the slot here"));
            }
            if let Some(price) = prices.latest(name) {
                assert_eq!(price.value, Decimal::from(price.slot.unwrap()));
                advance(2, &mut memory, price.slot.unwrap());
            }
        }
    }
    for writer in &mut writers {
        assert!(writer.wait().unwrap().success());
    }
    assert!(seen.iter().all(|seen| *seen > 200), "the readers saw too little to prove anything: {seen:?}");
    assert!(absent > 0, "no price ran out of its life");
    // At the end the newest of each: in the guards, and what a client reads after one more write is that or newer.
    for name in &names {
        let guard: String = ask.get(format!("guard:{{price:{name}}}")).await.unwrap();
        let words: Vec<&str> = guard.split(' ').collect();
        assert_eq!((words[0], words[1]), (slots.to_string().as_str(), slots.to_string().as_str()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_with_shuffled_slots_and_no_reader_ever_sees_a_slot_go_back() {
    // 8 writers, 50 tokens: 100,000 writes.
    no_slot_ever_goes_back(250).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a million writes; `make soak`"]
async fn a_million_writes_of_eight_processes_and_no_slot_goes_back() {
    no_slot_ever_goes_back(2_500).await;
}
