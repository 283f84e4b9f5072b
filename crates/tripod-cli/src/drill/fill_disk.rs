//! The disk under QuestDB and under the bot's journals is full. The drill has both on a small disk of its own, so the
//! stack and the machine lose nothing.
//!
//! Operation of a round: no space is left → the bot is told to stop trading, or its sink says that QuestDB's disk is
//! full → space is given back → the bot goes on, QuestDB is started again where it died, rows recorded since are visible.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;
use tripod::Config;
use tripod::tape::SinkState;
use tripod_stack::{Options, Servers};

use super::disk::Disk;
use super::patience::Wait;
use super::scene::{Scene, lock, millis, remove_dir};
use super::server::{pause, watch};
use super::{Break, Drill, child::Load};
use crate::args::Global;
use crate::exit::Stop;

/// Left on the full disk: less than a segment of the journal, and a second of the log.
const BYTES_LEFT: u64 = 2 << 20;
/// Rows are recorded this long before each round.
const LIFE_LEAST: Duration = Duration::from_millis(500);
const LIFE_MOST: Duration = Duration::from_millis(1500);
const SAID_WITHIN: Duration = Duration::from_secs(60);
/// The disk stays full so long after it was said, so that both sides have met it.
const STAYS_FULL: Duration = Duration::from_secs(5);
/// A full disk is probed twice a minute, a server that keeps dying started again as often.
const STANDS_STILL_FULL: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A scene on a small disk: a QuestDB of its own, journals, and the load.
pub(super) fn set(global: &Global) -> anyhow::Result<(Scene, Disk)> {
    let data = global.data.as_path();
    std::fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
    let data = data.canonicalize().with_context(|| format!("cannot open {}", data.display()))?;
    let held = lock(&data.join("drills"))?;
    let dir = data.join("drills").join(Drill::FillDisk.name());
    clear(&dir)?;
    let disk = Disk::mount(&dir.join("disk"))?;
    start(&disk, dir.as_path(), held).map(|scene| (scene, disk)).inspect_err(|_| drop(clear(&dir)))
}

fn start(disk: &Disk, dir: &Path, held: File) -> anyhow::Result<Scene> {
    let data = disk.path.join("data");
    let mut options = Options::new(&data);
    options.servers = Servers { questdb: true, ..Servers::NONE };
    tripod_stack::up(&options)?;
    let (config, config_path) = (Config::local(&data)?, data.join(tripod::config::FILE_NAME));
    let mut scene = Scene::set_on(Drill::FillDisk, config, config_path, data, disk.path.join("bot"), held)?;
    // Its log is not what the disk is full of.
    scene.log = dir.join("load.log");
    Ok(scene)
}

/// Ends the drill's own stack and removes its disk; nothing of it may be there.
pub(super) fn clear(dir: &Path) -> anyhow::Result<()> {
    let data = dir.join("disk/data");
    if data.is_dir() {
        tripod_stack::down(&data, false)?;
    }
    Disk::unmount(&dir.join("disk"))?;
    remove_dir(dir)
}

pub(super) fn run(scene: &mut Scene, disk: &Disk, rounds: u32, bar: &ProgressBar) -> anyhow::Result<Vec<Break>> {
    let mut load = scene.start_load_with(|order| order.small_segments = true)?;
    watch(&scene.table, 0, Instant::now(), Wait::while_it_moves(STANDS_STILL_FULL), || load.check_alive())?;
    let mut breaks = Vec::new();
    for round in 1..=rounds {
        pause(scene.dice.between(LIFE_LEAST, LIFE_MOST));
        let stopped = load.reached().stopped();
        disk.fill(BYTES_LEFT)?;
        let said_ms = Some(await_said(scene, &mut load, stopped)?);
        pause(STAYS_FULL);
        disk.mend()?;
        let (mended_at, newest) = (Instant::now(), load.newest());
        let seen =
            watch(&scene.table, newest, mended_at, Wait::while_it_moves(STANDS_STILL_FULL), || load.check_alive())?;
        let visible = seen.visible(
            &format!("with space again, in round {round},"),
            "load.log says what the bot was doing, the log of the small disk's QuestDB what that was",
        )?;
        breaks.push(Break { said_ms, recovery_ms: Some(millis(visible)), ..Break::default() });
        bar.inc(1);
    }
    bar.set_message("delivering the rest");
    scene.end_load(load)?;
    Ok(breaks)
}

/// Waits until the bot was told to stop trading or its sink says that QuestDB's disk is full; milliseconds.
fn await_said(scene: &Scene, load: &mut Load, stopped: u64) -> anyhow::Result<u64> {
    let (began, config) = (Instant::now(), scene.load_config());
    while began.elapsed() < SAID_WITHIN {
        load.check_alive()?;
        let full = tripod::tape::statuses(&config)?.iter().any(|sink| sink.state == SinkState::DiskFull);
        if full || load.reached().stopped() > stopped {
            return Ok(millis(began.elapsed()));
        }
        pause(LOOK_EVERY);
    }
    Err(Stop::untrue(
        format!("nobody said within {SAID_WITHIN:?} that the disk is full"),
        "load.log says what the bot was doing",
    )
    .into())
}
