//! The server's table is narrower than the rows: some of them pass every check of the bot and are refused by QuestDB.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Break;
use super::row::{POISON_EVERY, Place};
use super::scene::{Scene, millis, within};
use super::server::{pause, watch};
use crate::exit::Stop;

/// A refused row holds the rows behind it up for less than this.
const RECOVER_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks whether the next such row is recorded; they come each tenth of a second.
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub(super) fn run(scene: &mut Scene, rounds: u32, bar: &ProgressBar) -> anyhow::Result<Vec<Break>> {
    let mut load = scene.start_load()?;
    let mut breaks = Vec::new();
    for round in 1..=rounds {
        // The next one that is not recorded yet.
        let number = load.newest() / POISON_EVERY * POISON_EVERY + POISON_EVERY + POISON_EVERY / 2;
        debug_assert!(scene.recipe.is_poison(Place { thread: 0, number }));
        while load.newest() < number {
            load.check_alive()?;
            pause(LOOK_EVERY);
        }
        let seen = watch(&scene.table, number, Instant::now(), within(RECOVER_WITHIN), || load.check_alive())?;
        if seen.visible.is_none() {
            return Err(Stop::untrue(
                format!("no row behind refused row {round} was visible within {RECOVER_WITHIN:?}"),
                "`tripod status` shows how QuestDB is",
            )
            .into());
        }
        breaks.push(Break { recovery_ms: seen.visible.map(millis), ..Break::default() });
        bar.inc(1);
    }
    bar.set_message("delivering the rest");
    scene.end_load(load)?;
    Ok(breaks)
}
