//! Two snapshots for tests: one in which all is well, and one in which everything is there and everything is wrong.

use std::time::Duration;

use tripod::events::EventInfo;

use super::snapshot::{
    Asked, Backup, Component, Disk, Drill, Job, Journal, LedgerLine, Memory, Price, Prices, Rates, Replica, Server,
    SinkLine, Snapshot, State, Suspended, Tape, TokenChange, Tokens, View, VisibleMs,
};

const AT: &str = "2026-01-01T00:00:00.000Z";

fn server(name: &str, kind: &'static str) -> Server {
    Server {
        name: name.into(),
        kind,
        state: State::Up,
        version: Some("1.0".into()),
        address: "127.0.0.1:1".into(),
        detail: String::new(),
        since: AT.into(),
        required: true,
        latency_ms: Some(1.5),
        clock_skew_ms: Some(0.0),
        replicas: Vec::new(),
        memory: (kind == "redis").then_some(Memory { used_bytes: 1 << 20, limit_bytes: 100 << 20 }),
        asked: Asked {
            took_s: Some(Duration::from_millis(2)),
            failures: 0,
            append_only_ok: (kind == "redis").then_some(true),
            archive_failing: (kind == "postgres").then_some(false),
            quorum_ok: None,
        },
    }
}

fn ledger(adds_up: bool) -> LedgerLine {
    let row = serde_json::json!({
        "table": "quotes", "sink": "main", "recorded": 10, "pending": 1, "delivered": 2, "visible": 3, "quarantined": 4,
        "missed": 0, "dropped": 0, "adds_up": adds_up,
    });
    LedgerLine { bot: "bot".into(), row: serde_json::from_value(row).unwrap() }
}

fn stream(lag: u64) -> EventInfo {
    let group = serde_json::json!({
        "name": "work", "lag": lag, "pending": 1, "trimmed_unread": 5, "trimmed_pending": 6,
    });
    let stream = serde_json::json!({"topic": "trades", "length": 10_000, "cap": 10_000, "groups": [group], "dead": 7});
    serde_json::from_value(stream).unwrap()
}

fn sink(state: &'static str, oldest_pending_ms: u64, silent_ms: u64) -> SinkLine {
    SinkLine {
        bot: "bot".into(),
        name: "main".into(),
        state,
        detail: "words".into(),
        backlog_rows: 1,
        backlog_bytes: 100,
        oldest_pending_ms,
        required: true,
        since: AT.into(),
        silent_ms: Some(silent_ms),
    }
}

fn price(token: &str, age_ms: u64, fresh: bool) -> Price {
    Price { token: token.into(), value: "1.50".into(), slot: Some(7), age_ms, fresh }
}

fn component(name: &str, status: &'static str) -> Component {
    Component { component: name.into(), status, at: AT.into(), age_ms: 12_000, detail: "{}".into() }
}

fn job(name: &'static str, ok: Option<bool>) -> Job {
    let detail = if ok == Some(false) { "it failed".to_owned() } else { String::new() };
    Job { name, running: false, last_at: Some(AT.into()), ok, detail, next_at: None }
}

fn disk(place: &'static str, free_bytes: u64) -> Disk {
    Disk { place, free_bytes, total_bytes: 100 << 30 }
}

/// All is well.
pub(super) fn quiet() -> Snapshot {
    Snapshot {
        seq: 1,
        at: AT.into(),
        ok: true,
        version: "0.1.0",
        servers: vec![
            server("questdb", "questdb"),
            server("postgres", "postgres"),
            server("redis-prices", "redis"),
            server("redis-events", "redis"),
        ],
        ledger: vec![ledger(true)],
        sinks: vec![sink("delivering", 900, 900)],
        rates: Rates { recorded_per_s: Some(10.0), visible_per_s: Some(9.5) },
        visible_ms: VisibleMs { p50: Some(150.0), p99: Some(300.0) },
        prices: Prices { tokens: Some(1), fresh: Some(1), stale: Some(0), list: vec![price("SOL", 100, true)] },
        streams: vec![stream(10)],
        tokens: Tokens { total: Some(3), ..Tokens::default() },
        health: vec![component("bot-1", "ok"), component("gone", "stopped")],
        backup: Backup::default(),
        drills: Vec::new(),
        journal: vec![Journal {
            bot: "bot".into(),
            class: "critical",
            used_bytes: 1 << 20,
            budget_bytes: 100 << 20,
            oldest: Some(AT.into()),
            undelivered_bytes: 1 << 20,
            damaged_segments: 0,
        }],
        tape: vec![Tape {
            sink: "main".into(),
            suspended: Vec::new(),
            views: vec![View { name: "candles_1m".into(), invalid: None, lag_ms: 100 }],
            checkpoint_open_ms: None,
            tables: vec!["quotes".into()],
        }],
        disks: vec![disk("data", 50 << 30)],
        jobs: vec![job("verify", None), job("retention", Some(true))],
        troubles: Vec::new(),
        alerts: Vec::new(),
    }
}

/// Everything is there, and all that can be wrong at once is.
pub(super) fn full() -> Snapshot {
    let mut all = quiet();
    let replica = |role, lag_ms| Replica { name: "127.0.0.1:2".into(), role, state: "online".into(), lag_ms };
    all.servers[0].state = State::Degraded;
    all.servers[0].detail = "suspended: quotes".into();
    all.servers[1].clock_skew_ms = Some(5_000.0);
    all.servers[1].asked.archive_failing = Some(true);
    all.servers[1].replicas = vec![replica("standby", Some(20_000))];
    all.servers[2].state = State::Down;
    all.servers[3].asked.quorum_ok = Some(false);
    all.servers[3].asked.append_only_ok = Some(false);
    all.servers[3].memory = Some(Memory { used_bytes: 90, limit_bytes: 100 });
    all.servers[3].replicas = vec![replica("sentinel", None)];
    all.servers.push(Server { state: State::Down, required: false, ..server("questdb-second", "questdb") });
    all.ledger = vec![ledger(false)];
    all.sinks = vec![
        sink("schema", 900, 20_000),
        SinkLine { bot: "two".into(), ..sink("not_running", 70_000, 900) },
        SinkLine { bot: "three".into(), ..sink("delivering", 70_000, 900) },
    ];
    all.prices.list.push(price("OLD:orca", 60_000, false));
    (all.prices.tokens, all.prices.stale) = (Some(2), Some(1));
    all.streams = vec![stream(6_000)];
    all.tokens.recent_changes.push(TokenChange {
        at: AT.into(),
        mint: "So11111111111111111111111111111111111111112".into(),
        symbol: Some("SOL".into()),
        what: "decimals 6 → 9".into(),
    });
    all.health.extend([component("f", "failed"), component("s", "stale"), component("d", "degraded")]);
    all.backup = Backup {
        last_id: Some("20251201T000000Z".into()),
        last_at: Some("2025-12-01T00:00:00Z".into()),
        last_proven_at: Some("2025-12-01T01:00:00Z".into()),
        running: Some(false),
    };
    all.drills.push(Drill { drill: "kill-bot".into(), at: AT.into(), ok: true, lost: Some(0), doubled: Some(0) });
    all.journal[0].undelivered_bytes = 95 << 20;
    all.journal[0].damaged_segments = 1;
    all.journal.push(Journal {
        class: "standard",
        undelivered_bytes: 80 << 20,
        damaged_segments: 0,
        ..all.journal[0].clone()
    });
    all.tape[0].suspended.push(Suspended { table: "quotes".into(), why: "DISK FULL".into() });
    all.tape[0].views.push(View { name: "broken".into(), invalid: Some("base dropped".into()), lag_ms: 0 });
    all.tape[0].views.push(View { name: "slow".into(), invalid: None, lag_ms: 120_000 });
    all.tape[0].checkpoint_open_ms = Some(7_200_000);
    all.disks = vec![disk("data", 10 << 30), disk("journals", 1 << 30)];
    all.jobs = vec![job("verify", Some(false)), job("retention", Some(false))];
    all.troubles.push("bot x: cannot be read".into());
    let mut watchdog = super::watchdog::Watchdog::default();
    let terms = super::watchdog::Terms { replicated: true, keep_hours: 24 };
    all.alerts = watchdog.judge(&all, terms, AT.parse().unwrap());
    all.ok = false;
    all
}
