//! A sample as Prometheus text.
//!
//! Constraints: through the `metrics` facade into a recorder of its own for each sample, so that what is no more (a server
//! that does not answer, a view that was dropped) is not shown with its last value for ever. No second listener: the
//! text goes out by the monitor's own.

use metrics_exporter_prometheus::PrometheusBuilder;
use tripod::Timestamp;
use tripod::metrics::{self, BotFacts, servers};

use super::snapshot::{Severity, Snapshot, State};

/// What a component can be.
const STATUSES: [&str; 5] = ["ok", "degraded", "failed", "stopped", "stale"];

/// Every metric that is known of this sample.
pub(super) fn render(snapshot: &Snapshot, bots: &[BotFacts]) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    ::metrics::with_local_recorder(&recorder, || {
        metrics::describe();
        servers::describe();
        bots.iter().for_each(BotFacts::publish);
        publish(snapshot);
    });
    handle.render()
}

fn publish(snapshot: &Snapshot) {
    for server in &snapshot.servers {
        let label = [server.name.as_str()];
        servers::SERVER_UP.set(&label, u64::from(server.state != State::Down));
        servers::MONITOR_COLLECT_FAILURES.set(&label, server.asked.failures);
        if let Some(took) = server.asked.took_s {
            servers::MONITOR_COLLECT_SECONDS.set_seconds(&label, took);
        }
        for (metric, ms) in [
            (servers::SERVER_LATENCY_SECONDS, server.latency_ms),
            (servers::SERVER_CLOCK_SKEW_SECONDS, server.clock_skew_ms),
        ] {
            if let Some(ms) = ms {
                metric.set_seconds(&label, of_ms(ms));
            }
        }
        match server.kind {
            "redis" => redis(server),
            "postgres" => postgres(server),
            _ => {}
        }
    }
    tape(snapshot);
    live(snapshot);
    rest(snapshot);
}

fn redis(server: &super::snapshot::Server) {
    let label = [server.name.as_str()];
    if let Some(memory) = server.memory {
        servers::REDIS_MEMORY_USED_BYTES.set(&label, memory.used_bytes);
        servers::REDIS_MEMORY_LIMIT_BYTES.set(&label, memory.limit_bytes);
        let replicas = server.replicas.iter().filter(|replica| replica.role == "replica").count();
        servers::REDIS_REPLICAS.set(&label, wide(replicas));
    }
    if let Some(ok) = server.asked.append_only_ok {
        servers::REDIS_APPEND_ONLY_OK.set(&label, u64::from(ok));
    }
    if let Some(ok) = server.asked.quorum_ok {
        servers::SENTINEL_QUORUM_OK.set(&[], u64::from(ok));
    }
}

fn postgres(server: &super::snapshot::Server) {
    if let Some(failing) = server.asked.archive_failing {
        servers::POSTGRES_ARCHIVE_FAILING.set(&[], u64::from(failing));
        servers::POSTGRES_REPLICAS.set(&[], wide(server.replicas.len()));
    }
    for replica in &server.replicas {
        if let Some(lag) = replica.lag_ms {
            let lag = std::time::Duration::from_millis(lag);
            servers::POSTGRES_REPLICA_LAG_SECONDS.set_seconds(&[&replica.name], lag);
        }
    }
}

fn tape(snapshot: &Snapshot) {
    for tape in &snapshot.tape {
        let sink = tape.sink.as_str();
        for table in &tape.tables {
            let suspended = tape.suspended.iter().any(|one| one.table == *table);
            servers::TABLE_SUSPENDED.set(&[table, sink], u64::from(suspended));
        }
        for view in &tape.views {
            servers::VIEW_LAG_SECONDS.set_seconds(&[&view.name, sink], millis(view.lag_ms));
            servers::VIEW_INVALID.set(&[&view.name, sink], u64::from(view.invalid.is_some()));
        }
        servers::CHECKPOINT_OPEN_SECONDS.set_seconds(&[sink], millis(tape.checkpoint_open_ms.unwrap_or(0)));
    }
    for (quantile, ms) in [("0.5", snapshot.visible_ms.p50), ("0.99", snapshot.visible_ms.p99)] {
        if let Some(ms) = ms {
            servers::VISIBLE_SECONDS.set_seconds(&[quantile], of_ms(ms));
        }
    }
}

fn live(snapshot: &Snapshot) {
    let prices = &snapshot.prices;
    if let (Some(tokens), Some(stale)) = (prices.tokens, prices.stale) {
        servers::PRICES_TRACKED.set(&[], tokens);
        servers::PRICES_STALE.set(&[], stale);
        let oldest = prices.list.last().map_or(0, |price| price.age_ms);
        servers::PRICE_OLDEST_AGE_SECONDS.set_seconds(&[], millis(oldest));
    }
    for stream in &snapshot.streams {
        let topic = stream.topic.as_str();
        servers::EVENTS_LENGTH.set(&[topic], stream.length);
        servers::EVENTS_CAP.set(&[topic], stream.cap);
        servers::DEAD_LETTERS.set(&[topic], stream.dead);
        for group in &stream.groups {
            let labels = [topic, group.name.as_str()];
            servers::EVENTS_GROUP_LAG.set(&labels, group.lag);
            servers::EVENTS_GROUP_PENDING.set(&labels, group.pending);
            servers::EVENTS_TRIMMED_PENDING.set(&labels, group.trimmed_pending);
            if let Some(trimmed) = group.trimmed_unread {
                servers::EVENTS_TRIMMED_UNREAD.set(&labels, trimmed);
            }
        }
    }
}

fn rest(snapshot: &Snapshot) {
    for disk in &snapshot.disks {
        servers::DISK_FREE_BYTES.set(&[disk.place], disk.free_bytes);
        servers::DISK_TOTAL_BYTES.set(&[disk.place], disk.total_bytes);
    }
    for one in &snapshot.health {
        for status in STATUSES {
            servers::COMPONENT_STATUS.set(&[&one.component, status], u64::from(one.status == status));
        }
    }
    let backup = &snapshot.backup;
    servers::BACKUP_LAST_SECONDS.set(&[], unix_seconds(backup.last_at.as_deref()));
    servers::BACKUP_PROVEN_SECONDS.set(&[], unix_seconds(backup.last_proven_at.as_deref()));
    for job in &snapshot.jobs {
        let ok = u64::from(job.ok != Some(false));
        match job.name {
            "verify" => servers::BACKUP_VERIFY_OK.set(&[], ok),
            _ => {
                servers::RETENTION_OK.set(&[], ok);
                servers::RETENTION_LAST_SECONDS.set(&[], unix_seconds(job.last_at.as_deref()));
            }
        }
    }
    for (severity, name) in [(Severity::Critical, "critical"), (Severity::Warning, "warning")] {
        let count = snapshot.alerts.iter().filter(|alert| alert.severity == severity).count();
        servers::ALERTS.set(&[name], wide(count));
    }
    servers::MONITOR_SAMPLED_SECONDS.set(&[], unix_seconds(Some(&snapshot.at)));
}

/// Zero where there is no time.
fn unix_seconds(at: Option<&str>) -> u64 {
    let at = at.and_then(|at| at.parse::<Timestamp>().ok());
    at.map_or(0, |at| u64::try_from(at.as_millis() / 1_000).unwrap_or(0))
}

/// Never below zero, and of this century: both come from durations.
fn of_ms(ms: f64) -> std::time::Duration {
    std::time::Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
}

fn millis(ms: u64) -> std::time::Duration {
    std::time::Duration::from_millis(ms)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
