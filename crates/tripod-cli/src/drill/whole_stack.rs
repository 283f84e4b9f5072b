//! Drills that break all servers at once: on a stack of their own below the data directory, with a bot's whole work on it.
//!
//! Picture: `DATA/drills/NAME/{stack,journals,load.log}`; all of it is gone afterwards, unless a promise was broken: then the
//! servers are stopped, and their data stay until the next run.

use anyhow::Context as _;
use indicatif::ProgressBar;
use tripod::postgres::migrations;
use tripod_stack::Servers;

use super::clock::{self, Clocks};
use super::own_stack::OwnStack;
use super::patience::patiently;
use super::report::{Besides, Report};
use super::scene::{self, Judged, Scene, remove_dir};
use super::whole::{Back, Whole, Work};
use super::{Break, Drill, clock_back, restart_everything};
use crate::args::Global;

pub(super) fn run(drill: Drill, rounds: u32, global: &Global, bar: &ProgressBar) -> anyhow::Result<Report> {
    // First: this program may be started anew for it.
    let clocks = if drill == Drill::ClockBack { Some(clock::own()?) } else { None };
    std::fs::create_dir_all(&global.data).with_context(|| format!("cannot make {}", global.data.display()))?;
    let data = global.data.canonicalize().with_context(|| format!("cannot open {}", global.data.display()))?;
    let drills = data.join("drills");
    let lock = scene::lock(&drills)?;
    let dir = drills.join(drill.name());
    // What a drill that was killed, or that broke a promise, has left.
    tripod_stack::down(&dir.join("stack"), true)?;
    remove_dir(&dir)?;
    let environment = clocks.as_ref().map(Clocks::of_servers).unwrap_or_default();
    let mut own = OwnStack::start_with(&dir.join("stack"), Servers::ALL, environment)?;
    let mut scene = Scene::set_on(drill, own.config()?, own.config_path(), own.dir().to_owned(), dir.clone(), lock)?;
    let ran = perform(&mut scene, &mut own, clocks.as_ref(), rounds, bar);
    let kept = format!("; `tripod --data {} up` starts its servers again", own.dir().display());
    let left_behind = || scene.left_behind() + &kept;
    let (breaks, work, judged) = match ran {
        Ok(ran) => ran,
        Err(error) => {
            own.keep()?;
            return Err(error.context(left_behind()));
        }
    };
    let besides = Besides { whole: Some(work), ..Besides::default() };
    let mut report = Report::new(drill, rounds, &scene, breaks, judged, besides);
    if report.ok {
        drop(own);
        remove_dir(&dir)?;
    } else {
        report.evidence = Some(left_behind());
        own.keep()?;
    }
    Ok(report)
}

fn perform(
    scene: &mut Scene,
    own: &mut OwnStack,
    clocks: Option<&Clocks>,
    rounds: u32,
    bar: &ProgressBar,
) -> anyhow::Result<(Vec<Break>, Work, Judged)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(patiently(async || migrations::apply(&scene.config.postgres).await))?;
    let whole = Whole::start(&scene.config)?;
    let (breaks, backs): (Vec<Break>, Vec<Back>) = match clocks {
        Some(clocks) => clock_back::run(scene, own, clocks, &whole, rounds, bar)?,
        None => restart_everything::run(scene, own, &whole, rounds, bar)?,
    };
    bar.set_message("asking for all of it");
    let work = whole.end(backs)?;
    let judged = scene.judge()?;
    Ok((breaks, work, judged))
}
