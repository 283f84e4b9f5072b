//! Flipped bytes, torn headers, strange files: named, never shown as records, never skipped in silence.

use std::path::{Path, PathBuf};

use tripod_journal::{Error, Journal, Options, SchemaId, Sink, Snapshot};

use crate::support::{append, copy_dir, read_all, small};

/// A cleanly closed journal with several sealed segments; its files, oldest first.
fn closed_journal(dir: &Path) -> (SchemaId, Vec<PathBuf>) {
    let (journal, _) = Journal::open(small(dir)).unwrap();
    let schema = journal.register("rows", "text").unwrap();
    (0..600u64).for_each(|n| append(&journal, schema, &[&n.to_le_bytes()[..], &[4; 150]].concat()).unwrap());
    drop(journal);
    let mut files: Vec<_> = std::fs::read_dir(dir.join("segments")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    (schema, files)
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 0x08;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn any_flipped_byte_of_a_header_refuses_the_start_by_name_and_can_be_set_aside() {
    let origin = tempfile::tempdir().unwrap();
    let (schema, files) = closed_journal(origin.path());
    let name = files[1].file_name().unwrap();
    // Fixed part, both marks with their checks, records per schema, catalog. Bytes 120 to 127 are unused.
    for at in (0..120).chain(128..1180).step_by(7) {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(origin.path(), dir.path());
        let file = dir.path().join("segments").join(name);
        flip(&file, at);
        match Journal::open(small(dir.path())) {
            Err(Error::Damaged { path, .. }) => assert_eq!(path, file),
            other => panic!("byte {at}: {other:?}"),
        }
        let options = Options { set_aside_damaged: true, ..small(dir.path()) };
        let (journal, recovery) = Journal::open(options).unwrap();
        assert_eq!(recovery.set_aside.len(), 1);
        assert!(recovery.set_aside[0].exists() && !file.exists());
        append(&journal, schema, b"goes on").unwrap();
        let read = read_all(&mut Sink::open(dir.path(), "a").unwrap());
        assert!(read.len() > 300 && read.len() < 601);
        assert_eq!(read.last().unwrap().1, b"goes on");
    }
}

#[test]
fn a_flipped_record_stops_its_own_segment_only_and_passing_over_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (_, files) = closed_journal(dir.path());
    flip(&files[1], 4096 + 10 * 168 + 50);
    let mut sink = Sink::open(dir.path(), "a").unwrap();
    let before = read_all(&mut sink);
    let [damage] = sink.damage() else { panic!("{:?}", sink.damage()) };
    assert_eq!((damage.path.as_path(), damage.offset), (files[1].as_path(), 4096 + 10 * 168));
    let segment = damage.segment;
    // Reading again changes nothing; the rest of the journal was read.
    assert_eq!(read_all(&mut sink), []);
    assert_eq!(sink.damage().len(), 1);
    let in_segment = (32 * 1024 - 4096) / 168;
    assert_eq!(before.len(), 600 - in_segment + 10);
    assert_eq!(sink.pass_over(segment).unwrap(), 168);
    assert_eq!(read_all(&mut sink).len(), in_segment - 11);
    assert_eq!(sink.damage(), []);
    // The writer opens: the damage is a matter of the reader, records are not looked at again.
    drop(Journal::open(small(dir.path())).unwrap());
}

#[test]
fn damage_in_the_middle_of_a_segment_left_open_is_told_from_a_torn_tail() {
    let origin = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(small(origin.path())).unwrap();
    let schema = journal.register("rows", "").unwrap();
    (0..50u64).for_each(|n| append(&journal, schema, &[&n.to_le_bytes()[..], &[4; 150]].concat()).unwrap());

    let damaged = tempfile::tempdir().unwrap();
    copy_dir(origin.path(), damaged.path());
    let file = damaged.path().join("segments/0000000000000001.seg");
    flip(&file, 4096 + 20 * 168 + 30);
    let (_journal, recovery) = Journal::open(small(damaged.path())).unwrap();
    let [tail] = recovery.sealed.as_slice() else { panic!("{recovery:?}") };
    assert_eq!((tail.damaged_at, tail.records, tail.cut_bytes), (Some(4096 + 20 * 168), 49, 0));
    assert_eq!((recovery.differences[0].counted, recovery.differences[0].found), (50, 49));
    let mut sink = Sink::open(damaged.path(), "a").unwrap();
    assert_eq!(read_all(&mut sink).len(), 20);
    assert_eq!((sink.damage()[0].path.clone(), sink.damage()[0].offset), (file, 4096 + 20 * 168));
    assert_eq!(Snapshot::read(damaged.path(), "b").unwrap().recorded, [(schema, 50)]);

    let torn = tempfile::tempdir().unwrap();
    copy_dir(origin.path(), torn.path());
    let file = torn.path().join("segments/0000000000000001.seg");
    flip(&file, 4096 + 49 * 168 + 30);
    let (_journal, recovery) = Journal::open(small(torn.path())).unwrap();
    let [tail] = recovery.sealed.as_slice() else { panic!("{recovery:?}") };
    assert_eq!((tail.damaged_at, tail.records, tail.cut_bytes), (None, 49, 168));
    let mut sink = Sink::open(torn.path(), "a").unwrap();
    assert_eq!((read_all(&mut sink).len(), sink.damage()), (49, &[][..]));
}

#[test]
fn a_lost_or_short_counts_file_and_a_short_segment_are_named() {
    let origin = tempfile::tempdir().unwrap();
    let (_, files) = closed_journal(origin.path());
    let cases: [(&Path, u64); 3] = [(Path::new("counts"), 100), (Path::new("catalog"), 9), (&files[0], 20_000)];
    for (file, len) in cases {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(origin.path(), dir.path());
        let file = dir.path().join(file.strip_prefix(origin.path()).unwrap_or(file));
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len).unwrap();
        assert!(matches!(Journal::open(small(dir.path())), Err(Error::Damaged { path, .. }) if path == file));
        let options = Options { set_aside_damaged: true, ..small(dir.path()) };
        let (_, recovery) = Journal::open(options).unwrap();
        assert_eq!(recovery.set_aside.len(), 1);
    }
    std::fs::remove_file(origin.path().join("counts")).unwrap();
    let (_, recovery) = Journal::open(small(origin.path())).unwrap();
    assert_eq!((recovery.differences[0].counted, recovery.differences[0].found), (0, 600));
}
