//! The load: a bot of its own that records rows at a steady rate until its standard input ends. The body of the hidden
//! `tripod drill-load`, run as a child so that it can be killed.
//!
//! Constraints: what it says on its standard output is the witness's (see [`super::witness`]), nothing else. It ends by
//! itself when the drill is gone: then its standard input ends and its messages go nowhere.

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tripod::Config;
use tripod::config::Delivery;
use tripod::ledger;
use tripod::tape::{Recorded, Recorder, Tape};

use super::held::HeldRow;
use super::patience::{STANDS_STILL, Wait};
use super::row::{DrillRow, Place, ROWS_PER_SECOND, Recipe, THREADS};
use super::witness::{held_message, message, stopped_message};

/// Between two bursts of due rows; timers are not finer.
const PAUSE: Duration = Duration::from_millis(1);
/// Between two looks how far the delivery is.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What the load is to do: one line of JSON on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) bot: String,
    pub(super) journals: PathBuf,
    pub(super) table_prefix: String,
    pub(super) recipe: Recipe,
    /// The first number of each thread.
    pub(super) from: [u64; THREADS],
    /// One thread is held inside an append.
    pub(super) hold: Option<Hold>,
    /// Where QuestDB is reached, where not at its own address.
    pub(super) http: Option<String>,
    /// Small segments: a small disk is full soon, and at a known moment.
    pub(super) small_segments: bool,
    /// Disk for what waits.
    pub(super) budget_mib: Option<u64>,
}

/// Which thread is held, and when.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Hold {
    pub(super) thread: usize,
    pub(super) after_ms: u64,
}

impl Order {
    /// The drill's config: the stack's servers, a bot and tables of its own.
    pub(super) fn apply(&self, config: &mut Config) {
        config.bot.clone_from(&self.bot);
        config.journal.dir.clone_from(&self.journals);
        config.tape.table_prefix.clone_from(&self.table_prefix);
        config.tape.delivery = Delivery::Inside;
        if let (Some(http), Some(server)) = (&self.http, config.questdb.first_mut()) {
            server.http.clone_from(http);
        }
        if self.small_segments {
            config.journal.segment_mib = 1;
        }
        if let Some(budget_mib) = self.budget_mib {
            config.journal.critical_budget_mib = budget_mib;
        }
    }
}

/// Body of the child.
pub(crate) fn run(mut config: Config) -> anyhow::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line).context("cannot read the order")?;
    let order: Order = serde_json::from_str(&line).context("the order is not one; `tripod drill run` gives it")?;
    order.apply(&mut config);
    let tape = Tape::open(&config)?;
    tape.register::<DrillRow<'_>>()?;
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = order
            .from
            .iter()
            .enumerate()
            .map(|(thread, from)| {
                let hold =
                    order.hold.filter(|hold| hold.thread == thread).map(|hold| Duration::from_millis(hold.after_ms));
                let work = Work { recorder: tape.recorder(), allowed: tape.trading_allowed(), stop: &stop, hold };
                let (recipe, from) = (order.recipe, *from);
                scope.spawn(move || record(&work, recipe, Place { thread, number: from }))
            })
            .collect();
        // Until the drill closes its end, or is gone.
        let waited = std::io::copy(&mut input, &mut std::io::sink());
        stop.ask();
        waited.context("cannot wait for the end")?;
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a recording thread panicked"))?)
    })?;
    // For as long as the ledger moves: a backlog may be drained first.
    let mut wait = Wait::while_it_moves(STANDS_STILL);
    let visible = loop {
        if tape.wait_visible(SETTLE_EVERY)? {
            break true;
        }
        wait.note(format!("{:?}", ledger::of(&config)?));
        if wait.is_over() {
            break false;
        }
    };
    let report = tape.close(CLOSE_WITHIN);
    if !visible {
        bail!("the rows are not all visible, and there is no progress: {:?}", report.remaining);
    }
    Ok(())
}

/// What one thread works with.
struct Work<'a> {
    recorder: Recorder,
    allowed: watch::Receiver<bool>,
    stop: &'a Stop,
    /// When it is held.
    hold: Option<Duration>,
}

/// One thread: records what is due, says so, pauses.
fn record(work: &Work<'_>, recipe: Recipe, mut place: Place) -> anyhow::Result<()> {
    // Unbuffered: when it returns, the message is in the pipe and survives this process.
    let mut witness = File::from(std::io::stdout().as_fd().try_clone_to_owned().context("no standard output")?);
    let (began, first, mut hold) = (Instant::now(), place.number, work.hold);
    while !work.stop.wait(PAUSE) {
        let due = began.elapsed().as_micros() * u128::from(ROWS_PER_SECOND) / 1_000_000;
        while u128::from(place.number - first) < due {
            let row = recipe.row(place)?;
            let started = Instant::now();
            let recorded = match hold.take_if(|after| began.elapsed() >= *after) {
                None => work.recorder.record(&row),
                Some(_) => work.recorder.record(&HeldRow::new(&row, || {
                    // The drill sees nothing of it where it is gone; then the load ends, too.
                    let _ = witness.write_all(&held_message());
                    while !work.stop.wait(Duration::from_secs(1)) {}
                })),
            };
            let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            match recorded {
                Ok(Recorded::Kept) => {}
                Ok(Recorded::Dropped) => bail!("a critical row was dropped"),
                Err(tripod::Error::CannotRecord { .. }) => {
                    if !stop_trading(work, &mut witness) {
                        return Ok(());
                    }
                    // The same row again: it was not recorded.
                    continue;
                }
                Err(e) => return Err(e.into()),
            }
            if witness.write_all(&message(place, nanos)).is_err() {
                // The drill is gone.
                return Ok(());
            }
            place.number += 1;
        }
    }
    Ok(())
}

/// What a bot does whose rows cannot be recorded: it says so and waits until they can. False where it is to end.
fn stop_trading(work: &Work<'_>, witness: &mut File) -> bool {
    let said = witness.write_all(&stopped_message()).is_ok();
    while said && !*work.allowed.borrow() {
        if work.stop.wait(PAUSE) {
            return false;
        }
    }
    said && !work.stop.wait(PAUSE)
}

/// Asked once; ends every wait at once.
#[derive(Debug, Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// True when it was asked, at the latest after `at_most`.
    fn wait(&self, at_most: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *self.changed.wait_timeout_while(asked, at_most, |asked| !*asked).unwrap_or_else(PoisonError::into_inner).0
    }
}
