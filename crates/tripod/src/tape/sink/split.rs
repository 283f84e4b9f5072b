//! Which rows of a batch go into the next request, after what the server said about the one before.
//!
//! Constraints: pure. One bad row among 20,000 costs a handful of requests, 20,000 bad rows cost about one small request
//! each and not 20,000 large ones: the window halves with each refusal and doubles with each success. Where the server
//! does not name the line, halving alone finds it.

use std::collections::BTreeSet;
use std::ops::Range;

/// The way through one batch.
#[derive(Debug)]
pub(super) struct Split {
    rows: usize,
    next: usize,
    window: usize,
    bad: BTreeSet<usize>,
    /// Nothing was found bad since the start.
    intact: bool,
}

impl Split {
    /// A batch of `rows`, of which `unfit` are not sent at all.
    pub(super) fn new(rows: usize, unfit: impl IntoIterator<Item = usize>) -> Self {
        Self { rows, next: 0, window: rows.max(1), bad: unfit.into_iter().collect(), intact: true }
    }

    /// The rows of the next request, in order; `None` when the batch is through.
    pub(super) fn request(&mut self) -> Option<Vec<usize>> {
        while self.next < self.rows {
            let rows: Vec<usize> = self.range().filter(|row| !self.bad.contains(row)).collect();
            if !rows.is_empty() {
                return Some(rows);
            }
            self.next = self.range().end;
        }
        None
    }

    /// Whether the next request is the whole batch as it was encoded at first.
    pub(super) fn is_whole(&self) -> bool {
        self.intact && self.next == 0 && self.window >= self.rows
    }

    /// The first row that is not settled yet.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// A row that was fit is so no longer.
    pub(super) fn exclude(&mut self, row: usize) {
        self.bad.insert(row);
        self.intact = false;
    }

    /// The request was taken.
    pub(super) fn accepted(&mut self) {
        self.next = self.range().end;
        self.window = self.window.saturating_mul(2).min(self.rows.max(1));
    }

    /// The request was refused because of its `line` (from 1). Returns the row that is at fault, once it is known.
    pub(super) fn refused(&mut self, line: Option<usize>) -> Option<usize> {
        let request = self.request()?;
        let named = line.and_then(|line| request.get(line.checked_sub(1)?).copied());
        let culprit = named.or(if request.len() == 1 { request.first().copied() } else { None });
        if let Some(row) = culprit {
            self.exclude(row);
        }
        self.window = (self.range().len() / 2).max(1);
        culprit
    }

    fn range(&self) -> Range<usize> {
        self.next..self.next.saturating_add(self.window).min(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A server that takes a request only when no row of it is bad, and counts.
    fn deliver(rows: usize, bad: &BTreeSet<usize>, names_lines: bool) -> (Vec<usize>, Vec<usize>, usize) {
        let mut split = Split::new(rows, []);
        let (mut taken, mut refused, mut requests) = (Vec::new(), Vec::new(), 0);
        while let Some(request) = split.request() {
            requests += 1;
            match request.iter().position(|row| bad.contains(row)) {
                None => {
                    taken.extend(request);
                    split.accepted();
                }
                Some(at) => refused.extend(split.refused(names_lines.then_some(at + 1))),
            }
        }
        (taken, refused, requests)
    }

    proptest! {
        #[test]
        fn exactly_the_bad_rows_are_refused_and_all_others_taken_once_in_order(
            rows in 0_usize..300, picks in prop::collection::vec(any::<prop::sample::Index>(), 0..40), named: bool
        ) {
            let bad: BTreeSet<usize> = if rows == 0 { BTreeSet::new() } else { picks.iter().map(|i| i.index(rows)).collect() };
            let (taken, refused, _) = deliver(rows, &bad, named);
            prop_assert_eq!(&taken, &(0..rows).filter(|row| !bad.contains(row)).collect::<Vec<_>>());
            prop_assert_eq!(refused, bad.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_bad_row_costs_a_handful_of_requests() {
        let (taken, _, requests) = deliver(20_000, &BTreeSet::from([15_001]), true);
        assert_eq!(taken.len(), 19_999);
        assert!(requests <= 4, "{requests} requests");
        let (_, _, requests) = deliver(20_000, &BTreeSet::from([15_001]), false);
        assert!(requests <= 40, "{requests} requests where no line is named");
    }

    #[test]
    fn a_batch_of_nothing_but_bad_rows_ends_after_about_one_request_each() {
        let (_, refused, requests) = deliver(1_000, &(0..1_000).collect(), true);
        assert_eq!(refused.len(), 1_000);
        assert_eq!(requests, 1_000);
    }

    #[test]
    fn a_line_that_cannot_be_is_no_answer() {
        let mut split = Split::new(4, []);
        assert_eq!(split.refused(Some(9)), None);
        assert_eq!(split.request(), Some(vec![0, 1]));
        assert_eq!(split.refused(Some(0)), None);
        assert_eq!(split.request(), Some(vec![0]));
        assert_eq!(split.refused(None), Some(0));
    }

    #[test]
    fn unfit_rows_are_never_sent() {
        let mut split = Split::new(3, [0, 1, 2]);
        assert_eq!(split.request(), None);
        let mut split = Split::new(3, [1]);
        assert_eq!(split.request(), Some(vec![0, 2]));
        assert!(split.is_whole());
        split.exclude(2);
        assert!(!split.is_whole());
        assert_eq!(split.request(), Some(vec![0]));
    }
}
