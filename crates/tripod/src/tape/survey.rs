//! How far a QuestDB server is, each second, for screens and alerts: its tables, views, an open checkpoint.
//!
//! Constraints: one statement a look; every fifth asks two more, for what changes rarely. Blocks: it belongs on a thread
//! that may wait. It changes nothing.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::questdb::QuestDbHttp;
use super::schema;
use crate::audit::skew;
use crate::error::Result;
use crate::value::Timestamp;

/// Of so many looks one asks for views and the checkpoint, too.
const ALL_EVERY: u32 = 5;

/// A table's log: what it was given and what it has applied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableProgress {
    /// Its name on the server.
    pub name: String,
    /// Rows are answered OK and stay invisible.
    pub suspended: bool,
    /// The server's reason; empty where it is not suspended, or somebody did that by hand.
    pub why: String,
    /// The last transaction that a SELECT sees.
    pub applied: u64,
    /// The last transaction that was answered OK.
    pub given: u64,
}

/// How far a materialised view is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewProgress {
    /// Its name on the server.
    pub name: String,
    /// Why it follows its table no more.
    pub invalid: Option<String>,
    /// The last transaction of its table that it has taken in.
    pub taken: u64,
    /// The last transaction of its table.
    pub given: u64,
}

/// What one look found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TapeLook {
    /// The server's version.
    pub version: String,
    /// How long the answer took.
    pub took: Duration,
    /// How far its clock is from this machine's, either way; none where it has no table.
    pub clock_skew: Option<Duration>,
    /// Its tables.
    pub tables: Vec<TableProgress>,
    /// Its views, as they were at `views_at`: up to four looks ago.
    pub views: Vec<ViewProgress>,
    /// When they were looked at.
    pub views_at: Instant,
    /// Since when a checkpoint is open; as old as the views. Where the server does not say since when: the epoch.
    pub checkpoint_since: Option<Timestamp>,
}

/// What is known from look to look.
#[derive(Debug)]
pub struct TapeSurvey {
    http: QuestDbHttp,
    version: Option<String>,
    looks: u32,
    views: Vec<ViewProgress>,
    views_at: Instant,
    checkpoint_since: Option<Timestamp>,
}

impl TapeSurvey {
    /// Of one server; nothing is asked yet. `http`'s timeout is each statement's deadline.
    #[must_use]
    pub fn new(http: QuestDbHttp) -> Self {
        Self { http, version: None, looks: 0, views: Vec::new(), views_at: Instant::now(), checkpoint_since: None }
    }

    /// Looks once.
    ///
    /// # Errors
    /// As [`QuestDbHttp::exec`]; after one, everything is asked again.
    pub fn look(&mut self) -> Result<TapeLook> {
        let looked = self.ask();
        if looked.is_err() {
            (self.version, self.looks) = (None, 0);
        }
        looked
    }

    fn ask(&mut self) -> Result<TapeLook> {
        let version = match &self.version {
            Some(version) => version.clone(),
            None => self.http.version()?,
        };
        let (start, asked_at) = (Instant::now(), Timestamp::now());
        let answer = self.http.exec(
            "SELECT name, suspended, writerTxn, sequencerTxn, errorTag, errorMessage, systimestamp() FROM wal_tables()",
        )?;
        let (took, answered_at) = (start.elapsed(), Timestamp::now());
        let tables: Vec<_> = answer.rows.iter().filter_map(|row| table(row)).collect();
        let theirs = answer.rows.first().and_then(|row| row.get(6)?.as_str()?.parse::<Timestamp>().ok());
        if self.looks.is_multiple_of(ALL_EVERY) {
            let views = schema::read_views(&self.http)?.0.into_iter();
            self.views = views
                .map(|(name, view)| ViewProgress {
                    name,
                    invalid: view.invalid,
                    taken: view.at_txn,
                    given: view.at_txn.saturating_add(view.behind),
                })
                .collect();
            self.views_at = Instant::now();
            self.checkpoint_since = checkpoint(&self.http)?;
        }
        self.looks = self.looks.wrapping_add(1);
        self.version = Some(version.clone());
        Ok(TapeLook {
            version,
            took,
            clock_skew: theirs.map(|theirs| skew(asked_at, theirs, answered_at)),
            tables,
            views: self.views.clone(),
            views_at: self.views_at,
            checkpoint_since: self.checkpoint_since,
        })
    }
}

fn table(row: &[Value]) -> Option<TableProgress> {
    let [name, suspended, applied, given, tag, message, ..] = row else { return None };
    let suspended = suspended.as_bool()?;
    let words = [tag, message].map(|words| words.as_str().unwrap_or_default()).join(" ");
    Some(TableProgress {
        name: name.as_str()?.to_owned(),
        suspended,
        why: if suspended { words.trim().to_owned() } else { String::new() },
        // Below zero before the first one.
        applied: applied.as_u64().unwrap_or(0),
        given: given.as_u64().unwrap_or(0),
    })
}

fn checkpoint(http: &QuestDbHttp) -> Result<Option<Timestamp>> {
    let answer = http.exec("SELECT in_progress, started_at FROM checkpoint_status()")?;
    let Some(row) = answer.rows.first() else { return Ok(None) };
    let open = row.first().and_then(Value::as_bool).unwrap_or(false);
    let since = row.get(1).and_then(Value::as_str).and_then(|text| text.parse().ok());
    Ok(open.then(|| since.unwrap_or(Timestamp::EPOCH)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_that_is_suspended_says_why_and_another_says_nothing() {
        let row = |suspended: bool| {
            let cells = [json!("t"), json!(suspended), json!(3), json!(7), json!("DISK FULL"), json!("no space"), json!("x")];
            table(&cells).unwrap()
        };
        assert_eq!((row(true).why.as_str(), row(true).applied, row(true).given), ("DISK FULL no space", 3, 7));
        assert_eq!(row(false).why, "");
        assert_eq!(table(&[json!("t")]), None);
    }
}
