//! A primary and a streaming standby: killed, frozen, promoted, thawed, restarted, under a bot that goes on writing.
#![expect(clippy::print_stdout, reason = "what was measured is worth reading, and no bar of a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tripod::health::{Health, Status};
use tripod::postgres::{Postgres, migrations};
use tripod::{Advice, Config, Error, config};
use tripod_stack::{ServerName, Servers, TestStack};

/// A machine that builds at the same time may take this long for anything.
const LONG: Duration = Duration::from_secs(30);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(4);
/// One second is promised; a machine under load may take more, but not of another order.
const FIRST_GOOD_WITHIN: Duration = Duration::from_secs(8);

fn start() -> (TestStack, config::Postgres) {
    let stack = TestStack::start(Servers::only(ServerName::Postgres)).expect("PostgreSQL for the test");
    let mut config = Config::local(stack.data_dir()).unwrap().postgres;
    config.hosts = vec![stack.address(ServerName::Postgres)];
    (stack, config)
}

/// A plain connection of the superuser, within a second.
async fn plain(stack: &TestStack, address: &str) -> Option<Client> {
    let admin = stack.admin(ServerName::Postgres);
    let (host, port) = address.rsplit_once(':').unwrap();
    let connect = async {
        let mut plain = tokio_postgres::Config::new();
        plain.host(host).port(port.parse().unwrap()).user(admin.user).password(admin.password()).dbname("tripod");
        let (client, connection) = plain.connect(NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    };
    tokio::time::timeout(Duration::from_secs(1), connect).await.ok().flatten()
}

/// When a plain connection's write first succeeded at `address`.
async fn takes_writes(stack: &TestStack, address: &str) -> Instant {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < LONG, "{address} takes no writes");
        let Some(client) = plain(stack, address).await else { continue };
        if client.batch_execute("CREATE TABLE IF NOT EXISTS public.probe (a int)").await.is_ok() {
            return Instant::now();
        }
    }
}

/// Components that the server at `address` has, by number.
async fn numbers(stack: &TestStack, address: &str) -> Vec<u64> {
    let began = Instant::now();
    let client = loop {
        assert!(began.elapsed() < LONG, "{address} does not answer");
        if let Some(client) = plain(stack, address).await {
            break client;
        }
    };
    let sql = "SELECT substr(component, 3)::bigint FROM tripod.health WHERE component LIKE 'n-%' ORDER BY 1";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get::<_, i64>(0).try_into().unwrap()).collect()
}

#[derive(Debug, Clone, Copy)]
struct Call {
    number: u64,
    began: Instant,
    ended: Instant,
    good: bool,
}

/// A bot that writes one numbered row after the other, whatever happens.
struct Bot {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    task: JoinHandle<Vec<Call>>,
}

impl Bot {
    fn start(config: &config::Postgres) -> Self {
        let health = Health::new(Postgres::open(config).unwrap());
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&good));
        let task = tokio::spawn(async move {
            let mut calls = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let number = u64::try_from(calls.len()).unwrap();
                let began = Instant::now();
                let outcome = health.heartbeat(&format!("n-{number}"), Status::Ok, &json!({}), LONG).await;
                calls.push(Call { number, began, ended: Instant::now(), good: outcome.is_ok() });
                match outcome {
                    Ok(()) => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => {
                        assert!(matches!(error.advice(), Advice::Retry | Advice::Wait), "{error:?}");
                        // As a bot would: not in a tight loop against a server that refuses.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
            calls
        });
        Self { stop, good, task }
    }

    /// Until `more` further writes have succeeded.
    async fn goes_on(&self, more: u64) {
        let (until, began) = (self.good.load(Ordering::Relaxed) + more, Instant::now());
        while self.good.load(Ordering::Relaxed) < until {
            assert!(began.elapsed() < LONG, "no good call for {LONG:?}");
            assert!(!self.task.is_finished(), "the bot has ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self, deadline: Duration) -> Vec<Call> {
        self.stop.store(true, Ordering::Relaxed);
        let calls = self.task.await.expect("the bot ended well");
        let longest = calls.iter().map(|call| call.ended - call.began).max().unwrap();
        println!("{} calls, longest {longest:?} of {deadline:?}", calls.len());
        assert!(longest < deadline + SLACK, "a call took {longest:?}, its deadline is {deadline:?}");
        calls
    }
}

/// Writes one row; again where a busy machine lets the new primary answer too late.
async fn write(health: &Health, number: u64) {
    let began = Instant::now();
    while let Err(error) = health.heartbeat(&format!("n-{number}"), Status::Ok, &json!({}), LONG).await {
        assert!(matches!(error.advice(), Advice::Retry | Advice::Wait), "{error:?}");
        assert!(began.elapsed() < LONG, "{error:?}");
    }
}

/// From `there` to the end of the first good call that began after the server was lost.
fn first_good(what: &str, calls: &[Call], lost: Instant, there: Instant) -> Duration {
    let first = calls.iter().find(|call| call.good && call.ended > lost && call.began > lost);
    let took = first.expect("a good call").ended.saturating_duration_since(there);
    println!("{what}: first good call {took:?} after a server that takes writes was there");
    assert!(took < FIRST_GOOD_WITHIN, "{what}: {took:?}");
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_replaced_by_its_promoted_standby_without_a_restart() {
    let (stack, mut config) = start();
    migrations::apply(&config).await.unwrap();
    let standby = stack.start_standby().unwrap();
    config.hosts.push(standby.address());
    let bot = Bot::start(&config);
    bot.goes_on(20).await;
    let lost = Instant::now();
    stack.kill(ServerName::Postgres).unwrap();
    // Nobody takes writes: said at once, not after a deadline.
    let error = Postgres::open(&config).unwrap().call("ask", async |_| Ok(())).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }) && error.to_string().contains("takes writes"), "{error:?}");
    let address = standby.address();
    let (there, promoted) =
        tokio::join!(takes_writes(&stack, &address), async { tokio::task::block_in_place(|| standby.promote()) });
    promoted.unwrap();
    bot.goes_on(20).await;
    let calls = bot.end(config.deadline()).await;
    first_good("killed", &calls, lost, there);
    let kept = numbers(&stack, &address).await;
    // What the old primary confirmed with its last breath went to no standby: replication does not wait.
    for call in calls.iter().filter(|call| call.good && call.began > there) {
        assert!(kept.contains(&call.number), "write {} was confirmed and is not there", call.number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_hides_no_promoted_standby_and_is_not_written_to_when_it_thaws() {
    let (stack, mut config) = start();
    migrations::apply(&config).await.unwrap();
    let standby = stack.start_standby().unwrap();
    let (old, new) = (stack.address(ServerName::Postgres), standby.address());
    config.hosts.push(new.clone());
    // A part of the bot that does nothing all the while; its connection leads to the old primary.
    let idle = Health::new(Postgres::open(&config).unwrap());
    idle.heartbeat("idle", Status::Ok, &json!({}), LONG).await.unwrap();
    let bot = Bot::start(&config);
    bot.goes_on(20).await;

    let lost = Instant::now();
    stack.freeze(ServerName::Postgres);
    let (there, promoted) =
        tokio::join!(takes_writes(&stack, &new), async { tokio::task::block_in_place(|| standby.promote()) });
    promoted.unwrap();
    bot.goes_on(20).await;
    let settled = Instant::now();
    stack.thaw(ServerName::Postgres);
    takes_writes(&stack, &old).await;
    // Now both take writes.
    write(&idle, 1_000_000).await;
    for number in 1_000_001..1_000_010 {
        write(&Health::new(Postgres::open(&config).unwrap()), number).await;
    }
    bot.goes_on(50).await;
    let calls = bot.end(config.deadline()).await;
    first_good("frozen and promoted", &calls, lost, there);

    let (on_old, on_new) = (numbers(&stack, &old).await, numbers(&stack, &new).await);
    let after: Vec<u64> =
        calls.iter().filter(|call| call.began > settled).map(|call| call.number).chain(1_000_000..1_000_010).collect();
    assert!(after.len() > 50);
    for number in after {
        assert!(on_new.contains(&number), "write {number} is not on the new primary");
        assert!(!on_old.contains(&number), "write {number} went to the replaced primary");
    }
    // With the old one alone a bot that knows better writes nowhere, and says why.
    config.hosts = vec![old];
    let error = Postgres::open(&config).unwrap().call("ask", async |_| Ok(())).await.unwrap_err();
    assert!(error.to_string().contains("replaced primary"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_thawed_killed_or_restarted_is_found_again() {
    let (stack, config) = start();
    let address = stack.address(ServerName::Postgres);
    migrations::apply(&config).await.unwrap();
    let bot = Bot::start(&config);
    let mut lost = Vec::new();
    for what in ["frozen", "restarted", "killed"] {
        bot.goes_on(20).await;
        let began = Instant::now();
        match what {
            "frozen" => {
                stack.freeze(ServerName::Postgres);
                let watched = Postgres::open(&config).unwrap();
                let error = watched.call("ask", async |_| Ok(())).await.unwrap_err();
                assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
                assert!(watched.down_for().is_some());
                stack.thaw(ServerName::Postgres);
            }
            "restarted" => tokio::task::block_in_place(|| stack.restart_server(ServerName::Postgres)).unwrap(),
            _ => tokio::task::block_in_place(|| {
                stack.kill(ServerName::Postgres).unwrap();
                stack.start_server(ServerName::Postgres).unwrap();
            }),
        }
        lost.push((what, began, takes_writes(&stack, &address).await));
    }
    bot.goes_on(20).await;
    let calls = bot.end(config.deadline()).await;
    for (what, lost, there) in lost {
        first_good(what, &calls, lost, there);
    }
    let kept = numbers(&stack, &address).await;
    for call in calls.iter().filter(|call| call.good) {
        assert!(kept.contains(&call.number), "write {} was confirmed and is not there", call.number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_may_say_instead_of_yes_is_a_named_error_within_the_deadline() {
    let (stack, config) = start();
    migrations::apply(&config).await.unwrap();
    let standby = stack.start_standby().unwrap();
    let error = async |config: &config::Postgres| {
        let began = Instant::now();
        let error = Postgres::open(config).unwrap().call("ask", async |_| Ok(())).await.unwrap_err();
        assert!(began.elapsed() < config.deadline() + SLACK, "{:?}: {error}", began.elapsed());
        error
    };
    let only = |hosts: Vec<String>| {
        let mut only = config.clone();
        only.hosts = hosts;
        only
    };
    let recovering = error(&only(vec![standby.address()])).await;
    assert!(
        matches!(recovering, Error::Busy { .. }) && recovering.to_string().contains("takes writes"),
        "{recovering}"
    );
    let nobody = error(&only(vec!["no.such.host.invalid:5432".into()])).await;
    assert!(matches!(nobody, Error::Unreachable { .. } | Error::Deadline { .. }), "{nobody:?}");
    // A wrong password outweighs what passes by itself, whichever comes first.
    let hosts = vec!["127.0.0.1:1".into(), standby.address(), config.hosts[0].clone()];
    let mut wrong = only(hosts);
    wrong.password = "not-this".to_owned().into();
    let wrong = error(&wrong).await;
    assert!(matches!(&wrong, Error::Refused { code: Some(code), .. } if code == "28P01"), "{wrong:?}");

    let superuser = plain(&stack, &config.hosts[0]).await.unwrap();
    superuser.batch_execute("ALTER ROLE tripod_bot CONNECTION LIMIT 0").await.unwrap();
    let crowded = error(&config).await;
    assert!(matches!(crowded, Error::Busy { .. }) && crowded.to_string().contains("too many"), "{crowded:?}");
    superuser.batch_execute("ALTER ROLE tripod_bot CONNECTION LIMIT -1").await.unwrap();

    // All connections of the pool are in use.
    let mut small = config.clone();
    small.pool_size = 1;
    let small = Postgres::open(&small).unwrap();
    let busy = small.call("sleep", async |c| Ok(c.batch_execute("SELECT pg_sleep(0.5)").await?));
    let (slept, waited) = tokio::join!(busy, small.call("ask", async |_| Ok(())));
    slept.unwrap();
    let waited = waited.unwrap_err();
    assert!(matches!(waited, Error::Deadline { .. }) && waited.to_string().contains("all 1 connections"), "{waited:?}");
    assert!(small.down_for().is_none(), "the server was there all the while");
}
