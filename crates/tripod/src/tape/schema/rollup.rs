//! The rollups: candles and execution quality, each a view that follows its table and a table that outlives it.
//!
//! Constraints: sums and counts, not averages, so that minutes add up to hours. Every column that a rollup groups by is
//! a DEDUP key of its base table (QuestDB asks that of a view). A view never refreshes what its base is about to drop:
//! told of a row that arrived too late, QuestDB computes the bucket anew from what is left, which is nothing. Nothing
//! here is ever refreshed in full, which would rebuild years from 30 days.
//!
//! Picture:
//! ```text
//! market_trades ──▶ candles_1s, _1m, _1h   views, immediate      ─┐ compared day by day, see `tape::retention`
//! executions ─────▶ quality_1m, _1h                               ├─▶ candles_1m_kept, … plain DEDUP tables, for years
//!                   REFRESH LIMIT a day below the base's TTL     ─┘
//! ```

use crate::tape::spec::{ColumnSpec, Importance, Kind, TableSpec};

/// Days that a view keeps more than its base: time to look at a day that could not be kept otherwise.
const VIEW_DAYS_MORE: u16 = 30;

/// One rollup: what it groups a base table by, and what it measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollup {
    /// Name of the view, before `table_prefix`.
    pub name: String,
    /// The table that it is of, before `table_prefix`.
    pub base: &'static str,
    /// Length of a bucket as QuestDB writes it: `1m`.
    pub every: &'static str,
    groups: &'static [&'static str],
    measures: Vec<Measure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Measure {
    name: String,
    sql: String,
    kind: Kind,
    doc: &'static str,
}

/// The rollups of the built-in tables.
#[must_use]
pub fn rollups() -> Vec<Rollup> {
    let candles = ["1s", "1m", "1h"].map(|every| Rollup {
        name: format!("candles_{every}"),
        base: "market_trades",
        every,
        groups: &["venue", "token"],
        measures: candle(),
    });
    let quality = ["1m", "1h"].map(|every| Rollup {
        name: format!("quality_{every}"),
        base: "executions",
        every,
        groups: &["strategy", "venue"],
        measures: quality(),
    });
    candles.into_iter().chain(quality).collect()
}

fn measure(name: impl Into<String>, sql: impl Into<String>, kind: Kind, doc: &'static str) -> Measure {
    Measure { name: name.into(), sql: sql.into(), kind, doc }
}

fn candle() -> Vec<Measure> {
    let money = Kind::Decimal { precision: 38, scale: 18 };
    vec![
        measure("open", "first(price)", money, "Price of the first trade."),
        measure("high", "max(price)", money, "Highest price."),
        measure("low", "min(price)", money, "Lowest price."),
        measure("close", "last(price)", money, "Price of the last trade."),
        measure("volume", "sum(size)", money, "Whole tokens traded."),
        measure("trades", "count()", Kind::Long, "Trades."),
    ]
}

fn quality() -> Vec<Measure> {
    let units = Kind::Decimal { precision: 38, scale: 0 };
    let bps = |precision| Kind::Decimal { precision, scale: 4 };
    let mut measures = vec![measure("executions", "count()", Kind::Long, "Executions of any status.")];
    for status in ["landed", "failed", "expired", "dropped", "simulated"] {
        let sql = format!("sum(CASE WHEN status = '{status}' THEN 1 ELSE 0 END)");
        measures.push(measure(status, sql, Kind::Long, "Executions of this status."));
    }
    measures.extend([
        measure("amount_in", "sum(amount_in)", units, "Volume: paid, raw units of token_in, by all of them."),
        measure("fee_lamports", "sum(fee_lamports)", units, "Fees, lamports."),
        measure("tip_lamports", "sum(tip_lamports)", units, "Tips, lamports."),
        measure("profit_lamports", "sum(profit_lamports)", Kind::Long, "Profit after fees and tips, lamports."),
        measure("slippages", "count(slippage_bps)", Kind::Long, "Executions that have a slippage."),
        measure("slippage_sum_bps", "sum(slippage_bps)", bps(38), "Their sum, basis points."),
        measure("slippage_min_bps", "min(slippage_bps)", bps(18), "The best."),
        measure("slippage_max_bps", "max(slippage_bps)", bps(18), "The worst."),
    ]);
    for stage in ["decide", "build", "send", "land"] {
        measures.extend([
            measure(
                format!("{stage}s"),
                format!("count({stage}_ns)"),
                Kind::Long,
                "Executions that have this latency.",
            ),
            measure(format!("{stage}_sum_ns"), format!("sum({stage}_ns)"), units, "Their sum, nanoseconds."),
            measure(format!("{stage}_max_ns"), format!("max({stage}_ns)"), Kind::Unsigned, "The longest, nanoseconds."),
        ]);
    }
    measures
}

impl Rollup {
    /// The view's name on the server.
    #[must_use]
    pub fn view(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.name)
    }

    /// The long-lived table: plain, DEDUP, one row a bucket and group.
    #[must_use]
    pub fn kept(&self, days: u16) -> TableSpec {
        let column = |name: &str, kind, key, optional, doc: &str| ColumnSpec {
            name: name.to_owned(),
            kind,
            key,
            optional,
            doc: doc.to_owned(),
        };
        let at = column("at", Kind::Timestamp, true, false, "The bucket's begin.");
        let groups = self.groups.iter().map(|name| column(name, Kind::Symbol, true, false, "What it is of."));
        let measures = self.measures.iter().map(|m| column(&m.name, m.kind, false, true, m.doc));
        TableSpec {
            name: format!("{}_kept", self.name),
            importance: Importance::Standard,
            retain_days: days,
            columns: std::iter::once(at).chain(groups).chain(measures).collect(),
            doc: format!("{} of {}, kept after the rows themselves.", self.name, self.base),
        }
    }

    /// Length of a bucket, nanoseconds.
    pub(crate) fn bucket_nanos(&self) -> i64 {
        match self.every {
            "1s" => 1_000_000_000,
            "1m" => 60_000_000_000,
            _ => 3_600_000_000_000,
        }
    }

    /// The view's query.
    #[must_use]
    pub fn query(&self, prefix: &str) -> String {
        let measures: Vec<_> = self.measures.iter().map(|m| format!("{} {}", m.sql, m.name)).collect();
        format!(
            "SELECT at, {}, {} FROM \"{prefix}{}\" SAMPLE BY {} ALIGN TO CALENDAR",
            self.groups.join(", "),
            measures.join(", "),
            self.base,
            self.every
        )
    }

    /// The same from the rows themselves between two instants (RFC 3339, the second excluded), in the columns and types of
    /// [`Rollup::kept`]. A sum that these do not hold is an error of the server, never cut.
    #[must_use]
    pub fn from_rows(&self, prefix: &str, from: &str, until: &str) -> String {
        let measures: Vec<_> = self.measures.iter().map(|m| format!("({})::{} {}", m.sql, m.kind, m.name)).collect();
        format!(
            "SELECT at, {}, {} FROM \"{prefix}{}\" WHERE at >= '{from}' AND at < '{until}' SAMPLE BY {} ALIGN TO CALENDAR",
            self.groups.join(", "),
            measures.join(", "),
            self.base,
            self.every
        )
    }

    /// CREATE MATERIALIZED VIEW IF NOT EXISTS.
    #[must_use]
    pub fn ddl(&self, prefix: &str, base_days: u16) -> String {
        format!(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS \"{view}\" WITH BASE \"{prefix}{base}\" REFRESH IMMEDIATE AS ({query}) \
             PARTITION BY DAY TTL {days} DAYS",
            view = self.view(prefix),
            base = self.base,
            query = self.query(prefix),
            days = Self::view_days(base_days),
        )
    }

    /// The TTL of the view of a base with this TTL.
    pub(super) fn view_days(base_days: u16) -> u16 {
        base_days.saturating_add(VIEW_DAYS_MORE)
    }

    /// How old a bucket may be and still be computed anew: a day less than the base keeps its rows.
    pub(super) fn limit_days(base_days: u16) -> u16 {
        base_days.saturating_sub(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::tables::builtin;

    #[test]
    fn what_a_rollup_groups_by_is_a_key_of_its_base_and_its_table_is_sound() {
        for rollup in rollups() {
            let base = builtin().into_iter().find(|spec| spec.name == rollup.base).unwrap();
            for group in rollup.groups {
                assert!(base.keys().any(|key| key.name == *group), "{}: {group}", rollup.name);
            }
            rollup.kept(3650).check().unwrap();
            assert!(Rollup::limit_days(base.retain_days) < base.retain_days);
        }
    }
}
