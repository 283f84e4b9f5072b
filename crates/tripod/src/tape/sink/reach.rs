//! Whether a journal still has everything that a sink delivered after a moment: asked when its server was put back to it.
//!
//! Constraints: from any process, beside a sink that runs or after it ended; no lock, nothing is changed. It says *whole*
//! only where the sink's own history names a place in the journal from before that moment, and no segment behind it is
//! gone; so a sink that goes back has all of it.

use std::path::Path;
use std::time::SystemTime;

use tripod_journal::{Cursor, Inventory};

use super::history;
use crate::error::Result;
use crate::tape::spec::Importance;
use crate::value::Timestamp;

/// How far back one sink's journal reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reach {
    /// The sink's name in the config.
    pub sink: String,
    /// The class of the journal.
    pub class: Importance,
    /// Everything that was delivered after the moment is still there.
    pub whole: bool,
    /// When the journal was made; none where the file system does not know.
    pub begun_at: Option<Timestamp>,
}

/// How far back the journal in `dir` reaches for `sink`.
pub(in crate::tape) fn look(dir: &Path, sink: &str, class: Importance, since: Timestamp) -> Result<Reach> {
    let begun_at = std::fs::metadata(dir.join("segments"))
        .and_then(|meta| meta.created())
        .ok()
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        .and_then(|age| Timestamp::EPOCH.checked_add(age));
    let entries = history::entries(dir, sink)?;
    let cursor = entries.iter().rev().find(|entry| entry.at() <= since).map(|entry| entry.cursor.clone());
    let was_there = begun_at.is_none_or(|begun_at| begun_at <= since);
    // A sink that had looked at nothing by then goes back to the first segment.
    let whole = was_there && none_is_gone(&cursor.unwrap_or_default(), dir)?;
    Ok(Reach { sink: sink.to_owned(), class, whole, begun_at })
}

/// Whether every segment that the cursor has not passed is there, up to the newest one.
fn none_is_gone(cursor: &Cursor, dir: &Path) -> Result<bool> {
    let there: Vec<u64> = Inventory::read(dir)?.segments.iter().map(|segment| segment.id).collect();
    let Some(newest) = there.last() else { return Ok(false) };
    Ok((1..*newest).all(|id| cursor.has_passed(id) || there.binary_search(&id).is_ok()))
}

#[cfg(test)]
mod tests {
    use tripod_journal::{Journal, Options, Sink};

    use super::*;

    fn write(journal: &Journal, rows: usize) {
        let schema = journal.register("t", "{}").unwrap();
        for _ in 0..rows {
            journal
                .append(schema, 1000, |out| {
                    out.fill(7);
                    Ok::<(), std::convert::Infallible>(())
                })
                .unwrap();
        }
    }

    #[test]
    fn a_journal_that_lost_a_segment_or_began_later_is_not_whole() {
        let dir = tempfile::tempdir().unwrap();
        let before = Timestamp::now().checked_sub(std::time::Duration::from_secs(60)).unwrap();
        let options = Options { segment_bytes: 1 << 16, ..Options::new(dir.path()) };
        let (journal, _) = Journal::open(options).unwrap();
        write(&journal, 300);
        let sink = Sink::open(dir.path(), "main").unwrap();
        drop(sink);
        let look = |since| look(dir.path(), "main", Importance::Critical, since).unwrap();

        let now = Timestamp::now();
        assert!(look(now).whole);
        let early = look(before);
        assert!(!early.whole && early.begun_at > Some(before), "{early:?}");

        let first = Inventory::read(dir.path()).unwrap().segments[0].path.clone();
        std::fs::remove_file(first).unwrap();
        assert!(!look(now).whole);
    }
}
