//! Lookups of single tokens in PostgreSQL by several tasks at once: Tripod's, and beside them the driver alone, `pgbench`'s
//! own and `pgbench` with Tripod's statement. They take turns of the same length, at the same address.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tripod::tokens::{Address, Tokens};

use super::TOKENS;
use super::pgbench::{self, PgBench};
use super::rig::Rig;
use crate::bench::report::Figure;

const TASKS: u32 = 4;
const TURNS: u32 = 2;
const TURN: Duration = Duration::from_secs(4);

/// What one side made of all its turns.
#[derive(Default)]
struct Rate {
    calls: u64,
    turns: Vec<u64>,
}

impl Rate {
    fn add(&mut self, per_second: u64) {
        self.turns.push(per_second);
        self.calls = self.turns.iter().sum::<u64>() / u64::try_from(self.turns.len()).unwrap_or(1);
    }
}

pub(super) async fn figures(rig: &Rig, mints: &[Address], bar: &ProgressBar) -> anyhow::Result<Vec<Figure>> {
    let store = Tokens::new(rig.bot.clone());
    let pgbench = PgBench::set(rig, TOKENS).await;
    let mut micros = Histogram::<u64>::new_with_max(60_000_000, 3)?;
    let [mut tripod, mut driver, mut select_only, mut same] = [const { Rate { calls: 0, turns: Vec::new() } }; 4];
    for turn in 1..=TURNS {
        bar.set_message(format!("lookups, turn {turn} of {TURNS}"));
        tripod.add(ours(&store, mints, &mut micros).await?);
        driver.add(by_driver(rig, mints).await?);
        if let Ok(pgbench) = &pgbench {
            select_only.add(pgbench.select_only(rig, TASKS, TURN).await?);
            same.add(pgbench.same_statement(rig, TASKS, TURN).await?);
        }
    }
    let rate = |name: &str| Figure::plain(name, tripod.calls, "calls/s");
    let mut figures = vec![
        Figure::plain("lookup_p50", micros.value_at_quantile(0.5), "us"),
        Figure::plain("lookup_p99", micros.value_at_quantile(0.99), "us").most(1_000),
    ];
    figures.push(match pgbench {
        Ok(_) => rate("lookups")
            .at_least_of(select_only.calls, 80)
            .turns(tripod.turns.clone())
            .note(format!("{TASKS} tasks; raw: pgbench -S -M prepared -c {TASKS}, one integer by key")),
        Err(why) => rate("lookups").note(format!("pgbench did not run: {why:#}")),
    });
    if same.calls > 0 {
        figures.push(rate("lookups_same_statement").raw(same.calls).note("raw: pgbench with Tripod's statement"));
    }
    figures.push(rate("lookups_by_driver").raw(driver.calls).note("raw: tokio-postgres, a connection for each task"));
    Ok(figures)
}

/// Calls a second; `micros` gets the time of each.
async fn ours(store: &Tokens, mints: &[Address], micros: &mut Histogram<u64>) -> anyhow::Result<u64> {
    let mut tasks = Vec::new();
    let started = Instant::now();
    for task in 0..TASKS {
        let (store, mints) = (store.clone(), part(mints, task)?);
        tasks.push(tokio::spawn(async move {
            let mut micros = Histogram::<u64>::new_with_max(60_000_000, 3)?;
            for mint in mints.iter().cycle() {
                let asked = Instant::now();
                ensure!(store.get(mint).await?.is_some(), "a token is gone");
                micros.saturating_record(u64::try_from(asked.elapsed().as_micros())?);
                if started.elapsed() >= TURN {
                    break;
                }
            }
            anyhow::Ok(micros)
        }));
    }
    let mut calls = 0;
    for task in tasks {
        let of_task = task.await.context("a task that looks up ended")??;
        calls += of_task.len();
        micros.add(of_task)?;
    }
    per_second(calls, started.elapsed())
}

/// The same statement on connections that only their task uses; the rows are counted and dropped.
async fn by_driver(rig: &Rig, mints: &[Address]) -> anyhow::Result<u64> {
    let statement = pgbench::statement()?;
    let mut tasks = Vec::new();
    let started = Instant::now();
    for task in 0..TASKS {
        let (bot, mints) = (rig.bot.clone(), part(mints, task)?);
        tasks.push(tokio::spawn(async move {
            bot.call("look up by the driver", async |client| {
                let statement = client.prepare(statement).await?;
                let mut calls = 0_u64;
                for mint in mints.iter().cycle() {
                    let mint: &[u8] = mint.as_ref();
                    calls += u64::from(!client.query(&statement, &[&mint]).await?.is_empty());
                    if started.elapsed() >= TURN {
                        break;
                    }
                }
                Ok(calls)
            })
            .await
        }));
    }
    let mut calls = 0;
    for task in tasks {
        calls += task.await.context("a task that looks up ended")??;
    }
    per_second(calls, started.elapsed())
}

/// All mints, from another one on for each task.
fn part(mints: &[Address], task: u32) -> anyhow::Result<Vec<Address>> {
    let mut mints = mints.to_vec();
    let skip = usize::try_from(task)? * mints.len() / usize::try_from(TASKS)?;
    mints.rotate_left(skip);
    Ok(mints)
}

fn per_second(calls: u64, took: Duration) -> anyhow::Result<u64> {
    Ok(u64::try_from(u128::from(calls) * 1_000 / took.as_millis().max(1))?)
}
