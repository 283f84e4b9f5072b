//! A part of the table's log is made unreadable under QuestDB, which suspends the table: from then on it answers writes
//! to it OK and shows none of them. The cause is a real one: what a power loss or a bad disk leaves behind.
//!
//! Operation of a round: the newest part of the log is moved away → the sink names the table → it sends again what that
//! part held and goes on behind it → a row recorded after the break is visible.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;
use tripod::tape::SinkStatus;

use super::Break;
use super::patience::{STANDS_STILL, Wait};
use super::scene::{Scene, millis, within};
use super::server::{pause, watch};
use crate::exit::Stop;

/// Rows are recorded this long before each break.
const LIFE_LEAST: Duration = Duration::from_millis(300);
const LIFE_MOST: Duration = Duration::from_millis(1000);
/// QuestDB meets the hole with its next transaction, the sink asks it once a second.
const SAID_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where the moved parts of the log go.
const AWAY: &str = "unreadable";

pub(super) fn run(scene: &mut Scene, rounds: u32, bar: &ProgressBar) -> anyhow::Result<Vec<Break>> {
    let mut load = scene.start_load()?;
    watch(&scene.table, 0, Instant::now(), Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    let mut breaks = Vec::new();
    for round in 1..=rounds {
        pause(scene.dice.between(LIFE_LEAST, LIFE_MOST));
        hide_newest_log(scene, round)?;
        let (broken_at, newest) = (Instant::now(), load.newest());
        let end = within(SAID_WITHIN);
        while !is_named(scene)? {
            load.check_alive()?;
            if Instant::now() >= end {
                return Err(Stop::untrue(
                    format!("nobody said within {SAID_WITHIN:?} that {} is suspended", scene.table.name),
                    "`tripod status` asks the sinks; QuestDB's log says whether it met the break at all",
                )
                .into());
            }
            pause(LOOK_EVERY);
        }
        let said_ms = Some(millis(broken_at.elapsed()));
        let seen = watch(&scene.table, newest, broken_at, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
        let visible =
            seen.visible(&format!("after break {round}"), "`tripod status` shows what the sink does about it")?;
        breaks.push(Break { said_ms, recovery_ms: Some(millis(visible)), ..Break::default() });
        bar.inc(1);
    }
    bar.set_message("delivering the rest");
    scene.end_load(load)?;
    Ok(breaks)
}

/// Whether the bot's sinks, asked from this process, name the table.
fn is_named(scene: &Scene) -> anyhow::Result<bool> {
    let names = |sink: &SinkStatus| sink.suspended.iter().any(|table| table.table == scene.table.name);
    Ok(tripod::tape::statuses(&scene.load_config())?.iter().any(names))
}

/// Moves the newest part of the table's log to where QuestDB does not find it.
fn hide_newest_log(scene: &Scene, round: u32) -> anyhow::Result<()> {
    let db = scene.data.join("stack/questdb/db");
    let is_table = |name: &str| name.strip_prefix(&scene.table.name).is_some_and(|rest| rest.starts_with('~'));
    let table = newest(&db, |name| is_table(name).then_some(0))?;
    let wal = newest(&table, |name| name.strip_prefix("wal")?.parse().ok())?;
    let segment = newest(&wal, |name| name.parse().ok())?;
    let away = scene.dir.join(AWAY);
    std::fs::create_dir_all(&away).with_context(|| format!("cannot make {}", away.display()))?;
    let event = segment.join("_event");
    std::fs::rename(&event, away.join(format!("{round}"))).with_context(|| format!("cannot move {}", event.display()))
}

/// The directory in `dir` whose name has the highest number.
fn newest(dir: &Path, number: impl Fn(&str) -> Option<u64>) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let found = entries.flatten().filter_map(|entry| {
        let number = number(entry.file_name().to_str()?)?;
        entry.path().is_dir().then(|| (number, entry.path()))
    });
    found.max().map(|(_, path)| path).with_context(|| format!("QuestDB keeps no such log in {}", dir.display()))
}
