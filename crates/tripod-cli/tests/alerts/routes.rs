//! Who is told, in one message or in several, and what a worse alert silences: asked of amtool and of a real Alertmanager.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::files::{place, rules};
use crate::http::{get_json, post};
use crate::programs::{LONG, tool, until};
use crate::watch::{Alertmanager, Messages};

#[test]
fn what_is_critical_is_paged_and_a_warning_is_mailed() {
    let config = place("ops/alertmanager.yml");
    let routed = |labels: &[String], receiver: &str| {
        let file = format!("--config.file={}", config.display());
        let verify = format!("--verify.receivers={receiver}");
        let mut arguments = vec!["config", "routes", "test", file.as_str(), verify.as_str()];
        arguments.extend(labels.iter().map(String::as_str));
        tool("amtool", &arguments);
    };
    for rule in rules() {
        let receiver = if rule.labels["severity"] == "critical" { "page" } else { "mail" };
        routed(&[format!("alertname={}", rule.alert), format!("severity={}", rule.labels["severity"])], receiver);
    }
    // One of somebody's own with no severity, or a misspelt one.
    routed(&["alertname=Mine".to_owned()], "page");
    routed(&["alertname=Mine".to_owned(), "severity=crticial".to_owned()], "page");
}

/// An alert as Prometheus sends it.
fn alert(name: &str, labels: &[(&str, &str)]) -> Value {
    let mut all: BTreeMap<&str, &str> = labels.iter().copied().collect();
    all.insert("alertname", name);
    json!({"labels": all})
}

/// A pair of which the one silences the other, sent behind all others: a fresh Alertmanager that silences it has taken in
/// what stands before it. Without it "nothing is silenced" would also be the answer of one that has not judged yet.
fn fence() -> [Value; 2] {
    ["TripodDiskFull", "TripodDiskLow"].map(|name| alert(name, &[("where", FENCE)]))
}

const FENCE: &str = "fence";

/// Which of the alerts sent to a fresh Alertmanager are silenced by another one.
fn silenced(alertmanager: &Alertmanager, alerts: &[Value]) -> Vec<String> {
    let sent = [alerts, &fence()].concat();
    post(&alertmanager.url("/api/v2/alerts"), &json!(sent)).unwrap();
    let silent = |one: &&Value| one["status"]["inhibitedBy"].as_array().is_some_and(|by| !by.is_empty());
    let is_fence = |one: &&Value| one["labels"]["where"] == FENCE;
    let listed = until(LONG, "every alert is judged", || {
        let listed = get_json(&alertmanager.url("/api/v2/alerts"))?;
        let listed = listed.as_array().cloned().unwrap_or_default();
        let judged = listed.iter().filter(|one| one["status"]["state"] != "unprocessed").count();
        let fenced = listed.iter().filter(silent).any(|one| is_fence(&one));
        (judged == sent.len() && fenced).then_some(listed).ok_or(format!("{judged} of {}, {fenced}", sent.len()))
    });
    let name = |one: &Value| {
        let label = |name: &str| one["labels"][name].as_str().unwrap_or_default().to_owned();
        let which = ["server", "job", "where", "group", "class"].map(label).concat();
        format!("{} {which}", label("alertname")).trim().to_owned()
    };
    let mut silenced: Vec<_> = listed.iter().filter(silent).filter(|one| !is_fence(one)).map(name).collect();
    silenced.sort();
    silenced
}

fn judged(alerts: &[Value]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let messages = Messages::listen();
    silenced(&Alertmanager::start(dir.path(), &messages), alerts)
}

#[test]
fn a_server_that_is_down_silences_what_follows_from_it_and_not_what_it_uses_up() {
    let followers = [
        alert("TripodSinkStuck", &[("sink", "main"), ("server", "questdb-main")]),
        // Of a sink that is not stuck, which would silence it, too.
        alert("TripodVisibleSlow", &[("sink", "beside"), ("server", "questdb-main")]),
        alert("TripodViewLagging", &[("sink", "main"), ("server", "questdb-main")]),
        alert("TripodExporterDown", &[("job", "questdb"), ("server", "questdb")]),
        alert("TripodJournalBudgetLow", &[("sink", "main"), ("class", "critical")]),
        alert("TripodQuarantine", &[("sink", "main")]),
        alert("TripodPricesStale", &[]),
        alert("TripodComponentSilent", &[("component", "arb")]),
        alert("TripodExporterDown", &[("job", "redis"), ("server", "redis-prices")]),
    ];
    let with = |server: &str| {
        let mut all = followers.to_vec();
        all.push(alert("TripodServerDown", &[("server", server)]));
        judged(&all)
    };
    assert!(judged(&followers).is_empty(), "nothing is down");
    assert_eq!(
        with("questdb"),
        [
            "TripodExporterDown questdbquestdb",
            "TripodSinkStuck questdb-main",
            "TripodViewLagging questdb-main",
            "TripodVisibleSlow questdb-main"
        ]
    );
    assert_eq!(with("redis-prices"), ["TripodExporterDown redis-pricesredis", "TripodPricesStale"]);
    assert_eq!(with("postgres"), ["TripodComponentSilent"]);
    assert!(with("redis-events").is_empty());
}

#[test]
fn of_several_questdb_the_one_that_is_down_silences_its_own_sink_alone() {
    let silenced = judged(&[
        alert("TripodServerDown", &[("server", "questdb-copy")]),
        alert("TripodSinkStuck", &[("sink", "copy"), ("server", "questdb-copy")]),
        alert("TripodSinkStuck", &[("sink", "main"), ("server", "questdb-main")]),
    ]);
    assert_eq!(silenced, ["TripodSinkStuck questdb-copy"]);
}

#[test]
fn an_announcement_is_silent_when_what_it_announced_is_there() {
    let silenced = judged(&[
        alert("TripodTradingStopped", &[("bot", "arb")]),
        alert("TripodJournalBudgetLow", &[("class", "critical")]),
        alert("TripodJournalBudgetLow", &[("class", "standard")]),
        alert("TripodDiskFull", &[("where", "journals")]),
        alert("TripodDiskLow", &[("where", "journals")]),
        alert("TripodDiskLow", &[("where", "backups")]),
        alert("TripodStreamTrimmedUnread", &[("topic", "t"), ("group", "a")]),
        alert("TripodGroupLagging", &[("topic", "t"), ("group", "a")]),
        alert("TripodGroupLagging", &[("topic", "t"), ("group", "b")]),
        alert("TripodBackupOld", &[]),
        alert("TripodBackupNotProven", &[]),
    ]);
    assert_eq!(
        silenced,
        ["TripodBackupNotProven", "TripodDiskLow journals", "TripodGroupLagging a", "TripodJournalBudgetLow critical"]
    );
}

#[test]
fn alerts_of_one_name_are_one_message() {
    let dir = tempfile::tempdir().unwrap();
    let messages = Messages::listen();
    let alertmanager = Alertmanager::start(dir.path(), &messages);
    let tables = ["quotes", "executions"]
        .map(|table| alert("TripodTableSuspended", &[("table", table), ("severity", "critical"), ("sink", "main")]));
    post(&alertmanager.url("/api/v2/alerts"), &json!(tables)).unwrap();
    let message = until(LONG, "the message", || {
        messages.find(|message| message["groupLabels"]["alertname"] == "TripodTableSuspended").ok_or("none".to_owned())
    });
    assert_eq!(message["receiver"], "page", "{message}");
    assert_eq!(message["alerts"].as_array().unwrap().len(), 2, "{message}");
    assert!(Path::new(dir.path()).join("alertmanager.log").exists());
}
