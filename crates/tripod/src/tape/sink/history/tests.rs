use std::collections::BTreeMap;

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn entry(second: i64, passed: u64) -> Entry {
    Entry {
        at_ns: second * 1_000_000_000,
        steady: None,
        started: "s".into(),
        server_at: "2026-01-01T00:00:00Z".into(),
        cursor: Cursor::default(),
        tables: BTreeMap::from([("t".into(), Mark { id: 4, txn: second, rows: Some(second), oldest: None })]),
        tally: BTreeMap::from([(1, Settled { passed, visible: passed, ..Settled::default() })]),
    }
}

fn counts(passed: u64) -> BTreeMap<u16, Settled> {
    BTreeMap::from([(1, Settled { passed, visible: passed, ..Settled::default() })])
}

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sinks")).unwrap();
    dir
}

#[test]
fn a_day_at_one_entry_a_second_stays_within_its_bounds_in_memory_and_on_disk() {
    let dir = dir();
    let mut history = History::open(dir.path(), "s", DAY, &counts(0)).unwrap();
    let mut most = 0;
    for second in 0..2_000 {
        history.add(entry(1_000_000 + second, 1));
        most = most.max(history.lines);
    }
    assert!(most <= 2 * history.entries().len() + LINES_SPARE + 1, "{most} lines");
    let ages: Vec<i64> = history.entries().iter().map(|e| 1_001_999 - e.at_ns / 1_000_000_000).collect();
    assert!(ages.is_sorted_by(|a, b| a > b), "oldest first, each once");
    assert_eq!(ages.iter().filter(|age| **age <= 600).count(), 601);
    // 1400 s before that, one a minute.
    assert!((22..=26).contains(&ages.iter().filter(|age| **age > 600).count()), "{ages:?}");
    let again = History::open(dir.path(), "s", DAY, &counts(1)).unwrap();
    assert_eq!(again.newest(), history.newest());

    let mut entries: Vec<Entry> = (0..100_000).map(|second| entry(second, 1)).collect();
    thin(&mut entries, Timestamp::from_nanos(99_999 * 1_000_000_000).unwrap(), DAY);
    assert!(entries.len() <= 601 + 1_440, "{}", entries.len());
    assert!(entries[0].at_ns / 1_000_000_000 >= 99_999 - 86_400, "older than it is kept");
    let mut one = vec![entry(5, 1)];
    thin(&mut one, Timestamp::from_nanos(i64::MAX / 2).unwrap(), DAY);
    assert_eq!(one.len(), 1, "the newest is always kept");
}

#[test]
fn the_same_again_and_more_than_one_a_second_add_nothing_but_another_run_does() {
    let dir = dir();
    let mut history = History::open(dir.path(), "s", DAY, &counts(0)).unwrap();
    history.add(entry(10, 1));
    let mut soon = entry(10, 2);
    soon.at_ns += 500_000_000;
    soon.tables.get_mut("t").unwrap().txn = 11;
    history.add(soon.clone());
    assert_eq!(history.entries().len(), 1);
    soon.started = "another".into();
    history.add(soon.clone());
    // The newest of each second is the one that stays.
    assert_eq!(history.newest(), Some(&soon));
    let len = history.entries().len();
    let mut same = soon;
    same.at_ns += 9_000_000_000;
    history.add(same);
    assert_eq!(history.entries().len(), len);
}

#[test]
fn a_damaged_or_torn_line_is_left_out_and_the_next_one_is_whole() {
    let dir = dir();
    let mut history = History::open(dir.path(), "s", DAY, &counts(0)).unwrap();
    for second in 10..14 {
        history.add(entry(second, 1));
    }
    let path = history.path.clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let damaged = bytes.iter().position(|b| *b == b'\n').unwrap() + 60;
    bytes[damaged] ^= 1;
    bytes.truncate(bytes.len() - 20);
    std::fs::write(&path, &bytes).unwrap();
    let mut again = History::open(dir.path(), "s", DAY, &counts(1)).unwrap();
    let seconds = |history: &History| history.entries().iter().map(|e| e.at_ns / 1_000_000_000).collect::<Vec<_>>();
    assert_eq!(seconds(&again), [10, 12]);
    again.add(entry(20, 1));
    assert_eq!(seconds(&History::open(dir.path(), "s", DAY, &counts(1)).unwrap()), [10, 12, 20]);
}

#[test]
fn entries_ahead_of_the_stored_counts_are_not_believed_and_a_cut_is_kept() {
    let dir = dir();
    let mut history = History::open(dir.path(), "s", DAY, &counts(0)).unwrap();
    for (second, passed) in [(10, 5), (11, 6), (12, 7)] {
        history.add(entry(second, passed));
    }
    assert_eq!(History::open(dir.path(), "s", DAY, &counts(6)).unwrap().entries().len(), 2);
    history.cut(1).unwrap();
    assert_eq!(History::open(dir.path(), "s", DAY, &counts(9)).unwrap().entries(), [entry(10, 5)]);
}
