//! What was read so far: batches for the store, and the counts of everything else.
//!
//! Constraints: bounded by one batch. Of a list the first entry of a mint holds and the later ones are counted as
//! repeated, so that a list imported twice changes nothing; that takes the mints of the list (about 50 bytes each).

use std::collections::HashSet;

use super::{Kind, Report};
use crate::error::{Error, Result};
use crate::tokens::store::{Listing, Observation};
use crate::tokens::{Address, Extension};

/// Entries that are handed to the store together.
const BATCH_ENTRIES: usize = 5_000;
/// Bytes of extensions in one batch at most, about: a mint may have 10 MiB of them.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the store takes at once.
#[derive(Debug)]
pub(super) enum Batch {
    Observations(Vec<Observation>),
    Listings(Vec<Listing>),
}

/// See the module. `hand_over` gives false where nobody wants the rest.
pub(super) struct Collector<F> {
    /// The list's number of the chain to take.
    pub(super) chain: u64,
    /// The slot of accounts that come without one.
    pub(super) slot_else: u64,
    /// The address of an only account that comes without one.
    pub(super) only: Option<Address>,
    hand_over: F,
    report: Report,
    observations: Vec<Observation>,
    observed_bytes: usize,
    listings: Vec<Listing>,
    listed: HashSet<Address>,
    /// Entries so far.
    place: usize,
    nobody_listens: bool,
}

/// Nobody wants the rest.
#[derive(Debug)]
pub(super) struct Unwanted;

impl<F: FnMut(Batch) -> bool> Collector<F> {
    pub(super) fn new(chain: u64, slot_else: u64, only: Option<Address>, hand_over: F) -> Self {
        Self {
            chain,
            slot_else,
            only,
            hand_over,
            report: Report::default(),
            observations: Vec::new(),
            observed_bytes: 0,
            listings: Vec::new(),
            listed: HashSet::new(),
            place: 0,
            nobody_listens: false,
        }
    }

    /// The file turned out to hold this.
    pub(super) fn holds(&mut self, kind: Kind) {
        self.report.kind = kind;
    }

    /// A mint; `has_slot` where its slot is the file's own.
    pub(super) fn observed(&mut self, seen: Observation, has_slot: bool) -> Result<(), Unwanted> {
        self.place += 1;
        self.report.without_slot += usize::from(!has_slot);
        self.observed_bytes += seen.mint.extensions.iter().map(|e: &Extension| e.raw().len()).sum::<usize>();
        self.observations.push(seen);
        if self.observations.len() < BATCH_ENTRIES && self.observed_bytes < BATCH_BYTES_MAX {
            return Ok(());
        }
        self.hand_over_observations()
    }

    /// Somebody's balance.
    pub(super) fn balance(&mut self) {
        self.place += 1;
        self.report.token_accounts += 1;
    }

    /// An entry of a list for another chain.
    pub(super) fn of_another_chain(&mut self) {
        self.place += 1;
        self.report.other_chains += 1;
    }

    /// An entry of a list.
    pub(super) fn listed(&mut self, listing: Listing) -> Result<(), Unwanted> {
        self.place += 1;
        if !self.listed.insert(listing.mint) {
            self.report.stored.repeated += 1;
            return Ok(());
        }
        self.listings.push(listing);
        if self.listings.len() < BATCH_ENTRIES {
            return Ok(());
        }
        self.hand_over_listings()
    }

    /// The entry that is at its turn was not taken.
    pub(super) fn refuse(&mut self, entry: String, why: String) {
        self.refuse_at(self.place, entry, why);
    }

    /// The same for formats whose places are lines.
    pub(super) fn refuse_at(&mut self, place: usize, entry: String, why: String) {
        self.place += 1;
        self.report.refuse(place, entry, why);
    }

    /// Hands the last batch over. `torn` says why the file could not be read to its end.
    pub(super) fn finish(mut self, torn: Option<String>) -> Result<Report> {
        let wanted = self.hand_over_observations().and_then(|()| self.hand_over_listings());
        if self.nobody_listens || wanted.is_err() {
            return Err(Error::Closed("the import that the file was read for"));
        }
        if torn.is_none() && self.place == 0 && self.report.kind == Kind::Accounts {
            let why = "holds neither a token list (`tokens`), nor accounts as an RPC node gives them";
            return Err(Error::invalid("import", why));
        }
        self.report.torn = torn;
        Ok(self.report)
    }

    fn hand_over_observations(&mut self) -> Result<(), Unwanted> {
        self.observed_bytes = 0;
        let batch = std::mem::take(&mut self.observations);
        self.give(batch.is_empty(), Batch::Observations(batch))
    }

    fn hand_over_listings(&mut self) -> Result<(), Unwanted> {
        let batch = std::mem::take(&mut self.listings);
        self.give(batch.is_empty(), Batch::Listings(batch))
    }

    fn give(&mut self, is_empty: bool, batch: Batch) -> Result<(), Unwanted> {
        if !is_empty && !self.nobody_listens {
            self.nobody_listens = !(self.hand_over)(batch);
        }
        if self.nobody_listens { Err(Unwanted) } else { Ok(()) }
    }
}
