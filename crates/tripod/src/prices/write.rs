//! Writing prices: checks, batches, the script's call, its report.
//!
//! Constraints: nothing is written where one price of a call is none. What a batch costs is mostly the server's time (see
//! the script), then the making of its texts here: they go into one buffer.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::Cmd;
use futures_util::future::try_join_all;

use super::memory::{Key, Sighting};
use super::wire::{push_line, source_text};
use super::{CALL_MAX, Prices, SLOT_MAX, TTL_MAX};
use crate::error::{Error, Result};
use crate::redis::{Label, PRICE_WRITE};
use crate::value::{Decimal, Token};

/// Prices in one script call. More: fewer calls, but the server does nothing else for about 3 µs each.
const BATCH_MAX: usize = 100;

/// Bytes that a price takes in a call, about: two keys, a line, the arguments. Room, not a limit.
const PRICE_BYTES: usize = 256;

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

impl PriceUpdate {
    fn key(&self) -> Key {
        Key { token: self.token, venue: self.venue }
    }
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

/// What was written since the start; read by [`Prices::stats`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) written: AtomicU64,
    pub(super) older: AtomicU64,
    pub(super) guards_mended: AtomicU64,
    pub(super) failed_calls: AtomicU64,
}

impl Prices {
    /// Writes a batch, in order. When it returns Ok, each price is in Redis for the configured life, or a newer one is.
    /// On an error some may have been written; the call can be repeated as it is. This process's memory has them in
    /// either case: they are what its caller knows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a price of zero or below, a slot out of range, or more than [`CALL_MAX`] at once, and then
    /// nothing was written; otherwise as every call of [`crate::redis::Link`].
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
        for update in updates {
            self.memory.put(&Sighting {
                key: update.key(),
                value: update.value,
                slot: update.slot,
                source: Some(update.source),
                written_at: None,
                age: Some(Duration::ZERO),
                life: self.ttl,
            });
        }
        let batches = batches(updates).into_iter().map(|batch| self.write_batch(batch));
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
        let key = Key { token, venue: None };
        let (written_at, age) = (None, Some(Duration::ZERO));
        self.memory.put(&Sighting { key, value: price, slot: 0, source: None, written_at, age, life: ttl });
        let mut command = PRICE_WRITE.call(2);
        self.keys.add_pair(&mut command, &mut String::new(), &token, None);
        self.add_lives(&mut command, ttl);
        command.arg("").arg(price.to_string()).arg("").arg(source_text(None));
        self.send("write price", &command, 1, |_| token).await.map(drop)
    }

    async fn write_batch(&self, batch: &[PriceUpdate]) -> Result<WriteReport> {
        let count = batch.len();
        let mut command = PRICE_WRITE.call_with_room(count * 2, count * 5 + 4, count * PRICE_BYTES);
        let (mut text, mut lines) = (String::new(), String::with_capacity(count * PRICE_BYTES / 2));
        for update in batch {
            self.keys.write_price(&mut text, &update.token, update.venue.as_ref());
            command.arg(text.as_str());
            push_line(&mut lines, &text, update.value, update.slot, update.source.as_str());
        }
        for update in batch {
            self.keys.write_guard(&mut text, &update.token, update.venue.as_ref());
            command.arg(text.as_str());
        }
        self.add_lives(&mut command, self.ttl);
        command.arg(lines.as_str());
        for update in batch {
            text.clear();
            // Into a String it cannot fail.
            let _ = write!(text, "{}", update.value);
            command.arg(text.as_str()).arg(update.slot).arg(update.source.as_str());
        }
        self.send("write prices", &command, count, |index| batch.get(index).map_or(batch[0].token, |u| u.token)).await
    }

    async fn send(
        &self,
        what: &str,
        command: &Cmd,
        count: usize,
        token_at: impl Fn(usize) -> Token + Send,
    ) -> Result<WriteReport> {
        let letters: String = match self.link.script(what, &PRICE_WRITE, command).await {
            Ok(letters) => letters,
            Err(error) => {
                self.written.failed_calls.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
        };
        let report = report_of(&letters, count, token_at);
        let add = |sum: &AtomicU64, part: usize| sum.fetch_add(u64::try_from(part).unwrap_or(0), Ordering::Relaxed);
        add(&self.written.written, report.written);
        add(&self.written.older, report.older);
        add(&self.written.guards_mended, report.guards_mended);
        Ok(report)
    }

    fn add_lives(&self, command: &mut Cmd, ttl: Duration) {
        // The guard outlives its price, or the price could be replaced by an older one.
        let guard_ttl = self.guard_ttl.max(ttl);
        command.arg(&self.keys.channel).arg(millis(ttl)).arg(millis(guard_ttl));
    }
}

/// Cuts a call into batches, none of which has the same price twice: the script reads all guards first.
fn batches(updates: &[PriceUpdate]) -> Vec<&[PriceUpdate]> {
    let mut parts = Vec::with_capacity(updates.len() / BATCH_MAX + 1);
    let mut rest = updates;
    while !rest.is_empty() {
        let mut seen = HashSet::with_capacity(rest.len().min(BATCH_MAX));
        let fresh = rest.iter().take(BATCH_MAX).take_while(|update| seen.insert(update.key())).count();
        let (part, behind) = rest.split_at(fresh);
        parts.push(part);
        rest = behind;
    }
    parts
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

/// Reads the script's letters, one per price, or none where all went as they should.
fn report_of(letters: &str, count: usize, token_at: impl Fn(usize) -> Token) -> WriteReport {
    if letters.is_empty() {
        return WriteReport { written: count, ..WriteReport::default() };
    }
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

pub(super) fn check_count(count: usize) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn update(name: &str) -> PriceUpdate {
        let source = Label::new("source", "x").unwrap();
        PriceUpdate { token: Token::new(name).unwrap(), value: Decimal::ONE, slot: 1, source, venue: None }
    }

    #[test]
    fn no_batch_is_too_large_or_has_a_price_twice_and_the_order_stays() {
        let venue = PriceUpdate { venue: Some(Label::new("venue", "v").unwrap()), ..update("A") };
        let few = [update("A"), venue, update("B"), update("B"), update("A"), update("A")];
        assert_eq!(batches(&few).iter().map(|part| part.len()).collect::<Vec<_>>(), [3, 2, 1]);
        let many: Vec<PriceUpdate> = (0..250).map(|n| update(&format!("T{n}"))).collect();
        assert_eq!(batches(&many).iter().map(|part| part.len()).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(
            batches(&many).concat().iter().map(|u| u.token).collect::<Vec<_>>(),
            many.iter().map(|u| u.token).collect::<Vec<_>>()
        );
        assert!(batches(&[]).is_empty());
    }
}
