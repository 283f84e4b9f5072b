//! The latest prices: written in batches, read one at a time beside, compared at the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tripod::Token;
use tripod::prices::{CALL_MAX, PriceUpdate, Prices};
use tripod::redis::Label;

use super::super::rows::PricePoint;
use super::super::survey::Newest;

/// A batch goes out this often: what a token did in between is one write.
const WRITE_EVERY: Duration = Duration::from_millis(5);
/// One read this often, so that the reading does not take the processor from the rest.
const READ_EVERY: Duration = Duration::from_millis(1);
/// At the end Redis is waited for this long.
const LAST_WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Who says so, in the guard.
const SOURCE: &str = "replay";

/// The newest price of each token that is not written yet; as many entries as there are tokens, at most.
#[derive(Debug, Clone, Default)]
pub(super) struct NewestPrices(Arc<Mutex<HashMap<Token, Newest>>>);

impl NewestPrices {
    pub(super) fn put(&self, point: PricePoint) {
        let newest = Newest { slot: point.slot, value: point.value };
        self.lock().entry(point.token).or_insert(newest).advance(newest);
    }

    fn take(&self) -> HashMap<Token, Newest> {
        std::mem::take(&mut *self.lock())
    }

    /// Puts back what could not be written; what came meanwhile is newer.
    fn put_back(&self, updates: &[PriceUpdate]) {
        let mut newest = self.lock();
        for update in updates {
            newest.entry(update.token).or_insert(Newest { slot: update.slot, value: update.value });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Token, Newest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was written and read.
#[derive(Debug)]
pub(crate) struct PricesDone {
    pub(crate) written: Written,
    pub(crate) read: Read,
}

#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Accepted by the guard.
    pub(crate) accepted: u64,
    /// Refused by the guard: a newer slot was there.
    pub(crate) older: u64,
    /// Calls that failed and were repeated.
    pub(crate) failed_calls: u64,
    /// What could not be written until the end.
    pub(crate) gave_up: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Read {
    /// Reads that found a price.
    pub(crate) found: u64,
    /// Reads that found none: before its first write, or after its life.
    pub(crate) absent: u64,
    pub(crate) failed: u64,
    /// What one read cost, nanoseconds.
    pub(crate) latency_ns: Histogram<u64>,
}

/// Writes what is newest every few milliseconds until `produced_all`, then what is left.
pub(super) async fn write(prices: Prices, newest: NewestPrices, produced_all: watch::Receiver<bool>) -> Written {
    let mut written = Written::default();
    let mut tick = tokio::time::interval(WRITE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_chance: Option<Instant> = None;
    loop {
        tick.tick().await;
        // Asked before the rest is taken: what is put afterwards is in a later round.
        let ending = *produced_all.borrow() || produced_all.has_changed().is_err();
        let failure = write_once(&prices, &newest, &mut written).await.err();
        match (ending, failure) {
            (false, _) => {}
            (true, None) => return written,
            (true, Some(error)) => {
                let since = *last_chance.get_or_insert_with(Instant::now);
                if since.elapsed() > LAST_WRITE_DEADLINE {
                    written.gave_up = Some(error.to_string());
                    return written;
                }
            }
        }
    }
}

async fn write_once(prices: &Prices, newest: &NewestPrices, written: &mut Written) -> tripod::Result<()> {
    let source = Label::new("source", SOURCE)?;
    let updates: Vec<PriceUpdate> = newest
        .take()
        .into_iter()
        .map(|(token, newest)| PriceUpdate { token, value: newest.value, slot: newest.slot, source, venue: None })
        .collect();
    let mut result = Ok(());
    for part in updates.chunks(CALL_MAX) {
        match prices.write(part).await {
            Ok(report) => {
                written.accepted += count(report.written);
                written.older += count(report.older);
            }
            Err(error) => {
                newest.put_back(part);
                written.failed_calls += 1;
                result = Err(error);
            }
        }
    }
    result
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Reads one token after the other while the writer writes.
pub(super) async fn read(
    prices: Prices,
    tokens: Vec<Token>,
    mut produced_all: watch::Receiver<bool>,
) -> anyhow::Result<Read> {
    let mut read = Read { found: 0, absent: 0, failed: 0, latency_ns: Histogram::new_with_max(60_000_000_000, 3)? };
    let mut tick = tokio::time::interval(READ_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for token in tokens.iter().cycle() {
        tokio::select! {
            _ = produced_all.wait_for(|all| *all) => break,
            _ = tick.tick() => {}
        }
        let started = Instant::now();
        match prices.read(token).await {
            Ok(Some(_)) => {
                read.found += 1;
                read.latency_ns.saturating_record(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            Ok(None) => read.absent += 1,
            Err(_) => read.failed += 1,
        }
    }
    Ok(read)
}

/// The newest price of each token in Redis, compared with the newest in the files.
#[derive(Debug, Default)]
pub(crate) struct PriceCheck {
    pub(crate) tokens: u64,
    /// Value and slot are those of the files.
    pub(crate) equal: u64,
    /// Somebody else wrote a newer slot.
    pub(crate) newer: u64,
    /// The price's life was over, for a token that had been quiet: compared with what its guard still knew.
    pub(crate) by_guard: u64,
    /// Not even a guard was left: a token that had been quiet for longer than a guard lives.
    pub(crate) expired: u64,
    /// An older slot, or another value.
    pub(crate) wrong: u64,
    pub(crate) examples: Vec<String>,
}

/// Asks Redis for each token's price.
pub(super) async fn check(prices: &Prices, newest: &HashMap<Token, Newest>) -> tripod::Result<PriceCheck> {
    let mut check = PriceCheck::default();
    let tokens: Vec<Token> = newest.keys().copied().collect();
    for part in tokens.chunks(CALL_MAX) {
        let alive = prices.read_many(part).await?;
        let guarded = prices.last_known(part).await?;
        for ((token, alive), guarded) in part.iter().zip(alive).zip(guarded) {
            let Some(wanted) = newest.get(token) else { continue };
            check.tokens += 1;
            let alive = alive?;
            if alive.is_none() && guarded.is_some() {
                check.by_guard += 1;
            }
            match alive.or(guarded) {
                None => check.expired += 1,
                Some(price) if price.slot.is_some_and(|slot| slot > wanted.slot) => check.newer += 1,
                Some(price) if price.slot == Some(wanted.slot) && price.value == wanted.value => check.equal += 1,
                Some(price) => {
                    check.wrong += 1;
                    if check.examples.len() < 5 {
                        check.examples.push(format!(
                            "{token}: wanted {} of slot {}, found {} of slot {:?}",
                            wanted.value, wanted.slot, price.value, price.slot
                        ));
                    }
                }
            }
        }
    }
    Ok(check)
}
