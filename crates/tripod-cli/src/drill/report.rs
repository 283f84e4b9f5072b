//! What a drill says: the `--json` contract `drill run`, and the same in words.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::destroy_and_restore::Destroyed;
use super::row::{ROWS_PER_SECOND, THREADS};
use super::scene::{Judged, Scene};
use super::stall_postgres::{Calls, FIRST_GOOD_WITHIN_MS, LATE_MS};
use super::verdict::Verdict;
use super::whole::Work;
use super::{Break, Drill, outage::Outage};

/// A `record()` that waited for QuestDB would wait as long as it is away, and that is never less than this. A shorter
/// stall is the operating system's, which has other threads to run.
const AWAY_LEAST_MS: u64 = 1_000;

/// The document of `drill run`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    drill: Drill,
    rounds: u32,
    /// Rows whose `record()` was seen to return.
    recorded: u64,
    /// Rows, and where all servers were broken acknowledged events and settings.
    lost: u64,
    doubled: u64,
    /// The longest `record()`, in the process of the bot.
    max_stall_us: u64,
    /// The longest time from a break to a row behind it visible.
    recovery_ms: u64,
    promise: &'static str,
    /// Every promise was kept.
    pub(crate) ok: bool,
    /// The other counts, and places of rows that are not as they should be.
    verdict: Verdict,
    record_ns: Quantiles,
    recovery_ms_p50: u64,
    breaks: Vec<Break>,
    #[serde(flatten)]
    besides: Besides,
    /// Whether recorded = pending + delivered + visible + quarantined + dropped, and nothing is pending.
    ledger_adds_up: bool,
    seed: u64,
    /// Where to look, where a promise was broken.
    pub(crate) evidence: Option<String>,
    #[serde(skip)]
    broken: Vec<String>,
}

/// What a drill found besides the rows.
#[derive(Debug, Default, Serialize)]
pub(super) struct Besides {
    /// What calls of PostgreSQL did; only where that was broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls: Option<Calls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outage: Option<Outage>,
    /// Prices, events, settings, heartbeats; only where all servers were broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) whole: Option<Work>,
    /// What restores did besides; only where everything was destroyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destroyed: Option<Destroyed>,
}

/// Nanoseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
}

impl Quantiles {
    pub(super) fn of(nanos: &Histogram<u64>) -> Self {
        let at = |quantile| nanos.value_at_quantile(quantile);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// What of the promise these calls break.
fn broken_by(calls: &Calls) -> Vec<String> {
    let Calls { failed_otherwise, deadline_ms, longest_ms, first_good_ms, memory_longest_us, .. } = calls;
    let mut broken = Vec::new();
    if *failed_otherwise > 0 {
        broken.push(format!("{failed_otherwise} calls failed with an error that asks somebody to act"));
    }
    if *longest_ms > deadline_ms + LATE_MS {
        broken.push(format!("a call took {longest_ms} ms, its deadline is {deadline_ms} ms"));
    }
    if *first_good_ms > FIRST_GOOD_WITHIN_MS {
        broken.push(format!("the first good call came {first_good_ms} ms after the thaw"));
    }
    // As with record(): shorter is the operating system's.
    if memory_longest_us / 1000 >= AWAY_LEAST_MS {
        broken.push(format!("a read from memory took {memory_longest_us} us"));
    }
    if calls.failed == 0 && calls.good == 0 {
        broken.push("nobody called".to_owned());
    }
    broken
}

fn words_of(calls: &Calls) -> String {
    let Calls { good, failed, longest_ms, deadline_ms, first_good_ms, .. } = calls;
    format!(
        "calls       {good} good, {failed} failed in time; longest {longest_ms} ms of {deadline_ms} ms\n\
         first good  at most {first_good_ms} ms after the thaw\n\
         memory      {} reads of a token: p50 {} ns, p99.9 {} ns, longest {} us\n",
        calls.memory_reads, calls.memory_p50_ns, calls.memory_p999_ns, calls.memory_longest_us
    )
}

impl Report {
    pub(super) fn new(
        drill: Drill,
        rounds: u32,
        scene: &Scene,
        breaks: Vec<Break>,
        judged: Judged,
        besides: Besides,
    ) -> Self {
        let Judged { verdict, ledger } = judged;
        let Besides { calls, outage, whole, destroyed } = &besides;
        let mut recoveries: Vec<u64> = breaks.iter().filter_map(|one| one.recovery_ms).collect();
        recoveries.sort_unstable();
        let (well, broken_ns) = (&scene.record_ns.well, &scene.record_ns.broken);
        let stall_ns = well.max().max(broken_ns.max());
        let max_stall_us = stall_ns.div_ceil(1000);
        let recorded = verdict.witnessed + verdict.unwitnessed;
        // Settled to the last row, and as many as the server and the quarantine have.
        let ledger_adds_up = ledger.as_ref().is_some_and(|row| {
            row.adds_up
                && row.recorded == recorded
                && row.quarantined == verdict.quarantined
                && row.visible == recorded - verdict.quarantined
        });
        let mut broken = Vec::new();
        for (count, what) in [
            (verdict.lost, "rows are lost"),
            (verdict.doubled, "rows are there twice"),
            (verdict.altered, "rows have other content"),
            (verdict.foreign, "rows are nobody's"),
        ] {
            if count > 0 {
                broken.push(format!("{count} {what}"));
            }
        }
        // On a busy machine both grow together.
        let shortest_away_ms = breaks.iter().filter_map(|one| one.away_ms).min();
        if shortest_away_ms.is_some_and(|away| max_stall_us / 1000 >= away.max(AWAY_LEAST_MS)) {
            let server = if calls.is_some() { "PostgreSQL" } else { "QuestDB" };
            broken.push(format!("a record() took {max_stall_us} us: as long as {server} was away"));
        }
        broken.extend(calls.as_ref().map(broken_by).unwrap_or_default());
        broken.extend(whole.as_ref().map(Work::broken).unwrap_or_default());
        broken.extend(destroyed.iter().flat_map(|destroyed| destroyed.broken.iter().cloned()));
        if !ledger_adds_up {
            broken.push(format!("the ledger does not say what the server says: {ledger:?}"));
        }
        if drill == Drill::PoisonRow && verdict.quarantined < u64::from(rounds) {
            broken.push(format!("only {} rows are in the quarantine", verdict.quarantined));
        }
        if let Some(wrong) = outage.as_ref().map(|outage| outage.ledger_wrong).filter(|wrong| *wrong > 0) {
            broken.push(format!("the ledger did not add up {wrong} times"));
        }
        let mut all_ns = well.clone();
        // Both have the same digits.
        let _ = all_ns.add(broken_ns);
        Self {
            drill,
            rounds,
            recorded: verdict.witnessed,
            lost: verdict.lost + whole.as_ref().map_or(0, Work::lost),
            doubled: verdict.doubled + whole.as_ref().map_or(0, |work| work.events.doubled),
            max_stall_us,
            recovery_ms: recoveries.last().copied().unwrap_or(0),
            promise: drill.promise(),
            ok: verdict.is_true() && broken.is_empty(),
            verdict,
            record_ns: Quantiles::of(&all_ns),
            recovery_ms_p50: recoveries.get(recoveries.len().saturating_sub(1) / 2).copied().unwrap_or(0),
            breaks,
            besides,
            ledger_adds_up,
            seed: scene.recipe.seed,
            evidence: None,
            broken,
        }
    }

    pub(crate) fn words(&self) -> String {
        let mut text = format!("promised    {}\n", self.promise);
        let load = u64::from(ROWS_PER_SECOND) * u64::try_from(THREADS).unwrap_or(0);
        text += &format!("rounds      {} under {THREADS} threads that record {load} rows/s\n", self.rounds);
        let verdict = &self.verdict;
        text += &format!("recorded    {} rows, each seen from outside the bot\n", self.recorded);
        text += &format!("lost        {}\ndoubled     {}\naltered     {}\n", self.lost, self.doubled, verdict.altered);
        if verdict.unwitnessed > 0 {
            let many = verdict.unwitnessed;
            text += &format!("unwitnessed {many} (recorded, and killed before that could be said; there as well)\n");
        }
        if verdict.quarantined > 0 {
            text += &format!("quarantined {} (those that QuestDB refuses)\n", verdict.quarantined);
        }
        text += &format!(
            "record()    p50 {} ns, p99 {} ns, p99.9 {} ns, longest {} us\n",
            self.record_ns.p50, self.record_ns.p99, self.record_ns.p999, self.max_stall_us
        );
        text += &format!("recovery    p50 {} ms, longest {} ms", self.recovery_ms_p50, self.recovery_ms);
        if let Some(away) = self.breaks.iter().filter_map(|one| one.away_ms).max() {
            match self.besides.calls {
                Some(_) => text += &format!(" (from the thaw to a good call; PostgreSQL was frozen up to {away} ms)"),
                None if self.besides.whole.is_some() => text += &format!(" (of which `up` took up to {away} ms)"),
                None => text += &format!(" (of which QuestDB was away up to {away} ms)"),
            }
        }
        text += "\n";
        text += &self.besides.calls.as_ref().map(words_of).unwrap_or_default();
        text += &self.besides.whole.as_ref().map(Work::words).unwrap_or_default();
        if let Some(said) = self.breaks.iter().filter_map(|one| one.said_ms).max() {
            text += &format!("said        after {said} ms at the latest\n");
        }
        let beside: Vec<u64> = self.breaks.iter().filter_map(|one| one.beside_held).collect();
        if let Some(least) = beside.iter().min() {
            let held = beside.len();
            text += &format!(
                "held        {held} times one thread inside record(); the others recorded {least} rows or more\n"
            );
        }
        text += &self.besides.outage.as_ref().map_or_else(String::new, Outage::words);
        text += &self.besides.destroyed.as_ref().map_or_else(String::new, Destroyed::words);
        for example in &verdict.examples {
            text += &format!("  {example}\n");
        }
        match self.ok {
            true => text + "the promise was kept",
            false => {
                let evidence = self.evidence.as_deref().unwrap_or_default();
                format!("{text}THE PROMISE WAS BROKEN: {}\n{evidence}", self.broken.join("; "))
            }
        }
    }
}
