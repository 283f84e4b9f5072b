//! Makes a snapshot of what the collectors left, once a second.
//!
//! Constraints: asks nobody and waits for nobody; what a collector does not know is null. Rates and ages come from what is
//! counted, at the pace at which it is read, so that a late look makes no spike.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tripod::health::Component;
use tripod::metrics::BotFacts;
use tripod::redis::Instance;
use tripod::tape::{SinkState, SinkStatus, TapeLook};
use tripod::{Config, Timestamp};

use super::collect::{EventsFacts, Files, Part, PostgresFacts, PricesFacts, Sources};
use super::history::History;
use super::snapshot::{
    Alert, Asked, Backup, Component as ComponentLine, Drill, Job, Journal, LedgerLine, Memory, Price, Prices, Rates,
    Replica, Server, SinkLine, Snapshot, Suspended, Tape, TokenChange, Tokens, View, VisibleMs, fine_ms, stamp,
    whole_ms,
};
use super::sse::Frame;
use super::watchdog::{Terms, Watchdog};
use super::waterline::Waterline;
use crate::output;

/// Components that are shown.
const COMPONENTS_MAX: usize = 200;
/// Tables and views of one server.
const TABLES_MAX: usize = 500;
/// Characters of a component's details, and of a value in a token's change.
const DETAIL_CHARS_MAX: usize = 300;
const VALUE_CHARS_MAX: usize = 60;

/// See the module.
#[derive(Debug)]
pub(super) struct Sampler {
    sources: Sources,
    jobs: watch::Receiver<Vec<Job>>,
    history: Arc<Mutex<History>>,
    watchdog: Watchdog,
    terms: Terms,
    /// Whose rows count for the rate of visible ones.
    first_sink: String,
    seq: u64,
    /// Of the sample before.
    alerts: Vec<Alert>,
    rates: RatesMeter,
    /// By bot and sink: rows that wait.
    waiting: HashMap<(String, String), Waterline>,
    /// By sink and view: transactions that it has not taken in.
    views: HashMap<(String, String), Waterline>,
}

/// Rows per second between two looks at the journals.
#[derive(Debug, Default)]
struct RatesMeter {
    looked_at: Option<Instant>,
    totals: BTreeMap<(String, String), (u64, u64)>,
    rates: Rates,
}

impl Sampler {
    pub(super) fn new(
        sources: Sources,
        jobs: watch::Receiver<Vec<Job>>,
        history: Arc<Mutex<History>>,
        config: &Config,
    ) -> Self {
        let first = config.questdb.iter().find(|sink| sink.required).or(config.questdb.first());
        let terms = Terms {
            replicated: config.redis.events.mode == tripod::config::RedisMode::Sentinel,
            keep_hours: config.journal.keep_hours,
        };
        Self {
            sources,
            jobs,
            history,
            watchdog: Watchdog::default(),
            terms,
            first_sink: first.map(|sink| sink.name.clone()).unwrap_or_default(),
            seq: 0,
            alerts: Vec::new(),
            rates: RatesMeter::default(),
            waiting: HashMap::new(),
            views: HashMap::new(),
        }
    }

    /// Samples now.
    pub(super) fn sample(&mut self) -> Frame {
        let now = Timestamp::now();
        self.seq += 1;
        let (bots, mut snapshot) = {
            let files = self.sources.files.borrow();
            self.rates.note(&files, &self.first_sink);
            // When it was so: what is seen again is no older.
            let looked_at = files.looked_at.unwrap_or_else(Instant::now);
            let snapshot = Snapshot {
                seq: self.seq,
                at: stamp(now),
                ok: false,
                version: env!("CARGO_PKG_VERSION"),
                servers: Vec::new(),
                ledger: ledger(&files.bots),
                sinks: sinks(&files.bots, &mut self.waiting, now, looked_at),
                rates: self.rates.rates,
                visible_ms: visible(&files.bots),
                prices: Prices::default(),
                streams: Vec::new(),
                tokens: Tokens::default(),
                health: Vec::new(),
                backup: backup(&files),
                drills: drills(&files),
                journal: journals(&files.bots),
                tape: Vec::new(),
                disks: files.disks.clone(),
                jobs: self.jobs.borrow().clone(),
                troubles: files.troubles.clone(),
                alerts: Vec::new(),
            };
            (Arc::clone(&files.bots), snapshot)
        };
        self.add_servers(&mut snapshot, now);
        snapshot.alerts = self.watchdog.judge(&snapshot, self.terms, now);
        Watchdog::log(&self.alerts, &snapshot.alerts);
        self.alerts.clone_from(&snapshot.alerts);
        snapshot.ok = snapshot.alerts.iter().all(|alert| alert.severity != super::snapshot::Severity::Critical);
        let seconds = now.as_millis() / 1_000;
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push(&snapshot, seconds);
        Frame::new(snapshot, bots)
    }

    fn add_servers(&mut self, snapshot: &mut Snapshot, now: Timestamp) {
        for (sink, part) in &self.sources.questdb {
            let part = part.borrow();
            snapshot.servers.push(server(&part));
            if let Some(look) = &part.facts {
                snapshot.tape.push(tape(sink, look, &mut self.views, now));
            }
        }
        {
            let part = self.sources.postgres.borrow();
            let mut line = server(&part);
            if let Some(facts) = &part.facts {
                line.replicas = standbys(facts);
                line.asked.archive_failing = Some(facts.look.archive_failing.is_some());
                snapshot.health = facts.components.iter().take(COMPONENTS_MAX).map(component).collect();
                snapshot.tokens = tokens(facts);
            }
            snapshot.servers.push(line);
        }
        {
            let part = self.sources.prices.borrow();
            let mut line = server(&part);
            if let Some(look) = &part.facts {
                redis(&mut line, &look.instance);
                snapshot.prices = prices(look);
            }
            snapshot.servers.push(line);
        }
        let part = self.sources.events.borrow();
        let mut line = server(&part);
        if let Some(EventsFacts { look, sentinels }) = &part.facts {
            redis(&mut line, &look.instance);
            snapshot.streams.clone_from(&look.streams);
            if !sentinels.is_empty() {
                line.asked.quorum_ok = Some(sentinels.iter().any(|one| one.quorum));
            }
            line.replicas.extend(sentinels.iter().map(|one| Replica {
                name: one.address.clone(),
                role: "sentinel",
                state: match (one.answers, one.quorum) {
                    (_, true) => "up".to_owned(),
                    (true, false) => output::one_line(&one.words, DETAIL_CHARS_MAX),
                    (false, false) => "down".to_owned(),
                },
                lag_ms: None,
            }));
        }
        snapshot.servers.push(line);
    }
}

fn server<F>(part: &Part<F>) -> Server {
    Server {
        name: part.name.clone(),
        kind: part.kind,
        state: part.standing.state,
        version: part.version.clone(),
        address: part.address.clone(),
        detail: part.standing.detail.clone(),
        since: stamp(part.standing.since),
        required: part.required,
        latency_ms: part.latency.map(fine_ms),
        clock_skew_ms: part.clock_skew.map(fine_ms),
        replicas: Vec::new(),
        memory: None,
        asked: Asked { took_s: part.took, failures: part.failures, ..Asked::default() },
    }
}

fn redis(line: &mut Server, instance: &Instance) {
    line.memory = Some(Memory { used_bytes: instance.used_memory_bytes, limit_bytes: instance.maxmemory_bytes });
    line.asked.append_only_ok = Some(instance.append_only_ok);
    line.replicas = instance
        .replica_list
        .iter()
        .map(|replica| Replica {
            name: replica.address.clone(),
            role: "replica",
            state: replica.state.clone(),
            lag_ms: Some(replica.lag_s.saturating_mul(1_000)),
        })
        .collect();
}

fn standbys(facts: &PostgresFacts) -> Vec<Replica> {
    let one = |standby: &tripod::postgres::Standby| Replica {
        name: format!("{}@{}", standby.name, standby.address),
        role: "standby",
        state: format!("{} {}", standby.state, standby.sync),
        lag_ms: standby.lag.map(whole_ms),
    };
    facts.look.standbys.iter().map(one).collect()
}

fn tape(sink: &str, look: &TapeLook, lines: &mut HashMap<(String, String), Waterline>, now: Timestamp) -> Tape {
    let suspended = look.tables.iter().filter(|table| table.suspended).take(TABLES_MAX);
    lines.retain(|(of, name), _| of != sink || look.views.iter().any(|view| view.name == *name));
    Tape {
        sink: sink.to_owned(),
        suspended: suspended.map(|one| Suspended { table: one.name.clone(), why: one.why.clone() }).collect(),
        views: look
            .views
            .iter()
            .take(TABLES_MAX)
            .map(|view| {
                let line = lines.entry((sink.to_owned(), view.name.clone())).or_default();
                // At the time of the look: the same one, seen again, is no older.
                let lag = line.note(look.views_at, view.given, view.taken);
                View { name: view.name.clone(), invalid: view.invalid.clone(), lag_ms: whole_ms(lag) }
            })
            .collect(),
        checkpoint_open_ms: look.checkpoint_since.map(|since| whole_ms(now.since(since))),
        tables: look.tables.iter().take(TABLES_MAX).map(|table| table.name.clone()).collect(),
    }
}

fn component(one: &Component) -> ComponentLine {
    ComponentLine {
        component: one.name.clone(),
        status: if one.is_stale() { "stale" } else { one.status.as_str() },
        at: stamp(one.heartbeat_at),
        age_ms: whole_ms(one.age),
        detail: output::one_line(&one.details.to_string(), DETAIL_CHARS_MAX),
    }
}

fn tokens(facts: &PostgresFacts) -> Tokens {
    let changes = facts.changes.iter().map(|one| TokenChange {
        at: stamp(one.change.changed_at),
        mint: one.mint.to_string(),
        symbol: one.symbol.clone(),
        what: one.words(VALUE_CHARS_MAX),
    });
    Tokens { total: facts.tokens, recent_changes: changes.collect(), ..Tokens::default() }
}

fn prices(look: &PricesFacts) -> Prices {
    let price = |one: &tripod::prices::SurveyedPrice| Price {
        token: match &one.venue {
            Some(venue) => format!("{}:{venue}", one.token),
            None => one.token.to_string(),
        },
        value: one.value.to_string(),
        slot: one.slot,
        age_ms: whole_ms(one.age),
        fresh: one.fresh,
    };
    Prices {
        tokens: Some(look.tokens),
        fresh: Some(look.fresh),
        stale: Some(look.stale),
        list: look.oldest.iter().map(price).collect(),
    }
}

fn ledger(bots: &[BotFacts]) -> Vec<LedgerLine> {
    let lines = bots.iter().flat_map(|bot| bot.ledger.iter().map(|row| (bot.bot.clone(), row.clone())));
    lines.map(|(bot, row)| LedgerLine { bot, row }).collect()
}

/// How much a state asks for somebody.
fn weight(state: SinkState) -> u8 {
    match state {
        // A class without a row is never answered.
        SinkState::Starting => 0,
        SinkState::Delivering => 1,
        SinkState::Closed => 2,
        SinkState::NotRunning => 3,
        SinkState::Unavailable => 4,
        _ => 5,
    }
}

fn sinks(
    bots: &[BotFacts],
    waiting: &mut HashMap<(String, String), Waterline>,
    now: Timestamp,
    looked_at: Instant,
) -> Vec<SinkLine> {
    let mut lines = Vec::new();
    for bot in bots {
        let mut by_sink: BTreeMap<&str, Vec<&SinkStatus>> = BTreeMap::new();
        for status in &bot.sinks {
            by_sink.entry(&status.sink).or_default().push(status);
        }
        for (name, statuses) in by_sink {
            let Some(worst) = statuses.iter().max_by_key(|status| weight(status.state)) else { continue };
            let rows = || bot.ledger.iter().filter(|row| row.sink == name);
            let recorded: u64 = rows().map(|row| row.recorded).sum();
            let pending: u64 = rows().map(|row| row.pending).sum();
            let undelivered = bot.journals.iter().flat_map(|journal| &journal.undelivered_bytes);
            let line = waiting.entry((bot.bot.clone(), name.to_owned())).or_default();
            let age = line.note(looked_at, recorded, recorded.saturating_sub(pending));
            let silent = statuses.iter().filter(|status| status.pid.is_some()).map(|status| now.since(status.said_at));
            lines.push(SinkLine {
                bot: bot.bot.clone(),
                name: name.to_owned(),
                state: worst.state.as_str(),
                detail: output::one_line(&worst.why, DETAIL_CHARS_MAX),
                backlog_rows: pending,
                backlog_bytes: undelivered.filter(|(sink, _)| sink == name).map(|(_, bytes)| bytes).sum(),
                oldest_pending_ms: whole_ms(age),
                required: worst.required,
                since: stamp(worst.since),
                silent_ms: silent.max().map(whole_ms),
            });
        }
    }
    waiting.retain(|(bot, sink), _| lines.iter().any(|line| line.bot == *bot && line.name == *sink));
    lines
}

/// Of the slowest sink; see the module `snapshot`.
fn visible(bots: &[BotFacts]) -> VisibleMs {
    let sinks = || bots.iter().flat_map(|bot| &bot.sinks).filter(|sink| sink.pid.is_some());
    let slowest = |times: &mut dyn Iterator<Item = Duration>| times.max().map(fine_ms);
    VisibleMs {
        p50: slowest(&mut sinks().filter_map(|sink| sink.visible_lately_p50)),
        p99: slowest(&mut sinks().filter_map(|sink| sink.visible_lately_p99)),
    }
}

fn journals(bots: &[BotFacts]) -> Vec<Journal> {
    let mut lines = Vec::new();
    for bot in bots {
        let required = |name: &str| bot.sinks.iter().any(|sink| sink.sink == name && sink.required);
        for journal in &bot.journals {
            let undelivered = journal.undelivered_bytes.iter().filter(|(sink, _)| required(sink));
            lines.push(Journal {
                bot: bot.bot.clone(),
                class: journal.class.as_str(),
                used_bytes: journal.disk_bytes,
                budget_bytes: journal.budget_bytes,
                oldest: journal.oldest_at.map(stamp),
                undelivered_bytes: undelivered.map(|(_, bytes)| *bytes).max().unwrap_or(0),
                damaged_segments: journal.damaged_segments,
            });
        }
    }
    lines
}

fn backup(files: &Files) -> Backup {
    let backups = &files.backups;
    Backup {
        last_id: backups.last().map(|(id, _)| id.to_owned()),
        last_at: backups.last().and_then(|(_, at)| at.map(str::to_owned)),
        last_proven_at: backups.last_proven_at().map(str::to_owned),
        running: backups.running,
    }
}

fn drills(files: &Files) -> Vec<Drill> {
    files
        .drills
        .iter()
        .map(|record| Drill {
            drill: record.drill.clone(),
            at: record.at.clone(),
            ok: record.ok,
            lost: record.lost,
            doubled: record.doubled,
        })
        .collect()
}

impl RatesMeter {
    fn note(&mut self, files: &Files, first_sink: &str) {
        if files.looked_at == self.looked_at {
            return;
        }
        // Recorded is the same for every sink; visible is that of one.
        let mut totals: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
        for bot in files.bots.iter() {
            for row in &bot.ledger {
                let total = totals.entry((bot.bot.clone(), row.table.clone())).or_default();
                total.0 = total.0.max(row.recorded);
                if row.sink == first_sink {
                    total.1 = row.visible;
                }
            }
        }
        let time = self.looked_at.zip(files.looked_at).map(|(before, now)| now.saturating_duration_since(before));
        self.rates = Rates::default();
        if let Some(time) = time.filter(|time| !time.is_zero()) {
            let (mut recorded, mut visible) = (0_u64, 0_u64);
            for (key, now) in &totals {
                // A table that is new had no row; of a bot that is new nobody knows what it recorded just now.
                let is_known = self.totals.keys().any(|(bot, _)| *bot == key.0);
                let before = self.totals.get(key).copied().unwrap_or(if is_known { (0, 0) } else { *now });
                recorded += now.0.saturating_sub(before.0);
                visible += now.1.saturating_sub(before.1);
            }
            let rate = |rows: u64| {
                let rows = f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
                Some((rows / time.as_secs_f64() * 10.0).round() / 10.0)
            };
            self.rates = Rates { recorded_per_s: rate(recorded), visible_per_s: rate(visible) };
        }
        (self.totals, self.looked_at) = (totals, files.looked_at);
    }
}
