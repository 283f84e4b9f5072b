//! Days on their way out: read exactly, rolled up, and held on the server until something covers them.
//!
//! Constraints: QuestDB drops a day by itself once its TTL has passed. So a day of a critical table whose archive or
//! rollup is not proven holds the table's TTL up, a day at a time, and is reported; that is the only thing that ever
//! lengthens it. Rows are compared by value, not by their text: decimals as integers at the column's scale, instants as
//! nanoseconds, NULL apart from empty and from zero. The Parquet files themselves are the business of the operator's
//! binary: a bot links none of that.
//!
//! Picture: a day's life (30 days kept, archived 2 days after it ended)
//! ```text
//! written ──2 days──▶ rolled up ▸ archived ▸ compared ──again whenever its count changed──▶ dropped by the server
//!                           │            │                                                      ▲
//!                           └─ not equal ┴─▶ uncovered: reported; near its end the TTL goes up ─┘
//! ```
//! Operation: `tripod tape retention run`, once a day; [`RetentionState`] is what it found, for `status` and monitors.

mod exact;
mod keep;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::tape::questdb::QuestDbHttp;
use crate::value::Timestamp;

pub use exact::{Cell, Checksum, ExactColumn, ExactKind, columns_of, read_day, read_span};
pub use keep::{Kept, keep_day};
pub use state::{KeptMark, RetentionState, TableState, Uncovered};

/// Nanoseconds of a day.
const DAY_NANOS: i64 = 86_400_000_000_000;

/// A day in UTC, which is a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Day(i64);

impl Day {
    /// The day of an instant.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_nanos().div_euclid(DAY_NANOS))
    }

    /// Its first nanosecond.
    #[must_use]
    pub fn begin(self) -> Timestamp {
        Timestamp::from_nanos(self.0.saturating_mul(DAY_NANOS)).unwrap_or(Timestamp::EPOCH)
    }

    /// The next day's first nanosecond.
    #[must_use]
    pub fn end(self) -> Timestamp {
        Self(self.0.saturating_add(1)).begin()
    }

    /// Whole days from its end to `now`; none where it has not ended.
    #[must_use]
    pub fn age(self, now: Timestamp) -> Option<u16> {
        let nanos = now.as_nanos().checked_sub(self.end().as_nanos()).filter(|nanos| *nanos >= 0)?;
        u16::try_from(nanos / DAY_NANOS).ok()
    }

    /// When a server with this TTL drops it, at the next commit.
    #[must_use]
    pub fn expires_at(self, ttl_days: u16) -> Timestamp {
        Self(self.0.saturating_add(1).saturating_add(i64::from(ttl_days))).begin()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.begin().to_string().get(..10).unwrap_or_default())
    }
}

impl FromStr for Day {
    type Err = Error;

    /// Reads `2026-11-23`.
    fn from_str(text: &str) -> Result<Self> {
        let begin = if text.len() == 10 { format!("{text}T00:00:00Z").parse().ok() } else { None };
        begin.map(Self::of).ok_or_else(|| Error::invalid("day", format!("`{text}` is not a day like 2026-11-23")))
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.to_string()
    }
}

impl TryFrom<String> for Day {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// The days that a table has rows of, oldest first, with their number. Asks for partitions, not for rows.
///
/// # Errors
/// As [`QuestDbHttp::exec`].
pub fn days_of(http: &QuestDbHttp, table: &str) -> Result<Vec<(Day, u64)>> {
    let listed = http.exec(&format!("SELECT name, numRows FROM table_partitions('{table}')"))?;
    let mut days = BTreeMap::new();
    for row in &listed.rows {
        // A day that was split is named `2026-11-20T081500-…` in its later parts.
        let name = row.first().and_then(Json::as_str).and_then(|name| name.get(..10)).unwrap_or_default();
        let rows = row.get(1).and_then(Json::as_u64).unwrap_or(0);
        if rows > 0 {
            *days.entry(name.parse::<Day>()?).or_insert(0) += rows;
        }
    }
    Ok(days.into_iter().collect())
}

/// The TTL that keeps the oldest uncovered day for another day at least, and is never below what is wanted.
#[must_use]
pub fn ttl_to_hold(wanted_days: u16, oldest_uncovered: Option<Day>, now: Timestamp) -> u16 {
    // `age` is rounded down: one more lasts to its next whole day, the second from there on for a day.
    let hold = oldest_uncovered.and_then(|day| day.age(now)).map_or(0, |age| age.saturating_add(2));
    wanted_days.max(hold)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_reads_what_it_prints_and_knows_its_edges() {
        let day: Day = "2026-11-23".parse().unwrap();
        assert_eq!(day.to_string(), "2026-11-23");
        assert_eq!(day.begin(), at("2026-11-23T00:00:00Z"));
        assert_eq!(day.expires_at(30), at("2026-12-24T00:00:00Z"));
        assert_eq!(Day::of(at("2026-11-23T23:59:59.999999999Z")), day);
        assert_eq!(day.age(at("2026-11-23T12:00:00Z")), None);
        assert_eq!(day.age(at("2026-11-25T12:00:00Z")), Some(1));
        for wrong in ["", "2026-11-3", "2026-13-01", "yesterday!", "2026-11-23T00:00:00Z"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_uncovered_day_holds_the_ttl_up_a_day_at_a_time() {
        let day: Day = "2026-03-01".parse().unwrap();
        assert_eq!(ttl_to_hold(30, None, at("2026-05-01T00:00:00Z")), 30);
        assert_eq!(ttl_to_hold(30, Some(day), at("2026-03-20T00:00:00Z")), 30);
        for (now, ttl) in [("2026-03-31T00:00:00Z", 31), ("2026-03-31T23:59:59Z", 31), ("2026-04-01T12:00:00Z", 32)] {
            assert_eq!(ttl_to_hold(30, Some(day), at(now)), ttl);
            assert!(day.expires_at(ttl).since(at(now)) >= std::time::Duration::from_hours(24), "{now}");
        }
    }
}
