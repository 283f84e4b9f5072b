//! QuestDB is away for a while under full load: killed (-9), and not reachable until the time is over.
//!
//! Constraints: what the bot feels is measured outside of it: what `record()` took before and during, its anonymous
//! memory, and its ledger, which must add up each time this process reads it. How fast the backlog goes is told beside
//! the raw client, with the same rows into a table of the same columns, afterwards and with nothing else to do.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;
use serde::Serialize;
use tripod::ledger;
use tripod::tape::Row as _;

use super::gate::Gate;
use super::patience::{STANDS_STILL, Wait};
use super::raw;
use super::report::Quantiles;
use super::row::DrillRow;
use super::scene::{Scene, millis};
use super::server::{pause, watch};
use super::{Break, child::Load, kill_questdb};
use crate::exit::Stop;

/// The load records so long before, to compare with.
const CALM: Duration = Duration::from_secs(5);
/// Between two looks at memory and ledger.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const COUNT_EVERY: Duration = Duration::from_millis(50);
/// The journal's disk for each second: three times what the rows take.
const MIB_PER_SECOND: u64 = 12;
const BUDGET_MIB_LEAST: u64 = 4096;
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What was found besides the verdict.
#[derive(Debug, Serialize)]
pub(super) struct Outage {
    seconds: u64,
    /// Rows recorded while QuestDB was away.
    backlog_rows: u64,
    /// From its return until all of them were visible, by the server's count.
    drain_ms: u64,
    /// Rows that became visible a second meanwhile; new ones come in all the time.
    drain_rows_per_s: u64,
    /// The raw client's, with nothing else to do.
    raw_rows_per_s: u64,
    /// One by the other.
    ratio: f64,
    /// Nanoseconds of `record()`.
    record_before: Quantiles,
    record_during: Quantiles,
    /// Anonymous memory of the bot: before, and the most of it during.
    anon_kib_before: u64,
    anon_kib_most: u64,
    /// How often the ledger was read in the meantime, and how often it did not add up.
    ledger_reads: u64,
    pub(super) ledger_wrong: u64,
}

pub(super) fn run(scene: &mut Scene, seconds: u64, bar: &ProgressBar) -> anyhow::Result<(Vec<Break>, Outage)> {
    let server = scene.config.questdb.first().context("the config names no QuestDB")?.http.clone();
    let mut gate = Gate::open(&server)?;
    let http = gate.address.to_string();
    let mut load = scene.start_load_with(|order| {
        order.http = Some(http);
        order.budget_mib = Some(BUDGET_MIB_LEAST.max(seconds * MIB_PER_SECOND));
    })?;
    watch(&scene.table, 0, Instant::now(), Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    pause(CALM);

    bar.set_message("QuestDB is away");
    let mut looks = Looks { anon_kib_before: anon_kib(&load)?, ..Looks::default() };
    gate.shut();
    kill_questdb::kill(scene)?;
    load.reached().set_broken(true);
    let (broken_at, recorded_before) = (Instant::now(), load.recorded());
    let away = Duration::from_secs(seconds);
    bar.set_length(seconds);
    while broken_at.elapsed() < away {
        pause(LOOK_EVERY.min(away.saturating_sub(broken_at.elapsed())));
        load.check_alive()?;
        looks.look(scene, &load)?;
        bar.set_position(broken_at.elapsed().as_secs());
    }
    load.reached().set_broken(false);

    bar.set_message("draining");
    let (recorded, newest) = (load.recorded(), load.newest());
    // QuestDB itself is back since long; what it has is counted before the first row comes through.
    watch(&scene.table, 0, broken_at, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    let there = scene.table.count()?;
    gate.reopen()?;
    let (opened_at, mut wait) = (Instant::now(), Wait::while_it_moves(STANDS_STILL));
    let mut look_at = Instant::now();
    let now_there = loop {
        let now_there = scene.table.count()?;
        if now_there >= recorded {
            break now_there;
        }
        wait.note(now_there.to_string());
        if wait.is_over() {
            let what = format!("{now_there} of {recorded} rows are visible {:?} after its return", opened_at.elapsed());
            return Err(Stop::untrue(what, "load.log says what the bot was doing").into());
        }
        load.check_alive()?;
        if Instant::now() >= look_at {
            looks.look(scene, &load)?;
            look_at = Instant::now() + LOOK_EVERY;
        }
        pause(COUNT_EVERY);
    };
    let drain_ms = millis(opened_at.elapsed()).max(1);
    let seen = watch(&scene.table, newest, opened_at, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    let breaks = vec![Break { away_ms: Some(millis(away)), recovery_ms: seen.visible.map(millis), ..Break::default() }];
    pause(LAST_WORDS);
    bar.set_message("delivering the rest");
    scene.end_load(load)?;

    bar.set_message("the raw client");
    let raw_rows_per_s = raw::rows_per_second(scene, &DrillRow::spec().server_name("drill_outage_raw_"))?;
    let drain_rows_per_s = (now_there - there) * 1000 / drain_ms;
    let per_mille = |rows: u64| u32::try_from(rows * 1000 / raw_rows_per_s.max(1)).unwrap_or(u32::MAX);
    let outage = Outage {
        seconds,
        backlog_rows: recorded - recorded_before,
        drain_ms,
        drain_rows_per_s,
        raw_rows_per_s,
        ratio: f64::from(per_mille(drain_rows_per_s)) / 1000.0,
        record_before: Quantiles::of(&scene.record_ns.well),
        record_during: Quantiles::of(&scene.record_ns.broken),
        anon_kib_before: looks.anon_kib_before,
        anon_kib_most: looks.anon_kib_most,
        ledger_reads: looks.reads,
        ledger_wrong: looks.wrong,
    };
    Ok((breaks, outage))
}

/// What is looked at each second.
#[derive(Debug, Default)]
struct Looks {
    reads: u64,
    wrong: u64,
    anon_kib_before: u64,
    anon_kib_most: u64,
}

impl Looks {
    fn look(&mut self, scene: &Scene, load: &Load) -> anyhow::Result<()> {
        let rows = ledger::of(&scene.load_config())?;
        self.reads += 1;
        self.wrong += u64::from(rows.iter().any(|row| !row.adds_up));
        self.anon_kib_most = self.anon_kib_most.max(anon_kib(load)?);
        Ok(())
    }
}

/// Anonymous memory of the load; its mapped journals are the page cache's.
fn anon_kib(load: &Load) -> anyhow::Result<u64> {
    let path = format!("/proc/{}/status", load.pid());
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).with_context(|| format!("{path} has no RssAnon"))
}

impl Outage {
    pub(super) fn words(&self) -> String {
        let Self { record_before: before, record_during: during, .. } = self;
        let (mib_before, mib_most) = (self.anon_kib_before / 1024, self.anon_kib_most / 1024);
        format!(
            "away        {} s, {} rows recorded meanwhile\n\
             record()    before p50 {} ns, p99.9 {} ns; during p50 {} ns, p99.9 {} ns\n\
             memory      {mib_before} MiB anonymous before, {mib_most} MiB at most\n\
             ledger      read {} times from here, {} times it did not add up\n\
             drained     in {} ms, {} rows/s; raw client {} rows/s; ratio {:.2} (bar 0.8: {})\n",
            self.seconds,
            self.backlog_rows,
            before.p50,
            before.p999,
            during.p50,
            during.p999,
            self.ledger_reads,
            self.ledger_wrong,
            self.drain_ms,
            self.drain_rows_per_s,
            self.raw_rows_per_s,
            self.ratio,
            if self.ratio >= 0.8 { "reached" } else { "missed" },
        )
    }
}
