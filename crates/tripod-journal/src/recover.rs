//! What opening a journal finds, closes and reports.
//!
//! # Constraints
//! - No record is ever rewritten, moved or cut. A segment that was open is sealed where its whole records end.
//! - What cannot be explained by a crash is reported, never repaired in silence: a file that cannot be read refuses the
//!   start (or is set aside where asked for), counts that differ by more than one record stay as they are.
//! - It may itself be killed, or lose its power, at any point, and then starts over with the same result.
//! - A power loss takes a *suffix* of each lane, never a part from its middle: where what was not synced has a hole, the
//!   lane ends before it, and what stands behind is given up, counted in [`Recovery::cut_records`].
//!
//! # Operation
//! Every segment is looked at by its header only; only those that a dead writer left open are walked. In another boot of
//! the machine so are those that the keeper had not noted as synced, and counts and cursors are put right: `lost.rs`.

mod lost;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::catalog::{self, Catalog, SCHEMAS_MAX, SchemaId};
use crate::checkpoint::{Checkpoint, CheckpointFiles};
use crate::counts::{self, CountsFile};
use crate::keeper::Kept;
use crate::layout::{now_ns, wide};
use crate::lock::LockFile;
use crate::mapping::{ReadableMap, WritableMap};
use crate::options::LANES_MAX;
use crate::publish;
use crate::record::{self, Found};
use crate::segment::{self, SchemaCounts, Sealed, Started, View};
use crate::{Error, Options, boot, disk, pool, slots};

/// How long a sink waits for a writer that recovers.
const DEADLINE: Duration = Duration::from_secs(30);

/// What [`crate::Journal::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments with records found on disk.
    pub segments: usize,
    /// Those that the earlier writer had left open, and that are sealed now. Empty after a clean close.
    pub sealed: Vec<SealedTail>,
    /// Records that were published and not yet counted when the writer died (at most one per lane); counted now.
    pub counted: Vec<Healed>,
    /// Lanes whose counts and records disagree, which a kill -9 cannot cause. Left as they are.
    pub differences: Vec<Difference>,
    /// Whole records that a power loss left behind a hole in their lane, and that are given up with it. All of them are
    /// younger than the last sync.
    pub cut_records: u64,
    /// Sinks whose cursor a power loss had left unreadable, or past the records: put back to one that was synced.
    pub cursors_restored: Vec<String>,
    /// Files that could not be read and were moved aside, as asked for.
    pub set_aside: Vec<PathBuf>,
    /// The catalog file was lost and was rebuilt from the segments' headers.
    pub catalog_rebuilt: bool,
}

/// A segment that was open when its writer died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedTail {
    /// The segment.
    pub segment: u64,
    /// Its file.
    pub path: PathBuf,
    /// Where its whole records end.
    pub offset: u64,
    /// How many whole records it has.
    pub records: u64,
    /// Bytes behind `offset` that belong to no whole record: what was being written when the writer died.
    pub cut_bytes: u64,
    /// Where something unreadable stands *before* whole records: damage, not a torn tail. Sinks stop there.
    pub damaged_at: Option<u64>,
}

/// A record that is counted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healed {
    /// Its lane.
    pub lane: usize,
    /// Its schema.
    pub schema: SchemaId,
}

/// A lane whose counts and records disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The lane.
    pub lane: usize,
    /// Records ever, as counted.
    pub counted: u64,
    /// Records ever, as the lane's newest segment (or the sum over schemas) shows.
    pub found: u64,
}

/// What a writer starts from.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) catalog: Catalog,
    pub(crate) counts: CountsFile,
    pub(crate) next_id: u64,
    pub(crate) spares: Vec<Spare>,
    pub(crate) sealed: Vec<(u64, Kept)>,
    pub(crate) checkpoints: CheckpointFiles,
    pub(crate) recovery: Recovery,
}

/// What walking a segment that was left open shows.
#[derive(Debug)]
struct Walked {
    end: usize,
    records: u64,
    counts: Box<SchemaCounts>,
    last: Option<SchemaId>,
    cut_bytes: u64,
    damaged_at: Option<u64>,
    /// Whole records behind the hole that a power loss left.
    lost_records: u64,
}

/// A lane's segment.
#[derive(Debug)]
struct Filled {
    id: u64,
    path: PathBuf,
    started: Started,
    data_start: usize,
    /// What a power loss may have taken a part of: used in another boot, and not noted as synced to its end.
    doubtful: bool,
    /// Where its seal said that it ends.
    sealed_end: Option<usize>,
    /// A power loss took what came before it in its lane: its started mark changes.
    moved: bool,
    /// `Err` while it is open.
    state: Result<Sealed, Walked>,
}

/// A spare that an earlier run left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) id: u64,
    /// It has the size that the options name, and a sound header.
    pub(crate) fits: bool,
}

/// Under the writer lock.
pub(crate) fn recover(options: &Options, boot: u64) -> Result<Ground, Error> {
    let mut recovery = Recovery::default();
    let segments = options.dir.join("segments");
    pool::remove_leftovers(&segments)?;
    let stored = aside_if_asked(options, &mut recovery, &catalog::path_in(&options.dir), || {
        Catalog::read_if_there(&options.dir)
    })?
    .flatten();
    let ids = segment::list(&segments)?;
    let highest = ids.last().copied().unwrap_or(0);
    let checkpoint = Checkpoint::read(&options.dir)?;
    let next_id = next_id(options, highest, checkpoint.as_ref())?;
    // In the boot of the checkpoint nothing was lost: a header that names another one is damaged.
    let same = checkpoint.as_ref().is_some_and(|checkpoint| !boot::is_another(checkpoint.boot, boot));
    let judged = if same { 0 } else { boot };
    let lost = lost::Lost::new(checkpoint, boot);
    let mut in_headers = Catalog::default();
    let mut filled = Vec::new();
    let mut spares = Vec::new();
    // Without records, whatever a cursor says.
    let mut unused = Vec::new();
    for id in ids {
        let path = segment::path_of(&segments, id);
        let looked = aside_if_asked(options, &mut recovery, &path, || look(&segments, id, judged))?;
        if matches!(looked, Some(Looked::Unstarted | Looked::Spare)) {
            unused.push((id, 0));
        }
        match looked {
            None | Some(Looked::Gone) => {}
            Some(Looked::Unstarted) => {
                recovery.cut_records += lost::wipe(&segments, id)?;
                spares.push(Spare { id, fits: spare_fits(&segments, id, options, judged)? });
            }
            Some(Looked::Spare) => spares.push(Spare { id, fits: spare_fits(&segments, id, options, judged)? }),
            Some(Looked::Filled(one, catalog)) => {
                if catalog.entries().len() > in_headers.entries().len() {
                    in_headers = catalog;
                }
                filled.push(one);
            }
        }
    }
    recovery.segments = filled.len();
    let catalog = match stored {
        Some(catalog) => catalog,
        None => {
            recovery.catalog_rebuilt = !in_headers.entries().is_empty();
            in_headers.write(&options.dir)?;
            in_headers
        }
    };
    let counts = match aside_if_asked(options, &mut recovery, &counts::path_in(&options.dir), || {
        CountsFile::open(&options.dir)
    })? {
        Some(counts) => counts,
        None => CountsFile::open(&options.dir)?,
    };
    counts.set_schemas(catalog.entries().len());
    let mut ends = lost.cut(&mut filled, &mut recovery)?;
    ends.extend(unused);
    if lost.is_so(&filled) {
        lost.mend_counts(&counts, &filled, &mut recovery)?;
        lost.mend_cursors(&options.dir, (highest, next_id), &ends, &mut recovery)?;
    } else {
        compare_counts(&counts, &filled, &mut recovery);
    }
    let mut sealed = Vec::new();
    let first_free = filled.last().map_or(0, |last| last.id);
    for id in spares.iter().map(|spare| spare.id).filter(|id| *id < first_free) {
        if let Some(next) = filled.iter().find(|one| one.id > id) {
            lost::close_unused(&segments, id, next.started, boot)?;
            sealed.push((id, Kept { sealed_at_ns: now_ns(), passed: false, settled: false }));
        }
    }
    spares.retain(|spare| spare.id > first_free);
    for one in filled {
        let id = one.id;
        let at_ns = match &one.state {
            Ok(seal) => seal.at_ns,
            Err(_) => seal_now(one, &mut recovery)?,
        };
        sealed.push((id, Kept { sealed_at_ns: at_ns, passed: false, settled: false }));
    }
    // From here on this boot's files can be trusted as they are.
    let mut checkpoints = CheckpointFiles::open(&options.dir)?;
    if let Some(exact) = counts.exact_snapshot() {
        let first = Checkpoint::take(&options.dir, boot, &exact)?;
        checkpoints.store(&first).map_err(Error::io("write the checkpoint in", &options.dir))?;
    }
    Ok(Ground { catalog, counts, next_id, spares, sealed, checkpoints, recovery })
}

/// For those who read without a writer: if nobody has recovered the journal since the machine started again, does it.
pub(crate) fn after_power_loss(dir: &Path, boot: u64) -> Result<(), Error> {
    let started = Instant::now();
    while Checkpoint::read(dir)?.is_some_and(|checkpoint| boot::is_another(checkpoint.boot, boot)) {
        match LockFile::take(&dir.join("writer.lock")) {
            Ok(_lock) => {
                let recovery = recover(&Options::new(dir), boot)?.recovery;
                tracing::info!(?recovery, "the machine was started anew: the journal is recovered without its writer");
                return Ok(());
            }
            Err(Error::Locked { .. }) if started.elapsed() < DEADLINE => {
                // A writer that opens recovers first.
                std::thread::park_timeout(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Runs `read`; damage moves the file aside where the options ask for that, and gives `None`.
fn aside_if_asked<T>(
    options: &Options,
    recovery: &mut Recovery,
    path: &Path,
    read: impl FnOnce() -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    match read() {
        Ok(value) => Ok(Some(value)),
        Err(error @ Error::Damaged { .. }) if options.set_aside_damaged => {
            let mut name = path.as_os_str().to_owned();
            name.push(".damaged");
            let aside = PathBuf::from(name);
            disk::rename(path, &aside).map_err(Error::io("move aside", path))?;
            tracing::error!(%error, aside = %aside.display(), "a damaged file was moved aside");
            recovery.set_aside.push(aside);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Ids are never used twice: not one of a segment on disk, and not one that some sink remembers.
fn next_id(options: &Options, mut highest: u64, checkpoint: Option<&Checkpoint>) -> Result<u64, Error> {
    for (_, commit) in checkpoint.iter().flat_map(|checkpoint| &checkpoint.sinks) {
        highest = highest.max(commit.cursor.highest());
    }
    let sinks = options.dir.join("sinks");
    for entry in fs::read_dir(&sinks).map_err(Error::io("list", &sinks))? {
        let name = entry.map_err(Error::io("list", &sinks))?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".cursor")) else { continue };
        match slots::read(&options.dir, name) {
            Ok(commit) => highest = highest.max(commit.map_or(0, |commit| commit.cursor.highest())),
            // That sink cannot open either, and its error names the file.
            Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    highest.checked_add(1).ok_or_else(|| Error::damaged(&sinks, 0, "a cursor has passed every segment there could be"))
}

enum Looked {
    Gone,
    Spare,
    /// A power loss took the mark that it was started, and left some of what was written behind it.
    Unstarted,
    Filled(Filled, Catalog),
}

fn look(segments: &Path, id: u64, boot: u64) -> Result<Looked, Error> {
    let Some(mut view) = View::open(segments, id)? else { return Ok(Looked::Gone) };
    if lost::repair_header(&mut view, boot)? {
        view = match View::open(segments, id)? {
            Some(view) => view,
            None => return Ok(Looked::Gone),
        };
    }
    let Some(started) = view.started()? else {
        // Never started, so nothing behind the header. A header torn by a crash is of no account then.
        let from = view.header().map_or(segment::WORDS_END, |header| header.data_start);
        let used = used_bytes(&view.map, from);
        let torn = boot::is_another(view.boot(), boot) || (boot != 0 && view.header().is_err());
        if used > from && torn && view.synced() == 0 {
            return Ok(Looked::Unstarted);
        }
        if used > from && view.header().is_ok() {
            return Err(Error::damaged(&view.path, from, "there are records in a segment that was never started"));
        }
        return Ok(Looked::Spare);
    };
    let other_boot = boot::is_another(view.boot(), boot);
    if started.lane >= LANES_MAX {
        return Err(Error::damaged(&view.path, 64, format!("there is no lane {}", started.lane)));
    }
    let header = view.header()?;
    let (data_start, catalog) = (header.data_start, header.catalog.clone());
    let sealed = view.sealed();
    let sealed_end = sealed.as_ref().ok().and_then(|sealed| sealed.map(|sealed| sealed.end));
    let synced = view.synced();
    let doubtful = other_boot && !matches!(&sealed, Ok(Some(sealed)) if sealed.end == synced);
    let state = match sealed {
        Ok(Some(sealed)) if !doubtful => Ok(sealed),
        // A seal that is not noted as synced may be torn, or stand before records that are not there.
        Ok(sealed) => Err(walk(&view, data_start, sealed.map(|sealed| sealed.end), doubtful.then_some(synced))),
        Err(_) if doubtful => Err(walk(&view, data_start, None, Some(synced))),
        Err(error) => return Err(error),
    };
    Ok(Looked::Filled(
        Filled { id, path: view.path, started, data_start, doubtful, sealed_end, moved: false, state },
        catalog,
    ))
}

/// A spare can be used again if it has the right size and a sound header.
fn spare_fits(segments: &Path, id: u64, options: &Options, boot: u64) -> Result<bool, Error> {
    let Some(mut view) = View::open(segments, id)? else { return Ok(false) };
    // A header that a power loss tore is written anew like any other.
    let header = boot != 0 || view.header().is_ok();
    Ok(view.map.len() == options.segment_len() && header)
}

/// Where the bytes that are not zero end, looking from `from` on.
fn used_bytes(map: &ReadableMap, from: usize) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = map.len();
    while end > from {
        let len = (end - from).min(ZEROS.len());
        let block = map.bytes(end - len, len).unwrap_or_default();
        if block != &ZEROS[..block.len()] {
            return end - len + block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        }
        end -= len;
    }
    from
}

/// Walks from record to record. `until`: where a seal says that they end. `synced`: in a segment that a power loss may
/// have taken a part of, up to where it cannot have; a hole behind that ends the records.
fn walk(view: &View, data_start: usize, until: Option<usize>, synced: Option<usize>) -> Walked {
    let used = until.unwrap_or_else(|| used_bytes(&view.map, data_start));
    let mut walked = Walked {
        end: data_start,
        records: 0,
        counts: Box::new([0; SCHEMAS_MAX]),
        last: None,
        cut_bytes: 0,
        damaged_at: None,
        lost_records: 0,
    };
    let mut offset = data_start;
    while offset < used {
        match record::look(&view.map, view.seed, offset) {
            Found::Whole { schema, next, .. } => {
                walked.records += 1;
                if let Some(count) = walked.counts.get_mut(schema.index()) {
                    *count += 1;
                }
                walked.last = Some(schema);
                walked.end = next;
                offset = next;
            }
            Found::Nothing | Found::Broken => {
                let Some(behind) = record::find_whole(&view.map, view.seed, offset + 8, used) else { break };
                if synced.is_some_and(|synced| offset >= synced) {
                    walked.lost_records = records_from(view, behind, used);
                    break;
                }
                walked.damaged_at.get_or_insert(wide(offset));
                offset = behind;
            }
        }
    }
    walked.cut_bytes = wide(used.saturating_sub(walked.end));
    walked
}

/// How many whole records there are from `from` on, with or without holes between them.
fn records_from(view: &View, from: usize, until: usize) -> u64 {
    let (mut records, mut offset) = (0, Some(from));
    while let Some(at) = offset.filter(|at| *at < until) {
        offset = match record::look(&view.map, view.seed, at) {
            Found::Whole { next, .. } => {
                records += 1;
                Some(next)
            }
            Found::Nothing | Found::Broken => record::find_whole(&view.map, view.seed, at + 8, until),
        };
    }
    records
}

/// Counts what was published and not counted; reports what a crash cannot explain.
fn compare_counts(counts: &CountsFile, filled: &[Filled], recovery: &mut Recovery) {
    let mut newest: BTreeMap<usize, &Filled> = BTreeMap::new();
    for one in filled {
        // In id order, which is a lane's own order too.
        newest.insert(one.started.lane, one);
    }
    for (lane, one) in newest {
        if let Some(stood) = counts.settle(lane) {
            recovery.differences.push(Difference { lane, counted: stood, found: counts.total(lane) });
        }
        let records = match &one.state {
            Ok(sealed) => sealed.records,
            Err(walked) => walked.records,
        };
        let (counted, found) = (counts.total(lane), one.started.first_record + records);
        match &one.state {
            Err(Walked { last: Some(schema), damaged_at: None, .. }) if found == counted + 1 => {
                publish::count(&counts.counters(lane, *schema));
                recovery.counted.push(Healed { lane, schema: *schema });
            }
            _ if found == counted => {}
            _ => recovery.differences.push(Difference { lane, counted, found }),
        }
    }
}

fn seal_now(one: Filled, recovery: &mut Recovery) -> Result<u64, Error> {
    let Filled { id, ref path, started, moved, state, .. } = one;
    let walked = match state {
        Err(walked) => walked,
        Ok(sealed) => return Ok(sealed.at_ns),
    };
    let file = fs::OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("open", path))?;
    let len = crate::layout::narrow(file.metadata().map_err(Error::io("look at", path))?.len());
    let map = WritableMap::new(&file, len, segment::WORDS_END).map_err(Error::io("map", path))?;
    let at_ns = now_ns();
    let sealed = Sealed { end: walked.end, records: walked.records, at_ns };
    if moved {
        segment::store_started(&map, id, started);
    }
    segment::store_sealed(&map, id, sealed, &walked.counts);
    disk::sync_map(&map, path, 0, walked.end).map_err(Error::io("sync", path))?;
    segment::store_synced(&map, walked.end);
    disk::sync_map(&map, path, 0, segment::WORDS_END).map_err(Error::io("sync", path))?;
    recovery.sealed.push(SealedTail {
        segment: id,
        path: path.to_owned(),
        offset: wide(walked.end),
        records: walked.records,
        cut_bytes: walked.cut_bytes,
        damaged_at: walked.damaged_at,
    });
    Ok(at_ns)
}
