//! The writer's counts beside one sink's progress, exactly, from any process and without a lock.
//!
//! # Constraints
//! - recorded = pending + what the sink's state says it has passed + dropped, per schema, at every moment: while
//!   recorders record, the sink commits and the keeper deletes; and after any of them was killed.
//! - Time is proportional to the number of segments and to what is pending in open ones, not to the backlog.
//!
//! # Operation
//! First the commit (cursor and state), then the counts, then the list of segments. Counts are of an exact prefix of each
//! lane: records beyond it are left out. The sink may have passed a record that was not counted yet at that moment; then
//! the cursor lies beyond the prefix and that record is added. A segment that vanished was passed by a later commit:
//! then everything is read again.

use std::path::Path;

use crate::catalog::{SCHEMAS_MAX, SchemaId};
use crate::counts::{CountsSnapshot, Table, empty_table, listed};
use crate::cursor::Partial;
use crate::layout::{narrow, wide};
use crate::record::{self, Found};
use crate::segment::{self, View};
use crate::slots::{self, Commit};
use crate::{Cursor, Error, format};

/// A sink that commits and a keeper that deletes faster than a snapshot reads do not do so this often in a row.
const TRIES_MAX: usize = 32;

/// The counts of a journal as one sink sees them. Lists hold the schemas with a count that is not zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Per schema: records ever, the dropped ones included.
    pub recorded: Vec<(SchemaId, u64)>,
    /// Per schema: records dropped by their recorder.
    pub dropped: Vec<(SchemaId, u64)>,
    /// Per schema: records beyond the sink's committed cursor.
    pub pending: Vec<(SchemaId, u64)>,
    /// The sink's committed cursor.
    pub cursor: Cursor,
    /// The state it committed with that cursor.
    pub state: Vec<u8>,
    /// Segments that were deleted before the sink passed them, and that no commit has passed yet.
    pub gone_segments: u64,
    /// Segments in which damage was met: their records before it are counted as pending, those behind it are not.
    pub damaged_segments: Vec<u64>,
}

impl Snapshot {
    /// Reads the journal in `dir` as sink `sink` sees it. For a sink that never committed, everything is pending.
    pub fn read(dir: &Path, sink: &str) -> Result<Self, Error> {
        format::check(dir)?;
        let mut gone_at = None;
        for _ in 0..TRIES_MAX {
            let commit = slots::read(dir, sink)?.unwrap_or_default();
            // Segments are missing, and yet no later commit has passed them: they were deleted unread (a sink that is
            // not required), which counts as passed.
            let generation = commit.generation;
            let accept_gone = gone_at == Some(generation);
            gone_at = Some(generation);
            let Some(snapshot) = Attempt::new(dir, commit)?.run(accept_gone)? else { continue };
            if !accept_gone || slots::read(dir, sink)?.map_or(0, |now| now.generation) == generation {
                return Ok(snapshot);
            }
        }
        Err(Error::Deadline { what: "a snapshot beside a sink that commits all the time", deadline_ms: 0 })
    }
}

struct Attempt {
    segments: std::path::PathBuf,
    commit: Commit,
    counts: CountsSnapshot,
    pending: Table,
    gone_segments: u64,
    damaged_segments: Vec<u64>,
}

impl Attempt {
    fn new(dir: &Path, commit: Commit) -> Result<Self, Error> {
        Ok(Self {
            segments: dir.join("segments"),
            commit,
            counts: CountsSnapshot::read(dir)?,
            pending: empty_table(),
            gone_segments: 0,
            damaged_segments: Vec::new(),
        })
    }

    /// `None` where a segment vanished meanwhile.
    fn run(mut self, accept_gone: bool) -> Result<Option<Snapshot>, Error> {
        let highest = segment::list(&self.segments)?.last().copied().unwrap_or(0);
        for id in self.commit.cursor.lowest_open()..=highest {
            if self.commit.cursor.has_passed(id) {
                continue;
            }
            let Some(view) = View::open(&self.segments, id)? else {
                if accept_gone {
                    self.gone_segments += 1;
                    continue;
                }
                return Ok(None);
            };
            match self.count(view) {
                Ok(()) => {}
                Err(Error::Damaged { .. }) => self.damaged_segments.push(id),
                Err(error) => return Err(error),
            }
        }
        let counts = self.counts.public();
        Ok(Some(Snapshot {
            recorded: counts.recorded,
            dropped: counts.dropped,
            pending: listed(&self.pending),
            cursor: self.commit.cursor,
            state: self.commit.state,
            gone_segments: self.gone_segments,
            damaged_segments: self.damaged_segments,
        }))
    }

    fn count(&mut self, mut view: View) -> Result<(), Error> {
        let Some(started) = view.started()? else { return Ok(()) };
        let data_start = view.header()?.data_start;
        let total = self.counts.totals.get(started.lane).copied().unwrap_or(0);
        // Records of this segment that the counts know of.
        let counted = total.saturating_sub(started.first_record);
        let passed = self.commit.cursor.partial_of(view.id);
        let sealed = view.sealed()?;
        if passed.is_none()
            && let Some(sealed) = sealed
            && sealed.records <= counted
        {
            for (pending, count) in self.pending.iter_mut().zip(view.sealed_counts()) {
                *pending += u64::from(count);
            }
            return Ok(());
        }
        let start = Partial { segment: view.id, offset: wide(data_start), records: 0 };
        let place = passed.unwrap_or(start);
        if place.records > counted {
            let mut late = empty_table();
            walk(&view, start, place.records, |number, schema| {
                if number >= counted {
                    late[schema] += 1;
                }
            });
            for (recorded, late) in self.counts.recorded.iter_mut().zip(late.iter()) {
                *recorded += late;
            }
            return Ok(());
        }
        let pending = &mut self.pending;
        let reached = walk(&view, place, counted, |_, schema| pending[schema] += 1);
        if sealed.is_some_and(|sealed| reached.offset < wide(sealed.end) && reached.records < counted) {
            return Err(Error::damaged(&view.path, narrow(reached.offset), "no whole record here"));
        }
        Ok(())
    }
}

/// Calls `each` with the number and schema of every record from `from` to the `until`-th; returns where it stopped.
fn walk(view: &View, from: Partial, until: u64, mut each: impl FnMut(u64, usize)) -> Partial {
    let mut place = from;
    while place.records < until {
        let Found::Whole { schema, next, .. } = record::look(&view.map, view.seed, narrow(place.offset)) else { break };
        if schema.index() < SCHEMAS_MAX {
            each(place.records, schema.index());
        }
        place.offset = wide(next);
        place.records += 1;
    }
    place
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::time::Duration;

    use super::*;
    use crate::{Journal, Options, Sink};

    #[test]
    fn a_sink_that_goes_back_past_what_was_deleted_gets_the_rest_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            segment_bytes: 32 * 1024,
            budget_bytes: 1 << 20,
            keep: Duration::ZERO,
            required_sinks: vec!["s".into()],
            ..Options::new(dir.path())
        };
        let (journal, _) = Journal::open(options).unwrap();
        let schema = journal.register("rows", "").unwrap();
        for _ in 0..500 {
            journal.append(schema, 200, |_| Ok::<(), ()>(())).unwrap();
        }
        let mut sink = Sink::open(dir.path(), "s").unwrap();
        sink.read(|_| ControlFlow::Continue(())).unwrap();
        let end = sink.mark();
        assert_eq!(sink.rewind(&Cursor::default()).unwrap(), 0);
        assert_eq!(sink.read(|_| ControlFlow::Continue(())).unwrap(), 500, "nothing was deleted yet");
        sink.commit(&end, b"500").unwrap();
        journal.tend(Duration::from_secs(30)).unwrap();
        assert!(sink.rewind(&Cursor::default()).unwrap() > 0);
        let from = sink.mark();
        let again = sink.read(|_| ControlFlow::Continue(())).unwrap();
        assert!((1..500).contains(&again), "{again} records");
        assert_eq!((sink.missed_segments(), sink.mark()), (0, end));
        sink.commit(&from, b"back").unwrap();
        let pending = Snapshot::read(dir.path(), "s").unwrap().pending;
        assert_eq!(pending, [(schema, u64::try_from(again).unwrap())]);
    }

    #[test]
    fn a_segment_that_is_passed_and_deleted_while_a_snapshot_reads_makes_it_start_over() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            segment_bytes: 32 * 1024,
            budget_bytes: 1 << 20,
            keep: Duration::ZERO,
            required_sinks: vec!["s".into()],
            ..Options::new(dir.path())
        };
        let (journal, _) = Journal::open(options).unwrap();
        let schema = journal.register("rows", "").unwrap();
        for _ in 0..500 {
            journal.append(schema, 200, |_| Ok::<(), ()>(())).unwrap();
        }
        let begun = Attempt::new(dir.path(), Commit::default()).unwrap();
        let mut sink = Sink::open(dir.path(), "s").unwrap();
        assert_eq!(sink.read(|_| ControlFlow::Continue(())).unwrap(), 500);
        let mark = sink.mark();
        sink.commit(&mark, b"500").unwrap();
        journal.tend(Duration::from_secs(30)).unwrap();
        assert!(begun.run(false).unwrap().is_none());
        let snapshot = Snapshot::read(dir.path(), "s").unwrap();
        assert_eq!(
            (snapshot.recorded, snapshot.pending, snapshot.state),
            (vec![(schema, 500)], vec![], b"500".to_vec())
        );
    }
}
