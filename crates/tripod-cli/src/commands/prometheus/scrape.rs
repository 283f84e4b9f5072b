//! The text of `prometheus.yml` for the servers of one config. Pure: no file, no server.
//!
//! Constraints: `ops/prometheus/prometheus.yml` is what this makes of the defaults, a test compares the two. No password
//! is in it: each stands in a file beside it. The label `server` is the name that `tripod status` gives a server, on what
//! its exporter says too, so that a server that is down silences its exporter.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use secrecy::ExposeSecret as _;
use tripod::Config;
use tripod::config::QuestDb;

use super::nodes::Nodes;
use crate::commands::questdb_name;

/// Where Alertmanager is expected.
pub(super) const ALERTMANAGER: &str = "127.0.0.1:9093";
/// Where the exporter of both Redis is expected.
pub(super) const REDIS_EXPORTER: &str = "127.0.0.1:9121";
/// Where the exporter of the first PostgreSQL is expected; that of the next one is a port further.
const POSTGRES_EXPORTER_PORT: u16 = 9187;

const HEAD: &str = "\
# What Prometheus asks for a Tripod, and how often. Made by `tripod config prometheus` from tripod.toml; the next run
# replaces it. Paths are relative to this file; passwords stand in files beside it.
global:
  scrape_interval: 15s
  scrape_timeout: 10s
  evaluation_interval: 15s

rule_files: [alerts.yml]

alerting:
  alertmanagers:
    - static_configs:
        - targets: ['127.0.0.1:9093']

scrape_configs:
";

/// What a bot knows alone. All else it says the monitor says too, and twice would be two alerts.
const BOT: &str = "
  # The bots' own: only what nobody else knows.
  - job_name: bot
    metric_relabel_configs:
      - source_labels: [__name__]
        regex: tripod_trading_allowed|tripod_journal_full|tripod_journal_undelivered_bytes|tripod_journal_stalls_total|tripod_journal_lanes
        action: keep
    static_configs:
";

/// The file with the password of QuestDB's metrics.
pub(super) fn questdb_secret(server: &QuestDb) -> String {
    format!("secrets/questdb-{}", server.name)
}

/// `HOST:PORT` of the exporter of PostgreSQL number `number`.
pub(super) fn postgres_exporter(number: usize) -> String {
    let port = u16::try_from(number).ok().and_then(|number| POSTGRES_EXPORTER_PORT.checked_add(number));
    format!("127.0.0.1:{}", port.unwrap_or(POSTGRES_EXPORTER_PORT))
}

/// The whole file.
pub(super) fn scrape(config: &Config, bots: &[String], nodes: &Nodes) -> String {
    let mut text = HEAD.to_owned();
    text.push_str("  - job_name: tripod\n");
    if !config.monitor.token.expose_secret().is_empty() {
        let _ = writeln!(text, "    authorization: {{credentials_file: {MONITOR_SECRET}}}");
    }
    let _ = writeln!(text, "    static_configs:\n      - targets: {}", list(&[monitor_address(config)]));
    if !bots.is_empty() {
        let _ = writeln!(text, "{BOT}      - targets: {}", list(bots));
    }
    for (number, server) in config.questdb.iter().enumerate().filter(|(_, server)| !server.metrics.is_empty()) {
        questdb(&mut text, &questdb_name(config, number), server);
    }
    redis(&mut text, nodes);
    text.push_str("\n  # By prometheus-postgres-exporter.\n  - job_name: postgres\n    static_configs:\n");
    let exporters: Vec<_> = (0..config.postgres.hosts.len()).map(postgres_exporter).collect();
    let _ = writeln!(text, "      - targets: {}\n        labels: {{server: postgres}}", list(&exporters));
    text
}

/// The file with the monitor's token.
pub(super) const MONITOR_SECRET: &str = "secrets/monitor";

/// Where the monitor is reached from its own machine, also where it listens on every address.
fn monitor_address(config: &Config) -> String {
    match config.monitor.listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let loopback =
                if address.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
            SocketAddr::new(loopback, address.port()).to_string()
        }
        _ => config.monitor.listen.clone(),
    }
}

fn questdb(text: &mut String, name: &str, server: &QuestDb) {
    let _ = write!(
        text,
        "\n  # QuestDB's own.\n  - job_name: {name}\n    relabel_configs:\n      - {{target_label: job, replacement: questdb}}\n"
    );
    if !server.user.is_empty() {
        let (user, secret) = (quoted(&server.user), questdb_secret(server));
        let _ = writeln!(text, "    basic_auth: {{username: {user}, password_file: {secret}}}");
    }
    let (target, name) = (quoted(&server.metrics), quoted(name));
    let _ = writeln!(text, "    static_configs:\n      - targets: [{target}]\n        labels: {{server: {name}}}");
}

fn redis(text: &mut String, nodes: &Nodes) {
    let all = [("redis-prices", &nodes.prices), ("redis-events", &nodes.events)];
    if all.iter().all(|(_, nodes)| nodes.is_empty()) {
        return;
    }
    text.push_str(
        "\n  # By prometheus-redis-exporter, one for all of them.\n  - job_name: redis\n    metrics_path: /scrape\n    static_configs:\n",
    );
    for (server, nodes) in all.iter().filter(|(_, nodes)| !nodes.is_empty()) {
        let _ = writeln!(text, "      - targets: {}\n        labels: {{server: {server}}}", list(nodes));
    }
    let _ = write!(
        text,
        "    relabel_configs:\n      - {{source_labels: [__address__], target_label: __param_target}}\n      \
         - {{source_labels: [__address__], regex: 'rediss?://(.*)', target_label: instance}}\n      \
         - {{target_label: __address__, replacement: '{REDIS_EXPORTER}'}}\n"
    );
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

/// A scalar of YAML that nothing in it can end.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(config: &Config) -> Nodes {
        Nodes::of_config(config).unwrap()
    }

    #[test]
    fn the_file_in_ops_is_what_the_defaults_make() {
        let config = Config::default();
        let made = scrape(&config, &["127.0.0.1:9601".to_owned()], &nodes(&config));
        assert_eq!(made, include_str!("../../../../../ops/prometheus/prometheus.yml"), "write it anew:\n{made}");
    }

    #[test]
    fn several_questdb_and_postgres_have_a_job_or_a_target_each_and_no_password_is_in_it() {
        let mut config = Config::default();
        let mut second = config.questdb[0].clone();
        second.name = "copy".to_owned();
        second.password = "hunter2".to_owned().into();
        second.user = "it's".to_owned();
        config.questdb.push(second);
        config.postgres.hosts = vec!["10.0.0.1:5432".to_owned(), "10.0.0.2:5432".to_owned()];
        let text = scrape(&config, &[], &nodes(&config));
        for wanted in [
            "job_name: questdb-main",
            "job_name: questdb-copy",
            "labels: {server: 'questdb-copy'}",
            "username: 'it''s', password_file: secrets/questdb-copy",
            "['127.0.0.1:9187', '127.0.0.1:9188']",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert!(!text.contains("hunter2") && !text.contains("job_name: bot"), "{text}");
        config.monitor.listen = "0.0.0.0:9700".to_owned();
        config.monitor.token = "0123456789abcdef".to_owned().into();
        let text = scrape(&config, &[], &nodes(&config));
        assert!(text.contains("credentials_file: secrets/monitor") && !text.contains("0123456789abcdef"), "{text}");
        assert!(text.contains("['127.0.0.1:9700']"), "{text}");
        config.questdb.iter_mut().for_each(|server| server.metrics.clear());
        assert!(!scrape(&config, &[], &nodes(&config)).contains("questdb"), "nowhere to ask");
    }
}
