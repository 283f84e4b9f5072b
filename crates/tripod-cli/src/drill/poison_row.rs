//! The server's table is narrower than the rows: some of them pass every check of the bot and are refused by QuestDB.

use std::time::{Duration, Instant};

use anyhow::ensure;
use indicatif::ProgressBar;

use super::Break;
use super::patience::{STANDS_STILL, Wait};
use super::row::{POISON_EVERY, Place};
use super::scene::{Scene, millis, within};
use super::server::{pause, watch};

/// Between two looks whether the next such row is recorded; they come each tenth of a second.
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub(super) fn run(scene: &mut Scene, rounds: u32, bar: &ProgressBar) -> anyhow::Result<Vec<Break>> {
    let mut load = scene.start_load()?;
    let mut breaks = Vec::new();
    for round in 1..=rounds {
        // The next one that is not recorded yet.
        let number = load.newest() / POISON_EVERY * POISON_EVERY + POISON_EVERY + POISON_EVERY / 2;
        debug_assert!(scene.recipe.is_poison(Place { thread: 0, number }));
        let end = within(STANDS_STILL);
        while load.newest() < number {
            load.check_alive()?;
            ensure!(Instant::now() < end, "the bot records no row in {STANDS_STILL:?}");
            pause(LOOK_EVERY);
        }
        let seen =
            watch(&scene.table, number, Instant::now(), Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
        let visible = seen.visible(&format!("behind refused row {round}"), "`tripod status` shows how QuestDB is")?;
        breaks.push(Break { recovery_ms: Some(millis(visible)), ..Break::default() });
        bar.inc(1);
    }
    bar.set_message("delivering the rest");
    scene.end_load(load)?;
    Ok(breaks)
}
