//! Questions to thirty days of rows while 100k rows/s are written into the same tables, and what they cost the writing.
//!
//! Constraints: asked as a bot or a dashboard asks, through [`Reader`], one question at a time with a pause between two.
//! Every answer is judged: a fast wrong one is no figure. The writing is measured before, while, and after the
//! questions, so that a machine that becomes slower is not put down to them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use tripod::tape::query::{Limits, Reader, Span};

use super::super::report::Figure;
use super::beside::{self, BESIDE_ROWS_PER_SECOND, Beside};
use super::history::{DAYS, History, MARKETS};
use super::record;
use super::rig::Rig;
use crate::drill::pause;

/// Of the 100k rows/s; the others are trades.
const EXECUTIONS_PER_SECOND: u64 = 10_000;
/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(30);
const DEADLINE: Duration = Duration::from_secs(30);
/// Executions of a token that are asked for.
const LAST: usize = 100;
const CANDLE: Duration = Duration::from_mins(1);
/// Seconds of each of the three parts.
const ALONE_S: u64 = 8;
const ASKED_S: u64 = 24;
const ASKED_FULL_S: u64 = 60;
/// Rows from which on the asking lasts longer.
const FULL_ROWS: u64 = 1_000_000;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    ExecutionById,
    LastOfToken,
    CandlesOfDay,
    WinRateByRoute,
}

use Question::{CandlesOfDay, ExecutionById, LastOfToken, WinRateByRoute};

impl Question {
    /// A bot asks for what it traded more often than somebody looks at a day.
    const ROUND: [Self; 8] = [
        ExecutionById,
        LastOfToken,
        CandlesOfDay,
        ExecutionById,
        LastOfToken,
        WinRateByRoute,
        ExecutionById,
        LastOfToken,
    ];

    fn name(self) -> &'static str {
        match self {
            ExecutionById => "query_execution_by_id",
            LastOfToken => "query_last_100_of_token",
            CandlesOfDay => "query_candles_of_day",
            WinRateByRoute => "query_win_rate_of_day",
        }
    }

    /// p99, microseconds; half of it is better than asked for.
    fn most_us(self) -> u64 {
        match self {
            ExecutionById | LastOfToken => 20_000,
            CandlesOfDay => 50_000,
            WinRateByRoute => 200_000,
        }
    }
}

type Times = BTreeMap<Question, Histogram<u64>>;

/// Loads the history, then asks.
pub(super) fn measure(rig: &mut Rig, rows_per_day: u64) -> anyhow::Result<Vec<Figure>> {
    let history = History::load(rig, rows_per_day)?;
    let loaded = DAYS * rows_per_day;
    let mut figures = vec![
        Figure::plain("history_rows", loaded, "rows")
            .note(format!("in each of executions and market_trades, {DAYS} days; loaded in {:.0?}", history.took)),
    ];
    let asked_s = if rows_per_day >= FULL_ROWS { ASKED_FULL_S } else { ASKED_S };
    let before = write(rig, ALONE_S, |_| Ok(()))?.1;
    let (times, during) = write(rig, asked_s, |rig| ask_for(rig, history, Duration::from_secs(asked_s)))?;
    let after = write(rig, ALONE_S, |_| Ok(()))?.1;

    for (question, micros) in &times {
        let note = format!("{} questions, {rows_per_day} rows a day", micros.len());
        let part = |part: &str, quantile| {
            Figure::plain(&format!("{}_{part}", question.name()), micros.value_at_quantile(quantile), "us")
        };
        figures.push(part("p50", 0.5));
        figures.push(part("p99", 0.99).most(question.most_us()).best(question.most_us() / 2).note(note));
    }
    figures.push(slowdown(&before, &during, &after));
    let millis = |quantile| during.visible_us.value_at_quantile(quantile).div_ceil(1000);
    figures.push(Figure::plain("visible_while_asked_p50", millis(0.5), "ms"));
    figures.push(Figure::plain("visible_while_asked_p99", millis(0.99), "ms"));
    Ok(figures)
}

/// In per cent of what was written without questions, before and after.
fn slowdown(before: &Beside, during: &Beside, after: &Beside) -> Figure {
    let alone = (before.rows_per_second + after.rows_per_second) / 2;
    let lost = alone.saturating_sub(during.rows_per_second) * 100;
    let note = format!(
        "trades/s visible: {} before, {} while asked, {} after",
        before.rows_per_second, during.rows_per_second, after.rows_per_second
    );
    Figure::at_most("ingest_slowed_by_queries", lost.div_ceil(alone.max(1)), "%", 9).best(5).note(note)
}

/// Writes 100k rows/s into both tables meanwhile.
fn write<T: Send>(
    rig: &mut Rig,
    seconds: u64,
    meanwhile: impl FnOnce(&Rig) -> anyhow::Result<T> + Send,
) -> anyhow::Result<(T, Beside)> {
    let executions = rig.take_executions(seconds * EXECUTIONS_PER_SECOND);
    beside::run(rig, seconds, BESIDE_ROWS_PER_SECOND - EXECUTIONS_PER_SECOND, |rig, recorder| {
        let (recorder, stock) = (recorder.clone(), rig.stock);
        std::thread::scope(|scope| {
            let recording = scope.spawn(move || record::calls(&recorder, stock, executions, EXECUTIONS_PER_SECOND));
            let result = meanwhile(rig);
            recording.join().map_err(|_| anyhow::anyhow!("the thread that records executions panicked"))??;
            result
        })
    })
}

fn ask_for(rig: &Rig, history: History, time: Duration) -> anyhow::Result<Times> {
    let mut limits = Limits::default();
    limits.deadline = DEADLINE;
    let reader = Reader::open(&rig.config, limits)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = Times::new();
    let end = Instant::now() + time;
    // The first round connects and is not counted.
    for (number, question) in (0..).zip(Question::ROUND) {
        runtime.block_on(ask(&reader, history, question, number))?;
    }
    for (number, question) in (0..).zip(Question::ROUND.into_iter().cycle()) {
        if Instant::now() >= end {
            break;
        }
        let started = Instant::now();
        runtime.block_on(ask(&reader, history, question, number))?;
        let micros = u64::try_from(started.elapsed().as_micros())?;
        // Three digits, up to a minute.
        let of_question = times.entry(question).or_insert(Histogram::new_with_max(60_000_000, 3)?);
        of_question.saturating_record(micros);
        pause(PAUSE);
    }
    Ok(times)
}

/// Asks one question; an answer that cannot be right is an error.
async fn ask(reader: &Reader, history: History, question: Question, number: u64) -> anyhow::Result<()> {
    let rows = history.rows_per_day;
    let (day, row) = (spread(number, 0..DAYS), spread(number.wrapping_mul(31), 0..rows));
    let span = Span::new(history.day(day), history.day(day + 1))?;
    match question {
        ExecutionById => {
            let id = history.id(day, row);
            let found = reader.execution(id).await?.with_context(|| format!("execution {id} is not found"))?;
            ensure!(found.id == id && found.at >= history.day(day), "execution {id} came back as {found:?}");
        }
        LastOfToken => {
            let token = History::token(row)?;
            let found = reader.executions_of(token, LAST).await?.rows;
            ensure!(found.len() == LAST && found.iter().all(|row| row.token == token), "{} of {LAST}", found.len());
            ensure!(found.is_sorted_by(|newer, older| newer.at >= older.at), "the last {LAST} are not in order");
        }
        CandlesOfDay => {
            let candles = reader.candles(History::market(row)?, None, span, CANDLE).await?.rows;
            let trades: u64 = candles.iter().map(|candle| candle.trades).sum();
            ensure!(trades.abs_diff(rows / MARKETS) <= 1, "the candles of a day hold {trades} trades of {rows}");
        }
        WinRateByRoute => {
            let rates = reader.win_rates(span).await?.rows;
            let executions: u64 = rates.iter().map(|rate| rate.executions).sum();
            ensure!(executions == rows, "the win rates of a day are of {executions} executions, not of {rows}");
        }
    }
    Ok(())
}

/// Somewhere in the range, another place for each number, the same in each run.
fn spread(number: u64, range: Range<u64>) -> u64 {
    // Knuth's multiplier; the high bits are the mixed ones.
    let mixed = number.wrapping_add(1).wrapping_mul(6_364_136_223_846_793_005) >> 33;
    range.start + mixed % (range.end - range.start).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_range_and_all_over_it() {
        let places: Vec<u64> = (0..300).map(|number| spread(number, 0..DAYS)).collect();
        assert!(places.iter().all(|place| *place < DAYS));
        assert!((0..DAYS).all(|day| places.contains(&day)), "{places:?}");
    }

    #[test]
    fn writing_that_was_no_slower_is_slowed_by_nothing() {
        let beside = |rows_per_second| Beside { rows_per_second, visible_us: Histogram::new(3).unwrap() };
        let json = |figure: Figure| serde_json::to_value(figure).unwrap();
        let same = json(slowdown(&beside(90_000), &beside(90_100), &beside(89_000)));
        assert_eq!((&same["value"], &same["ok"]), (&0.into(), &true.into()));
        let slower = json(slowdown(&beside(90_000), &beside(80_000), &beside(90_000)));
        assert_eq!((&slower["value"], &slower["ok"]), (&12.into(), &false.into()));
    }
}
