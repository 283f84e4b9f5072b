//! A bot's whole work besides rows: prices, events, settings, heartbeats, each with a witness of its own.
//!
//! Constraints: on servers of the drill's own, whose keys, topics and settings are nobody else's. What happened is judged
//! by answers and by the monotonic clock of this process, which no drill moves; what is there in the end is asked of the
//! servers, on connections that were made afterwards.
//!
//! Picture:
//! ```text
//! prices    writer 100 times a second ─▶ Redis ─▶ memory and reads: is an age told too small, does a price outlive itself?
//! events    publisher, a key each ─▶ stream ─▶ consumer: acknowledged = there = handled?
//! settings  a counter, each on the revision before ─▶ history: each acknowledged revision there?
//! health    a heartbeat ─▶ list: not overdue right after it; and one that fell silent: overdue
//! ids       v7 ids, one after the other: always rising?
//! ```
//! Operation: start → [`Whole::mark`] and [`Whole::await_back`] at each break → end, which settles and compares.

mod health;
mod ids;
mod prices;
mod settings;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tripod::Config;
use tripod::events::{ConsumerOptions, Event, Events};
use tripod::prices::Prices;

use super::events_witness::{self, EventCounts, GROUP, Seen, TOPIC};
use super::patience::patiently;
use super::scene::millis;
use super::server::pause;
use crate::exit::Stop;

use health::{HealthCounts, Pulses};
use ids::Ids;
use prices::{Market, PriceCounts};
use settings::{Book, SettingCounts};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The last events are handled within this.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
/// Prices are fresh again this long after the servers are back and their clocks stand still. What takes so long is the
/// comparison of clocks, each 5 s.
const FRESH_WITHIN_MS: u64 = 15_000;

/// Tells when, after a moment that was marked, a call first succeeded that had begun after it.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Marked>);

#[derive(Debug, Default)]
struct Marked {
    at: Option<Instant>,
    first: Option<Duration>,
}

impl Pulse {
    /// Now.
    pub(super) fn mark(&self) {
        *self.marked() = Marked { at: Some(Instant::now()), first: None };
    }

    /// A call that began then has succeeded.
    pub(super) fn beat(&self, began: Instant) {
        let mut marked = self.marked();
        if let Some(at) = marked.at.filter(|at| began > *at) {
            marked.first.get_or_insert_with(|| at.elapsed());
        }
    }

    /// From the mark to the end of the first such call.
    fn first(&self) -> Option<Duration> {
        self.marked().first
    }

    fn marked(&self) -> MutexGuard<'_, Marked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long each part took until it worked again.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Back {
    /// What it came back from.
    pub(super) after: String,
    /// A row recorded since then was visible.
    pub(super) rows_ms: u64,
    pub(super) prices_ms: u64,
    pub(super) events_ms: u64,
    /// What dead consumers had held was given to a live one.
    pub(super) orphans_ms: u64,
    pub(super) settings_ms: u64,
    pub(super) health_ms: u64,
}

impl Back {
    pub(super) fn slowest_ms(&self) -> u64 {
        let all = [self.rows_ms, self.prices_ms, self.events_ms, self.orphans_ms, self.settings_ms, self.health_ms];
        all.into_iter().max().unwrap_or(0)
    }
}

/// What became of it; a part of the report.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Work {
    pub(super) events: EventCounts,
    pub(super) settings: SettingCounts,
    pub(super) prices: PriceCounts,
    pub(super) health: HealthCounts,
    pub(super) ids: u64,
    /// Not greater than the one before.
    pub(super) ids_out_of_order: u64,
    pub(super) back: Vec<Back>,
}

impl Work {
    /// Acknowledged, and not there.
    pub(super) fn lost(&self) -> u64 {
        self.events.lost + self.settings.lost
    }

    /// What of the promise it breaks.
    pub(super) fn broken(&self) -> Vec<String> {
        let mut broken = self.events.broken();
        let prices_ms = self.back.iter().map(|back| back.prices_ms).max().unwrap_or(0);
        for (count, what) in [
            (self.settings.lost, "acknowledged settings are lost"),
            (self.prices.too_young, "times an age was told too small"),
            (self.prices.outlived, "times memory gave a price past its life"),
            (self.prices.went_back, "times memory went back to an older slot"),
            (self.health.wrongly_stale, "heartbeats were called overdue that had just come"),
            (self.health.wrongly_fresh, "components that had fallen silent were not called overdue"),
            (self.ids_out_of_order, "ids were not greater than the one before"),
            (prices_ms.saturating_sub(FRESH_WITHIN_MS), "ms longer than promised until prices were fresh again"),
        ] {
            if count > 0 {
                broken.push(format!("{count} {what}"));
            }
        }
        for (count, what) in [
            (self.events.acknowledged, "no event was acknowledged"),
            (self.settings.acknowledged, "no setting was stored"),
            (self.prices.reads, "nobody read a price"),
            (self.health.heartbeats, "nobody sent a heartbeat"),
        ] {
            if count == 0 {
                broken.push(what.to_owned());
            }
        }
        broken
    }

    pub(super) fn words(&self) -> String {
        let Self { events, settings, prices, health, .. } = self;
        let mut text = format!(
            "events      {} acknowledged, {} lost, {} twice, {} unhandled\n\
             settings    {} stored, {} lost\n\
             prices      {} written, {} read; {} told too young, {} past their life, {} older ones\n\
             health      {} heartbeats, {} wrongly overdue; of {} that fell silent {} not overdue\n\
             ids         {}, {} out of order\n",
            events.acknowledged,
            events.lost,
            events.doubled,
            events.unhandled,
            settings.acknowledged,
            settings.lost,
            prices.written,
            prices.reads,
            prices.too_young,
            prices.outlived,
            prices.went_back,
            health.heartbeats,
            health.wrongly_stale,
            health.silent,
            health.wrongly_fresh,
            self.ids,
            self.ids_out_of_order,
        );
        for back in &self.back {
            text += &format!(
                "back        after {}: rows {} ms, prices {} ms, events {} ms (of a dead consumer {} ms), settings {} ms, \
                 heartbeats {} ms\n",
                back.after,
                back.rows_ms,
                back.prices_ms,
                back.events_ms,
                back.orphans_ms,
                back.settings_ms,
                back.health_ms
            );
        }
        text
    }
}

/// All of it, at work.
pub(super) struct Whole {
    config: Config,
    runtime: Runtime,
    over: Arc<AtomicBool>,
    market: Arc<Market>,
    seen: Arc<Seen>,
    book: Arc<Book>,
    pulses: Arc<Pulses>,
    ids: Ids,
    tasks: Vec<(&'static str, JoinHandle<anyhow::Result<()>>)>,
    consumer: JoinHandle<tripod::Result<()>>,
    settled: Arc<AtomicBool>,
}

impl Whole {
    /// Starts every part; the servers must answer now.
    pub(super) fn start(config: &Config) -> anyhow::Result<Self> {
        let mut config = config.clone();
        // Nothing is trimmed: what is not there is lost. What a consumer held when its server died comes again soon.
        (config.events.cap, config.events.claim_after_ms) = (10_000_000, 1000);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let (over, settled) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let market = Arc::new(Market::new()?);
        let (seen, book, pulses) = (Arc::<Seen>::default(), Arc::<Book>::default(), Arc::<Pulses>::default());
        let mut tasks: Vec<(&'static str, JoinHandle<anyhow::Result<()>>)> = Vec::new();
        let feed = runtime.block_on(market.connect(&config))?;
        let prices = runtime.block_on(patiently(async || Prices::connect(&config).await))?;
        tasks.push(("writer of prices", runtime.spawn(prices::write(Arc::clone(&market), prices, over.clone()))));
        tasks.push(("reader of prices", runtime.spawn(prices::read(Arc::clone(&market), feed.clone(), over.clone()))));
        market.watch_memory(feed, Arc::clone(&over))?;
        let events = runtime.block_on(patiently(async || Events::connect(&config).await))?;
        let consumer = async || events.consumer(TOPIC, GROUP, ConsumerOptions::default()).await;
        let mut consumer = runtime.block_on(patiently(consumer))?;
        tasks.push(("publisher", runtime.spawn(events_witness::publish(events, Arc::clone(&seen)))));
        let (handled, until) = (Arc::clone(&seen), Arc::clone(&settled));
        let consumer = runtime.spawn(async move {
            let handler = |event: Event| {
                handled.handle(&event);
                std::future::ready(Ok::<_, std::convert::Infallible>(()))
            };
            let until = async {
                while !until.load(Ordering::Relaxed) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            consumer.run(handler, until).await
        });
        tasks.push((
            "writer of settings",
            runtime.spawn(settings::write(Arc::clone(&book), config.clone(), over.clone())),
        ));
        tasks.push(("heartbeats", runtime.spawn(health::beat(Arc::clone(&pulses), config.clone(), over.clone()))));
        let ids = Ids::start(Arc::clone(&over))?;
        Ok(Self { config, runtime, over, market, seen, book, pulses, ids, tasks, consumer, settled })
    }

    /// Before a break: a price that is written this once, a consumer that dies with events in its hands, a component that
    /// falls silent. What is told of them later must be true.
    pub(super) fn leave_traces(&self) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            self.market.write_once(&self.config).await?;
            self.seen.orphan(&self.config).await?;
            self.pulses.fall_silent(&self.config).await
        })
    }

    /// Afterwards: whether the components that fell silent are called overdue.
    pub(super) fn look_for_traces(&self) -> anyhow::Result<()> {
        self.runtime.block_on(self.pulses.look_for_silent(&self.config))
    }

    /// What each part does from now on counts as after the break.
    pub(super) fn mark(&self) {
        self.parts().into_iter().for_each(|(_, pulse)| pulse.mark());
    }

    fn parts(&self) -> [(&'static str, &Pulse); 5] {
        [
            ("prices", &self.market.pulse),
            ("events", &self.seen.pulse),
            ("events of a dead consumer", &self.seen.orphan_pulse),
            ("settings", &self.book.pulse),
            ("heartbeats", &self.pulses.pulse),
        ]
    }

    /// Waits until each part has done something since the mark; how long that took. `rows` is the rows' own time.
    pub(super) fn await_back(&self, after: &str, rows: Duration, within: Duration) -> anyhow::Result<Back> {
        let end = Instant::now() + within;
        loop {
            if let [Some(prices), Some(events), Some(orphans), Some(settings), Some(health)] =
                self.parts().map(|(_, pulse)| pulse.first())
            {
                return Ok(Back {
                    after: after.to_owned(),
                    rows_ms: millis(rows),
                    prices_ms: millis(prices),
                    events_ms: millis(events),
                    orphans_ms: millis(orphans),
                    settings_ms: millis(settings),
                    health_ms: millis(health),
                });
            }
            if Instant::now() >= end {
                let missing = self.parts().into_iter().filter(|(_, pulse)| pulse.first().is_none());
                let missing: Vec<&str> = missing.map(|(name, _)| name).collect();
                let what = format!("after {after} there is no success within {within:?} of: {}", missing.join(", "));
                return Err(Stop::untrue(what, "the logs of the drill's own servers say what they were doing").into());
            }
            pause(LOOK_EVERY);
        }
    }

    /// Ends every part, settles the events, and asks the servers what is there.
    pub(super) fn end(self, back: Vec<Back>) -> anyhow::Result<Work> {
        self.over.store(true, Ordering::Relaxed);
        self.seen.over.store(true, Ordering::Relaxed);
        let Self { config, runtime, market, seen, book, pulses, ids, tasks, consumer, settled, .. } = self;
        let (ids, ids_out_of_order) = ids.end()?;
        runtime.block_on(async {
            for (name, task) in tasks {
                task.await
                    .map_err(|_| anyhow!("the {name} panicked"))?
                    .with_context(|| format!("the {name} failed"))?;
            }
            let end = Instant::now() + SETTLE_WITHIN;
            while Instant::now() < end && !seen.all_handled() && !consumer.is_finished() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            settled.store(true, Ordering::Relaxed);
            consumer.await.map_err(|_| anyhow!("the consumer panicked"))?.context("the consumer failed")?;
            // Anew: these answers owe nothing to what the parts knew.
            let events = patiently(async || Events::connect(&config).await).await?;
            Ok(Work {
                events: events_witness::count(&events, &seen).await?,
                settings: book.count(&config).await?,
                prices: market.counts()?,
                health: pulses.counts(),
                ids,
                ids_out_of_order,
                back,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Work {
        Work {
            events: EventCounts { acknowledged: 1, ..EventCounts::default() },
            settings: SettingCounts { acknowledged: 1, ..SettingCounts::default() },
            prices: PriceCounts { reads: 1, ..PriceCounts::default() },
            health: HealthCounts { heartbeats: 1, ..HealthCounts::default() },
            back: vec![Back { prices_ms: FRESH_WITHIN_MS, ..Back::default() }],
            ..Work::default()
        }
    }

    #[test]
    fn each_broken_promise_is_named_and_only_those() {
        assert_eq!(good().broken(), Vec::<String>::new());
        let with = |change: fn(&mut Work)| {
            let mut work = good();
            change(&mut work);
            work.broken()
        };
        let changes: [fn(&mut Work); 14] = [
            |work| work.events.lost = 1,
            |work| work.events.doubled = 1,
            |work| work.events.unhandled = 1,
            |work| work.settings.lost = 1,
            |work| work.prices.too_young = 1,
            |work| work.prices.outlived = 1,
            |work| work.prices.went_back = 1,
            |work| work.health.wrongly_stale = 1,
            |work| work.health.wrongly_fresh = 1,
            |work| work.ids_out_of_order = 1,
            |work| work.back[0].prices_ms += 1,
            |work| work.events.acknowledged = 0,
            |work| work.settings.acknowledged = 0,
            |work| work.health.heartbeats = 0,
        ];
        for change in changes {
            assert_eq!(with(change).len(), 1, "{:?}", with(change));
        }
    }

    #[test]
    fn a_pulse_tells_of_calls_that_began_after_the_mark_alone() {
        let (pulse, before) = (Pulse::default(), Instant::now());
        pulse.beat(before);
        pulse.mark();
        pulse.beat(before);
        assert_eq!(pulse.first(), None);
        pulse.beat(Instant::now() + Duration::from_millis(1));
        let first = pulse.first();
        assert!(first.is_some());
        pulse.beat(Instant::now() + Duration::from_secs(1));
        assert_eq!(pulse.first(), first, "the first one counts");
        pulse.mark();
        assert_eq!(pulse.first(), None);
    }
}
