//! What the bench says: the `--json` contract `bench`, and the same as a table.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::machine::Machine;
use crate::output;

const VISIBLE_P50_MS_MAX: u64 = 150;
const VISIBLE_P99_MS_MAX: u64 = 300;
const RATIO_LEAST: f64 = 0.8;
const MEMORY_MIB_MAX: u64 = 200;
const MIB: u64 = 1024 * 1024;

/// The document of `bench`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) results: Vec<Figure>,
    pub(super) machine: Machine,
}

/// One figure.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    name: String,
    value: u64,
    unit: &'static str,
    /// What it has to reach; none where it is only told.
    bar: Option<String>,
    ok: Option<bool>,
    /// The raw client's, in the same unit.
    raw: Option<u64>,
    ratio: Option<f64>,
    /// What each turn gave, in order, where there were several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    turns: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    raw_turns: Vec<u64>,
}

/// Rows and the time they took, over all turns of one side.
#[derive(Debug, Default)]
pub(super) struct Sum {
    rows: u64,
    time: Duration,
    turns: Vec<u64>,
}

impl Sum {
    pub(super) fn add(&mut self, rows: u64, time: Duration) {
        self.rows += rows;
        self.time += time;
        self.turns.push(per_second(rows, time));
    }

    fn rows_per_second(&self) -> u64 {
        per_second(self.rows, self.time)
    }
}

fn per_second(rows: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rows) * 1_000_000 / time.as_micros().max(1)).unwrap_or(u64::MAX)
}

/// Both sides.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) tripod: Sum,
    pub(super) raw: Sum,
}

impl Figure {
    pub(super) fn plain(name: &str, value: u64, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit,
            bar: None,
            ok: None,
            raw: None,
            ratio: None,
            turns: Vec::new(),
            raw_turns: Vec::new(),
        }
    }

    fn at_most(name: &str, value: u64, unit: &'static str, most: u64) -> Self {
        Self { bar: Some(format!("<= {most}")), ok: Some(value <= most), ..Self::plain(name, value, unit) }
    }

    /// p50, p99, p99.9 and the longest of `record()`; a bar of 0 is none.
    pub(super) fn of_record(name: &str, nanos: &Histogram<u64>, p50_most: u64, p999_most: u64) -> Vec<Self> {
        let figure = |part: &str, value: u64, most: u64| match most {
            0 => Self::plain(&format!("{name}_{part}"), value, "ns"),
            _ => Self::at_most(&format!("{name}_{part}"), value, "ns", most),
        };
        vec![
            figure("p50", nanos.value_at_quantile(0.5), p50_most),
            figure("p99", nanos.value_at_quantile(0.99), 0),
            figure("p999", nanos.value_at_quantile(0.999), p999_most),
            figure("max", nanos.max(), 0),
        ]
    }

    /// From recorded to visible, microseconds.
    pub(super) fn of_visible(micros: &Histogram<u64>) -> [Self; 2] {
        let millis = |quantile| micros.value_at_quantile(quantile).div_ceil(1000);
        [
            Self::at_most("visible_p50", millis(0.5), "ms", VISIBLE_P50_MS_MAX),
            Self::at_most("visible_p99", millis(0.99), "ms", VISIBLE_P99_MS_MAX),
        ]
    }

    /// The same of a row behind which nothing comes.
    pub(super) fn of_alone(micros: &Histogram<u64>) -> [Self; 2] {
        let p50 = micros.value_at_quantile(0.5).div_ceil(1000);
        [
            Self::plain("visible_alone_p50", p50, "ms"),
            Self::at_most("visible_alone_max", micros.max().div_ceil(1000), "ms", VISIBLE_P99_MS_MAX),
        ]
    }

    pub(super) fn of_pair(name: &str, pair: &Pair) -> Self {
        let (value, raw) = (pair.tripod.rows_per_second(), pair.raw.rows_per_second());
        // Per mille, so that the one rounding is a known one.
        let per_mille = u128::from(value) * 1000 / u128::from(raw.max(1));
        let ratio = f64::from(u32::try_from(per_mille).unwrap_or(u32::MAX)) / 1000.0;
        Self {
            bar: Some(format!("ratio >= {RATIO_LEAST}")),
            ok: Some(ratio >= RATIO_LEAST),
            raw: Some(raw),
            ratio: Some(ratio),
            turns: pair.tripod.turns.clone(),
            raw_turns: pair.raw.turns.clone(),
            ..Self::plain(name, value, "rows/s")
        }
    }

    pub(super) fn of_memory(bytes: u64) -> Self {
        Self::at_most("rss_anon", bytes.div_ceil(MIB), "MiB", MEMORY_MIB_MAX)
    }
}

impl Report {
    pub(crate) fn words(&self) -> String {
        let mut table = output::table(&["figure", "value", "unit", "bar", "", "raw", "ratio"]);
        for figure in &self.results {
            table.add_row([
                figure.name.clone(),
                figure.value.to_string(),
                figure.unit.to_owned(),
                figure.bar.clone().unwrap_or_default(),
                match figure.ok {
                    Some(true) => "reached",
                    Some(false) => "MISSED",
                    None => "",
                }
                .to_owned(),
                figure.raw.map(|raw| raw.to_string()).unwrap_or_default(),
                figure.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            ]);
        }
        output::align_right(&mut table, 1..2);
        output::align_right(&mut table, 5..7);
        let machine = &self.machine;
        format!(
            "{}\n{} cores of {}, {} MiB, Linux {}, QuestDB {} on the same machine, {} build, {}\n\
             the clock itself takes {} ns (p50), {} ns (p99): it is in every record() figure",
            output::table_text(&table),
            machine.cores,
            machine.cpu,
            machine.memory_mib,
            machine.kernel,
            machine.questdb,
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
    fn a_missed_bar_is_said() {
        let mut pair = Pair::default();
        pair.tripod.add(79_900, Duration::from_secs(1));
        pair.raw.add(100_000, Duration::from_secs(1));
        let missed = Figure::of_pair("x", &pair);
        assert_eq!(
            (missed.value, missed.raw, missed.ratio, missed.ok),
            (79_900, Some(100_000), Some(0.799), Some(false))
        );
        pair.tripod.add(80_100, Duration::from_secs(1));
        assert_eq!(Figure::of_pair("x", &pair).ok, Some(true));
        let mut micros = Histogram::new(3).unwrap();
        micros.record_n(140_000, 98).unwrap();
        micros.record_n(301_500, 2).unwrap();
        let [p50, p99] = Figure::of_visible(&micros);
        assert_eq!((p50.ok, p99.ok), (Some(true), Some(false)));
        assert_eq!(Figure::plain("x", 1, "ns").ok, None);
    }
}
