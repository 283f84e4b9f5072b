//! Latest prices: fast to read, guarded against going back, gone when they are old.
//!
//! Constraints: `price:TOKEN` holds the bare decimal with a short life, so that any client can `GET` it. An older slot
//! never replaces a newer one, whoever writes, also after the price itself has expired. No price is ever zero,
//! negative or a float, none outlives its life, here or in memory, and each says how old it is or that nobody knows.
//!
//! Picture (a prefix, where one is set, stands before each):
//! ```text
//! price:TOKEN[:VENUE]           1.2345                                         PX ttl_ms
//! guard:{price:TOKEN[:VENUE]}   1.2345 298417223 1763902800123 jupiter         PX guard_ttl_ms
//! channel prices                one message a batch, one line per accepted price
//! ```
//! The millisecond in a guard is the Redis server's own: writers whose clocks are wrong do no harm, and an age is what
//! passed on one clock.
//!
//! Operation: [`Prices::write`] sends up to 100 prices a script call; the script compares slots, writes both keys and
//! publishes. [`Prices::read`] gets both keys at once; where the guard's decimal is not the price's, somebody else wrote
//! the price: value known, slot and age unknown. [`Prices::latest`] reads memory, which this process's own writes fill,
//! and with [`Prices::follow`] everybody's; [`Prices::watch`] tells what has changed there.

mod clock;
mod feed;
mod memory;
mod stats;
mod survey;
mod watch;
mod wire;
mod write;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::redis::cmd;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::error::{Error, Result, Server};
use crate::redis::{Label, Link, check_prefix};
use crate::value::{Decimal, Token};

use clock::ServerClock;
use memory::{Key, Memory};
use watch::Queue;
use wire::Keys;
use write::check_count;

pub use memory::TOKENS_MAX as MEMORY_TOKENS_MAX;
pub use stats::PriceStats;
pub(crate) use survey::time_of;
pub use survey::{PriceLook, PriceSurvey, REMEMBERED, SurveyedPrice, TOKENS_MAX as SURVEY_TOKENS_MAX};
pub use watch::{PriceChange, PriceWatch};
pub use write::{PriceUpdate, WriteReport};

/// Prices in one call of [`Prices::write`] or [`Prices::read_many`]; what waits in the process is bounded by it.
pub const CALL_MAX: usize = 10_000;

/// The largest slot: what Lua's numbers hold exactly.
pub const SLOT_MAX: u64 = (1 << 53) - 1;

/// Life that [`Prices::cache_price`] takes: 1 ms to this.
pub const TTL_MAX: Duration = Duration::from_secs(60);

/// One price as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Price {
    /// The price.
    pub value: Decimal,
    /// The slot it was seen in; `None` where somebody wrote it without one.
    pub slot: Option<u64>,
    /// How long ago it was written, by the Redis server's clock; `None` where somebody wrote it who does not keep the
    /// guard, or with a time that is still to come. Memory gives no price whose age it does not know; there it is rounded
    /// up, by three ticks of the kernel's clock at most (12 ms at its usual 250 Hz).
    pub age: Option<Duration>,
    /// Who wrote it.
    pub source: Option<Label>,
}

/// A price judged by the caller's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Not older than the limit.
    Fresh,
    /// Older, or of unknown age, which is not a proof of freshness.
    Stale {
        /// How old, where it is known.
        age: Option<Duration>,
    },
}

impl Price {
    /// Judges the price by its age, never by its being there.
    #[must_use]
    pub fn freshness(&self, limit: Duration) -> Freshness {
        match self.age {
            Some(age) if age <= limit => Freshness::Fresh,
            age => Freshness::Stale { age },
        }
    }
}

/// The handle. Clones share connection and memory.
#[derive(Debug, Clone)]
pub struct Prices {
    link: Link,
    keys: Arc<Keys>,
    memory: Arc<Memory>,
    clock: Arc<ServerClock>,
    /// Keeps the clock.
    _keeper: Arc<Task>,
    follower: Arc<OnceLock<Task>>,
    fed: Arc<feed::Tally>,
    written: Arc<write::Tally>,
    ttl: Duration,
    guard_ttl: Duration,
}

/// A task that ends with the last handle.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Prices {
    /// Connects to `[redis.prices]`. The link reconnects by itself from then on.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong address or prefix, [`Error::Refused`] for a wrong login, [`Error::Unreachable`] or
    /// [`Error::Deadline`] where nobody answers.
    pub async fn connect(config: &Config) -> Result<Self> {
        check_prefix("prices.key_prefix", &config.prices.key_prefix)?;
        let link = Link::connect(&config.redis.prices, Server::RedisPrices).await?;
        let clock = Arc::new(ServerClock::set(&link).await?);
        let keeper = {
            let (link, clock) = (link.clone(), Arc::clone(&clock));
            tokio::spawn(async move { clock.keep(&link).await })
        };
        let guard_ttl = Duration::from_millis(config.prices.guard_ttl_ms);
        Ok(Self {
            link,
            keys: Arc::new(Keys::new(&config.prices.key_prefix)),
            memory: Arc::new(Memory::new(MEMORY_TOKENS_MAX, guard_ttl)),
            clock,
            _keeper: Arc::new(Task(keeper)),
            follower: Arc::default(),
            fed: Arc::default(),
            written: Arc::default(),
            ttl: Duration::from_millis(config.prices.ttl_ms),
            guard_ttl,
        })
    }

    /// The connection, for `ping` and `status`.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The specification's read: the value alone, `None` where there is none (any more).
    ///
    /// # Errors
    /// As [`Prices::read`].
    pub async fn get_cached_price(&self, token: &str) -> Result<Option<Decimal>> {
        Ok(self.read(&Token::new(token)?).await?.map(|price| price.value))
    }

    /// Reads the token's price from Redis; `None` where there is none (any more).
    ///
    /// # Errors
    /// [`Error::Invalid`] where somebody wrote a value that is no price; otherwise as every call of [`Link`].
    pub async fn read(&self, token: &Token) -> Result<Option<Price>> {
        self.read_pair(token, None).await
    }

    /// Reads the price at one venue.
    ///
    /// # Errors
    /// As [`Prices::read`].
    pub async fn read_at(&self, token: &Token, venue: Label) -> Result<Option<Price>> {
        self.read_pair(token, Some(venue)).await
    }

    /// Reads many tokens in one round trip. The answers stand in the order of `tokens`; one that nobody can read is an
    /// error of its own and does not hide the others.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than [`CALL_MAX`] at once; otherwise as every call of [`Link`].
    pub async fn read_many(&self, tokens: &[Token]) -> Result<Vec<Result<Option<Price>>>> {
        check_count(tokens.len())?;
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let (mut command, mut text) = (cmd("MGET"), String::new());
        for token in tokens {
            self.keys.add_pair(&mut command, &mut text, token, None);
        }
        let texts: Vec<Option<String>> = self.link.query("read prices", &command).await?;
        let now = self.clock.now();
        let pairs = texts.chunks_exact(2).zip(tokens);
        Ok(pairs.map(|(pair, token)| wire::price_of(token, pair[0].as_deref(), pair[1].as_deref(), now)).collect())
    }

    /// The newest prices that the guards still know, also after the prices' own lives (for `guard_ttl_ms`): for proofs and
    /// screens, not to trade on. The answers stand in the order of `tokens`; `None` where there is no guard, or no
    /// readable one.
    ///
    /// # Errors
    /// As [`Prices::read_many`].
    pub async fn last_known(&self, tokens: &[Token]) -> Result<Vec<Option<Price>>> {
        check_count(tokens.len())?;
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let (mut command, mut text) = (cmd("MGET"), String::new());
        for token in tokens {
            self.keys.write_guard(&mut text, token, None);
            command.arg(text.as_str());
        }
        let guards: Vec<Option<String>> = self.link.query("read guards", &command).await?;
        let now = self.clock.now();
        Ok(guards.iter().map(|guard| wire::price_of_guard(guard.as_deref()?, now)).collect())
    }

    /// The newest price that this process knows, from memory: no wait, no network, also while Redis is away. `None`
    /// after the price's life, and where nobody can tell when that ends: for a moment after the server's clock was set.
    #[must_use]
    pub fn latest(&self, token: &Token) -> Option<Price> {
        self.memory.get(token, None)
    }

    /// [`Prices::latest`] of one venue.
    #[must_use]
    pub fn latest_at(&self, token: &Token, venue: Label) -> Option<Price> {
        self.memory.get(token, Some(&venue))
    }

    /// Feeds memory with what every process writes, until the last handle is dropped. When it returns Ok, what is written
    /// from then on arrives; a price written before is there after its next write. After a lost connection, or when
    /// this process was too slow, the tokens it knows are read again. Memory holds [`MEMORY_TOKENS_MAX`] tokens and venues;
    /// at the limit those go that nobody has written for longer than a guard lives. A second call changes nothing.
    ///
    /// # Errors
    /// As [`Prices::connect`]; [`Error::Refused`] where the user may not read the channel.
    pub async fn follow(&self) -> Result<()> {
        if self.follower.get().is_some() {
            return Ok(());
        }
        let (link, keys, memory) = (self.link.clone(), Arc::clone(&self.keys), Arc::clone(&self.memory));
        let feed = feed::Feed::open(link, keys, memory, Arc::clone(&self.clock), Arc::clone(&self.fed)).await?;
        // Lost to a second call at the same time: that one's feed does the same, this one ends by its drop.
        drop(self.follower.set(Task(tokio::spawn(feed.run()))));
        Ok(())
    }

    /// Follows, and tells which of `tokens` (and venues) has another price than before. When it returns Ok, the prices
    /// that are in Redis now wait to be taken, and every change from then on does: at most one for each token, always
    /// the newest. After a gap what has changed meanwhile is told.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no token or more than [`CALL_MAX`]; otherwise as [`Prices::follow`].
    pub async fn watch(&self, tokens: &[(Token, Option<Label>)]) -> Result<PriceWatch> {
        check_count(tokens.len())?;
        if tokens.is_empty() {
            return Err(Error::invalid("tokens", "are none; `watch_all` watches every one"));
        }
        let keys: Vec<Key> = tokens.iter().map(|(token, venue)| Key { token: *token, venue: *venue }).collect();
        let wanted: HashSet<Key> = keys.iter().copied().collect();
        let queue = Arc::new(Queue::new(Some(wanted), tokens.len()));
        let watch = PriceWatch::new(self.clone(), Arc::clone(&queue));
        self.follow().await?;
        feed::reload(&self.link, &self.keys, &self.memory, &self.clock, &keys).await?;
        // What memory had already is no news to it, but to this receiver.
        for key in keys.into_iter().filter(|key| self.memory.get(&key.token, key.venue.as_ref()).is_some()) {
            queue.push_quietly(key);
        }
        Ok(watch)
    }

    /// The same for every token that anybody writes, from now on. `waiting_max` tokens may wait to be taken; beyond it the
    /// oldest changes are skipped and counted.
    ///
    /// # Errors
    /// As [`Prices::follow`].
    pub async fn watch_all(&self, waiting_max: usize) -> Result<PriceWatch> {
        let limit = waiting_max.clamp(1, MEMORY_TOKENS_MAX);
        let watch = PriceWatch::new(self.clone(), Arc::new(Queue::new(None, limit)));
        self.follow().await?;
        Ok(watch)
    }

    async fn read_pair(&self, token: &Token, venue: Option<Label>) -> Result<Option<Price>> {
        let mut command = cmd("MGET");
        self.keys.add_pair(&mut command, &mut String::new(), token, venue.as_ref());
        let (price, guard): (Option<String>, Option<String>) = self.link.query("read price", &command).await?;
        wire::price_of(token, price.as_deref(), guard.as_deref(), self.clock.now())
    }
}
