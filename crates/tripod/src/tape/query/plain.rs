//! SQL that somebody typed.
//!
//! Constraints: it reads and does not write. `/exec` runs whatever it is given, `WITH … UPDATE` included (tried), and its
//! login is the one that may write; so only statements that begin as a question pass, and none with a word in it that
//! makes a question an order. One statement: QuestDB refuses a second one itself.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::Limits;
use super::pool::statement_timeout;
use crate::config::QuestDb;
use crate::error::{Error, Result, Server};
use crate::tape::questdb::QuestDbHttp;

/// How a question begins.
const QUESTIONS: [&str; 5] = ["select", "with", "show", "explain", "declare"];
/// What may follow WITH and DECLARE and is none.
const ORDERS: [&str; 2] = ["insert", "update"];

/// The answer to plain SQL.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// Name and QuestDB type of each column.
    pub columns: Vec<(String, String)>,
    /// The values. DECIMAL, TIMESTAMP, UUID, SYMBOL, VARCHAR are text with all their digits, LONG an integer, NULL is
    /// null.
    pub rows: Vec<Vec<Value>>,
    /// There were more rows than asked for.
    pub truncated: bool,
}

/// Asks over HTTP, on a thread that may wait.
#[derive(Debug, Clone)]
pub(super) struct Plain {
    http: QuestDbHttp,
    turns: Arc<Semaphore>,
    deadline: Duration,
}

impl Plain {
    pub(super) fn open(server: &QuestDb, limits: Limits, turns: Arc<Semaphore>) -> Result<Self> {
        Ok(Self { http: QuestDbHttp::new(server, limits.deadline)?, turns, deadline: limits.deadline })
    }

    pub(super) async fn ask(&self, sql: &str, rows_max: usize) -> Result<Table> {
        check(sql)?;
        let late = || Error::Deadline { server: Server::QuestDb, what: "the query".into(), after: self.deadline };
        tokio::time::timeout(self.deadline, self.ask_in_turn(sql, rows_max)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn ask_in_turn(&self, sql: &str, rows_max: usize) -> Result<Table> {
        let closed = || Error::Closed("the tape's reader");
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| closed())?;
        let (http, sql, give_up) = (self.http.clone(), sql.to_owned(), statement_timeout(self.deadline));
        let asked = tokio::task::spawn_blocking(move || {
            // Held by the thread and not by the caller, who may go away before the server has answered.
            let _turn = turn;
            http.read(&sql, rows_max.saturating_add(1), give_up)
        });
        let answer = asked.await.map_err(|_| closed())??;
        let truncated = answer.rows.len() > rows_max;
        let mut rows = answer.rows;
        rows.truncate(rows_max);
        Ok(Table { columns: answer.columns, rows, truncated })
    }
}

/// Refuses what does more than read.
fn check(sql: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::invalid("the query", why));
    let mut words = bare_words(sql);
    let Some(first) = words.next() else { return refuse("is empty".into()) };
    if !QUESTIONS.contains(&first.as_str()) {
        return refuse(format!("begins with `{first}`; only {} are taken here", QUESTIONS.join(", ").to_uppercase()));
    }
    if let Some(order) = words.find(|word| ORDERS.contains(&word.as_str())) {
        return refuse(format!("has the word `{order}` in it, which changes rows; a column of that name needs quotes"));
    }
    Ok(())
}

/// The words of a statement outside of quotes and comments, in lower case.
fn bare_words(sql: &str) -> impl Iterator<Item = String> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            if is_word(first) {
                let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                rest = behind;
                return Some(word.to_lowercase());
            }
            let (skip, end) = match first {
                '\'' | '"' => (1, rest.get(1..).and_then(|text| text.find(first)).map(|at| at + 2)),
                '-' if rest.starts_with("--") => (2, Some(rest.find('\n').map_or(rest.len(), |at| at + 1))),
                '/' if rest.starts_with("/*") => (2, rest.find("*/").map(|at| at + 2)),
                other => (other.len_utf8(), Some(other.len_utf8())),
            };
            // A quote that does not end is the server's to complain of; what follows it is judged as words.
            rest = rest.get(end.unwrap_or(skip)..)?;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_pass() {
        for sql in [
            "SELECT 1",
            "  select * from t where note = 'please update' and \"insert\" = 1",
            "-- a remark: update\nSELECT 1",
            "/* insert */ (SELECT 1)",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "SHOW TABLES",
            "EXPLAIN SELECT 1",
            "DECLARE @x := 1 SELECT @x",
            "SELECT 'it''s an update'",
            "SELECT 1 -- update",
        ] {
            check(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
    }

    #[test]
    fn orders_do_not() {
        for sql in [
            "",
            "  -- nothing\n",
            "DROP TABLE t",
            "insert into t values (1)",
            "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
            "WITH x AS (SELECT 1) UPDATE t SET p = 3",
            "WITH x AS (SELECT 'a' FROM t)/**/update t SET p = 3",
            "-- SELECT\nUPDATE t SET p = 3",
            "ALTER TABLE t RESUME WAL",
            "TRUNCATE TABLE t",
            "COPY t TO 'x'",
            "CHECKPOINT CREATE",
            "(((DROP TABLE t",
            "SELECT 'a ' UPDATE",
        ] {
            let error = check(sql).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{sql}: {error:?}");
        }
    }
}
