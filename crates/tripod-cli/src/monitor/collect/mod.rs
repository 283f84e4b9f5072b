//! One collector a server: each asks its own, each second, and leaves what it found for the sampler.
//!
//! Constraints: a server that hangs or is gone delays nobody else; each question has a deadline; nobody who looks at the
//! monitor causes a question. A server that does not answer keeps none of its facts, so nothing old is shown as new; one
//! late answer is not an absence yet.
//!
//! Picture:
//! ```text
//! questdb  ─┐ ask ≤ 1.5 s, each second
//! postgres ─┤                          ┌──────────┐
//! prices   ─┼─▶ Part: standing, facts ─▶│ watch(…) │─▶ sampler
//! events   ─┘                          └──────────┘
//! files    ──▶ bots' journals, disks, drills, retention
//! ```

mod files;
mod postgres;
mod questdb;
mod redis;
mod standing;

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tripod::{Config, Timestamp};

pub(super) use files::Files;
pub(super) use postgres::PostgresFacts;
pub(super) use redis::{EventsFacts, PricesFacts};
pub(super) use standing::Standing;

use super::Places;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// One question ends within this.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);

/// What a collector found.
#[derive(Debug)]
pub(super) struct Asked<F> {
    pub(super) facts: F,
    pub(super) version: String,
    pub(super) latency: Duration,
    pub(super) clock_skew: Option<Duration>,
    /// It answers, and this is wrong.
    pub(super) wrong: Option<String>,
}

/// Asks one server.
pub(super) trait Asks: Send + 'static {
    type Facts: Send + Sync + 'static;

    fn ask(&mut self) -> impl Future<Output = tripod::Result<Asked<Self::Facts>>> + Send;
}

/// One server as its collector knows it.
#[derive(Debug)]
pub(super) struct Part<F> {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) address: String,
    pub(super) required: bool,
    pub(super) standing: Standing,
    pub(super) version: Option<String>,
    pub(super) latency: Option<Duration>,
    pub(super) clock_skew: Option<Duration>,
    /// Of the last answer; none while it is down.
    pub(super) facts: Option<F>,
    /// How long the last asking took.
    pub(super) took: Option<Duration>,
    pub(super) failures: u64,
}

impl<F> Part<F> {
    fn new(name: impl Into<String>, kind: &'static str, address: String) -> Self {
        Self {
            name: name.into(),
            kind,
            address,
            required: true,
            standing: Standing::new(Timestamp::now()),
            version: None,
            latency: None,
            clock_skew: None,
            facts: None,
            took: None,
            failures: 0,
        }
    }

    fn note(&mut self, asked: tripod::Result<Asked<F>>, took: Duration, now: Timestamp) {
        self.took = Some(took);
        match asked {
            Ok(Asked { facts, version, latency, clock_skew, wrong }) => {
                self.standing.answered(wrong, now);
                (self.facts, self.version) = (Some(facts), Some(version));
                (self.latency, self.clock_skew) = (Some(latency), clock_skew);
            }
            Err(error) => {
                self.failures += 1;
                self.standing.failed(&error, now);
                if self.standing.is_down() {
                    (self.facts, self.version, self.latency, self.clock_skew) = (None, None, None, None);
                }
            }
        }
    }
}

/// Where the sampler looks.
#[derive(Debug)]
pub(super) struct Sources {
    /// With the sink's name in the config.
    pub(super) questdb: Vec<(String, watch::Receiver<Part<tripod::tape::TapeLook>>)>,
    pub(super) postgres: watch::Receiver<Part<PostgresFacts>>,
    pub(super) prices: watch::Receiver<Part<PricesFacts>>,
    pub(super) events: watch::Receiver<Part<EventsFacts>>,
    pub(super) files: watch::Receiver<Files>,
}

impl Sources {
    /// Starts the collectors; they run as long as the runtime.
    ///
    /// # Errors
    /// What the config says cannot be asked at all: an address without a port, a certificate file that is not there.
    pub(super) fn start(config: &Config, places: &Places) -> tripod::Result<Self> {
        let mut questdb = Vec::new();
        for (number, server) in config.questdb.iter().enumerate() {
            let mut part = Part::new(crate::commands::questdb_name(config, number), "questdb", server.http.clone());
            part.required = server.required;
            questdb.push((server.name.clone(), run(questdb::Asker::new(server, ANSWER_WITHIN)?, part)));
        }
        let postgres = postgres::Asker::new(&config.postgres, ANSWER_WITHIN)?;
        let hosts = config.postgres.hosts.join(", ");
        Ok(Self {
            questdb,
            postgres: run(postgres, Part::new("postgres", "postgres", hosts)),
            prices: run(
                redis::Prices::new(config, ANSWER_WITHIN),
                Part::new("redis-prices", "redis", config.redis.prices.addresses.join(", ")),
            ),
            events: run(
                redis::Events::new(config, ANSWER_WITHIN),
                Part::new("redis-events", "redis", config.redis.events.addresses.join(", ")),
            ),
            files: files::run(config, places),
        })
    }

    /// Waits until each of them has looked once.
    pub(super) async fn looked(&mut self) {
        async fn once<F: Send + Sync>(part: &mut watch::Receiver<Part<F>>) {
            // An error means that the collector has ended: the sampler will say so.
            let _ = part.wait_for(|part| part.took.is_some()).await;
        }
        for (_, part) in &mut self.questdb {
            once(part).await;
        }
        once(&mut self.postgres).await;
        once(&mut self.prices).await;
        once(&mut self.events).await;
        let _ = self.files.wait_for(|files| files.looked_at.is_some()).await;
    }
}

fn run<A: Asks>(mut asker: A, part: Part<A::Facts>) -> watch::Receiver<Part<A::Facts>> {
    let (sender, receiver) = watch::channel(part);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let start = Instant::now();
            let asked = asker.ask().await;
            let (took, now) = (start.elapsed(), Timestamp::now());
            sender.send_modify(|part| part.note(asked, took, now));
        }
    });
    receiver
}
