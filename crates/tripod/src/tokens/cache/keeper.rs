//! The one task that writes memory: it listens, and looks.
//!
//! Constraints: it listens first and looks then, so that nothing falls between. It never gives up: a server that is away
//! is asked again at each interval. At most one look runs; the notices that come meanwhile are one further look.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::CacheOptions;
use super::changes::{self, Place, State};
use super::memory::{Memory, Start};
use crate::config;
use crate::error::Result;
use crate::postgres::{Listener, Login, Postgres};

/// The channel that the tokens' trigger speaks on.
const CHANNEL: &str = "tripod_tokens";

pub(super) struct Keeper {
    config: config::Postgres,
    poll_interval: Duration,
    /// For everything at once.
    filling: Postgres,
    /// For looks: with the bot's own deadline.
    looking: Postgres,
    memory: Arc<Memory>,
    heard: Arc<Notify>,
    listener: Option<Listener>,
    seen: Option<State>,
    in_trouble: bool,
}

impl Keeper {
    /// Reads everything into memory, and gives who keeps it from then on.
    pub(super) async fn open(config: config::Postgres, options: CacheOptions) -> Result<(Self, Arc<Memory>)> {
        // Connections of its own, one each: a bot that has used up its pool still hears of changes.
        let config = config::Postgres { pool_size: 1, ..config };
        let filling = Postgres::open_as(&config, Login::Bot, options.fill_deadline)?;
        let looking = Postgres::open(&config)?;
        let began = Instant::now();
        let (start, state) = filling
            .call("read all tokens", async |client| {
                let mut start = Start::with_room(changes::about_how_many(client).await?);
                let state = changes::everything(client, |token| start.put(token)).await?;
                Ok((start, state))
            })
            .await?;
        let memory = Arc::new(Memory::new(start));
        memory.looked(began, 0);
        tracing::info!(tokens = memory.len(), elapsed_ms = began.elapsed().as_millis(), "tokens are in memory");
        let keeper = Self {
            poll_interval: options.poll_interval,
            filling,
            looking,
            config,
            memory: Arc::clone(&memory),
            heard: Arc::new(Notify::new()),
            listener: None,
            seen: Some(state),
            in_trouble: false,
        };
        Ok((keeper, memory))
    }

    /// Reads everything again.
    async fn fill(&mut self) -> Result<()> {
        let began = Instant::now();
        let memory = &self.memory;
        let (state, taken) = self
            .filling
            .call("read all tokens", async |client| {
                let mut taken = 0_u64;
                let state = changes::everything(client, |token| taken += u64::from(memory.put(token))).await?;
                Ok((state, taken))
            })
            .await?;
        self.memory.looked(began, taken);
        tracing::info!(
            tokens = self.memory.len(),
            elapsed_ms = began.elapsed().as_millis(),
            "all tokens were read again"
        );
        self.seen = Some(state);
        Ok(())
    }

    pub(super) async fn run(mut self) {
        loop {
            self.listen().await;
            match self.look().await {
                Ok(()) => self.in_trouble = false,
                Err(error) if self.in_trouble => tracing::debug!(%error, "tokens in memory are still not refreshed"),
                Err(error) => {
                    self.in_trouble = true;
                    tracing::warn!(%error, "tokens in memory are not refreshed; reads go on, their age grows");
                }
            }
            // Passing time is the other reason to look.
            let _ = tokio::time::timeout(self.poll_interval, self.heard.notified()).await;
        }
    }

    async fn listen(&mut self) {
        if self.listener.as_ref().is_some_and(|listener| !listener.is_closed()) {
            return;
        }
        self.memory.set_listening(false);
        self.listener = None;
        let opened = Listener::open(&self.config, self.looking.deadline(), CHANNEL, Arc::clone(&self.heard)).await;
        match opened {
            Ok(listener) => {
                self.listener = Some(listener);
                self.memory.set_listening(true);
            }
            Err(error) => tracing::debug!(%error, "nobody listens for token changes; they come by the clock"),
        }
    }

    /// Takes what was written since the last look.
    async fn look(&mut self) -> Result<()> {
        let began = Instant::now();
        let state = self.looking.call("look for token changes", async |client| changes::state(client).await).await?;
        let mut place = match &self.seen {
            Some(seen) if seen.server == state.server => Place::from(seen),
            _ => return self.fill().await,
        };
        let mut taken = 0;
        loop {
            let from = &place;
            let (tokens, end) =
                self.looking.call("read token changes", async |client| changes::page(client, from).await).await?;
            for token in tokens {
                taken += u64::from(self.memory.put(token));
            }
            match end {
                Some(end) => place = end,
                None => break,
            }
        }
        self.seen = Some(state);
        self.memory.looked(began, taken);
        Ok(())
    }
}
