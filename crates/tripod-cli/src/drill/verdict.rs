//! The verdict: what the witness saw against what the server has. Pure.
//!
//! Constraints: every witnessed row must be there once and as the recipe makes it, or, where it is a poisoned one, in the
//! quarantine once. A row that was recorded and not witnessed may be there (its process was killed in between). Any
//! other row is one that nobody recorded.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::Value;

use super::child::Span;
use super::row::{Place, Recipe, THREADS, holds};

/// Places that are named in the report, of each kind.
const NAMED_MAX: usize = 5;

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Rows that the witness saw.
    pub(super) witnessed: u64,
    /// Witnessed, and nowhere.
    pub(super) lost: u64,
    /// There again, after the first time.
    pub(super) doubled: u64,
    /// There, with other content.
    pub(super) altered: u64,
    /// There, and not recorded by anybody.
    pub(super) foreign: u64,
    /// There, recorded by a life that was killed before it could say so; allowed.
    pub(super) unwitnessed: u64,
    /// Poisoned rows in the quarantine.
    pub(super) quarantined: u64,
    /// Some of the rows that are not as they should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) examples: Vec<String>,
}

impl Verdict {
    pub(super) fn is_true(&self) -> bool {
        self.lost + self.doubled + self.altered + self.foreign == 0
    }

    fn name(&mut self, what: &str, place: Place) {
        if self.examples.len() < NAMED_MAX {
            self.examples.push(format!("{what}: thread {} row {}", place.thread, place.number));
        }
    }
}

/// Being found.
#[derive(Debug)]
pub(super) struct Judge {
    recipe: Recipe,
    /// How often each row was met, by thread and number.
    met: [Vec<u8>; THREADS],
    spans: Vec<Span>,
    unwitnessed: HashSet<Place>,
    verdict: Verdict,
}

impl Judge {
    pub(super) fn new(recipe: Recipe, spans: &[Span]) -> Self {
        let mut met: [Vec<u8>; THREADS] = std::array::from_fn(|_| Vec::new());
        for span in spans {
            if let Some(met) = met.get_mut(span.thread) {
                let rows = usize::try_from(span.to).unwrap_or(usize::MAX).saturating_add(1);
                met.resize(met.len().max(rows), 0);
            }
        }
        let unwitnessed = spans.iter().map(|span| span.unwitnessed()).collect();
        Self { recipe, met, spans: spans.to_vec(), unwitnessed, verdict: Verdict::default() }
    }

    /// A row of the server, as selected.
    pub(super) fn meet(&mut self, cells: &[Value]) {
        let id = cells.first().and_then(Value::as_str).unwrap_or_default();
        let place = self.recipe.place_of(id).filter(|place| !self.recipe.is_poison(*place));
        let Some(place) = self.count(place, id) else { return };
        let as_it_should_be = self.recipe.row(place).is_ok_and(|row| holds(&row, cells));
        if !as_it_should_be {
            self.verdict.altered += 1;
            self.verdict.name("altered", place);
        }
    }

    /// A row of the quarantine, by its id. A row that is no poisoned one has no business there and stays lost.
    pub(super) fn meet_quarantined(&mut self, id: &str) {
        let place = self.recipe.place_of(id);
        if place.is_some_and(|place| !self.recipe.is_poison(place)) {
            return;
        }
        if self.count(place, id).is_some() {
            self.verdict.quarantined += 1;
        }
    }

    /// Counts a row that is there; gives its place where it may be.
    fn count(&mut self, place: Option<Place>, id: &str) -> Option<Place> {
        let known = place.filter(|place| self.is_witnessed(*place) || self.unwitnessed.contains(place));
        let met = known.and_then(|place| self.met.get_mut(place.thread)?.get_mut(usize::try_from(place.number).ok()?));
        let (Some(place), Some(met)) = (known, met) else {
            self.verdict.foreign += 1;
            if self.verdict.examples.len() < NAMED_MAX {
                self.verdict.examples.push(format!("nobody's: id {id}"));
            }
            return None;
        };
        *met = met.saturating_add(1);
        if *met > 1 {
            self.verdict.doubled += 1;
            self.verdict.name("doubled", place);
        }
        Some(place)
    }

    fn is_witnessed(&self, place: Place) -> bool {
        self.spans.iter().any(|span| span.thread == place.thread && (span.from..span.to).contains(&place.number))
    }

    /// Rows of the server outside the times that were read.
    pub(super) fn meet_elsewhere(&mut self, rows: u64) {
        self.verdict.foreign += rows;
    }

    pub(super) fn finish(mut self) -> Verdict {
        let times = |met: &[Vec<u8>; THREADS], place: Place| {
            let index = usize::try_from(place.number).unwrap_or(usize::MAX);
            met.get(place.thread).and_then(|met| met.get(index)).copied().unwrap_or(0)
        };
        for span in self.spans.clone() {
            self.verdict.witnessed += span.to - span.from;
            for number in span.from..span.to {
                let place = Place { thread: span.thread, number };
                if times(&self.met, place) == 0 {
                    self.verdict.lost += 1;
                    self.verdict.name("lost", place);
                }
            }
        }
        let unseen = self.unwitnessed.iter().filter(|place| times(&self.met, **place) > 0).count();
        self.verdict.unwitnessed = u64::try_from(unseen).unwrap_or(u64::MAX);
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RECIPE: Recipe = Recipe { seed: 42, base: 1_700_000_000_000_000_000, poison: false };
    /// Two lives of thread 1: rows 0 to 9, then 11 to 19; row 10 and row 20 may have been recorded unseen.
    const SPANS: [Span; 2] = [Span { thread: 1, from: 0, to: 10 }, Span { thread: 1, from: 11, to: 20 }];

    /// What QuestDB answers for a row that is as it should be.
    fn cells(recipe: Recipe, number: u64) -> Vec<Value> {
        let row = recipe.row(Place { thread: 1, number }).unwrap();
        vec![
            json!(row.id.to_string()),
            json!(row.at.as_nanos()),
            json!(row.worker),
            json!(row.number),
            json!(row.token.as_str()),
            json!(row.amount.to_string()),
            json!(format!("{:.18}", row.price)),
            json!(row.ratio),
            json!(row.flag),
            json!(row.seen_at.map(|at| at.as_nanos())),
            json!(row.note),
        ]
    }

    fn all() -> Vec<u64> {
        (0..10).chain(11..20).collect()
    }

    fn judge(numbers: &[u64], then: impl FnOnce(&mut Judge)) -> Verdict {
        let mut judge = Judge::new(RECIPE, &SPANS);
        numbers.iter().for_each(|number| judge.meet(&cells(RECIPE, *number)));
        then(&mut judge);
        judge.finish()
    }

    #[test]
    fn all_rows_once_and_as_they_were_is_true_with_or_without_the_unwitnessed_one() {
        let verdict = judge(&all(), |_| {});
        assert_eq!(verdict, Verdict { witnessed: 19, ..Verdict::default() });
        assert!(verdict.is_true());
        let verdict = judge(&all(), |judge| judge.meet(&cells(RECIPE, 10)));
        assert_eq!(verdict, Verdict { witnessed: 19, unwitnessed: 1, ..Verdict::default() });
        assert!(verdict.is_true());
    }

    #[test]
    fn a_missing_row_is_lost_and_one_in_the_quarantine_is_too() {
        let numbers: Vec<_> = all().into_iter().filter(|number| *number != 13).collect();
        let missing = judge(&numbers, |_| {});
        assert_eq!((missing.lost, missing.is_true()), (1, false));
        assert_eq!(missing.examples, ["lost: thread 1 row 13"]);
        let id = RECIPE.row(Place { thread: 1, number: 13 }).unwrap().id.to_string();
        let quarantined = judge(&numbers, |judge| judge.meet_quarantined(&id));
        assert_eq!((quarantined.lost, quarantined.quarantined), (1, 0));
    }

    #[test]
    fn a_row_that_is_there_twice_is_doubled() {
        let verdict = judge(&all(), |judge| judge.meet(&cells(RECIPE, 4)));
        assert_eq!((verdict.lost, verdict.doubled, verdict.is_true()), (0, 1, false));
    }

    #[test]
    fn a_row_with_any_cell_changed_is_altered() {
        // The first cell is the id: changed, the row is nobody's.
        for index in 1..cells(RECIPE, 5).len() {
            let numbers: Vec<_> = all().into_iter().filter(|number| *number != 5).collect();
            let verdict = judge(&numbers, |judge| {
                let mut row = cells(RECIPE, 5);
                row[index] = match &row[index] {
                    Value::Null => json!(1),
                    Value::Bool(value) => json!(!value),
                    Value::String(text) if index == 6 => json!(format!("{text}1")),
                    Value::String(_) => json!("1"),
                    Value::Number(number) if number.is_f64() => {
                        json!(f64::from_bits(number.as_f64().unwrap().to_bits() + 1))
                    }
                    other => json!(other.as_i64().unwrap() + 1),
                };
                judge.meet(&row);
            });
            assert_eq!((verdict.altered, verdict.lost, verdict.is_true()), (1, 0, false), "cell {index}");
        }
    }

    #[test]
    fn a_row_that_nobody_recorded_is_nobodys() {
        let other = Recipe { seed: 43, ..RECIPE };
        for foreign in [cells(RECIPE, 21), cells(other, 5), vec![], vec![json!(null)]] {
            let verdict = judge(&all(), |judge| judge.meet(&foreign));
            assert_eq!((verdict.foreign, verdict.is_true()), (1, false), "{foreign:?}");
        }
        assert!(!judge(&all(), |judge| judge.meet_elsewhere(1)).is_true());
    }

    #[test]
    fn a_poisoned_row_belongs_in_the_quarantine_once_and_nowhere_else() {
        let recipe = Recipe { poison: true, ..RECIPE };
        let spans = [Span { thread: 0, from: 250, to: 251 }];
        let row = recipe.row(Place { thread: 0, number: 250 }).unwrap();
        let id = row.id.to_string();
        let judge = |times: usize, on_server: bool| {
            let mut judge = Judge::new(recipe, &spans);
            (0..times).for_each(|_| judge.meet_quarantined(&id));
            if on_server {
                judge.meet(&[json!(id)]);
            }
            judge.finish()
        };
        assert_eq!(judge(1, false), Verdict { witnessed: 1, quarantined: 1, ..Verdict::default() });
        assert_eq!(judge(0, false).lost, 1);
        assert_eq!(judge(2, false).doubled, 1);
        assert_eq!(judge(1, true).foreign, 1);
    }
}
