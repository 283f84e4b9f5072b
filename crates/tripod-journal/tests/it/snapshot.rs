//! recorded = pending + passed + dropped, in every snapshot taken while everything moves.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tripod_journal::{AppendError, Journal, Options, SchemaId, Sink, Snapshot};

use crate::support::{DEADLINE, SEGMENT_BYTES, append, copy_dir, small};

const SCHEMAS: usize = 3;
type Passed = [u64; SCHEMAS];

fn encode(passed: &Passed) -> Vec<u8> {
    passed.iter().flat_map(|count| count.to_le_bytes()).collect()
}

fn count_of(list: &[(SchemaId, u64)], schema: usize) -> u64 {
    list.iter().find(|(id, _)| usize::from(id.0) == schema).map_or(0, |(_, count)| *count)
}

fn assert_adds_up(snapshot: &Snapshot) {
    assert_eq!(snapshot.damaged_segments, []);
    for schema in 0..SCHEMAS {
        let passed = snapshot.state.as_chunks::<8>().0.get(schema).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        assert_eq!(
            count_of(&snapshot.recorded, schema),
            count_of(&snapshot.pending, schema) + passed + count_of(&snapshot.dropped, schema),
            "schema {schema} of {snapshot:?}"
        );
    }
}

/// Reads at most `most` records and commits.
fn pass_some(sink: &mut Sink, passed: &mut Passed, most: usize) -> usize {
    let mut left = most;
    let visited = sink
        .read(|record| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            passed[usize::from(record.schema.0)] += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    let mark = sink.mark();
    sink.commit(&mark, &encode(passed)).unwrap();
    visited
}

#[test]
fn every_snapshot_adds_up_while_threads_record_a_sink_commits_and_the_keeper_deletes() {
    const THREADS: u64 = 3;
    const EACH_AT_LEAST: u64 = 10_000;
    const SNAPSHOTS_WHILE_RECORDING: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        budget_bytes: 24 * SEGMENT_BYTES,
        keep: Duration::ZERO,
        required_sinks: vec!["primary".into()],
        ..small(dir.path())
    };
    let (journal, _) = Journal::open(options).unwrap();
    let schemas: Vec<SchemaId> = (0..SCHEMAS).map(|n| journal.register(&format!("t{n}"), "").unwrap()).collect();
    assert_adds_up(&Snapshot::read(dir.path(), "primary").unwrap());
    let (recording, passing) = (AtomicU64::new(THREADS), AtomicBool::new(true));
    let (snapshots, recorded) = (AtomicU64::new(0), AtomicU64::new(0));
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, schemas, recording) = (journal.clone(), &schemas, &recording);
            let (snapshots, recorded) = (&snapshots, &recorded);
            scope.spawn(move || {
                for n in 0u64.. {
                    let enough = snapshots.load(Ordering::SeqCst) >= SNAPSHOTS_WHILE_RECORDING;
                    if (enough && n >= EACH_AT_LEAST) || started.elapsed() > DEADLINE {
                        break;
                    }
                    recorded.fetch_add(1, Ordering::SeqCst);
                    let schema = schemas[usize::try_from((n * 7 + thread) % 3).unwrap()];
                    let payload = vec![5; usize::try_from(n % 120).unwrap()];
                    match append(&journal, schema, &payload) {
                        Ok(()) => {}
                        Err(AppendError::Full { .. } | AppendError::Busy { .. }) => journal.count_dropped(schema),
                        Err(error) => panic!("{error}"),
                    }
                }
                recording.fetch_sub(1, Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            let mut sink = Sink::open(dir.path(), "primary").unwrap();
            let mut passed = Passed::default();
            let mut most = 1;
            loop {
                let recorders = recording.load(Ordering::SeqCst);
                let read = pass_some(&mut sink, &mut passed, most);
                most = most * 3 % 1_009;
                if recorders == 0 && read == 0 && most > 0 {
                    break;
                }
            }
            assert_eq!(sink.missed_segments(), 0);
            passing.store(false, Ordering::SeqCst);
        });
        while passing.load(Ordering::SeqCst) {
            assert_adds_up(&Snapshot::read(dir.path(), "primary").unwrap());
            snapshots.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(snapshots.into_inner() >= SNAPSHOTS_WHILE_RECORDING);
    let last = Snapshot::read(dir.path(), "primary").unwrap();
    assert_adds_up(&last);
    let counted: u64 = last.recorded.iter().map(|(_, count)| count).sum();
    assert_eq!((counted, last.pending), (recorded.into_inner(), vec![]));
    assert_eq!(journal.recorded().recorded, last.recorded);
    // A sink that does not exist has everything on disk pending, and a closed journal still tells.
    drop(journal);
    assert_adds_up(&Snapshot::read(dir.path(), "primary").unwrap());
}

#[test]
fn a_killed_journal_adds_up_before_and_after_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let schemas: Vec<SchemaId> = (0..SCHEMAS).map(|n| journal.register(&format!("t{n}"), "").unwrap()).collect();
    let mut sink = Sink::open(dir.path(), "primary").unwrap();
    let mut passed = Passed::default();
    for n in 0..2_000 {
        append(&journal, schemas[n % 3], &[1; 50]).unwrap();
        if n % 97 == 0 {
            pass_some(&mut sink, &mut passed, 40);
        }
    }
    let killed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), killed.path());
    let before = Snapshot::read(killed.path(), "primary").unwrap();
    assert_adds_up(&before);
    let nobody = Snapshot::read(killed.path(), "nobody").unwrap();
    assert_eq!(nobody.pending, nobody.recorded);
    let (_journal, _) = Journal::open(small(killed.path())).unwrap();
    assert_eq!(Snapshot::read(killed.path(), "primary").unwrap(), before);
    assert_eq!(Snapshot::read(killed.path(), "nobody").unwrap(), nobody);
}
