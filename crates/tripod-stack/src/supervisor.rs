//! The one background process of a stack: starts the servers, starts again what dies.
//!
//! Constraints: it may be killed at any instruction. It then leaves the servers running and nothing to repair: the next
//! one *adopts* them, finding them by their tags and awaiting them through pidfds, which work on processes that are not
//! its children. It holds a lock for as long as it lives; `down` asks it to go through a fifo, so that it never goes in
//! the middle of a start. If its data directory vanishes it ends the servers: nobody could find them any more.
//!
//! ```text
//! wake on: a server's end (pidfd) · a word in the fifo · the time of a postponed start · every 5 s (logs, directory)
//!          │
//!          ▼
//! a server that ended: start at once the first time; after that with a pause that doubles up to 30 s,
//! forgotten when it has lived for a minute
//! ```

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{During as _, Error, Result};
use crate::layout::Layout;
use crate::server::open_log;
use crate::state::{Stack, open_lock};
use crate::wait::{Deadline, until};
use crate::{ServerName, process, questdb, stop};

/// Pause before the second start in a row; doubles from there.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause between two starts.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A server that lived this long is not one that keeps dying.
const LIVED_WELL: Duration = Duration::from_secs(60);
/// How often logs and the data directory are looked at.
const TICK: Duration = Duration::from_secs(5);
/// Size at which a log is put aside; with the one before it a server keeps at most twice this.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// Time for a supervisor to go when it was asked.
const QUIT_GRACE: Duration = Duration::from_secs(5);
/// Time for a new one to take the lock from one that is going, or from one who looked whether it is held.
const LOCK_GRACE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One server as the supervisor sees it.
struct Watched {
    server: ServerName,
    /// None while it is not running.
    life: Option<Life>,
    /// When to start it, if it is not running.
    start_at: Instant,
    /// Pause before the next start; zero when it last lived well.
    pause: Duration,
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

/// [`supervise`] without leaving the caller's session: for a thread of a test.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    let mut log = Log { file: open_log(&layout.supervisor_log())? };
    let done = serve(layout, &mut log);
    if let Err(error) = &done {
        log.line(&error.to_string());
    }
    done
}

fn serve(layout: &Layout, log: &mut Log) -> Result<()> {
    let Some(lock) = take_lock(layout)? else {
        log.line("another supervisor is at work; this one goes");
        return Ok(());
    };
    let control = open_control(layout)?;
    // Read under the lock: whoever changes the state makes the supervisor go first.
    let stack = Stack::read(layout)?.ok_or_else(|| Error::NotOurs { path: layout.home().to_owned() })?;
    if !stack.state.wanted {
        return Ok(());
    }
    log.line(&format!("supervisor {} takes over", std::process::id()));
    let mut watched: Vec<Watched> = stack
        .state
        .servers
        .iter()
        .map(|server| Watched { server, life: None, start_at: Instant::now(), pause: Duration::ZERO })
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
            log.line(&format!("supervisor {} was asked to go; the servers stay", std::process::id()));
            return Ok(());
        }
        for one in &mut watched {
            one.notice_end(&stack, log);
        }
        if Instant::now() >= next_tick {
            next_tick = Instant::now() + TICK;
            if !same_file(&lock, &layout.supervisor_lock()) {
                // Nothing is left to log to, and nobody to tell.
                stop::stop(&stack, &ServerName::ALL)?;
                return Ok(());
            }
            bound_logs(&stack, log);
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
        // Helpers that survived their server hold its shared memory, its ports, its files.
        if !process::of(&stack.state.id, self.server).is_empty() {
            if let Err(error) = stop::kill(stack, self.server) {
                log.line(&error.to_string());
                return self.postpone();
            }
        }
        match start(stack, self.server) {
            Ok(life) => {
                let pid = life.child.as_ref().map_or(0, Child::id);
                log.line(&format!("{} started as process {pid}", self.server));
                self.life = Some(life);
            }
            Err(error) => {
                log.line(&format!("{}: {error}; next try in {:?}", self.server, self.pause.max(PAUSE_FIRST)));
                self.postpone();
            }
        }
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
        self.life = None;
        if self.server == ServerName::QuestDb {
            questdb::keep_archive(stack);
        }
        if lived >= LIVED_WELL {
            self.pause = Duration::ZERO;
        }
        let text = format!("{} ended after {lived:.1?} ({how}); starting it again in {:?}", self.server, self.pause);
        log.line(&text);
        self.postpone();
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

/// Takes the supervisor's lock and writes our id into it; none where another holds it.
fn take_lock(layout: &Layout) -> Result<Option<File>> {
    let path = layout.supervisor_lock();
    let mut file = open_lock(&path)?;
    let taken = until(Deadline::after(LOCK_GRACE), LOOK_EVERY, || match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(e)) => Err(e).during("lock", &path),
    })?;
    if taken.is_none() {
        return Ok(None);
    }
    file.set_len(0).during("write", &path)?;
    file.rewind().during("write", &path)?;
    file.write_all(std::process::id().to_string().as_bytes()).during("write", &path)?;
    Ok(Some(file))
}

fn open_control(layout: &Layout) -> Result<OwnedFd> {
    let path = layout.control();
    match rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e).during("make", &path),
    }
    // For reading and writing: with a writer of our own it is never at its end.
    let fd =
        rustix::fs::open(&path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .during("open", &path)?;
    let kind = rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode)).during("look at", &path)?;
    if kind == FileType::Fifo { Ok(fd) } else { Err(rustix::io::Errno::EXIST).during("make fifo", &path) }
}

fn same_file(held: &File, path: &Path) -> bool {
    let there = std::fs::metadata(path).ok();
    held.metadata().ok().zip(there).is_some_and(|(held, there)| (held.dev(), held.ino()) == (there.dev(), there.ino()))
}

/// Keeps each log below its bound: copied aside and emptied. The writers append, so they go on at the new end; what
/// they write between the copy and the emptying is lost, which a log can bear.
fn bound_logs(stack: &Stack, log: &mut Log) {
    let logs = stack.state.servers.iter().map(|server| stack.layout.log(server)).chain([stack.layout.supervisor_log()]);
    for path in logs {
        if std::fs::metadata(&path).map_or(0, |meta| meta.len()) < LOG_BYTES_MAX {
            continue;
        }
        let aside = path.with_extension("log.1");
        let cut = std::fs::copy(&path, &aside).and_then(|_| File::options().write(true).open(&path)?.set_len(0));
        if let Err(error) = cut {
            log.line(&format!("{} cannot be cut: {error}", path.display()));
        }
    }
}

/// The supervisor's own log.
struct Log {
    file: File,
}

impl Log {
    fn line(&mut self, text: &str) {
        // A full disk must not end the supervisor.
        let _ = writeln!(self.file, "{:.3} {text}", jiff::Timestamp::now());
    }
}

/// The id of the live supervisor; none where there is none.
pub(crate) fn alive(layout: &Layout) -> Result<Option<u32>> {
    let path = layout.supervisor_lock();
    let mut file = match File::options().read(true).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).during("open", &path),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).during("read", &path)?;
            // Empty in the moment between taking the lock and writing.
            Ok(Some(text.trim().parse().unwrap_or(0)))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(e).during("lock", &path),
    }
}

/// Makes the supervisor go, by asking it, then by force. Returns when there is none.
pub(crate) fn quit(layout: &Layout) -> Result<()> {
    let gone = |by_force: bool| {
        until(Deadline::after(QUIT_GRACE), LOOK_EVERY, || -> Result<Option<()>> {
            let Some(pid) = alive(layout)? else { return Ok(Some(())) };
            if by_force {
                kill_supervisor(layout, pid)?;
            } else {
                ask_to_go(layout);
            }
            Ok(None)
        })
    };
    if gone(false)?.is_none() && gone(true)?.is_none() {
        let pids = alive(layout)?.unwrap_or(0).to_string();
        return Err(Error::StillRunning { count: 1, pids });
    }
    Ok(())
}

/// Best effort: it may not have opened the fifo yet, or may hang; the caller looks whether it goes.
fn ask_to_go(layout: &Layout) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if let Ok(fd) = rustix::fs::open(layout.control(), flags, Mode::empty()) {
        let _ = rustix::io::write(&fd, b"go\n");
    }
}

fn kill_supervisor(layout: &Layout, pid: u32) -> Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let Ok(fd) = pidfd_open(pid, PidfdFlags::NONBLOCK) else { return Ok(()) };
    // Still held by the same one after its handle was opened: the id was not taken by another process.
    if alive(layout)? == u32::try_from(pid.as_raw_nonzero().get()).ok() {
        let _ = pidfd_send_signal(&fd, Signal::KILL);
        let _ = pidfd_send_signal(&fd, Signal::CONT);
    }
    Ok(())
}

/// Starts one in the background.
pub(crate) fn start_background(stack: &Stack, mut command: Command) -> Result<Child> {
    let path = stack.layout.supervisor_log();
    let log = open_log(&path)?;
    let errors = log.try_clone().during("open", &path)?;
    command.current_dir("/").stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().during("start", Path::new(command.get_program()))
}
