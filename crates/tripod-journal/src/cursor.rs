//! What a sink has passed: whole segments, and a place in each that is still open.
//!
//! Constraints: its size is bounded by the number of open lanes, not by the number of segments, because neighbouring
//! segments that are done become one range; it is a plain value that can be kept, compared and sought back to.

use crate::layout::{Fields, narrow, wide};

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Its segment's id.
    pub segment: u64,
    /// The byte in the segment's file at which it starts.
    pub offset: u64,
}

/// A place in a segment that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partial {
    pub(crate) segment: u64,
    /// Where the next record will start.
    pub(crate) offset: u64,
    /// How many records of this segment are passed.
    pub(crate) records: u64,
}

/// What a sink has passed. Get one from [`crate::Sink::mark`] or from bytes that [`Cursor::to_bytes`] made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Ranges of finished segments, both ends included, ascending, never touching.
    done: Vec<(u64, u64)>,
    /// Ascending by segment.
    partial: Vec<Partial>,
}

impl Cursor {
    /// True if every record of this segment is passed.
    pub fn has_passed(&self, segment: u64) -> bool {
        let at = self.done.partition_point(|(_, last)| *last < segment);
        self.done.get(at).is_some_and(|(first, _)| *first <= segment)
    }

    /// True if the record at `position` is passed.
    pub fn covers(&self, position: Position) -> bool {
        self.has_passed(position.segment)
            || self.partial_of(position.segment).is_some_and(|partial| position.offset < partial.offset)
    }

    /// True if it has passed something of `segment` that lies behind `offset`, or all of it.
    pub(crate) fn goes_beyond(&self, segment: u64, offset: u64) -> bool {
        self.has_passed(segment) || self.partial_of(segment).is_some_and(|partial| partial.offset > offset)
    }

    /// The highest segment that it speaks of; 0 for none.
    pub(crate) fn highest(&self) -> u64 {
        let done = self.done.last().map_or(0, |(_, last)| *last);
        self.partial.last().map_or(0, |partial| partial.segment).max(done)
    }

    /// The lowest segment that is not finished, as far as ranges tell.
    pub(crate) fn lowest_open(&self) -> u64 {
        self.done.first().filter(|(first, _)| *first <= 1).map_or(1, |(_, last)| last + 1)
    }

    pub(crate) fn partial_of(&self, segment: u64) -> Option<Partial> {
        let at = self.partial.binary_search_by_key(&segment, |partial| partial.segment).ok()?;
        self.partial.get(at).copied()
    }

    pub(crate) fn advance(&mut self, to: Partial) {
        match self.partial.binary_search_by_key(&to.segment, |partial| partial.segment) {
            Ok(at) => self.partial[at] = to,
            Err(at) => self.partial.insert(at, to),
        }
    }

    pub(crate) fn finish(&mut self, segment: u64) {
        self.finish_all(segment, segment);
    }

    /// Finishes all of these, both ends included.
    pub(crate) fn finish_all(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        self.partial.retain(|partial| partial.segment < first || partial.segment > last);
        let from = self.done.partition_point(|(_, end)| end.saturating_add(1) < first);
        let until = self.done.partition_point(|(start, _)| *start <= last.saturating_add(1));
        let joined = self.done.get(from..until).unwrap_or_default();
        let first = joined.first().map_or(first, |(start, _)| first.min(*start));
        let last = joined.last().map_or(last, |(_, end)| last.max(*end));
        self.done.splice(from..until, [(first, last)]);
    }

    /// As bytes, for a history of marks kept elsewhere.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.done.len() * 16 + self.partial.len() * 24);
        let mut put = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        put(wide(self.done.len()));
        put(wide(self.partial.len()));
        for (first, last) in &self.done {
            put(*first);
            put(*last);
        }
        for partial in &self.partial {
            put(partial.segment);
            put(partial.offset);
            put(partial.records);
        }
        bytes
    }

    /// The cursor that [`Self::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (done_len, partial_len) = (narrow(fields.u64()?), narrow(fields.u64()?));
        let expected = done_len.checked_mul(16)?.checked_add(partial_len.checked_mul(24)?)?;
        if fields.0.len() != expected {
            return None;
        }
        let mut cursor = Self::default();
        for _ in 0..done_len {
            cursor.done.push((fields.u64()?, fields.u64()?));
        }
        for _ in 0..partial_len {
            cursor.partial.push(Partial { segment: fields.u64()?, offset: fields.u64()?, records: fields.u64()? });
        }
        let ranges_ascend = cursor.done.iter().all(|(first, last)| first <= last)
            && cursor.done.windows(2).all(|pair| pair[0].1.checked_add(1).is_some_and(|next| next < pair[1].0));
        let places_ascend = cursor.partial.windows(2).all(|pair| pair[0].segment < pair[1].segment);
        (ranges_ascend && places_ascend).then_some(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_holds_exactly_the_segments_that_were_finished(ids in proptest::collection::vec(1u64..60, 0..80)) {
            let mut cursor = Cursor::default();
            for id in &ids {
                cursor.advance(Partial { segment: *id, offset: 8, records: 1 });
                if id % 3 > 0 {
                    cursor.finish(*id);
                }
            }
            for id in 0..62 {
                prop_assert_eq!(cursor.has_passed(id), ids.contains(&id) && id % 3 > 0);
            }
            prop_assert_eq!(Cursor::from_bytes(&cursor.to_bytes()), Some(cursor));
        }

        #[test]
        fn finishing_a_range_is_finishing_each(
            ids in proptest::collection::vec(1u64..60, 0..40), first in 1u64..70, len in 0u64..30,
        ) {
            let mut one = Cursor::default();
            for id in &ids {
                one.advance(Partial { segment: *id, offset: 8, records: 1 });
                if id % 3 > 0 {
                    one.finish(*id);
                }
            }
            let mut all = one.clone();
            all.finish_all(first, first + len);
            for id in first..=first + len {
                one.finish(id);
            }
            prop_assert_eq!(Cursor::from_bytes(&all.to_bytes()), Some(one));
        }

        #[test]
        fn bytes_of_something_else_are_refused_or_decode_to_a_cursor(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(cursor) = Cursor::from_bytes(&bytes) {
                prop_assert_eq!(cursor.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn many_finished_segments_stay_one_range() {
        let mut cursor = Cursor::default();
        for id in (1..=10_000).rev() {
            cursor.finish(id);
        }
        assert_eq!(cursor.to_bytes().len(), 32);
    }
}
