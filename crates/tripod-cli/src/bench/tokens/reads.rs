//! Reads from memory: tokens by mint, and beside them what one read of this machine's memory takes at the least.

use std::hint::black_box;
use std::time::Instant;

use anyhow::ensure;
use hdrhistogram::Histogram;
use tripod::tokens::{Address, TokenCache};

use super::{histogram, record};

/// Reads of one figure.
const READS: u32 = 2_000_000;
/// Reads between two readings of the clock, where it shall not count.
const BATCH: u32 = 100;
/// Bytes of one token's row in memory, and rows for two tokens: the raw read looks into as much.
const ROW_BYTES: usize = 256;
const ROWS_FOR_TWO: usize = 3;

/// Nanoseconds of single reads, the clock's two readings in each; and of each read of a batch without them.
pub(super) struct Reads {
    pub(super) single: Histogram<u64>,
    pub(super) in_batches: Histogram<u64>,
}

/// Each of `mints` in turn, again and again; of each token one field is read, which its memory must come for.
pub(super) fn tokens(cache: &TokenCache, mints: &[Address]) -> anyhow::Result<Reads> {
    let mut found = 0_u64;
    let reads = measure(mints, |mint| {
        found += u64::from(cache.get(mint).is_some_and(|token| black_box(token.slot) > 0));
    })?;
    let expected = u64::from(READS) * 2;
    ensure!(found == expected, "{found} of {expected} reads found their token");
    Ok(reads)
}

/// One line of 64 bytes, of as much memory as `tokens` tokens take: where each is, is known beforehand. In huge pages, as
/// the tokens are.
pub(super) fn lines(tokens: usize, mints: &[Address]) -> anyhow::Result<Reads> {
    let rows = tokens / 2 * ROWS_FOR_TWO;
    let mut memory: Vec<[u64; ROW_BYTES / 8]> = Vec::with_capacity(rows);
    tripod_journal::prefer_huge_pages(memory.spare_capacity_mut());
    memory.resize(rows, [1; ROW_BYTES / 8]);
    let places: Vec<usize> = mints
        .iter()
        .map(|mint| {
            let random = mint.to_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            Ok(usize::try_from(random % u64::try_from(rows.max(1))?)?)
        })
        .collect::<anyhow::Result<_>>()?;
    let mut sum = 0;
    let reads = measure(&places, |place| sum += memory.get(*place).map_or(0, |row| row[0]))?;
    ensure!(sum == u64::from(READS) * 2, "a line is not as it was written");
    Ok(reads)
}

fn measure<T>(these: &[T], mut read: impl FnMut(&T)) -> anyhow::Result<Reads> {
    let (mut single, mut in_batches) = (histogram()?, histogram()?);
    for this in these.iter().cycle().take(usize::try_from(READS)?) {
        let started = Instant::now();
        read(black_box(this));
        record(&mut single, started.elapsed());
    }
    let mut next = these.iter().cycle();
    for _ in 0..READS / BATCH {
        let started = Instant::now();
        for this in next.by_ref().take(usize::try_from(BATCH)?) {
            read(black_box(this));
        }
        record(&mut in_batches, started.elapsed() / BATCH);
    }
    Ok(Reads { single, in_batches })
}
