//! What a replay says at its end: a screen, or the JSON contract.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::drive::{Driven, PriceCheck, PricesWritten};
use super::proof::{SumProof, TableProof};
use super::survey::Survey;
use crate::output;

/// One QuestDB server's proof.
#[derive(Debug)]
pub(crate) struct SinkProof {
    pub(crate) sink: String,
    pub(crate) tables: Vec<TableProof>,
}

/// Everything that is known at the end.
pub(crate) struct Facts<'a> {
    pub(crate) start_at: String,
    pub(crate) files: usize,
    pub(crate) survey: &'a Survey,
    pub(crate) driven: &'a Driven,
    pub(crate) proofs: &'a [SinkProof],
    /// Rows of the two tables that came into quarantine meanwhile.
    pub(crate) quarantined: u64,
    pub(crate) elapsed: Duration,
}

/// The contract. Fields may be added, never renamed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    rows_recorded: u64,
    rows_visible: u64,
    rows_lost: u64,
    rows_doubled: u64,
    rows_different: u64,
    rows_repeated: u64,
    rows_foreign: u64,
    rows_quarantined: u64,
    rows_dropped: u64,
    lines_broken: u64,
    prices_written: u64,
    prices_read: u64,
    prices_wrong: u64,
    /// Prices of this replay were written and found again as they are in the files; says nothing of the rows.
    prices_proven: bool,
    price_read_us: Quantiles,
    events_published: u64,
    events_read: u64,
    events_repeated: u64,
    /// Unknown where the server cannot tell.
    events_trimmed: Option<u64>,
    elapsed_s: f64,
    record_ns: Tail,
    visible_ms: Quantiles,
    start_at: String,
    sinks: Vec<Sink>,
    ok: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Tail {
    p50: u64,
    p99: u64,
    p999: u64,
}

#[derive(Debug, Serialize)]
struct Sink {
    name: String,
    tables: Vec<TableReport>,
}

#[derive(Debug, Serialize)]
struct TableReport {
    table: &'static str,
    expected: u64,
    repeated: u64,
    visible: u64,
    lost: u64,
    doubled: u64,
    different: u64,
    foreign: u64,
    server_count: u64,
    server_keys: u64,
    sums: Vec<SumReport>,
    sql: [String; 2],
    examples: Vec<String>,
    ok: bool,
}

#[derive(Debug, Serialize)]
struct SumReport {
    column: &'static str,
    files: Option<String>,
    read_back: Option<String>,
    server: String,
    ok: bool,
}

impl Report {
    pub(crate) fn new(facts: &Facts<'_>) -> Self {
        let sinks: Vec<Sink> = facts.proofs.iter().map(sink_report).collect();
        let over =
            |pick: fn(&TableReport) -> u64| -> u64 { sinks.iter().flat_map(|sink| &sink.tables).map(pick).sum() };
        // Each row is asked of every server: the worst of them counts.
        let visible = sinks.iter().map(|sink| sink.tables.iter().map(|table| table.visible).sum()).min().unwrap_or(0);
        let proven = !sinks.is_empty() && sinks.iter().flat_map(|sink| &sink.tables).all(|table| table.ok);
        let driven = facts.driven;
        let check = &driven.price_check;
        let ok = proven
            && facts.quarantined == 0
            && driven.dropped == 0
            && driven.settled.left == 0
            && check.wrong == 0
            // A guard that refuses everything as older has answered; a writer that wrote nothing has proven nothing.
            && (check.tokens == 0 || driven.prices.written.accepted + driven.prices.written.older > 0)
            && driven.prices.written.gave_up.is_none()
            && driven.events.is_true();
        Self {
            rows_recorded: driven.recorded,
            rows_visible: visible,
            rows_lost: over(|table| table.lost),
            rows_doubled: over(|table| table.doubled),
            rows_different: over(|table| table.different),
            rows_repeated: facts.proofs.first().map_or(0, |sink| sink.tables.iter().map(|t| t.verdict.repeated).sum()),
            rows_foreign: over(|table| table.foreign),
            rows_quarantined: facts.quarantined,
            rows_dropped: driven.dropped,
            lines_broken: facts.survey.broken_lines,
            prices_written: driven.prices.written.accepted,
            prices_read: driven.prices.read.found,
            prices_wrong: check.wrong,
            prices_proven: why_prices_are_not_proven(&driven.prices.written, check).is_none(),
            price_read_us: micros(&driven.prices.read.latency_ns),
            events_published: driven.events.published,
            events_read: driven.events.read,
            events_repeated: driven.events.repeated,
            events_trimmed: driven.events.trimmed,
            elapsed_s: facts.elapsed.as_secs_f64(),
            record_ns: Tail {
                p50: driven.record_ns.value_at_quantile(0.5),
                p99: driven.record_ns.value_at_quantile(0.99),
                p999: driven.record_ns.value_at_quantile(0.999),
            },
            visible_ms: Quantiles { p50: driven.visible_p50.map(millis), p99: driven.visible_p99.map(millis) },
            start_at: facts.start_at.clone(),
            sinks,
            ok,
        }
    }

    /// Everything that was checked is so.
    pub(crate) fn is_true(&self) -> bool {
        self.ok
    }

    /// The screen.
    pub(crate) fn words(&self, facts: &Facts<'_>) -> String {
        let driven = facts.driven;
        let mut text = String::new();
        let files = output::counted(facts.files, "file");
        let _ = writeln!(
            text,
            "replayed {} of {files} in {:.1} s; the first row stands at {} (--start-at)",
            output::counted(facts.survey.rows, "row"),
            driven.producing.as_secs_f64(),
            self.start_at,
        );
        if self.lines_broken > 0 {
            let _ = writeln!(text, "left out {}", output::counted(self.lines_broken, "broken line"));
        }
        text.push('\n');
        text += &self.tables_words();
        let _ = writeln!(
            text,
            "\nrecord()   p50 {} ns, p99 {} ns, p99.9 {} ns",
            self.record_ns.p50, self.record_ns.p99, self.record_ns.p999
        );
        let _ = writeln!(
            text,
            "visible    p50 {} ms, p99 {} ms after record()",
            shown(self.visible_ms.p50),
            shown(self.visible_ms.p99)
        );
        text += &self.prices_words(facts);
        text += &self.events_words(facts);
        text += &self.verdict_words(facts);
        text
    }

    fn tables_words(&self) -> String {
        let mut table = output::table(&[
            "table",
            "sink",
            "expected",
            "visible",
            "lost",
            "doubled",
            "different",
            "of others",
            "sums",
        ]);
        for sink in &self.sinks {
            for found in &sink.tables {
                let counts = [found.expected, found.visible, found.lost, found.doubled, found.different, found.foreign];
                let mut cells = vec![found.table.to_owned(), sink.name.clone()];
                cells.extend(counts.iter().map(ToString::to_string));
                cells.push(if found.sums.iter().all(|sum| sum.ok) { "equal" } else { "DIFFER" }.to_owned());
                table.add_row(cells);
            }
        }
        output::align_right(&mut table, 2..8);
        let mut text = output::table_text(&table);
        for found in self.sinks.iter().flat_map(|sink| &sink.tables) {
            for example in &found.examples {
                let _ = writeln!(text, "  {example}");
            }
            for sum in found.sums.iter().filter(|sum| !sum.ok) {
                let read_back = sum.read_back.as_deref().unwrap_or("?");
                let _ = writeln!(text, "  sum({}) is {} by the server, {read_back} row by row", sum.column, sum.server);
            }
        }
        text
    }

    fn prices_words(&self, facts: &Facts<'_>) -> String {
        let check = &facts.driven.price_check;
        let written = &facts.driven.prices.written;
        let mut text = format!(
            "prices     {} written, {} refused as older, {} read (p50 {} µs, p99 {} µs); newest of {} tokens: {} as in the files",
            self.prices_written,
            written.older,
            self.prices_read,
            shown(self.price_read_us.p50),
            shown(self.price_read_us.p99),
            check.tokens,
            check.equal,
        );
        for (count, what) in [
            (check.by_guard, "by their guards, their lives being over"),
            (check.newer, "newer by somebody else"),
            (check.expired, "expired, guards and all"),
            (check.wrong, "WRONG"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        text.push('\n');
        for example in &check.examples {
            let _ = writeln!(text, "  {example}");
        }
        if let Some(why) = &written.gave_up {
            let _ = writeln!(text, "  GAVE UP: {why}");
        }
        if let Some(why) = why_prices_are_not_proven(written, check) {
            let _ = writeln!(text, "  NOT PROVEN for prices: {why}");
        }
        text
    }

    fn events_words(&self, facts: &Facts<'_>) -> String {
        let events = &facts.driven.events;
        let mut text = format!(
            "events     {} published, {} read by the group, {} trimmed unread",
            self.events_published,
            self.events_read,
            self.events_trimmed.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
        );
        for (count, what) in [
            (events.repeated, "read more than once"),
            (events.leftovers, "left by an earlier run"),
            (events.lag, "NOT READ"),
            (events.pending, "NOT ACKNOWLEDGED"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        text.push('\n');
        if let Some(why) = &events.gave_up {
            let _ = writeln!(text, "  GAVE UP: {why}");
        }
        text
    }

    fn verdict_words(&self, facts: &Facts<'_>) -> String {
        let mut text = String::new();
        if facts.driven.settled.left > 0 {
            let _ = writeln!(
                text,
                "\n{} rows are in the journal and not visible yet; they arrive by themselves once the server takes them",
                facts.driven.settled.left
            );
        }
        let word = if self.ok { "PROVEN" } else { "NOT PROVEN" };
        let _ = writeln!(
            text,
            "\n{word}: recorded {}, visible {}, lost {}, doubled {}, different {}, repeated in the files {}, quarantined {}, dropped {}",
            self.rows_recorded,
            self.rows_visible,
            self.rows_lost,
            self.rows_doubled,
            self.rows_different,
            self.rows_repeated,
            self.rows_quarantined,
            self.rows_dropped,
        );
        text += "by hand, on QuestDB:\n";
        for found in self.sinks.first().iter().flat_map(|sink| &sink.tables) {
            for sql in &found.sql {
                let _ = writeln!(text, "  {sql};");
            }
        }
        text
    }
}

/// What keeps the prices from being proven; none where they are, or where there was none.
fn why_prices_are_not_proven(written: &PricesWritten, check: &PriceCheck) -> Option<&'static str> {
    if check.tokens == 0 {
        return None;
    }
    if written.gave_up.is_some() {
        Some("not all of them could be written")
    } else if check.wrong > 0 {
        Some("what Redis has is not what the files say")
    } else if written.accepted == 0 && written.older > 0 {
        Some("Redis has newer ones and refused all of these as older")
    } else if written.accepted == 0 {
        Some("none was written")
    } else if check.expired == check.tokens {
        Some("all had expired, guards and all, before they could be compared")
    } else if check.equal == 0 {
        Some("none is as in the files any more: somebody else writes the same tokens")
    } else {
        None
    }
}

fn sink_report(proof: &SinkProof) -> Sink {
    Sink { name: proof.sink.clone(), tables: proof.tables.iter().map(table_report).collect() }
}

fn table_report(proof: &TableProof) -> TableReport {
    let verdict = &proof.verdict;
    TableReport {
        table: verdict.table.name(),
        expected: verdict.expected,
        repeated: verdict.repeated,
        visible: verdict.visible,
        lost: verdict.lost,
        doubled: verdict.doubled,
        different: verdict.different,
        foreign: verdict.foreign,
        server_count: proof.server_count,
        server_keys: proof.server_keys,
        sums: proof.sums.iter().map(sum_report).collect(),
        sql: [proof.count_sql.clone(), proof.keys_sql.clone()],
        examples: verdict.examples.clone(),
        ok: proof.is_true(),
    }
}

fn sum_report(proof: &SumProof) -> SumReport {
    SumReport {
        column: proof.column,
        files: proof.files.clone(),
        read_back: proof.read_back.clone(),
        server: proof.server.clone(),
        ok: proof.is_true(),
    }
}

fn micros(histogram: &Histogram<u64>) -> Quantiles {
    if histogram.is_empty() {
        return Quantiles { p50: None, p99: None };
    }
    let at = |quantile| Some(Duration::from_nanos(histogram.value_at_quantile(quantile)).as_secs_f64() * 1e6);
    Quantiles { p50: at(0.5), p99: at(0.99) }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| format!("{value:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_that_were_all_refused_or_have_all_expired_are_not_proven() {
        let why = |accepted, older, equal, newer, expired| {
            let written = PricesWritten { accepted, older, ..PricesWritten::default() };
            let tokens = equal + newer + expired;
            why_prices_are_not_proven(&written, &PriceCheck { tokens, equal, newer, expired, ..PriceCheck::default() })
        };
        assert_eq!(why(0, 0, 0, 0, 0), None, "a recording without prices");
        assert_eq!(why(9, 0, 2, 0, 0), None);
        assert_eq!(why(9, 1, 1, 1, 1), None);
        assert!(why(0, 9, 0, 2, 0).unwrap().contains("refused all of these as older"));
        assert!(why(9, 0, 0, 0, 2).unwrap().contains("expired"));
        assert!(why(9, 0, 0, 1, 1).unwrap().contains("somebody else"));
    }
}
