//! `tripod bench monitor`: what `tripod monitor` costs the machine that it runs on, with ten browsers that follow it.
//!
//! Constraints: the monitor is a process of its own, started as an operator starts it, on servers of the bench's own under
//! the work of one bot ([`load`]); its processor time and memory are what the kernel says of that process. The readers read
//! each frame to its end and count what they get by themselves. A monitor that sees nothing would be a cheap one: at the end
//! it has to say the same number of rows as the bot recorded. Only what a sample costs is told: a run of `backup verify` or
//! `tape retention run` is a process of its own.
//!
//! Picture:
//! ```text
//! own stack ─▶ bot: rows, prices, events ─▶ monitor sees them ─▶ nobody looks ─▶ ten readers, /metrics each 5 s
//!   ─▶ ten readers, /metrics and /api/snapshot each 100 ms ─▶ bot ends ─▶ the monitor says as many rows as it recorded
//! ```

mod load;
mod readers;
mod watched;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde_json::Value;
use tripod_stack::Servers;

use super::machine;
use super::report::{Figure, Report};
use crate::args::Global;
use crate::drill::{OwnStack, pause};
use load::Load;
use readers::{Heard, Readers};
use watched::{Spent, Watched};

/// Browsers that follow it.
const READERS: usize = 10;
/// Between two looks of a Prometheus that looks often; `ops/prometheus` looks each 15 s.
const SCRAPE_EVERY: Duration = Duration::from_secs(5);
/// Between two questions while answers are timed: one of ten is the first of its second, and makes the answer anew.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Three digits, up to this; a longer one counts as this.
const ANSWER_US_MAX: u64 = 60_000_000;
const SEEN_WITHIN: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;

/// What is promised with ten readers: 3 % of a core, 60 MiB.
const CPU_MS_PER_S_MAX: u64 = 30;
const MEMORY_MIB_MAX: u64 = 60;

/// Runs all of it; its servers are gone with it.
pub(crate) fn run(global: &Global, seconds: u64, bar: &ProgressBar) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&global.data).with_context(|| format!("cannot make {}", global.data.display()))?;
    let data = global.data.canonicalize().with_context(|| format!("cannot open {}", global.data.display()))?;
    bar.set_message("starting servers");
    let own = OwnStack::start(&data.join("bench-monitor"), Servers::ALL)?;
    watched::migrate(own.dir())?;
    let versions = tripod_stack::check(own.dir())?;
    let versions: Vec<_> =
        versions.iter().map(|one| format!("{} {}", one.name, one.version.as_deref().unwrap_or("?"))).collect();
    let machine = machine::describe(versions.join(", "))?;
    let results = measure(&own, Duration::from_secs(seconds), bar)?;
    Ok(Report { results, machine })
}

fn measure(own: &OwnStack, time: Duration, bar: &ProgressBar) -> anyhow::Result<Vec<Figure>> {
    let mut load = Load::start(own.config()?)?;
    let monitor = Watched::start(own.dir())?;
    bar.set_message("until the monitor sees the work");
    see(&monitor, &mut load, "the monitor does not see the bot's work", |snapshot| {
        all_up(snapshot) && snapshot["rates"]["recorded_per_s"].as_f64().is_some_and(|rate| rate > 0.0)
    })?;

    bar.set_message("nobody looks");
    let alone = cost(&monitor, time / 2, |_| Ok(()))?;
    bar.set_message("ten readers");
    let readers = Readers::start(monitor.address(), READERS)?;
    let mut scraped = None::<Instant>;
    let mut scrape_bytes = 0;
    let followed = cost(&monitor, time, |monitor| {
        if scraped.is_none_or(|at| at.elapsed() >= SCRAPE_EVERY) {
            scraped = Some(Instant::now());
            scrape_bytes = monitor.ask("/metrics")?.len();
        }
        Ok(())
    })?;
    let heard = readers.end()?;
    bar.set_message("answers");
    let readers = Readers::start(monitor.address(), READERS)?;
    let answers = answers(&monitor, time / 2)?;
    readers.end()?;

    bar.set_message("until the monitor says every row");
    let recorded = load.end()?;
    // Nobody records any more: now both are exact.
    let rows = |snapshot: &Value| -> Option<u64> {
        let lines = snapshot["ledger"].as_array()?.iter().filter(|line| line["table"] == load::TABLE);
        lines.map(|line| line["visible"].as_u64()).sum()
    };
    let end = Instant::now() + SEEN_WITHIN;
    while rows(&monitor.snapshot()?) != Some(recorded.rows) {
        ensure!(Instant::now() < end, "the bot recorded {} rows, and the monitor says otherwise", recorded.rows);
        pause(ASK_EVERY);
    }
    monitor.end()?;
    figures(&alone, &followed, &heard, &answers, scrape_bytes, recorded.per_second())
}

/// Waits until a snapshot is as it should be.
fn see(monitor: &Watched, load: &mut Load, what: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + SEEN_WITHIN;
    loop {
        let snapshot = monitor.snapshot()?;
        if is_so(&snapshot) {
            return Ok(());
        }
        load.assert_works()?;
        ensure!(Instant::now() < end, "{what}: within {SEEN_WITHIN:?} it says {}", snapshot["servers"]);
        pause(ASK_EVERY);
    }
}

fn all_up(snapshot: &Value) -> bool {
    let servers = snapshot["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    !servers.is_empty() && servers.iter().all(|server| server["state"] == "up")
}

/// What some time cost.
#[derive(Debug)]
struct Cost {
    /// Milliseconds of processor time in a second.
    ms_per_s: u64,
    time: Duration,
    /// The most of all looks.
    rss_bytes: u64,
    rss_anon_bytes: u64,
}

fn cost(
    monitor: &Watched,
    time: Duration,
    mut each: impl FnMut(&Watched) -> anyhow::Result<()>,
) -> anyhow::Result<Cost> {
    let (began, first) = (Instant::now(), monitor.spent()?);
    let (mut rss_bytes, mut rss_anon_bytes) = (0, 0);
    loop {
        each(monitor)?;
        let spent: Spent = monitor.spent()?;
        rss_bytes = rss_bytes.max(spent.rss_bytes);
        rss_anon_bytes = rss_anon_bytes.max(spent.rss_anon_bytes);
        let passed = began.elapsed();
        if passed >= time {
            let cpu = spent.cpu.saturating_sub(first.cpu).as_micros();
            let ms_per_s = u64::try_from(cpu.div_ceil(passed.as_millis().max(1)))?;
            return Ok(Cost { ms_per_s, time: passed, rss_bytes, rss_anon_bytes });
        }
        pause(LOOK_EVERY.min(time.saturating_sub(passed)));
    }
}

/// How long it took to answer, microseconds.
#[derive(Debug)]
struct Answers {
    metrics: Histogram<u64>,
    snapshot: Histogram<u64>,
    snapshot_bytes: usize,
}

/// One client that asks over and over, each time by a connection of its own.
fn answers(monitor: &Watched, time: Duration) -> anyhow::Result<Answers> {
    let micros = || Histogram::new_with_max(ANSWER_US_MAX, 3);
    let mut found = Answers { metrics: micros()?, snapshot: micros()?, snapshot_bytes: 0 };
    let (began, mut number) = (Instant::now(), 0_u32);
    while began.elapsed() < time || number == 0 {
        for (path, times) in [("/metrics", &mut found.metrics), ("/api/snapshot", &mut found.snapshot)] {
            let asked = Instant::now();
            let bytes = monitor.ask(path)?.len();
            times.saturating_record(u64::try_from(asked.elapsed().as_micros())?);
            if path == "/api/snapshot" {
                found.snapshot_bytes = bytes;
            }
        }
        number += 1;
        pause((ASK_EVERY * number).saturating_sub(began.elapsed()));
    }
    Ok(found)
}

fn figures(
    alone: &Cost,
    followed: &Cost,
    heard: &[Heard],
    answers: &Answers,
    scrape_bytes: usize,
    rows_per_second: u64,
) -> anyhow::Result<Vec<Figure>> {
    let per_second = |bytes: u64| u64::try_from(u128::from(bytes) * 1_000 / followed.time.as_millis().max(1));
    let most = heard.iter().map(|one| one.bytes).max().unwrap_or(0);
    let (least_frames, most_frames) =
        (heard.iter().map(|one| one.frames).min().unwrap_or(0), heard.iter().map(|one| one.frames).max().unwrap_or(0));
    let skipped: u64 = heard.iter().map(|one| one.skipped).sum();
    let longest = heard.iter().map(|one| one.longest_gap).max().unwrap_or_default();
    let load = format!("beside {rows_per_second} rows, {} prices, {} events a second", load::PRICES, load::EVENTS);
    let asked = |times: &Histogram<u64>, bytes| format!("{} questions, {bytes} bytes", times.len());
    let mut results = vec![
        Figure::plain("cpu_nobody_looks", alone.ms_per_s, "ms/s").note(load),
        Figure::at_most("cpu_ten_readers", followed.ms_per_s, "ms/s", CPU_MS_PER_S_MAX)
            .note(format!("of one core, {} s; 10 ms/s are 1 %", followed.time.as_secs())),
        Figure::at_most("rss_ten_readers", followed.rss_bytes.div_ceil(MIB), "MiB", MEMORY_MIB_MAX)
            .note("with the pages of the program itself"),
        Figure::plain("rss_anon_ten_readers", followed.rss_anon_bytes.div_ceil(MIB), "MiB"),
        Figure::plain("sent_to_a_reader", per_second(most)?, "bytes/s")
            .note(format!("{} readers, {least_frames} to {most_frames} frames each", heard.len())),
        Figure::at_most("frames_skipped", skipped, "frames", 0).note("a reader that is too slow gets the newest one"),
        Figure::plain("frame_gap_max", u64::try_from(longest.as_millis())?, "ms").note("one is due each 1000 ms"),
    ];
    for (name, times, bytes) in
        [("metrics", &answers.metrics, scrape_bytes), ("snapshot", &answers.snapshot, answers.snapshot_bytes)]
    {
        let [p50, p99] = Figure::of_micros(name, times, None);
        results.extend([p50, p99.note(asked(times, bytes))]);
    }
    Ok(results)
}
