//! The one background process of a stack: starts the servers, starts again what dies.
//!
//! Constraints: it may be killed at any instruction. It then leaves the servers running and nothing to repair: the next
//! one *adopts* them, finding them by their tags and awaiting them through pidfds, which work on processes that are not
//! its children. There is one, by a lock that ends with its process; `down` asks it to go through a fifo, so that it never
//! goes in the middle of a start (see `lock`). If its data directory vanishes it ends the servers: nobody could find them any more.
//!
//! ```text
//! wake on: a server's end (pidfd) · a word in the fifo · the time of a postponed start · every 5 s (logs, directory)
//!          │
//!          ▼
//! a node that ended as the primary of replicated events: not before another one is the primary (see `replication`)
//! any other server that ended: start at once the first time; after that with a pause that doubles up to 30 s,
//! forgotten when it has lived for a minute, or when somebody says so who ended it on purpose
//! ```

mod lock;
mod log;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{During as _, Error, Result};
use crate::layout::Layout;
use crate::replication::{self, Part};
use crate::server::open_log;
use crate::state::Stack;
use crate::{ServerName, endings, process, stop};

use lock::Word;
pub(crate) use lock::{Place, holder};
use log::Log;

/// Pause before the second start in a row; doubles from there.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause between two starts.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A server that lived this long is not one that keeps dying.
const LIVED_WELL: Duration = Duration::from_secs(60);
/// How long a node that ended as the primary waits for the sentinels to replace it. They try once more after ten seconds.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(20);
/// How often they are asked meanwhile.
const ASK_SENTINELS_EVERY: Duration = Duration::from_millis(100);
/// How often logs and the data directory are looked at.
const TICK: Duration = Duration::from_secs(5);
/// One server as the supervisor sees it.
struct Watched {
    server: ServerName,
    /// None while it is not running.
    life: Option<Life>,
    /// When to start it, if it is not running.
    start_at: Instant,
    /// Pause before the next start; zero when it last lived well.
    pause: Duration,
    /// Since when it is not started because the sentinels have not replaced it yet.
    held_back: Option<Instant>,
    /// Whether it ended while this supervisor watched.
    ended: bool,
}

struct Life {
    /// Readable when the process ends.
    fd: OwnedFd,
    /// Where we started it; none for an adopted one, which somebody else awaits.
    child: Option<Child>,
    since: Instant,
}

/// Runs until it is asked to go: the body of the hidden `tripod supervise`, which `up` starts.
///
/// Leaves the servers running when it returns, and when it is killed.
///
/// # Errors
/// [`Error::NotOurs`] where there is no stack; [`Error::Io`] where its own files cannot be made.
pub fn supervise(data_dir: &Path) -> Result<()> {
    // Away from the caller's terminal. An error says that this is done already.
    let _ = rustix::process::setsid();
    run(&Layout::of(data_dir)?)
}

/// Tells the supervisor of the stack in `data_dir` that what ended so far, or ends next, was ended on purpose: it is
/// started at once, as the first one that ends. Said before a kill it holds for that kill. Where there is no supervisor,
/// nothing happens.
///
/// # Errors
/// [`Error::Io`] where the directory cannot be opened.
pub fn forget_endings(data_dir: &Path) -> Result<()> {
    lock::say(&Layout::of(data_dir)?, Word::Forget);
    Ok(())
}

/// [`supervise`] without leaving the caller's session: for a thread of a test.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    let mut log = Log::open(layout)?;
    let done = serve(layout, &mut log);
    if let Err(error) = &done {
        log.line(&error.to_string());
    }
    done
}

fn serve(layout: &Layout, log: &mut Log) -> Result<()> {
    let Some(place) = Place::take(layout)? else {
        log.line("another supervisor is at work; this one goes");
        return Ok(());
    };
    let control = lock::open_control(layout)?;
    // Read in the place: whoever changes the state has taken it.
    let stack = Stack::read(layout)?.ok_or_else(|| Error::NotOurs { path: layout.home().to_owned() })?;
    if !stack.state.wanted {
        return Ok(());
    }
    log.line(&format!("supervisor {} takes over", std::process::id()));
    let mut watched: Vec<Watched> = stack
        .state
        .servers
        .iter()
        .map(|server| Watched {
            server,
            life: None,
            start_at: Instant::now(),
            pause: Duration::ZERO,
            held_back: None,
            ended: false,
        })
        .collect();
    for one in &mut watched {
        one.adopt(&stack, log);
    }
    let mut next_tick = Instant::now() + TICK;
    loop {
        for one in &mut watched {
            one.start_if_due(&stack, log);
        }
        let starts = watched.iter().filter(|one| one.life.is_none()).map(|one| one.start_at);
        let wake = starts.chain([next_tick]).min().unwrap_or(next_tick);
        let mut files = vec![&control];
        files.extend(watched.iter().filter_map(|one| one.life.as_ref()).map(|life| &life.fd));
        let ready = process::readable(&files, wake.saturating_duration_since(Instant::now()));
        if ready.first() == Some(&true) {
            match lock::hear(&control) {
                Word::Go => {
                    log.line(&format!("supervisor {} was asked to go; the servers stay", std::process::id()));
                    return Ok(());
                }
                Word::Forget => watched.iter_mut().for_each(Watched::forget),
            }
        }
        for one in &mut watched {
            one.notice_end(&stack, log);
        }
        if Instant::now() >= next_tick {
            next_tick = Instant::now() + TICK;
            if !place.is_there() {
                // Nothing is left to log to, and nobody to tell.
                stop::stop(&stack, &ServerName::ALL)?;
                return Ok(());
            }
            log.bound_all(&stack);
        }
    }
}

impl Watched {
    /// Takes over a server that runs already.
    fn adopt(&mut self, stack: &Stack, log: &mut Log) {
        let id = &stack.state.id;
        let Some(found) = process::main_of(id, self.server) else { return };
        if let Some(fd) = process::hold(id, found) {
            log.line(&format!("{} runs as process {}: adopted", self.server, found.pid.as_raw_nonzero()));
            self.life = Some(Life { fd, child: None, since: Instant::now() });
        }
    }

    fn start_if_due(&mut self, stack: &Stack, log: &mut Log) {
        if self.life.is_some() || Instant::now() < self.start_at {
            return;
        }
        if self.waits_for_successor(stack, log) {
            return;
        }
        // Helpers that survived their server hold its shared memory, its ports, its files.
        if let Err(error) = stop::kill(stack, self.server) {
            log.line(&error.to_string());
            return self.postpone();
        }
        match start(stack, self.server) {
            Ok(life) => {
                let pid = life.child.as_ref().map_or(0, Child::id);
                log.line(&format!("{} started as process {pid}", self.server));
                self.life = Some(life);
            }
            Err(error) => {
                let last = format!("does not start: {error}");
                log.line(&format!("{} {last}; next try in {:?}", self.server, self.pause.max(PAUSE_FIRST)));
                self.count(stack, &last, log);
                self.postpone();
            }
        }
    }

    /// Whether it ended as the primary of the events and another node has not taken its place yet.
    fn waits_for_successor(&mut self, stack: &Stack, log: &mut Log) -> bool {
        if !self.server.is_events() || !stack.is_replicated(self.server) {
            return false;
        }
        let part = replication::part_of(stack, self.server, self.ended);
        let since = *self.held_back.get_or_insert_with(Instant::now);
        if part == Part::NotYet && since.elapsed() < SUCCESSOR_WITHIN {
            self.start_at = Instant::now() + ASK_SENTINELS_EVERY;
            return true;
        }
        let waited = since.elapsed();
        log.line(&match part {
            Part::Primary => format!("{} starts as the primary", self.server),
            Part::ReplicaOf(primary) => format!("{} starts as a replica of {primary}", self.server),
            Part::NotYet => {
                format!("no other node became the primary within {waited:.0?}: {} is it again", self.server)
            }
        });
        (self.held_back, self.ended) = (None, false);
        false
    }

    fn notice_end(&mut self, stack: &Stack, log: &mut Log) {
        let Some(life) = &mut self.life else { return };
        if process::readable(&[&life.fd], Duration::ZERO) != [true] {
            return;
        }
        let how = match life.child.as_mut().map(Child::wait) {
            Some(Ok(status)) => status.to_string(),
            _ => "how is not known: it was adopted".to_owned(),
        };
        let lived = life.since.elapsed();
        (self.life, self.ended) = (None, true);
        if lived >= LIVED_WELL {
            self.pause = Duration::ZERO;
        }
        let last = format!("ended after {lived:.1?} ({how})");
        log.line(&format!("{} {last}; starting it again in {:?}", self.server, self.pause));
        self.count(stack, &last, log);
        self.postpone();
    }

    /// It is not one that keeps dying.
    fn forget(&mut self) {
        self.pause = Duration::ZERO;
        self.start_at = self.start_at.min(Instant::now());
    }

    fn count(&self, stack: &Stack, last: &str, log: &mut Log) {
        if let Err(error) = endings::add(&stack.layout, self.server, last) {
            log.line(&error.to_string());
        }
    }

    fn postpone(&mut self) {
        self.start_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
    }
}

fn start(stack: &Stack, server: ServerName) -> Result<Life> {
    let child = stack.start(server)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let fd = pid.ok_or(rustix::io::Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK));
    let fd = fd.during("watch the process of", &stack.layout.log(server))?;
    Ok(Life { fd, child: Some(child), since: Instant::now() })
}

/// Starts one in the background.
pub(crate) fn start_background(stack: &Stack, mut command: Command) -> Result<Child> {
    let path = stack.layout.supervisor_log();
    let log = open_log(&path)?;
    let errors = log.try_clone().during("open", &path)?;
    command.current_dir("/").stdin(Stdio::null()).stdout(log).stderr(errors);
    if let Some(user) = stack.user() {
        user.apply(&mut command);
    }
    command.spawn().during("start", Path::new(command.get_program()))
}
