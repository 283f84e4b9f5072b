//! A sink: reads what is published, and commits how far it has come.
//!
//! # Constraints
//! - It works on mappings of its own, read-only: in the writer's process, in another, while the writer lives or after.
//! - It never shows a record that is not whole, and never skips one in silence.
//! - What it keeps in memory is bounded by the number of open segments.
//!
//! # Operation
//! Each [`Sink::read`] goes over all segments in id order that its read position has not finished, and takes from each
//! what is published. A segment is finished when the position reaches the end that its seal names. Where a seal names a
//! later end and no whole record follows, the segment is damaged: reading goes on in the others, see [`Sink::damage`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::cursor::Partial;
use crate::layout::{narrow, wide};
use crate::lock::LockFile;
use crate::record::{self, Found};
use crate::segment::{self, View};
use crate::slots::{self, SlotsFile};
use crate::{Cursor, Error, Position, SchemaId, boot, recover};

/// A record, as a sink sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What its payload is.
    pub schema: SchemaId,
    /// What `fill` wrote.
    pub payload: &'a [u8],
    /// Where it is.
    pub position: Position,
}

/// A place where a segment cannot be read further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// Its file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// One reader of a journal, with a cursor and a lock of its own.
#[derive(Debug)]
pub struct Sink {
    dir: PathBuf,
    segments: PathBuf,
    slots: SlotsFile,
    generation: u64,
    committed: Cursor,
    state: Vec<u8>,
    position: Cursor,
    /// Started segments that the position has not finished.
    views: BTreeMap<u64, View>,
    damage: Vec<Damage>,
    missed_segments: u64,
    _lock: LockFile,
}

enum Step {
    /// Nothing more in this segment for now.
    Next,
    /// `visit` said stop.
    Stop,
}

impl Sink {
    /// Takes this sink's lock and goes to its committed cursor. The journal must have been opened once by a writer.
    ///
    /// Where nobody has opened the journal since the machine was started, it is recovered first, as its writer would.
    pub fn open(dir: &Path, name: &str) -> Result<Self, Error> {
        Self::open_in(dir, name, boot::current())
    }

    pub(crate) fn open_in(dir: &Path, name: &str, boot: u64) -> Result<Self, Error> {
        slots::check_name(name)?;
        let (sinks, segments) = (dir.join("sinks"), dir.join("segments"));
        if !sinks.is_dir() || !segments.is_dir() {
            return Err(Error::Missing { path: dir.to_owned() });
        }
        recover::after_power_loss(dir, boot)?;
        let lock = LockFile::take(&sinks.join(format!("{name}.lock")))?;
        let (slots, commit) = SlotsFile::open(dir, name)?;
        let mut sink = Self {
            dir: dir.to_owned(),
            segments,
            slots,
            generation: commit.generation,
            position: commit.cursor.clone(),
            committed: commit.cursor,
            state: commit.state,
            views: BTreeMap::new(),
            damage: Vec::new(),
            missed_segments: 0,
            _lock: lock,
        };
        if sink.generation == 0 {
            sink.pass_what_was_deleted()?;
        }
        Ok(sink)
    }

    /// A sink that is new to an old journal, or goes back in it, starts with the segments that are still there. Returns
    /// how many it passed because they are gone.
    fn pass_what_was_deleted(&mut self) -> Result<u64, Error> {
        let highest = segment::list(&self.segments)?.last().copied().unwrap_or(0);
        let mut gone = 0;
        for id in self.position.lowest_open()..highest {
            // Asked one by one: a listing may miss what is made meanwhile, and ids below an existing one are settled.
            if !self.position.has_passed(id) && !segment::path_of(&self.segments, id).exists() {
                self.position.finish(id);
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// The journal's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The state stored with the last commit; empty before the first.
    pub fn state(&self) -> &[u8] {
        &self.state
    }

    /// The last committed cursor.
    pub fn committed(&self) -> &Cursor {
        &self.committed
    }

    /// The read position now.
    pub fn mark(&self) -> Cursor {
        self.position.clone()
    }

    /// Puts the read position to a mark, or to the committed cursor.
    pub fn seek(&mut self, cursor: &Cursor) {
        self.position = cursor.clone();
        self.damage.clear();
    }

    /// Puts the read position back to an earlier cursor, as far as the journal still goes back. Returns how many segments
    /// behind it were deleted since; [`Self::mark`] has passed them. Nothing is committed.
    pub fn rewind(&mut self, cursor: &Cursor) -> Result<u64, Error> {
        self.seek(cursor);
        self.pass_what_was_deleted()
    }

    /// Where reading is stuck. Records of other segments are read all the same.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Segments that were deleted before this sink read them; 0 for ever for a required sink.
    pub fn missed_segments(&self) -> u64 {
        self.missed_segments
    }

    /// How many segments behind the committed cursor were deleted unread; 0 for ever for a required sink.
    pub fn gone_segments(&self) -> Result<u64, Error> {
        let highest = segment::list(&self.segments)?.last().copied().unwrap_or(0);
        let gone = (self.committed.lowest_open()..highest)
            .filter(|id| !self.committed.has_passed(*id) && !segment::path_of(&self.segments, *id).exists());
        Ok(wide(gone.count()))
    }

    /// Stores cursor and state together: after this, both are what [`Sink::open`] finds, also after a kill -9 at any
    /// moment; a commit that is cut off leaves the one before. Costs one small write, no fsync.
    pub fn commit(&mut self, cursor: &Cursor, state: &[u8]) -> Result<(), Error> {
        self.slots.write(self.generation + 1, cursor, state)?;
        self.generation += 1;
        self.committed.clone_from(cursor);
        self.state.clear();
        self.state.extend_from_slice(state);
        Ok(())
    }

    /// Visits records from the read position on, segment by segment, until `visit` breaks or nothing published is
    /// left. Returns how many were consumed; the one on which `visit` breaks is not.
    pub fn read(&mut self, mut visit: impl FnMut(Record<'_>) -> ControlFlow<()>) -> Result<usize, Error> {
        let mut visited = 0;
        let highest = segment::list(&self.segments)?.last().copied().unwrap_or(0);
        for id in self.position.lowest_open()..=highest {
            if self.position.has_passed(id) {
                continue;
            }
            match self.read_segment(id, &mut visited, &mut visit) {
                Ok(Step::Next) => {}
                Ok(Step::Stop) => break,
                Err(Error::Damaged { path, offset, what }) => self.note(Damage { segment: id, path, offset, what }),
                Err(error) => return Err(error),
            }
        }
        Ok(visited)
    }

    fn note(&mut self, damage: Damage) {
        if !self.damage.contains(&damage) {
            let path = damage.path.display();
            tracing::error!(%path, offset = damage.offset, what = damage.what, "a segment cannot be read further");
            self.damage.push(damage);
        }
    }

    fn read_segment(
        &mut self,
        id: u64,
        visited: &mut usize,
        visit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<Step, Error> {
        let mut view = match self.views.remove(&id) {
            Some(view) => view,
            None => match View::open(&self.segments, id)? {
                Some(view) => view,
                None => {
                    // Ids get their files in order and a higher one exists: this one was deleted.
                    self.position.finish(id);
                    self.missed_segments += 1;
                    return Ok(Step::Next);
                }
            },
        };
        if view.started()?.is_none() {
            return Ok(Step::Next);
        }
        let data_start = view.header()?.data_start;
        let mut place =
            self.position.partial_of(id).unwrap_or(Partial { segment: id, offset: wide(data_start), records: 0 });
        let outcome = read_on(&view, &mut place, visited, visit);
        if place.records > 0 {
            self.position.advance(place);
        }
        match outcome {
            Ok(Reached::End) => {
                self.position.finish(id);
                Ok(Step::Next)
            }
            Ok(Reached::Published) => {
                self.views.insert(id, view);
                Ok(Step::Next)
            }
            Ok(Reached::Break) => {
                self.views.insert(id, view);
                Ok(Step::Stop)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives up the unreadable place in this segment: the read position moves to the next whole record behind it, or
    /// past the segment if there is none. Returns how many bytes were given up. The operator's decision, never ours.
    pub fn pass_over(&mut self, segment: u64) -> Result<u64, Error> {
        let Some(at) = self.damage.iter().position(|damage| damage.segment == segment) else { return Ok(0) };
        let damage = self.damage.remove(at);
        let Some(mut view) = View::open(&self.segments, segment)? else {
            self.position.finish(segment);
            return Ok(0);
        };
        let from = self.position.partial_of(segment).map_or(damage.offset, |partial| partial.offset);
        let end = view.sealed().ok().flatten().map_or(view.map.len(), |sealed| sealed.end);
        let behind =
            view.header().is_ok().then(|| record::find_whole(&view.map, view.seed, narrow(from) + 8, end)).flatten();
        let Some(behind) = behind else {
            self.position.finish(segment);
            return Ok(wide(end).saturating_sub(from));
        };
        let records = self.position.partial_of(segment).map_or(0, |partial| partial.records);
        self.position.advance(Partial { segment, offset: wide(behind), records });
        Ok(wide(behind).saturating_sub(from))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// What its seal calls the end.
    End,
    /// The last record published so far.
    Published,
    /// `visit` broke.
    Break,
}

/// What reading goes over.
pub(crate) trait Published {
    fn segment(&self) -> u64;

    fn look(&self, offset: usize) -> Found<'_>;

    /// Where its seal says that it ends; `None` while it is open.
    fn sealed_end(&self) -> Result<Option<usize>, Error>;

    fn damaged(&self, offset: usize, what: String) -> Error;
}

impl Published for View {
    fn segment(&self) -> u64 {
        self.id
    }

    fn look(&self, offset: usize) -> Found<'_> {
        record::look(&self.map, self.seed, offset)
    }

    fn sealed_end(&self) -> Result<Option<usize>, Error> {
        Ok(self.sealed()?.map(|sealed| sealed.end))
    }

    fn damaged(&self, offset: usize, what: String) -> Error {
        Error::damaged(&self.path, offset, what)
    }
}

/// Reads what is published from `place` on.
pub(crate) fn read_on(
    view: &impl Published,
    place: &mut Partial,
    visited: &mut usize,
    visit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
) -> Result<Reached, Error> {
    let mut seal_seen = false;
    // Behind a seal may stand what a power loss left there: whole, and yet given up.
    let end = view.sealed_end()?;
    loop {
        let offset = narrow(place.offset);
        if end.is_some_and(|end| end <= offset) {
            return Ok(Reached::End);
        }
        match view.look(offset) {
            Found::Whole { schema, payload, next } => {
                let position = Position { segment: view.segment(), offset: place.offset };
                if visit(Record { schema, payload, position }).is_break() {
                    return Ok(Reached::Break);
                }
                *visited += 1;
                place.offset = wide(next);
                place.records += 1;
            }
            Found::Nothing | Found::Broken => match view.sealed_end()? {
                // Not whole in an open segment: being written, or torn by a crash that no writer has looked at yet.
                None => return Ok(Reached::Published),
                // Beyond it: this sink had passed what a power loss took, and no checkpoint knew of that.
                Some(end) if end <= offset => return Ok(Reached::End),
                // Records may have been published between the look at the record and the look at the seal.
                Some(_) if !seal_seen => seal_seen = true,
                Some(end) => {
                    let what = format!("no whole record here, though the segment ends at {end}");
                    return Err(view.damaged(offset, what));
                }
            },
        }
    }
}
