//! The snapshot: what the page, `/api/snapshot` and each server-sent event show, once a second.
//!
//! Constraints: a contract with the page and with scripts; fields may be added, never renamed. What is not known is null, and
//! nothing of a server that does not answer is repeated from before. Lists are bounded. Times are RFC 3339, UTC, in
//! milliseconds; ages and lags are milliseconds.
//!
//! Where `visible_ms` comes from: each sink measures it itself, from the last moment at which it had read everything that
//! was recorded to the moment a SELECT returns the row, and says the quantiles of its last minute in its status file. The
//! slowest sink's stand here, so they are an upper bound over all of them, and null where nothing became visible lately.

use serde::Serialize;
use tripod::Timestamp;
use tripod::events::EventInfo;
use tripod::ledger::LedgerRow;

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Snapshot {
    /// One more each second, since the monitor started.
    pub(crate) seq: u64,
    pub(crate) at: String,
    /// No critical alert.
    pub(crate) ok: bool,
    /// Of this program.
    pub(crate) version: &'static str,
    pub(crate) servers: Vec<Server>,
    pub(crate) ledger: Vec<LedgerLine>,
    pub(crate) sinks: Vec<SinkLine>,
    pub(crate) rates: Rates,
    pub(crate) visible_ms: VisibleMs,
    pub(crate) prices: Prices,
    pub(crate) streams: Vec<EventInfo>,
    pub(crate) tokens: Tokens,
    pub(crate) health: Vec<Component>,
    pub(crate) backup: Backup,
    /// The newest first.
    pub(crate) drills: Vec<Drill>,
    pub(crate) journal: Vec<Journal>,
    /// What QuestDB says of its tables, a line a server that answers.
    pub(crate) tape: Vec<Tape>,
    /// The disks of this machine under what Tripod writes.
    pub(crate) disks: Vec<Disk>,
    /// What runs at set times.
    pub(crate) jobs: Vec<Job>,
    /// What could not be read on this machine, in words.
    pub(crate) troubles: Vec<String>,
    pub(crate) alerts: Vec<Alert>,
}

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It answers.
    Up,
    /// It answers, and something is wrong with it, or the last answer was late.
    Degraded,
    /// It does not answer.
    Down,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) state: State,
    pub(crate) version: Option<String>,
    pub(crate) address: String,
    /// Why it is not up, or what is wrong; empty while all is well.
    pub(crate) detail: String,
    /// Since when it is in this state.
    pub(crate) since: String,
    /// Of QuestDB: false where rows wait for nobody's sake.
    pub(crate) required: bool,
    /// How long its last answer took.
    pub(crate) latency_ms: Option<f64>,
    /// How far its clock is from this machine's, either way.
    pub(crate) clock_skew_ms: Option<f64>,
    pub(crate) replicas: Vec<Replica>,
    /// Of Redis: bytes in use, and at most.
    pub(crate) memory: Option<Memory>,
    /// What asking it cost, for the metrics alone.
    #[serde(skip)]
    pub(crate) asked: Asked,
}

/// What the monitor itself knows of the asking.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    pub(crate) took_s: Option<std::time::Duration>,
    pub(crate) failures: u64,
    /// Of Redis: whether the last write to the append-only file went well.
    pub(crate) append_only_ok: Option<bool>,
    /// Of PostgreSQL: whether the last try to archive failed.
    pub(crate) archive_failing: Option<bool>,
    /// Of sentinels: whether they can agree on a failover.
    pub(crate) quorum_ok: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    pub(crate) used_bytes: u64,
    /// Zero: no limit.
    pub(crate) limit_bytes: u64,
}

/// A replica, a standby or a sentinel, in its server's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) role: &'static str,
    pub(crate) state: String,
    pub(crate) lag_ms: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct LedgerLine {
    pub(crate) bot: String,
    #[serde(flatten)]
    pub(crate) row: LedgerRow,
}

/// One sink of one bot: its classes together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SinkLine {
    pub(crate) bot: String,
    pub(crate) name: String,
    /// The state of the class that needs somebody most; see `tripod status` for each.
    pub(crate) state: &'static str,
    pub(crate) detail: String,
    pub(crate) backlog_rows: u64,
    pub(crate) backlog_bytes: u64,
    /// How long the oldest row waits; zero where none does. At most a second too little.
    pub(crate) oldest_pending_ms: u64,
    pub(crate) required: bool,
    /// Since when it is in this state.
    pub(crate) since: String,
    /// How long ago a sink that runs said something; they do each second.
    pub(crate) silent_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Rates {
    pub(crate) recorded_per_s: Option<f64>,
    pub(crate) visible_per_s: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct VisibleMs {
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Prices {
    /// Followed: had a price within a quarter of an hour.
    pub(crate) tokens: Option<u64>,
    pub(crate) fresh: Option<u64>,
    pub(crate) stale: Option<u64>,
    /// At most fifty: the oldest ones, the stalest last.
    pub(crate) list: Vec<Price>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Price {
    /// With `:VENUE` where it is one venue's.
    pub(crate) token: String,
    /// The decimal as text: no digit is lost.
    pub(crate) value: String,
    pub(crate) slot: Option<u64>,
    pub(crate) age_ms: u64,
    pub(crate) fresh: bool,
}

/// The store keeps no verdicts: those three are null.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Tokens {
    pub(crate) total: Option<u64>,
    pub(crate) tradable: Option<u64>,
    pub(crate) costly: Option<u64>,
    pub(crate) refused: Option<u64>,
    pub(crate) recent_changes: Vec<TokenChange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TokenChange {
    pub(crate) at: String,
    pub(crate) mint: String,
    pub(crate) symbol: Option<String>,
    /// `decimals 6 → 9`
    pub(crate) what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Component {
    pub(crate) component: String,
    /// As it said, or `stale` where it owes a heartbeat.
    pub(crate) status: &'static str,
    pub(crate) at: String,
    pub(crate) age_ms: u64,
    /// Its details as JSON, shortened.
    pub(crate) detail: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Backup {
    pub(crate) last_id: Option<String>,
    pub(crate) last_at: Option<String>,
    pub(crate) last_proven_at: Option<String>,
    pub(crate) running: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Drill {
    pub(crate) drill: String,
    pub(crate) at: String,
    pub(crate) ok: bool,
    pub(crate) lost: Option<u64>,
    pub(crate) doubled: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Journal {
    pub(crate) bot: String,
    pub(crate) class: &'static str,
    /// Of all segments on the disk, delivered ones that are kept included.
    pub(crate) used_bytes: u64,
    /// By the monitor's own config.
    pub(crate) budget_bytes: u64,
    /// When the oldest segment with rows was written last.
    pub(crate) oldest: Option<String>,
    /// Bytes that the slowest required sink has not finished: what the budget is for.
    pub(crate) undelivered_bytes: u64,
    pub(crate) damaged_segments: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Tape {
    /// The sink's name in the config.
    pub(crate) sink: String,
    pub(crate) suspended: Vec<Suspended>,
    pub(crate) views: Vec<View>,
    /// How long a checkpoint is open; null where none is.
    pub(crate) checkpoint_open_ms: Option<u64>,
    /// Every table's name, for the metrics alone.
    #[serde(skip)]
    pub(crate) tables: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Suspended {
    pub(crate) table: String,
    pub(crate) why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct View {
    pub(crate) name: String,
    /// Why it follows its table no more.
    pub(crate) invalid: Option<String>,
    pub(crate) lag_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Disk {
    /// What is written there: `data`, `journals`, `archive`, `backups`.
    #[serde(rename = "where")]
    pub(crate) place: &'static str,
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Job {
    /// `verify` or `retention`.
    pub(crate) name: &'static str,
    pub(crate) running: bool,
    /// When it ended last, whoever started it.
    pub(crate) last_at: Option<String>,
    /// How the last run that this monitor started ended; null where it started none.
    pub(crate) ok: Option<bool>,
    /// Why not.
    pub(crate) detail: String,
    /// When it is due next; null: never, or in another monitor's hands.
    pub(crate) next_at: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// A promise does not hold, or soon will not: act now.
    Critical,
    /// To be looked at today.
    Warning,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Alert {
    pub(crate) id: &'static str,
    pub(crate) severity: Severity,
    pub(crate) what: String,
    pub(crate) since: String,
    pub(crate) runbook: String,
    /// With the id it is the alert's identity; for the log alone.
    #[serde(skip)]
    pub(crate) subject: String,
}

/// RFC 3339 in milliseconds.
pub(crate) fn stamp(at: Timestamp) -> String {
    let text = at.to_string();
    match text.trim_end_matches('Z').split_once('.') {
        Some((seconds, digits)) => format!("{seconds}.{digits:0<3.3}Z"),
        None => format!("{}.000Z", text.trim_end_matches('Z')),
    }
}

/// Milliseconds with three digits behind the point, for latencies.
pub(crate) fn fine_ms(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Whole milliseconds.
pub(crate) fn whole_ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_have_milliseconds_whatever_their_precision() {
        let at = |text: &str| stamp(text.parse().unwrap());
        assert_eq!(at("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00.000Z");
        assert_eq!(at("2026-01-01T00:00:00.5Z"), "2026-01-01T00:00:00.500Z");
        assert_eq!(at("2026-01-01T00:00:00.123456789Z"), "2026-01-01T00:00:00.123Z");
    }

    #[test]
    fn a_latency_keeps_its_microseconds_and_no_more() {
        assert_eq!(fine_ms(Duration::from_nanos(1_234_567)).to_string(), "1.235");
        assert_eq!(whole_ms(Duration::from_nanos(1_934_567)), 1);
    }
}
