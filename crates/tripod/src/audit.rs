//! What live servers have that Tripod cannot do with, and how to mend it: the library's half of `tripod doctor`.
//!
//! Constraints: it asks the servers themselves, as the operator's login, and believes no file of ours; it changes nothing;
//! each question has a deadline. A departure is something that breaks a promise; one that only costs something is advice.
//! What it cannot look at is said too, because an unknown is no all-clear.
//!
//! Picture:
//! ```text
//! questdb(http)    parameters · tables against their specs · suspended · views · checkpoint · clock ──┐
//! postgres(pool)   settings · schema · memberships · grants as they are, against schema.sql · clock ──┼─▶ [Departure]
//! redis(link)      settings · both users' rights, tried by ACL DRYRUN · persistence · clock ──────────┤
//! redis::sentinels who is the primary, how many must agree, replicas · network(config) plain text ────┘
//! ```

mod finding;
pub mod network;
pub mod postgres;
pub mod questdb;
pub mod redis;

use std::time::Duration;

use serde::Serialize;

use crate::value::Timestamp;

pub use finding::Finding;

/// How far a server's clock may be from this machine's. Rows carry the bot's time; windows of retention, TTLs of prices
/// and heartbeats are judged by the servers'.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(1);

/// How grave a [`Departure`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A promise does not hold.
    Wrong,
    /// It holds, at a cost, or cannot be looked at.
    Advice,
}

/// One thing that is not as Tripod needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Departure {
    /// What was looked at: [`Finding::id`].
    pub id: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// What is there.
    pub what: String,
    /// What it costs.
    pub why: &'static str,
    /// How to mend it.
    pub remedy: String,
}

impl Departure {
    /// Something that breaks a promise.
    pub fn wrong(finding: Finding, what: impl Into<String>, why: &'static str, remedy: impl Into<String>) -> Self {
        Self { id: finding.id(), severity: Severity::Wrong, what: what.into(), why, remedy: remedy.into() }
    }

    /// Something that costs, and no more.
    pub fn advice(finding: Finding, what: impl Into<String>, why: &'static str, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Advice, ..Self::wrong(finding, what, why, remedy) }
    }
}

/// How far a server's clock is from this machine's, either way, asked for between `before` and `after` here; what may be
/// the way of question and answer is not counted.
pub(crate) fn skew(before: Timestamp, theirs: Timestamp, after: Timestamp) -> Duration {
    let behind = before.as_nanos().saturating_sub(theirs.as_nanos());
    let ahead = theirs.as_nanos().saturating_sub(after.as_nanos());
    Duration::from_nanos(u64::try_from(behind.max(ahead)).unwrap_or(0))
}

/// The departure of a server's clock, asked for between `before` and `after` on this machine.
fn clock(finding: Finding, server: &str, before: Timestamp, theirs: Timestamp, after: Timestamp) -> Option<Departure> {
    let skew = skew(before, theirs, after);
    (skew > CLOCK_SKEW_MAX).then(|| {
        let which = if theirs > after { "ahead of" } else { "behind" };
        Departure::wrong(
            finding,
            format!("{server}'s clock is {:.1} s {which} this machine's", skew.as_secs_f64()),
            "rows carry the bot's time while the server judges what is too old; ages of prices and heartbeats are off",
            "let both machines follow the same time servers (chrony or systemd-timesyncd), then look again",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_the_moment_of_the_question_and_not_by_how_long_it_took() {
        let at = |s: i64| Timestamp::from_nanos(s * 1_000_000_000).unwrap();
        assert_eq!(clock(Finding::RedisClock, "it", at(100), at(103), at(105)), None);
        assert_eq!(clock(Finding::RedisClock, "it", at(100), at(99), at(105)), None);
        assert!(clock(Finding::RedisClock, "it", at(100), at(97), at(105)).unwrap().what.contains("3.0 s behind"));
        assert!(clock(Finding::RedisClock, "it", at(100), at(165), at(105)).unwrap().what.contains("60.0 s ahead of"));
    }
}
