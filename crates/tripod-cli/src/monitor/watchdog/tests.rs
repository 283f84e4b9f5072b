use std::collections::BTreeSet;

use super::super::samples;
use super::*;

const TERMS: Terms = Terms { replicated: true, keep_hours: 24 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000).unwrap()
}

fn ids(alerts: &[Alert]) -> BTreeSet<&str> {
    alerts.iter().map(|alert| alert.id).collect()
}

/// Every count that only grows, by one.
fn grow(snapshot: &mut Snapshot) {
    let row = &mut snapshot.ledger[0].row;
    (row.dropped, row.quarantined, row.missed) = (row.dropped + 1, row.quarantined + 1, row.missed + 1);
    let stream = &mut snapshot.streams[0];
    stream.dead += 1;
    stream.groups[0].trimmed_pending += 1;
    stream.groups[0].trimmed_unread = stream.groups[0].trimmed_unread.map(|count| count + 1);
}

#[test]
fn where_all_is_well_nothing_is_said() {
    let alerts = Watchdog::default().judge(&samples::quiet(), Terms { replicated: false, keep_hours: 24 }, at(100));
    assert!(alerts.is_empty(), "{alerts:?}");
}

#[test]
fn every_rule_is_raised_by_what_it_is_about() {
    let now: Timestamp = samples::full().at.parse().unwrap();
    let mut watchdog = Watchdog::default();
    let mut full = samples::full();
    watchdog.judge(&full, TERMS, now);
    grow(&mut full);
    let mut raised: BTreeSet<String> = watchdog.judge(&full, TERMS, now).iter().map(|alert| alert.id.into()).collect();
    // What excludes one another.
    full.prices.fresh = Some(0);
    full.prices.list.retain(|price| !price.fresh);
    full.disks[0].free_bytes = 1 << 20;
    raised.extend(watchdog.judge(&full, TERMS, now).iter().map(|alert| alert.id.to_owned()));
    for rule in Rule::ALL {
        assert!(raised.contains(rule.id()), "{} cannot be raised", rule.id());
    }
}

#[test]
fn an_old_loss_is_not_shouted_about_for_ever() {
    let mut watchdog = Watchdog::default();
    let mut snapshot = samples::quiet();
    let terms = Terms { replicated: false, keep_hours: 24 };
    assert!(watchdog.judge(&snapshot, terms, at(0)).is_empty(), "what was lost before it began is history");
    grow(&mut snapshot);
    let grown = watchdog.judge(&snapshot, terms, at(10));
    let all = ["dead-letters", "rows-dropped", "rows-missed", "rows-quarantined", "trimmed-pending", "trimmed-unread"];
    assert_eq!(ids(&grown), BTreeSet::from(all));
    assert_eq!(ids(&watchdog.judge(&snapshot, terms, at(900))).len(), 6);
    assert!(watchdog.judge(&snapshot, terms, at(910)).is_empty(), "a quarter of an hour later");
    grow(&mut snapshot);
    let again = watchdog.judge(&snapshot, terms, at(1_000));
    assert!(again.iter().all(|alert| alert.since == stamp(at(1_000))), "{again:?}");
}

#[test]
fn an_alert_keeps_its_since_while_it_is_there_and_the_grave_ones_stand_first() {
    let mut watchdog = Watchdog::default();
    let full = samples::full();
    let first = watchdog.judge(&full, TERMS, at(100));
    let later = watchdog.judge(&full, TERMS, at(200));
    let since = |alerts: &[Alert]| alerts.iter().map(|alert| alert.since.clone()).collect::<Vec<_>>();
    assert_eq!(since(&first), since(&later));
    let severities: Vec<_> = first.iter().map(|alert| alert.severity).collect();
    assert!(severities.is_sorted(), "{severities:?}");
    assert!(watchdog.judge(&samples::quiet(), Terms { replicated: false, ..TERMS }, at(300)).is_empty());
    let back = watchdog.judge(&full, TERMS, at(400));
    assert!(back.iter().all(|alert| alert.since == stamp(at(400))), "it was gone in between");
}

#[test]
fn what_is_logged_is_what_has_begun_and_what_is_over() {
    let (mut watchdog, full) = (Watchdog::default(), samples::full());
    let first = watchdog.judge(&full, TERMS, at(100));
    assert_eq!(only_in(&first, &[]).count(), first.len());
    let mut less = full;
    less.health.retain(|one| one.status != "failed");
    less.servers[1].clock_skew_ms = Some(6_000.0);
    let second = watchdog.judge(&less, TERMS, at(101));
    assert_eq!(only_in(&second, &first).count(), 0, "other words of the same are nothing new");
    let over: Vec<_> = only_in(&first, &second).map(|alert| alert.id).collect();
    assert_eq!(over, ["component-failed"]);
}

#[test]
fn what_a_server_that_is_away_does_not_say_is_no_alert() {
    let mut snapshot = samples::quiet();
    for server in &mut snapshot.servers {
        server.state = State::Down;
        (server.asked, server.memory) = (super::super::snapshot::Asked::default(), None);
    }
    (snapshot.prices, snapshot.streams, snapshot.health) = Default::default();
    snapshot.tape.clear();
    let alerts = Watchdog::default().judge(&snapshot, TERMS, at(100));
    assert_eq!(ids(&alerts), BTreeSet::from(["server-down"]), "{alerts:?}");
}

#[test]
fn a_hundred_alerts_of_one_kind_do_not_make_the_answer_endless() {
    let mut snapshot = samples::quiet();
    let one = samples::full().health.into_iter().find(|one| one.status == "stale").unwrap();
    for number in 0..1_000 {
        let component = format!("c{number}");
        snapshot.health.push(Component { component, ..one.clone() });
    }
    let alerts = Watchdog::default().judge(&snapshot, TERMS, at(100));
    assert_eq!(alerts.len(), ALERTS_MAX);
}

/// The page of what to do is written beside the rules of Prometheus; where it is there, it has a place for each of these.
#[test]
fn each_alert_leads_to_a_place_that_is_there() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/alerts.md");
    let Ok(page) = std::fs::read_to_string(page) else { return };
    let places: BTreeSet<String> =
        page.lines().filter_map(|line| Some(line.strip_prefix("## ")?.trim().to_lowercase())).collect();
    for rule in Rule::ALL {
        assert!(places.contains(rule.place()), "docs/alerts.md has no ## {}", rule.place());
    }
}
