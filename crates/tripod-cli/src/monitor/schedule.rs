//! What runs at set times: `backup verify` and `tape retention run`, each in a process of its own.
//!
//! Constraints: never two at once, also not from two monitors of one machine: a lock beside the journals says whose they
//! are. Each has a deadline. A run that failed is tried again at its next time, not at once. What was missed while no
//! monitor ran is made up for; a retention that never ran waits for its first time. Two monitors show the same, one works.
//!
//! Operation: due? ─▶ child, with this monitor's config ─▶ exit code ─▶ `jobs` of the snapshot, metrics, heartbeat

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tripod::{Config, Timestamp};

use super::collect::Files;
use super::snapshot::{Job, stamp};
use crate::args::Global;
use crate::output;

/// Between two looks whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A restore of everything, compared row by row.
const VERIFY_WITHIN: Duration = Duration::from_secs(6 * 3_600);
/// Each day that ended is rolled up and archived once.
const RETENTION_WITHIN: Duration = Duration::from_secs(6 * 3_600);
/// Between the request to end and the end.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Of what a child says on stderr.
const WORDS_BYTES_MAX: u64 = 64 * 1024;
const WORDS_CHARS_MAX: usize = 300;
const LOCK: &str = ".monitor.lock";

const DAY_NANOS: i64 = 86_400 * 1_000_000_000;
const MINUTE_NANOS: i64 = 60 * 1_000_000_000;

/// What is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Verify,
    Retention,
}

/// How one of them stands.
#[derive(Debug, Clone)]
struct State {
    kind: Kind,
    running: bool,
    ok: Option<bool>,
    detail: String,
    /// When this monitor last began it.
    tried_at: Option<Timestamp>,
    next_at: Option<Timestamp>,
}

/// The scheduler.
#[derive(Debug)]
pub(super) struct Schedule {
    config: Config,
    /// What stands before the command: `--data`, `--config`.
    arguments: Vec<OsString>,
    files: watch::Receiver<Files>,
    started_at: Timestamp,
    /// Held as long as this monitor runs; none where another one has it, or it cannot be taken.
    lock: Option<File>,
    why_not: String,
    states: [State; 2],
}

impl Schedule {
    /// Takes the lock if it can.
    pub(super) fn new(config: &Config, global: &Global, files: watch::Receiver<Files>) -> Self {
        let (lock, why_not) = match lock(&config.journal.dir) {
            Ok(Some(lock)) => (Some(lock), String::new()),
            Ok(None) => (None, "another monitor of this machine does it".to_owned()),
            Err(error) => (None, format!("it is not known whether another monitor does it: {error:#}")),
        };
        let mut arguments = vec!["--data".into(), global.data.clone().into_os_string(), "--quiet".into()];
        if let Some(file) = &global.config {
            arguments.extend(["--config".into(), file.clone().into_os_string()]);
        }
        let state =
            |kind| State { kind, running: false, ok: None, detail: why_not.clone(), tried_at: None, next_at: None };
        let states = [state(Kind::Verify), state(Kind::Retention)];
        let started_at = Timestamp::now();
        Self { config: config.clone(), arguments, files, started_at, lock, why_not, states }
    }

    /// Whether this monitor is the one that works.
    pub(super) fn works(&self) -> bool {
        self.lock.is_some()
    }

    /// Why not, where it does not.
    pub(super) fn why_not(&self) -> &str {
        &self.why_not
    }

    /// What is shown of it.
    pub(super) fn jobs(&self) -> Vec<Job> {
        let files = self.files.borrow();
        // Also where somebody else ran it.
        let refuted = |kind| kind == Kind::Verify && files.backups.is_refuted();
        self.states
            .iter()
            .map(|state| Job {
                name: state.kind.name(),
                running: state.running,
                last_at: match state.kind {
                    Kind::Verify => files.backups.last_proven_at().map(str::to_owned),
                    Kind::Retention => Some(files.retention_at.clone()).filter(|at| !at.is_empty()),
                },
                ok: if refuted(state.kind) { Some(false) } else { state.ok },
                detail: match refuted(state.kind) && state.detail.is_empty() {
                    true => "the newest proof says that a restore differs; `tripod backup ls` names it".to_owned(),
                    false => state.detail.clone(),
                },
                next_at: state.next_at.map(stamp),
            })
            .collect()
    }

    /// Works until `stop` says so; whatever runs then is asked to end.
    pub(super) async fn run(mut self, jobs: watch::Sender<Vec<Job>>, mut stop: watch::Receiver<bool>) {
        loop {
            let due = self.plan(Timestamp::now());
            jobs.send_replace(self.jobs());
            if let Some(number) = due {
                let Some(state) = self.states.get_mut(number) else { return };
                (state.running, state.tried_at) = (true, Some(Timestamp::now()));
                let (kind, arguments) = (state.kind, self.arguments.clone());
                jobs.send_replace(self.jobs());
                tracing::info!(job = kind.name(), "begins");
                let outcome = work(kind, &arguments, &mut stop).await;
                if let Some(state) = self.states.get_mut(number) {
                    state.running = false;
                    (state.ok, state.detail) = match outcome {
                        Ok(()) => (Some(true), String::new()),
                        Err(error) => (Some(false), output::one_line(&format!("{error:#}"), WORDS_CHARS_MAX)),
                    };
                    tracing::info!(job = kind.name(), ok = ?state.ok, detail = state.detail, "has ended");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Says when each is due next; the number of one that is due now.
    fn plan(&mut self, now: Timestamp) -> Option<usize> {
        self.lock.as_ref()?;
        let files = self.files.borrow();
        let time = |text: &str| text.parse::<Timestamp>().ok();
        for state in &mut self.states {
            state.next_at = match state.kind {
                Kind::Verify => {
                    let proven = files.backups.last_proven_at().and_then(time);
                    let is_there = files.backups.last().is_some() && files.backups.running != Some(true);
                    let every = self.config.monitor.verify_every_hours;
                    verify_at(is_there, every, proven.max(state.tried_at), now)
                }
                Kind::Retention => {
                    let last = time(&files.retention_at).max(state.tried_at);
                    let minute = self.config.monitor.retention_minute();
                    minute.and_then(|minute| next_minute(minute, last.unwrap_or(self.started_at)))
                }
            };
        }
        self.states.iter().position(|state| state.next_at.is_some_and(|at| at <= now))
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Retention => "retention",
        }
    }

    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Verify => &["backup", "verify"],
            Self::Retention => &["tape", "retention", "run"],
        }
    }

    fn within(self) -> Duration {
        match self {
            Self::Verify => VERIFY_WITHIN,
            Self::Retention => RETENTION_WITHIN,
        }
    }
}

/// When the next proof is due: so many hours after the last one or the last try; now where there was none.
fn verify_at(is_there: bool, every_hours: u64, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    if every_hours == 0 || !is_there {
        return None;
    }
    match last {
        Some(last) => last.checked_add(Duration::from_secs(every_hours.saturating_mul(3_600))),
        None => Some(now),
    }
}

/// The first time after `last` at which it is this minute of the day, UTC.
fn next_minute(minute: u16, last: Timestamp) -> Option<Timestamp> {
    let midnight = last.as_nanos() - last.as_nanos().rem_euclid(DAY_NANOS);
    let today = midnight.checked_add(i64::from(minute) * MINUTE_NANOS)?;
    let next = if today > last.as_nanos() { today } else { today.checked_add(DAY_NANOS)? };
    Timestamp::from_nanos(next).ok()
}

/// None where another process has it.
fn lock(dir: &Path) -> anyhow::Result<Option<File>> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join(LOCK);
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Runs the command to its end.
async fn work(kind: Kind, arguments: &[OsString], stop: &mut watch::Receiver<bool>) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(arguments).args(kind.command()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start it")?;
    let mut stderr = child.stderr.take();
    let mut words = Vec::new();
    let ended = async {
        if let Some(stderr) = &mut stderr {
            let _ = stderr.take(WORDS_BYTES_MAX).read_to_end(&mut words).await;
        }
        // Nobody reads what is beyond: closed, it is not waited for.
        drop(stderr.take());
        child.wait().await
    };
    let status = tokio::select! {
        status = tokio::time::timeout(kind.within(), ended) => status,
        _ = stop.wait_for(|stop| *stop) => {
            end(&child);
            anyhow::bail!("the monitor was ended while it ran");
        }
    };
    let Ok(status) = status else {
        end(&child);
        if tokio::time::timeout(END_WITHIN, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        anyhow::bail!("did not end within {} hours and was ended", kind.within().as_secs() / 3_600);
    };
    let status = status.context("cannot wait for it")?;
    if status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let words = if words.is_empty() { "it says nothing on stderr".to_owned() } else { words };
    let command = kind.command().join(" ");
    match (status.code(), kind) {
        (Some(1), Kind::Retention) if words.starts_with("it says") => {
            anyhow::bail!("days are covered by no archive or rollup; `tripod tape retention plan` names them")
        }
        (Some(code), _) => anyhow::bail!("`tripod {command}` ended with exit code {code}: {words}"),
        (None, _) => anyhow::bail!("`tripod {command}` was killed: {words}"),
    }
}

/// Asks it to end, and does not wait: what it was doing it can be interrupted in.
fn end(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_daily_time_is_made_up_for_when_it_was_missed_and_not_run_twice() {
        let next = |last: &str| next_minute(210, at(last)).unwrap().to_string();
        assert!(next("2026-01-01T00:00:00Z").starts_with("2026-01-01T03:30:00"));
        assert!(next("2026-01-01T03:29:59Z").starts_with("2026-01-01T03:30:00"));
        assert!(next("2026-01-01T03:30:00Z").starts_with("2026-01-02T03:30:00"));
        // It ran last three days ago: the time after that one is over, so it is due.
        assert!(next("2026-01-01T03:31:00Z") < next("2026-01-04T00:00:00Z"));
    }

    #[test]
    fn a_backup_is_proven_at_once_and_then_again_after_so_many_hours() {
        let now = at("2026-01-02T00:00:00Z");
        assert_eq!(verify_at(true, 24, None, now), Some(now));
        assert_eq!(verify_at(true, 24, Some(at("2026-01-01T06:00:00Z")), now), Some(at("2026-01-02T06:00:00Z")));
        assert_eq!(verify_at(true, 0, None, now), None, "never");
        assert_eq!(verify_at(false, 24, None, now), None, "there is none, or one is being made");
    }

    #[test]
    fn one_monitor_of_a_machine_works() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert!(first.is_some());
        assert!(lock(dir.path()).unwrap().is_none());
        drop(first);
        assert!(lock(dir.path()).unwrap().is_some());
    }
}
