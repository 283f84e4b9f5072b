//! A bot at work: it records, writes prices, publishes events and reads them, says how it is, and serves its metrics.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use tripod::events::{ConsumerOptions, Event, Events};
use tripod::health::{Health, Status};
use tripod::postgres::Postgres;
use tripod::prices::{PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::tape::Tape;
use tripod::tape::tables::{Attempt, Execution, ExecutionStatus, MarketTrade, Side};
use tripod::{Config, Decimal, Timestamp, Token, Uuid};

use crate::http::Server;

/// Between two rounds of its work.
const ROUND: Duration = Duration::from_millis(100);
/// Rows of each kind in a round.
const ROWS: u64 = 20;
const TOKENS: u64 = 10;

/// Works from its start until it is dropped.
pub(crate) struct Bot {
    server: Server,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bot {
    pub(crate) fn start(config: &Config) -> Self {
        let text = Arc::<Mutex<String>>::default();
        let served = Arc::clone(&text);
        let server = Server::start(move |_, _| served.lock().unwrap().clone());
        let ends = Arc::new(AtomicBool::new(false));
        let (ended, mut config) = (Arc::clone(&ends), config.clone());
        config.bot = "arb".to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let tape = Tape::open(&config).unwrap();
            runtime.block_on(work(&config, &tape, &text, &ended));
            let _remains = tape.close(Duration::from_secs(5));
        });
        Self { server, ends, thread: Some(thread) }
    }

    /// Where its metrics are.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub(crate) fn assert_works(&self) {
        assert!(!self.thread.as_ref().unwrap().is_finished(), "the bot has ended");
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the bot panicked");
        }
    }
}

async fn work(config: &Config, tape: &Tape, served: &Mutex<String>, ends: &AtomicBool) {
    let prices = Prices::connect(config).await.unwrap();
    let events = Events::connect(config).await.unwrap();
    let health = Health::new(Postgres::open(&config.postgres).unwrap());
    let publisher = events.publisher("fills").unwrap();
    let mut consumer = events.consumer("fills", "strategy", ConsumerOptions::default()).await.unwrap();
    let (stop, mut stopped) = tokio::sync::watch::channel(());
    let reader = tokio::spawn(async move {
        let until = async move { drop(stopped.changed().await) };
        consumer.run(|_: Event| async { Ok::<_, tripod::Error>(()) }, until).await.unwrap();
        consumer.close().await.unwrap();
    });
    let recorder = PrometheusBuilder::new().build_recorder();
    let mut published = Instant::now();
    for round in 0_u64.. {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        record(tape, round);
        let source = Label::new("source", "orca").unwrap();
        let update = |n| PriceUpdate {
            token: Token::new(&format!("T{n}")).unwrap(),
            value: Decimal::new(i64::try_from(round).unwrap() + 1, 3),
            slot: round,
            source,
            venue: None,
        };
        // With a server away it goes on, as a bot does.
        let _ = prices.write(&(0..TOKENS).map(update).collect::<Vec<_>>()).await;
        let _ = publisher.publish("fill", &round).await;
        if round == 0 || published.elapsed() > Duration::from_secs(1) {
            published = Instant::now();
            let _ = health.heartbeat("arb", Status::Ok, &serde_json::json!({}), Duration::from_secs(30)).await;
            metrics::with_local_recorder(&recorder, || tape.publish().unwrap());
            *served.lock().unwrap() = recorder.handle().render();
        }
        tokio::time::sleep(ROUND).await;
    }
    drop(stop);
    reader.await.unwrap();
    let _ = health.heartbeat("arb", Status::Stopped, &serde_json::json!({}), Duration::from_secs(30)).await;
}

fn record(tape: &Tape, round: u64) {
    let recorder = tape.recorder();
    for n in 0..ROWS {
        let (at, token) = (Timestamp::now(), Token::new(&format!("T{}", n % TOKENS)).unwrap());
        let attempt = Attempt::new(Uuid::now_v7(), at, "arbitrage", "orca", token);
        recorder.record(&attempt).unwrap();
        recorder.record(&Execution::of(&attempt, Timestamp::now(), ExecutionStatus::Landed)).unwrap();
        let trade_id = format!("{round}-{n}");
        let trade = MarketTrade {
            at,
            venue: "orca",
            token,
            trade_id: &trade_id,
            side: Some(Side::Buy),
            price: Decimal::new(8_876_370, 5),
            size: Decimal::new(125, 1),
            slot: Some(round),
            received_at: Some(at),
        };
        recorder.record(&trade).unwrap();
    }
}
