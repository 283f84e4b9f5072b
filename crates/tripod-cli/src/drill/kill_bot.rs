//! The bot is killed at random moments: while it starts, while it recovers its journal, while it records; and in every
//! second round with one of its threads held inside an append, where the others must neither wait nor be hidden behind it.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Break;
use super::child::Load;
use super::load::Hold;
use super::patience::{STANDS_STILL, Wait};
use super::row::THREADS;
use super::scene::{Scene, millis, within};
use super::server::{pause, watch};
use crate::exit::Stop;

/// A life of the bot is between these two long.
const LIFE_LEAST: Duration = Duration::from_millis(20);
const LIFE_MOST: Duration = Duration::from_millis(1500);
/// The last life records this long after its first row was visible.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// A thread is held this long after its start at most.
const HOLD_AFTER_MS_MOST: u64 = 500;
/// So far must thread 0 come on while another one is held: a tenth of a second.
const ROWS_BESIDE: u64 = 500;
const LOOK_EVERY: Duration = Duration::from_millis(2);

pub(super) fn run(scene: &mut Scene, rounds: u32, bar: &ProgressBar) -> anyhow::Result<Vec<Break>> {
    let mut breaks = Vec::new();
    let mut load = scene.start_load()?;
    // The first kill hits a bot that records.
    watch(&scene.table, 0, Instant::now(), Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    for round in 0..rounds {
        let beside_held = if holds(round) {
            Some(watch_held(scene, &mut breaks, &mut load)?)
        } else {
            let end = within(scene.dice.between(LIFE_LEAST, LIFE_MOST));
            watch_life(scene, &mut breaks, Wait::until(end), &mut load)?;
            pause(end.saturating_duration_since(Instant::now()));
            None
        };
        let witnessed = load.kill()?;
        scene.remember(&witnessed)?;
        breaks.push((Instant::now(), scene_newest(scene), Break { beside_held, ..Break::default() }));
        let hold = holds(round + 1).then(|| Hold {
            // Not thread 0, whose rows are looked for on the server.
            thread: 1 + usize::try_from(scene.dice.next()).unwrap_or(0) % (THREADS - 1),
            after_ms: scene.dice.next() % HOLD_AFTER_MS_MOST,
        });
        load = scene.start_load_with(|order| order.hold = hold)?;
        bar.inc(1);
    }
    watch_life(scene, &mut breaks, Wait::while_it_moves(STANDS_STILL), &mut load)?;
    if breaks.last().is_some_and(|(_, _, last)| last.recovery_ms.is_none()) {
        return Err(
            Stop::untrue("no new row was visible after the last kill", "load.log says what the bot was doing").into()
        );
    }
    pause(LAST_WORDS);
    bar.set_message("delivering the rest");
    scene.end_load(load)?;
    Ok(breaks.into_iter().map(|(_, _, one)| one).collect())
}

/// The first life records before anything is broken; of the others every second one has a held thread.
fn holds(round: u32) -> bool {
    round % 2 == 1
}

/// Waits until a thread is held, and until rows that others have recorded since are visible; how many those others are.
fn watch_held(scene: &Scene, breaks: &mut [(Instant, u64, Break)], load: &mut Load) -> anyhow::Result<u64> {
    watch_life(scene, breaks, Wait::while_it_moves(STANDS_STILL), load)?;
    let end = within(STANDS_STILL);
    while !load.reached().is_held() {
        load.check_alive()?;
        anyhow::ensure!(Instant::now() < end, "no thread was held within {STANDS_STILL:?}");
        pause(LOOK_EVERY);
    }
    let (recorded, newest) = (load.recorded(), load.newest());
    let seen = watch(&scene.table, newest + ROWS_BESIDE, Instant::now(), Wait::while_it_moves(STANDS_STILL), || {
        load.check_alive()
    })?;
    if seen.visible.is_none() {
        return Err(Stop::untrue(
            "with a thread held inside an append, no row of another one was visible",
            "load.log says what the bot was doing",
        )
        .into());
    }
    Ok(load.recorded() - recorded)
}

/// Watches until a row behind the last kill is visible, or until the wait is over; then each kill that waits for one has it.
fn watch_life(scene: &Scene, breaks: &mut [(Instant, u64, Break)], wait: Wait, load: &mut Load) -> anyhow::Result<()> {
    let Some((at, newest, _)) = breaks.last().filter(|(_, _, last)| last.recovery_ms.is_none()).copied() else {
        return Ok(());
    };
    let seen = watch(&scene.table, newest, at, wait, || load.check_alive())?;
    if seen.visible.is_some() {
        for (at, _, one) in breaks.iter_mut().filter(|(_, _, one)| one.recovery_ms.is_none()) {
            one.recovery_ms = Some(millis(at.elapsed()));
        }
    }
    Ok(())
}

/// The newest number of thread 0 that a life before now can have recorded.
fn scene_newest(scene: &Scene) -> u64 {
    scene.spans.iter().filter(|span| span.thread == 0).map(|span| span.to).max().unwrap_or(0)
}
