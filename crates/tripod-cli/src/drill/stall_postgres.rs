//! PostgreSQL is frozen (SIGSTOP of all its processes) under lookups, settings and heartbeats, while rows are recorded.
//!
//! Constraints: what is frozen is this stack's own server and nothing else. It thaws whatever becomes of the drill: a
//! shell that waits for the end of a pipe, whose other end only the drill holds, sends SIGCONT as well. What each call
//! took is the caller's clock.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tripod::Config;
use tripod::health::{Health, Status};
use tripod::postgres::{Postgres, migrations};
use tripod::settings::Settings;
use tripod::tokens::{Address, CacheOptions, TokenCache, Tokens};
use tripod_stack::{RunState, ServerName};

use super::Break;
use super::patience::{PATIENCE, STANDS_STILL, Wait, patiently};
use super::scene::{Scene, millis, within};
use super::server::{pause, watch};
use crate::exit::Stop;

/// PostgreSQL runs between these two long between two stalls.
const LIFE_LEAST: Duration = Duration::from_millis(300);
const LIFE_MOST: Duration = Duration::from_millis(1500);
/// It is frozen between these two long: shorter than a call's deadline, and longer.
const STALL_LEAST: Duration = Duration::from_millis(300);
const STALL_MOST: Duration = Duration::from_millis(3000);
const RECOVER_WITHIN: Duration = PATIENCE;
/// Between two calls of one kind, and two reads from memory.
const BETWEEN_CALLS: Duration = Duration::from_millis(2);
/// First good call after the thaw.
pub(super) const FIRST_GOOD_WITHIN_MS: u64 = 1_000;
/// A call ends by its deadline; so much later, and it was not the machine that was busy.
pub(super) const LATE_MS: u64 = 250;
/// The component whose heartbeats these are, and the setting that is read.
const NAME: &str = "drill/stall-postgres";

/// What the calls did; part of the report.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Calls {
    /// Lookups, settings and heartbeats that succeeded.
    pub(super) good: u64,
    /// That failed, each with an error that says to retry or to wait.
    pub(super) failed: u64,
    /// That failed in another way.
    pub(super) failed_otherwise: u64,
    pub(super) deadline_ms: u64,
    pub(super) longest_ms: u64,
    /// From the thaw to the end of the first good call, the longest of all rounds.
    pub(super) first_good_ms: u64,
    #[serde(skip)]
    last_first_good_ms: u64,
    pub(super) memory_reads: u64,
    pub(super) memory_p50_ns: u64,
    pub(super) memory_p999_ns: u64,
    pub(super) memory_longest_us: u64,
}

/// Shared with the tasks that call.
struct Tally {
    ended: AtomicBool,
    calls: Mutex<Calls>,
    /// The thaw that no good call has followed yet.
    thawed: Mutex<Option<Instant>>,
}

impl Tally {
    fn note(&self, began: Instant, outcome: tripod::Result<()>) {
        let took = millis(began.elapsed());
        let mut calls = lock(&self.calls);
        calls.longest_ms = calls.longest_ms.max(took);
        match outcome {
            Ok(()) => {
                calls.good += 1;
                if let Some(thawed) = lock(&self.thawed).take() {
                    calls.last_first_good_ms = millis(thawed.elapsed());
                    calls.first_good_ms = calls.first_good_ms.max(calls.last_first_good_ms);
                }
            }
            Err(error) if matches!(error.advice(), tripod::Advice::Retry | tripod::Advice::Wait) => calls.failed += 1,
            Err(_) => calls.failed_otherwise += 1,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn run(
    scene: &mut Scene,
    config: &Config,
    rounds: u32,
    bar: &ProgressBar,
) -> anyhow::Result<(Vec<Break>, Calls)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let postgres = Postgres::open(&config.postgres)?;
    let tokens = runtime.block_on(async {
        patiently(async || migrations::check(&postgres).await).await?;
        patiently(async || TokenCache::open(&config.postgres, CacheOptions::default()).await).await
    })?;
    let tally = Arc::new(Tally {
        ended: AtomicBool::new(false),
        calls: Mutex::new(Calls { deadline_ms: millis(postgres.deadline()), ..Calls::default() }),
        thawed: Mutex::new(None),
    });
    let mut load = scene.start_load()?;
    let callers = call(&runtime, &postgres, &tally);
    let reader = read_memory(tokens.clone(), Arc::clone(&tally))?;
    let mut breaks = Vec::new();
    for _ in 0..rounds {
        pause(scene.dice.between(LIFE_LEAST, LIFE_MOST));
        let newest = load.newest();
        let frozen = Frozen::freeze(scene, config)?;
        let frozen_at = Instant::now();
        pause(scene.dice.between(STALL_LEAST, STALL_MOST));
        *lock(&tally.thawed) = Some(Instant::now());
        drop(frozen);
        let away_ms = millis(frozen_at.elapsed());
        let end = within(RECOVER_WITHIN);
        while lock(&tally.thawed).is_some() {
            ensure!(Instant::now() < end, "no call succeeded within {RECOVER_WITHIN:?} after the thaw");
            pause(BETWEEN_CALLS);
        }
        // Rows go on being visible, too.
        watch(&scene.table, newest, frozen_at, Wait::while_it_moves(STANDS_STILL), || load.check_alive())?;
        breaks.push(Break {
            away_ms: Some(away_ms),
            recovery_ms: Some(lock(&tally.calls).last_first_good_ms),
            ..Break::default()
        });
        bar.inc(1);
    }
    tally.ended.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for caller in callers {
            caller.await.map_err(|_| anyhow!("a caller panicked"))?;
        }
        let health = Health::new(postgres);
        let (details, deadline) = (serde_json::json!({}), Duration::from_secs(60));
        patiently(async || health.heartbeat(NAME, Status::Stopped, &details, deadline).await).await?;
        anyhow::Ok(())
    })?;
    let memory = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
    bar.set_message("delivering the rest");
    scene.end_load(load)?;
    let mut calls = std::mem::take(&mut *lock(&tally.calls));
    calls.memory_reads = memory.len();
    calls.memory_p50_ns = memory.value_at_quantile(0.5);
    calls.memory_p999_ns = memory.value_at_quantile(0.999);
    calls.memory_longest_us = memory.max().div_ceil(1000);
    Ok((breaks, calls))
}

/// Three callers: what a bot asks of PostgreSQL.
fn call(
    runtime: &tokio::runtime::Runtime,
    postgres: &Postgres,
    tally: &Arc<Tally>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let each = |kind: usize| {
        let (postgres, tally) = (postgres.clone(), Arc::clone(tally));
        runtime.spawn(async move {
            let (tokens, settings) = (Tokens::new(postgres.clone()), Settings::new(postgres.clone()));
            let health = Health::new(postgres);
            let details = serde_json::json!({});
            while !tally.ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                let outcome = match kind {
                    0 => tokens.get(&Address::default()).await.map(drop),
                    1 => settings.list("drill").await.map(drop),
                    _ => health.heartbeat(NAME, Status::Ok, &details, Duration::from_secs(60)).await,
                };
                tally.note(began, outcome);
                tokio::time::sleep(BETWEEN_CALLS).await;
            }
        })
    };
    (0..3).map(each).collect()
}

/// Reads tokens from memory until the end; nanoseconds of each read.
fn read_memory(tokens: TokenCache, tally: Arc<Tally>) -> anyhow::Result<std::thread::JoinHandle<Histogram<u64>>> {
    // Three digits, up to a minute.
    let mut taken = Histogram::new_with_max(60_000_000_000, 3)?;
    let body = move || {
        while !tally.ended.load(Ordering::Relaxed) {
            for _ in 0..100 {
                let began = Instant::now();
                std::hint::black_box(tokens.get(std::hint::black_box(&Address::default())));
                taken.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            pause(BETWEEN_CALLS);
        }
        taken
    };
    std::thread::Builder::new().name("memory".to_owned()).spawn(body).context("cannot start a thread")
}

/// PostgreSQL, stopped where it is. Dropping it lets it go on.
struct Frozen {
    pids: Vec<Pid>,
    guard: Child,
    _line: Option<ChildStdin>,
}

impl Frozen {
    fn freeze(scene: &Scene, config: &Config) -> anyhow::Result<Self> {
        let main = check(scene, config)?;
        // The one that starts processes first: then there are no new ones.
        let mut pids = vec![main];
        pids.extend(children(main));
        let words: Vec<String> = pids.iter().map(|pid| pid.as_raw_nonzero().to_string()).collect();
        let mut guard = Command::new("/bin/sh")
            .args(["-c", &format!("read -r line; kill -CONT {}", words.join(" "))])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // ^C ends the drill, not this.
            .process_group(0)
            .spawn()
            .context("cannot start the shell that thaws PostgreSQL if the drill dies")?;
        let line = guard.stdin.take();
        let frozen = Self { pids, guard, _line: line };
        for pid in &frozen.pids {
            // One that has ended meanwhile needs no stopping.
            let _ = kill_process(*pid, Signal::STOP);
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in self.pids.iter().rev() {
            let _ = kill_process(*pid, Signal::CONT);
        }
        if let Some(mut line) = self._line.take() {
            let _ = line.write_all(b"\n");
        }
        let _ = self.guard.wait();
    }
}

/// The main process of this stack's PostgreSQL, which the config must name and no other.
pub(super) fn check(scene: &Scene, config: &Config) -> anyhow::Result<Pid> {
    let hint = "leave --config out and give the stack's directory with --data; `tripod up` starts one";
    let servers = tripod_stack::check(scene.data())?;
    let Some(own) = servers.into_iter().find(|server| server.name == ServerName::Postgres) else {
        return Err(Stop::refused("there is no PostgreSQL of a local stack here", hint).into());
    };
    let port = own.address.rsplit_once(':').map(|(_, port)| port);
    let is_own =
        |host: &String| host == &own.address || (host.starts_with('/') && host.rsplit_once(':').map(|h| h.1) == port);
    if let Some(other) = config.postgres.hosts.iter().find(|host| !is_own(host)) {
        return Err(Stop::refused(format!("PostgreSQL at {other} is not the one of this stack"), hint).into());
    }
    let pid = own.pid.filter(|_| own.state == RunState::Running).context("PostgreSQL does not run")?;
    i32::try_from(pid).ok().and_then(Pid::from_raw).context("PostgreSQL has no process id")
}

fn children(main: Pid) -> Vec<Pid> {
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The fourth field; the second is a name in brackets that may hold anything.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
        parent == Some(main.as_raw_nonzero().get())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(is_child).filter_map(Pid::from_raw).collect()
}
