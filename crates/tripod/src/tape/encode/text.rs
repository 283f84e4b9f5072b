//! Short text, copied and looked through for NUL bytes in one go.
//!
//! A column's text has some ten to ninety bytes: a call of `memcpy` takes longer than its work, and a second walk for the
//! NUL bytes longer still. So whole words are copied and tested; the last one overlaps the one before.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = ONES << 7;

/// Not zero where one of the eight bytes is.
#[inline(always)]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}

/// Copies `text` into `room`, which is as long. True if it has no NUL byte; if it has, not all of it may be copied.
///
/// Not inlined, so that the caller, which is one long function per row type, keeps its own state in registers.
#[inline(never)]
pub(super) fn copy(text: &[u8], room: &mut [u8]) -> bool {
    debug_assert_eq!(text.len(), room.len());
    let (Some(last), Some(last_room)) = (text.last_chunk::<8>(), room.last_chunk_mut::<8>()) else {
        return copy_few(text, room);
    };
    let found = zero_bytes(u64::from_le_bytes(*last));
    *last_room = *last;
    for (word, room) in text.as_chunks::<8>().0.iter().zip(room.as_chunks_mut::<8>().0) {
        // An end for each word, because loops for long text are slow to start on short text.
        if zero_bytes(u64::from_le_bytes(*word)) != 0 {
            return false;
        }
        *room = *word;
    }
    found == 0
}

/// The same for less than eight bytes.
#[inline(always)]
fn copy_few(text: &[u8], room: &mut [u8]) -> bool {
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>())
        && let Some(first_room) = room.first_chunk_mut()
    {
        *first_room = *first;
        if let Some(last_room) = room.last_chunk_mut() {
            *last_room = *last;
        }
        let both = u64::from(u32::from_le_bytes(*first)) | (u64::from(u32::from_le_bytes(*last)) << 32);
        return zero_bytes(both) == 0;
    }
    let mut clean = true;
    for (byte, room) in text.iter().zip(room) {
        clean &= *byte != 0;
        *room = *byte;
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::copy;

    #[test]
    fn text_of_every_length_arrives_and_a_nul_at_any_place_is_found() {
        for len in 0..200_u8 {
            let text: Vec<u8> = (0..len).map(|n| if n % 3 == 0 { 0x80 } else { n.max(1) }).collect();
            let mut room = vec![0xaa; text.len()];
            assert!(copy(&text, &mut room), "{len} bytes without a NUL");
            assert_eq!(room, text);
            for at in 0..text.len() {
                let mut bad = text.clone();
                bad[at] = 0;
                assert!(!copy(&bad, &mut room), "a NUL at {at} of {len}");
            }
        }
    }
}
