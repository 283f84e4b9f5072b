//! Each rule of the monitor's own begins from its cause and from nothing less, alone, and ends with it.
//!
//! Constraints: the table of causes is a `match` without a wildcard: a rule without its case does not compile.

use super::super::samples;
use super::super::snapshot::{Backup, Memory, Replica, Suspended, View};
use super::*;

/// What makes a rule begin, in a snapshot in which all is well.
struct Case {
    cause: fn(&mut Snapshot),
    /// What is not quite enough; nothing where there is nothing between well and wrong.
    nearly: fn(&mut Snapshot),
    /// It is about growth: it ends a quarter of an hour after the last one.
    grows: bool,
}

/// When all is looked at; the journals reach a day back from here.
const AT: &str = "2026-01-01T00:00:00Z";
const TERMS: Terms = Terms { replicated: true, keep_hours: 24 };

fn is(cause: fn(&mut Snapshot)) -> Case {
    Case { cause, nearly: |_| (), grows: false }
}

fn beyond(cause: fn(&mut Snapshot), nearly: fn(&mut Snapshot)) -> Case {
    Case { cause, nearly, grows: false }
}

fn grows(cause: fn(&mut Snapshot)) -> Case {
    Case { cause, nearly: |_| (), grows: true }
}

fn case(rule: Rule) -> Case {
    match rule {
        Rule::ServerDown => is(|all| all.servers[0].state = State::Down),
        Rule::OptionalServerDown => is(|all| (all.servers[0].state, all.servers[0].required) = (State::Down, false)),
        Rule::ServerDegraded => is(|all| all.servers[0].state = State::Degraded),
        Rule::ClockSkew => beyond(
            |all| all.servers[1].clock_skew_ms = Some(1_001.0),
            |all| all.servers[1].clock_skew_ms = Some(1_000.0),
        ),
        Rule::LedgerWrong => is(|all| all.ledger[0].row.adds_up = false),
        Rule::RowsDropped => grows(|all| all.ledger[0].row.dropped += 1),
        Rule::RowsQuarantined => grows(|all| all.ledger[0].row.quarantined += 1),
        Rule::RowsMissed => grows(|all| all.ledger[0].row.missed += 1),
        Rule::SinkStopped => beyond(|all| all.sinks[0].state = "schema", |all| all.sinks[0].state = "unavailable"),
        Rule::SinkSilent => {
            beyond(|all| all.sinks[0].silent_ms = Some(10_001), |all| all.sinks[0].silent_ms = Some(10_000))
        }
        Rule::NobodyDelivers => beyond(
            |all| (all.sinks[0].state, all.sinks[0].oldest_pending_ms) = ("not_running", 60_001),
            |all| (all.sinks[0].state, all.sinks[0].oldest_pending_ms) = ("not_running", 60_000),
        ),
        Rule::DeliveryLate => {
            beyond(|all| all.sinks[0].oldest_pending_ms = 60_001, |all| all.sinks[0].oldest_pending_ms = 60_000)
        }
        Rule::TableSuspended => {
            is(|all| all.tape[0].suspended.push(Suspended { table: "quotes".into(), why: String::new() }))
        }
        Rule::ViewInvalid => is(|all| all.tape[0].views[0].invalid = Some("base table is dropped".into())),
        Rule::ViewLag => beyond(|all| all.tape[0].views[0].lag_ms = 60_001, |all| all.tape[0].views[0].lag_ms = 60_000),
        Rule::CheckpointOpen => beyond(
            |all| all.tape[0].checkpoint_open_ms = Some(3_600_001),
            |all| all.tape[0].checkpoint_open_ms = Some(3_600_000),
        ),
        // Of a hundred MiB.
        Rule::JournalFilling => {
            beyond(|all| all.journal[0].undelivered_bytes = 76 << 20, |all| all.journal[0].undelivered_bytes = 75 << 20)
        }
        Rule::JournalFull => {
            beyond(|all| all.journal[0].undelivered_bytes = 91 << 20, |all| all.journal[0].undelivered_bytes = 90 << 20)
        }
        Rule::JournalDamaged => is(|all| all.journal[0].damaged_segments = 1),
        // Of a hundred GiB.
        Rule::DiskLow => beyond(|all| all.disks[0].free_bytes = 14 << 30, |all| all.disks[0].free_bytes = 15 << 30),
        Rule::DiskFull => beyond(|all| all.disks[0].free_bytes = 4 << 30, |all| all.disks[0].free_bytes = 5 << 30),
        Rule::MemoryHigh => beyond(|all| uses(all, 76), |all| uses(all, 75)),
        Rule::AppendOnlyFailing => is(|all| all.servers[3].asked.append_only_ok = Some(false)),
        Rule::QuorumLost => is(|all| all.servers[3].asked.quorum_ok = Some(false)),
        Rule::ReplicaMissing => is(|all| all.servers[3].replicas.clear()),
        Rule::ReplicaLag => beyond(
            |all| all.servers[3].replicas[0].lag_ms = Some(10_001),
            |all| all.servers[3].replicas[0].lag_ms = Some(10_000),
        ),
        Rule::ArchiveFailing => is(|all| all.servers[1].asked.archive_failing = Some(true)),
        Rule::PricesStale => beyond(|all| one_is_over(all, 10_001), |all| one_is_over(all, 10_000)),
        Rule::PricesDead => beyond(|all| all_are_over(all, 10_001), |all| all_are_over(all, 10_000)),
        // Of ten thousand.
        Rule::GroupLag => {
            beyond(|all| all.streams[0].groups[0].lag = 5_001, |all| all.streams[0].groups[0].lag = 5_000)
        }
        Rule::TrimmedUnread => grows(|all| all.streams[0].groups[0].trimmed_unread = Some(6)),
        Rule::TrimmedPending => grows(|all| all.streams[0].groups[0].trimmed_pending += 1),
        Rule::DeadLetters => grows(|all| all.streams[0].dead += 1),
        Rule::ComponentFailed => beyond(|all| says(all, "failed"), |all| says(all, "stopped")),
        Rule::ComponentStale => is(|all| says(all, "stale")),
        Rule::ComponentDegraded => is(|all| says(all, "degraded")),
        Rule::BackupUnproven => {
            beyond(|all| proven(all, "2025-12-30T23:59:59Z"), |all| proven(all, "2025-12-31T00:01:00Z"))
        }
        Rule::VerifyFailed => is(|all| all.jobs[0].ok = Some(false)),
        Rule::RetentionFailed => is(|all| all.jobs[1].ok = Some(false)),
        Rule::FilesUnreadable => is(|all| all.troubles.push("bot x: its ledger cannot be read".into())),
    }
}

/// All is well, with events replicated.
fn well() -> Snapshot {
    let mut all = samples::quiet();
    let replica = Replica { name: "127.0.0.1:2".into(), role: "replica", state: "online".into(), lag_ms: Some(0) };
    all.servers[3].replicas.push(replica);
    // What an alert repeats of whoever it is about.
    all.servers.iter_mut().for_each(|server| server.detail = "why it is so".into());
    all.jobs.iter_mut().for_each(|job| job.detail = "why it is so".into());
    all
}

fn uses(all: &mut Snapshot, percent: u64) {
    all.servers[3].memory = Some(Memory { used_bytes: percent, limit_bytes: 100 });
}

fn one_is_over(all: &mut Snapshot, age_ms: u64) {
    let mut over = all.prices.list[0].clone();
    (over.token, over.age_ms, over.fresh) = ("OLD".into(), age_ms, false);
    all.prices.list.push(over);
    (all.prices.tokens, all.prices.stale) = (Some(2), Some(1));
}

fn all_are_over(all: &mut Snapshot, age_ms: u64) {
    all.prices.list.iter_mut().for_each(|price| (price.age_ms, price.fresh) = (age_ms, false));
    (all.prices.fresh, all.prices.stale) = (Some(0), all.prices.tokens);
}

fn says(all: &mut Snapshot, status: &'static str) {
    let one = Component { component: "arb".into(), status, ..all.health[0].clone() };
    all.health.push(one);
}

fn proven(all: &mut Snapshot, at: &str) {
    let at = Some(at.to_owned());
    all.backup = Backup {
        last_id: Some("20251231T000000Z".into()),
        last_proven_at: at.clone(),
        last_at: at,
        ..all.backup.clone()
    };
}

/// Seconds behind [`AT`].
fn at(seconds: u64) -> Timestamp {
    AT.parse::<Timestamp>().unwrap().checked_add(Duration::from_secs(seconds)).unwrap()
}

#[test]
fn every_rule_begins_from_its_cause_alone_and_ends_with_it() {
    for rule in Rule::ALL {
        let (case, name) = (case(*rule), rule.id());
        let mut watchdog = Watchdog::default();
        let mut look = |change: fn(&mut Snapshot), seconds| {
            let mut all = well();
            change(&mut all);
            watchdog.judge(&all, TERMS, at(seconds))
        };
        assert_eq!(look(|_| (), 0), [], "{name}: all is well");
        let nearly = look(case.nearly, 1);
        assert!(nearly.iter().all(|alert| alert.id != name), "{name} begins too early: {nearly:?}");
        look(|_| (), 2);
        let raised = look(case.cause, 3);
        let [alert] = raised.as_slice() else { panic!("{name}: {raised:?}") };
        assert_eq!(
            (alert.id, alert.severity, alert.since.as_str()),
            (name, rule.severity(), "2026-01-01T00:00:03.000Z")
        );
        assert_eq!(alert.runbook, format!("docs/alerts.md#{}", rule.place()));
        assert!(alert.what.len() > 10, "{name} says nothing: {alert:?}");
        let still = look(case.cause, 4);
        assert_eq!(still, raised, "{name} goes on");
        let after = look(|_| (), 5);
        assert_eq!(after.is_empty(), !case.grows, "{name}: {after:?}");
        assert_eq!(look(|_| (), 3 + 15 * 60), [], "{name} does not end");
    }
}

#[test]
fn a_sink_that_waits_for_somebody_is_said_whatever_it_waits_for() {
    for state in ["schema", "login", "certificate", "disk_full", "quarantine", "journal", "detached"] {
        let mut all = well();
        all.sinks[0].state = state;
        let raised = Watchdog::default().judge(&all, TERMS, at(0));
        assert_eq!(raised.iter().map(|alert| alert.id).collect::<Vec<_>>(), ["sink-stopped"], "{state}");
    }
}

#[test]
fn a_view_that_is_invalid_is_not_late_too() {
    let mut all = well();
    all.tape[0].views = vec![View { name: "v".into(), invalid: Some("dropped".into()), lag_ms: 1_000_000 }];
    let raised = Watchdog::default().judge(&all, TERMS, at(0));
    assert_eq!(raised.iter().map(|alert| alert.id).collect::<Vec<_>>(), ["view-invalid"]);
}
