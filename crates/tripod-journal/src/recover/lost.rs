//! The first open after a power loss: where each lane ends, what was counted by then, how far each sink may say it is.
//!
//! # Constraints
//! - Only what the keeper had not noted as synced is ever cut, and only from the first hole of its lane on.
//! - Counts become the checkpoint's, plus the records behind them: exact, whatever the kernel wrote of the counts file.
//! - A cursor that lies past the end of its lane, or cannot be read, or is older than the checkpoint's, becomes the
//!   checkpoint's. Its sink then reads some records again, which its own keys have to bear.
//! - An id is not used again where a cursor knew it but the power loss left no file of it. Every cursor passes such ids:
//!   what they held counts as never recorded, so no sink may call it missed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Difference, Filled, Recovery, records_from, used_bytes, walk};
use crate::catalog::{Catalog, SCHEMAS_MAX, SchemaId};
use crate::checkpoint::Checkpoint;
use crate::counts::{CountsFile, Table, empty_table};
use crate::layout::{narrow, now_ns, wide};
use crate::mapping::WritableMap;
use crate::options::LANES_MAX;
use crate::record::{self, Found};
use crate::segment::{self, Header, Made, Sealed, Started, View};
use crate::slots::{self, Commit, SlotsFile};
use crate::{Cursor, Error, boot, disk};

/// Where the records of each segment that was cut end.
pub(super) type Ends = BTreeMap<u64, u64>;

/// What is known from before the power loss, if there was one.
#[derive(Debug)]
pub(super) struct Lost {
    checkpoint: Option<Checkpoint>,
    boot: u64,
}

impl Filled {
    fn records(&self) -> u64 {
        self.state.as_ref().map_or_else(|walked| walked.records, |sealed| sealed.records)
    }

    fn end_record(&self) -> u64 {
        self.started.first_record.saturating_add(self.records())
    }

    fn view(&self) -> Result<Option<View>, Error> {
        View::open(self.path.parent().unwrap_or(Path::new("")), self.id)
    }
}

impl Lost {
    pub(super) fn new(checkpoint: Option<Checkpoint>, boot: u64) -> Self {
        Self { checkpoint, boot }
    }

    /// The journal was last used in another boot of the machine.
    pub(super) fn is_so(&self, filled: &[Filled]) -> bool {
        match &self.checkpoint {
            Some(checkpoint) => boot::is_another(checkpoint.boot, self.boot),
            None => filled.iter().any(|one| one.doubtful),
        }
    }

    fn counted(&self, lane: usize) -> Table {
        let known = self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.lane(lane));
        known.map_or_else(empty_table, |counts| counts.recorded.clone())
    }

    /// Ends each lane at its first hole.
    pub(super) fn cut(&self, filled: &mut [Filled], recovery: &mut Recovery) -> Result<Ends, Error> {
        let mut ends = Ends::new();
        // Per lane: how many records it has so far; `None` behind a hole.
        let mut reached: BTreeMap<usize, Option<u64>> = BTreeMap::new();
        // And how many it keeps, once there is one.
        let mut behind_hole: BTreeMap<usize, u64> = BTreeMap::new();
        for one in filled.iter_mut() {
            let lane = one.started.lane;
            let counted = self.counted(lane).iter().sum::<u64>();
            let so_far = reached.entry(lane).or_insert(Some(0));
            if one.doubtful {
                let follows = so_far.is_some_and(|records| one.started.first_record <= records.max(counted));
                if !follows {
                    let keeps = so_far.map_or(0, |records| records.max(counted));
                    give_up(one, behind_hole.get(&lane).copied().unwrap_or(keeps))?;
                }
                if let Err(walked) = &one.state {
                    recovery.cut_records += walked.lost_records;
                    if one.sealed_end != Some(walked.end) || !follows {
                        ends.insert(one.id, wide(walked.end));
                    }
                    if !follows || walked.lost_records > 0 {
                        behind_hole.entry(lane).or_insert(one.end_record());
                        *so_far = None;
                        continue;
                    }
                }
            }
            *so_far = Some(one.end_record());
        }
        Ok(ends)
    }

    /// Sets each lane's counts to what is there.
    pub(super) fn mend_counts(
        &self,
        counts: &CountsFile,
        filled: &[Filled],
        recovery: &mut Recovery,
    ) -> Result<(), Error> {
        // All of them: the counts may know a lane of which nothing else is left.
        let mut lanes: Vec<Vec<&Filled>> = (0..LANES_MAX).map(|_| Vec::new()).collect();
        for one in filled {
            lanes[one.started.lane].push(one);
        }
        for (lane, segments) in lanes.into_iter().enumerate() {
            let mut table = self.counted(lane);
            let mut number = table.iter().sum::<u64>();
            let mut gap = false;
            for one in segments {
                if one.end_record() <= number || gap {
                    continue;
                }
                gap = one.started.first_record > number;
                if !gap {
                    add_from(one, number, &mut table)?;
                    number = one.end_record();
                }
            }
            if gap {
                // No checkpoint goes back that far (`Sync::Process`, or files of an earlier release).
                let found = filled.iter().filter(|one| one.started.lane == lane).map(Filled::end_record).max();
                let counted = counts.total(lane);
                if found.is_some_and(|found| found != counted) {
                    recovery.differences.push(Difference { lane, counted, found: found.unwrap_or(0) });
                }
                continue;
            }
            counts.set_lane(lane, &table);
        }
        for (schema, count) in self.checkpoint.iter().flat_map(|checkpoint| &checkpoint.dropped) {
            counts.raise_dropped(SchemaId(*schema), *count);
        }
        Ok(())
    }

    /// Puts back the cursors that a power loss left in no sound state. `next_id`: the ids from `highest` up to it had
    /// segments of which nothing is left.
    pub(super) fn mend_cursors(
        &self,
        dir: &Path,
        (highest, next_id): (u64, u64),
        ends: &Ends,
        recovery: &mut Recovery,
    ) -> Result<(), Error> {
        let mut names = slots::names(dir)?;
        names.extend(
            self.checkpoint.iter().flat_map(|checkpoint| checkpoint.sinks.iter().map(|(name, _)| name.clone())),
        );
        names.sort();
        names.dedup();
        for name in names {
            let known = self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.commit_of(&name));
            let newer = |commit: &Commit| known.is_none_or(|known| known.generation <= commit.generation);
            let sound = match slots::read(dir, &name) {
                Ok(Some(commit)) => Some(commit).filter(|c| newer(c) && !lies_past(&c.cursor, highest, ends)),
                Ok(None) if known.is_none() => continue,
                Ok(None) | Err(Error::Damaged { .. }) => None,
                Err(error) => return Err(error),
            };
            // Also where it is sound: the other slot may be half of a commit, which later bytes could make whole.
            let mut commit = sound.as_ref().or(known).cloned().unwrap_or_default();
            commit.cursor.finish_all(highest + 1, next_id - 1);
            SlotsFile::restore(dir, &name, &commit)?;
            if sound.is_none() {
                recovery.cursors_restored.push(name);
            }
        }
        Ok(())
    }
}

/// True if it has passed a record that is not there any more.
fn lies_past(cursor: &Cursor, highest: u64, ends: &Ends) -> bool {
    // Beyond the highest: of some segment not even the name was left.
    cursor.highest() > highest || ends.iter().any(|(id, end)| cursor.goes_beyond(*id, *end))
}

/// Where the header of a segment was torn that nobody synced, it gets one without a catalog: what it held is lost, but
/// its place in its lane is kept. True if it did.
pub(super) fn repair_header(view: &mut View, boot: u64) -> Result<bool, Error> {
    let torn = boot::is_another(view.boot(), boot) && view.synced() == 0 && view.header().is_err();
    if !torn || !matches!(view.started(), Ok(Some(_))) {
        return Ok(false);
    }
    let file = OpenOptions::new().write(true).open(&view.path).map_err(Error::io("open", &view.path))?;
    let made = Made { id: view.id, at_ns: now_ns(), segment_bytes: wide(view.map.len()), boot: view.boot() };
    Header::write(&file, made, &Catalog::default().encode()).map_err(Error::io("write", &view.path))?;
    Ok(true)
}

/// Makes a segment a spare again that was started, without the disk having been told. Returns how many whole records
/// are lost with that.
pub(super) fn wipe(segments: &Path, id: u64) -> Result<u64, Error> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let Some(view) = View::open(segments, id)? else { return Ok(0) };
    let lost = records_from(&view, segment::WORDS_END, used_bytes(&view.map, segment::WORDS_END));
    let file = OpenOptions::new().write(true).open(&view.path).map_err(Error::io("open", &view.path))?;
    let mut at = segment::WORDS_END;
    while at < view.map.len() {
        let len = (view.map.len() - at).min(ZEROS.len());
        file.write_all_at(&ZEROS[..len], wide(at)).map_err(Error::io("write", &view.path))?;
        at += len;
    }
    // Before it is used: an older record that came back with the next power loss would be in its right place.
    disk::sync_file(&file, &view.path).map_err(Error::io("sync", &view.path))?;
    Ok(lost)
}

/// Ends a spare that has a lower id than a segment with records, as an empty one of that segment's lane: a power loss took
/// the mark that it was started. Used again, it would stand before older records of its lane; removed, be called missed.
pub(super) fn close_unused(segments: &Path, id: u64, next: Started, boot: u64) -> Result<(), Error> {
    let path = segment::path_of(segments, id);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
    let bytes = file.metadata().map_err(Error::io("look at", &path))?.len();
    let catalog = Catalog::default().encode();
    let made = Made { id, at_ns: now_ns(), segment_bytes: bytes, boot };
    Header::write(&file, made, &catalog).map_err(Error::io("write", &path))?;
    let map = WritableMap::new(&file, narrow(bytes), segment::WORDS_END).map_err(Error::io("map", &path))?;
    let end = segment::data_start(catalog.len());
    segment::store_started(&map, id, next);
    segment::store_sealed(&map, id, Sealed { end, records: 0, at_ns: now_ns() }, &[0; SCHEMAS_MAX]);
    segment::store_synced(&map, end);
    disk::sync_map(&map, &path, 0, end).map_err(Error::io("sync", &path))
}

/// None of its records follow on what its lane has.
fn give_up(one: &mut Filled, lane_keeps: u64) -> Result<(), Error> {
    one.moved = one.started.first_record != lane_keeps;
    one.started.first_record = lane_keeps;
    let Some(view) = one.view()? else { return Ok(()) };
    let whole = walk(&view, one.data_start, None, Some(0));
    let mut nothing = walk(&view, one.data_start, Some(one.data_start), Some(0));
    nothing.lost_records = whole.records + whole.lost_records;
    nothing.cut_bytes = whole.cut_bytes + wide(whole.end.saturating_sub(one.data_start));
    one.state = Err(nothing);
    Ok(())
}

/// Adds the records of a segment from the lane's `number`-th on.
fn add_from(one: &Filled, number: u64, table: &mut Table) -> Result<(), Error> {
    let Some(view) = one.view()? else { return Ok(()) };
    let (mut at, mut offset) = (one.started.first_record, one.data_start);
    let end = one.state.as_ref().map_or_else(|walked| walked.end, |sealed| sealed.end);
    while offset < end {
        match record::look(&view.map, view.seed, offset) {
            Found::Whole { schema, next, .. } => {
                if at >= number
                    && let Some(count) = table.get_mut(schema.index())
                {
                    *count += 1;
                }
                at += 1;
                offset = next;
            }
            // Damage in a part that was synced: counted by the seal, skipped here as the walk did.
            Found::Nothing | Found::Broken => match record::find_whole(&view.map, view.seed, offset + 8, end) {
                Some(behind) => offset = behind,
                None => break,
            },
        }
    }
    Ok(())
}
