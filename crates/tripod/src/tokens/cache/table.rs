//! The tokens that were there at the start, one row each.
//!
//! Constraints: filled once, then only read: rows never move, so a reader takes no lock and counts nothing. The row's place
//! follows from the mint alone, and the mint and what is asked for first stand in the row's first cache line: a read waits
//! for main memory once. What replaces a token is put beside it; the row itself stays what it was. Addresses are chosen
//! by strangers, so the hash has other keys in each process: nobody can aim a million mints at one place.
//!
//! ```text
//! mint ─ keyed hash ─▶ row: │ state │ mint │ decimals, slot │ account, names │ successor ─▶ the token as it is now
//!                      next row, where another mint stands here; none, where the row is empty
//! ```

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwapOption;
use foldhash::quality::RandomState;

use super::{KnownToken, TokenRef};
use crate::tokens::Address;

/// Three rows for two tokens at least. More: fewer reads find another mint at their place. Fewer: less memory, 256 bytes a
/// row.
const ROWS_FOR_TOKENS: (usize, usize) = (3, 2);
/// Rows at first, where nobody knows how many tokens will come.
const ROWS_LEAST: usize = 1_024;

/// Nothing stands here.
const EMPTY: u8 = 0;
/// The token stands here.
const HERE: u8 = 1;
/// It was replaced: the successor is the token.
const REPLACED: u8 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    tokens: usize,
    hasher: RandomState,
}

/// In this order, and from a cache line's beginning on: see the module.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Row {
    state: AtomicU8,
    token: KnownToken,
    successor: ArcSwapOption<KnownToken>,
}

impl Table {
    /// For about so many tokens; it grows where there are more.
    pub(super) fn with_room(tokens: usize) -> Self {
        Self { rows: empty_rows(rows_for(tokens).max(ROWS_LEAST)), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens
    }

    /// Adds a token, or puts it in the place of one with the same mint.
    pub(super) fn insert(&mut self, token: KnownToken) {
        if rows_for(self.tokens + 1) > self.rows.len() {
            self.grow();
        }
        let (place, is_new) = self.place(&token.mint);
        if let Some(row) = self.rows.get_mut(place) {
            row.token = token;
            *row.state.get_mut() = HERE;
            self.tokens += usize::from(is_new);
        }
    }

    /// Where `mint` stands or would stand, and whether it would be new. There is an empty row always.
    fn place(&self, mint: &Address) -> (usize, bool) {
        let mut place = self.home(mint);
        loop {
            match self.rows.get(place) {
                Some(row) if row.state.load(Ordering::Relaxed) == EMPTY => return (place, true),
                Some(row) if row.token.mint == *mint => return (place, false),
                Some(_) => place += 1,
                None => place = 0,
            }
        }
    }

    fn grow(&mut self) {
        let rows = self.rows.len().saturating_mul(2).max(ROWS_LEAST);
        for row in std::mem::replace(&mut self.rows, empty_rows(rows)) {
            if row.state.into_inner() != EMPTY {
                let (place, _) = self.place(&row.token.mint);
                if let Some(free) = self.rows.get_mut(place) {
                    free.token = row.token;
                    *free.state.get_mut() = HERE;
                }
            }
        }
    }

    /// The row of `mint`.
    #[inline]
    pub(super) fn row(&self, mint: &Address) -> Option<&Row> {
        let mut place = self.home(mint);
        loop {
            let Some(row) = self.rows.get(place) else {
                if self.rows.is_empty() {
                    return None;
                }
                place = 0;
                continue;
            };
            if row.state.load(Ordering::Relaxed) == EMPTY {
                return None;
            }
            if row.token.mint == *mint {
                return Some(row);
            }
            place += 1;
        }
    }

    /// The high bits of a product: every bit of the hash decides, and the number of rows need not be a power of two.
    #[inline]
    fn home(&self, mint: &Address) -> usize {
        let rows = u64::try_from(self.rows.len()).unwrap_or(0);
        let product = u128::from(self.hasher.hash_one(mint)) * u128::from(rows);
        usize::try_from(product >> 64).unwrap_or(0)
    }
}

impl Row {
    /// The token as it is now.
    #[inline]
    pub(super) fn token(&self) -> TokenRef<'_> {
        // Acquire: whoever sees the mark sees the successor.
        if self.state.load(Ordering::Acquire) == REPLACED {
            return TokenRef::replaced(&self.token, self.successor.load());
        }
        TokenRef::at_start(&self.token)
    }

    /// From now on the token is this. Only one task may call it.
    pub(super) fn replace(&self, token: Arc<KnownToken>) {
        self.successor.store(Some(token));
        self.state.store(REPLACED, Ordering::Release);
    }
}

fn rows_for(tokens: usize) -> usize {
    let (rows, of_tokens) = ROWS_FOR_TOKENS;
    tokens.saturating_mul(rows).div_ceil(of_tokens)
}

fn empty_rows(count: usize) -> Vec<Row> {
    let nothing =
        || Row { state: AtomicU8::new(EMPTY), token: KnownToken::nothing(), successor: ArcSwapOption::empty() };
    let mut rows = Vec::with_capacity(count);
    tripod_journal::prefer_huge_pages(rows.spare_capacity_mut());
    rows.resize_with(count, nothing);
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn token(number: u64) -> KnownToken {
        KnownToken { mint: mint(number), slot: number, ..KnownToken::nothing() }
    }

    fn mint(number: u64) -> Address {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&number.to_le_bytes());
        Address::new_from_array(bytes)
    }

    #[test]
    fn every_token_is_found_in_a_table_that_grew_and_no_other() {
        for room in [0, 10_000] {
            let mut table = Table::with_room(room);
            (1..=10_000).for_each(|number| table.insert(token(number)));
            assert_eq!(table.len(), 10_000);
            for number in 1..=10_000 {
                assert_eq!(table.row(&mint(number)).unwrap().token().slot, number);
            }
            for number in (10_001..=30_000).chain([0]) {
                assert!(table.row(&mint(number)).is_none());
            }
        }
        assert!(Table::default().row(&mint(1)).is_none());
    }

    #[test]
    fn the_same_mint_again_takes_the_place_of_the_first() {
        let mut table = Table::default();
        table.insert(token(1));
        table.insert(KnownToken { decimals: 9, ..token(1) });
        assert_eq!((table.len(), table.row(&mint(1)).unwrap().token().decimals), (1, 9));
    }

    #[test]
    fn a_row_begins_on_a_cache_line_with_what_is_asked_first_in_it() {
        assert_eq!((align_of::<Row>(), size_of::<Row>()), (64, 256));
        let row = &empty_rows(1)[0];
        let offset = |field: usize| field - std::ptr::from_ref(row).addr();
        for field in [
            offset(std::ptr::from_ref(&row.token.mint).addr()) + 31,
            offset(std::ptr::from_ref(&row.token.decimals).addr()),
            offset(std::ptr::from_ref(&row.token.slot).addr()) + 7,
        ] {
            assert!(field < 64, "{field}");
        }
    }

    #[test]
    fn mints_that_differ_in_one_byte_are_spread_and_no_two_tables_alike() {
        let table = Table::with_room(10_000);
        let homes: HashSet<usize> = (0..32_usize)
            .flat_map(|at| (1..=255_u8).map(move |byte| (at, byte)))
            .map(|(at, byte)| {
                let mut bytes = [0; 32];
                bytes[at] = byte;
                table.home(&Address::new_from_array(bytes))
            })
            .collect();
        // 8,160 mints take some 6,300 of 15,000 places where they fall at random.
        assert!(homes.len() > 6_000, "{} places", homes.len());
        let other = Table::with_room(10_000);
        assert!((0..8).any(|number| table.home(&mint(number)) != other.home(&mint(number))));
    }
}
