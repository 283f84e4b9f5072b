//! Every alert has a severity, a sentence, a page and a test; every page has its alert, and its commands are ones.

use std::collections::BTreeSet;

use crate::files::{Check, Tests, metrics, rules, sections, text, yaml};
use crate::run::run;

#[test]
fn every_alert_has_a_severity_a_sentence_and_a_page_and_every_page_its_alert() {
    let (rules, sections) = (rules(), sections());
    assert!(rules.len() > 30, "{}", rules.len());
    for rule in &rules {
        let name = &rule.alert;
        assert!(name.starts_with("Tripod"), "{name}");
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(matches!(severity, Some("critical" | "warning")), "{name}: {severity:?}");
        let summary = rule.annotations.get("summary").unwrap_or_else(|| panic!("{name} has no summary"));
        assert!(summary.len() > 20 && !summary.ends_with('.'), "{name}: {summary}");
        // As a heading becomes an anchor.
        let page = format!("docs/alerts.md#{}", name.to_lowercase());
        assert_eq!(rule.annotations.get("runbook_url"), Some(&page), "{name}");
        let section = sections.get(name).unwrap_or_else(|| panic!("docs/alerts.md has no section {name}"));
        let mut rest = section.as_str();
        for part in ["**Means:** ", "**First look:** ", "**Remedy:** ", "**Lost meanwhile:** "] {
            let (_, behind) = rest.split_once(part).unwrap_or_else(|| panic!("{name} has no {part}in its place"));
            rest = behind;
            assert!(rest.lines().next().is_some_and(|line| line.len() > 7), "{name}: {part}");
        }
    }
    let names: BTreeSet<_> = rules.iter().map(|rule| rule.alert.as_str()).collect();
    assert_eq!(names.len(), rules.len(), "an alert is there twice");
    let pages: BTreeSet<_> = sections.keys().map(String::as_str).filter(|name| *name != "Set it up").collect();
    assert_eq!(names, pages);
}

#[test]
fn links_inside_the_page_lead_somewhere() {
    let anchors: BTreeSet<_> = sections().keys().map(|head| head.to_lowercase().replace(' ', "-")).collect();
    let text = text("docs/alerts.md");
    let links: Vec<_> = text.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(!links.is_empty());
    for link in links {
        assert!(anchors.contains(link), "#{link}");
    }
}

#[test]
fn every_alert_begins_and_ends_in_a_test_and_the_healthy_stack_knows_its_metrics() {
    let tests: Tests = yaml("ops/prometheus/alerts_test.yml");
    for rule in rules() {
        // In one and the same test: silent, then firing from its cause, then silent again.
        let begins_and_ends = tests.tests.iter().any(|test| {
            let times = |fires: bool| {
                let of = |check: &&Check| check.alertname == rule.alert && check.fires() == fires;
                test.alert_rule_test.iter().filter(of).map(Check::at).collect::<Vec<_>>()
            };
            let (fires, silent) = (times(true), times(false));
            let (Some(first), Some(last)) = (fires.iter().min(), fires.iter().max()) else { return false };
            silent.iter().any(|at| at < first) && silent.iter().any(|at| at > last)
        });
        assert!(begins_and_ends, "in no test {} begins and ends", rule.alert);
    }
    // Silence proves nothing where the metric is missing.
    let healthy = tests.tests.iter().find(|test| test.name == "a healthy stack").unwrap();
    let there: BTreeSet<_> = healthy.input_series.iter().map(|one| one.series.split('{').next().unwrap()).collect();
    for metric in metrics() {
        assert!(there.contains(metric.as_str()), "the healthy stack has no {metric}");
    }
}

#[test]
fn every_metric_of_tripods_own_in_a_rule_is_one() {
    let all = tripod::metrics::ALL.iter().chain(tripod::metrics::servers::ALL);
    let own: BTreeSet<_> = all.map(|metric| metric.name).collect();
    for metric in metrics() {
        let served = match metric.split('_').next().unwrap() {
            "tripod" => own.contains(metric.as_str()),
            // Looked for on live exporters, in live.rs.
            "up" | "questdb" | "redis" | "pg" => true,
            _ => false,
        };
        assert!(served, "nobody serves {metric}");
    }
}

#[test]
fn every_command_on_the_page_is_one() {
    let text = text("docs/alerts.md");
    let mut commands = BTreeSet::new();
    for code in text.split('`').skip(1).step_by(2).chain(text.lines()) {
        let Some(words) = code.strip_prefix("tripod ") else { continue };
        let plain = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with("--");
        // Its subcommands; what they are given is not looked at.
        commands.insert(words.split_whitespace().take_while(plain).map(str::to_owned).collect::<Vec<_>>());
    }
    assert!(commands.len() > 15, "{commands:?}");
    let dir = tempfile::tempdir().unwrap();
    for mut command in commands {
        // A place or a name that is written in small letters is an argument.
        if command.starts_with(&["config".to_owned(), "prometheus".to_owned()]) {
            command.truncate(2);
        }
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let said = run(dir.path(), &words);
        assert_eq!(said.code, Some(0), "`tripod {}`: {}", command.join(" "), said.err);
    }
    // And their options.
    for (command, option) in [
        (&["journal", "redeliver"][..], "--since"),
        (&["journal", "quarantine", "drop"], "--yes"),
        (&["deliver"], "--until-empty"),
        (&["up"], "--ha"),
        (&["config", "prometheus"], "--bot"),
    ] {
        assert!(text.contains(option), "{option} is on the page no more");
        let said = run(dir.path(), &[command, &["--help"]].concat());
        assert!(said.out.contains(option), "{command:?} has no {option}");
    }
}
