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
//! Operation: [`Prices::write`] sends up to 100 prices a script call; the script compares slots, writes both keys and
//! publishes. [`Prices::read`] gets both keys at once; where the guard's decimal is not the price's, somebody else wrote
//! the price: value known, slot and age unknown. [`Prices::latest`] reads memory, which this process's own writes fill,
//! and with [`Prices::follow`] everybody's.

mod feed;
mod memory;
mod wire;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::redis::cmd;
use futures_util::future::try_join_all;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::error::{Error, Result, Server};
use crate::redis::{Label, Link, PRICE_WRITE, check_prefix};
use crate::value::{Decimal, Timestamp, Token};

use memory::Memory;
use wire::Keys;

pub use memory::TOKENS_MAX as MEMORY_TOKENS_MAX;

/// Prices in one script call. More: fewer calls, but the server does nothing else for about 4 µs each.
const BATCH_MAX: usize = 100;

/// Prices in one call of [`Prices::write`] or [`Prices::read_many`]; what waits in the process is bounded by it.
pub const CALL_MAX: usize = 10_000;

/// The largest slot: what Lua's numbers hold exactly.
pub const SLOT_MAX: u64 = (1 << 53) - 1;

/// Life that [`Prices::cache_price`] takes: 1 ms to this.
pub const TTL_MAX: Duration = Duration::from_secs(60);

/// One price to be written.
#[derive(Debug, Clone, Copy)]
pub struct PriceUpdate {
    /// What is priced.
    pub token: Token,
    /// The price; more than zero.
    pub value: Decimal,
    /// The slot it was seen in, 1 to [`SLOT_MAX`]; for a market without slots, its event's millisecond.
    pub slot: u64,
    /// Who says so, e.g. `jupiter`.
    pub source: Label,
    /// The venue that it is the price of; `None` for the token's price as such.
    pub venue: Option<Label>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteReport {
    /// Accepted: readers see them.
    pub written: usize,
    /// Refused, because a newer slot was there.
    pub older: usize,
    /// Of those written: the guard held something that is no guard, and was replaced.
    pub guards_mended: usize,
}

/// One price as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Price {
    /// The price.
    pub value: Decimal,
    /// The slot it was seen in; `None` where somebody wrote it without one.
    pub slot: Option<u64>,
    /// How long ago it was written, by the writer's and this machine's clocks; `None` where somebody wrote it who does
    /// not keep the guard.
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
    follower: Arc<OnceLock<Follower>>,
    ttl: Duration,
    guard_ttl: Duration,
}

/// Ends the feed with the last handle.
#[derive(Debug)]
struct Follower(JoinHandle<()>);

impl Drop for Follower {
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
        Ok(Self {
            link: Link::connect(&config.redis.prices, Server::RedisPrices).await?,
            keys: Arc::new(Keys::new(&config.prices.key_prefix)),
            memory: Arc::default(),
            follower: Arc::default(),
            ttl: Duration::from_millis(config.prices.ttl_ms),
            guard_ttl: Duration::from_millis(config.prices.guard_ttl_ms),
        })
    }

    /// The connection, for `ping` and `status`.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Writes a batch, in order. When it returns Ok, each price is in Redis for the configured life, or a newer one is.
    /// On an error some may have been written; the call can be repeated as it is. This process's memory has them in
    /// either case: they are what its caller knows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a price of zero or below, a slot out of range, or more than [`CALL_MAX`] at once, and then
    /// nothing was written; otherwise as every call of [`Link`].
    pub async fn write(&self, updates: &[PriceUpdate]) -> Result<WriteReport> {
        check_count(updates.len())?;
        for update in updates {
            check_value(&update.token, update.value)?;
            if !(1..=SLOT_MAX).contains(&update.slot) {
                return Err(Error::invalid(
                    format!("slot of {}", update.token),
                    format!("is {}; wanted 1 to {SLOT_MAX}", update.slot),
                ));
            }
        }
        let now = Timestamp::now();
        for update in updates {
            self.memory.put(update.token, update.venue, update.value, update.slot, now, Some(update.source), self.ttl);
        }
        let batches = updates.chunks(BATCH_MAX).map(|batch| self.write_batch(batch, now));
        let reports = try_join_all(batches).await?;
        Ok(reports.into_iter().fold(WriteReport::default(), WriteReport::plus))
    }

    /// The specification's write: one price for `ttl`, through the guard, with the last known slot of this token. It
    /// therefore always takes effect, and leaves the protection by slot as it was.
    ///
    /// # Errors
    /// As [`Prices::write`]; also for a text that is no token and a life of zero or above [`TTL_MAX`].
    pub async fn cache_price(&self, token: &str, price: Decimal, ttl: Duration) -> Result<()> {
        let token = Token::new(token)?;
        check_value(&token, price)?;
        if ttl < Duration::from_millis(1) || ttl > TTL_MAX {
            return Err(Error::invalid("ttl", format!("is {ttl:?}; wanted 1 ms to {TTL_MAX:?}")));
        }
        let now = Timestamp::now();
        self.memory.put(token, None, price, 0, now, None, ttl);
        let mut command = PRICE_WRITE.call(2);
        self.keys.add_pair(&mut command, &token, None);
        self.add_lives(&mut command, ttl);
        command.arg(price.to_string()).arg("").arg(format!("{} -", now.as_millis()));
        let letters: String = self.link.script("write price", &PRICE_WRITE, &command).await?;
        report_of(&letters, |_| token);
        Ok(())
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
        let mut command = cmd("MGET");
        for token in tokens {
            self.keys.add_pair(&mut command, token, None);
        }
        let texts: Vec<Option<String>> = self.link.query("read prices", &command).await?;
        let now = Timestamp::now();
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
        let mut command = cmd("MGET");
        for token in tokens {
            command.arg(self.keys.guard(token, None));
        }
        let guards: Vec<Option<String>> = self.link.query("read guards", &command).await?;
        let now = Timestamp::now();
        Ok(guards.iter().map(|guard| wire::price_of_guard(guard.as_deref()?, now)).collect())
    }

    /// The newest price that this process knows, from memory: no wait, no network, also while Redis is away. `None`
    /// after the price's life.
    #[must_use]
    pub fn latest(&self, token: &Token) -> Option<Price> {
        self.memory.get(token, None)
    }

    /// [`Prices::latest`] of one venue.
    #[must_use]
    pub fn latest_at(&self, token: &Token, venue: Label) -> Option<Price> {
        self.memory.get(token, Some(venue))
    }

    /// Feeds memory with what every process writes, until the last handle is dropped. When it returns Ok, what is written
    /// from then on arrives; a price written before is there after its next write. After a lost connection, or when
    /// this process was too slow, the tokens it knows are read again. A second call changes nothing.
    ///
    /// # Errors
    /// As [`Prices::connect`]; [`Error::Refused`] where the user may not read the channel.
    pub async fn follow(&self) -> Result<()> {
        if self.follower.get().is_some() {
            return Ok(());
        }
        let feed = feed::Feed::open(self.link.clone(), Arc::clone(&self.keys), Arc::clone(&self.memory)).await?;
        // Lost to a second call at the same time: that one's feed does the same, this one ends by its drop.
        drop(self.follower.set(Follower(tokio::spawn(feed.run()))));
        Ok(())
    }

    async fn read_pair(&self, token: &Token, venue: Option<Label>) -> Result<Option<Price>> {
        let mut command = cmd("MGET");
        self.keys.add_pair(&mut command, token, venue);
        let (price, guard): (Option<String>, Option<String>) = self.link.query("read price", &command).await?;
        wire::price_of(token, price.as_deref(), guard.as_deref(), Timestamp::now())
    }

    async fn write_batch(&self, batch: &[PriceUpdate], now: Timestamp) -> Result<WriteReport> {
        let mut command = PRICE_WRITE.call(batch.len() * 2);
        for update in batch {
            self.keys.add_pair(&mut command, &update.token, update.venue);
        }
        self.add_lives(&mut command, self.ttl);
        for update in batch {
            command.arg(update.value.to_string()).arg(update.slot);
            command.arg(format!("{} {}", now.as_millis(), update.source));
        }
        let letters: String = self.link.script("write prices", &PRICE_WRITE, &command).await?;
        Ok(report_of(&letters, |index| batch[index].token))
    }

    fn add_lives(&self, command: &mut ::redis::Cmd, ttl: Duration) {
        // The guard outlives its price, or the price could be replaced by an older one.
        let guard_ttl = self.guard_ttl.max(ttl);
        command.arg(&self.keys.channel).arg(millis(ttl)).arg(millis(guard_ttl));
    }
}

impl WriteReport {
    fn plus(self, other: Self) -> Self {
        Self {
            written: self.written + other.written,
            older: self.older + other.older,
            guards_mended: self.guards_mended + other.guards_mended,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Reads the script's letters, one per price.
fn report_of(letters: &str, token_at: impl Fn(usize) -> Token) -> WriteReport {
    let mut report = WriteReport::default();
    for (index, letter) in letters.bytes().enumerate() {
        match letter {
            b'w' => report.written += 1,
            b'o' => report.older += 1,
            _ => {
                report.written += 1;
                report.guards_mended += 1;
                tracing::warn!(token = %token_at(index), "a price's guard was written by somebody else; replaced it");
            }
        }
    }
    report
}

fn check_count(count: usize) -> Result<()> {
    if count > CALL_MAX {
        return Err(Error::invalid("prices", format!("are {count} at once; at most {CALL_MAX}")));
    }
    Ok(())
}

fn check_value(token: &Token, value: Decimal) -> Result<()> {
    if value <= Decimal::ZERO {
        return Err(Error::invalid(format!("price of {token}"), format!("is {value}; a price is above zero")));
    }
    Ok(())
}
