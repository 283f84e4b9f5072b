//! The first reading of the whole input: nothing goes in before all of it is known to be good.
//!
//! Constraints: memory does not grow with the number of rows: the survey keeps counts, one number per second of the
//! recording, and the newest price of each token.

use std::collections::{BTreeMap, HashMap};

use tripod::{Decimal, Timestamp, Token};

use super::script::{Script, Step};
use super::source::{Broken, Event};
use crate::exit::Stop;

/// Broken lines that are listed one by one; the others are counted.
const LISTED_MAX: usize = 20;
/// Tokens of one replay at most: each has its key in Redis and its entry here.
const TOKENS_MAX: usize = 100_000;

/// What the input is.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Rows that can be read.
    pub(crate) rows: u64,
    pub(crate) trades: u64,
    pub(crate) quotes: u64,
    /// Rows that are a price and nothing else; they go to Redis, not on the tape.
    pub(crate) prices_only: u64,
    /// The earliest and the latest row's time.
    pub(crate) span: Option<(Timestamp, Timestamp)>,
    /// Rows of each second, for cutting the proof into windows.
    pub(crate) seconds: BTreeMap<i64, u64>,
    /// The newest price of each token: the highest slot, the last of equal ones.
    pub(crate) newest: HashMap<Token, Newest>,
    /// Lines that cannot be read, or hold what the tape would refuse.
    pub(crate) broken_lines: u64,
    /// The first of them.
    pub(crate) broken: Vec<Broken>,
    /// Long silences that were shortened.
    pub(crate) silences_cut: u64,
}

/// A token's newest price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) slot: u64,
    pub(crate) value: Decimal,
}

impl Newest {
    /// Takes `other` where it is not older: at equal slots the last writer wins, in Redis as here.
    pub(crate) fn advance(&mut self, other: Self) {
        if other.slot >= self.slot {
            *self = other;
        }
    }
}

/// Reads everything once.
///
/// # Errors
/// Exit code 2 where the input cannot be used: a file of no known format, or broken lines without `skip_broken`.
pub(crate) fn survey(script: &Script, skip_broken: bool) -> Result<Survey, Stop> {
    let mut survey = Survey::default();
    let mut steps = script.steps().map_err(|broken| unusable(&broken))?;
    for step in steps.by_ref() {
        match step {
            Ok(step) => survey.count(&step)?,
            Err(broken) => {
                survey.broken_lines += 1;
                if survey.broken.len() < LISTED_MAX {
                    survey.broken.push(broken);
                }
            }
        }
    }
    survey.silences_cut = steps.silences_cut();
    survey.judge(skip_broken)?;
    Ok(survey)
}

impl Survey {
    /// Rows for the tape.
    pub(crate) fn tape_rows(&self) -> u64 {
        self.trades + self.quotes
    }

    fn count(&mut self, step: &Step) -> Result<(), Stop> {
        self.rows += 1;
        match step.event {
            Event::Trade(_) => self.trades += 1,
            Event::Quote(_) => self.quotes += 1,
            Event::Price(_) => self.prices_only += 1,
        }
        let (first, last) = self.span.unwrap_or((step.at, step.at));
        self.span = Some((first.min(step.at), last.max(step.at)));
        if step.tape_row().is_some() {
            *self.seconds.entry(step.at.as_millis().div_euclid(1000)).or_default() += 1;
        }
        if let Some(point) = step.price() {
            let newest = Newest { slot: point.slot, value: point.value };
            self.newest.entry(point.token).or_insert(newest).advance(newest);
            if self.newest.len() > TOKENS_MAX {
                return Err(Stop::usage(
                    format!("the input has more than {TOKENS_MAX} different tokens"),
                    "replay it in parts; every token holds a key in Redis",
                ));
            }
        }
        Ok(())
    }

    fn judge(&self, skip_broken: bool) -> Result<(), Stop> {
        if self.broken_lines > 0 && !skip_broken {
            let first = self.broken.first().map(ToString::to_string).unwrap_or_default();
            let others = match self.broken_lines - 1 {
                0 => String::new(),
                1 => " (and 1 more broken line)".to_owned(),
                n => format!(" (and {n} more broken lines)"),
            };
            return Err(Stop::usage(
                format!("nothing was replayed: {first}{others}"),
                "mend the line, or leave such lines out with --skip-broken",
            ));
        }
        if self.rows == 0 {
            return Err(Stop::usage(
                "the input has no row that can be read",
                "give recorded trades or quotes as in samples/",
            ));
        }
        Ok(())
    }
}

/// Refuses times that the tape would not take: `oldest` to `newest`.
///
/// # Errors
/// Exit code 2, naming the limit that was broken.
pub(crate) fn check_span(span: (Timestamp, Timestamp), oldest: Timestamp, newest: Timestamp) -> Result<(), Stop> {
    let (first, last) = span;
    if first < oldest {
        return Err(Stop::usage(
            format!("the first row would stand at {first}, but rows before {oldest} are past the retention and vanish"),
            "give a later --start-at, or none to start now",
        ));
    }
    if last > newest {
        return Err(Stop::usage(
            format!("the last row would stand at {last}, but the tape takes none after {newest}"),
            "give an earlier --start-at, or replay fewer rows with --rows",
        ));
    }
    Ok(())
}

fn unusable(broken: &Broken) -> Stop {
    Stop::usage(broken.to_string(), "give recorded trades or quotes as in samples/; `tripod replay --help` says more")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn survey_of(rows: &str, skip_broken: bool) -> Result<Survey, Stop> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(
            &path,
            format!("time_exchange,time_received,exchange,symbol,trade_id,price,amount,side\n{rows}"),
        )
        .unwrap();
        let script = Script::new(vec![path], "2026-11-23T10:00:00Z".parse().unwrap(), None).unwrap();
        survey(&script, skip_broken)
    }

    fn trade(second: &str, price: &str) -> String {
        format!("2026-01-01T00:00:{second}Z,x,v,SOL,{second}{price},{price},1,Buy\n")
    }

    #[test]
    fn one_broken_line_keeps_everything_out_and_is_named() {
        let rows = trade("01", "1") + "broken\n" + &trade("02", "2") + "broken\n";
        let error = survey_of(&rows, false).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        let text = error.to_string();
        assert!(text.starts_with("nothing was replayed: "), "{text}");
        assert!(text.ends_with("a.csv line 3: has 1 column instead of 8 (and 1 more broken line)"), "{text}");
        let survey = survey_of(&rows, true).unwrap();
        assert_eq!((survey.rows, survey.broken_lines, survey.broken.len()), (2, 2, 2));
    }

    #[test]
    fn what_the_tape_would_refuse_counts_as_broken() {
        let rows = trade("01", "1") + &trade("02", "1.1234567890123456789");
        let error = survey_of(&rows, false).unwrap_err();
        assert!(error.to_string().contains("line 3: market_trades.price"), "{error}");
    }

    #[test]
    fn the_newest_price_is_the_one_of_the_highest_slot_and_the_last_of_equals() {
        let rows = [trade("01", "1"), trade("05", "2"), trade("05.0001", "3"), trade("03", "4")].concat();
        let survey = survey_of(&rows, false).unwrap();
        let newest = survey.newest.values().next().unwrap();
        assert_eq!(newest.value, Decimal::from(3));
        assert_eq!(survey.span.unwrap().1.to_string(), "2026-11-23T10:00:04.000100000Z");
        assert_eq!(survey.seconds.values().sum::<u64>(), 4);
    }

    #[test]
    fn an_input_without_rows_is_refused() {
        assert!(survey_of("", false).unwrap_err().to_string().contains("no row"));
        assert!(survey_of("broken\n", true).unwrap_err().to_string().contains("no row"));
    }

    #[test]
    fn a_span_outside_of_what_the_tape_takes_is_refused_on_either_side() {
        let at = |second: i64| Timestamp::from_nanos(second * 1_000_000_000).unwrap();
        assert!(check_span((at(5), at(9)), at(5), at(9)).is_ok());
        assert!(check_span((at(4), at(9)), at(5), at(9)).unwrap_err().to_string().contains("past the retention"));
        assert!(check_span((at(5), at(10)), at(5), at(9)).unwrap_err().to_string().contains("takes none after"));
    }
}
