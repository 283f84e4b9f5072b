//! Budget, deletion, locks, deadlines: what happens at each limit.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use tripod_journal::{AppendError, Error, Journal, Options, SchemaId, Sink, Sync};

use crate::support::{DEADLINE, SEGMENT_BYTES, append, read_all, small};

fn segment_files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("segments")).unwrap().count()
}

/// Appends until refused; returns how many were taken.
fn fill_up(journal: &Journal, schema: SchemaId) -> u64 {
    for n in 0..1_000_000u64 {
        match append(journal, schema, &[7; 200]) {
            Ok(()) => {}
            Err(AppendError::Full { undelivered_bytes, budget_bytes }) => {
                assert!(undelivered_bytes <= budget_bytes);
                return n;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the budget never ended");
}

fn pass_everything(sink: &mut Sink) -> usize {
    let read = read_all(sink).len();
    let mark = sink.mark();
    sink.commit(&mark, b"").unwrap();
    read
}

#[test]
fn a_full_journal_refuses_and_goes_on_by_itself_once_the_required_sink_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let budget_bytes = 8 * SEGMENT_BYTES;
    let options = Options { budget_bytes, required_sinks: vec!["primary".into()], ..small(dir.path()) };
    let (journal, _) = Journal::open(options).unwrap();
    let schema = journal.register("rows", "").unwrap();
    let mut taken = fill_up(&journal, schema);
    assert!(journal.usage().full);
    assert!(matches!(append(&journal, schema, b"still full"), Err(AppendError::Full { .. })));

    let mut sink = Sink::open(dir.path(), "primary").unwrap();
    for _ in 0..5 {
        assert_eq!(u64::try_from(pass_everything(&mut sink)).unwrap(), taken, "what was accepted is what is there");
        journal.tend(DEADLINE).unwrap();
        assert!(!journal.usage().full);
        assert_eq!(journal.usage().undelivered_bytes, 0);
        taken = fill_up(&journal, schema);
        assert!(taken > 100);
        journal.tend(DEADLINE).unwrap();
        let on_disk = u64::try_from(segment_files(dir.path())).unwrap() * SEGMENT_BYTES;
        assert!(on_disk <= budget_bytes, "{on_disk} bytes on disk");
    }
}

#[test]
fn passed_segments_go_when_old_enough_and_not_before() {
    for (keep, all_gone) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { keep, required_sinks: vec!["a".into(), "b".into()], ..small(dir.path()) };
        let (journal, _) = Journal::open(options).unwrap();
        let schema = journal.register("rows", "").unwrap();
        (0..1_000).for_each(|_| append(&journal, schema, &[1; 200]).unwrap());
        journal.tend(DEADLINE).unwrap();
        let full_size = segment_files(dir.path());
        assert!(full_size > 8);

        let mut a = Sink::open(dir.path(), "a").unwrap();
        assert_eq!(pass_everything(&mut a), 1_000);
        journal.tend(DEADLINE).unwrap();
        assert_eq!(segment_files(dir.path()), full_size, "sink b never opened its cursor and holds everything");

        let mut b = Sink::open(dir.path(), "b").unwrap();
        journal.tend(DEADLINE).unwrap();
        assert_eq!(segment_files(dir.path()), full_size, "sink b has passed nothing");
        assert_eq!(pass_everything(&mut b), 1_000);
        journal.tend(DEADLINE).unwrap();
        // The open segment and two spares are left.
        assert_eq!(segment_files(dir.path()), if all_gone { 3 } else { full_size });
        assert_eq!(journal.usage().undelivered_bytes, SEGMENT_BYTES);
        assert_eq!(a.missed_segments() + b.missed_segments(), 0);
    }
}

#[test]
fn a_sink_that_rewinds_holds_again_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { required_sinks: vec!["a".into()], ..small(dir.path()) };
    let (journal, _) = Journal::open(options).unwrap();
    let schema = journal.register("rows", "").unwrap();
    let mut sink = Sink::open(dir.path(), "a").unwrap();
    let start = sink.mark();
    (0..1_000).for_each(|_| append(&journal, schema, &[1; 200]).unwrap());
    pass_everything(&mut sink);
    journal.tend(DEADLINE).unwrap();
    assert_eq!(journal.usage().undelivered_bytes, SEGMENT_BYTES);
    sink.commit(&start, b"").unwrap();
    journal.tend(DEADLINE).unwrap();
    assert!(journal.usage().undelivered_bytes > 6 * SEGMENT_BYTES);
    sink.seek(&start);
    assert_eq!(pass_everything(&mut sink), 1_000);
}

#[test]
fn a_sink_that_is_not_required_learns_that_it_missed_segments() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { keep: Duration::ZERO, required_sinks: vec!["a".into()], ..small(dir.path()) };
    let (journal, _) = Journal::open(options).unwrap();
    let schema = journal.register("rows", "").unwrap();
    let mut a = Sink::open(dir.path(), "a").unwrap();
    let mut slow = Sink::open(dir.path(), "slow").unwrap();
    (0..1_000).for_each(|_| append(&journal, schema, &[1; 200]).unwrap());
    pass_everything(&mut a);
    journal.tend(DEADLINE).unwrap();
    let rest = read_all(&mut slow).len();
    assert!(rest < 1_000);
    assert!(slow.missed_segments() > 6, "{}", slow.missed_segments());
    // A sink that is new now has missed nothing: it starts here.
    let mut new = Sink::open(dir.path(), "new").unwrap();
    assert_eq!((read_all(&mut new).len(), new.missed_segments()), (rest, 0));
}

#[test]
fn a_spare_of_another_size_is_replaced_and_nobody_missed_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = |segment_bytes| Options { segment_bytes, required_sinks: vec!["a".into()], ..small(dir.path()) };
    let mut sink = None;
    for (round, segment_bytes) in [SEGMENT_BYTES, 2 * SEGMENT_BYTES, SEGMENT_BYTES].into_iter().enumerate() {
        let (journal, _) = Journal::open(options(segment_bytes)).unwrap();
        let schema = journal.register("rows", "").unwrap();
        // More segments than there were spares.
        (0..1_000).for_each(|_| append(&journal, schema, &[1; 200]).unwrap());
        let sizes: Vec<u64> = std::fs::read_dir(dir.path().join("segments"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert!(round == 0 || sizes.iter().any(|size| *size != segment_bytes), "{sizes:?}");
        // Opened before the spares are replaced, as in another process.
        let sink = sink.get_or_insert_with(|| Sink::open(dir.path(), "a").unwrap());
        assert_eq!(sink.gone_segments().unwrap(), 0);
        assert_eq!(pass_everything(sink), 1_000);
        assert_eq!((sink.missed_segments(), sink.gone_segments().unwrap(), sink.damage()), (0, 0, &[][..]));
    }
}

#[test]
fn ids_are_not_used_again_when_every_segment_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { keep: Duration::ZERO, required_sinks: vec!["a".into()], ..small(dir.path()) };
    let (journal, _) = Journal::open(options.clone()).unwrap();
    let schema = journal.register("rows", "").unwrap();
    let mut sink = Sink::open(dir.path(), "a").unwrap();
    (0..500).for_each(|_| append(&journal, schema, &[1; 200]).unwrap());
    pass_everything(&mut sink);
    journal.close(DEADLINE).unwrap();
    pass_everything(&mut sink);
    for entry in std::fs::read_dir(dir.path().join("segments")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let (journal, _) = Journal::open(options).unwrap();
    append(&journal, schema, b"new").unwrap();
    assert_eq!(read_all(&mut sink), [(schema, b"new".to_vec())]);
}

#[test]
fn the_second_writer_and_the_second_reader_of_a_sink_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let pid = std::process::id();
    let refused = Journal::open(small(dir.path())).unwrap_err();
    assert!(
        matches!(&refused, Error::Locked { path, pid: Some(holder) }
        if path.ends_with("writer.lock") && *holder == pid),
        "{refused}"
    );
    let sink = Sink::open(dir.path(), "primary").unwrap();
    let refused = Sink::open(dir.path(), "primary").unwrap_err();
    assert!(
        matches!(&refused, Error::Locked { path, pid: Some(holder) }
        if path.ends_with("primary.lock") && *holder == pid),
        "{refused}"
    );
    Sink::open(dir.path(), "another").unwrap();
    drop(sink);
    Sink::open(dir.path(), "primary").unwrap();
    let clone = journal.clone();
    journal.close(DEADLINE).unwrap();
    let (reopened, _) = Journal::open(small(dir.path())).unwrap();
    let schema = reopened.register("rows", "").unwrap();
    assert!(matches!(append(&clone, schema, b"x"), Err(AppendError::Schema { .. } | AppendError::Closed)));
}

#[test]
fn what_can_never_work_is_refused_with_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Sink::open(dir.path(), "a"), Err(Error::Missing { .. })));
    let tiny = Options { budget_bytes: SEGMENT_BYTES, ..small(dir.path()) };
    assert!(matches!(Journal::open(tiny), Err(Error::Option { name: "budget_bytes", .. })));
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let schema = journal.register("rows", "").unwrap();
    assert!(matches!(Sink::open(dir.path(), "../a"), Err(Error::Option { .. })));
    assert!(matches!(append(&journal, SchemaId(9), b""), Err(AppendError::Schema { schema: SchemaId(9) })));
    let Err(AppendError::TooLarge { max, .. }) = append(&journal, schema, &[0; 64 * 1024]) else { panic!() };
    append(&journal, schema, &vec![1; max]).unwrap();
    assert!(matches!(append(&journal, schema, &vec![1; max + 8]), Err(AppendError::TooLarge { .. })));
    append(&journal, schema, b"").unwrap();
    let read = read_all(&mut Sink::open(dir.path(), "a").unwrap());
    assert_eq!(read.iter().map(|(_, payload)| payload.len()).collect::<Vec<_>>(), [max, 0]);
}

#[test]
fn schemas_keep_their_ids_and_stand_in_later_segments_too() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let trades = journal.register("trades", "v1").unwrap();
    let quotes = journal.register("quotes", &"q".repeat(5_000)).unwrap();
    let newer = journal.register("trades", "v2").unwrap();
    assert_eq!(journal.register("trades", "v1").unwrap(), trades);
    for _ in 0..400 {
        [trades, quotes, newer].into_iter().for_each(|schema| append(&journal, schema, &[3; 100]).unwrap());
    }
    drop(journal);
    // Without the catalog file, the segments' headers give it back.
    std::fs::remove_file(dir.path().join("catalog")).unwrap();
    let (journal, recovery) = Journal::open(small(dir.path())).unwrap();
    assert!(recovery.catalog_rebuilt);
    assert_eq!(journal.register("quotes", &"q".repeat(5_000)).unwrap(), quotes);
    assert_eq!(journal.register("trades", "v2").unwrap(), newer);
    let catalog = tripod_journal::Catalog::read(dir.path()).unwrap();
    assert_eq!(catalog.entries().len(), 3);
    assert_eq!(catalog.get(newer).unwrap().text, "v2");
}

#[test]
fn synced_appends_return_and_a_busy_close_keeps_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(Options { sync: Sync::Each, ..small(dir.path()) }).unwrap();
    let schema = journal.register("rows", "").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..10 {
                    journal.append_synced(schema, 3, |_| Ok::<(), ()>(())).unwrap();
                }
            });
        }
    });
    journal.sync(DEADLINE).unwrap();
    let other = journal.clone();
    journal
        .append(schema, 1, |_| {
            let stuck = other.close(Duration::from_millis(20)).unwrap_err();
            assert!(matches!(stuck, Error::Deadline { .. }), "{stuck}");
            // The lock is still ours: nobody else may write beside a recorder that is not out yet.
            assert!(matches!(Journal::open(small(dir.path())), Err(Error::Locked { .. })));
            Ok::<(), ()>(())
        })
        .unwrap();
    drop(journal);
    let (_journal, recovery) = Journal::open(small(dir.path())).unwrap();
    assert_eq!((recovery.sealed, recovery.differences), (vec![], vec![]));
    let mut sink = Sink::open(dir.path(), "a").unwrap();
    let read = sink.read(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(read, 31);
}
