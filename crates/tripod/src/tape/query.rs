//! Reading the tape back: typed questions, and plain SQL.
//!
//! Constraints: every question has one deadline, from waiting for its turn to the last row, and the server is told to
//! give up a little earlier, so that nothing runs on for nobody. Answers have a row limit and say when it cut them.
//! What was recorded comes back exactly: nanoseconds, all digits of a decimal, u64 beyond i64, NULL apart from zero.
//! Nothing here writes.
//!
//! Picture: two ways in, each where it keeps values exact (QuestDB 9.3.4, tried).
//! ```text
//! typed questions ──PGWire──▶ parameters apart from the SQL; DECIMAL as binary numeric, digit for digit; an i64 of
//!                             nanoseconds as a parameter still selects partitions; `statement_timeout` is obeyed.
//!                             Not so TIMESTAMP_NS itself, which loses three digits: it is asked for as a LONG.
//! plain SQL ────────/exec───▶ every type as text or integer with all its digits, and named: TIMESTAMP_NS and the types
//!                             that a binary PGWire client cannot read (IPv4, arrays) included.
//! ```
//! Operation: [`Reader::open`] once, clones share it; then ask. See [`Answer::truncated`].

mod decimal;
mod near;
mod plain;
mod pool;
mod quality;
mod routes;
mod rows;
mod select;

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};

use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::tape::Row;
use crate::tape::tables::{Attempt, Execution};
use crate::value::{Timestamp, Token, Uuid};

pub use plain::Table;
pub use quality::{Quality, Slippage};
pub use routes::WinRate;
pub use rows::{Candle, StoredAttempt, StoredExecution};

use plain::Plain;
use pool::{Parameter, Pool};
use select::{Columns, select_list};

/// What one question may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// From waiting for its turn to the last row. More lets a question over a long span finish; less keeps a bot that
    /// asks from waiting.
    pub deadline: Duration,
    /// Rows of one answer at most; the answer says when there were more. Each row of `executions` takes about 1 KiB here.
    pub rows_max: usize,
    /// Questions on the server at a time, and connections held; more of them wait. QuestDB takes 64 connections from
    /// everybody together, and each question takes a worker from delivery.
    pub concurrent_max: usize,
}

impl Default for Limits {
    /// 5 s, 10,000 rows, 4 at a time.
    fn default() -> Self {
        Self { deadline: Duration::from_secs(5), rows_max: 10_000, concurrent_max: 4 }
    }
}

/// Rows of an answer, in the order that its question states.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// There were more: ask for a shorter span, or raise [`Limits::rows_max`].
    pub truncated: bool,
}

impl<T> Answer<T> {
    /// Of rows that were asked for with [`over`].
    fn cut(
        rows: &[tokio_postgres::Row],
        rows_max: usize,
        read: impl Fn(&tokio_postgres::Row) -> Result<T>,
    ) -> Result<Self> {
        let truncated = rows.len() > rows_max;
        let rows = rows.iter().take(rows_max).map(read).collect::<Result<_>>()?;
        Ok(Self { rows, truncated })
    }
}

/// From an instant (included) to another (excluded).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    from: Timestamp,
    until: Timestamp,
}

impl Span {
    /// `from` to before `until`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it ends before it begins.
    pub fn new(from: Timestamp, until: Timestamp) -> Result<Self> {
        if until < from {
            return Err(Error::invalid("span", format!("ends at {until}, before it begins at {from}")));
        }
        Ok(Self { from, until })
    }

    /// The last so long until now.
    #[must_use]
    pub fn last(length: Duration) -> Self {
        let until = Timestamp::now();
        Self { from: until.checked_sub(length).unwrap_or(Timestamp::EPOCH), until }
    }

    fn bounds(&self) -> [i64; 2] {
        [self.from.as_nanos(), self.until.as_nanos()]
    }
}

/// A handle to ask with; clones share its connections. Connects at the first question, not before.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: Pool,
    plain: Plain,
    prefix: Arc<str>,
    limits: Limits,
}

impl Reader {
    /// Asks the first server of `config`.
    ///
    /// # Errors
    /// As [`Reader::open_on`]; [`Error::Invalid`] where the config has no QuestDB.
    pub fn open(config: &Config, limits: Limits) -> Result<Self> {
        let server = config.questdb.first().ok_or_else(|| Error::invalid("questdb", "has no entry to read from"))?;
        Self::open_on(server, &config.tape.table_prefix, limits)
    }

    /// Asks one server, whose tables have `prefix` before their names.
    ///
    /// # Errors
    /// [`Error::Invalid`] where an address is not host:port, a limit is zero, the prefix is none, or the system has no
    /// certificate authorities and TLS is asked for.
    pub fn open_on(server: &config::QuestDb, prefix: &str, limits: Limits) -> Result<Self> {
        for (name, is_zero) in [
            ("deadline", limits.deadline.is_zero()),
            ("rows_max", limits.rows_max == 0),
            ("concurrent_max", limits.concurrent_max == 0),
        ] {
            if is_zero {
                return Err(Error::invalid(format!("limits.{name}"), "is zero; nothing could be asked"));
            }
        }
        crate::tape::spec::check_prefix(prefix)?;
        let pool = Pool::open(server, limits)?;
        let plain = Plain::open(server, limits, pool.turns())?;
        Ok(Self { pool, plain, prefix: prefix.into(), limits })
    }

    /// The execution with this id. An id of version 7 holds its time: the execution is looked for in the minutes after
    /// it, then in the hour, and only what is not there in the whole table. Of several rows with this id in the first of
    /// these that has one, the latest.
    ///
    /// # Errors
    /// As [`Reader::sql`], and [`Error::Schema`] where the table is not there or lacks a column.
    pub async fn execution(&self, id: Uuid) -> Result<Option<StoredExecution>> {
        let spec = Execution::spec();
        let list = select_list(spec, "");
        let table = self.table(&spec.name);
        let near_sql =
            format!("SELECT {list} FROM {table} WHERE id = $1 AND at >= $2 AND at < $3 ORDER BY at DESC LIMIT 1");
        let all_sql = format!("SELECT {list} FROM {table} WHERE id = $1 ORDER BY at DESC LIMIT 1");
        let rows = self
            .pool
            .call("find an execution", async |connection| {
                for [from, until] in near::after_id(id) {
                    let parameters = [(&id as _, Type::UUID), (&from as _, Type::INT8), (&until as _, Type::INT8)];
                    let found = connection.query_typed(&near_sql, &parameters).await?;
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                connection.query_typed(&all_sql, &[(&id, Type::UUID)]).await
            })
            .await?;
        rows.first().map(|row| StoredExecution::read(&mut Columns::of(row, &spec.name))).transpose()
    }

    /// The executions of a span, oldest first.
    ///
    /// # Errors
    /// As [`Reader::execution`].
    pub async fn executions_in(&self, span: Span) -> Result<Answer<StoredExecution>> {
        let spec = Execution::spec();
        let sql = format!(
            "SELECT {} FROM {} WHERE at >= $1 AND at < $2 ORDER BY at LIMIT $3",
            select_list(spec, ""),
            self.table(&spec.name)
        );
        let [from, until] = span.bounds();
        self.ask("read executions", &sql, &[(&from, Type::INT8), (&until, Type::INT8)], self.limits.rows_max, |row| {
            StoredExecution::read(&mut Columns::of(row, &spec.name))
        })
        .await
    }

    /// The last `count` executions of a token, newest first. Looked for in the last minutes, then in the last day, and
    /// only where these hold too few in the whole table.
    ///
    /// # Errors
    /// As [`Reader::execution`].
    pub async fn executions_of(&self, token: Token, count: usize) -> Result<Answer<StoredExecution>> {
        let spec = Execution::spec();
        let (list, table) = (select_list(spec, ""), self.table(&spec.name));
        let near_sql = format!("SELECT {list} FROM {table} WHERE token = $1 AND at >= $2 ORDER BY at DESC LIMIT $3");
        let all_sql = format!("SELECT {list} FROM {table} WHERE token = $1 ORDER BY at DESC LIMIT $2");
        let count = count.min(self.limits.rows_max);
        let (limit, token) = (over(count), token.as_str());
        let rows = self
            .pool
            .call("read a token's executions", async |connection| {
                for from in near::before(Timestamp::now()) {
                    let parameters =
                        [(&token as _, Type::VARCHAR), (&from as _, Type::INT8), (&limit as _, Type::INT8)];
                    let found = connection.query_typed(&near_sql, &parameters).await?;
                    if found.len() > count {
                        return Ok(found);
                    }
                }
                connection.query_typed(&all_sql, &[(&token, Type::VARCHAR), (&limit, Type::INT8)]).await
            })
            .await?;
        Answer::cut(&rows, count, |row| StoredExecution::read(&mut Columns::of(row, &spec.name)))
    }

    /// The attempts of a span that have no execution, oldest first: their bot died, or nobody saw their end. One whose
    /// transaction is still on its way is among them, so end the span some minutes ago.
    ///
    /// # Errors
    /// As [`Reader::execution`].
    pub async fn attempts_without_end(&self, span: Span) -> Result<Answer<StoredAttempt>> {
        let (attempts, executions) = (Attempt::spec(), Execution::spec());
        let sql = format!(
            "SELECT {} FROM (SELECT * FROM {} WHERE at >= $1 AND at < $2) a \
             LEFT JOIN (SELECT id FROM {} WHERE at >= $3) e ON e.id = a.id WHERE e.id IS NULL ORDER BY a.at LIMIT $4",
            select_list(attempts, "a."),
            self.table(&attempts.name),
            self.table(&executions.name)
        );
        let [from, until] = span.bounds();
        let ends_from = span.from.checked_sub(near::CLOCK_ROOM).unwrap_or(Timestamp::EPOCH).as_nanos();
        let parameters: [Parameter<'_>; 3] = [(&from, Type::INT8), (&until, Type::INT8), (&ends_from, Type::INT8)];
        self.ask("read attempts without an end", &sql, &parameters, self.limits.rows_max, |row| {
            StoredAttempt::read(&mut Columns::of(row, &attempts.name))
        })
        .await
    }

    /// The candles of a token's market trades, oldest first; on one venue, or on all of them together. `every` is whole
    /// seconds; candles begin at multiples of it since 1970, so the first and last hold only what of them is within the
    /// span. Where nobody traded there is none. Trades of one nanosecond are in the order that the server keeps them.
    ///
    /// # Errors
    /// As [`Reader::execution`]; [`Error::Invalid`] where `every` is not whole seconds.
    pub async fn candles(
        &self,
        token: Token,
        venue: Option<&str>,
        span: Span,
        every: Duration,
    ) -> Result<Answer<Candle>> {
        if every.as_secs() == 0 || every.subsec_nanos() != 0 {
            return Err(Error::invalid("candles", format!("every {every:?} is not whole seconds")));
        }
        let on_venue = if venue.is_some() { "AND venue = $4 " } else { "" };
        let limit = if venue.is_some() { "$5" } else { "$4" };
        // Inside: the planner puts a LIMIT below a sort by `at::long`, and a cut answer would have other candles.
        let sql = format!(
            "SELECT at::long, opened, high, low, closed, volume, trades FROM \
             (SELECT at, first(price) opened, max(price) high, min(price) low, last(price) closed, sum(size) volume, \
             count() trades FROM {} WHERE token = $1 AND at >= $2 AND at < $3 {on_venue}\
             SAMPLE BY {}s ALIGN TO CALENDAR ORDER BY at LIMIT {limit})",
            self.table("market_trades"),
            every.as_secs()
        );
        let [from, until] = span.bounds();
        let token = token.as_str();
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&token, Type::VARCHAR), (&from, Type::INT8), (&until, Type::INT8)];
        if let Some(venue) = &venue {
            parameters.push((venue, Type::VARCHAR));
        }
        self.ask("read candles", &sql, &parameters, self.limits.rows_max, |row| {
            Candle::read(&mut Columns::of(row, "candle"))
        })
        .await
    }

    /// How well executions went, per hour, strategy and venue, in this order.
    ///
    /// # Errors
    /// As [`Reader::execution`].
    pub async fn execution_quality(&self, span: Span) -> Result<Answer<Quality>> {
        let sql = quality::sql(&self.table("executions"));
        let [from, until] = span.bounds();
        let parameters: [Parameter<'_>; 2] = [(&from, Type::INT8), (&until, Type::INT8)];
        self.ask("read execution quality", &sql, &parameters, self.limits.rows_max, |row| {
            Quality::read(&mut Columns::of(row, "execution quality"))
        })
        .await
    }

    /// How often each route won, per hour and route, in this order.
    ///
    /// # Errors
    /// As [`Reader::execution`].
    pub async fn win_rates(&self, span: Span) -> Result<Answer<WinRate>> {
        let sql = routes::sql(&self.table("executions"));
        let [from, until] = span.bounds();
        let parameters: [Parameter<'_>; 2] = [(&from, Type::INT8), (&until, Type::INT8)];
        self.ask("read win rates", &sql, &parameters, self.limits.rows_max, |row| {
            WinRate::read(&mut Columns::of(row, "win rate"))
        })
        .await
    }

    /// Plain SQL that reads: SELECT, WITH, SHOW, EXPLAIN, DECLARE; one statement. At most `rows_max` rows, and never
    /// more than the reader's own limit. Table names are the server's, prefix included.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the statement does more than read; [`Error::Refused`] with QuestDB's own words;
    /// [`Error::Deadline`], [`Error::Busy`], [`Error::Unreachable`].
    pub async fn sql(&self, sql: &str, rows_max: usize) -> Result<Table> {
        self.plain.ask(sql, rows_max.min(self.limits.rows_max)).await
    }

    /// Asks for one row more than are wanted, which is how a cut answer is known.
    async fn ask<T>(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
        rows_max: usize,
        read: impl Fn(&tokio_postgres::Row) -> Result<T>,
    ) -> Result<Answer<T>> {
        let limit = over(rows_max);
        let mut all: Vec<(&(dyn ToSql + Sync), Type)> =
            parameters.iter().map(|(value, kind)| (*value, kind.clone())).collect();
        all.push((&limit, Type::INT8));
        let rows = self.pool.call(what, async |connection| connection.query_typed(sql, &all).await).await?;
        Answer::cut(&rows, rows_max, read)
    }

    fn table(&self, name: &str) -> String {
        format!("\"{}{name}\"", self.prefix)
    }
}

/// One row more than are wanted.
fn over(rows_max: usize) -> i64 {
    i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_ends_before_it_begins_is_refused() {
        let (early, late) = (Timestamp::from_nanos(1).unwrap(), Timestamp::from_nanos(2).unwrap());
        assert!(Span::new(late, early).is_err());
        assert_eq!(Span::new(early, late).unwrap().bounds(), [1, 2]);
    }

    #[test]
    fn a_limit_of_zero_is_refused_by_name() {
        let server = config::QuestDb::default();
        for (limits, name) in [
            (Limits { deadline: Duration::ZERO, ..Limits::default() }, "deadline"),
            (Limits { rows_max: 0, ..Limits::default() }, "rows_max"),
            (Limits { concurrent_max: 0, ..Limits::default() }, "concurrent_max"),
        ] {
            let error = Reader::open_on(&server, "", limits).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
