//! A journal's files as an operator looks at them: what there is, and whether each record is whole.
//!
//! # Constraints
//! - From any process, beside a writer that writes or after it died; no lock, nothing is changed.
//! - [`verify`] reads every byte of every record and believes no mark: what a seal says is counted again.
//! - A record that is published while it is looked at is no damage, nor is a segment that is deleted meanwhile.

use std::path::{Path, PathBuf};

use crate::catalog::{Catalog, SCHEMAS_MAX};
use crate::layout::wide;
use crate::reader::Damage;
use crate::record::{self, Found};
use crate::segment::{self, SchemaCounts, Sealed, View};
use crate::{Cursor, Error, format, slots};

/// Where a segment stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentState {
    /// Made ahead; no record in it yet.
    Spare,
    /// A lane writes to it, or did when its writer died.
    Open,
    /// Complete.
    Sealed,
    /// Its header cannot be read; [`verify`] says why.
    Damaged,
}

/// One segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its id.
    pub id: u64,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// Where it stands.
    pub state: SegmentState,
    /// How many records a sealed one has.
    pub records: Option<u64>,
}

/// One sink that has a cursor on the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkProgress {
    /// Its name.
    pub name: String,
    /// What it has passed.
    pub cursor: Cursor,
    /// Bytes of segments that it has not finished; spares are not among them.
    pub undelivered_bytes: u64,
}

/// What is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// In the order of their ids.
    pub segments: Vec<Segment>,
    /// In the order of their names.
    pub sinks: Vec<SinkProgress>,
}

impl Inventory {
    /// Lists the journal in `dir`.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        format::check(dir)?;
        // First the cursors: a segment that is deleted afterwards was passed by all that held it.
        let mut passed = Vec::new();
        for name in slots::names(dir)? {
            if let Some(commit) = slots::read(dir, &name)? {
                passed.push((name, commit.cursor));
            }
        }
        let folder = dir.join("segments");
        let mut segments = Vec::new();
        for id in segment::list(&folder)? {
            segments.extend(look(&folder, id)?);
        }
        let used = |segment: &&Segment| segment.state != SegmentState::Spare;
        let sinks = passed
            .into_iter()
            .map(|(name, cursor)| {
                let waiting = segments.iter().filter(used).filter(|segment| !cursor.has_passed(segment.id));
                let undelivered_bytes = waiting.map(|segment| segment.bytes).sum();
                SinkProgress { name, cursor, undelivered_bytes }
            })
            .collect();
        Ok(Self { segments, sinks })
    }
}

fn look(folder: &Path, id: u64) -> Result<Option<Segment>, Error> {
    let path = segment::path_of(folder, id);
    let bytes = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("look at", &path)(error)),
    };
    let marks = || -> Result<Option<_>, Error> {
        let Some(view) = View::open(folder, id)? else { return Ok(None) };
        Ok(Some((view.started()?, view.sealed()?)))
    };
    let (state, records) = match marks() {
        Ok(None) => return Ok(None),
        Ok(Some((None, _))) => (SegmentState::Spare, None),
        Ok(Some((Some(_), None))) => (SegmentState::Open, None),
        Ok(Some((Some(_), Some(sealed)))) => (SegmentState::Sealed, Some(sealed.records)),
        Err(Error::Damaged { .. }) => (SegmentState::Damaged, None),
        Err(error) => return Err(error),
    };
    Ok(Some(Segment { id, path, bytes, state, records }))
}

/// What [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segment files that were walked.
    pub segments: u64,
    /// Whole records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Every place that is not as it was written.
    pub damage: Vec<Damage>,
}

/// Reads the catalog, every cursor and every record of the journal in `dir`, and checks their checksums. Calls `walked`
/// with the bytes of each segment when it is done.
pub fn verify(dir: &Path, mut walked: impl FnMut(u64)) -> Result<Verified, Error> {
    format::check(dir)?;
    let mut verified = Verified::default();
    note(Catalog::read(dir).map(drop), 0, &mut verified)?;
    for name in slots::names(dir)? {
        note(slots::read(dir, &name).map(drop), 0, &mut verified)?;
    }
    let folder = dir.join("segments");
    for id in segment::list(&folder)? {
        let opened = match View::open(&folder, id) {
            Ok(None) => continue,
            Ok(Some(view)) => Ok(view),
            Err(error) => Err(error),
        };
        let bytes = std::fs::metadata(segment::path_of(&folder, id)).map_or(0, |metadata| metadata.len());
        note(opened.and_then(|view| walk(view, &mut verified)), id, &mut verified)?;
        verified.segments += 1;
        verified.bytes += bytes;
        walked(bytes);
    }
    Ok(verified)
}

/// Damage is a finding; anything else ends it.
fn note(outcome: Result<(), Error>, segment: u64, verified: &mut Verified) -> Result<(), Error> {
    match outcome {
        Err(Error::Damaged { path, offset, what }) => {
            verified.damage.push(Damage { segment, path, offset, what });
            Ok(())
        }
        outcome => outcome,
    }
}

fn walk(mut view: View, verified: &mut Verified) -> Result<(), Error> {
    let mut offset = view.header()?.data_start;
    if view.started()?.is_none() {
        return Ok(());
    }
    let mut counts: Box<SchemaCounts> = Box::new([0; SCHEMAS_MAX]);
    let mut records = 0;
    let mut whole = true;
    loop {
        // Read before the record: one that is published later than the seal cannot be.
        let sealed = view.sealed()?;
        if sealed.is_some_and(|sealed| sealed.end <= offset) {
            break;
        }
        match record::look(&view.map, view.seed, offset) {
            Found::Whole { schema, next, .. } => {
                records += 1;
                if let Some(count) = counts.get_mut(schema.index()) {
                    *count += 1;
                }
                offset = next;
            }
            found => {
                let is_nothing = matches!(found, Found::Nothing);
                let end = sealed.map_or(view.map.len(), |sealed| sealed.end);
                let behind = record::find_whole(&view.map, view.seed, offset + 8, end);
                if matches!(record::look(&view.map, view.seed, offset), Found::Whole { .. }) {
                    // Published in between.
                    continue;
                }
                if behind.is_none() && is_nothing && sealed.is_none() {
                    break;
                }
                whole = false;
                let what = describe(behind, offset, sealed);
                verified.damage.push(Damage { segment: view.id, path: view.path.clone(), offset: wide(offset), what });
                let Some(behind) = behind else { break };
                offset = behind;
            }
        }
    }
    verified.records += records;
    if let Some(sealed) = view.sealed()?
        && whole
        && (sealed.records != records || *counts != view.sealed_counts())
    {
        let what = format!("the seal counts {} records, and {records} are there", sealed.records);
        return Err(Error::damaged(&view.path, offset, what));
    }
    Ok(())
}

fn describe(behind: Option<usize>, offset: usize, sealed: Option<Sealed>) -> String {
    match (behind, sealed) {
        (Some(behind), _) => {
            format!("no whole record here; the next one begins {} bytes on", behind.saturating_sub(offset))
        }
        (None, Some(sealed)) => format!("no whole record here, though the segment ends at {}", sealed.end),
        (None, None) => "the last record is not whole: it was torn by a power loss, or changed since".to_owned(),
    }
}
