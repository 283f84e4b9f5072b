use std::collections::BTreeMap;
use std::time::Duration;

use tripod_journal::Cursor;

use super::super::history::Steady;
use super::*;

const REWIND: Duration = Duration::from_secs(120);

fn mark(id: i64, txn: i64, rows: i64) -> Mark {
    Mark { id, txn, rows: Some(rows), oldest: Some("2026-01-01".into()) }
}

fn entry(second: i64, tables: &[(&str, Mark)]) -> Entry {
    Entry {
        at_ns: second * 1_000_000_000,
        steady: None,
        started: "first".into(),
        server_at: String::new(),
        cursor: Cursor::default(),
        tables: tables.iter().map(|(name, mark)| ((*name).to_owned(), mark.clone())).collect(),
        tally: BTreeMap::new(),
    }
}

/// One entry a second, 1000 of them; `a` gets a transaction and ten rows each second.
fn history() -> Vec<Entry> {
    (0..1000).map(|n| entry(10_000 + n, &[("a", mark(4, n, n * 10))])).collect()
}

fn found(mark: Mark) -> Found {
    Found { writer: mark.txn, mark, suspended: false, kept_txn: None }
}

fn seen(started: &str, tables: &[(&str, Found)]) -> Seen {
    let tables = tables.iter().map(|(name, found)| ((*name).to_owned(), found.clone())).collect();
    Seen { started: started.into(), server_at: String::new(), tables }
}

fn judged(history: &[Entry], seen: &Seen, patient: bool) -> Verdict {
    let last_look = moment(10_999);
    judge(Known { history, last_look, awaited: &BTreeMap::new(), rewind: REWIND }, seen, patient)
}

fn moment(second: i64) -> Moment {
    Moment { at: Timestamp::from_nanos(second * 1_000_000_000).unwrap(), steady: None }
}

fn back(history: &[Entry], seen: &Seen) -> usize {
    match judged(history, seen, true) {
        Verdict::Forgot(back) => back.entries,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_new_is_nothing_forgotten() {
    let history = history();
    for txn in [999, 1_000, 5_000] {
        assert_eq!(judged(&history, &seen("first", &[("a", found(mark(4, txn, 9_990)))]), true), Verdict::Whole);
    }
    assert_eq!(judged(&[], &seen("other", &[("a", found(mark(4, 3, 9)))]), true), Verdict::Whole);
}

#[test]
fn a_restart_goes_back_by_rewind_s_from_the_last_look_however_long_it_took() {
    let history = history();
    assert_eq!(back(&history, &seen("second", &[("a", found(mark(4, 999, 9_990)))])), 880, "entry at second 10879");
    assert_eq!(back(&history[900..], &seen("second", &[("a", found(mark(4, 999, 9_990)))])), 0, "history too short");
}

#[test]
fn a_server_that_is_behind_the_history_is_told_from_the_newest_entry_that_it_covers() {
    let history = history();
    assert_eq!(back(&history, &seen("second", &[("a", found(mark(4, 500, 5_000)))])), 501);
    // Without a restart that was noticed.
    assert_eq!(back(&history, &seen("first", &[("a", found(mark(4, 500, 5_000)))])), 501);
}

#[test]
fn transactions_that_others_added_since_the_start_do_not_hide_what_was_forgotten() {
    let history = history();
    let busy = Found { kept_txn: Some(300), ..found(mark(4, 2_000, 30_000)) };
    assert_eq!(back(&history, &seen("second", &[("a", busy)])), 301);
}

#[test]
fn fewer_rows_than_there_were_go_back_to_an_entry_with_no_more_unless_a_day_has_ended() {
    let history = history();
    let mut table = found(mark(4, 999, 2_005));
    assert_eq!(back(&history, &seen("second", &[("a", table.clone())])), 201);
    table.mark.oldest = Some("2026-01-02".into());
    assert_eq!(back(&history, &seen("second", &[("a", table)])), 880);
}

#[test]
fn a_table_made_anew_goes_back_to_before_it_was_there_or_to_the_beginning() {
    let mut history = history();
    let anew = seen("first", &[("a", found(mark(9, 0, 0)))]);
    assert_eq!(back(&history, &anew), 0);
    for entry in &mut history[..100] {
        entry.tables.clear();
    }
    assert_eq!(back(&history, &anew), 100);
}

#[test]
fn a_table_that_is_missing_is_remembered_and_anew_when_it_is_back() {
    let mut history = history();
    let without = seen("first", &[("b", found(mark(5, 0, 0)))]);
    assert_eq!(judged(&history, &without, true), Verdict::Whole);
    let mut later = entry(11_000, &[]);
    later.tables = marks(history.last(), &without);
    assert_eq!((later.tables["a"].id, later.tables["b"].id), (GONE, 5));
    history.push(later);
    let (a, b) = (found(mark(4, 0, 0)), found(mark(5, 0, 0)));
    // Even with the number that it had: the directory was replaced.
    assert_eq!(back(&history, &seen("first", &[("a", a), ("b", b)])), 1);
}

#[test]
fn one_table_that_is_behind_takes_the_others_back_with_it() {
    let history: Vec<Entry> =
        (0..1000).map(|n| entry(10_000 + n, &[("a", mark(4, n, n)), ("b", mark(5, n, n))])).collect();
    let tables = [("a", found(mark(4, 999, 999))), ("b", found(mark(5, 70, 70)))];
    assert_eq!(back(&history, &seen("second", &tables)), 71);
}

#[test]
fn a_server_that_is_still_applying_is_waited_for_and_not_for_ever() {
    let history = history();
    let applying = Found { writer: 400, ..found(mark(4, 999, 4_000)) };
    let look = seen("second", &[("a", applying.clone())]);
    assert_eq!(judged(&history, &look, true), Verdict::Later);
    assert!(matches!(judged(&history, &look, false), Verdict::Forgot(Back { entries: 880, .. })));
    let suspended = seen("second", &[("a", Found { suspended: true, ..applying })]);
    assert_eq!(back(&history, &suspended), 880, "nobody knows when it goes on");
}

#[test]
fn rows_never_wait_for_a_transaction_that_the_server_does_not_have() {
    let awaited = BTreeMap::from([("a".to_owned(), 12)]);
    let known = Known { history: &[], last_look: Moment::now(), awaited: &awaited, rewind: REWIND };
    assert_eq!(judge(known, &seen("x", &[("a", found(mark(4, 12, 1)))]), true), Verdict::Whole);
    let Verdict::Forgot(back) = judge(known, &seen("x", &[("a", found(mark(4, 11, 1)))]), true) else { panic!() };
    assert!(back.entries == 0 && back.why.contains("transaction 12 of table a"), "{back:?}");
}

#[test]
fn by_hand_it_goes_to_the_entry_at_that_time_or_the_beginning() {
    let history = history();
    let at = |second: i64| Timestamp::from_nanos(second * 1_000_000_000 + 5).unwrap();
    assert_eq!((since(&history, at(9_000)), since(&history, at(10_000)), since(&history, at(20_000))), (0, 1, 1000));
}

/// One entry a second; the clock that people set is an hour behind up to the last one, and then right.
#[test]
fn a_clock_that_was_put_on_makes_nothing_old() {
    let steady = |n: i64| Some(Steady { boot: 7, ms: u64::try_from(n).unwrap() * 1000 });
    let mut history: Vec<Entry> =
        (0..1000).map(|n| Entry { steady: steady(n), ..entry(10_000 + n, &[("a", mark(4, n, n * 10))]) }).collect();
    let restarted = seen("second", &[("a", found(mark(4, 999, 9_990)))]);
    let judged = |history: &[Entry], last_look: Moment| {
        let known = Known { history, last_look, awaited: &BTreeMap::new(), rewind: REWIND };
        match judge(known, &restarted, true) {
            Verdict::Forgot(back) => back.entries,
            other => panic!("{other:?}"),
        }
    };
    let put_on = Moment { steady: steady(999), ..moment(10_999 + 3600) };
    assert_eq!(judged(&history, put_on), 880, "by the clock that goes on");
    // Of another start of the machine only the one that people set is known.
    assert_eq!(judged(&history, Moment { steady: Some(Steady { boot: 8, ms: 0 }), ..put_on }), 1000);
    // One that went back makes entries from the future: they are not old either.
    let put_back = Moment { steady: steady(2_000), ..moment(10_500) };
    assert_eq!(judged(&history, put_back), 381);
    history[999].at_ns -= 900 * 1_000_000_000;
    assert_eq!(since(&history, moment(10_400).at), 401, "a later entry with an earlier time is not believed");
}

#[test]
fn a_moment_has_both_clocks_and_they_go_on() {
    let first = Moment::now();
    assert!(first.steady.is_some(), "the kernel tells neither its boot nor the time since");
    assert!(first.is_before(Moment::now(), Duration::ZERO) && !first.is_before(Moment::now(), Duration::from_secs(60)));
}
