//! One lane: an open segment, and the record being written into it.
//!
//! # Constraints
//! - A lane is held only for the copy of one record, or for changing to the next segment.
//! - If `fill` fails or panics, nothing is published, what it wrote is zeroed, and the lane goes on.
//!
//! # Operation
//! `fill` writes into the mapping behind a word that is still zero. The checksum is taken over what it wrote, then the
//! word (length and checksum) is stored: from that store on the record exists, for readers and for a kill -9. Then it is
//! counted (`publish.rs`).

use std::sync::Arc;

use crate::catalog::{SCHEMAS_MAX, SchemaId};
use crate::counts::{CountsFile, Table, empty_table};
use crate::layout::{now_ns, wide};
use crate::mapping::Tail;
use crate::pool::Segment;
use crate::publish::publish;
use crate::record::{self, SCHEMA_BYTES};
use crate::segment::{Sealed, Started};

/// What the holder of a lane works with.
#[derive(Debug)]
pub(crate) struct Lane {
    index: usize,
    open: Option<Open>,
    /// The lane's counters when its segment was started.
    at_start: Table,
}

#[derive(Debug)]
struct Open {
    segment: Arc<Segment>,
    tail: Tail,
    seed: u32,
    first_record: u64,
}

/// Zeroes what an unfinished `fill` wrote, so that the next record's word is zero until it is published.
struct Unpublished<'a> {
    tail: &'a mut Tail,
    len: usize,
}

impl Drop for Unpublished<'_> {
    fn drop(&mut self) {
        if self.len > 0
            && let Some(body) = self.tail.body(self.len)
        {
            body.fill(0);
        }
    }
}

impl Lane {
    pub(crate) fn new(index: usize) -> Self {
        Self { index, open: None, at_start: empty_table() }
    }

    /// True if a record of this size can be appended right now.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.open.as_ref().is_some_and(|open| open.tail.room() >= size)
    }

    /// Appends one record of at most `max` payload bytes, of which `fill` says how many it wrote; the caller has checked
    /// [`Self::has_room`]. `Ok(None)` where it has not.
    #[inline]
    pub(crate) fn append<E>(
        &mut self,
        counts: &CountsFile,
        schema: SchemaId,
        max: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Option<()>, E> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let room = max + SCHEMA_BYTES;
        let offset = open.tail.offset();
        let mut claim = Unpublished { tail: &mut open.tail, len: room };
        let (word, body_len) = {
            let Some(body) = claim.tail.body(room) else {
                claim.len = 0;
                return Ok(None);
            };
            let (head, payload) = body.split_at_mut(SCHEMA_BYTES);
            head.copy_from_slice(&schema.0.to_le_bytes());
            let body_len = fill(payload)?.min(max) + SCHEMA_BYTES;
            let (body, rest) = body.split_at(body_len);
            debug_assert!(rest.iter().all(|byte| *byte == 0), "the next record's word would not be zero");
            (record::head(open.seed, offset, body), body_len)
        };
        let Some(word) = word else { return Ok(None) };
        claim.len = 0;
        let counters = counts.counters(self.index, schema);
        let position = &open.segment.position;
        claim.tail.publish(body_len, |head, end| publish(head, word, position, wide(end), &counters));
        Ok(Some(()))
    }

    /// Starts on a fresh segment; false if that one was started before. The one before was sealed.
    pub(crate) fn start(&mut self, segment: Arc<Segment>, counts: &CountsFile) -> bool {
        let first_record = counts.total(self.index);
        counts.copy_recorded(self.index, &mut self.at_start);
        let Some(tail) = segment.start(Started { lane: self.index, first_record }) else { return false };
        self.open = Some(Open { seed: record::seed(segment.id), tail, segment, first_record });
        true
    }

    /// Leaves the segment: readers know that nothing comes any more.
    pub(crate) fn seal(&mut self, counts: &CountsFile) {
        let Some(open) = self.open.take() else { return };
        let mut in_segment = [0; SCHEMAS_MAX];
        for (schema, (count, before)) in in_segment.iter_mut().zip(self.at_start.iter()).enumerate() {
            // A segment of at most 1 GiB holds fewer records than that.
            let now = counts.recorded_of(self.index, schema);
            *count = u32::try_from(now.saturating_sub(*before)).unwrap_or(u32::MAX);
        }
        let records = counts.total(self.index).saturating_sub(open.first_record);
        open.segment.seal(Sealed { end: open.tail.offset(), records, at_ns: now_ns() }, &in_segment);
    }
}
