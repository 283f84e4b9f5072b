//! The work of one bot, so that the monitor has something to see: rows, prices, events and a group that reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use tokio::time::MissedTickBehavior;
use tripod::events::{ConsumerOptions, Draft, Event, Events, Publisher};
use tripod::prices::{PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::tape::{Recorded, Tape};
use tripod::{Config, Decimal, Error, Token};

use super::super::tape::rows::Stock;

/// What the rows are.
pub(super) const TABLE: &str = "market_trades";
/// A second.
pub(super) const ROWS: u64 = 5_000;
pub(super) const PRICES: u64 = 500;
pub(super) const EVENTS: u64 = 50;

/// Between two bursts of rows, and rounds of those between two batches of prices and events.
const TICK: Duration = Duration::from_millis(20);
const TICKS_A_BATCH: u64 = 10;
const BATCHES_A_SECOND: u64 = 5;
const VISIBLE_WITHIN: Duration = Duration::from_secs(60);
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// What was recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) rows: u64,
    time: Duration,
}

impl Work {
    pub(super) fn per_second(self) -> u64 {
        super::super::pair::per_second(self.rows, self.time)
    }
}

/// A bot at work in a thread of its own, until it is ended or dropped.
#[derive(Debug)]
pub(super) struct Load {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<Work>>>,
}

impl Load {
    pub(super) fn start(config: Config) -> anyhow::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let body = move || -> anyhow::Result<Work> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let tape = Tape::open(&config)?;
            let work = runtime.block_on(work(&config, &tape, &end));
            let visible = tape.wait_visible(VISIBLE_WITHIN)?;
            let report = tape.close(CLOSE_WITHIN);
            let work = work?;
            ensure!(visible, "not every row was visible within {VISIBLE_WITHIN:?}: {:?}", report.remaining);
            Ok(work)
        };
        let thread = std::thread::Builder::new().name("bot".to_owned()).spawn(body).context("cannot start the bot")?;
        Ok(Self { ended, thread: Some(thread) })
    }

    /// Fails as the bot did, where it has.
    pub(super) fn assert_works(&mut self) -> anyhow::Result<()> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        self.join()?;
        bail!("the bot has ended by itself")
    }

    fn join(&mut self) -> anyhow::Result<Work> {
        let Some(thread) = self.thread.take() else { bail!("the bot has ended already") };
        thread.join().map_err(|_| anyhow!("the bot panicked"))?
    }

    /// Ends it; every row of it is visible then.
    pub(super) fn end(mut self) -> anyhow::Result<Work> {
        self.ended.store(true, Ordering::Relaxed);
        self.join()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What went wrong is said already.
            let _ = thread.join();
        }
    }
}

async fn work(config: &Config, tape: &Tape, ended: &AtomicBool) -> anyhow::Result<Work> {
    let prices = Prices::connect(config).await?;
    let events = Events::connect(config).await?;
    let publisher = events.publisher("bench")?;
    let mut consumer = events.consumer("bench", "bench", ConsumerOptions::default()).await?;
    let (stop, mut stopped) = tokio::sync::watch::channel(());
    let reading = tokio::spawn(async move {
        let until = async move { drop(stopped.changed().await) };
        consumer.run(|_: Event| async { Ok::<_, Error>(()) }, until).await?;
        consumer.close().await
    });
    let (recorder, stock, mut id) = (tape.recorder(), Stock::new()?, String::new());
    let tokens = (0..PRICES / BATCHES_A_SECOND).map(|n| Token::new(&format!("BENCH{n}")));
    let tokens = tokens.collect::<tripod::Result<Vec<_>>>()?;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (began, mut rows, mut tick) = (Instant::now(), 0, 0_u64);
    while !ended.load(Ordering::Relaxed) {
        ticks.tick().await;
        let due = began.elapsed().as_millis() * u128::from(ROWS) / 1_000;
        while u128::from(rows) < due {
            let recorded = recorder.record(&stock.trade(rows, &mut id))?;
            ensure!(recorded == Recorded::Kept, "the journal is full");
            rows += 1;
        }
        if tick.is_multiple_of(TICKS_A_BATCH) {
            batch(&prices, &publisher, &tokens, tick + 1).await?;
        }
        tick += 1;
    }
    let time = began.elapsed();
    drop(stop);
    reading.await.context("the reader of events panicked")??;
    Ok(Work { rows, time })
}

async fn batch(prices: &Prices, publisher: &Publisher, tokens: &[Token], slot: u64) -> anyhow::Result<()> {
    let source = Label::new("source", "bench")?;
    let value = Decimal::new(i64::try_from(slot)?, 3);
    let update = |token: &Token| PriceUpdate { token: *token, value, slot, source, venue: None };
    let updates: Vec<_> = tokens.iter().map(update).collect();
    let drafts = (0..EVENTS / BATCHES_A_SECOND).map(|number| Draft::new("bench", &number));
    let drafts = drafts.collect::<tripod::Result<Vec<_>>>()?;
    for outcome in [prices.write(&updates).await.map(drop), publisher.publish_many(&drafts).await.map(drop)] {
        match outcome {
            // A machine that is stalled: a bot goes on, and so does the load.
            Ok(()) | Err(Error::Deadline { .. } | Error::Unreachable { .. } | Error::Busy { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
