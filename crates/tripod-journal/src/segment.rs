//! A segment file: its name, its header, and the two marks that say where it stands in its life.
//!
//! # Constraints
//! - The header's fixed part is written before the file gets its name; the *started* and *sealed* marks are stored
//!   later, each with its checksum word last, so another process sees a mark whole or not at all.
//! - A seal says how many records of each schema the segment holds, so that `status` need not walk a long backlog.
//!
//! # Picture
//! ```text
//!    0 magic │ version, crc │ id │ created │ segment bytes │ data start │ catalog length │ boot
//!   64 started: lane │ first record's number in the lane │ check
//!   88 sealed:  end │ records │ at │ check       120 synced     128 records per schema, u32 each
//! 1152 catalog ...                                     data start (next page): records ...
//! ```
//!
//! # Operation
//! spare (named, no mark) → started (a lane took it) → sealed (the lane left it, or recovery closed it) → deleted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::catalog::{Catalog, SCHEMAS_MAX};
use crate::layout::{Fields, PAGE_BYTES, join, narrow, round_up, split, wide};
use crate::mapping::{ReadableMap, WritableMap};
use crate::sync::{Step, Word, Words, fence};
use crate::{Error, record};

const MAGIC: u64 = u64::from_le_bytes(*b"TRIPODJ1");
const VERSION: u32 = 1;
const FIXED_BYTES: usize = 64;
const STARTED: usize = 64;
const SEALED: usize = 88;
const BOOT: usize = 56;
/// Up to where the keeper knows the segment to be on the disk. Needs no checksum: a wrong one only changes whether a
/// hole that a power loss left is called damage.
const SYNCED: usize = 120;
const COUNTS: usize = 128;
const CATALOG: usize = COUNTS + SCHEMAS_MAX * 4;
const STARTED_TAG: u32 = u32::from_le_bytes(*b"OPEN");
const SEALED_TAG: u32 = u32::from_le_bytes(*b"SEAL");

/// The header's part that is shared words.
pub(crate) const WORDS_END: usize = CATALOG;

/// Records per schema.
pub(crate) type SchemaCounts = [u32; SCHEMAS_MAX];

/// The file of a segment.
pub(crate) fn path_of(segments: &Path, id: u64) -> PathBuf {
    segments.join(format!("{id:016}.seg"))
}

/// The id in a segment's file name; `None` for other files.
pub(crate) fn id_of(name: &std::ffi::OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(".seg")?;
    (digits.len() == 16).then(|| digits.parse().ok()).flatten()
}

/// The ids of all segments, ascending.
pub(crate) fn list(segments: &Path) -> Result<Vec<u64>, Error> {
    let entries = match std::fs::read_dir(segments) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing { path: segments.parent().unwrap_or(segments).to_owned() });
        }
        Err(error) => return Err(Error::io("list", segments)(error)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        ids.extend(id_of(&entry.map_err(Error::io("list", segments))?.file_name()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// The header's part that is fixed when the file gets its name.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) data_start: usize,
    pub(crate) catalog: Catalog,
}

/// What a new header says besides its catalog.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) id: u64,
    pub(crate) at_ns: u64,
    pub(crate) segment_bytes: u64,
    /// The boot of the machine in which it is used; see `boot.rs`.
    pub(crate) boot: u64,
}

/// Where records start behind a catalog of this encoded length.
pub(crate) fn data_start(catalog_len: usize) -> usize {
    round_up(CATALOG.saturating_add(catalog_len), PAGE_BYTES)
}

impl Header {
    /// Writes the fixed part; the marks are left alone.
    pub(crate) fn write(file: &File, made: Made, catalog: &[u8]) -> io::Result<()> {
        let Made { id, at_ns, segment_bytes, boot } = made;
        let mut fixed = Vec::with_capacity(FIXED_BYTES);
        fixed.extend_from_slice(&MAGIC.to_le_bytes());
        fixed.extend_from_slice(&VERSION.to_le_bytes());
        fixed.extend_from_slice(&0u32.to_le_bytes());
        for number in [id, at_ns, segment_bytes, wide(data_start(catalog.len())), wide(catalog.len()), boot] {
            fixed.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&fixed), catalog);
        if let Some(place) = fixed.get_mut(12..16) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        file.write_all_at(catalog, wide(CATALOG))?;
        file.write_all_at(&fixed, 0)
    }

    /// Reads and checks the fixed part of segment `id`.
    pub(crate) fn read(map: &ReadableMap, path: &Path, id: u64) -> Result<Self, Error> {
        let damaged = |offset: usize, what: &str| Error::damaged(path, offset, what);
        let short = || damaged(map.len(), "the file is shorter than a segment's header");
        let fixed = map.bytes(0, FIXED_BYTES).ok_or_else(short)?;
        let mut fields = Fields(fixed);
        let mut number = || fields.u64().ok_or_else(short);
        if number()? != MAGIC {
            return Err(damaged(0, "this is not a segment"));
        }
        let (version, crc) = split(number()?);
        if version != VERSION {
            return Err(damaged(8, &format!("version {version} is not {VERSION}; it needs another release")));
        }
        let (stored_id, _created_ns, segment_bytes) = (number()?, number()?, number()?);
        let (start, catalog_len) = (narrow(number()?), narrow(number()?));
        let catalog = map.bytes(CATALOG, catalog_len).ok_or_else(|| damaged(48, "the catalog's length is wrong"))?;
        let mut plain = fixed.to_vec();
        plain[12..16].fill(0);
        if crc32c::crc32c_append(crc32c::crc32c(&plain), catalog) != crc {
            return Err(damaged(12, "the header's checksum does not match"));
        }
        if stored_id != id {
            return Err(damaged(16, &format!("the header says segment {stored_id}")));
        }
        if segment_bytes != wide(map.len()) || start > map.len() {
            return Err(damaged(32, &format!("the file has {} bytes instead of {segment_bytes}", map.len())));
        }
        let catalog = Catalog::decode(catalog).ok_or_else(|| damaged(CATALOG, "the catalog does not decode"))?;
        Ok(Self { data_start: start, catalog })
    }
}

/// A lane took this segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) lane: usize,
    /// How many records the lane held before this segment's first.
    pub(crate) first_record: u64,
}

/// The lane left this segment, or recovery closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Nothing at or behind this offset is a record.
    pub(crate) end: usize,
    pub(crate) records: u64,
    pub(crate) at_ns: u64,
}

fn check(tag: u32, id: u64, numbers: &[u64]) -> u64 {
    let crc = numbers
        .iter()
        .fold(crc32c::crc32c(&id.to_le_bytes()), |crc, number| crc32c::crc32c_append(crc, &number.to_le_bytes()));
    join(crc, tag)
}

/// Stores the started mark.
pub(crate) fn store_started(map: &impl Words, id: u64, started: Started) {
    let numbers = [wide(started.lane), started.first_record];
    for (n, number) in numbers.iter().enumerate() {
        map.word(STARTED + n * 8).put(number.to_le(), Ordering::Relaxed);
    }
    let word = check(STARTED_TAG, id, &numbers).to_le();
    map.word(STARTED + 16).put(word, Step::Mark.order(Ordering::Release));
}

/// Stores the sealed mark, and with it the records per schema.
pub(crate) fn store_sealed(map: &impl Words, id: u64, sealed: Sealed, counts: &SchemaCounts) {
    // After a power loss a seal may be replaced by an earlier one: cut off in between, there is none.
    map.word(SEALED + 24).put(0, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let mut crc = 0;
    for (n, pair) in counts.chunks_exact(2).enumerate() {
        let word = join(pair[0], pair[1]).to_le();
        crc = crc32c::crc32c_append(crc, &word.to_le_bytes());
        map.word(COUNTS + n * 8).put(word, Ordering::Relaxed);
    }
    let numbers = [wide(sealed.end), sealed.records, sealed.at_ns];
    for (n, number) in numbers.iter().enumerate() {
        map.word(SEALED + n * 8).put(number.to_le(), Ordering::Relaxed);
    }
    let [end, records, at] = numbers;
    let word = check(SEALED_TAG, id, &[end, records, at, u64::from(crc)]);
    map.word(SEALED + 24).put(word.to_le(), Step::Mark.order(Ordering::Release));
}

/// A mark that does not match its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn;

/// The started mark, whole; `None` where there is none. `load` loads with acquire order.
pub(crate) fn load_started(load: impl Fn(usize) -> u64, id: u64) -> Result<Option<Started>, Torn> {
    let number = |offset| u64::from_le(load(offset));
    let stored = number(STARTED + 16);
    if stored == 0 {
        return Ok(None);
    }
    let (lane, first_record) = (number(STARTED), number(STARTED + 8));
    let whole = check(STARTED_TAG, id, &[lane, first_record]) == stored;
    whole.then_some(Some(Started { lane: narrow(lane), first_record })).ok_or(Torn)
}

/// The sealed mark, whole, as [`load_started`].
pub(crate) fn load_sealed(load: impl Fn(usize) -> u64, id: u64) -> Result<Option<Sealed>, Torn> {
    let number = |offset| u64::from_le(load(offset));
    let stored = number(SEALED + 24);
    if stored == 0 {
        return Ok(None);
    }
    let (end, records, at_ns) = (number(SEALED), number(SEALED + 8), number(SEALED + 16));
    let crc = (COUNTS..CATALOG).step_by(8).fold(0, |crc, at| crc32c::crc32c_append(crc, &load(at).to_ne_bytes()));
    let whole = check(SEALED_TAG, id, &[end, records, at_ns, u64::from(crc)]) == stored;
    whole.then_some(Some(Sealed { end: narrow(end), records, at_ns })).ok_or(Torn)
}

/// Notes that everything up to `offset` is on the disk; on the disk itself with the next sync of the header.
pub(crate) fn store_synced(map: &WritableMap, offset: usize) {
    map.word(SYNCED).store(wide(offset).to_le(), Ordering::Release);
}

/// A segment as a reader sees it: its own read-only mapping.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) map: ReadableMap,
    /// The part of the checksum that its records share.
    pub(crate) seed: u32,
    header: Option<Header>,
}

impl View {
    /// Maps segment `id`; `None` if there is no such file (any more).
    pub(crate) fn open(segments: &Path, id: u64) -> Result<Option<Self>, Error> {
        let path = path_of(segments, id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        let len = narrow(file.metadata().map_err(Error::io("look at", &path))?.len());
        if len < PAGE_BYTES {
            return Err(Error::damaged(&path, len, "the file is shorter than a segment's header"));
        }
        let map = ReadableMap::new(&file, len).map_err(Error::io("map", &path))?;
        Ok(Some(Self { id, path, map, seed: record::seed(id), header: None }))
    }

    fn number(&self, offset: usize) -> u64 {
        self.map.load(offset).map_or(0, u64::from_le)
    }

    /// The boot of the machine in which it was used; readable although the header's checksum may not match.
    pub(crate) fn boot(&self) -> u64 {
        self.number(BOOT)
    }

    /// Up to where it is known to be on the disk; 0 where nothing is known.
    pub(crate) fn synced(&self) -> usize {
        narrow(self.number(SYNCED))
    }

    /// The started mark; `None` for a spare.
    pub(crate) fn started(&self) -> Result<Option<Started>, Error> {
        load_started(|offset| self.map.load(offset).unwrap_or(0), self.id)
            .map_err(|Torn| Error::damaged(&self.path, STARTED, "the started mark does not match its checksum"))
    }

    /// The sealed mark; `None` while the segment is open.
    pub(crate) fn sealed(&self) -> Result<Option<Sealed>, Error> {
        let sealed = load_sealed(|offset| self.map.load(offset).unwrap_or(0), self.id);
        match sealed {
            Ok(sealed) if sealed.is_none_or(|sealed| sealed.end <= self.map.len()) => Ok(sealed),
            _ => Err(Error::damaged(&self.path, SEALED, "the sealed mark does not match its checksum")),
        }
    }

    /// Records per schema, as the seal says.
    pub(crate) fn sealed_counts(&self) -> SchemaCounts {
        let mut counts = [0; SCHEMAS_MAX];
        for (n, pair) in counts.chunks_exact_mut(2).enumerate() {
            (pair[0], pair[1]) = split(self.number(COUNTS + n * 8));
        }
        counts
    }

    /// The fixed part of the header, checked once.
    pub(crate) fn header(&mut self) -> Result<&Header, Error> {
        let header = match self.header.take() {
            Some(header) => header,
            None => Header::read(&self.map, &self.path, self.id)?,
        };
        Ok(self.header.insert(header))
    }
}
