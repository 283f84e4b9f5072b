//! The texts in Redis: keys, guards, lines of the feed. Pure; everything that parses here is fed with garbage in tests.

use std::fmt::Write as _;
use std::time::Duration;

use ::redis::Cmd;

use super::Price;
use super::clock::age_at;
use super::memory::Key;
use crate::error::{Error, Result};
use crate::redis::Label;
use crate::value::{Decimal, Timestamp, Token};

/// The source of a price that was written without one.
const NO_SOURCE: &str = "-";

/// Longest texts that are looked at; a guard is at most a decimal, two numbers and a label.
const TEXT_BYTES_MAX: usize = 160;

/// How the keys of one deployment are built.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    pub(super) channel: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), channel: format!("{prefix}prices") }
    }

    /// Writes the price's key into `text`.
    pub(super) fn write_price(&self, text: &mut String, token: &Token, venue: Option<&Label>) {
        text.clear();
        self.push_price(text, token, venue);
    }

    fn push_price(&self, text: &mut String, token: &Token, venue: Option<&Label>) {
        text.push_str(&self.prefix);
        text.push_str("price:");
        text.push_str(token.as_str());
        if let Some(venue) = venue {
            text.push(':');
            text.push_str(venue.as_str());
        }
    }

    /// Writes the guard's key into `text`. The braces put a price and its guard into the same Cluster slot.
    pub(super) fn write_guard(&self, text: &mut String, token: &Token, venue: Option<&Label>) {
        text.clear();
        text.push_str(&self.prefix);
        text.push_str("guard:{");
        self.push_price(text, token, venue);
        text.push('}');
    }

    /// Adds a price's key and its guard's.
    pub(super) fn add_pair(&self, command: &mut Cmd, text: &mut String, token: &Token, venue: Option<&Label>) {
        self.write_price(text, token, venue);
        command.arg(text.as_str());
        self.write_guard(text, token, venue);
        command.arg(text.as_str());
    }

    pub(super) fn parse_price<'a>(&self, key: &'a str) -> Option<(&'a str, Option<&'a str>)> {
        let name = key.strip_prefix(&self.prefix)?.strip_prefix("price:")?;
        Some(match name.split_once(':') {
            Some((token, venue)) => (token, Some(venue)),
            None => (name, None),
        })
    }
}

/// `<decimal> <slot> <unix_ms> <source>`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guard<'a> {
    pub(super) decimal: &'a str,
    pub(super) slot: u64,
    pub(super) written_at: Timestamp,
    pub(super) source: Option<Label>,
}

pub(super) fn parse_guard(text: &str) -> Option<Guard<'_>> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut words = text.split(' ');
    let (decimal, slot, millis, source) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let nanos = millis.parse::<i64>().ok()?.checked_mul(1_000_000)?;
    let source = if source == NO_SOURCE { None } else { Some(Label::new("source", source).ok()?) };
    Some(Guard {
        decimal,
        slot: slot.parse().ok().filter(|slot| *slot <= super::SLOT_MAX)?,
        written_at: Timestamp::from_nanos(nanos).ok()?,
        source,
    })
}

/// The source as it is written.
pub(super) fn source_text(source: Option<&Label>) -> &str {
    source.map_or(NO_SOURCE, Label::as_str)
}

/// Adds one line of the feed.
pub(super) fn push_line(lines: &mut String, key: &str, value: Decimal, slot: u64, source: &str) {
    if !lines.is_empty() {
        lines.push('\n');
    }
    // Into a String it cannot fail.
    let _ = write!(lines, "{key} {value} {slot} {source}");
}

/// A decimal as this library writes it, or as a foreign writer may; above zero.
pub(super) fn parse_value(text: &str) -> Option<Decimal> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let value = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text)).ok()?;
    (value > Decimal::ZERO).then_some(value)
}

/// Puts a price and its guard together.
pub(super) fn price_of(
    token: &Token,
    price: Option<&str>,
    guard: Option<&str>,
    now: Timestamp,
) -> Result<Option<Price>> {
    let Some(text) = price else {
        return Ok(None);
    };
    let Some(value) = parse_value(text) else {
        let shown: String = text.chars().take(40).filter(|c| !c.is_control()).collect();
        return Err(Error::invalid(
            format!("price of {token}"),
            format!("holds `{shown}`, which is no price; find out who writes it"),
        ));
    };
    // Another decimal means that somebody else wrote the price since: what the guard says is about a value that is gone.
    let guard = guard.and_then(parse_guard).filter(|guard| guard.decimal == text);
    Ok(Some(Price {
        value,
        slot: guard.map(|guard| guard.slot).filter(|slot| *slot > 0),
        age: guard.and_then(|guard| age_at(now, guard.written_at)),
        source: guard.and_then(|guard| guard.source),
    }))
}

/// What a guard alone says.
pub(super) fn price_of_guard(text: &str, now: Timestamp) -> Option<Price> {
    let guard = parse_guard(text)?;
    Some(Price {
        value: parse_value(guard.decimal)?,
        slot: Some(guard.slot).filter(|slot| *slot > 0),
        age: age_at(now, guard.written_at),
        source: guard.source,
    })
}

/// One accepted price of the feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: Key,
    pub(super) value: Decimal,
    pub(super) slot: u64,
    pub(super) source: Option<Label>,
}

/// What stands above the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heading {
    /// The life of these prices.
    pub(super) ttl: Duration,
    /// When the server took them, by its clock.
    pub(super) written_at: Timestamp,
}

/// Reads a message of the feed: its heading, and each line that makes sense.
pub(super) fn parse_feed<'a>(keys: &'a Keys, message: &'a str) -> Option<(Heading, impl Iterator<Item = Line> + 'a)> {
    let mut lines = message.lines();
    let (ttl, stamp) = lines.next()?.trim_end().split_once(' ')?;
    let ttl = Duration::from_millis(ttl.parse().ok()?).min(super::TTL_MAX);
    let written_at = Timestamp::from_nanos(stamp.parse::<i64>().ok()?.checked_mul(1_000_000)?).ok()?;
    Some((Heading { ttl, written_at }, lines.filter_map(move |line| parse_line(keys, line))))
}

fn parse_line(keys: &Keys, line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let (key, decimal, slot, source) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let (token, venue) = keys.parse_price(key)?;
    let venue = venue.map(|venue| Label::new("venue", venue)).transpose().ok()?;
    let source = if source == NO_SOURCE { None } else { Some(Label::new("source", source).ok()?) };
    Some(Line {
        key: Key { token: Token::new(token).ok()?, venue },
        value: parse_value(decimal)?,
        slot: slot.parse().ok().filter(|slot| *slot <= super::SLOT_MAX)?,
        source,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000).unwrap()
    }

    fn token() -> Token {
        Token::new("SOL").unwrap()
    }

    #[test]
    fn a_price_with_its_guard_has_slot_age_and_source() {
        let price = price_of(&token(), Some("1.50"), Some("1.50 42 1000 jupiter"), at(1250)).unwrap().unwrap();
        assert_eq!(price.value.to_string(), "1.50");
        assert_eq!((price.slot, price.age), (Some(42), Some(Duration::from_millis(250))));
        assert_eq!(price.source.map(|s| s.to_string()).as_deref(), Some("jupiter"));
    }

    #[test]
    fn what_somebody_else_wrote_has_a_value_and_nothing_else() {
        for guard in [None, Some("1.51 42 1000 jupiter"), Some("garbage"), Some("1.50 -1 1000 x"), Some("1.50 1 1 a b")]
        {
            let price = price_of(&token(), Some("1.50"), guard, at(1250)).unwrap().unwrap();
            assert_eq!((price.slot, price.age, price.source), (None, None, None), "{guard:?}");
            assert_eq!(price.freshness(Duration::MAX), super::super::Freshness::Stale { age: None });
        }
        assert_eq!(price_of(&token(), None, Some("1.50 42 1000 x"), at(1250)).unwrap(), None);
    }

    #[test]
    fn a_price_that_is_none_is_an_error_that_names_the_token() {
        for text in ["", "abc", "0", "-1", "NaN", "1,5", "1e999"] {
            let error = price_of(&token(), Some(text), None, at(0)).unwrap_err().to_string();
            assert!(error.contains("SOL"), "{text}: {error}");
        }
        assert_eq!(price_of(&token(), Some("1e-3"), None, at(0)).unwrap().unwrap().value, Decimal::new(1, 3));
    }

    #[test]
    fn the_feed_skips_lines_that_make_no_sense_and_keeps_the_others() {
        let keys = Keys::new("t:");
        let message = "2000 1000 \nt:price:SOL 1.5 7 jup\nnonsense\nt:price:SOL:orca 1.6 8 -\nprice:SOL 1 1 x\nt:price:SOL 1 1 x y";
        let (heading, lines) = parse_feed(&keys, message).unwrap();
        let lines: Vec<Line> = lines.collect();
        assert_eq!(heading, Heading { ttl: Duration::from_secs(2), written_at: at(1000) });
        assert_eq!(lines.iter().map(|l| (l.slot, l.key.venue.is_some())).collect::<Vec<_>>(), [(7, false), (8, true)]);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parsers(text in ".*") {
            let keys = Keys::new("");
            let _ = parse_guard(&text);
            let _ = parse_feed(&keys, &text).map(|(_, lines)| lines.count());
            let _ = price_of(&token(), Some(&text), Some(&text), at(0));
        }

        #[test]
        fn what_is_written_is_read(mantissa in 1_i64..i64::MAX, scale in 0_u32..18, slot in 1_u64..=super::super::SLOT_MAX) {
            let value = Decimal::new(mantissa, scale);
            let guard = format!("{value} {slot} 1000 jup");
            let price = price_of(&token(), Some(&value.to_string()), Some(&guard), at(1000)).unwrap().unwrap();
            prop_assert_eq!((price.value, price.slot), (value, Some(slot)));
        }
    }
}
