//! States that only a crash at one certain instruction leaves, and a disk that is full: made by hand.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::layout::{PAGE_BYTES, wide};
use crate::recover::{Difference, Healed};
use crate::{AppendError, Journal, Options, SchemaId, Sink, Snapshot, Sync};

const DEADLINE: Duration = Duration::from_secs(30);

fn small(dir: &Path) -> Options {
    Options { segment_bytes: 32 * 1024, budget_bytes: 512 * 1024, sync: Sync::Process, ..Options::new(dir) }
}

fn append(journal: &Journal, schema: SchemaId) -> Result<(), AppendError<Infallible>> {
    journal.append(schema, 100, |out| {
        out.fill(1);
        Ok(())
    })
}

/// A copy of what a kill -9 would leave now. The keeper may rename a file meanwhile: then once more from the beginning.
fn killed(dir: &Path) -> tempfile::TempDir {
    loop {
        let copy = tempfile::tempdir().unwrap();
        match copied(dir, copy.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => {
                done.unwrap();
                return copy;
            }
        }
    }
}

fn copied(dir: &Path, to: &Path) -> io::Result<()> {
    for part in ["", "segments", "sinks"] {
        std::fs::create_dir_all(to.join(part))?;
        for entry in std::fs::read_dir(dir.join(part))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), to.join(part).join(entry.file_name()))?;
            }
        }
    }
    Ok(())
}

fn lower(dir: &Path, offset: usize, by: u64) {
    let file = OpenOptions::new().read(true).write(true).open(dir.join("counts")).unwrap();
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, wide(offset)).unwrap();
    let count = u64::from_le_bytes(bytes) - by;
    file.write_all_at(&count.to_le_bytes(), wide(offset)).unwrap();
}

const TOTAL: usize = PAGE_BYTES;

fn recorded(schema: SchemaId) -> usize {
    PAGE_BYTES + 64 + 8 * schema.index()
}

#[test]
fn a_crash_between_publishing_and_counting_is_counted_once_and_adds_up_even_before() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let [a, b] = ["a", "b"].map(|name| journal.register(name, "").unwrap());
    for n in 0..450 {
        append(&journal, if n % 3 == 0 { a } else { b }).unwrap();
    }
    append(&journal, b).unwrap();
    // Killed before the first store of counting, and between the two.
    for stores_made in 0..2 {
        let copy = killed(dir.path());
        lower(copy.path(), TOTAL, 1);
        if stores_made == 0 {
            lower(copy.path(), recorded(b), 1);
        }
        // A sink that passes the record which nobody counted.
        let mut sink = Sink::open(copy.path(), "s").unwrap();
        assert_eq!(sink.read(|_| ControlFlow::Continue(())).unwrap(), 451);
        let mark = sink.mark();
        let before = Snapshot::read(copy.path(), "s").unwrap();
        assert_eq!(before.recorded, before.pending);
        sink.commit(&mark, b"all 451").unwrap();
        let passed = Snapshot::read(copy.path(), "s").unwrap();
        assert_eq!((&passed.recorded[..], &passed.pending[..]), (&[(a, 150), (b, 301)][..], &[][..]));

        let (healed, recovery) = Journal::open(small(copy.path())).unwrap();
        let expected = if stores_made == 0 { vec![Healed { lane: 0, schema: b }] } else { vec![] };
        assert_eq!((recovery.counted, recovery.differences), (expected, vec![]));
        assert_eq!(healed.recorded().recorded, [(a, 150), (b, 301)]);
        append(&healed, a).unwrap();
        drop(healed);
        let (_, again) = Journal::open(small(copy.path())).unwrap();
        assert_eq!((again.counted, again.differences), (vec![], vec![]));
    }
}

#[test]
fn counts_that_a_crash_cannot_explain_are_reported_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let a = journal.register("a", "").unwrap();
    (0..100).for_each(|_| append(&journal, a).unwrap());
    let copy = killed(dir.path());
    lower(copy.path(), TOTAL, 2);
    lower(copy.path(), recorded(a), 2);
    let (healed, recovery) = Journal::open(small(copy.path())).unwrap();
    assert_eq!(recovery.differences, [Difference { lane: 0, counted: 98, found: 100 }]);
    assert_eq!(healed.recorded().recorded, [(a, 98)]);
}

#[test]
fn a_recovery_that_was_killed_before_sealing_starts_over_with_the_same_result() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(dir.path())).unwrap();
    let a = journal.register("a", "").unwrap();
    (0..50).for_each(|_| append(&journal, a).unwrap());
    let copy = killed(dir.path());
    let open_segment = std::fs::read(copy.path().join("segments/0000000000000001.seg")).unwrap();
    lower(copy.path(), TOTAL, 1);
    lower(copy.path(), recorded(a), 1);
    let (journal, first) = Journal::open(small(copy.path())).unwrap();
    drop(journal);
    assert_eq!((first.counted.len(), first.sealed.len()), (1, 1));
    // Counted, but the seal did not make it.
    std::fs::write(copy.path().join("segments/0000000000000001.seg"), open_segment).unwrap();
    let (journal, second) = Journal::open(small(copy.path())).unwrap();
    assert_eq!((second.counted.len(), second.sealed.len(), second.differences.len()), (0, 1, 0));
    assert_eq!(journal.recorded().recorded, [(a, 50)]);
}

#[test]
fn a_full_disk_refuses_records_and_the_journal_goes_on_once_there_is_room() {
    static FULL: AtomicBool = AtomicBool::new(false);
    fn allocate(file: &File, bytes: u64) -> io::Result<()> {
        if FULL.load(Ordering::SeqCst) {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        crate::pool::allocate(file, bytes)
    }
    let dir = tempfile::tempdir().unwrap();
    // Held by a sink: otherwise the keeper would make room by deleting what is passed.
    let options = Options { budget_bytes: 1 << 30, required_sinks: vec!["s".into()], ..small(dir.path()) };
    let (journal, _) = Journal::open_with(options, allocate).unwrap();
    let a = journal.register("a", "").unwrap();
    FULL.store(true, Ordering::SeqCst);
    let mut taken = 0;
    let refused = loop {
        match append(&journal, a) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, AppendError::Disk(error) if error.kind() == io::ErrorKind::StorageFull), "{refused}");
    assert!(taken > 200, "two spares were ready: {taken}");
    assert!(journal.usage().full);
    assert!(matches!(append(&journal, a), Err(AppendError::Disk(_))));
    // The keeper goes on trying, and removes what it could not finish.
    let started = std::time::Instant::now();
    while std::fs::read_dir(dir.path().join("segments")).unwrap().count() != 2 {
        assert!(started.elapsed() < DEADLINE, "a half-made file is left");
        std::thread::yield_now();
    }

    FULL.store(false, Ordering::SeqCst);
    journal.tend(DEADLINE).unwrap();
    assert!(!journal.usage().full);
    append(&journal, a).unwrap();
    let mut sink = Sink::open(dir.path(), "s").unwrap();
    assert_eq!(sink.read(|_| ControlFlow::Continue(())).unwrap(), taken + 1);
}

/// The same with a real file system. Needs root: `cargo test -p tripod-journal -- --ignored tmpfs`.
#[test]
#[ignore = "mounts a small tmpfs, which needs root"]
fn a_full_tmpfs_is_an_error_and_never_a_signal() {
    struct Mounted(tempfile::TempDir);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0.path()).status();
        }
    }
    let mounted = Mounted(tempfile::tempdir().unwrap());
    let dir = mounted.0.path();
    let status =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir).status().unwrap();
    assert!(status.success());
    let options = Options { budget_bytes: 1 << 30, required_sinks: vec!["s".into()], ..small(dir) };
    let (journal, _) = Journal::open(options).unwrap();
    let a = journal.register("a", "").unwrap();
    let mut sink = Sink::open(dir, "s").unwrap();
    let mut read = 0;
    let mut taken = 0;
    for _ in 0..3 {
        let refused = loop {
            match append(&journal, a) {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(&refused, AppendError::Disk(_)), "{refused}");
        // Passed segments make room, though they are not old.
        read += sink.read(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!(read, taken);
        let mark = sink.mark();
        sink.commit(&mark, b"").unwrap();
        journal.tend(DEADLINE).unwrap();
        assert!(!journal.usage().full);
    }
    assert!(taken > 1_000);
    drop((journal, sink));
}
