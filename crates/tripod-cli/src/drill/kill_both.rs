//! The bot and QuestDB are killed together, or one a moment after the other; nobody is left who remembers.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Break;
use super::patience::{STANDS_STILL, Wait};
use super::scene::{Scene, millis};
use super::server::{pause, watch};
use super::{child::Load, kill_questdb};

/// Both live between these two long after rows are visible again.
const LIFE_LEAST: Duration = Duration::from_millis(100);
const LIFE_MOST: Duration = Duration::from_millis(1500);
/// From one kill to the other, at most.
const APART_MOST: Duration = Duration::from_millis(200);
const LAST_WORDS: Duration = Duration::from_millis(300);

pub(super) fn run(scene: &mut Scene, rounds: u32, bar: &ProgressBar) -> anyhow::Result<Vec<Break>> {
    let mut load = scene.start_load()?;
    watch(&scene.table, 0, Instant::now(), Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    let mut breaks = Vec::new();
    for round in 1..=rounds {
        pause(scene.dice.between(LIFE_LEAST, LIFE_MOST));
        let apart = scene.dice.between(Duration::ZERO, APART_MOST);
        let newest = match scene.dice.next().is_multiple_of(2) {
            true => {
                kill_questdb::kill(scene)?;
                pause(apart);
                end(scene, load)?
            }
            false => {
                let newest = end(scene, load)?;
                pause(apart);
                kill_questdb::kill(scene)?;
                newest
            }
        };
        let killed_at = Instant::now();
        load = scene.start_load()?;
        let seen = watch(&scene.table, newest, killed_at, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
        let visible = seen.visible(
            &format!("after kill {round}"),
            "`tripod status` shows how QuestDB is; load.log what the bot was doing",
        )?;
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

/// kill -9 of the bot; the number of the last row of thread 0 that it can have recorded.
fn end(scene: &mut Scene, load: Load) -> anyhow::Result<u64> {
    let witnessed = load.kill()?;
    scene.remember(&witnessed)?;
    Ok(scene.spans.iter().filter(|span| span.thread == 0).map(|span| span.to).max().unwrap_or(0))
}
