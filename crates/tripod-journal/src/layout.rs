//! Numbers as they stand on disk: little-endian, lengths as u64, records and headers aligned.
//!
//! Constraints: nothing here panics on a short or hostile input; a field that is not there is `None`.

/// Records start at multiples of this, so that their first word can be stored and loaded in one piece.
pub(crate) const ALIGNMENT: usize = 8;

/// The unit in which segments are allocated and headers rounded.
pub(crate) const PAGE_BYTES: usize = 4096;

// Offsets are usize in memory and u64 on disk; the mapping needs 64-bit words either way.
const _: () = assert!(usize::BITS == 64);

/// A length or offset as it is stored.
pub(crate) fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// A stored length or offset; one too large for this machine becomes the largest, which every bounds check refuses.
pub(crate) fn narrow(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Rounds up to a multiple of `to`, which is a power of two.
pub(crate) const fn round_up(n: usize, to: usize) -> usize {
    n.saturating_add(to - 1) & !(to - 1)
}

/// Two u32 in one u64: the low half first.
pub(crate) fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | (u64::from(high) << 32)
}

/// The two halves of a [`join`]ed word.
pub(crate) fn split(word: u64) -> (u32, u32) {
    let low = u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    let high = u32::try_from(word >> 32).unwrap_or(u32::MAX);
    (low, high)
}

/// Nanoseconds since the epoch; 0 for a clock before it.
pub(crate) fn now_ns() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Takes fields off the front of a byte slice.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
