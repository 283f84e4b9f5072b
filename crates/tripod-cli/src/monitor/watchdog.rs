//! From a snapshot to alerts.
//!
//! Constraints: pure but for the clock that it is given; each judgement looks at the snapshot alone. What counts is growth
//! (rows dropped, events trimmed) is judged against a quarter of an hour ago, so that an old loss, which stays in its
//! count for ever, is not shouted about for ever. What is behind an unknown is no alert: the server that does not say is one.
//!
//! Picture: snapshot ─▶ findings (rule, subject, words) ─▶ alerts, each with since when it is there

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tripod::Timestamp;

use super::rules::Rule;
use super::snapshot::{Alert, Component, Server, Severity, Snapshot, State, stamp};

/// A count that grew within this is worth an alert.
const GREW_WITHIN: Duration = Duration::from_secs(15 * 60);
const SKEW_MS_MAX: f64 = 1_000.0;
const WAITS_MS_MAX: u64 = 60_000;
const SILENT_MS_MAX: u64 = 10_000;
const VIEW_LAG_MS_MAX: u64 = 60_000;
const CHECKPOINT_MS_MAX: u64 = 3_600_000;
const REPLICA_LAG_MS_MAX: u64 = 10_000;
const PRICE_AGE_MS_MAX: u64 = 10_000;
const DISK_FREE_LEAST: u64 = 512 << 20;
/// Alerts that are shown at most; a hundred stale components are not a hundred sentences.
const ALERTS_MAX: usize = 200;

/// What the judgement needs beside the snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Events are meant to be replicated.
    pub(super) replicated: bool,
    /// How far back the journals reach.
    pub(super) keep_hours: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    rule: Rule,
    /// What it is about; with the rule it is the alert's identity.
    subject: String,
    what: String,
}

/// A count of which growth is bad.
#[derive(Debug, Clone, Copy)]
struct Total {
    value: u64,
    grew_at: Option<Timestamp>,
}

/// Remembers since when an alert is there, and when a total grew.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    since: BTreeMap<(Rule, String), Timestamp>,
    totals: BTreeMap<(Rule, String), Total>,
}

impl Watchdog {
    /// The alerts of a snapshot, the grave ones first.
    pub(super) fn judge(&mut self, snapshot: &Snapshot, terms: Terms, now: Timestamp) -> Vec<Alert> {
        let mut found = Vec::new();
        servers(snapshot, terms, &mut found);
        rows(snapshot, &mut found);
        tape(snapshot, &mut found);
        machine(snapshot, &mut found);
        live(snapshot, &mut found);
        people(snapshot, terms, now, &mut found);
        self.grown(snapshot, now, &mut found);
        found.sort_by(|a, b| (a.rule.severity(), a.rule, &a.subject).cmp(&(b.rule.severity(), b.rule, &b.subject)));
        found.truncate(ALERTS_MAX);
        let before = std::mem::take(&mut self.since);
        found
            .into_iter()
            .map(|Finding { rule, subject, what }| {
                let key = (rule, subject.clone());
                let since = before.get(&key).copied().unwrap_or(now);
                self.since.insert(key, since);
                let (id, severity) = (rule.id(), rule.severity());
                Alert {
                    id,
                    severity,
                    what,
                    since: stamp(since),
                    subject,
                    runbook: format!("docs/alerts.md#{}", rule.place()),
                }
            })
            .collect()
    }

    /// Says in the log what has begun and what is over.
    pub(super) fn log(before: &[Alert], now: &[Alert]) {
        for alert in only_in(now, before) {
            let Alert { id, what, runbook, .. } = alert;
            match alert.severity {
                Severity::Critical => tracing::error!(alert = id, what, runbook, "raised"),
                Severity::Warning => tracing::warn!(alert = id, what, runbook, "raised"),
            }
        }
        for Alert { id, what, since, .. } in only_in(before, now) {
            tracing::warn!(alert = id, what, since, "is over");
        }
    }

    /// Totals that grew lately. One that is seen for the first time has grown before, or never.
    fn grown(&mut self, snapshot: &Snapshot, now: Timestamp, found: &mut Vec<Finding>) {
        for line in &snapshot.ledger {
            let (bot, row) = (&line.bot, &line.row);
            let subject = format!("{bot} {} {}", row.table, row.sink);
            let who = format!("bot {bot}, table {}, sink {}", row.table, row.sink);
            for (rule, total, words) in [
                (Rule::RowsDropped, row.dropped, "dropped because the journal was full"),
                (Rule::RowsQuarantined, row.quarantined, "in quarantine; `tripod journal quarantine show` says why"),
                (Rule::RowsMissed, row.missed, "not given to that server, which had fallen behind"),
            ] {
                let what = || format!("{who}: {total} rows {words}");
                self.total(rule, &subject, total, now, what, found);
            }
        }
        for stream in &snapshot.streams {
            let topic = &stream.topic;
            let what =
                || format!("topic {topic}: {} dead letters; `tripod events dead {topic}` lists them", stream.dead);
            self.total(Rule::DeadLetters, topic, stream.dead, now, what, found);
            for group in &stream.groups {
                let (subject, name) = (format!("{topic} {}", group.name), &group.name);
                if let Some(trimmed) = group.trimmed_unread {
                    let what = || format!("topic {topic}, group {name}: {trimmed} events trimmed before it read them");
                    self.total(Rule::TrimmedUnread, &subject, trimmed, now, what, found);
                }
                let trimmed = group.trimmed_pending;
                let what = || format!("topic {topic}, group {name}: {trimmed} events trimmed while pending");
                self.total(Rule::TrimmedPending, &subject, trimmed, now, what, found);
            }
        }
    }

    fn total(
        &mut self,
        rule: Rule,
        subject: &str,
        value: u64,
        now: Timestamp,
        what: impl FnOnce() -> String,
        found: &mut Vec<Finding>,
    ) {
        let total = self.totals.entry((rule, subject.to_owned())).or_insert(Total { value, grew_at: None });
        if value > total.value {
            total.grew_at = Some(now);
        }
        total.value = value;
        if total.grew_at.is_some_and(|at| now.since(at) < GREW_WITHIN) {
            found.push(Finding { rule, subject: subject.to_owned(), what: what() });
        }
    }
}

fn only_in<'a>(these: &'a [Alert], those: &[Alert]) -> impl Iterator<Item = &'a Alert> {
    let of = |alert: &Alert| (alert.id, alert.subject.clone());
    let others: BTreeSet<_> = those.iter().map(of).collect();
    these.iter().filter(move |alert| !others.contains(&of(alert)))
}

fn say(found: &mut Vec<Finding>, rule: Rule, subject: impl Into<String>, what: impl Into<String>) {
    found.push(Finding { rule, subject: subject.into(), what: what.into() });
}

fn servers(snapshot: &Snapshot, terms: Terms, found: &mut Vec<Finding>) {
    for server in &snapshot.servers {
        let Server { name, detail, .. } = server;
        match (server.state, server.required) {
            (State::Up, _) => {}
            (State::Degraded, _) => say(found, Rule::ServerDegraded, name, format!("{name}: {detail}")),
            (State::Down, true) => say(found, Rule::ServerDown, name, format!("{name}: {detail}")),
            (State::Down, false) => say(found, Rule::OptionalServerDown, name, format!("{name}: {detail}")),
        }
        if let Some(skew) = server.clock_skew_ms.filter(|skew| *skew > SKEW_MS_MAX) {
            say(found, Rule::ClockSkew, name, format!("{name}: its clock is {skew:.0} ms from this machine's"));
        }
        for replica in &server.replicas {
            if let Some(lag) = replica.lag_ms.filter(|lag| *lag > REPLICA_LAG_MS_MAX) {
                let what = format!("{name}: {} {} is {lag} ms behind", replica.role, replica.name);
                say(found, Rule::ReplicaLag, format!("{name} {}", replica.name), what);
            }
        }
        let replicas = server.replicas.iter().filter(|replica| replica.role == "replica").count();
        if terms.replicated && name == "redis-events" && server.state != State::Down && replicas == 0 {
            say(found, Rule::ReplicaMissing, name, format!("{name}: no replica has what is published now"));
        }
        if server.asked.quorum_ok == Some(false) {
            let said: Vec<_> = server.replicas.iter().filter(|one| one.role == "sentinel").collect();
            let said: Vec<_> = said.iter().map(|one| format!("{} {}", one.name, one.state)).collect();
            say(found, Rule::QuorumLost, name, format!("{name}: no failover is possible: {}", said.join(", ")));
        }
        if server.asked.append_only_ok == Some(false) {
            let what = format!("{name}: the last write to the append-only file failed; most often its disk is full");
            say(found, Rule::AppendOnlyFailing, name, what);
        }
        if server.asked.archive_failing == Some(true) {
            say(found, Rule::ArchiveFailing, name, format!("{name}: {detail}"));
        }
        if let Some(memory) = server.memory.filter(|memory| name == "redis-events" && memory.limit_bytes > 0)
            && memory.used_bytes > memory.limit_bytes / 4 * 3
        {
            let (used, limit) = (memory.used_bytes >> 20, memory.limit_bytes >> 20);
            say(found, Rule::MemoryHigh, name, format!("{name}: {used} of {limit} MiB of memory are used"));
        }
    }
}

fn rows(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    for line in snapshot.ledger.iter().filter(|line| !line.row.adds_up) {
        let (bot, row) = (&line.bot, &line.row);
        let what = format!("bot {bot}, table {}, sink {}: a row is missing or counted twice", row.table, row.sink);
        say(found, Rule::LedgerWrong, format!("{bot} {} {}", row.table, row.sink), what);
    }
    for sink in &snapshot.sinks {
        let (subject, who) = (format!("{} {}", sink.bot, sink.name), format!("bot {}, sink {}", sink.bot, sink.name));
        let (rows, waits) = (sink.backlog_rows, sink.oldest_pending_ms);
        match sink.state {
            "schema" | "login" | "certificate" | "disk_full" | "quarantine" | "journal" | "detached" => {
                say(found, Rule::SinkStopped, &subject, format!("{who}: {}", sink.detail));
            }
            "not_running" | "closed" if waits > WAITS_MS_MAX => {
                say(found, Rule::NobodyDelivers, &subject, format!("{who}: {rows} rows wait and no process delivers"));
            }
            // A server that is away says so itself.
            "starting" | "delivering" if waits > WAITS_MS_MAX => {
                let seconds = waits / 1_000;
                say(found, Rule::DeliveryLate, &subject, format!("{who}: {rows} rows wait, the oldest {seconds} s"));
            }
            _ => {}
        }
        if let Some(silent) = sink.silent_ms.filter(|silent| *silent > SILENT_MS_MAX) {
            let what = format!("{who}: its process has said nothing for {} s; is it stopped?", silent / 1_000);
            say(found, Rule::SinkSilent, &subject, what);
        }
    }
}

fn tape(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    for tape in &snapshot.tape {
        let sink = &tape.sink;
        for table in &tape.suspended {
            let why = if table.why.is_empty() { "by hand" } else { &table.why };
            let what = format!("sink {sink}: table {} is suspended ({why})", table.table);
            say(found, Rule::TableSuspended, format!("{sink} {}", table.table), what);
        }
        for view in &tape.views {
            let subject = format!("{sink} {}", view.name);
            if let Some(why) = &view.invalid {
                say(found, Rule::ViewInvalid, &subject, format!("sink {sink}: view {}: {why}", view.name));
            } else if view.lag_ms > VIEW_LAG_MS_MAX {
                let what = format!("sink {sink}: view {} is {} s behind its table", view.name, view.lag_ms / 1_000);
                say(found, Rule::ViewLag, &subject, what);
            }
        }
        if let Some(open) = tape.checkpoint_open_ms.filter(|open| *open > CHECKPOINT_MS_MAX) {
            let what = format!("sink {sink}: a checkpoint is open for {} minutes; CHECKPOINT RELEASE", open / 60_000);
            say(found, Rule::CheckpointOpen, sink, what);
        }
    }
}

fn machine(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    for journal in &snapshot.journal {
        let subject = format!("{} {}", journal.bot, journal.class);
        let who = format!("bot {}, journal {}", journal.bot, journal.class);
        let percent = journal.undelivered_bytes.saturating_mul(100) / journal.budget_bytes.max(1);
        let what = || format!("{who}: undelivered rows use {percent} % of its budget");
        match percent {
            ..=75 => {}
            76..=90 => say(found, Rule::JournalFilling, &subject, what()),
            91.. => say(found, Rule::JournalFull, &subject, what()),
        }
        if journal.damaged_segments > 0 {
            let what = format!("{who}: {} segments cannot be read; `tripod journal verify`", journal.damaged_segments);
            say(found, Rule::JournalDamaged, &subject, what);
        }
    }
    for disk in &snapshot.disks {
        let percent = disk.free_bytes.saturating_mul(100) / disk.total_bytes.max(1);
        let what = || format!("disk of {}: {} MiB free, {percent} %", disk.place, disk.free_bytes >> 20);
        if percent < 5 || disk.free_bytes < DISK_FREE_LEAST {
            say(found, Rule::DiskFull, disk.place, what());
        } else if percent < 15 {
            say(found, Rule::DiskLow, disk.place, what());
        }
    }
    for trouble in &snapshot.troubles {
        say(found, Rule::FilesUnreadable, trouble, trouble);
    }
}

fn live(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    let prices = &snapshot.prices;
    if let (Some(tokens), Some(fresh)) = (prices.tokens, prices.fresh)
        && tokens > 0
    {
        let over: Vec<_> = prices.list.iter().filter(|price| !price.fresh && price.age_ms > PRICE_AGE_MS_MAX).collect();
        if fresh == 0 && over.len() == prices.list.len() {
            say(found, Rule::PricesDead, "", format!("none of {tokens} tokens has a price that lives"));
        } else if let (Some(worst), stale) = (over.last(), prices.stale.unwrap_or(0)) {
            let what = format!("{stale} of {tokens} prices are over; {} for {} s", worst.token, worst.age_ms / 1_000);
            say(found, Rule::PricesStale, "", what);
        }
    }
    for stream in &snapshot.streams {
        for group in stream.groups.iter().filter(|group| group.lag > stream.cap / 2) {
            let (topic, name, lag, cap) = (&stream.topic, &group.name, group.lag, stream.cap);
            let what = format!("topic {topic}, group {name}: {lag} events to read, the stream holds {cap}");
            say(found, Rule::GroupLag, format!("{topic} {name}"), what);
        }
    }
}

/// Its own words behind a colon, where it has any.
fn details(one: &Component) -> String {
    if matches!(one.detail.as_str(), "" | "{}" | "null") { String::new() } else { format!(": {}", one.detail) }
}

/// Components, backups, jobs.
fn people(snapshot: &Snapshot, terms: Terms, now: Timestamp, found: &mut Vec<Finding>) {
    for one in &snapshot.health {
        let name = &one.component;
        match one.status {
            "failed" => say(found, Rule::ComponentFailed, name, format!("{name} says that it failed{}", details(one))),
            "stale" => {
                let seconds = one.age_ms / 1_000;
                say(found, Rule::ComponentStale, name, format!("{name}: no heartbeat for {seconds} s"));
            }
            "degraded" => say(found, Rule::ComponentDegraded, name, format!("{name} is degraded{}", details(one))),
            _ => {}
        }
    }
    let reach = Duration::from_secs(terms.keep_hours.saturating_mul(3_600));
    let backup = &snapshot.backup;
    if backup.last_id.is_some() {
        let proven = backup.last_proven_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
        if proven.is_none_or(|at| now.since(at) > reach) {
            let last = backup.last_proven_at.as_deref().unwrap_or("never");
            let hours = terms.keep_hours;
            let what = format!("the last proven backup is of {last}, and the journals reach {hours} hours back");
            say(found, Rule::BackupUnproven, "", what);
        }
    }
    for job in snapshot.jobs.iter().filter(|job| job.ok == Some(false)) {
        let rule = if job.name == "verify" { Rule::VerifyFailed } else { Rule::RetentionFailed };
        say(found, rule, job.name, format!("{}: {}", job.name, job.detail));
    }
}

#[cfg(test)]
mod causes;
#[cfg(test)]
mod tests;
