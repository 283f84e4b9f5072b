//! Random damage to the files of a journal whose writer was killed: no panic, no signal, no wrong record, and whatever
//! lies in other segments is read as if nothing had happened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tripod_journal::{Error, Journal, Options, Sink};

use crate::support::{append, copy_dir, read_all, small};

#[derive(Debug, Clone)]
enum Harm {
    /// A bit of byte `at`.
    Flip { at: usize, bit: u8 },
    /// Random bytes from `at` on.
    Overwrite { at: usize, bytes: Vec<u8> },
    /// Only so many bytes are left.
    Truncate { len: usize },
    /// The file is random bytes altogether.
    Replace { bytes: Vec<u8> },
}

fn harms() -> impl Strategy<Value = Harm> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 1..most);
    prop_oneof![
        4 => (0..32 * 1024usize, 0..8u8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        2 => (0..1_300usize, 0..8u8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        2 => (0..32 * 1024usize, bytes(600)).prop_map(|(at, bytes)| Harm::Overwrite { at, bytes }),
        1 => (0..32 * 1024usize).prop_map(|len| Harm::Truncate { len }),
        1 => bytes(9_000).prop_map(|bytes| Harm::Replace { bytes }),
    ]
}

fn harm(file: &Path, harm: &Harm) {
    let mut content = std::fs::read(file).unwrap();
    match harm {
        Harm::Flip { at, bit } => {
            let at = at % content.len();
            content[at] ^= 1 << bit;
        }
        Harm::Overwrite { at, bytes } => {
            let at = at % content.len();
            content.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = *new);
        }
        Harm::Truncate { len } => content.truncate(*len % content.len()),
        Harm::Replace { bytes } => content.clone_from(bytes),
    }
    std::fs::write(file, content).unwrap();
}

/// A journal of several segments as a kill -9 leaves it, and which segment each record stands in.
fn origin() -> (tempfile::TempDir, BTreeMap<Vec<u8>, u64>) {
    let (live, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (journal, _) = Journal::open(small(live.path())).unwrap();
    let schema = journal.register("rows", "text").unwrap();
    for n in 0..500u64 {
        append(&journal, schema, &[&n.to_le_bytes()[..], &[4; 150]].concat()).unwrap();
    }
    copy_dir(live.path(), killed.path());
    let mut places = BTreeMap::new();
    Sink::open(live.path(), "places")
        .unwrap()
        .read(|record| {
            places.insert(record.payload.to_vec(), record.position.segment);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    (killed, places)
}

#[test]
fn random_damage_is_never_a_wrong_record_and_never_the_neighbours_loss() {
    let (killed, places) = origin();
    let segment_file = |dir: &Path, id: u64| dir.join(format!("segments/{id:016}.seg"));
    let used: Vec<u64> = places.values().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    assert!(used.len() >= 3);
    let files = prop_oneof![
        6 => (0..used.len()).prop_map(|n| (Some(n), "")),
        1 => prop_oneof![Just("catalog"), Just("counts"), Just("checkpoint.a"), Just("checkpoint.b")].prop_map(|name| (None, name)),
    ];
    let cases = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(cases, |((which, name) in files, what in harms())| {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(killed.path(), dir.path());
        let (hurt, file): (Option<u64>, PathBuf) = match which {
            Some(n) => (Some(used[n]), segment_file(dir.path(), used[n])),
            None => (None, dir.path().join(name)),
        };
        harm(&file, &what);
        // Refused by name, or opened; set aside where that is asked for.
        match Journal::open(small(dir.path())) {
            Ok(_) => {}
            Err(Error::Damaged { path, .. }) => prop_assert_eq!(&path, &file),
            Err(other) => return Err(TestCaseError::fail(format!("{other}"))),
        }
        let (journal, _) = Journal::open(Options { set_aside_damaged: true, ..small(dir.path()) }).unwrap();
        let mut sink = Sink::open(dir.path(), "all").unwrap();
        let mut read = BTreeMap::new();
        for (_, payload) in read_all(&mut sink) {
            prop_assert!(places.contains_key(&payload), "a record that nobody wrote");
            *read.entry(payload).or_insert(0) += 1;
        }
        prop_assert!(read.values().all(|times| *times == 1));
        for (payload, segment) in &places {
            prop_assert!(Some(*segment) == hurt || read.contains_key(payload), "a record of segment {} is missing", segment);
        }
        // And the journal goes on.
        let schema = journal.register("rows", "text").unwrap();
        append(&journal, schema, b"goes on").unwrap();
        prop_assert_eq!(read_all(&mut sink).len(), 1);
    });
}
