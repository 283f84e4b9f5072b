//! The monitor's own alerts on a live stack: each begins when its cause is there, and ends when it is gone.
//!
//! What takes an hour to be true, a disk that is full or a clock that is wrong is judged from snapshots alone, in the
//! monitor's own tests (`watchdog/causes.rs`), where every rule has its case.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tripod::config::Delivery;
use tripod::events::{ConsumerOptions, Events};
use tripod::health::{Health, Status};
use tripod::postgres::Postgres;
use tripod::prices::{PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::tables::{MarketTrade, Side};
use tripod::tape::{Recorded, Tape};
use tripod::{Config, Decimal, Timestamp, Token};
use tripod_stack::{Servers, TestStack};

use crate::monitor::{Monitor, until};
use crate::run::{run, sample, tripod};

const TRADES: &str = "trades/binance_spot_trades_20250325.csv.gz";
/// Small enough to be used up here, and segments small beside it: what waits fills all but the last of them.
const SMALL: [(&str, &str); 3] = [
    ("TRIPOD__JOURNAL__SEGMENT_MIB", "1"),
    ("TRIPOD__JOURNAL__STANDARD_BUDGET_MIB", "32"),
    ("TRIPOD__EVENTS__CAP", "100"),
];

/// A process that ends with the test, also where it was stopped and the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn monitor(stack: &TestStack) -> Monitor {
    Monitor::start(stack.data_dir(), &["--listen", "127.0.0.1:0"], &SMALL)
}

fn raised(monitor: &Monitor) -> BTreeSet<String> {
    let alerts = monitor.snapshot()["alerts"].as_array().unwrap().clone();
    alerts.iter().map(|alert| alert["id"].as_str().unwrap().to_owned()).collect()
}

fn begins(monitor: &Monitor, id: &str) {
    until(&format!("{id} begins"), || raised(monitor).contains(id));
}

fn ends(monitor: &Monitor, id: &str) {
    until(&format!("{id} ends"), || !raised(monitor).contains(id));
}

fn done(stack: &TestStack, arguments: &[&str]) {
    let said = run(stack.data_dir(), &[&["--data", "."], arguments].concat());
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
}

/// Of a bot of this name, with the small journal.
fn config(stack: &TestStack, bot: &str) -> Config {
    let mut config = Config::local(stack.data_dir()).unwrap();
    bot.clone_into(&mut config.bot);
    (config.journal.segment_mib, config.journal.standard_budget_mib, config.events.cap) = (1, 32, 100);
    config
}

fn record(tape: &Tape, number: u64) -> Recorded {
    let (at, trade_id) = (Timestamp::now(), number.to_string());
    let trade = MarketTrade {
        at,
        venue: "orca",
        token: Token::new("SOL").unwrap(),
        trade_id: &trade_id,
        side: Some(Side::Buy),
        price: Decimal::new(8_876_370, 5),
        size: Decimal::new(125, 1),
        slot: Some(number),
        received_at: Some(at),
    };
    tape.recorder().record(&trade).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn what_rows_sinks_and_journals_suffer_is_said_and_taken_back() {
    let stack = TestStack::start(Servers::ALL).unwrap();
    let monitor = monitor(&stack);
    // Nobody has migrated: the sink waits for it.
    let tape = Tape::open(&config(&stack, "early")).unwrap();
    record(&tape, 0);
    begins(&monitor, "sink-stopped");
    done(&stack, &["migrate", "-q"]);
    ends(&monitor, "sink-stopped");
    drop(tape.close(Duration::from_secs(5)));

    // A bot whose sinks are another process's, which does not run: said after a minute, so it begins now.
    let mut beside = config(&stack, "beside");
    beside.tape.delivery = Delivery::Beside;
    let tape = Tape::open(&beside).unwrap();
    record(&tape, 0);
    until("its rows are seen", || monitor.snapshot()["ledger"].to_string().contains("\"beside\""));
    // Its journal is used up: the next row is dropped, and that is growth since the monitor looked.
    let mut number = 1;
    while record(&tape, number) == Recorded::Kept {
        number += 1;
    }
    begins(&monitor, "journal-full");
    begins(&monitor, "rows-dropped");
    drop(tape.close(Duration::from_secs(1)));

    // A process that is stopped where it is (SIGSTOP) says nothing.
    let mut command = tripod();
    command
        .envs(SMALL)
        .arg("--data")
        .arg(stack.data_dir())
        .args(["replay", "--rate", "50/s", "-q"])
        .arg(sample(TRADES));
    let bot = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("its rows are seen", || {
        let lines = monitor.snapshot()["ledger"].as_array().unwrap().clone();
        lines.iter().any(|line| line["bot"] == "bot" && line["visible"].as_u64() > Some(0))
    });
    kill_process(Pid::from_child(&bot.0), Signal::STOP).unwrap();
    begins(&monitor, "sink-silent");
    kill_process(Pid::from_child(&bot.0), Signal::CONT).unwrap();
    ends(&monitor, "sink-silent");
    drop(bot);

    // A copy of a journal of which a segment cannot be read.
    let journals = config(&stack, "").journal.dir;
    let broken = journals.join("broken");
    copy(&journals.join("beside"), &broken);
    let segments = broken.join("standard").join("segments");
    let segment = std::fs::read_dir(segments).unwrap().flatten().next().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[..4096].fill(0xff);
    std::fs::write(&segment, bytes).unwrap();
    begins(&monitor, "journal-damaged");
    std::fs::remove_dir_all(&broken).unwrap();
    ends(&monitor, "journal-damaged");

    // What is read is none of ours: a directory in place of a file.
    let drills = stack.data_dir().join("drills.jsonl");
    std::fs::create_dir(&drills).unwrap();
    begins(&monitor, "files-unreadable");
    std::fs::remove_dir(&drills).unwrap();
    ends(&monitor, "files-unreadable");

    begins(&monitor, "nobody-delivers");
    let mut deliver = tripod();
    deliver.envs(SMALL).arg("--data").arg(stack.data_dir()).args(["deliver", "--bot", "beside", "--until-empty", "-q"]);
    assert!(deliver.status().unwrap().success());
    ends(&monitor, "nobody-delivers");
    ends(&monitor, "journal-full");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&path, &to),
            kind if kind.is_file() => drop(std::fs::copy(&path, &to).unwrap()),
            _ => {}
        }
    }
}

#[test]
fn what_servers_prices_events_and_components_say_is_an_alert_while_it_is_so() {
    let stack = TestStack::start(Servers::ALL).unwrap();
    done(&stack, &["migrate", "-q"]);
    let monitor = monitor(&stack);
    let config = config(&stack, "bot");
    block_on(components(&config, &monitor));
    block_on(prices(&config, &monitor));
    block_on(events(&config, &monitor));

    let http = QuestDbHttp::new(&config.questdb[0], Duration::from_secs(30)).unwrap();
    for sql in [
        "CREATE TABLE base (at TIMESTAMP, x LONG) TIMESTAMP(at) PARTITION BY DAY WAL",
        "CREATE MATERIALIZED VIEW base_1m AS (SELECT at, sum(x) AS x FROM base SAMPLE BY 1m) PARTITION BY DAY",
        "INSERT INTO base VALUES (systimestamp(), 1)",
        "TRUNCATE TABLE base",
    ] {
        http.exec(sql).unwrap();
    }
    begins(&monitor, "view-invalid");
    http.exec("DROP MATERIALIZED VIEW base_1m").unwrap();
    ends(&monitor, "view-invalid");

    done(&stack, &["backup", "create", "-q"]);
    begins(&monitor, "backup-unproven");
    // The monitor does it by itself where it has not been done today: then it is refused here.
    let said = run(stack.data_dir(), &["--data", ".", "backup", "verify", "-q"]);
    assert!(matches!(said.code, Some(0 | 4)), "{said:?}");
    ends(&monitor, "backup-unproven");
}

async fn components(config: &Config, monitor: &Monitor) {
    let health = Health::new(Postgres::open(&config.postgres).unwrap());
    let (second, long) = (Duration::from_secs(1), Duration::from_secs(600));
    let all = [
        ("fails", Status::Failed, long, "component-failed"),
        ("limps", Status::Degraded, long, "component-degraded"),
        ("silent", Status::Ok, second, "component-stale"),
    ];
    for (name, status, deadline, id) in all {
        health.heartbeat(name, status, &json!({}), deadline).await.unwrap();
        begins(monitor, id);
        health.heartbeat(name, Status::Stopped, &json!({}), long).await.unwrap();
        ends(monitor, id);
    }
}

async fn prices(config: &Config, monitor: &Monitor) {
    let prices = Prices::connect(config).await.unwrap();
    let mut slot = 0;
    let mut updates = |tokens: &[&str]| {
        slot += 1;
        let source = Label::new("source", "orca").unwrap();
        let one = |token: &&str| PriceUpdate {
            token: Token::new(token).unwrap(),
            value: Decimal::ONE,
            slot,
            source,
            venue: None,
        };
        tokens.iter().map(one).collect::<Vec<_>>()
    };
    prices.write(&updates(&["A", "B"])).await.unwrap();
    begins(monitor, "prices-dead");
    // One of them is written again, all the time; then both.
    for (written, is_one) in [(&["A"][..], true), (&["A", "B"], false)] {
        let end = std::time::Instant::now() + Duration::from_secs(90);
        loop {
            prices.write(&updates(written)).await.unwrap();
            let now = raised(monitor);
            if !now.contains("prices-dead") && now.contains("prices-stale") == is_one {
                break;
            }
            assert!(std::time::Instant::now() < end, "{written:?} live, and it says {now:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn events(config: &Config, monitor: &Monitor) {
    let events = Events::connect(config).await.unwrap();
    let publisher = events.publisher("orders").unwrap();
    let mut consumer = events.consumer("orders", "strategy", ConsumerOptions::default()).await.unwrap();
    // Of a hundred that the stream holds.
    for number in 0..60 {
        publisher.publish("order", &number).await.unwrap();
    }
    begins(monitor, "group-lag");
    let mut read = 0;
    while read < 60 {
        let ids: Vec<_> = consumer.next().await.unwrap().iter().map(|event| event.id).collect();
        read += ids.len();
        consumer.ack(&ids).await.unwrap();
    }
    ends(monitor, "group-lag");
    assert!(!raised(monitor).contains("trimmed-unread"));
    for number in 0..160 {
        publisher.publish("order", &number).await.unwrap();
    }
    begins(monitor, "trimmed-unread");
    consumer.close().await.unwrap();

    // So little memory is left that events will soon be refused.
    let redis = &config.redis.events;
    let (user, password) = (&redis.admin_user, redis.admin_password.expose_secret());
    let client = redis::Client::open(format!("redis://{user}:{password}@{}", redis.addresses[0])).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let limit: (String, u64) =
        redis::cmd("CONFIG").arg(&["GET", "maxmemory"]).query_async(&mut connection).await.unwrap();
    let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.unwrap();
    let used: u64 = info.get("used_memory").unwrap();
    for (bytes, begins_now) in [(used + used / 8, true), (limit.1, false)] {
        let set = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec_async(&mut connection).await;
        set.unwrap();
        if begins_now { begins(monitor, "memory-high") } else { ends(monitor, "memory-high") }
    }
}
