//! A whole bot's work at the chosen rate: the tape, the latest prices, the events, all at once.
//!
//! Constraints: the three legs do not wait for one another beyond stated limits. Prices are the newest per token (a
//! slower Redis sees fewer of them, never older ones). The publisher of events stays so close to its reader that the
//! stream's cap never takes an unread one. Every wait has a deadline; ^C ends everything in order.
//!
//! Picture:
//! ```text
//!                          ┌─▶ Recorder::record ─▶ journal ─▶ sink ─▶ QuestDB
//! script ─▶ producer ──────┼─▶ newest per token ─▶ price writer ─▶ Redis ◀─ price reader
//!           (own thread)   └─▶ bounded queue ─▶ publisher ─▶ Redis stream ─▶ consumer of the group
//! ```

mod events;
mod prices;
mod producer;
mod settle;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::sync::watch;
use tripod::Config;
use tripod::events::Events;
use tripod::ledger::LedgerRow;
use tripod::prices::Prices;
use tripod::tape::Tape;

use super::pace::Rate;
use super::script::Script;
use super::survey::Survey;
pub(crate) use events::EventsDone;
pub(crate) use prices::{PriceCheck, PricesDone, Written as PricesWritten};
pub(crate) use settle::Settled;

/// The handles that a bot has.
pub(crate) struct Legs {
    pub(crate) tape: Tape,
    pub(crate) prices: Prices,
    pub(crate) events: Events,
    /// Where this bot's events go.
    pub(crate) channel: events::Channel,
    /// Entries that a stream holds at most.
    pub(crate) events_cap: u64,
}

/// What was done, as this process saw it. The proof asks the servers.
#[derive(Debug)]
pub(crate) struct Driven {
    /// Rows for which `record()` returned Ok; and of those, the ones that a full journal dropped.
    pub(crate) recorded: u64,
    pub(crate) dropped: u64,
    /// What one `record()` cost, nanoseconds, with the two clock readings around it.
    pub(crate) record_ns: Histogram<u64>,
    /// From the first row to the last.
    pub(crate) producing: Duration,
    pub(crate) prices: PricesDone,
    pub(crate) price_check: PriceCheck,
    pub(crate) events: EventsDone,
    pub(crate) settled: Settled,
    /// From recorded to visible, as the sinks measured it; the slowest of them.
    pub(crate) visible_p50: Option<Duration>,
    pub(crate) visible_p99: Option<Duration>,
    /// The ledger at the end.
    pub(crate) ledger: Vec<LedgerRow>,
    /// ^C came before the last row.
    pub(crate) stopped: bool,
}

impl Legs {
    /// Opens the tape, connects to both Redis instances.
    pub(crate) async fn open(config: &Config) -> tripod::Result<Self> {
        let mut config = config.clone();
        // What a killed replay left pending is taken over at once: nobody else reads as this group.
        config.events.claim_after_ms = events::CLAIM_AFTER_MS;
        let prices = Prices::connect(&config).await?;
        let events = Events::connect(&config).await?;
        let opened = config.clone();
        // Recovery reads files.
        let tape = tokio::task::spawn_blocking(move || Tape::open(&opened))
            .await
            .map_err(|_| tripod::Error::Closed("the thread that opens the tape"))??;
        Ok(Self { tape, prices, events, channel: events::Channel::of(&config.bot), events_cap: config.events.cap })
    }
}

/// Drives `script` through all three legs and waits until what went in has settled.
pub(crate) async fn drive(
    legs: &Arc<Legs>,
    script: &Arc<Script>,
    survey: &Survey,
    rate: Rate,
    bar: &ProgressBar,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<Driven> {
    let newest = prices::NewestPrices::default();
    let (drafts, queue) = tokio::sync::mpsc::channel(events::QUEUE_EVENTS_MAX);
    let events = events::Flow::open(&legs.events, &legs.channel, legs.events_cap).await?;
    let (ended, produced_all) = watch::channel(false);
    let price_writer = tokio::spawn(prices::write(legs.prices.clone(), newest.clone(), produced_all.clone()));
    let tokens = survey.newest.keys().copied().collect();
    let price_reader = tokio::spawn(prices::read(legs.prices.clone(), tokens, produced_all));
    let flow = tokio::spawn(events.run(queue));

    let producer = producer::Producer {
        script: Arc::clone(script),
        recorder: legs.tape.recorder(),
        rate,
        newest: newest.clone(),
        drafts,
        stop: stop.clone(),
        bar: bar.clone(),
        handle: tokio::runtime::Handle::current(),
    };
    let started = Instant::now();
    let produced = tokio::task::spawn_blocking(move || producer.run()).await?;
    let producing = started.elapsed();
    // The others end by themselves once nothing comes any more.
    let _ = ended.send(true);
    let written = price_writer.await?;
    let read = price_reader.await??;
    let produced = produced?;
    // Prices live for seconds: they are looked at before anything else is waited for.
    let price_check =
        if produced.stopped { PriceCheck::default() } else { prices::check(&legs.prices, &survey.newest).await? };
    let events = flow.await??;
    let settled = settle::wait(legs, stop).await?;
    let sinks = legs.tape.sinks();
    Ok(Driven {
        recorded: produced.recorded,
        dropped: produced.dropped,
        record_ns: produced.record_ns,
        producing,
        prices: PricesDone { written, read },
        price_check,
        events,
        settled,
        visible_p50: sinks.iter().filter_map(|sink| sink.visible_p50).max(),
        visible_p99: sinks.iter().filter_map(|sink| sink.visible_p99).max(),
        ledger: legs.tape.ledger()?,
        stopped: produced.stopped,
    })
}
