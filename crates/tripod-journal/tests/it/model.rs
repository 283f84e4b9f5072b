//! The journal against a plain list, under random operations, clean restarts and crashes.
//!
//! A crash is a copy of the directory: what the page cache holds is what a kill -9 leaves. Torn tails and flipped bytes
//! are made in further copies, which are opened, read, and thrown away.

use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;
use tripod_journal::{Journal, Options, Position, SchemaId, Sink, Snapshot};

use crate::support::{DEADLINE, append, copy_dir, read_all, small};

#[derive(Debug, Clone)]
enum Step {
    Append { schema: u16, len: usize, times: usize },
    FailFill { len: usize },
    Read { most: usize },
    Commit,
    SeekCommitted,
    Restart,
    Crash,
    TornTail { at: prop::sample::Index },
    FlippedByte { file: prop::sample::Index, at: prop::sample::Index },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2u16, 0..3_000usize, 1..6usize).prop_map(|(schema, len, times)| Step::Append { schema, len, times }),
        4 => (0..2u16, 0..60usize, 1..200usize).prop_map(|(schema, len, times)| Step::Append { schema, len, times }),
        1 => (0..3_000usize).prop_map(|len| Step::FailFill { len }),
        5 => (0..200usize).prop_map(|most| Step::Read { most }),
        3 => Just(Step::Commit),
        1 => Just(Step::SeekCommitted),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
        1 => any::<prop::sample::Index>().prop_map(|at| Step::TornTail { at }),
        1 => any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(file, at)| Step::FlippedByte { file, at }),
    ]
}

type Row = (SchemaId, Vec<u8>);

struct World {
    dir: TempDir,
    journal: Option<Journal>,
    sink: Option<Sink>,
    /// Everything appended, in order.
    rows: Vec<Row>,
    /// How many of them the sink's read position has passed, and its committed cursor.
    read: usize,
    committed: usize,
}

fn options(dir: &std::path::Path) -> Options {
    Options { required_sinks: vec!["model".into()], ..small(dir) }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            dir: tempfile::tempdir().unwrap(),
            journal: None,
            sink: None,
            rows: Vec::new(),
            read: 0,
            committed: 0,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let (journal, recovery) = Journal::open(options(self.dir.path())).unwrap();
        assert_eq!((&recovery.counted[..], &recovery.differences[..]), (&[][..], &[][..]));
        assert!(recovery.sealed.iter().all(|tail| tail.cut_bytes == 0 && tail.damaged_at.is_none()));
        for n in 0..2u16 {
            assert_eq!(journal.register(&format!("schema {n}"), "").unwrap(), SchemaId(n));
        }
        let sink = Sink::open(self.dir.path(), "model").unwrap();
        assert_eq!(sink.state(), if self.committed == 0 { vec![] } else { self.committed.to_le_bytes().to_vec() });
        self.read = self.committed;
        (self.journal, self.sink) = (Some(journal), Some(sink));
    }

    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), copy.path());
        copy
    }

    fn apply(&mut self, step: &Step) {
        let journal = self.journal.clone().unwrap();
        let sink = self.sink.as_mut().unwrap();
        match step {
            Step::Append { schema, len, times } => {
                for _ in 0..*times {
                    let fill = u8::try_from(self.rows.len() % 251).unwrap();
                    let row = (SchemaId(*schema), vec![fill; *len]);
                    append(&journal, row.0, &row.1).unwrap();
                    self.rows.push(row);
                }
            }
            Step::FailFill { len } => {
                let failed = journal.append(SchemaId(0), *len, |out| {
                    out.fill(0xaa);
                    Err(())
                });
                assert!(failed.is_err());
            }
            Step::Read { most } => {
                let mut rows = Vec::new();
                sink.read(|record| {
                    if rows.len() == *most {
                        return ControlFlow::Break(());
                    }
                    rows.push((record.schema, record.payload.to_vec()));
                    ControlFlow::Continue(())
                })
                .unwrap();
                let expected = &self.rows[self.read..self.rows.len().min(self.read + most)];
                assert_eq!(rows, expected);
                self.read += rows.len();
            }
            Step::Commit => {
                let mark = sink.mark();
                // A state of no bytes means that nothing was ever committed.
                let state = if self.read == 0 { vec![] } else { self.read.to_le_bytes().to_vec() };
                sink.commit(&mark, &state).unwrap();
                self.committed = self.read;
            }
            Step::SeekCommitted => {
                let committed = sink.committed().clone();
                sink.seek(&committed);
                self.read = self.committed;
            }
            Step::Restart => {
                (self.sink, self.journal) = (None, None);
                journal.close(DEADLINE).unwrap();
                self.open();
            }
            Step::Crash => {
                let copy = self.copy();
                (self.sink, self.journal) = (None, None);
                drop(journal);
                self.dir = copy;
                self.open();
            }
            Step::TornTail { at } => self.check_torn(*at),
            Step::FlippedByte { file, at } => self.check_flipped(*file, *at),
        }
        self.check_sum();
    }

    fn check_sum(&self) {
        let snapshot = Snapshot::read(self.dir.path(), "model").unwrap();
        for schema in 0..2u16 {
            let count = |rows: &[Row]| rows.iter().filter(|row| row.0.0 == schema).count();
            let listed = |list: &[(SchemaId, u64)]| list.iter().find(|(id, _)| id.0 == schema).map_or(0, |(_, n)| *n);
            assert_eq!(listed(&snapshot.recorded), u64::try_from(count(&self.rows)).unwrap());
            assert_eq!(listed(&snapshot.pending), u64::try_from(count(&self.rows[self.committed..])).unwrap());
        }
    }

    /// Where each row is: file, offset, end (without the padding behind it).
    fn places(&self) -> Vec<(PathBuf, Position, u64)> {
        let copy = self.copy();
        let mut places = Vec::new();
        Sink::open(copy.path(), "places")
            .unwrap()
            .read(|record| {
                let file = PathBuf::from(format!("segments/{:016}.seg", record.position.segment));
                let end = record.position.offset + 10 + u64::try_from(record.payload.len()).unwrap();
                places.push((file, record.position, end));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(places.len(), self.rows.len());
        places
    }

    /// From a random byte of the newest segment's records on, nothing reached the disk.
    fn check_torn(&self, at: prop::sample::Index) {
        let places = self.places();
        let Some((file, newest, end)) = places.last() else { return };
        let first = places.iter().find(|(_, position, _)| position.segment == newest.segment).unwrap();
        let span = usize::try_from(end - first.1.offset).unwrap();
        let from = first.1.offset + u64::try_from(at.index(span)).unwrap();
        let copy = self.copy();
        let path = copy.path().join(file);
        let disk = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let len = usize::try_from(disk.metadata().unwrap().len() - from).unwrap();
        disk.write_all_at(&vec![0; len], from).unwrap();
        let survivors =
            places.iter().filter(|(_, position, end)| position.segment != newest.segment || *end <= from).count();
        let zeros_in_the_tail_change_nothing = |read: &[Row]| read == &self.rows[..read.len()];
        let sealed = {
            // A segment that the writer had left already is damaged by this; one that was open is torn.
            let (_journal, recovery) = Journal::open(options(copy.path())).unwrap();
            recovery.sealed.iter().all(|tail| tail.segment != newest.segment)
        };
        let mut sink = Sink::open(copy.path(), "after").unwrap();
        let read = read_all(&mut sink);
        assert!(zeros_in_the_tail_change_nothing(&read));
        // A record whose last bytes were zero anyway survives the tear.
        assert!(read.len() >= survivors);
        assert_eq!(sink.damage().is_empty(), !sealed || read.len() == self.rows.len());
    }

    /// One flipped byte anywhere among the records of a random segment.
    fn check_flipped(&self, file: prop::sample::Index, at: prop::sample::Index) {
        let places = self.places();
        let Some((name, victim, _)) = (!places.is_empty()).then(|| &places[file.index(places.len())]) else { return };
        let in_segment: Vec<_> = places.iter().filter(|(_, position, _)| position.segment == victim.segment).collect();
        let (start, end) = (in_segment[0].1.offset, in_segment.last().unwrap().2);
        let offset = start + u64::try_from(at.index(usize::try_from(end - start).unwrap())).unwrap();
        let copy = self.copy();
        let path = copy.path().join(name);
        let disk = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        disk.read_exact_at(&mut byte, offset).unwrap();
        disk.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();

        let (_journal, _) = Journal::open(options(copy.path())).unwrap();
        let mut sink = Sink::open(copy.path(), "after").unwrap();
        let mut read = Vec::new();
        sink.read(|record| {
            read.push((record.position, (record.schema, record.payload.to_vec())));
            ControlFlow::Continue(())
        })
        .unwrap();
        let hit = |(_, position, end): &(PathBuf, Position, u64)| {
            position.segment == victim.segment && position.offset <= offset && offset < *end
        };
        let Some(first_hit) = places.iter().position(hit) else {
            // Padding between records.
            assert_eq!(read.len(), self.rows.len());
            return;
        };
        let expected: Vec<_> = places
            .iter()
            .zip(&self.rows)
            .filter(|((_, position, _), _)| {
                position.segment != victim.segment || position.offset < places[first_hit].1.offset
            })
            .map(|((_, position, _), row)| (*position, row.clone()))
            .collect();
        assert_eq!(read, expected);
        let is_last = in_segment.last().unwrap().1 == places[first_hit].1;
        let was_open = places.last().unwrap().1.segment == victim.segment;
        if !is_last {
            assert_eq!(sink.damage()[0].offset, places[first_hit].1.offset);
        } else if !was_open {
            assert_eq!(sink.damage().len(), 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_is_a_list_that_survives(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
        }
        let rest = read_all(world.sink.as_mut().unwrap());
        prop_assert_eq!(&rest[..], &world.rows[world.read..]);
    }
}
