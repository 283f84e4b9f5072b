//! Any damage to the files of a journal whose writer was killed: it is refused by name or opened, nothing panics, and no
//! sink is ever shown a record that nobody wrote, or one twice. What stands in segments that were not hurt is all read.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tripod_journal::{Error, Journal, Options, Sink, Sync};

const SEGMENT_BYTES: u64 = 32 * 1024;
const SINK: &str = "s";

#[derive(Debug, Arbitrary)]
struct Harm {
    file: u8,
    what: What,
}

#[derive(Debug, Arbitrary)]
enum What {
    Overwrite { at: u16, bytes: Vec<u8> },
    /// The same, in the part where headers and marks stand.
    OverwriteHead { at: u8, word: u64 },
    Truncate { len: u16 },
    Replace { bytes: Vec<u8> },
    Remove,
}

struct Origin {
    /// A file's path below the journal's directory, and what is in it.
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Each record, and in which segment's file it stands.
    records: BTreeMap<Vec<u8>, PathBuf>,
}

fn options(dir: &Path) -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        budget_bytes: SEGMENT_BYTES * 1024,
        sync: Sync::Process,
        set_aside_damaged: true,
        ..Options::new(dir)
    }
}

/// Memory before the disk: syncs cost nothing there.
fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn append(journal: &Journal, payload: &[u8]) {
    let schema = journal.register("rows", "text").unwrap();
    let fill = |out: &mut [u8]| {
        out.copy_from_slice(payload);
        Ok::<(), ()>(())
    };
    journal.append(schema, payload.len(), fill).unwrap();
}

/// Several segments, one of them open, a cursor in the middle; as a kill -9 leaves it.
fn origin() -> &'static Origin {
    static ORIGIN: OnceLock<Origin> = OnceLock::new();
    ORIGIN.get_or_init(|| {
        let dir = temporary();
        let (journal, _) = Journal::open(options(dir.path())).unwrap();
        (0..300u64).for_each(|n| append(&journal, &[&n.to_le_bytes()[..], &[4; 150]].concat()));
        let mut sink = Sink::open(dir.path(), SINK).unwrap();
        let mut records = BTreeMap::new();
        sink.read(|record| {
            let file = format!("segments/{:016}.seg", record.position.segment);
            records.insert(record.payload.to_vec(), file.into());
            ControlFlow::Continue(())
        })
        .unwrap();
        // Two commits, the newer one in the middle.
        let start = sink.committed().clone();
        sink.seek(&start);
        let mut left = 100;
        sink.read(|_| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        let mark = sink.mark();
        sink.commit(&mark, b"state").unwrap();
        sink.commit(&mark, b"state").unwrap();
        let mut files = Vec::new();
        for folder in ["", "segments", "sinks"] {
            for entry in std::fs::read_dir(dir.path().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() && path.extension().is_none_or(|extension| extension != "lock") {
                    let below = path.strip_prefix(dir.path()).unwrap().to_owned();
                    files.push((below, std::fs::read(&path).unwrap()));
                }
            }
        }
        files.sort();
        Origin { files, records }
    })
}

fn harm(path: &Path, what: &What) {
    let Ok(mut content) = std::fs::read(path) else { return };
    match what {
        What::Overwrite { at, bytes } => {
            let at = usize::from(*at);
            content.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = *new);
        }
        What::OverwriteHead { at, word } => {
            let at = usize::from(*at) * 8;
            content.iter_mut().skip(at).zip(word.to_le_bytes()).for_each(|(old, new)| *old = new);
        }
        What::Truncate { len } => content.truncate(usize::from(*len)),
        What::Replace { bytes } => content.clone_from(bytes),
        What::Remove => return std::fs::remove_file(path).unwrap(),
    }
    std::fs::write(path, content).unwrap();
}

fuzz_target!(|harms: Vec<Harm>| {
    let origin = origin();
    let dir = temporary();
    for folder in ["segments", "sinks"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    for (path, content) in &origin.files {
        std::fs::write(dir.path().join(path), content).unwrap();
    }
    let mut hurt = BTreeSet::new();
    for one in &harms {
        let (path, _) = &origin.files[usize::from(one.file) % origin.files.len()];
        harm(&dir.path().join(path), &one.what);
        hurt.insert(path.clone());
    }
    match Journal::open(Options { set_aside_damaged: false, ..options(dir.path()) }) {
        Ok(_) => {}
        Err(Error::Damaged { path, .. }) => {
            let below = path.strip_prefix(dir.path()).unwrap();
            assert!(hurt.contains(below), "{} is called damaged", below.display());
        }
        Err(other) => panic!("{other}"),
    }
    let (journal, _) = Journal::open(options(dir.path())).unwrap();
    let mut read = BTreeSet::new();
    let mut sink = Sink::open(dir.path(), "all").unwrap();
    sink.read(|record| {
        assert!(origin.records.contains_key(record.payload), "a record that nobody wrote");
        assert!(read.insert(record.payload.to_vec()), "a record was read twice");
        ControlFlow::Continue(())
    })
    .unwrap();
    for (payload, file) in &origin.records {
        assert!(hurt.contains(file) || read.contains(payload), "a record of {} is missing", file.display());
    }
    // The sink that was there before goes on from its commit, or is refused by name.
    match Sink::open(dir.path(), SINK) {
        Ok(mut old) => drop(old.read(|_| ControlFlow::Continue(())).unwrap()),
        Err(Error::Damaged { .. }) => {}
        Err(other) => panic!("{other}"),
    }
    // And the journal goes on.
    append(&journal, b"goes on");
    assert_eq!(sink.read(|_| ControlFlow::Continue(())).unwrap(), 1);
});
