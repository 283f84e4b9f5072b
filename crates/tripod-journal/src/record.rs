//! One record: a word (length, CRC-32C), the schema, the payload.
//!
//! Constraints: the word is stored last and in one piece, so a record is either there or not. The checksum covers the
//! segment and the place too, so bytes that an older file left in a block are never taken for a record.
//!
//! ```text
//!  8-aligned offset: [ u32 length = 2 + payload │ u32 CRC-32C ][ u16 schema ][ payload ... ][ zero to the next 8 ]
//! ```

use crate::SchemaId;
use crate::crc;
use crate::layout::{ALIGNMENT, join, narrow, round_up, split};
use crate::mapping::ReadableMap;

/// The length and checksum word.
pub(crate) const HEAD_BYTES: usize = 8;
/// The schema's number, before the payload.
pub(crate) const SCHEMA_BYTES: usize = 2;

/// Bytes a record takes in its segment.
pub(crate) const fn size_of(payload_len: usize) -> usize {
    round_up(payload_len.saturating_add(HEAD_BYTES + SCHEMA_BYTES), ALIGNMENT)
}

/// The part of the checksum that all records of a segment share.
pub(crate) fn seed(segment: u64) -> u32 {
    crc32c::crc32c(&segment.to_le_bytes())
}

/// The word that publishes `body` (schema and payload) at `offset`.
#[inline]
pub(crate) fn head(seed: u32, offset: usize, body: &[u8]) -> Option<u64> {
    let len = u32::try_from(body.len()).ok()?;
    Some(join(len, checksum(seed, offset, body)).to_le())
}

#[inline]
fn checksum(seed: u32, offset: usize, body: &[u8]) -> u32 {
    crc::of_record(seed, offset.to_le_bytes(), body)
}

/// What stands at an offset.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A whole record, and where the next one starts.
    Whole { schema: SchemaId, payload: &'a [u8], next: usize },
    /// Nothing is published here (or the segment ends).
    Nothing,
    /// Something that is not a record of this segment and place.
    Broken,
}

/// Looks at `offset` of the segment with this `seed`.
pub(crate) fn look(map: &ReadableMap, seed: u32, offset: usize) -> Found<'_> {
    let Some(word) = map.load(offset).map(u64::from_le) else { return Found::Nothing };
    if word == 0 {
        return Found::Nothing;
    }
    let (len, crc) = split(word);
    let len = narrow(u64::from(len));
    let Some(body) = map.bytes(offset + HEAD_BYTES, len) else { return Found::Broken };
    let Some((schema, payload)) = body.split_first_chunk::<SCHEMA_BYTES>() else { return Found::Broken };
    if checksum(seed, offset, body) != crc {
        return Found::Broken;
    }
    Found::Whole { schema: SchemaId(u16::from_le_bytes(*schema)), payload, next: offset + size_of(payload.len()) }
}

/// The first whole record from `from` to `until`, looking at every place where one could start.
pub(crate) fn find_whole(map: &ReadableMap, seed: u32, from: usize, until: usize) -> Option<usize> {
    (round_up(from, ALIGNMENT)..until.min(map.len()))
        .step_by(ALIGNMENT)
        .find(|offset| matches!(look(map, seed, *offset), Found::Whole { .. }))
}
