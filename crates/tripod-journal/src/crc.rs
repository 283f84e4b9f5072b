//! CRC-32C over one record, as the crate `crc32c` computes it, in half of the time for some hundred bytes.
//!
//! # Constraints
//! - Every recorder computes one per record, between writing it and publishing it, so what counts is the delay of one
//!   short input, not the throughput of long ones.
//! - The same value on every machine: where the processor lacks the instructions, the crate computes it.
//!
//! # Operation
//! The instruction takes 8 bytes a cycle, but its result comes 3 cycles later. So three equal parts are taken at once, and
//! put together at the end: a part with `n` bytes behind it is multiplied by x^(8n) modulo the polynomial. `crc32c` does
//! so too, but from 768 bytes on; most rows are shorter.

/// The CRC-32C of `place` in eight bytes and then `body`, going on from `seed`.
#[inline]
pub(crate) fn of_record(seed: u32, place: [u8; 8], body: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") && std::arch::is_x86_feature_detected!("pclmulqdq") {
        // SAFETY: the two features that the function is compiled for were just found. It touches no memory but through
        // the slice.
        return unsafe { hardware::of_record(seed, place, body) };
    }
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &place), body)
}

#[cfg(target_arch = "x86_64")]
mod hardware {
    use std::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u16, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi64_si128,
        _mm_cvtsi128_si64, _mm_xor_si128,
    };

    use crate::layout::split;

    /// Words of a part at most: three parts are 1.5 KiB, longer bodies take several rounds.
    const PART_WORDS_MAX: usize = 64;
    /// Shorter parts are not worth being put together.
    const PART_WORDS_MIN: usize = 4;
    /// CRC-32C's polynomial, lowest power in the highest bit.
    const POLYNOMIAL: u32 = 0x82f6_3b78;

    /// By words that stand behind: x^(64 words - 33) modulo the polynomial. 33 less, because multiplying two numbers
    /// with their bits in this order adds one power of x, and reducing the product by the instruction adds 32.
    const SHIFTS: [u32; 2 * PART_WORDS_MAX + 1] = {
        let mut shifts = [0; 2 * PART_WORDS_MAX + 1];
        // x^31, for one word.
        shifts[1] = 1;
        let mut words = 2;
        while words < shifts.len() {
            let mut power: u32 = shifts[words - 1];
            let mut bit = 0;
            while bit < 64 {
                power = (power >> 1) ^ (POLYNOMIAL * (power & 1));
                bit += 1;
            }
            shifts[words] = power;
            words += 1;
        }
        shifts
    };

    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub(super) fn of_record(seed: u32, place: [u8; 8], body: &[u8]) -> u32 {
        let mut crc = _mm_crc32_u64(u64::from(!seed), u64::from_le_bytes(place));
        let (mut words, rest) = body.as_chunks::<8>();
        loop {
            let part = (words.len() / 3).min(PART_WORDS_MAX);
            if part < PART_WORDS_MIN {
                break;
            }
            let (first, behind) = words.split_at(part);
            let (second, behind) = behind.split_at(part);
            let (third, behind) = behind.split_at(part);
            let (mut b, mut c) = (0, 0);
            for ((x, y), z) in first.iter().zip(second).zip(third) {
                crc = _mm_crc32_u64(crc, u64::from_le_bytes(*x));
                b = _mm_crc32_u64(b, u64::from_le_bytes(*y));
                c = _mm_crc32_u64(c, u64::from_le_bytes(*z));
            }
            crc = together(crc, b, c, part);
            words = behind;
        }
        for word in words {
            crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
        }
        let (mut crc, _) = split(crc);
        let (fours, rest) = rest.as_chunks::<4>();
        for four in fours {
            crc = _mm_crc32_u32(crc, u32::from_le_bytes(*four));
        }
        let (twos, rest) = rest.as_chunks::<2>();
        for two in twos {
            crc = _mm_crc32_u16(crc, u16::from_le_bytes(*two));
        }
        for one in rest {
            crc = _mm_crc32_u8(crc, *one);
        }
        !crc
    }

    /// The sum of three parts of `part` words each.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn together(first: u64, second: u64, third: u64, part: usize) -> u64 {
        let times = |crc: u64, words: usize| {
            let power = SHIFTS.get(words).copied().unwrap_or(0);
            _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(crc.cast_signed()), _mm_cvtsi64_si128(i64::from(power)))
        };
        let product = _mm_xor_si128(times(first, 2 * part), times(second, part));
        _mm_crc32_u64(0, _mm_cvtsi128_si64(product).cast_unsigned()) ^ third
    }
}

#[cfg(test)]
mod tests {
    use super::of_record;

    fn of_crate(seed: u32, place: [u8; 8], body: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(seed, &place), body)
    }

    #[test]
    fn it_is_the_crates_value_for_every_length_and_start() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes: Vec<u8> = (0..4200)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect();
        for len in 0..bytes.len() - 8 {
            let body = &bytes[len % 8..][..len];
            let place = u64::try_from(len * 8).unwrap().to_le_bytes();
            assert_eq!(of_record(7, place, body), of_crate(7, place, body), "{len} bytes");
        }
        assert_eq!(of_record(u32::MAX, [0xff; 8], &[0; 500]), of_crate(u32::MAX, [0xff; 8], &[0; 500]));
    }
}
