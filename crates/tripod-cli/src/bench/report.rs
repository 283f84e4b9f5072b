//! What a bench says: the `--json` contract `bench`, the same as a table, and as markdown.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::machine::Machine;
use super::pair::Pair;
use crate::output;

const EVENTS_LEAST: u64 = 100_000;
const EVENTS_PER_CENT_LEAST: u32 = 70;
const COLUMNS: [&str; 10] = ["figure", "measured", "unit", "bar", "beyond", "verdict", "raw", "ratio", "turns", "note"];

/// The document of `bench`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) results: Vec<Figure>,
    pub(super) machine: Machine,
}

/// One figure. Made plain; what else is known is added: `Figure::plain(…).most(200).best(100).raw(…)`.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    name: String,
    value: u64,
    unit: &'static str,
    /// What it has to reach; none where it is only told.
    bar: Option<String>,
    ok: Option<bool>,
    /// What would be better than asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    beyond: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beyond_ok: Option<bool>,
    /// The raw client's, in the same unit.
    raw: Option<u64>,
    /// `value` to `raw`: more is better for rates, less for times.
    ratio: Option<f64>,
    /// What each turn gave, in order, where there were several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    turns: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    raw_turns: Vec<u64>,
    /// What the reader must know to judge it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Figure {
    /// A figure that is only told.
    pub(super) fn plain(name: &str, value: u64, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit,
            bar: None,
            ok: None,
            beyond: None,
            beyond_ok: None,
            raw: None,
            ratio: None,
            turns: Vec::new(),
            raw_turns: Vec::new(),
            note: None,
        }
    }

    /// A figure that has to be `most` or less.
    pub(super) fn at_most(name: &str, value: u64, unit: &'static str, most: u64) -> Self {
        Self::plain(name, value, unit).most(most)
    }

    /// It has to be this or more.
    pub(super) fn at_least(name: &str, value: u64, unit: &'static str, least: u64) -> Self {
        Self { bar: Some(format!(">= {least}")), ok: Some(value >= least), ..Self::plain(name, value, unit) }
    }

    /// It has to be this or less.
    pub(super) fn most(self, most: u64) -> Self {
        Self { bar: Some(format!("<= {most}")), ok: Some(self.value <= most), ..self }
    }

    /// p50, p99, p99.9 with what they may be at most, and the longest.
    pub(super) fn quantiles(
        name: &str,
        times: &Histogram<u64>,
        unit: &'static str,
        most: [Option<u64>; 3],
    ) -> Vec<Self> {
        let parts = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)].into_iter().zip(most);
        let mut figures: Vec<Self> = parts
            .map(|((part, quantile), most)| {
                let (name, value) = (format!("{name}_{part}"), times.value_at_quantile(quantile));
                match most {
                    Some(most) => Self::at_most(&name, value, unit, most),
                    None => Self::plain(&name, value, unit),
                }
            })
            .collect();
        figures.push(Self::plain(&format!("{name}_max"), times.max(), unit));
        figures
    }

    /// A rate beside another's: at least this part of it.
    pub(super) fn rate(name: &str, value: u64, unit: &'static str, raw: u64, least: f64) -> Self {
        let ratio = ratio(value, raw);
        let (bar, ok) = (Some(format!("ratio >= {least}")), Some(ratio >= least));
        Self { bar, ok, raw: Some(raw), ratio: Some(ratio), ..Self::plain(name, value, unit) }
    }

    /// A time beside another's: at most this many times it.
    pub(super) fn times(name: &str, value: u64, unit: &'static str, raw: u64, most: f64) -> Self {
        let ratio = ratio(value, raw);
        let (bar, ok) = (Some(format!("ratio <= {most}")), Some(ratio <= most));
        Self { bar, ok, raw: Some(raw), ratio: Some(ratio), ..Self::plain(name, value, unit) }
    }

    /// This or less is better than asked for.
    pub(super) fn best(self, most: u64) -> Self {
        Self { beyond: Some(format!("<= {most}")), beyond_ok: Some(self.value <= most), ..self }
    }

    /// What the raw client made of it.
    pub(super) fn raw(self, raw: u64) -> Self {
        let ratio = ratio(self.value, raw);
        Self { raw: Some(raw), ratio: Some(ratio), ..self }
    }

    /// What each turn came to.
    pub(super) fn turns(self, turns: Vec<u64>) -> Self {
        Self { turns, ..self }
    }

    /// At least so many per cent of the raw client's.
    pub(super) fn at_least_of(self, raw: u64, per_cent: u32) -> Self {
        let (ratio, bar) = (ratio(self.value, raw), f64::from(per_cent) / 100.0);
        let (bar, ok) = (Some(format!("ratio >= {bar}")), Some(ratio >= bar));
        Self { raw: Some(raw), ratio: Some(ratio), bar, ok, ..self }
    }

    pub(super) fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// p50, p99, p99.9, p99.99 and the longest of one kind of call, nanoseconds.
    pub(super) fn of_calls(name: &str, nanos: &Histogram<u64>) -> [Self; 5] {
        [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("p9999", 0.9999), ("max", 1.0)].map(|(part, quantile)| {
            Self::plain(&format!("{name}_{part}"), nanos.value_at_quantile(quantile), "ns")
                .note(format!("{} calls", nanos.len()))
        })
    }

    /// p50 and p99 of something in microseconds; the bar is p99's.
    pub(super) fn of_micros(name: &str, micros: &Histogram<u64>, p99_most: Option<u64>) -> [Self; 2] {
        let p99 = Self::plain(&format!("{name}_p99"), micros.value_at_quantile(0.99), "us");
        let p99 = match p99_most {
            Some(most) => p99.most(most),
            None => p99,
        };
        [Self::plain(&format!("{name}_p50"), micros.value_at_quantile(0.5), "us"), p99]
    }

    /// Events a second, beside `redis-benchmark`'s.
    pub(super) fn of_events_pair(name: &str, pair: &Pair) -> Self {
        let figure = Self { unit: "events/s", ..Self::of_pair(name, pair, EVENTS_PER_CENT_LEAST, None) };
        let ok = figure.value >= EVENTS_LEAST && figure.ok == Some(true);
        let bar = figure.bar.as_deref().map(|ratio| format!(">= {EVENTS_LEAST}, {ratio}"));
        Self { bar, ok: Some(ok), ..figure }
    }

    /// Rows per second of both sides: at least `least` per cent of the raw client's; `best` per cent are more than asked.
    pub(super) fn of_pair(name: &str, pair: &Pair, least: u32, best: Option<u32>) -> Self {
        let (value, raw) = (pair.tripod.rows_per_second(), pair.raw.rows_per_second());
        let ratio = ratio(value, raw);
        let part = |per_cent: u32| f64::from(per_cent) / 100.0;
        Self {
            bar: Some(format!("ratio >= {}", part(least))),
            ok: Some(ratio >= part(least)),
            beyond: best.map(|best| format!("ratio >= {}", part(best))),
            beyond_ok: best.map(|best| ratio >= part(best)),
            turns: pair.tripod.turns.clone(),
            raw_turns: pair.raw.turns.clone(),
            ..Self::plain(name, value, "rows/s").raw(raw)
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.ok, self.beyond_ok) {
            (Some(false), _) => "MISSED",
            (_, Some(true)) => "beyond",
            (Some(true), _) => "reached",
            (None, _) => "",
        }
    }

    /// In the order of [`COLUMNS`].
    fn cells(&self) -> [String; 10] {
        let range = |turns: &[u64]| match (turns.iter().min(), turns.iter().max()) {
            (Some(least), Some(most)) if turns.len() > 1 => format!("{least}–{most}"),
            _ => String::new(),
        };
        let turns = match (range(&self.turns), range(&self.raw_turns)) {
            (own, raw) if raw.is_empty() => own,
            (own, raw) => format!("{own}, raw {raw}"),
        };
        [
            self.name.clone(),
            self.value.to_string(),
            self.unit.to_owned(),
            self.bar.clone().unwrap_or_default(),
            self.beyond.clone().unwrap_or_default(),
            self.verdict().to_owned(),
            self.raw.map(|raw| raw.to_string()).unwrap_or_default(),
            self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            turns,
            self.note.clone().unwrap_or_default(),
        ]
    }
}

/// By way of per mille, so that the one rounding is a known one.
fn ratio(value: u64, raw: u64) -> f64 {
    let per_mille = u128::from(value) * 1000 / u128::from(raw.max(1));
    f64::from(u32::try_from(per_mille).unwrap_or(u32::MAX)) / 1000.0
}

impl Report {
    pub(crate) fn words(&self) -> String {
        let mut table = output::table(&COLUMNS);
        for figure in &self.results {
            table.add_row(figure.cells());
        }
        output::align_right(&mut table, 1..2);
        output::align_right(&mut table, 6..8);
        format!("{}\n{}", output::table_text(&table), self.machine.words())
    }

    /// For a document.
    pub(crate) fn markdown(&self) -> String {
        let row = |cells: [String; 10]| format!("| {} |\n", cells.join(" | "));
        let mut text = row(COLUMNS.map(str::to_owned)) + "|---|--:|---|---|---|---|--:|--:|---|---|\n";
        for figure in &self.results {
            text += &row(figure.cells());
        }
        format!("{text}\n{}", self.machine.words())
    }

    /// Whether these are the product's figures.
    pub(crate) fn is_of_release(&self) -> bool {
        self.machine.is_of_release()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::pair::Side;
    use super::*;

    #[test]
    fn a_missed_bar_is_said() {
        let mut pair = Pair::default();
        pair.add(Side::Tripod, 79_900, Duration::from_secs(1));
        pair.add(Side::Raw, 100_000, Duration::from_secs(1));
        let missed = Figure::of_pair("x", &pair, 80, Some(100));
        assert_eq!(
            (missed.value, missed.raw, missed.ratio, missed.ok),
            (79_900, Some(100_000), Some(0.799), Some(false))
        );
        assert_eq!(missed.verdict(), "MISSED");
        pair.add(Side::Tripod, 80_100, Duration::from_secs(1));
        assert_eq!(Figure::of_pair("x", &pair, 80, Some(100)).verdict(), "reached");
        assert_eq!(Figure::of_pair("x", &pair, 80, Some(80)).verdict(), "beyond");
        assert_eq!(Figure::at_most("x", 201, "ns", 200).best(300).verdict(), "MISSED");
        assert_eq!(Figure::plain("x", 1, "ns").verdict(), "");
    }

    #[test]
    fn the_longest_call_is_told_and_how_many_there_were() {
        let mut nanos = Histogram::new(3).unwrap();
        nanos.record_n(100, 9_999).unwrap();
        nanos.record(2_000).unwrap();
        let figures = Figure::of_calls("x", &nanos);
        assert_eq!(figures.each_ref().map(|figure| figure.value), [100, 100, 100, 100, 2_000]);
        assert_eq!(figures[4].note.as_deref(), Some("10000 calls"));
    }
}
