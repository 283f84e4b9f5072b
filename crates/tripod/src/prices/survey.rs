//! Which tokens have a price and how old each is: for screens and alerts, not to trade on.
//!
//! Constraints: one round trip a look, whatever there is; no KEYS and no scan of everything at once, so that looking
//! stalls nobody who trades. Bounded: [`TOKENS_MAX`] tokens are followed, further ones are not.
//!
//! Picture: a price is gone after its life, its guard lives longer (`guard_ttl_ms`) and says the same with the time.
//! ```text
//! look:  TIME ── INFO ── SCAN, one page of guards ── MGET, the guards of all that are known
//!         clock   server   new tokens                 value, slot, age
//! ```
//! Operation: a token whose guard is gone too is shown with its last price, which gets older, until [`REMEMBERED`] is over:
//! a feed that has stopped is seen, and a token that nobody trades any more is forgotten. Ages are by the server's clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::redis::{Cmd, Pipeline, Value, cmd, from_redis_value_ref, pipe};

use super::clock::age_at;
use super::wire::{Keys, parse_guard, parse_value};
use crate::audit::skew;
use crate::config::Config;
use crate::error::{Error, Result, Server};
use crate::redis::{Instance, Label, Link};
use crate::value::{Decimal, Timestamp, Token};

/// Tokens and venues that are followed at most: MGET of their guards is some milliseconds of the server's time.
pub const TOKENS_MAX: usize = 10_000;
/// A token is forgotten when it had no price for so long.
pub const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// Keys that the server walks over in one page.
const PAGE_KEYS: usize = 1_000;
/// Pages of the first look at most; later ones take one each.
const FIRST_PAGES_MAX: usize = 100;
/// Guards in one MGET.
const READ_KEYS: usize = 1_000;

/// One token (at one venue) as a look found it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurveyedPrice {
    /// The token.
    pub token: Token,
    /// The venue; none for the token's price as such.
    pub venue: Option<Label>,
    /// Its last price.
    pub value: Decimal,
    /// The slot that it was seen in, where the writer gave one.
    pub slot: Option<u64>,
    /// How long ago it was written, by the server's clock.
    pub age: Duration,
    /// Whether it still lives: not older than `prices.ttl_ms`.
    pub fresh: bool,
}

/// What one look found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PriceLook {
    /// The server.
    pub instance: Instance,
    /// How far its clock is from this machine's, either way.
    pub clock_skew: Duration,
    /// How long it took to answer all of it.
    pub took: Duration,
    /// Tokens and venues that are followed.
    pub tokens: u64,
    /// Those of them whose price lives.
    pub fresh: u64,
    /// Those whose price does not.
    pub stale: u64,
    /// The oldest of them, the stalest last.
    pub oldest: Vec<SurveyedPrice>,
}

/// What is known from look to look.
#[derive(Debug)]
pub struct PriceSurvey {
    keys: Keys,
    /// What stands before a price's key in its guard's.
    guard_start: String,
    ttl: Duration,
    cursor: u64,
    /// The first walk over the keys is not done.
    first: bool,
    known: BTreeMap<(Token, Option<Label>), Known>,
}

#[derive(Debug)]
struct Known {
    guard: String,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    value: Decimal,
    slot: Option<u64>,
    written_at: Timestamp,
}

impl PriceSurvey {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let prefix = &config.prices.key_prefix;
        Self {
            keys: Keys::new(prefix),
            guard_start: format!("{prefix}guard:{{"),
            ttl: Duration::from_millis(config.prices.ttl_ms),
            cursor: 0,
            first: true,
            known: BTreeMap::new(),
        }
    }

    /// Looks once; `list_max` of the oldest are listed. Needs a user that may `SCAN` and `INFO`.
    ///
    /// # Errors
    /// As every call of [`Link`]; what was known stays known.
    pub async fn look(&mut self, link: &Link, list_max: usize) -> Result<PriceLook> {
        if self.first {
            for _ in 0..FIRST_PAGES_MAX {
                let page: Value = link.query("list prices", &self.page()).await?;
                self.take_page(&page)?;
                if self.cursor == 0 {
                    break;
                }
            }
            self.first = false;
        }
        let mut questions = pipe();
        questions.add_command(cmd("TIME")).add_command(Instance::ask()).add_command(self.page());
        self.add_guards(&mut questions);
        let (start, asked_at) = (Instant::now(), Timestamp::now());
        let answers: Vec<Value> = link.pipeline("survey prices", &questions).await?;
        let (took, answered_at) = (start.elapsed(), Timestamp::now());
        let [time, info, page, guards @ ..] = answers.as_slice() else { return Err(unexpected("a pipeline")) };
        let server_time = time_of(time).ok_or_else(|| unexpected("TIME"))?;
        let info: String = from_redis_value_ref(info).map_err(|_| unexpected("INFO"))?;
        self.take_guards(guards)?;
        self.forget(server_time);
        // After the guards, which were asked for what was known before.
        self.take_page(page)?;
        let mut oldest = self.list(server_time);
        let tokens = oldest.len();
        let fresh = oldest.iter().filter(|one| one.fresh).count();
        oldest.sort_by_key(|one| one.age);
        oldest.drain(..tokens.saturating_sub(list_max));
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(PriceLook {
            instance: Instance::parse(&info),
            clock_skew: skew(asked_at, server_time, answered_at),
            took,
            tokens: count(tokens),
            fresh: count(fresh),
            stale: count(tokens - fresh),
            oldest,
        })
    }

    fn page(&self) -> Cmd {
        let mut page = cmd("SCAN");
        page.arg(self.cursor).arg("MATCH").arg(format!("{}*", self.guard_start)).arg("COUNT").arg(PAGE_KEYS);
        page
    }

    fn take_page(&mut self, page: &Value) -> Result<()> {
        let (next, guards): (u64, Vec<String>) = from_redis_value_ref(page).map_err(|_| unexpected("SCAN"))?;
        self.cursor = next;
        for guard in guards {
            let Some(key) = self.key_of(&guard) else { continue };
            if self.known.len() < TOKENS_MAX || self.known.contains_key(&key) {
                self.known.entry(key).or_insert(Known { guard, last: None });
            }
        }
        Ok(())
    }

    /// `guard:{price:TOKEN:VENUE}`; none for a key of another kind.
    fn key_of(&self, guard: &str) -> Option<(Token, Option<Label>)> {
        let price = guard.strip_prefix(&self.guard_start)?.strip_suffix('}')?;
        let (token, venue) = self.keys.parse_price(price)?;
        let venue = venue.map(|venue| Label::new("venue", venue)).transpose().ok()?;
        Some((Token::new(token).ok()?, venue))
    }

    fn add_guards(&self, questions: &mut Pipeline) {
        let guards: Vec<&str> = self.known.values().map(|known| known.guard.as_str()).collect();
        for some in guards.chunks(READ_KEYS) {
            questions.cmd("MGET").arg(some);
        }
    }

    fn take_guards(&mut self, answers: &[Value]) -> Result<()> {
        let mut texts = Vec::with_capacity(self.known.len());
        for answer in answers {
            let some: Vec<Option<String>> = from_redis_value_ref(answer).map_err(|_| unexpected("MGET"))?;
            texts.extend(some);
        }
        for (known, text) in self.known.values_mut().zip(texts) {
            let Some(guard) = text.as_deref().and_then(parse_guard) else { continue };
            let Some(value) = parse_value(guard.decimal) else { continue };
            let slot = Some(guard.slot).filter(|slot| *slot > 0);
            known.last = Some(Last { value, slot, written_at: guard.written_at });
        }
        Ok(())
    }

    /// What had no price for long goes, and what was listed and had none by the time it was asked for.
    fn forget(&mut self, now: Timestamp) {
        self.known.retain(|_, known| known.last.is_some_and(|last| now.since(last.written_at) <= REMEMBERED));
    }

    fn list(&self, now: Timestamp) -> Vec<SurveyedPrice> {
        let one = |((token, venue), known): (&(Token, Option<Label>), &Known)| {
            let Last { value, slot, written_at } = known.last?;
            // A time that is still to come: the server's clock went back. Its age is not known, and so not young.
            let age = age_at(now, written_at).unwrap_or(REMEMBERED);
            Some(SurveyedPrice { token: *token, venue: *venue, value, slot, age, fresh: age <= self.ttl })
        };
        self.known.iter().filter_map(one).collect()
    }
}

/// The answer of TIME: seconds and microseconds.
pub(crate) fn time_of(answer: &Value) -> Option<Timestamp> {
    let (seconds, micros): (u64, u64) = from_redis_value_ref(answer).ok()?;
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(micros.checked_mul(1_000)?)?;
    Timestamp::from_nanos(i64::try_from(nanos).ok()?).ok()
}

fn unexpected(what: &str) -> Error {
    Error::Refused {
        server: Server::RedisPrices,
        what: format!("{what} gave an answer that Redis 7 does not give; see `tripod doctor`"),
        code: None,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000).unwrap()
    }

    fn text(words: &str) -> Value {
        Value::BulkString(words.as_bytes().to_vec())
    }

    fn page(next: &str, keys: &[&str]) -> Value {
        Value::Array(vec![text(next), Value::Array(keys.iter().map(|key| text(key)).collect())])
    }

    fn survey() -> PriceSurvey {
        let mut config = Config::default();
        config.prices.key_prefix = "t".into();
        PriceSurvey::new(&config)
    }

    #[test]
    fn a_price_that_is_over_is_stale_and_gets_older_until_it_is_forgotten() {
        let mut survey = survey();
        let keys = ["tguard:{tprice:SOL}", "tguard:{tprice:SOL:orca}", "guard:{price:SOL}", "tguard:{nonsense}"];
        survey.take_page(&page("7", &keys)).unwrap();
        assert_eq!((survey.cursor, survey.known.len()), (7, 2), "{:?}", survey.known);
        assert!(survey.list(at(0)).is_empty(), "listed, and not asked yet");
        let answer = Value::Array(vec![text("1.5 42 100000 jup"), text("1.6 0 98000 -")]);
        survey.take_guards(&[answer]).unwrap();
        let found = survey.list(at(101_000));
        assert_eq!(found.iter().map(|one| one.fresh).collect::<Vec<_>>(), [true, false]);
        assert_eq!((found[0].slot, found[1].slot), (Some(42), None));
        assert_eq!(found[1].age, Duration::from_secs(3));
        survey.take_guards(&[Value::Array(vec![Value::Nil, Value::Nil])]).unwrap();
        survey.forget(at(200_000));
        assert_eq!(survey.list(at(200_000))[0].age, Duration::from_secs(100), "the guard is gone, the age goes on");
        survey.forget(at(98_000 + 900_001));
        assert_eq!(survey.known.len(), 1, "a quarter of an hour is over for one");
    }

    #[test]
    fn there_is_an_end_to_what_is_followed() {
        let mut survey = survey();
        let keys: Vec<String> = (0..TOKENS_MAX + 5).map(|n| format!("tguard:{{tprice:T{n}}}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        survey.take_page(&page("0", &keys)).unwrap();
        assert_eq!(survey.known.len(), TOKENS_MAX);
        let mut questions = pipe();
        survey.add_guards(&mut questions);
        assert_eq!(questions.cmd_iter().count(), TOKENS_MAX / READ_KEYS);
    }

    #[test]
    fn a_clock_that_went_back_makes_nothing_young() {
        let mut survey = survey();
        survey.take_page(&page("0", &["tguard:{tprice:SOL}"])).unwrap();
        survey.take_guards(&[Value::Array(vec![text("1.5 42 100000 jup")])]).unwrap();
        assert!(!survey.list(at(90_000))[0].fresh);
    }
}
