//! The tables that may be recorded, found in a few nanoseconds.
//!
//! Constraints: `record()` looks its table up each time, so no lock, no hash of a string, no allocation. Tables are added
//! only, never removed, and there are few of them: a fixed table with open addressing, keyed by the address of the row
//! type's spec (a `&'static`, so it stays what it is), where each slot is written once.

use std::sync::{Mutex, OnceLock, PoisonError};

use tripod_journal::{Journal, SchemaId};

use super::encode::bytes_max;
use super::spec::TableSpec;
use crate::error::{Error, Result};

/// Slots; a power of two, and four times what may be used, so that a search ends within a step or two.
const SLOTS: usize = 256;

/// Row types that one tape can take. A bot has a dozen.
pub const TABLES_MAX: usize = SLOTS / 4;

/// One table that may be recorded.
#[derive(Debug)]
pub(super) struct Registered {
    key: usize,
    pub(super) spec: &'static TableSpec,
    pub(super) schema: SchemaId,
    pub(super) journal: Journal,
    /// Bytes that no row of it is longer than.
    pub(super) bytes_max: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Directory {
    slots: Box<[OnceLock<Registered>]>,
    count: Mutex<usize>,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| OnceLock::new()).collect(), count: Mutex::new(0) }
    }

    /// The table of this spec, where it is registered.
    #[inline]
    pub(super) fn find(&self, spec: &'static TableSpec) -> Option<&Registered> {
        let key = key(spec);
        for slot in self.probe(key) {
            match slot.get() {
                Some(found) if found.key == key => return Some(found),
                Some(_) => {}
                None => return None,
            }
        }
        None
    }

    /// Adds a table. Adding the same spec again changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] where another spec has this table's name, or there are [`TABLES_MAX`] already.
    pub(super) fn add(&self, spec: &'static TableSpec, schema: SchemaId, journal: &Journal) -> Result<()> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(spec).is_some() {
            return Ok(());
        }
        if self.all().any(|other| other.spec.name == spec.name && other.spec != spec) {
            return Err(Error::invalid(
                &*spec.name,
                "is registered already with other columns; give one of the two row types another table",
            ));
        }
        if *count >= TABLES_MAX {
            return Err(Error::invalid(&*spec.name, format!("is one table too many; at most {TABLES_MAX}")));
        }
        let key = key(spec);
        let mut entry = Registered { key, spec, schema, journal: journal.clone(), bytes_max: bytes_max(spec) };
        for slot in self.probe(key) {
            match slot.set(entry) {
                Ok(()) => break,
                Err(taken) => entry = taken,
            }
        }
        *count += 1;
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Registered> {
        self.slots.iter().filter_map(OnceLock::get)
    }

    /// The slots in the order in which `key` is looked for.
    #[inline]
    fn probe(&self, key: usize) -> impl Iterator<Item = &OnceLock<Registered>> {
        // The low bits of an address are zero, and statics lie some hundred bytes apart.
        let home = ((key >> 4) ^ (key >> 12)) % SLOTS;
        let (before, from) = self.slots.split_at(home.min(self.slots.len()));
        from.iter().chain(before)
    }
}

#[inline]
fn key(spec: &'static TableSpec) -> usize {
    std::ptr::from_ref(spec).addr()
}
