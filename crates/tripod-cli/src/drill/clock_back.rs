//! Clocks go back under load: both the bot's and the servers' by different times, then each alone; the machine's own stays.
//!
//! Constraints: on servers of the drill's own, whose processes ask a clock of the drill's own (see `clock`). This process
//! is the bot, with its load. That a clock has really jumped is asked of the servers each time, as `tripod doctor` asks
//! it; a drill whose clocks stand still fails.
//!
//! Shown is what processes do that see the time of day go back and on again: what the journal keeps and QuestDB shows,
//! how far a sink goes back when QuestDB is killed meanwhile, ids, ages of prices and of heartbeats, lives of keys, ids
//! of events, revisions. Not shown: timers (a step of the clock does not move them), times of files (the kernel's own),
//! and the failover of `up --ha`, where sentinels wait for half a minute after a jump before they act (TILT).
//!
//! Operation of a round: traces are left → a clock jumps → all goes on → QuestDB is killed → all goes on → the clock is put
//! right → all goes on.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;
use tripod::Config;
use tripod::audit;
use tripod::postgres::{Login, Postgres};
use tripod::redis::Link;
use tripod::tape::questdb::QuestDbHttp;
use tripod::{Error, Server};
use tripod_stack::ServerName;

use super::Break;
use super::child::Load;
use super::clock::{Clocks, Whose};
use super::own_stack::OwnStack;
use super::patience::{STANDS_STILL, Wait, patiently, patiently_here};
use super::scene::{Scene, within};
use super::server::{pause, watch};
use super::whole::{Back, Whole};
use crate::exit::Stop;

/// All is well between these two long before each jump.
const LIFE_LEAST: Duration = Duration::from_millis(300);
const LIFE_MOST: Duration = Duration::from_millis(1000);
/// What a clock goes back by. By an hour: longer than a price, a guard and a deadline live, within a day of the tape. By a
/// day and more: into the day before, where the tape begins another partition.
const HOUR: Duration = Duration::from_secs(3_600);
const DAY_AND_MORE: Duration = Duration::from_secs(25 * 3_600);
/// Where both jump, the bot goes back by this.
const MINUTES: Duration = Duration::from_secs(120);
const RECOVER_WITHIN: Duration = Duration::from_secs(120);
const ASK_WITHIN: Duration = Duration::from_secs(10);
/// A clock that is off, or right, is found so within this, and between two looks.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What a look at the servers' clocks tells.
const CLOCKS: [&str; 3] = ["questdb.clock", "postgres.clock", "redis.clock"];

/// What jumps in one round.
#[derive(Debug, Clone, Copy)]
struct Jump {
    bot: Duration,
    servers: Duration,
}

impl Jump {
    fn of(round: u32) -> Self {
        match round % 3 {
            0 => Self { bot: MINUTES, servers: DAY_AND_MORE },
            1 => Self { bot: HOUR, servers: Duration::ZERO },
            _ => Self { bot: Duration::ZERO, servers: HOUR },
        }
    }

    fn words(self) -> String {
        match (self.bot.as_secs(), self.servers.as_secs()) {
            (bot, 0) => format!("the bot's clock back by {bot} s"),
            (0, servers) => format!("the servers' back by {servers} s"),
            (bot, servers) => format!("the bot's back by {bot} s, the servers' by {servers} s"),
        }
    }
}

pub(super) fn run(
    scene: &mut Scene,
    own: &OwnStack,
    clocks: &Clocks,
    whole: &Whole,
    rounds: u32,
    bar: &ProgressBar,
) -> anyhow::Result<(Vec<Break>, Vec<Back>)> {
    let mut load = scene.start_load()?;
    watch(&scene.table, 0, Instant::now(), Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    expect_skew(&scene.config, false)?;
    let (mut breaks, mut backs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        pause(scene.dice.between(LIFE_LEAST, LIFE_MOST));
        whole.leave_traces()?;
        let jump = Jump::of(round);
        let mut slowest_ms = 0;
        let mut go_on = |after: &str, load: &mut Load| -> anyhow::Result<()> {
            let back = await_all(scene, whole, after, load)?;
            slowest_ms = slowest_ms.max(back.slowest_ms());
            backs.push(back);
            Ok(())
        };
        clocks.put_back(Whose::Bot, jump.bot)?;
        clocks.put_back(Whose::Servers, jump.servers)?;
        whole.mark();
        go_on(&jump.words(), &mut load)?;
        expect_skew(&scene.config, true)?;
        own.kill(ServerName::QuestDb)?;
        whole.mark();
        go_on("QuestDB killed meanwhile", &mut load)?;
        // The one that was started since has the servers' clock too.
        expect_skew(&scene.config, true)?;
        whole.look_for_traces()?;
        clocks.put_back(Whose::Bot, Duration::ZERO)?;
        clocks.put_back(Whose::Servers, Duration::ZERO)?;
        whole.mark();
        go_on("put right again", &mut load)?;
        expect_skew(&scene.config, false)?;
        whole.look_for_traces()?;
        breaks.push(Break { recovery_ms: Some(slowest_ms), ..Break::default() });
        bar.inc(1);
    }
    bar.set_message("delivering the rest");
    scene.end_load(load)?;
    Ok((breaks, backs))
}

/// Waits until every part has done something since the mark, and a row recorded since now is visible.
fn await_all(scene: &Scene, whole: &Whole, after: &str, load: &mut Load) -> anyhow::Result<Back> {
    let (at, newest) = (Instant::now(), load.newest());
    let seen = watch(&scene.table, newest, at, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
    let visible = seen.visible(&format!("after {after}"), "load.log says what the bot was doing")?;
    whole.await_back(after, visible, RECOVER_WITHIN)
}

/// Each server's clock differs from this process', or none does; anything else proves nothing.
///
/// The clocks stand as they were put, so a look that a busy machine has blurred is repeated: one that differs goes on to.
fn expect_skew(config: &Config, is_due: bool) -> anyhow::Result<()> {
    let end = within(LOOK_WITHIN);
    let skewed = loop {
        let skewed = skewed(config)?;
        if skewed.len() == if is_due { CLOCKS.len() } else { 0 } {
            return Ok(());
        }
        if Instant::now() >= end {
            break skewed;
        }
        pause(LOOK_EVERY);
    };
    let (due, those) = (if is_due { "all three" } else { "none" }, skewed.join(", "));
    Err(Stop::untrue(
        format!("{due} of the servers' clocks were to differ from the bot's, and those that do are: {those}"),
        "a server that does not ask the C library for the time, or whose account cannot read from TMPDIR, keeps the \
         machine's clock: this drill proves nothing here",
    )
    .into())
}

/// Those of [`CLOCKS`] that differ. On a connection of its own each: what is asked is the servers'.
fn skewed(config: &Config) -> anyhow::Result<Vec<&'static str>> {
    let questdb = config.questdb.first().context("the config names no QuestDB")?;
    let http = QuestDbHttp::new(questdb, ASK_WITHIN)?;
    let mut found = patiently_here(|| audit::questdb::look(&http, &[], ""))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let postgres = Postgres::open_as(&config.postgres, Login::Admin, ASK_WITHIN)?;
        found.extend(patiently(async || audit::postgres::look(&postgres, &config.postgres).await).await?);
        let (redis, prefix) = (&config.redis.prices, &config.prices.key_prefix);
        let link = patiently(async || Link::connect_admin(redis, Server::RedisPrices).await).await?;
        found.extend(patiently(async || audit::redis::look(&link, redis, prefix).await).await?);
        Ok::<_, Error>(())
    })?;
    Ok(CLOCKS.into_iter().filter(|clock| found.iter().any(|departure| departure.id == *clock)).collect())
}
