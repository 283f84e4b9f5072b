//! A row whose recording stops half-way: its thread stands inside the journal's append, between claiming its place and
//! publishing the record, as one that the operating system has parked there or that was killed there.
//!
//! Constraints: nothing in the library knows of it. A row hands its columns over once, straight into the journal's
//! mapping. This one does not come back from that.

use std::cell::RefCell;

use tripod::tape::Row;
use tripod::tape::row::ColumnWriter;
use tripod::tape::spec::TableSpec;

use super::row::DrillRow;

pub(super) struct HeldRow<'a, F> {
    row: &'a DrillRow<'a>,
    hold: RefCell<Option<F>>,
}

impl<'a, F: FnOnce()> HeldRow<'a, F> {
    /// `hold` is called with the columns in the journal and the record not published.
    pub(super) fn new(row: &'a DrillRow<'a>, hold: F) -> Self {
        Self { row, hold: RefCell::new(Some(hold)) }
    }
}

impl<F: FnOnce()> Row for HeldRow<'_, F> {
    fn spec() -> &'static TableSpec {
        DrillRow::spec()
    }

    fn write<W: ColumnWriter>(&self, writer: &mut W) -> tripod::Result<()> {
        self.row.write(writer)?;
        if let Some(hold) = self.hold.borrow_mut().take() {
            hold();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::row::{Place, Recipe};
    use super::*;
    use tripod::tape::encode;

    #[test]
    fn it_is_held_when_it_is_written_and_is_else_the_same_row() {
        let row = Recipe { seed: 7, base: 1, poison: false }.row(Place { thread: 1, number: 5 }).unwrap();
        let held = Cell::new(0);
        let copy = HeldRow::new(&row, || held.set(held.get() + 1));
        let len = encode::measure(&row).unwrap();
        let (mut bytes, mut expected) = (vec![0; len], vec![0; len]);
        encode::fill(&copy, &mut bytes).unwrap();
        encode::fill(&row, &mut expected).unwrap();
        assert_eq!((held.get(), bytes), (1, expected));
    }
}
