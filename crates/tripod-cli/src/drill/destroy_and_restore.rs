//! All data of the three servers are destroyed under a load that goes on, and put back from a backup.
//!
//! Constraints: on servers of the drill's own. First with the journal, which must bring back every row recorded since
//! the backup; then without it, as when the bot's disk is gone too: then what was visible before the backup must be there,
//! and it must be said from when rows are missing. What PostgreSQL and Redis must hold is known from what was written to
//! them before the backup, and after it.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Runtime;
use tripod::events::Events;
use tripod::postgres::{Login, Postgres, migrations};
use tripod::settings::{Change, Settings};
use tripod_stack::{ServerName, Servers, stand_still};

use super::own_stack::OwnStack;
use super::patience::{STANDS_STILL, Wait, patiently};
use super::report::{Besides, Report};
use super::row::Place;
use super::scene::{Scene, lock, millis, remove_dir};
use super::server::{pause, watch};
use super::{Break, Drill};
use crate::args::Global;
use crate::backup::restore::{Restored, RowsSince, Wish, restore};
use crate::backup::site::Ground;
use crate::backup::{Shown, create};

const TOPIC: &str = "drill";
const NAMESPACE: &str = "drill";
const KEY: &str = "round";
/// Events before each backup, and again after it.
const EVENTS: u64 = 200;
/// The load records so long after a backup, before everything is destroyed.
const AFTER_BACKUP: Duration = Duration::from_secs(2);
/// And so long after the last round.
const LAST_WORDS: Duration = Duration::from_millis(300);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the restores gave besides rows.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Destroyed {
    /// From the begin of each restore to servers that answer.
    restore_ms: Vec<u64>,
    /// Of that, without servers where there were some.
    down_ms: Vec<u64>,
    /// Rows that a SELECT returned before the last backup.
    visible_before: u64,
    /// Of these, not there after the restore without a journal.
    visible_before_lost: u64,
    /// Rows recorded after it, and gone with the journal.
    gone_with_journal: u64,
    /// From when rows were said to be missing, then.
    rows_missing_from: Option<String>,
    /// What is not as was promised.
    #[serde(skip)]
    pub(super) broken: Vec<String>,
}

impl Destroyed {
    pub(super) fn words(&self) -> String {
        let longest = |times: &[u64]| times.iter().max().copied().unwrap_or(0);
        let missing = self.rows_missing_from.as_deref().unwrap_or("nothing");
        format!(
            "restored    {} times, longest {} ms, of which {} ms to put it in place and start the servers\n\
             no journal  {} rows were visible before the backup, {} of them are lost; {} were recorded after it\n\
             said then   rows are missing from {missing}\n",
            self.restore_ms.len(),
            longest(&self.restore_ms),
            longest(&self.down_ms),
            self.visible_before,
            self.visible_before_lost,
            self.gone_with_journal,
        )
    }

    fn restored(&mut self, restored: &Restored) {
        self.restore_ms.push(millis(restored.took));
        self.down_ms.push(millis(restored.down));
    }

    fn expect(&mut self, is_so: bool, what: impl FnOnce() -> String) {
        if !is_so {
            self.broken.push(what());
        }
    }
}

pub(super) fn run(global: &Global, rounds: u32, bar: &ProgressBar) -> anyhow::Result<Report> {
    let drill = Drill::DestroyAndRestore;
    std::fs::create_dir_all(&global.data).with_context(|| format!("cannot make {}", global.data.display()))?;
    let drills = global.data.canonicalize().context("cannot open the data directory")?.join("drills");
    let held = lock(&drills)?;
    let dir = drills.join(drill.name());
    let data = dir.join("stack");
    let own = OwnStack::start(&data, Servers::ALL)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let config = own.config()?;
    runtime.block_on(patiently(async || migrations::apply(&config.postgres).await))?;
    for left in ["journals", "load.log"] {
        remove_any(&dir.join(left))?;
    }
    let config_path = data.join(tripod::config::FILE_NAME);
    let mut scene = Scene::set_on(drill, config, config_path, data.clone(), dir, held)?;
    let mut stage = Stage { ground: ground(&scene, &data)?, runtime, destroyed: Destroyed::default() };

    let breaks = stage.with_journal(&mut scene, rounds, bar)?;
    bar.set_message("reading every row back");
    let judged = scene.judge()?;
    bar.set_message("the same without the journal");
    stage.without_journal(&mut scene)?;
    bar.inc(1);
    let besides = Besides { destroyed: Some(stage.destroyed), ..Besides::default() };
    let mut report = Report::new(drill, rounds, &scene, breaks, judged, besides);
    if !report.ok {
        report.evidence = Some(scene.left_behind());
    } else {
        let dir = scene.dir.clone();
        drop(own);
        remove_dir(&dir)?;
    }
    Ok(report)
}

/// The drill's stack as a backup sees it, with the journals of its load.
fn ground(scene: &Scene, data: &Path) -> anyhow::Result<Ground> {
    let global = Global { config: None, data: data.to_owned(), json: false, quiet: true, verbose: 0 };
    let mut ground = Ground::of(&global)?;
    ground.config.journal.dir = scene.load_config().journal.dir;
    Ok(ground)
}

fn remove_any(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        return remove_dir(path);
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("cannot remove what a drill before left"),
        _ => Ok(()),
    }
}

struct Stage {
    ground: Ground,
    runtime: Runtime,
    destroyed: Destroyed,
}

impl Stage {
    fn with_journal(&mut self, scene: &mut Scene, rounds: u32, bar: &ProgressBar) -> anyhow::Result<Vec<Break>> {
        let mut load = scene.start_load()?;
        watch(&scene.table, 0, Instant::now(), Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
        let mut breaks = Vec::new();
        for round in 1..=rounds {
            bar.set_message(format!("backup {round}"));
            let before = u64::from(round) * 10;
            self.write(before)?;
            let published = self.published()?;
            self.back_up()?;
            self.write(before + 1)?;
            pause(AFTER_BACKUP);
            load.check_alive()?;

            bar.set_message(format!("destroying everything, restoring it: {round}"));
            let (destroyed_at, newest) = (Instant::now(), load.newest());
            load.reached().set_broken(true);
            self.destroy()?;
            let restored = self.restore()?;
            let seen =
                watch(&scene.table, newest, destroyed_at, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
            load.reached().set_broken(false);
            let visible = seen.visible(&format!("after restore {round}"), "load.log says what the bot was doing")?;
            breaks.push(Break {
                away_ms: seen.answered.map(millis),
                recovery_ms: Some(millis(visible)),
                ..Break::default()
            });
            let missing = restored.rows.as_ref().and_then(RowsSince::missing_from);
            self.destroyed.expect(missing.is_none(), || format!("rows were said to be missing from {missing:?}"));
            let (setting, events) = (self.setting()?, self.published()?);
            self.destroyed.expect(setting == Some(before), || {
                format!("PostgreSQL has {setting:?} where {before} was set before the backup")
            });
            self.destroyed.expect(events == published, || {
                format!("Redis has {} events, and had {} at the backup", events.len(), published.len())
            });
            bar.inc(1);
        }
        pause(LAST_WORDS);
        bar.set_message("delivering the rest");
        scene.end_load(load)?;
        Ok(breaks)
    }

    /// The bot's disk goes, too: what was visible before the backup is there, and nothing else is promised.
    fn without_journal(&mut self, scene: &mut Scene) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut load = scene.start_load()?;
        let newest = load.newest();
        watch(&scene.table, newest, begun, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
        let before = places(scene)?;
        let cut = self.back_up()?;
        pause(AFTER_BACKUP);
        let witnessed = load.kill()?;
        scene.remember(&witnessed)?;
        self.destroy()?;
        remove_dir(&self.ground.config.journal.dir)?;
        let restored = self.restore()?;
        let after = places(scene)?;
        let recorded: u64 = scene.spans.iter().map(|span| span.to - span.from).sum();
        let destroyed = &mut self.destroyed;
        destroyed.visible_before = count(before.len());
        destroyed.visible_before_lost = count(before.difference(&after).count());
        destroyed.gone_with_journal = recorded.saturating_sub(count(after.len()));
        let missing = restored.rows.as_ref().and_then(RowsSince::missing_from);
        destroyed.rows_missing_from = missing.map(|at| at.to_string());
        destroyed.expect(missing == Some(cut), || {
            format!("rows were said to be missing from {missing:?}, and the backup's moment was {cut}")
        });
        let lost = destroyed.visible_before_lost;
        destroyed.expect(lost == 0, || format!("{lost} rows that were visible before the backup are lost"));
        let gone = destroyed.gone_with_journal;
        destroyed.expect(gone > 0, || "nothing was recorded after the backup: that proves nothing".to_owned());
        Ok(())
    }

    fn back_up(&self) -> anyhow::Result<tripod::Timestamp> {
        let hidden = ProgressBar::hidden();
        Ok(create::create(&self.ground, Shown::new(&hidden))?.manifest.cut.questdb_at)
    }

    fn restore(&mut self) -> anyhow::Result<Restored> {
        let hidden = ProgressBar::hidden();
        let wish = Wish { overwrite: true, ..Wish::default() };
        let restored = restore(&self.ground, &wish, Shown::new(&hidden))?;
        self.destroyed.restored(&restored);
        Ok(restored)
    }

    /// Ends the servers and removes all that they have on the disk.
    fn destroy(&self) -> anyhow::Result<()> {
        let site = &self.ground.site;
        let _still = stand_still(site.data_dir())?;
        for server in [ServerName::QuestDb, ServerName::Postgres, ServerName::RedisEvents] {
            remove_dir(&site.data_path(server))?;
        }
        Ok(())
    }

    /// A value into PostgreSQL, events into Redis.
    fn write(&self, value: u64) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let postgres = Postgres::open_as(&self.ground.config.postgres, Login::Admin, ANSWER_WITHIN)?;
            let settings = Settings::new(postgres);
            // One that was stored without an answer is there at the next try.
            patiently(async || {
                let there = settings.get::<u64>(NAMESPACE, KEY).await?;
                if there.as_ref().is_some_and(|setting| setting.value == value) {
                    return Ok(());
                }
                let expected = there.map(|setting| setting.revision);
                let change = Change { expected, who: "drill", why: "a rehearsal" };
                settings.set(NAMESPACE, KEY, &value, change).await.map(drop)
            })
            .await?;
            let events = patiently(async || Events::connect(&self.ground.config).await).await?;
            let publisher = events.publisher(TOPIC)?;
            for number in 0..EVENTS {
                // Twice there is as good as once: what is compared is the stream before and after.
                patiently(async || publisher.publish("drill", &(value, number)).await).await?;
            }
            Ok(())
        })
    }

    fn setting(&self) -> anyhow::Result<Option<u64>> {
        self.runtime.block_on(async {
            let settings = Settings::new(Postgres::open_as(&self.ground.config.postgres, Login::Admin, ANSWER_WITHIN)?);
            let there = patiently(async || settings.get::<u64>(NAMESPACE, KEY).await).await?;
            Ok(there.map(|setting| setting.value))
        })
    }

    /// The ids of all events.
    fn published(&self) -> anyhow::Result<Vec<String>> {
        self.runtime.block_on(async {
            let events = patiently(async || Events::connect(&self.ground.config).await).await?;
            let newest = patiently(async || events.newest(TOPIC, 10_000).await).await?;
            Ok(newest.iter().map(|event| event.id.to_string()).collect())
        })
    }
}

/// The places of all rows that a SELECT returns.
fn places(scene: &Scene) -> anyhow::Result<HashSet<Place>> {
    let (mut places, mut foreign) = (HashSet::new(), 0_u64);
    scene.table.read(scene.table.numbers_end()?, |cells| {
        match cells.first().and_then(Value::as_str).and_then(|id| scene.recipe.place_of(id)) {
            Some(place) => drop(places.insert(place)),
            None => foreign += 1,
        }
    })?;
    ensure!(foreign == 0, "{foreign} rows are nobody's");
    Ok(places)
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
