//! All tokens in this process's memory, kept fresh.
//!
//! Constraints: a read takes no lock and never waits, whatever PostgreSQL does; its age is known. A notice only hastens
//! the next look: what is taken comes from the sequence of changes alone, so a listener that is cut, late or deaf costs
//! time and never a change. An older (slot, write version) never replaces a newer one. Tokens are never deleted, so none
//! is ever taken out of memory.
//!
//! ```text
//!  open ── everything ──▶ ┌── memory: table, map ──┐ ──▶ get(&mint)
//!                         └──────────▲─────────────┘
//!  notice ─┐                         │ pages of changes since the last look
//!  clock ──┴▶ look: server the same? ┤
//!                         └ no: everything again
//! ```

mod changes;
mod keeper;
mod memory;
mod table;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard as Swapped;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::announce::{Changed, Counts};
use super::assess::{Assessment, Policy, assess, assess_unseen};
use super::{Address, Mint};
use crate::config;
use crate::error::Result;
use crate::value::Timestamp;
use keeper::Keeper;
use memory::Memory;

pub(super) use changes::CHANGED;
pub use memory::TOKENS_MAX;

/// What one token takes in memory: all that a trade asks for. The rest (URI, source, fields in words) is in the store.
// In this order: the first fields share a cache line with the mint that a read compares.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[repr(C)]
pub struct KnownToken {
    /// The mint's address.
    pub mint: Address,
    /// Digits behind the decimal point; as a list says, while only lists know the token.
    pub decimals: u8,
    /// The slot of the observation; 0 while only lists know the token.
    pub slot: u64,
    /// The order within the slot.
    pub write_version: u64,
    /// What its account says; none while only lists know the token.
    pub account: Option<Mint>,
    /// The long name.
    pub name: Option<Box<str>>,
    /// The short name; shared by many tokens.
    pub symbol: Option<Box<str>>,
}

impl KnownToken {
    /// What stands where no token does.
    fn nothing() -> Self {
        let mint = Address::new_from_array([0; 32]);
        Self { mint, decimals: 0, slot: 0, write_version: 0, account: None, name: None, symbol: None }
    }

    /// Judges it for transfers in `epoch` and amounts shown at `now`.
    #[must_use]
    pub fn assess(&self, epoch: u64, now: Timestamp, policy: &Policy) -> Assessment {
        match &self.account {
            Some(account) => assess(&self.mint, account, epoch, now, policy),
            None => assess_unseen(&self.mint, self.decimals, epoch, now, policy),
        }
    }
}

/// A token in memory, as it was when it was asked for: what comes later changes nothing about it. Made for a look, and
/// passed over threads and awaits; who keeps many of them for long takes [`TokenRef::to_arc`].
#[derive(Debug)]
pub struct TokenRef<'a>(Held<'a>);

#[derive(Debug)]
enum Held<'a> {
    AtStart(&'a KnownToken),
    Replaced { by: Swapped<Option<Arc<KnownToken>>>, at_start: &'a KnownToken },
    Added(Arc<KnownToken>),
}

impl<'a> TokenRef<'a> {
    #[inline]
    fn at_start(token: &'a KnownToken) -> Self {
        Self(Held::AtStart(token))
    }

    fn replaced(at_start: &'a KnownToken, by: Swapped<Option<Arc<KnownToken>>>) -> Self {
        Self(Held::Replaced { by, at_start })
    }

    fn added(token: Arc<KnownToken>) -> Self {
        Self(Held::Added(token))
    }

    /// The same token, to keep for as long as one likes. Copies it where it was never changed since the cache was opened.
    #[must_use]
    pub fn to_arc(&self) -> Arc<KnownToken> {
        match &self.0 {
            Held::Replaced { by, .. } if let Some(token) = &**by => Arc::clone(token),
            Held::AtStart(token) | Held::Replaced { at_start: token, .. } => Arc::new((*token).clone()),
            Held::Added(token) => Arc::clone(token),
        }
    }
}

impl Deref for TokenRef<'_> {
    type Target = KnownToken;

    #[inline]
    fn deref(&self) -> &KnownToken {
        match &self.0 {
            Held::AtStart(token) => token,
            Held::Replaced { by, at_start } => by.as_deref().unwrap_or(at_start),
            Held::Added(token) => token,
        }
    }
}

/// How memory is filled and kept.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct CacheOptions {
    /// Filling it ends within this. Default 60 s: a million tokens take a few on one core.
    pub fill_deadline: Duration,
    /// Without a notice it looks this often. Default 1 s: shorter costs the server a small query each time, longer is
    /// how late a change may come while nobody listens.
    pub poll_interval: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { fill_deadline: Duration::from_secs(60), poll_interval: Duration::from_secs(1) }
    }
}

/// The tokens in memory; a cheap handle. The last one dropped ends the refreshing.
#[derive(Debug, Clone)]
pub struct TokenCache {
    memory: Arc<Memory>,
    _keeper: Arc<Guard>,
}

#[derive(Debug)]
struct Guard(JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl TokenCache {
    /// Reads all tokens, then keeps them fresh in a task of the current runtime. When it returns Ok, every token that
    /// was committed before the call is there.
    ///
    /// # Errors
    /// As [`Postgres::call`](crate::postgres::Postgres::call), with `fill_deadline` as the deadline. A server that is
    /// away only later is no error: reads go on, [`TokenCache::age`] grows.
    pub async fn open(config: &config::Postgres, options: CacheOptions) -> Result<Self> {
        let (keeper, memory) = Keeper::open(config.clone(), options).await?;
        let task = tokio::spawn(keeper.run());
        Ok(Self { memory, _keeper: Arc::new(Guard(task)) })
    }

    /// The token as it was at the last look; none where the store knew none. Some ten nanoseconds where the processor has it
    /// at hand; else the time of one read from main memory (three, for a mint that came after the cache was opened).
    #[must_use]
    #[inline]
    pub fn get(&self, mint: &Address) -> Option<TokenRef<'_>> {
        self.memory.get(mint)
    }

    /// How old memory may be: the time since the last look that found the server began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.memory.age()
    }

    /// True while notices come; false means that changes come by the clock alone.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.memory.is_listening()
    }

    /// Tokens in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// True where the store is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that were not taken because [`TOKENS_MAX`] are there already; such a token is found in the store only.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.memory.turned_away()
    }

    /// From now on each change of a known token goes there, too.
    pub(super) fn tell(&self, sender: mpsc::Sender<Changed>, counts: Arc<Counts>) {
        self.memory.tell(sender, counts);
    }

    /// Changes whenever a token was taken, for whoever waits for one. Say what is wanted, look, then wait.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.memory.changes()
    }
}
