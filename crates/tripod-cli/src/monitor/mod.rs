//! `tripod monitor`: watches servers, journals and jobs, and shows them as a page, as JSON and to Prometheus.
//!
//! Constraints: read-only but for its own heartbeat and what it runs at set times. It asks each server once a second,
//! whoever looks and however many; a server that hangs hides nothing of the others and a browser that hangs hinders
//! nobody. Under 3 % of a core and 60 MiB. Everything is bounded: history, clients, buffers, lists. It ends within a second.
//!
//! Picture:
//! ```text
//! QuestDB ◀── collector ─┐                        ┌─▶ history (15 min) ──▶ /api/history
//! PostgreSQL ◀ collector ┤ each second            │
//! Redis ◀──── collector ─┼─▶ sampler ─▶ Frame ────┼─▶ /api/snapshot, /api/events (SSE), the page
//! Redis ◀──── collector ─┤     │                  ├─▶ /metrics
//! journals, disks ───────┘     └─▶ watchdog ─▶ alerts ─▶ /health
//! schedule ─▶ backup verify, tape retention run ─▶ jobs     heartbeat ─▶ health records
//! ```
//! One thread runs all of it; what blocks (QuestDB's HTTP, files) has threads of its own. No state survives the process but
//! what the journals, servers and `DATA` hold.

mod access;
mod backups;
mod collect;
mod heartbeat;
mod history;
mod http;
mod metrics;
mod page;
mod rules;
mod sample;
#[cfg(test)]
mod samples;
mod schedule;
mod snapshot;
mod sse;
mod watchdog;
mod waterline;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::args::{Global, Monitor};
use crate::exit::Exit;
use crate::output::Output;
use access::Access;
use collect::Sources;
use heartbeat::Heartbeat;
use history::History;
use sample::Sampler;
use schedule::Schedule;
use sse::Frame;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// After the signal, for the last words.
const END_WITHIN: Duration = Duration::from_millis(400);
/// Threads that may wait: one for each QuestDB, one for files, some more.
const THREADS_MAX: usize = 16;

/// Directories that are looked into.
#[derive(Debug, Clone)]
struct Places {
    data: PathBuf,
    backups: PathBuf,
}

/// What is said when it listens.
#[derive(Debug, Serialize)]
struct Listening {
    /// `IP:port`
    address: String,
    url: String,
    /// Whether a token is asked for.
    token: bool,
}

pub(crate) fn run(arguments: &Monitor, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS_MAX)
        .build()
        .context("cannot start the runtime")?;
    let exit = runtime.block_on(monitor(arguments, global, output));
    // A question that hangs is not waited for.
    runtime.shutdown_background();
    exit
}

async fn monitor(arguments: &Monitor, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    let address = match arguments.listen {
        Some(address) => address,
        None => config.monitor.listen.parse::<SocketAddr>().context("monitor.listen is not IP:PORT")?,
    };
    let access = Access::new(address, &config.monitor.token)?;
    let mut ended = std::pin::pin!(ended()?);
    let listener = http::listen(address).await?;
    let address = listener.local_addr().context("cannot tell the address")?;

    let mut sources = Sources::start(&config, &places(global))?;
    tokio::select! {
        () = sources.looked() => {}
        () = &mut ended => return Ok(Exit::Done),
    }
    let schedule = Schedule::new(&config, global, sources.files.clone());
    let (works, why_not) = (schedule.works(), schedule.why_not().to_owned());
    let (jobs_sender, jobs) = watch::channel(schedule.jobs());
    let (stop_sender, stop) = watch::channel(false);
    let history = Arc::new(Mutex::new(History::default()));
    let mut sampler = Sampler::new(sources, jobs.clone(), Arc::clone(&history), &config);
    let (frames_sender, frames) = watch::channel(Arc::new(sampler.sample()));

    let token = access.asks_for_a_token();
    tokio::spawn(sample_for_ever(sampler, frames_sender));
    tokio::spawn(http::serve(listener, http::Shared::new(access, frames, history, stop.clone())));
    let schedule = tokio::spawn(schedule.run(jobs_sender, stop));
    let heartbeat = if works { Some(Heartbeat::start(&config, address, jobs)) } else { None };
    if !works {
        output.say(format!("note: nothing is scheduled here and no heartbeat is sent: {why_not}"));
    }
    output.say(format!("watching the servers of bot {}; ^C ends it", config.bot));
    let listening = Listening { address: address.to_string(), url: format!("http://{address}/"), token };
    output.result(&listening, || listening.url.clone())?;

    ended.await;
    stop_sender.send_replace(true);
    // A heartbeat that is not taken is missed in half a minute, which is no more than true.
    let goodbye = async {
        if let Some(heartbeat) = heartbeat {
            heartbeat.stop().await;
        }
    };
    let last = tokio::time::timeout(END_WITHIN, async { tokio::join!(goodbye, schedule) });
    if last.await.is_err() {
        tracing::debug!("the last words took too long");
    }
    Ok(Exit::Done)
}

/// Where a local stack, or the config, says that things are.
fn places(global: &Global) -> Places {
    let file = global.config.clone().unwrap_or_else(|| global.data.join(tripod::config::FILE_NAME));
    let base = file.parent().filter(|base| !base.as_os_str().is_empty()).map_or_else(|| ".".into(), PathBuf::from);
    Places { data: global.data.clone(), backups: base.join("backups") }
}

/// Returns at SIGINT or SIGTERM.
fn ended() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

async fn sample_for_ever(mut sampler: Sampler, frames: watch::Sender<Arc<Frame>>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first tick is at once, and that sample is taken already.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        frames.send_replace(Arc::new(sampler.sample()));
    }
}
