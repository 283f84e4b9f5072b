//! What the tests share: small journals, and ways to read one back.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use tripod_journal::{AppendError, Journal, Options, SchemaId, Sink, Sync};

/// Every wait in these tests ends by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const SEGMENT_BYTES: u64 = 32 * 1024;

/// Segments so small that every test crosses many.
pub(crate) fn small(dir: &Path) -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        budget_bytes: SEGMENT_BYTES * 4096,
        sync: Sync::Process,
        ..Options::new(dir)
    }
}

pub(crate) fn append(journal: &Journal, schema: SchemaId, payload: &[u8]) -> Result<(), AppendError<Infallible>> {
    journal.append(schema, payload.len(), |out| {
        out.copy_from_slice(payload);
        Ok(())
    })
}

/// Everything from the sink's read position on.
pub(crate) fn read_all(sink: &mut Sink) -> Vec<(SchemaId, Vec<u8>)> {
    let mut records = Vec::new();
    let visited = sink
        .read(|record| {
            records.push((record.schema, record.payload.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(visited, records.len());
    records
}

/// The directory as a kill -9 right now would leave it: what is mapped and not synced included, locks not.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), target) {
                Ok(_) => {}
                // The keeper gave a file its name meanwhile: a spare, which a kill a moment earlier would not have left.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Waits for a condition that other threads bring about.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{what} did not happen within {DEADLINE:?}");
        std::thread::yield_now();
    }
}
