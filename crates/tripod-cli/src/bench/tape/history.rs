//! Thirty days of rows to ask about, made on the server itself: executions and market trades, as many of each a day.
//!
//! Constraints: it goes in before anything is asked, through the tables' own WAL, so that it lies on the disk as
//! delivered rows do: in order, a partition a day. What it holds can be computed from a row's number, so that every answer
//! can be judged.
//!
//! | row `x` of day `d` | is |
//! |---|---|
//! | `at` | the day's begin + `x` steps; a day is as many steps as rows |
//! | `id` | version 7, of that time, ending in `d × rows + x` |
//! | `token` | `x mod 20` of the market's trades, `x mod 1000` of the executions |
//! | `route`, `status`, `venue` | by chance: 20, 5, 4 different ones; every second execution landed |

use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use tripod::tape::questdb::QuestDbHttp;
use tripod::{Timestamp, Token, Uuid};

use super::memory::require_disk;
use super::rig::Rig;
use crate::drill::pause;

pub(super) const DAYS: u64 = 30;
const DAY: Duration = Duration::from_hours(24);
/// Markets of the trades, tokens of the executions.
pub(super) const MARKETS: u64 = 20;
const TOKENS: u64 = 1000;
/// Rows of one statement: QuestDB ends one after a minute.
const STATEMENT_ROWS: u64 = 100_000;
const STATEMENT_WITHIN: Duration = Duration::from_secs(120);
const VISIBLE_WITHIN: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Disk that a row of both tables takes, with its log until that is cleared away.
const ROW_BYTES: u64 = 1200;

/// What went in.
#[derive(Debug, Clone, Copy)]
pub(super) struct History {
    /// Midnight before the first day.
    begin: Timestamp,
    pub(super) rows_per_day: u64,
    pub(super) took: Duration,
}

impl History {
    /// Loads both tables at a time; when it returns, all of it is visible.
    pub(super) fn load(rig: &mut Rig, rows_per_day: u64) -> anyhow::Result<Self> {
        require_disk(rig, rows_per_day.saturating_mul(DAYS * ROW_BYTES))?;
        let server = rig.config.questdb.first().ok_or_else(|| anyhow!("the config names no QuestDB"))?;
        let http = QuestDbHttp::new(server, STATEMENT_WITHIN)?;
        let day = i64::try_from(DAY.as_nanos())?;
        let today = Timestamp::now().as_nanos() / day * day;
        let begin = Timestamp::from_nanos(today - day * i64::try_from(DAYS)?)?;
        let mut history = Self { begin, rows_per_day, took: Duration::ZERO };
        let tables = [Rig::trades_table(), Rig::executions_table()];
        let before = [rig.count(&tables[0])?, rig.count(&tables[1])?];
        let started = Instant::now();
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let trades = scope.spawn(|| history.fill(&http, |day, rows| history.trades_sql(&tables[0], day, rows)));
            history.fill(&http, |day, rows| history.executions_sql(&tables[1], day, rows))?;
            trades.join().map_err(|_| anyhow!("the thread that loads trades panicked"))?
        })?;
        rig.history = DAYS * rows_per_day;
        for (table, before) in tables.iter().zip(before) {
            let end = Instant::now() + VISIBLE_WITHIN;
            while rig.count(table)? != before + rig.history {
                ensure!(Instant::now() < end, "the history of {table} is not visible after {VISIBLE_WITHIN:?}");
                pause(LOOK_EVERY);
            }
        }
        history.took = started.elapsed();
        Ok(history)
    }

    fn fill(&self, http: &QuestDbHttp, sql: impl Fn(u64, std::ops::Range<u64>) -> String) -> anyhow::Result<()> {
        for day in 0..DAYS {
            let mut next = 0;
            while next < self.rows_per_day {
                let rows = next..(next + STATEMENT_ROWS).min(self.rows_per_day);
                next = rows.end;
                http.exec(&sql(day, rows))?;
            }
        }
        Ok(())
    }

    /// A day's begin; the first is 0.
    pub(super) fn day(&self, day: u64) -> Timestamp {
        let later = DAY.saturating_mul(u32::try_from(day).unwrap_or(u32::MAX));
        self.begin.checked_add(later).unwrap_or(self.begin)
    }

    fn step_ns(&self) -> i64 {
        i64::try_from(DAY.as_nanos() / u128::from(self.rows_per_day)).unwrap_or(1)
    }

    /// The id of the execution `row` of a day.
    pub(super) fn id(&self, day: u64, row: u64) -> Uuid {
        let later = Duration::from_nanos(self.step_ns().unsigned_abs()).saturating_mul(u32::try_from(row).unwrap_or(0));
        let at = self.day(day).checked_add(later).unwrap_or(self.begin);
        let high = at.as_millis().unsigned_abs() * 0x1_0000 + 0x7000;
        Uuid::from_u64_pair(high, 0x8000_0000_0000_0001 + day * self.rows_per_day + row)
    }

    /// One of the executions' tokens.
    pub(super) fn token(number: u64) -> tripod::Result<Token> {
        Token::new(&format!("TOKEN{}", number % TOKENS))
    }

    /// One of the trades' markets.
    pub(super) fn market(number: u64) -> tripod::Result<Token> {
        Token::new(&format!("MARKET{}", number % MARKETS))
    }

    /// The numbers of `long_sequence` begin at 1.
    fn row(rows: &std::ops::Range<u64>) -> (u64, String) {
        (rows.end - rows.start, format!("(x + {} - 1)", rows.start))
    }

    fn trades_sql(&self, table: &str, day: u64, rows: std::ops::Range<u64>) -> String {
        let (count, x) = Self::row(&rows);
        let (begin, step) = (self.day(day).as_nanos(), self.step_ns());
        format!(
            "INSERT INTO \"{table}\" (at, venue, token, trade_id, side, price, size, slot) \
             SELECT ({begin} + {x} * {step})::timestamp_ns, rnd_symbol('raydium', 'binance'), 'MARKET' || ({x} % {MARKETS}), \
             ({x} + {first})::varchar, rnd_symbol('buy', 'sell'), 140.12345m::decimal(38,18), \
             1.234567m::decimal(38,18), (300000000 + {x})::decimal(20,0) FROM long_sequence({count})",
            first = day * self.rows_per_day,
        )
    }

    fn executions_sql(&self, table: &str, day: u64, rows: std::ops::Range<u64>) -> String {
        let (count, x) = Self::row(&rows);
        let (begin, step) = (self.day(day).as_nanos(), self.step_ns());
        let routes: Vec<String> = (0..20).map(|route| format!("'raydium>orca>{route}'")).collect();
        let u64s = |values: &[&str]| -> String {
            let cast = values.iter().map(|value| format!("({value})::decimal(20,0)"));
            cast.collect::<Vec<_>>().join(", ")
        };
        let (slot, amount) = (format!("300000000 + {x}"), format!("1000000000 + {x}"));
        format!(
            "INSERT INTO \"{table}\" (at, id, strategy, venue, token, status, attempted_at, route, signature, token_in, \
             token_out, expected_price, realised_price, slippage_bps, profit_lamports, amount_in, amount_out, \
             expected_amount_out, fee_lamports, priority_fee_lamports, tip_lamports, compute_units, slot_seen, slot_sent, \
             slot_landed, decide_ns, build_ns, send_ns, land_ns) \
             SELECT ({begin} + {x} * {step})::timestamp_ns, \
             to_uuid(-9223372036854775807 + {x} + {first}, ({begin} + {x} * {step}) / 1000000 * 65536 + 28672), \
             'triangle', rnd_symbol('raydium', 'orca', 'meteora', 'phoenix'), 'TOKEN' || ({x} % {TOKENS}), \
             rnd_symbol('landed', 'landed', 'landed', 'landed', 'failed', 'expired', 'dropped', 'simulated'), \
             ({begin} + {x} * {step} - 400000000)::timestamp_ns, rnd_symbol({routes}), \
             '5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW', \
             'So11111111111111111111111111111111111111112', 'So11111111111111111111111111111111111111112', \
             1.000050m::decimal(38,18), 1.000048m::decimal(38,18), ({x} % 100)::decimal(18,4), 43000 + {x} % 1000, {u64s} \
             FROM long_sequence({count})",
            first = day * self.rows_per_day,
            routes = routes.join(", "),
            u64s = u64s(&[
                &amount,
                &amount,
                &amount,
                "7000",
                "2000",
                "3000",
                "231402",
                &slot,
                &slot,
                &slot,
                "81000",
                "120000",
                "310000",
                "402000000"
            ]),
        )
    }
}
