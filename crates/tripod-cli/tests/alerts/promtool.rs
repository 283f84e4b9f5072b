//! What Prometheus' and Alertmanager's own tools say of the files.

use crate::files::place;
use crate::programs::tool;

#[test]
fn the_rules_are_rules_and_each_fires_from_its_cause_alone() {
    let rules = place("ops/prometheus/alerts.yml");
    tool("promtool", &["check", "rules", "--lint=all", "--lint-fatal", rules.to_str().unwrap()]);
    tool("promtool", &["test", "rules", place("ops/prometheus/alerts_test.yml").to_str().unwrap()]);
}

#[test]
fn the_configs_in_ops_are_configs() {
    // Its password files are where it is used.
    let config = place("ops/prometheus/prometheus.yml");
    tool("promtool", &["check", "config", "--syntax-only", config.to_str().unwrap()]);
    tool("amtool", &["check-config", place("ops/alertmanager.yml").to_str().unwrap()]);
}
