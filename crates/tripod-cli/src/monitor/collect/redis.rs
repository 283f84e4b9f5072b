//! Asks the two Redis: prices, and events with their sentinels.

use std::time::{Duration, Instant};

use tripod::events::{StreamLook, StreamSurvey};
use tripod::prices::{PriceLook, PriceSurvey};
use tripod::redis::{Instance, Link, SentinelSaid};
use tripod::{Config, Server, config};

use super::{Asked, Asks};

/// Prices that are listed: the oldest ones.
const LIST_MAX: usize = 50;
/// Between two questions to the sentinels; each is a connection of its own.
const QUORUM_EVERY: Duration = Duration::from_secs(5);

pub(in crate::monitor) type PricesFacts = PriceLook;

/// What is known of the events' instance.
#[derive(Debug, Clone)]
pub(in crate::monitor) struct EventsFacts {
    pub(in crate::monitor) look: StreamLook,
    /// What each sentinel says; empty without them.
    pub(in crate::monitor) sentinels: Vec<SentinelSaid>,
}

/// A link that is made at the first question that finds the server.
#[derive(Debug)]
struct Connection {
    settings: config::Redis,
    server: Server,
    link: Option<Link>,
}

impl Connection {
    fn new(settings: &config::Redis, server: Server, answer_within: Duration) -> Self {
        let mut settings = settings.clone();
        let within = u64::try_from(answer_within.as_millis()).unwrap_or(u64::MAX);
        settings.deadline_ms = settings.deadline_ms.min(within);
        Self { settings, server, link: None }
    }

    async fn link(&mut self) -> tripod::Result<Link> {
        if let Some(link) = &self.link {
            return Ok(link.clone());
        }
        let link = Link::connect_admin(&self.settings, self.server).await?;
        Ok(self.link.insert(link).clone())
    }
}

fn wrong_with(instance: &Instance) -> Option<String> {
    let failing = "the last write to its append-only file failed";
    (!instance.append_only_ok).then(|| failing.to_owned())
}

#[derive(Debug)]
pub(super) struct Prices {
    connection: Connection,
    survey: PriceSurvey,
}

impl Prices {
    pub(super) fn new(config: &Config, answer_within: Duration) -> Self {
        let connection = Connection::new(&config.redis.prices, Server::RedisPrices, answer_within);
        Self { connection, survey: PriceSurvey::new(config) }
    }
}

impl Asks for Prices {
    type Facts = PricesFacts;

    async fn ask(&mut self) -> tripod::Result<Asked<PricesFacts>> {
        let link = self.connection.link().await?;
        let look = self.survey.look(&link, LIST_MAX).await?;
        Ok(Asked {
            version: look.instance.version.clone(),
            latency: look.took,
            clock_skew: Some(look.clock_skew),
            wrong: wrong_with(&look.instance),
            facts: look,
        })
    }
}

#[derive(Debug)]
pub(super) struct Events {
    connection: Connection,
    survey: StreamSurvey,
    sentinels: Vec<SentinelSaid>,
    sentinels_at: Option<Instant>,
}

impl Events {
    pub(super) fn new(config: &Config, answer_within: Duration) -> Self {
        let connection = Connection::new(&config.redis.events, Server::RedisEvents, answer_within);
        let survey = StreamSurvey::new(config);
        Self { connection, survey, sentinels: Vec::new(), sentinels_at: None }
    }
}

impl Asks for Events {
    type Facts = EventsFacts;

    async fn ask(&mut self) -> tripod::Result<Asked<EventsFacts>> {
        let link = self.connection.link().await?;
        let look = self.survey.look(&link).await?;
        if self.sentinels_at.is_none_or(|at| at.elapsed() >= QUORUM_EVERY) {
            self.sentinels = link.quorum().await;
            self.sentinels_at = Some(Instant::now());
        }
        Ok(Asked {
            version: look.instance.version.clone(),
            latency: look.took,
            clock_skew: Some(look.clock_skew),
            wrong: wrong_with(&look.instance),
            facts: EventsFacts { look, sentinels: self.sentinels.clone() },
        })
    }
}
