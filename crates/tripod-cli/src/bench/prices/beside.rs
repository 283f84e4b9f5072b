//! The writer beside a measured reader, and who sees what it writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use tokio::time::MissedTickBehavior;
use tripod::prices::Prices;
use tripod::{Config, Decimal, Token};

use super::{BATCH, histogram, updates};

/// 100 prices each 5 ms are 20,000 a second.
const WRITE_EVERY: Duration = Duration::from_millis(5);
const SEEN: u32 = 1_000;
const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// Slots of the token whose arrival is timed are nanoseconds since the writer began.
const TIMED: &str = "BenchTimed";

/// A thread that writes 20,000 prices a second.
pub(super) struct Beside {
    ended: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    began: Instant,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Beside {
    pub(super) fn start(config: &Config, tokens: &[Token]) -> anyhow::Result<Self> {
        let (ended, written, began) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Instant::now());
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let body = {
            let (ended, written) = (Arc::clone(&ended), Arc::clone(&written));
            let (config, tokens) = (config.clone(), tokens.to_vec());
            move || -> anyhow::Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(write(&config, &tokens, began, &ended, &written, &ready))
            }
        };
        let thread = std::thread::Builder::new().name("beside".to_owned()).spawn(body)?;
        // Every token has a price, or the thread has ended with an error that its end tells.
        let _ = is_ready.recv_timeout(SEEN_WITHIN);
        Ok(Self { ended, written, began, thread })
    }

    /// Microseconds from before a write was made to the first look that found it in the memory of another connection, in
    /// a thread that looks all the time.
    pub(super) async fn seen(&self, config: &Config) -> anyhow::Result<Histogram<u64>> {
        let reader = Prices::connect(config).await?;
        reader.follow().await?;
        let (timed, mut last, mut taken) = (Token::new(TIMED)?, 0, histogram()?);
        let began = Instant::now();
        while taken.len() < u64::from(SEEN) {
            anyhow::ensure!(began.elapsed() < SEEN_WITHIN, "only {} writes were seen in memory", taken.len());
            let now = u64::try_from(self.began.elapsed().as_nanos())?;
            if let Some(slot) = reader.latest(&timed).and_then(|price| price.slot)
                && slot != last
            {
                // The first one may have waited for the subscription.
                if last > 0 {
                    taken.saturating_record(now.saturating_sub(slot) / 1000);
                }
                last = slot;
            }
            // The feed runs on this thread, too.
            tokio::task::yield_now().await;
        }
        Ok(taken)
    }

    /// Prices a second that it wrote.
    pub(super) fn end(self) -> anyhow::Result<u64> {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the thread that writes panicked"))??;
        let millis = u64::try_from(self.began.elapsed().as_millis())?.max(1);
        Ok(self.written.load(Ordering::SeqCst) * 1000 / millis)
    }
}

async fn write(
    config: &Config,
    tokens: &[Token],
    began: Instant,
    ended: &AtomicBool,
    written: &AtomicU64,
    ready: &std::sync::mpsc::SyncSender<()>,
) -> anyhow::Result<()> {
    let prices = Prices::connect(config).await?;
    let timed = Token::new(TIMED)?;
    let mut tick = tokio::time::interval(WRITE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut slot = 1_000_000;
    let mut parts = tokens.chunks(BATCH - 1).cycle();
    for number in 0.. {
        if ended.load(Ordering::SeqCst) {
            break;
        }
        tick.tick().await;
        slot += 1;
        let mut batch = updates(parts.next().context("no tokens")?, slot)?;
        let now = u64::try_from(began.elapsed().as_nanos())?.max(1);
        let last = batch.last().copied().context("an empty batch")?;
        batch.push(tripod::prices::PriceUpdate { token: timed, slot: now, value: Decimal::ONE, ..last });
        let report = prices.write(&batch).await?;
        written.fetch_add(u64::try_from(report.written)?, Ordering::SeqCst);
        if number == tokens.len() / (BATCH - 1) {
            let _ = ready.try_send(());
        }
    }
    Ok(())
}
