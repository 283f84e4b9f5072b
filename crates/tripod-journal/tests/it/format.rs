//! A journal of a newer form: named by everybody who opens it, and left as it is. (Older ones are delivered: see the
//! fixtures of `crates/tripod/tests`.)

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tripod_journal::{Catalog, Error, Inventory, Journal, Options, Sink, Snapshot, verify};

use crate::support::{append, read_all, small};

/// A cleanly closed journal, of which a sink has passed some.
fn closed_journal(dir: &Path) {
    let (journal, _) = Journal::open(small(dir)).unwrap();
    let schema = journal.register("rows", "text").unwrap();
    (0..300u64).for_each(|n| append(&journal, schema, &[&n.to_le_bytes()[..], &[4; 150]].concat()).unwrap());
    let mut sink = Sink::open(dir, "a").unwrap();
    let mut left = 100;
    sink.read(|_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    let mark = sink.mark();
    sink.commit(&mark, b"state").unwrap();
}

/// Every file but the locks, which say who held them last.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_none_or(|extension| extension != "lock") {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

fn overwrite(path: &Path, at: usize, new: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at..at + new.len()].copy_from_slice(new);
    std::fs::write(path, bytes).unwrap();
}

fn is_newer<T>(outcome: Result<T, Error>) {
    match outcome.map(drop) {
        Err(error @ Error::Newer { format: 2, .. }) => {
            let words = error.to_string();
            assert!(words.contains("format 2") && words.contains("this one knows 1"), "{words}");
        }
        other => panic!("{other:?}"),
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(dir.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// Writes another number into a segment's header, and the checksum that goes with it: over the fixed part, and the catalog
/// behind the marks.
fn renumber(segment: &Path, number: u32) {
    let bytes = std::fs::read(segment).unwrap();
    let mut fixed = bytes[..64].to_vec();
    fixed[8..12].copy_from_slice(&number.to_le_bytes());
    fixed[12..16].fill(0);
    let catalog_len = usize::try_from(u64::from_le_bytes(fixed[48..56].try_into().unwrap())).unwrap();
    let catalog = &bytes[1152..1152 + catalog_len];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&fixed), catalog);
    fixed[12..16].copy_from_slice(&crc.to_le_bytes());
    overwrite(segment, 0, &fixed);
}

#[test]
fn everybody_refuses_a_newer_journal_by_name_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    closed_journal(dir.path());
    let renumber_all = |number: u32| {
        overwrite(&dir.path().join("counts"), 8, &u64::from(number).to_le_bytes());
        segments(dir.path()).iter().for_each(|segment| renumber(segment, number));
    };
    renumber_all(2);
    let before = files(dir.path());
    is_newer(Journal::open(small(dir.path())));
    is_newer(Journal::open(Options { set_aside_damaged: true, ..small(dir.path()) }));
    is_newer(Sink::open(dir.path(), "a"));
    is_newer(Inventory::read(dir.path()));
    is_newer(verify(dir.path(), |_| {}));
    is_newer(Snapshot::read(dir.path(), "a"));
    is_newer(Catalog::read(dir.path()));
    assert!(before == files(dir.path()), "something was changed");
    // With its own number again it is as it was.
    renumber_all(1);
    assert_eq!(read_all(&mut Sink::open(dir.path(), "a").unwrap()).len(), 201);
}

#[test]
fn a_newer_segment_is_no_damage_that_may_be_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    closed_journal(dir.path());
    // The newest that a lane has taken.
    let is_started = |path: &&PathBuf| std::fs::read(path).unwrap()[80..88] != [0; 8];
    let all = segments(dir.path());
    renumber(all.iter().rfind(is_started).unwrap(), 2);
    let before = files(dir.path());
    is_newer(Sink::open(dir.path(), "a").unwrap().read(|_| ControlFlow::Continue(())));
    is_newer(Journal::open(Options { set_aside_damaged: true, ..small(dir.path()) }));
    assert!(before == files(dir.path()), "something was changed");
}

#[test]
fn a_number_that_stands_alone_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    closed_journal(dir.path());
    overwrite(&dir.path().join("counts"), 8, &2_u64.to_le_bytes());
    assert!(matches!(Journal::open(small(dir.path())), Err(Error::Damaged { .. })));
}
