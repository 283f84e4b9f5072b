//! kill -9 of a process that records with several threads, again and again, on one journal.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use tripod_journal::{Journal, Options, Sink, Snapshot};

use crate::support::{DEADLINE, SEGMENT_BYTES, small};

const DIR: &str = "TRIPOD_JOURNAL_TEST_DIR";
const ROUND: &str = "TRIPOD_JOURNAL_TEST_ROUND";
const THREADS: u64 = 3;

fn options(dir: &std::path::Path) -> Options {
    Options { budget_bytes: 2_000 * SEGMENT_BYTES, ..small(dir) }
}

/// The process that is killed. It reports each id after `append` returned for it, and ends only by being killed.
#[test]
#[ignore = "started by the test below as its child"]
fn child() {
    let dir = std::path::PathBuf::from(std::env::var(DIR).unwrap());
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let (journal, recovery) = Journal::open(options(&dir)).unwrap();
    assert_eq!(recovery.differences, []);
    assert!(recovery.sealed.iter().all(|tail| tail.damaged_at.is_none()));
    let schemas = ["a", "b"].map(|name| journal.register(name, "").unwrap());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, dir) = (journal.clone(), &dir);
            scope.spawn(move || {
                let mut report = UnixStream::connect(dir.join("report")).unwrap();
                for n in 0u64.. {
                    let id = (round << 40) | (thread << 32) | n;
                    let len = 8 + usize::try_from(n % 150).unwrap();
                    journal
                        .append(schemas[usize::try_from(n % 2).unwrap()], len, |out| {
                            out[..8].copy_from_slice(&id.to_le_bytes());
                            out[8..].fill(9);
                            Ok::<(), ()>(())
                        })
                        .unwrap();
                    report.write_all(&id.to_le_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn what_append_returned_for_is_there_after_kill_9_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    drop(Journal::open(options(dir.path())).unwrap());
    let mut reported = 0;
    let mut sink = Sink::open(dir.path(), "primary").unwrap();
    let mut seen: HashMap<u64, u32> = HashMap::new();
    for round in 0..8u64 {
        let socket = dir.path().join("report");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--ignored", "--quiet"])
            .env(DIR, dir.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let streams: Vec<UnixStream> = (0..THREADS).map(|_| listener.accept().unwrap().0).collect();
        // Enough for a number of segment changes; a different moment in each round.
        let kill_after = 500 + round * 331;
        let readers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let (send, ready) = std::sync::mpsc::sync_channel(1);
                let thread = std::thread::spawn(move || {
                    let (mut ids, mut bytes) = (Vec::new(), [0; 8]);
                    while stream.read_exact(&mut bytes).is_ok() {
                        ids.push(u64::from_le_bytes(bytes));
                        if u64::try_from(ids.len()).unwrap() == kill_after {
                            send.send(()).unwrap();
                        }
                    }
                    ids
                });
                (ready, thread)
            })
            .collect();
        readers.iter().for_each(|(ready, _)| ready.recv_timeout(DEADLINE).unwrap());
        // Reading beside the live writer of another process, in the very moment it dies.
        let mut read = |sink: &mut Sink| {
            sink.read(|record| {
                let id = u64::from_le_bytes(record.payload[..8].try_into().unwrap());
                assert!(record.payload[8..].iter().all(|byte| *byte == 9));
                *seen.entry(id).or_default() += 1;
                ControlFlow::Continue(())
            })
            .unwrap()
        };
        assert!(read(&mut sink) > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        let ids: Vec<u64> = readers.into_iter().flat_map(|(_, thread)| thread.join().unwrap()).collect();
        reported += ids.len();
        // Without any writer, and without recovery.
        read(&mut sink);
        for id in &ids {
            assert_eq!(seen.get(id), Some(&1), "round {round}, id {id:x}");
        }
        let mark = sink.mark();
        sink.commit(&mark, &u64::try_from(seen.len()).unwrap().to_le_bytes()).unwrap();
        let snapshot = Snapshot::read(dir.path(), "primary").unwrap();
        assert_eq!(snapshot.pending, [], "everything was read");
        assert_eq!(snapshot.recorded.iter().map(|(_, count)| *count).sum::<u64>(), u64::try_from(seen.len()).unwrap());
        std::fs::remove_file(&socket).unwrap();
    }
    let (journal, recovery) = Journal::open(options(dir.path())).unwrap();
    assert_eq!(recovery.differences, []);
    assert!(!recovery.sealed.is_empty());
    assert_eq!(sink.read(|_| ControlFlow::Continue(())).unwrap(), 0, "recovery makes no records");
    assert!(seen.values().all(|times| *times == 1));
    assert!(seen.len() >= reported && reported > 8 * 3 * 500);
    let counted: u64 = journal.recorded().recorded.iter().map(|(_, count)| *count).sum();
    assert_eq!(counted, u64::try_from(seen.len()).unwrap());
}
