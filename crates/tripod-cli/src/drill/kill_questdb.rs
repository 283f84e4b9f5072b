//! QuestDB is killed at random moments under a load that goes on; the stack's supervisor starts it again, at once each
//! time: it is told that the server is ended on purpose. Otherwise its pauses, up to half a minute, would be most of what
//! a long run measures.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;
use rustix::process::{Signal, pidfd_send_signal};
use tripod_stack::{RunState, ServerState};

use super::Break;
use super::patience::{STANDS_STILL, Wait};
use super::scene::{Scene, millis};
use super::server::{hold, pause, watch};
use crate::exit::Stop;

/// QuestDB lives between these two long after rows are visible again.
const LIFE_LEAST: Duration = Duration::from_millis(100);
const LIFE_MOST: Duration = Duration::from_millis(2000);
/// The load goes on so long after the last round.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Before anything is made: somebody must start QuestDB again.
pub(super) fn check(own: &ServerState) -> Result<(), Stop> {
    match own.detail.as_str() {
        "" => Ok(()),
        detail => Err(Stop::untrue(
            format!("QuestDB would not be started again after a kill: it is {detail}"),
            "`tripod up` heals the stack",
        )),
    }
}

pub(super) fn run(scene: &mut Scene, rounds: u32, bar: &ProgressBar) -> anyhow::Result<Vec<Break>> {
    let mut load = scene.start_load()?;
    watch(&scene.table, 0, Instant::now(), Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    let mut breaks = Vec::new();
    for round in 1..=rounds {
        pause(scene.dice.between(LIFE_LEAST, LIFE_MOST));
        kill(scene)?;
        let (killed_at, newest) = (Instant::now(), load.newest());
        let seen = watch(&scene.table, newest, killed_at, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
        let visible = seen.visible(&format!("after kill {round}"), "`tripod status` shows how QuestDB is")?;
        breaks.push(Break {
            away_ms: seen.answered.map(millis),
            recovery_ms: Some(millis(visible)),
            ..Break::default()
        });
        bar.inc(1);
    }
    pause(LAST_WORDS);
    bar.set_message("delivering the rest");
    scene.end_load(load)?;
    Ok(breaks)
}

/// kill -9 of exactly this process: the handle is opened first and the stack asked again whose it is.
pub(super) fn kill(scene: &Scene) -> anyhow::Result<()> {
    let own = || scene.own_questdb();
    let found = own()?;
    let pid = found.pid.filter(|_| found.state == RunState::Running).context("QuestDB does not run")?;
    let held = hold(pid)?;
    anyhow::ensure!(own()?.pid == Some(pid), "QuestDB was started anew by somebody else meanwhile");
    tripod_stack::forget_endings(scene.data())?;
    pidfd_send_signal(held, Signal::KILL).context("QuestDB cannot be killed")
}
