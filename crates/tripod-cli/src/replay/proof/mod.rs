//! The proof: every row that the files ask for is on the server, once, digit by digit.
//!
//! Constraints: the expected rows are made from the files again; the found rows come from `SELECT`s over the whole span,
//! not from anything this process counted. Sums and counts are asked for a second time as the server's own aggregates.
//! Memory holds one window of rows, however long the recording is.
//!
//! Picture:
//! ```text
//! files ─▶ script ─▶ expected ─┐
//!                              ├─▶ matching, window by window ─▶ verdict ─┐
//! QuestDB ─▶ SELECT … ─────────┘                                          ├─▶ proof
//! QuestDB ─▶ SELECT count(), sum(…) over the whole span ──────────────────┘
//! ```

mod matching;
#[cfg(test)]
mod tests;
mod windows;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tripod::Timestamp;

use super::expect::{self, Column, Form, Row, Table, normal_number};
use super::script::Script;
use super::survey::Survey;
use matching::Matching;
pub(crate) use matching::Verdict;
use windows::{Window, windows};

/// Expected rows of one table in memory at a time.
const WINDOW_ROWS_MAX: u64 = 200_000;
/// Rows in one answer of the server at most; a window with more (others write too) is asked for in parts.
const ANSWER_ROWS_MAX: u64 = 50_000;
/// Somebody else may write into the span between the reading and the sums: then both are done again.
const TRIES: u32 = 3;

/// Answers SQL with rows.
pub(crate) trait Ask {
    /// The rows of one statement.
    fn ask(&self, sql: &str) -> anyhow::Result<Vec<Vec<Value>>>;
}

/// What the server holds of one table.
#[derive(Debug)]
pub(crate) struct TableProof {
    pub(crate) verdict: Verdict,
    /// The server's own sums, in the order of [`Table::summed`], each with what they must be.
    pub(crate) sums: Vec<SumProof>,
    /// `count()` and the count of distinct keys by the server, over the whole span.
    pub(crate) server_count: u64,
    pub(crate) server_keys: u64,
    /// The statements to repeat by hand.
    pub(crate) count_sql: String,
    pub(crate) keys_sql: String,
}

/// One column's sum.
#[derive(Debug)]
pub(crate) struct SumProof {
    pub(crate) column: &'static str,
    /// The expected rows' sum, by the files.
    pub(crate) files: Option<String>,
    /// The sum of every row read back, rows of others among them.
    pub(crate) read_back: Option<String>,
    /// The server's own.
    pub(crate) server: String,
}

impl SumProof {
    /// The server's sum is the sum of what was read back; where it is past what can be added exactly here, nothing is
    /// claimed and nothing is refused.
    pub(crate) fn is_true(&self) -> bool {
        self.read_back.as_ref().is_none_or(|sum| *sum == self.server)
    }
}

impl TableProof {
    /// The server's own counts and sums are those of the rows it gave.
    pub(crate) fn adds_up(&self) -> bool {
        let found = self.verdict.found();
        self.server_count == found
            && self.server_keys == found - self.verdict.doubled
            && self.sums.iter().all(SumProof::is_true)
    }

    pub(crate) fn is_true(&self) -> bool {
        self.verdict.is_true() && self.adds_up()
    }
}

/// Compares what `script` asks for with what the server has in the tables named with `prefix`.
pub(crate) fn prove(
    server: &impl Ask,
    prefix: &str,
    script: &Script,
    survey: &Survey,
) -> anyhow::Result<Vec<TableProof>> {
    let windows = windows(&survey.seconds, WINDOW_ROWS_MAX);
    let mut proofs = Vec::new();
    let asked_for = |table: &Table| match table {
        Table::Trades => survey.trades > 0,
        Table::Quotes => survey.quotes > 0,
    };
    for table in Table::ALL.into_iter().filter(asked_for) {
        let mut tries = 0;
        loop {
            tries += 1;
            let proof = prove_table(server, prefix, script, &windows, table)?;
            if proof.adds_up() || tries == TRIES {
                proofs.push(proof);
                break;
            }
            tracing::info!(table = table.name(), "somebody writes into the span; reading it again");
        }
    }
    let proven: u64 = proofs.iter().map(|proof| proof.verdict.expected + proof.verdict.repeated).sum();
    if proven != survey.tape_rows() {
        bail!("the input changed while it was replayed: it had {} rows, now {proven}", survey.tape_rows());
    }
    Ok(proofs)
}

fn prove_table(
    server: &impl Ask,
    prefix: &str,
    script: &Script,
    windows: &[Window],
    table: Table,
) -> anyhow::Result<TableProof> {
    let name = format!("{prefix}{}", table.name());
    let mut verdict = Verdict::new(table);
    for window in windows {
        let mut matching = Matching::new(table);
        for step in script.steps()? {
            // Broken lines were judged by the survey.
            let Ok(step) = step else { continue };
            if window.holds(step.at)
                && let Some((_, row)) = expect::expected(&step).filter(|(of, _)| *of == table)
            {
                matching.expect(row, &mut verdict);
            }
        }
        read(server, &name, table, *window, &mut |row| matching.meet(&row, &mut verdict))?;
        matching.finish(&mut verdict);
    }
    let span = Window {
        from: windows.first().map_or(0, |window| window.from),
        to: windows.last().map_or(0, |window| window.to),
    };
    let condition = span.condition();
    let sums: Vec<_> = table.summed().map(|column| format!(", sum({})", column.name)).collect();
    let keys: Vec<_> = table.keys().map(|column| column.name).collect();
    let count_sql = format!("SELECT count(){} FROM {name} WHERE {condition}", sums.concat());
    let keys_sql =
        format!("SELECT count() FROM (SELECT DISTINCT at, {} FROM {name} WHERE {condition})", keys.join(", "));
    let answer = one_row(server.ask(&count_sql)?)?;
    let (count, server_sums) = answer.split_first().context("QuestDB answered a count with nothing")?;
    let sums = table
        .summed()
        .zip(server_sums)
        .enumerate()
        .map(|(index, (column, sum))| SumProof {
            column: column.name,
            files: verdict.expected_sums.get(index).and_then(|sum| sum.text()),
            read_back: verdict.found_sums.get(index).and_then(|sum| sum.text()),
            server: normal_number(&plain(sum)),
        })
        .collect();
    let server_count = number(count)?;
    let server_keys = number(one_row(server.ask(&keys_sql)?)?.first().unwrap_or(&Value::Null))?;
    Ok(TableProof { verdict, sums, server_count, server_keys, count_sql, keys_sql })
}

/// Hands every row of the window to `meet`, in answers of bounded size.
fn read(server: &impl Ask, name: &str, table: Table, window: Window, meet: &mut impl FnMut(Row)) -> anyhow::Result<()> {
    let condition = window.condition();
    let count = one_row(server.ask(&format!("SELECT count() FROM {name} WHERE {condition}"))?)?;
    if number(count.first().unwrap_or(&Value::Null))? > ANSWER_ROWS_MAX
        && let Some((first, second)) = window.halves()
    {
        read(server, name, table, first, meet)?;
        return read(server, name, table, second, meet);
    }
    let columns: Vec<_> = table
        .columns()
        .iter()
        .map(|column| match column.form {
            Form::Nanos => format!("cast({} AS LONG)", column.name),
            Form::Text | Form::Number => column.name.to_owned(),
        })
        .collect();
    let sql = format!("SELECT cast(at AS LONG), {} FROM {name} WHERE {condition}", columns.join(", "));
    for answer in server.ask(&sql)? {
        meet(row_of(table, &answer)?);
    }
    Ok(())
}

fn row_of(table: Table, answer: &[Value]) -> anyhow::Result<Row> {
    let (at, cells) = answer.split_first().context("QuestDB answered with an empty row")?;
    if cells.len() != table.columns().len() {
        bail!("QuestDB answered with {} columns instead of {}", answer.len(), table.columns().len() + 1);
    }
    let nanos = at.as_i64().with_context(|| format!("`{at}` is not an instant in nanoseconds"))?;
    let cell = |(column, value): (&Column, &Value)| match column.form {
        Form::Text => plain(value),
        Form::Number | Form::Nanos => normal_number(&plain(value)),
    };
    Ok(Row { at: Timestamp::from_nanos(nanos)?, cells: table.columns().iter().zip(cells).map(cell).collect() })
}

/// A JSON value's text; NULL is the empty one (the tape holds no empty text).
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn one_row(mut rows: Vec<Vec<Value>>) -> anyhow::Result<Vec<Value>> {
    match (rows.pop(), rows.is_empty()) {
        (Some(row), true) => Ok(row),
        _ => bail!("QuestDB answered an aggregate with other than one row"),
    }
}

fn number(value: &Value) -> anyhow::Result<u64> {
    value.as_u64().with_context(|| format!("QuestDB answered a count with `{value}`"))
}
