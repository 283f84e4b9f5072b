//! How much memory the recorder and one sink take while a large backlog waits and while it is delivered.
//!
//! Constraints: measured first, in a process that has done nothing else, because memory once taken is seldom given back.
//! Mapped journals are the page cache's and not counted. Delivery is cut off after a while: it is about memory, not time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tripod::tape::{Recorded, Tape};

use super::super::machine::MemoryWatch;
use super::super::report::Figure;
use super::rig::{self, Rig};
use super::tables;
use crate::drill::{pause, remove_dir};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// Delivered for so long, or to the end.
const DELIVER_FOR: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Rows between two looks at how large the journal is.
const LOOK_ROWS: u64 = 10_000;
/// The disk must have this much more than the backlog.
const DISK_ROOM: u64 = 4 * GIB;

pub(super) fn measure(rig: &Rig, backlog_gib: u64) -> anyhow::Result<Figure> {
    let backlog_bytes = backlog_gib.saturating_mul(GIB);
    require_disk(rig, backlog_bytes.saturating_add(DISK_ROOM))?;
    let (mut config, prefix) = rig.apart("memory")?;
    config.journal.standard_budget_mib = backlog_bytes / MIB + 1024;
    let mut away = config.clone();
    away.questdb.clear();
    let memory = MemoryWatch::start()?;
    let tape = Tape::open(&away)?;
    let (recorder, mut id, mut number) = (tape.recorder(), String::new(), 0_u64);
    while !number.is_multiple_of(LOOK_ROWS) || written(&config)? < backlog_bytes {
        let recorded = recorder.record(&rig.stock.trade(number, &mut id))?;
        ensure!(recorded == Recorded::Kept, "the journal is full: row {number} was dropped");
        number += 1;
    }
    rig::close(tape)?;
    let end = Instant::now() + DELIVER_FOR;
    let tape = Tape::open(&config)?;
    let table = format!("{prefix}market_trades");
    let mut visible = rig.count(&table)?;
    while visible < number && Instant::now() < end {
        pause(LOOK_EVERY);
        visible = rig.count(&table)?;
    }
    // What is not delivered stays in a journal that goes with the bench: how the tape closes says nothing here.
    drop(tape.close(Duration::ZERO));
    let bytes = memory.most_bytes();
    drop(memory);
    tables::remove(&rig.http, &prefix)?;
    remove_dir(&config.journal.dir)?;
    let note = format!("{number} rows, {backlog_gib} GiB of journal waited; {visible} of them were then delivered");
    Ok(Figure::at_most("rss_anon", bytes.div_ceil(MIB), "MiB", 200).best(100).note(note))
}

/// Bytes of the standard class's segments.
fn written(config: &tripod::Config) -> anyhow::Result<u64> {
    let dir = config.journal_dir().join("standard").join("segments");
    let mut bytes = 0;
    for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        // A segment may be renamed or gone between the two calls.
        bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}

/// Refuses to begin what the disk cannot hold.
pub(super) fn require_disk(rig: &Rig, bytes: u64) -> anyhow::Result<()> {
    let dir = rig.dir().parent().context("the data directory has no parent")?;
    let stat = rustix::fs::statvfs(dir).with_context(|| format!("cannot look at the disk of {}", dir.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    ensure!(
        free >= bytes,
        "{} MiB are free under {}, and this run wants {} MiB; choose a smaller size",
        free / MIB,
        dir.display(),
        bytes / MIB
    );
    Ok(())
}
