//! Asks PostgreSQL: how it is, what components say, what changed about tokens.

use std::time::{Duration, Instant};

use tripod::config;
use tripod::health::{Component, Health};
use tripod::postgres::{Login, Postgres, PostgresLook, PostgresSurvey};
use tripod::tokens::{RecentChange, Tokens};

use super::standing::words;
use super::{Asked, Asks};

/// Between two looks at what changed about tokens.
const CHANGES_EVERY: Duration = Duration::from_secs(5);
/// Between two counts of them: each reads an index.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// Changes that are shown.
const CHANGES_MAX: u32 = 20;
/// Connections of each of the two logins.
const POOL_SIZE: usize = 1;

/// What is known of it.
#[derive(Debug, Clone)]
pub(in crate::monitor) struct PostgresFacts {
    pub(in crate::monitor) look: PostgresLook,
    pub(in crate::monitor) components: Vec<Component>,
    pub(in crate::monitor) tokens: Option<u64>,
    pub(in crate::monitor) changes: Vec<RecentChange>,
}

#[derive(Debug)]
pub(super) struct Asker {
    survey: PostgresSurvey,
    health: Health,
    tokens: Tokens,
    count: Option<u64>,
    counted_at: Option<Instant>,
    changes: Vec<RecentChange>,
    changes_at: Option<Instant>,
}

impl Asker {
    pub(super) fn new(settings: &config::Postgres, answer_within: Duration) -> tripod::Result<Self> {
        let mut settings = settings.clone();
        settings.pool_size = POOL_SIZE;
        // The operator's login sees the standbys, the bot's the tables.
        let admin = Postgres::open_as(&settings, Login::Admin, answer_within)?;
        let bot = Postgres::open_as(&settings, Login::Bot, answer_within)?;
        Ok(Self {
            survey: PostgresSurvey::new(admin),
            health: Health::new(bot.clone()),
            tokens: Tokens::new(bot),
            count: None,
            counted_at: None,
            changes: Vec::new(),
            changes_at: None,
        })
    }

    /// Components each time, tokens now and then.
    async fn tables(&mut self) -> tripod::Result<Vec<Component>> {
        let components = self.health.list().await?;
        let is_due = |at: Option<Instant>, every| at.is_none_or(|at| at.elapsed() >= every);
        if is_due(self.changes_at, CHANGES_EVERY) {
            self.changes = self.tokens.recent_changes(CHANGES_MAX).await?;
            self.changes_at = Some(Instant::now());
        }
        if is_due(self.counted_at, COUNT_EVERY) {
            self.count = Some(self.tokens.count().await?);
            self.counted_at = Some(Instant::now());
        }
        Ok(components)
    }
}

impl Asks for Asker {
    type Facts = PostgresFacts;

    async fn ask(&mut self) -> tripod::Result<Asked<PostgresFacts>> {
        let look = self.survey.look().await?;
        // A schema that is behind, or a right that lacks, is not an absence.
        let (components, mut wrong) = match self.tables().await {
            Ok(components) => (components, None),
            Err(error) => {
                (self.count, self.counted_at, self.changes_at) = (None, None, None);
                self.changes.clear();
                (Vec::new(), Some(words(&error)))
            }
        };
        if let Some((file, times)) = &look.archive_failing {
            let failing = format!("archiving fails, {times} times so far, last of {file}");
            wrong = Some(wrong.map_or(failing.clone(), |wrong| format!("{wrong}; {failing}")));
        }
        Ok(Asked {
            version: look.version.clone(),
            latency: look.took,
            clock_skew: Some(look.clock_skew),
            wrong,
            facts: PostgresFacts { look, components, tokens: self.count, changes: self.changes.clone() },
        })
    }
}
