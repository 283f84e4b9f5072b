//! What this bench says, in the words of the `--json` contract `bench`.

use std::time::Duration;

use serde::Serialize;

use super::super::machine::Machine;
use crate::output;

/// The document of `bench`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) results: Vec<Figure>,
    pub(super) machine: Machine,
    /// The server's version; on the same machine.
    pub(super) postgres: String,
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
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    turns: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    raw_turns: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Rows and the time they took, over all turns of one side.
#[derive(Debug, Default)]
pub(super) struct Sum {
    rows: u64,
    time: Duration,
    turns: Vec<u64>,
}

/// Both sides.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) tripod: Sum,
    pub(super) raw: Sum,
}

impl Sum {
    pub(super) fn add(&mut self, rows: u64, time: Duration) {
        self.rows += rows;
        self.time += time;
        self.turns.push(per_second(rows, time));
    }
}

fn per_second(rows: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rows) * 1_000_000 / time.as_micros().max(1)).unwrap_or(u64::MAX)
}

/// By way of per mille, so that the one rounding is a known one.
fn ratio(value: u64, raw: u64) -> f64 {
    let per_mille = u128::from(value) * 1000 / u128::from(raw.max(1));
    f64::from(u32::try_from(per_mille).unwrap_or(u32::MAX)) / 1000.0
}

fn part(per_cent: u32) -> f64 {
    f64::from(per_cent) / 100.0
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

    /// It has to be this or less.
    pub(super) fn most(self, most: u64) -> Self {
        Self { bar: Some(format!("<= {most}")), ok: Some(self.value <= most), ..self }
    }

    /// This or less is better than asked for.
    pub(super) fn best(self, most: u64) -> Self {
        Self { beyond: Some(format!("<= {most}")), beyond_ok: Some(self.value <= most), ..self }
    }

    /// At least so many per cent of the raw client's.
    pub(super) fn at_least_of(self, raw: u64, per_cent: u32) -> Self {
        let ratio = ratio(self.value, raw);
        let bar = part(per_cent);
        let (raw, ok) = (Some(raw), Some(ratio >= bar));
        Self { raw, ratio: Some(ratio), bar: Some(format!("ratio >= {bar}")), ok, ..self }
    }

    pub(super) fn turns(self, turns: Vec<u64>) -> Self {
        Self { turns, ..self }
    }

    pub(super) fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// Rows per second of both sides: at least `least` per cent of the raw client's; `best` are more than asked.
    pub(super) fn of_pair(name: &str, pair: &Pair, least: u32, best: u32) -> Self {
        let (own, raw) = (&pair.tripod, &pair.raw);
        let (value, beside) = (per_second(own.rows, own.time), per_second(raw.rows, raw.time));
        Self {
            beyond: Some(format!("ratio >= {}", part(best))),
            beyond_ok: Some(ratio(value, beside) >= part(best)),
            turns: own.turns.clone(),
            raw_turns: raw.turns.clone(),
            ..Self::plain(name, value, "rows/s").at_least_of(beside, least)
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
}

impl Report {
    pub(crate) fn words(&self) -> String {
        let mut table =
            output::table(&["figure", "measured", "unit", "bar", "beyond", "verdict", "raw", "ratio", "note"]);
        for figure in &self.results {
            table.add_row([
                figure.name.clone(),
                figure.value.to_string(),
                figure.unit.to_owned(),
                figure.bar.clone().unwrap_or_default(),
                figure.beyond.clone().unwrap_or_default(),
                figure.verdict().to_owned(),
                figure.raw.map(|raw| raw.to_string()).unwrap_or_default(),
                figure.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                figure.note.clone().unwrap_or_default(),
            ]);
        }
        output::align_right(&mut table, 1..2);
        output::align_right(&mut table, 6..8);
        let machine = &self.machine;
        format!(
            "{}\n{} cores of {}, {} MiB, Linux {}, PostgreSQL {} on the same machine, {} build, {}\n\
             the clock itself takes {} ns (p50), {} ns (p99): it is in every figure in ns",
            output::table_text(&table),
            machine.cores,
            machine.cpu,
            machine.memory_mib,
            machine.kernel,
            self.postgres,
            machine.build,
            machine.at,
            machine.clock_p50_ns,
            machine.clock_p99_ns,
        )
    }

    /// Whether these are the product's figures.
    pub(crate) fn is_of_release(&self) -> bool {
        self.machine.build == "release"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bar_is_said_and_more_than_asked_for_too() {
        let mut pair = Pair::default();
        pair.tripod.add(39_900, Duration::from_secs(1));
        pair.raw.add(100_000, Duration::from_secs(1));
        assert_eq!(Figure::of_pair("x", &pair, 40, 60).verdict(), "MISSED");
        pair.tripod.add(40_100, Duration::from_secs(1));
        let reached = Figure::of_pair("x", &pair, 40, 60);
        assert_eq!((reached.verdict(), reached.ratio, reached.turns.len()), ("reached", Some(0.4), 2));
        assert_eq!(Figure::of_pair("x", &pair, 30, 40).verdict(), "beyond");
        assert_eq!(Figure::plain("x", 61, "ns").most(60).verdict(), "MISSED");
        assert_eq!(Figure::plain("x", 60, "ns").most(60).verdict(), "reached");
        assert_eq!(Figure::plain("x", 1, "ns").verdict(), "");
    }
}
