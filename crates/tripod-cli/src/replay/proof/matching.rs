//! Expected rows against found rows: by exact instant and key, then cell by cell.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::expect::{Row, Sum, Table};

/// Differences that are shown one by one; the others are counted.
const EXAMPLES_MAX: usize = 5;

/// What became of the rows of one table.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) table: Table,
    /// Different rows (instant and key) that the files ask for.
    pub(crate) expected: u64,
    /// Lines of the files that say again what another line said.
    pub(crate) repeated: u64,
    /// Expected and found, whatever their content.
    pub(crate) visible: u64,
    /// Expected and not found.
    pub(crate) lost: u64,
    /// Found once too often, each time counted.
    pub(crate) doubled: u64,
    /// Found with another content.
    pub(crate) different: u64,
    /// Found and not expected: another replay's or a bot's.
    pub(crate) foreign: u64,
    /// The sums of the expected rows, by the files; in the order of [`Table::summed`].
    pub(crate) expected_sums: Vec<Sum>,
    /// The sums of all rows found.
    pub(crate) found_sums: Vec<Sum>,
    /// Some of what is wrong, in words.
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    pub(crate) fn new(table: Table) -> Self {
        let sums = vec![Sum::default(); table.summed().count()];
        Self {
            table,
            expected: 0,
            repeated: 0,
            visible: 0,
            lost: 0,
            doubled: 0,
            different: 0,
            foreign: 0,
            expected_sums: sums.clone(),
            found_sums: sums,
            examples: Vec::new(),
        }
    }

    /// Rows found in the span, with those of others.
    pub(crate) fn found(&self) -> u64 {
        self.visible + self.doubled + self.foreign
    }

    /// Nothing lost, doubled or changed.
    pub(crate) fn is_true(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.different == 0
    }

    fn example(&mut self, words: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(words());
        }
    }
}

#[derive(Debug)]
struct Wanted {
    row: Row,
    found: u64,
}

/// The rows of one window.
#[derive(Debug)]
pub(crate) struct Matching {
    table: Table,
    wanted: HashMap<(i64, String), Wanted>,
}

impl Matching {
    pub(crate) fn new(table: Table) -> Self {
        Self { table, wanted: HashMap::new() }
    }

    /// A row that the files ask for. One that says again what another said is the same row; where the two differ, the
    /// later one replaces the earlier on the server, and so it does here.
    pub(crate) fn expect(&mut self, row: Row, verdict: &mut Verdict) {
        match self.wanted.entry((row.at.as_nanos(), row.key(self.table))) {
            Entry::Occupied(mut entry) => {
                verdict.repeated += 1;
                entry.get_mut().row = row;
            }
            Entry::Vacant(entry) => {
                verdict.expected += 1;
                entry.insert(Wanted { row, found: 0 });
            }
        }
    }

    /// A row that the server gave.
    pub(crate) fn meet(&mut self, row: &Row, verdict: &mut Verdict) {
        add(self.table, &mut verdict.found_sums, row);
        let Some(wanted) = self.wanted.get_mut(&(row.at.as_nanos(), row.key(self.table))) else {
            verdict.foreign += 1;
            return;
        };
        wanted.found += 1;
        if wanted.found > 1 {
            verdict.doubled += 1;
            verdict.example(|| format!("found {} times: {}", wanted.found, describe(self.table, row)));
            return;
        }
        verdict.visible += 1;
        if wanted.row.cells != row.cells {
            verdict.different += 1;
            verdict.example(|| {
                format!("wanted {}; found {}", describe(self.table, &wanted.row), describe(self.table, row))
            });
        }
    }

    /// Nothing more will be found: what is left is lost.
    pub(crate) fn finish(self, verdict: &mut Verdict) {
        for wanted in self.wanted.into_values() {
            add(self.table, &mut verdict.expected_sums, &wanted.row);
            if wanted.found == 0 {
                verdict.lost += 1;
                verdict.example(|| format!("not found: {}", describe(self.table, &wanted.row)));
            }
        }
    }
}

fn add(table: Table, sums: &mut [Sum], row: &Row) {
    let cells = table.columns().iter().zip(&row.cells).filter(|(column, _)| column.summed);
    for (sum, (_, cell)) in sums.iter_mut().zip(cells) {
        sum.add(cell);
    }
}

fn describe(table: Table, row: &Row) -> String {
    let cells = table.columns().iter().zip(&row.cells).filter(|(_, cell)| !cell.is_empty());
    let cells: Vec<_> = cells.map(|(column, cell)| format!("{}={cell}", column.name)).collect();
    format!("{} at {} {}", table.name(), row.at, cells.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tripod::Timestamp;

    fn trade(nanos: i64, id: &str, price: &str) -> Row {
        let cells = ["v", "SOL", id, "buy", price, "1", "0", ""].map(str::to_owned).to_vec();
        Row { at: Timestamp::from_nanos(nanos).unwrap(), cells }
    }

    fn judge(expected: &[Row], found: &[Row]) -> Verdict {
        let mut verdict = Verdict::new(Table::Trades);
        let mut matching = Matching::new(Table::Trades);
        for row in expected {
            matching.expect(row.clone(), &mut verdict);
        }
        for row in found {
            matching.meet(row, &mut verdict);
        }
        matching.finish(&mut verdict);
        verdict
    }

    fn counts(v: &Verdict) -> [u64; 7] {
        [v.expected, v.repeated, v.visible, v.lost, v.doubled, v.different, v.foreign]
    }

    #[test]
    fn everything_there_once_is_true() {
        let rows = [trade(1, "a", "1"), trade(1, "b", "2"), trade(2, "a", "3")];
        let verdict = judge(&rows, &rows);
        assert_eq!(counts(&verdict), [3, 0, 3, 0, 0, 0, 0]);
        assert!(verdict.is_true());
        assert_eq!(verdict.expected_sums, verdict.found_sums);
        assert_eq!(verdict.found_sums[0].text().unwrap(), "6");
    }

    #[test]
    fn a_missing_row_is_lost_even_where_a_foreign_one_makes_the_count_right() {
        let verdict = judge(&[trade(1, "a", "1"), trade(2, "b", "2")], &[trade(1, "a", "1"), trade(2, "x", "2")]);
        assert_eq!(counts(&verdict), [2, 0, 1, 1, 0, 0, 1]);
        assert!(!verdict.is_true());
        assert_eq!(
            verdict.examples,
            [
                "not found: market_trades at 1970-01-01T00:00:00.000000002Z venue=v token=SOL trade_id=b side=buy price=2 size=1 slot=0"
            ]
        );
    }

    #[test]
    fn a_row_found_twice_is_doubled_and_one_with_another_digit_is_different() {
        let twice = judge(&[trade(1, "a", "1")], &[trade(1, "a", "1"), trade(1, "a", "1")]);
        assert_eq!(counts(&twice), [1, 0, 1, 0, 1, 0, 0]);
        let changed = judge(&[trade(1, "a", "1")], &[trade(1, "a", "1.000000000000000001")]);
        assert_eq!(counts(&changed), [1, 0, 1, 0, 0, 1, 0]);
        assert!(!twice.is_true() && !changed.is_true());
        let moved = judge(&[trade(1, "a", "1")], &[trade(2, "a", "1")]);
        assert_eq!(counts(&moved), [1, 0, 0, 1, 0, 0, 1], "a nanosecond off is another row");
    }

    #[test]
    fn a_line_that_says_it_again_is_the_same_row_and_the_later_content_counts() {
        let verdict = judge(&[trade(1, "a", "1"), trade(1, "a", "2")], &[trade(1, "a", "2")]);
        assert_eq!(counts(&verdict), [1, 1, 1, 0, 0, 0, 0]);
        assert_eq!(verdict.expected_sums[0].text().unwrap(), "2");
    }
}
