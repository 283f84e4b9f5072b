//! Everything ends at once: QuestDB, PostgreSQL, both Redis, their supervisor and the bot, all by kill -9, as on a machine
//! whose power button somebody holds down; but the machine goes on, so what was in its memory of files is not lost
//! (losing power is rehearsed on a simulated disk: `cargo test -p tripod-journal power`). Then `up` again.
//!
//! Constraints: on servers of the drill's own. Other programs of the bot's owner live on and find the servers again by
//! themselves: the callers of `whole`, in this process. The bot that records starts anew.
//!
//! Operation of a round: all is killed → `up` → the bot starts → a row recorded since, a price, an event, a setting and a
//! heartbeat have come through.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Break;
use super::own_stack::OwnStack;
use super::patience::{STANDS_STILL, Wait};
use super::scene::{Scene, millis};
use super::server::{pause, watch};
use super::whole::{Back, Whole};

/// All is well between these two long before each end.
const LIFE_LEAST: Duration = Duration::from_millis(500);
const LIFE_MOST: Duration = Duration::from_millis(2000);
const RECOVER_WITHIN: Duration = Duration::from_secs(120);
const LAST_WORDS: Duration = Duration::from_millis(300);

pub(super) fn run(
    scene: &mut Scene,
    own: &mut OwnStack,
    whole: &Whole,
    rounds: u32,
    bar: &ProgressBar,
) -> anyhow::Result<(Vec<Break>, Vec<Back>)> {
    let mut load = scene.start_load()?;
    watch(&scene.table, 0, Instant::now(), Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    let (mut breaks, mut backs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        pause(scene.dice.between(LIFE_LEAST, LIFE_MOST));
        whole.leave_traces()?;
        own.kill_all()?;
        let killed_at = Instant::now();
        let witnessed = load.kill()?;
        scene.remember(&witnessed)?;
        let newest = scene.spans.iter().filter(|span| span.thread == 0).map(|span| span.to).max().unwrap_or(0);
        own.up()?;
        let up_ms = millis(killed_at.elapsed());
        // From here on: how long `up` takes is told apart.
        whole.mark();
        let up_at = Instant::now();
        load = scene.start_load()?;
        let seen = watch(&scene.table, newest, up_at, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
        let visible = seen.visible(&format!("after `up` of round {round}"), "load.log says what the bot was doing")?;
        let back = whole.await_back("everything ended and `up`", visible, RECOVER_WITHIN)?;
        whole.look_for_traces()?;
        breaks.push(Break { away_ms: Some(up_ms), recovery_ms: Some(up_ms + back.slowest_ms()), ..Break::default() });
        backs.push(back);
        bar.inc(1);
    }
    pause(LAST_WORDS);
    bar.set_message("delivering the rest");
    scene.end_load(load)?;
    Ok((breaks, backs))
}
