//! Many threads at once: nothing lost, nothing twice, nobody held up by a parked one.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;

use tripod_journal::{AppendError, Journal, Options, Sink};

use crate::support::{DEADLINE, append, copy_dir, read_all, small};

fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

#[test]
fn every_record_of_every_thread_is_read_exactly_once_while_they_write() {
    const THREADS: u64 = 6;
    const EACH: u64 = 5_000;
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let schema = journal.register("numbers", "").unwrap();
    let mut sink = Sink::open(dir.path(), "reader").unwrap();
    let mut seen: HashMap<u64, u64> = HashMap::new();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = journal.clone();
            scope.spawn(move || {
                for n in 0..EACH {
                    let id = thread * EACH + n;
                    // Lengths differ, so that records end and segments change at all places.
                    let mut payload = vec![u8::try_from(id % 251).unwrap(); 8 + usize::try_from(id % 97).unwrap()];
                    payload[..8].copy_from_slice(&id.to_le_bytes());
                    append(&journal, schema, &payload).unwrap();
                }
            });
        }
        let started = std::time::Instant::now();
        while u64::try_from(seen.len()).unwrap() < THREADS * EACH {
            assert!(started.elapsed() < DEADLINE, "only {} records arrived", seen.len());
            for (_, payload) in read_all(&mut sink) {
                let id = number(&payload);
                assert_eq!(payload.len(), 8 + usize::try_from(id % 97).unwrap());
                assert!(payload[8..].iter().all(|byte| u64::from(*byte) == id % 251));
                *seen.entry(id).or_default() += 1;
            }
        }
    });
    assert!(read_all(&mut sink).is_empty());
    assert!(seen.values().all(|times| *times == 1));
    assert_eq!(journal.recorded().recorded, [(schema, THREADS * EACH)]);
    journal.close(DEADLINE).unwrap();
    let (_journal, recovery) = Journal::open(small(dir.path())).unwrap();
    assert_eq!((recovery.sealed, recovery.counted, recovery.differences), (vec![], vec![], vec![]));
}

#[test]
fn a_thread_parked_inside_fill_neither_blocks_others_nor_hides_what_they_record() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let schema = journal.register("numbers", "").unwrap();
    let (inside, is_inside) = sync_channel(1);
    let (go_on, may_go_on) = sync_channel::<()>(1);
    std::thread::scope(|scope| {
        let parked = journal.clone();
        scope.spawn(move || {
            parked
                .append(schema, 6, |out| {
                    out[..3].copy_from_slice(b"par");
                    inside.send(()).unwrap();
                    may_go_on.recv_timeout(DEADLINE).unwrap();
                    out[3..].copy_from_slice(b"ked");
                    Ok::<(), ()>(())
                })
                .unwrap();
        });
        is_inside.recv_timeout(DEADLINE).unwrap();
        let mut sink = Sink::open(dir.path(), "reader").unwrap();
        for n in 0..2_000u64 {
            append(&journal, schema, &n.to_le_bytes()).unwrap();
        }
        let read: Vec<u64> = read_all(&mut sink).iter().map(|(_, payload)| number(payload)).collect();
        assert_eq!(read, (0..2_000).collect::<Vec<_>>());

        // Killed in this state, the parked record is gone and every other one is there and counted.
        let killed = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), killed.path());
        let (recovered, recovery) = Journal::open(small(killed.path())).unwrap();
        assert_eq!((recovery.counted, recovery.differences), (vec![], vec![]));
        assert_eq!(recovery.sealed.iter().map(|tail| tail.cut_bytes > 0).filter(|cut| *cut).count(), 1);
        assert!(recovery.sealed.iter().all(|tail| tail.damaged_at.is_none()));
        assert_eq!(recovered.recorded().recorded, [(schema, 2_000)]);
        assert_eq!(read_all(&mut Sink::open(killed.path(), "other").unwrap()).len(), 2_000);

        go_on.send(()).unwrap();
        crate::support::wait_until("the parked record", || {
            read_all(&mut sink).iter().any(|(_, payload)| payload == b"parked")
        });
    });
}

#[test]
fn a_fill_that_fails_or_panics_publishes_nothing_and_leaves_the_lane_usable() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(Options { lanes_max: 1, ..small(dir.path()) }).unwrap();
    let schema = journal.register("numbers", "").unwrap();
    for n in 0..300u64 {
        let failed = journal.append(schema, 200, |out| {
            out.fill(0xff);
            Err("no")
        });
        assert!(matches!(failed, Err(AppendError::Fill("no"))));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            journal.append(schema, 100, |out| -> Result<(), ()> {
                out.fill(0xee);
                std::panic::resume_unwind(Box::new("in fill"));
            })
        }));
        assert!(panicked.is_err());
        append(&journal, schema, &n.to_le_bytes()).unwrap();
    }
    // Nothing of what failed is left behind the last record, where it could be taken for one.
    let killed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), killed.path());
    let (_, recovery) = Journal::open(small(killed.path())).unwrap();
    assert_eq!(recovery.sealed.iter().map(|tail| tail.cut_bytes).collect::<Vec<_>>(), [0]);
    let mut sink = Sink::open(dir.path(), "reader").unwrap();
    let read: Vec<u64> = read_all(&mut sink).iter().map(|(_, payload)| number(payload)).collect();
    assert_eq!(read, (0..300).collect::<Vec<_>>());
    assert_eq!(journal.recorded().recorded, [(schema, 300)]);
    assert_eq!(sink.damage(), []);
}

#[test]
fn a_record_on_which_the_visit_breaks_is_read_again_and_a_mark_can_be_sought() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let schema = journal.register("numbers", "").unwrap();
    (0..10u64).for_each(|n| append(&journal, schema, &n.to_le_bytes()).unwrap());
    let mut sink = Sink::open(dir.path(), "reader").unwrap();
    let mut first = Vec::new();
    let visited = sink
        .read(|record| {
            if number(record.payload) == 4 {
                return ControlFlow::Break(());
            }
            first.push(number(record.payload));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((visited, first), (4, vec![0, 1, 2, 3]));
    let mark = sink.mark();
    assert_eq!(read_all(&mut sink).len(), 6);
    sink.seek(&mark);
    assert_eq!(number(&read_all(&mut sink)[0].1), 4);
    sink.commit(&mark, b"four").unwrap();
    drop(sink);
    let mut sink = Sink::open(dir.path(), "reader").unwrap();
    assert_eq!((sink.state(), sink.committed()), (&b"four"[..], &mark));
    assert_eq!(number(&read_all(&mut sink)[0].1), 4);
}
