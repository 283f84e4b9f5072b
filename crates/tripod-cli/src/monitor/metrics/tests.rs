use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use tripod::metrics::{Kind, Metric};

use super::super::rules::Rule;
use super::super::samples;
use super::*;

/// Names of a text of Prometheus, each with the names of its labels.
fn served(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once('='));
        found.entry(name.to_owned()).or_default().extend(labels.map(|(label, _)| label.to_owned()));
    }
    found
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn every_metric_of_the_servers_is_served_with_its_labels_and_nothing_else_is() {
    let text = render(&samples::full(), &[]);
    let found = served(&text);
    for metric in servers::ALL {
        let labels: BTreeSet<String> = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(found.get(metric.name), Some(&labels), "{} in\n{text}", metric.name);
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{} has no help", metric.name);
    }
    assert_eq!(found.len(), servers::ALL.len(), "{found:?}");
}

#[test]
fn what_is_no_more_is_not_served_any_more() {
    let full = render(&samples::full(), &[]);
    assert_eq!(value(&full, "tripod_server_up{server=\"redis-prices\"}"), Some(0.0));
    assert_eq!(value(&full, "tripod_table_suspended{table=\"quotes\",sink=\"main\"}"), Some(1.0));
    assert_eq!(value(&full, "tripod_backup_last_seconds"), Some(1_764_547_200.0));
    assert_eq!(value(&full, "tripod_component_status{component=\"s\",status=\"stale\"}"), Some(1.0));
    assert_eq!(value(&full, "tripod_component_status{component=\"s\",status=\"ok\"}"), Some(0.0));
    let mut away = samples::full();
    away.tape.clear();
    away.prices = super::super::snapshot::Prices::default();
    let away = render(&away, &[]);
    for name in ["tripod_table_suspended", "tripod_view_lag_seconds", "tripod_prices_tracked"] {
        assert!(served(&full).contains_key(name) && !served(&away).contains_key(name), "{name}");
    }
}

/// docs/metrics.md as the code has it.
fn document() -> String {
    let mut text = String::from(
        "# Metrics and alerts of `tripod monitor`\n\n\
         Made from the code by a test; `TRIPOD_WRITE_DOCS=1 cargo test -p tripod-cli --bin tripod document` writes it anew. Names and labels are\n\
         a contract: they may be joined by others, and are never renamed. Everything is in seconds, bytes or plain counts.\n\n\
         `GET /metrics` serves all of it in the text format 0.0.4. A server that does not answer has `tripod_server_up` 0 and none of its other\n\
         metrics. A bot that exports its own metrics (`Tape::publish`) serves the second list by itself, with what only a bot knows.\n\n\
         ## Servers, this machine, jobs\n\n",
    );
    table(&mut text, servers::ALL);
    text.push_str(
        "\n## Rows, sinks, journals\n\nRead from the files of every bot's journals on this machine, with the bot alive or dead.\n\n",
    );
    table(&mut text, metrics::ALL);
    text.push_str(
        "\nKnown to the bot alone, and so not served by the monitor: `tripod_trading_allowed`, `tripod_journal_full`,\n\
         `tripod_journal_undelivered_bytes`, `tripod_journal_stalls_total`, `tripod_journal_lanes`.\n\n\
         ## Alerts of the monitor's own\n\n\
         In `/api/snapshot`, on the page, and in `/health` (503 while one of them is critical). What to do: [alerts.md](alerts.md).\n\n\
         | alert | severity | raised when | what to do |\n|---|---|---|---|\n",
    );
    for rule in Rule::ALL {
        let severity = format!("{:?}", rule.severity()).to_lowercase();
        let (id, meaning, place) = (rule.id(), rule.meaning(), rule.place());
        let _ = writeln!(text, "| `{id}` | {severity} | {meaning} | [alerts.md#{place}](alerts.md#{place}) |");
    }
    text
}

fn table(text: &mut String, all: &[Metric]) {
    text.push_str("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for Metric { name, kind, help, labels, .. } in all {
        let kind = if *kind == Kind::Counter { "counter" } else { "gauge" };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {} |", labels.join(", "), help.trim().replace(" /// ", " "));
    }
}

#[test]
fn the_document_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let document = document();
    if std::env::var_os("TRIPOD_WRITE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &document).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == document, "docs/metrics.md is not what the code says; TRIPOD_WRITE_DOCS=1 writes it");
}
