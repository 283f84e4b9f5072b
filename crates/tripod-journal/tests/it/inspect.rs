//! What an operator sees of a journal: its inventory, and whether every record is whole.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tripod_journal::{Inventory, Journal, SegmentState, Sink, Verified, verify};

use crate::support::{append, copy_dir, small};

const ROWS: u64 = 600;

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join("segments")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn filled(dir: &Path) -> Journal {
    let (journal, _) = Journal::open(small(dir)).unwrap();
    let schema = journal.register("rows", "text").unwrap();
    (0..ROWS).for_each(|n| append(&journal, schema, &[&n.to_le_bytes()[..], &[4; 150]].concat()).unwrap());
    journal
}

fn check(dir: &Path) -> Verified {
    verify(dir, |_| {}).unwrap()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 0x08;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_journal_is_whole_while_it_is_written_after_a_kill_and_after_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let journal = filled(dir.path());
    Sink::open(dir.path(), "a").unwrap();
    let live = check(dir.path());
    assert_eq!((live.records, live.damage.as_slice()), (ROWS, &[][..]));
    let killed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), killed.path());
    drop(journal);
    for dir in [killed.path(), dir.path()] {
        let verified = check(dir);
        assert_eq!((verified.records, verified.damage.as_slice()), (ROWS, &[][..]));
        assert!(verified.segments > 3 && verified.bytes > 0, "{verified:?}");
    }
}

#[test]
fn a_flipped_byte_of_any_record_is_named_with_file_and_offset() {
    let origin = tempfile::tempdir().unwrap();
    let journal = filled(origin.path());
    let (open, sealed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy_dir(origin.path(), open.path());
    drop(journal);
    copy_dir(origin.path(), sealed.path());
    for (from, kind) in [(open.path(), "open"), (sealed.path(), "sealed")] {
        let files = segment_files(from);
        let whole = check(from).records;
        // The first, one in the middle, the last of a full segment, and the last of all.
        for (number, record) in [(0, 0_usize), (0, 7), (1, 169), (2, 100), (3, 89)] {
            // Head, schema and payload of a record of 168 bytes.
            for byte in [0, 5, 9, 12, 160] {
                let dir = tempfile::tempdir().unwrap();
                copy_dir(from, dir.path());
                let file = dir.path().join("segments").join(files[number].file_name().unwrap());
                let offset = 4096 + record * 168;
                assert_eq!(std::fs::read(&file).unwrap()[offset + 8 + 2 + 8], 4, "no record there");
                flip(&file, offset + byte);
                let verified = check(dir.path());
                let [damage] = verified.damage.as_slice() else {
                    panic!("{kind} {number} {record} {byte}: {verified:?}")
                };
                assert_eq!((damage.path.as_path(), damage.offset), (file.as_path(), u64::try_from(offset).unwrap()));
                assert_eq!(verified.records, whole - 1, "the others are still read");
            }
        }
    }
}

#[test]
fn a_flipped_byte_of_a_header_or_of_the_catalog_is_named_too() {
    let origin = tempfile::tempdir().unwrap();
    drop(filled(origin.path()));
    let mut sink = Sink::open(origin.path(), "a").unwrap();
    sink.read(|_| ControlFlow::Continue(())).unwrap();
    let mark = sink.mark();
    sink.commit(&mark, b"all").unwrap();
    drop(sink);
    let segment = segment_files(origin.path())[1].strip_prefix(origin.path()).unwrap().to_owned();
    for (name, at) in
        [(segment.as_path(), 17), (&segment, 70), (&segment, 90), (&segment, 130), (Path::new("catalog"), 14)]
    {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(origin.path(), dir.path());
        flip(&dir.path().join(name), at);
        let verified = check(dir.path());
        assert_eq!(verified.damage.len(), 1, "{name:?} {at}: {verified:?}");
        assert_eq!(verified.damage[0].path, dir.path().join(name));
    }
}

#[test]
fn the_inventory_says_what_waits_for_which_sink() {
    let dir = tempfile::tempdir().unwrap();
    let journal = filled(dir.path());
    let (mut all, _none) = (Sink::open(dir.path(), "all").unwrap(), Sink::open(dir.path(), "none").unwrap());
    drop(journal);
    all.read(|_| ControlFlow::Continue(())).unwrap();
    let mark = all.mark();
    all.commit(&mark, b"").unwrap();
    let inventory = Inventory::read(dir.path()).unwrap();
    let sealed: Vec<_> = inventory.segments.iter().filter(|s| s.state == SegmentState::Sealed).collect();
    assert_eq!(sealed.iter().filter_map(|segment| segment.records).sum::<u64>(), ROWS);
    assert!(inventory.segments.iter().all(|segment| segment.state != SegmentState::Open), "it was closed");
    let waiting: Vec<_> = inventory.sinks.iter().map(|sink| (sink.name.as_str(), sink.undelivered_bytes)).collect();
    assert_eq!(waiting, [("all", 0), ("none", sealed.iter().map(|segment| segment.bytes).sum())]);
}
