//! A row whose recording stops half-way: its thread stands inside the journal's append, between claiming its place and
//! publishing the record, as one that the operating system has parked there or that was killed there.
//!
//! Constraints: nothing in the library knows of it. A row hands its columns over twice: once to be checked and
//! measured, once straight into the journal's mapping. This one does not come back from the second time.

use std::cell::{Cell, RefCell};

use tripod::tape::Row;
use tripod::tape::row::ColumnWriter;
use tripod::tape::spec::TableSpec;

use super::row::DrillRow;

/// The times that a row is asked for its columns before they go into the journal.
const TIMES_BEFORE: u32 = 1;

pub(super) struct HeldRow<'a, F> {
    row: &'a DrillRow<'a>,
    asked: Cell<u32>,
    hold: RefCell<Option<F>>,
}

impl<'a, F: FnOnce()> HeldRow<'a, F> {
    /// `hold` is called with the columns in the journal and the record not published.
    pub(super) fn new(row: &'a DrillRow<'a>, hold: F) -> Self {
        Self { row, asked: Cell::new(0), hold: RefCell::new(Some(hold)) }
    }
}

impl<F: FnOnce()> Row for HeldRow<'_, F> {
    fn spec() -> &'static TableSpec {
        DrillRow::spec()
    }

    fn write<W: ColumnWriter>(&self, writer: &mut W) -> tripod::Result<()> {
        self.row.write(writer)?;
        if self.asked.replace(self.asked.get() + 1) >= TIMES_BEFORE
            && let Some(hold) = self.hold.borrow_mut().take()
        {
            hold();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Place, Recipe};
    use super::*;
    use tripod::tape::encode;

    #[test]
    fn it_is_held_when_it_is_written_and_not_when_it_is_measured_and_is_else_the_same_row() {
        let row = Recipe { seed: 7, base: 1, poison: false }.row(Place { thread: 1, number: 5 }).unwrap();
        let held = Cell::new(0);
        let copy = HeldRow::new(&row, || held.set(held.get() + 1));
        let len = encode::measure(&copy).unwrap();
        assert_eq!(held.get(), 0, "the journal does not know of it yet");
        let (mut bytes, mut expected) = (vec![0; len], vec![0; len]);
        encode::fill(&copy, &mut bytes).unwrap();
        encode::fill(&row, &mut expected).unwrap();
        assert_eq!((held.get(), bytes), (1, expected));
    }
}
