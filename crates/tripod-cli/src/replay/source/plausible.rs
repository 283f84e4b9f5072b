//! Times that cannot be: one of them must not move, or condemn, all the good lines behind it.
//!
//! Constraints: a line is left out for its time alone where no recording of Solana's age has such a time, or where it
//! jumps by more than [`JUMP_DAYS_MAX`] and the lines behind it go back. A recording that goes on years later is as good
//! as any. The same file gives the same answer every time, within one process.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use tripod::Timestamp;

use super::{Broken, Record};

/// A jump from one line to the next beyond this is looked at.
const JUMP_DAYS_MAX: u64 = 400;
/// So many lines behind a jump are asked whether they go back.
const LINES_AHEAD: usize = 8;
const DAY: Duration = Duration::from_secs(86_400);
/// 2009-01-01: before it there was no such market.
const OLDEST: Duration = Duration::from_secs(1_230_768_000);

/// Ten years from now, for as long as this process lives.
static NEWEST: LazyLock<Timestamp> =
    LazyLock::new(|| Timestamp::now().checked_add(DAY * 3653).unwrap_or(Timestamp::MAX));

/// One file's records without those whose time cannot be.
#[derive(Debug)]
pub(crate) struct Plausible<I> {
    lines: I,
    file: PathBuf,
    /// The last good line's time.
    last: Option<Timestamp>,
    /// Read already, for a look ahead.
    ahead: VecDeque<Result<Record, Broken>>,
}

impl<I: Iterator<Item = Result<Record, Broken>>> Plausible<I> {
    pub(crate) fn new(lines: I, file: PathBuf) -> Self {
        Self { lines, file, last: None, ahead: VecDeque::new() }
    }

    /// Why this record's time cannot be, if it cannot.
    fn objection(&mut self, at: Timestamp) -> Option<String> {
        if !in_range(at) {
            return Some(format!("its time {at} is not plausible: recordings are of 2009 to ten years from now"));
        }
        let Some(last) = self.last else {
            // The first line has none before it; those behind it can only say that it is far ahead of all of them.
            let [second, third] = self.times_ahead(2)[..] else { return None };
            let alone = at > second && is_far(at, second) && !is_far(second, third);
            return alone.then(|| format!("its time {at} is not plausible: the next line is of {second}"));
        };
        if !is_far(at, last) {
            return None;
        }
        let behind = self.times_ahead(LINES_AHEAD);
        let goes_back = behind.iter().any(|next| !is_far(*next, last));
        (goes_back || (behind.is_empty() && at < last))
            .then(|| format!("its time {at} is not plausible: the line before is of {last}"))
    }

    /// Times of the next good records, at most `count` of them.
    fn times_ahead(&mut self, count: usize) -> Vec<Timestamp> {
        while self.ahead.len() < count {
            let Some(line) = self.lines.next() else { break };
            self.ahead.push_back(line);
        }
        let good = self.ahead.iter().filter_map(|line| line.as_ref().ok()).map(|record| record.at);
        good.filter(|at| in_range(*at)).take(count).collect()
    }
}

impl<I: Iterator<Item = Result<Record, Broken>>> Iterator for Plausible<I> {
    type Item = Result<Record, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.ahead.pop_front().or_else(|| self.lines.next())? {
            Ok(record) => record,
            broken => return Some(broken),
        };
        if let Some(what) = self.objection(record.at) {
            return Some(Err(Broken { file: self.file.clone(), line: Some(record.line), what }));
        }
        self.last = Some(record.at);
        Some(Ok(record))
    }
}

fn in_range(at: Timestamp) -> bool {
    let oldest = Timestamp::EPOCH.checked_add(OLDEST).unwrap_or(Timestamp::EPOCH);
    at >= oldest && at <= *NEWEST
}

fn is_far(one: Timestamp, other: Timestamp) -> bool {
    let apart = one.max(other).since(one.min(other));
    apart > DAY * u32::try_from(JUMP_DAYS_MAX).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Price};
    use super::*;
    use tripod::{Decimal, Token};

    /// Line numbers that are good, and those that are not.
    fn sorted(times: &[&str]) -> (Vec<u64>, Vec<u64>) {
        let price = Price { token: Token::new("SOL").unwrap(), price: Decimal::ONE };
        let lines = times.iter().zip(1..).map(|(at, line)| {
            Ok(Record {
                file: 0,
                line,
                at: format!("{at}T00:00:00Z").parse().unwrap(),
                event: Event::Price(price.clone()),
            })
        });
        let (mut good, mut broken) = (Vec::new(), Vec::new());
        for line in Plausible::new(lines, "a.csv".into()) {
            match line {
                Ok(record) => good.push(record.line),
                Err(why) => broken.extend(why.line),
            }
        }
        (good, broken)
    }

    #[test]
    fn one_absurd_time_is_the_only_broken_line_wherever_it_stands() {
        for absurd in ["2200-01-01", "1971-01-01", "2031-05-05"] {
            for place in 0..=3 {
                let mut times = vec!["2025-03-01", "2025-03-02", "2025-03-03"];
                times.insert(place, absurd);
                let (good, broken) = sorted(&times);
                if absurd == "2031-05-05" && place == 3 {
                    // Nothing goes back behind it: a recording that goes on.
                    assert_eq!((good.len(), broken.len()), (4, 0));
                } else {
                    assert_eq!(broken, [u64::try_from(place).unwrap() + 1], "{absurd} at {place}");
                    assert_eq!(good.len(), 3);
                }
            }
        }
    }

    #[test]
    fn several_absurd_times_in_a_row_are_each_broken() {
        assert_eq!(sorted(&["2025-03-01", "2012-01-01", "2033-01-01", "2025-03-02"]), (vec![1, 4], vec![2, 3]));
    }

    #[test]
    fn a_recording_that_goes_on_years_later_is_good() {
        assert_eq!(sorted(&["2021-03-01", "2021-03-02", "2025-03-01", "2025-03-02"]).1, Vec::<u64>::new());
        assert_eq!(sorted(&["2021-03-01", "2025-03-01"]).1, Vec::<u64>::new());
        assert_eq!(sorted(&["2025-03-01", "2012-03-01"]).1, [2], "a last line that falls back");
    }
}
