//! A stack for one test binary: real servers in a directory of their own, gone with the test however it ends.
//!
//! Constraints: the servers are children of the test process, and a *guardian* (a shell that waits for the end of a pipe
//! whose other end the test process holds) ends them and removes their directory when that process is gone: after a
//! panic, a kill -9, or an exit that drops no static. Nothing is forced to disk. A server that is killed stays dead
//! unless the stack is supervised: a test says itself what comes back and when.
//!
//! ```text
//! static STACK: OnceLock<TestStack>      one per test binary; tests keep apart by table prefix, key prefix, database
//!   TMP/tripod-test-PID-N/tripod.toml    what the code under test is given
//!   TMP/tripod-test-PID-N/stack/logs/    what to read when a test fails; TRIPOD_KEEP=1 keeps it
//! ```

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use crate::error::{During as _, Error, Result};
use crate::layout::Layout;
use crate::places::Places;
use crate::server::Servers;
use crate::site::Login;
use crate::state::Stack;
use crate::supervisor::Place;
use crate::up::LogEnds;
use crate::wait::Deadline;
use crate::{Owner, ServerName, ServerState, check, down, process, replication, stop, supervisor, up};

/// Time for a start of everything on a machine that builds at the same time.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often ports are chosen anew.
const PORT_TRIES: usize = 3;
/// Directories of failed tests that are kept, on one machine.
const KEPT_MAX: usize = 8;
/// Directories of tests begin with this.
const PREFIX: &str = "tripod-test-";
const GUARDIAN: &str = include_str!("guardian.sh");

/// Servers of a test's own. Dropping it ends them and removes their directory; keeps the directory and prints where it
/// is when the test panics.
#[derive(Debug)]
pub struct TestStack {
    stack: Stack,
    children: Mutex<HashMap<ServerName, Child>>,
    guardian: Option<(Child, ChildStdin)>,
    supervisor: Option<JoinHandle<Result<()>>>,
}

impl TestStack {
    /// Starts `servers` and waits until they answer. A server that ends stays dead until [`TestStack::start_server`].
    ///
    /// # Errors
    /// As [`crate::up`].
    pub fn start(servers: Servers) -> Result<Self> {
        Self::build(servers, false)
    }

    /// The same with the product's supervisor at work: a server that dies is started again at once.
    ///
    /// # Errors
    /// As [`crate::up`].
    pub fn start_supervised(servers: Servers) -> Result<Self> {
        Self::build(servers, true)
    }

    fn build(servers: Servers, supervised: bool) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let temp = std::env::temp_dir();
        sweep(&temp);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = temp.join(format!("{PREFIX}{}-{number}", std::process::id()));
        // What a dead process of the same id left.
        let _ = std::fs::remove_dir_all(&dir);
        let (layout, _) = Layout::make(&dir)?;
        let stack = Stack::fresh(&layout, true, Owner::Test, servers)?;
        stack.write()?;
        let guardian = Some(guard(&stack)?);
        let mut test = Self { stack, children: Mutex::default(), guardian, supervisor: None };
        up::ready_to_start(&mut test.stack)?;
        for attempt in 1.. {
            let logs = LogEnds::of(&test.stack);
            match test.start_all(supervised) {
                Err(Error::Failed { server, .. }) if attempt < PORT_TRIES && logs.say_in_use(&test.stack, server) => {
                    test.end_all()?;
                    for (_, port) in test.stack.state.ports.of(server) {
                        *port = 0;
                    }
                }
                other => {
                    other?;
                    break;
                }
            }
        }
        Ok(test)
    }

    fn start_all(&mut self, supervised: bool) -> Result<()> {
        let place = Place::clear(&self.stack.layout)?;
        let held = up::choose_ports(&mut self.stack, &mut Vec::new())?;
        self.stack.state.wanted = true;
        up::prepare(&self.stack)?;
        drop((held, place));
        if supervised {
            let layout = self.stack.layout.clone();
            let thread = std::thread::Builder::new().name("supervisor".to_owned());
            let thread =
                thread.spawn(move || supervisor::run(&layout)).during("start a thread for", self.data_dir())?;
            self.supervisor = Some(thread);
        } else {
            for server in self.stack.state.servers.iter() {
                self.spawn(server)?;
            }
        }
        self.await_ready()
    }

    fn await_ready(&self) -> Result<()> {
        up::await_ready(&self.stack, Deadline::after(READY_WITHIN), || match self.ended() {
            None => Ok(()),
            Some(server) => {
                let log = self.stack.layout.log(server);
                Err(Error::Failed { server, tail: up::tail(&log), log })
            }
        })
    }

    /// A child that has ended though nobody here ended it.
    fn ended(&self) -> Option<ServerName> {
        let mut children = self.children();
        children.iter_mut().find_map(|(server, child)| matches!(child.try_wait(), Ok(Some(_))).then_some(*server))
    }

    fn spawn(&self, server: ServerName) -> Result<()> {
        let child = self.stack.start(server)?;
        self.children().insert(server, child);
        Ok(())
    }

    fn children(&self) -> MutexGuard<'_, HashMap<ServerName, Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits a child that was ended, so that it does not stay as a dead entry in the process table.
    fn reap(&self, server: ServerName) {
        if let Some(mut child) = self.children().remove(&server) {
            let _ = child.wait();
        }
    }

    fn end_all(&mut self) -> Result<()> {
        drop(Place::clear(&self.stack.layout)?);
        if let Some(thread) = self.supervisor.take() {
            // Its own error, if it had one, is in its log.
            let _ = thread.join();
        }
        let archiving = !self.stack.state.programs.questdb_archive.is_file();
        for server in self.stack.state.servers.iter() {
            match server {
                // In order where that leaves something behind: the class archive, the shared memory given back.
                ServerName::QuestDb if archiving => drop(stop::stop(&self.stack, &[server])?),
                ServerName::Postgres => drop(stop::stop(&self.stack, &[server])?),
                _ => stop::kill(&self.stack, server)?,
            }
            self.reap(server);
        }
        stop::kill_rest(&self.stack)
    }

    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The directory of this stack.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.stack.layout.home()
    }

    /// Its `tripod.toml`.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.stack.layout.config()
    }

    /// The log of one server.
    #[must_use]
    pub fn log_path(&self, server: ServerName) -> PathBuf {
        self.stack.layout.log(server)
    }

    /// Where a server keeps its data: QuestDB's root, PostgreSQL's cluster, the directory of a Redis.
    #[must_use]
    pub fn data_path(&self, server: ServerName) -> PathBuf {
        self.stack.data_path(server)
    }

    /// `127.0.0.1:port`: of HTTP for QuestDB.
    #[must_use]
    pub fn address(&self, server: ServerName) -> String {
        format!("127.0.0.1:{}", self.stack.state.ports.first(server))
    }

    /// `127.0.0.1:port` of QuestDB's PostgreSQL protocol.
    #[must_use]
    pub fn questdb_pg_address(&self) -> String {
        format!("127.0.0.1:{}", self.stack.state.ports.questdb_pg)
    }

    /// `127.0.0.1:port` of QuestDB's metrics.
    #[must_use]
    pub fn questdb_metrics_address(&self) -> String {
        format!("127.0.0.1:{}", self.stack.state.ports.questdb_metrics)
    }

    /// The unix socket of a Redis, or the directory of PostgreSQL's; QuestDB has none.
    #[must_use]
    pub fn socket(&self, server: ServerName) -> Option<PathBuf> {
        match server {
            ServerName::QuestDb => None,
            ServerName::Postgres => Some(self.stack.state.places.postgres_sockets()),
            redis => Some(self.stack.state.places.redis_socket(redis)),
        }
    }

    /// The bot's login; QuestDB has one for both.
    #[must_use]
    pub fn bot(&self, server: ServerName) -> Login {
        self.stack.bot(server)
    }

    /// The administrator's login.
    #[must_use]
    pub fn admin(&self, server: ServerName) -> Login {
        self.stack.admin(server)
    }

    /// The main process of a server, while it lives.
    #[must_use]
    pub fn pid(&self, server: ServerName) -> Option<u32> {
        process::main_of(&self.stack.state.id, server).map(|main| main.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// How each server is, asked of the kernel and of the server.
    ///
    /// # Errors
    /// As [`crate::check`].
    pub fn check(&self) -> Result<Vec<ServerState>> {
        check(self.data_dir())
    }

    /// The node for events that the sentinels take for the primary; none where none of them answers.
    #[must_use]
    pub fn events_primary(&self) -> Option<ServerName> {
        replication::primary_now(&self.stack)
    }

    /// Ends a server with SIGKILL, with all its processes, and returns when they are gone.
    ///
    /// # Errors
    /// [`Error::StillRunning`].
    pub fn kill(&self, server: ServerName) -> Result<()> {
        stop::kill(&self.stack, server)?;
        self.reap(server);
        Ok(())
    }

    /// Ends a server in order and returns when it is gone.
    ///
    /// # Errors
    /// [`Error::StillRunning`].
    pub fn stop_server(&self, server: ServerName) -> Result<()> {
        stop::stop(&self.stack, &[server])?;
        self.reap(server);
        Ok(())
    }

    /// Starts a server that was ended, on its ports and its data, and waits until it answers.
    ///
    /// # Errors
    /// As [`crate::up`]; [`Error::Failed`] where another program has taken a port meanwhile.
    pub fn start_server(&self, server: ServerName) -> Result<()> {
        self.reap(server);
        self.spawn(server)?;
        self.await_ready_again(server)
    }

    /// [`TestStack::stop_server`], then [`TestStack::start_server`].
    ///
    /// # Errors
    /// As those two.
    pub fn restart_server(&self, server: ServerName) -> Result<()> {
        self.stop_server(server)?;
        self.start_server(server)
    }

    /// Waits until a server answers: after [`TestStack::thaw`], or after a supervisor has started it again.
    ///
    /// # Errors
    /// [`Error::NotReady`], [`Error::Failed`].
    pub fn await_ready_again(&self, server: ServerName) -> Result<()> {
        let mut only = self.stack.clone();
        only.state.servers = Servers::only(server);
        up::await_ready(&only, Deadline::after(READY_WITHIN), || match self.ended().filter(|ended| *ended == server) {
            None => Ok(()),
            Some(server) => {
                let log = self.stack.layout.log(server);
                Err(Error::Failed { server, tail: up::tail(&log), log })
            }
        })
    }

    /// Stops all processes of a server where they are (SIGSTOP): it accepts connections and answers nothing.
    pub fn freeze(&self, server: ServerName) {
        process::signal(&self.stack.state.id, &process::of(&self.stack.state.id, server), Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self, server: ServerName) {
        process::signal(&self.stack.state.id, &process::of(&self.stack.state.id, server), Signal::CONT);
    }
}

impl Drop for TestStack {
    #[expect(clippy::print_stderr, reason = "whoever reads the failed test must learn where its logs are")]
    fn drop(&mut self) {
        let keep = std::thread::panicking() || kept_by_wish();
        let ended = self.end_all();
        let last_word = match (keep, ended) {
            (true, _) => {
                eprintln!("the test's servers have left their logs in {}", self.stack.layout.logs().display());
                let _ = std::fs::write(self.data_dir().join("kept"), "");
                "keep\n"
            }
            (false, Ok(())) if down::remove(&self.stack).is_ok() => "done\n",
            // The guardian tries what did not work here.
            (false, _) => "",
        };
        if let Some((mut guardian, mut line)) = self.guardian.take() {
            let _ = line.write_all(last_word.as_bytes());
            drop(line);
            let _ = guardian.wait();
        }
    }
}

fn kept_by_wish() -> bool {
    std::env::var_os("TRIPOD_KEEP").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Starts the guardian of a stack, before anything else of it is started.
pub(crate) fn guard(stack: &Stack) -> Result<(Child, ChildStdin)> {
    use std::os::unix::process::CommandExt as _;
    let shell = Path::new("/bin/sh");
    let mut command = Command::new(shell);
    command.arg("-c").arg(GUARDIAN).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::piped());
    // A group of its own: Ctrl-C on the terminal ends the test and must not end the guardian.
    let mut child = command.process_group(0).spawn().during("start", shell)?;
    let mut text = format!("id {}\n", stack.state.id);
    let Places { sockets, postgres } = &stack.state.places;
    for dir in [sockets, postgres, &stack.layout.home().to_owned()] {
        text.push_str(&format!("remove {}\n", dir.display()));
    }
    if kept_by_wish() {
        text.push_str("keep\n");
    }
    let mut line = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe).during("talk to", shell)?;
    line.write_all(text.as_bytes()).during("talk to", shell)?;
    Ok((child, line))
}

/// Removes what earlier tests left: directories whose process is dead and whose guardian was killed too, and all kept
/// ones but the newest.
fn sweep(temp: &Path) {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(temp).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        // Only what carries a process id is ours to judge, and only that of a process that is gone.
        let pid = rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_none_or(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
            continue;
        }
        match std::fs::metadata(entry.path().join("kept")).and_then(|meta| meta.modified()) {
            Ok(at) => kept.push((at, entry.path())),
            Err(_) => remove_left(&entry.path()),
        }
    }
    kept.sort_unstable();
    for (_, dir) in kept.iter().rev().skip(KEPT_MAX) {
        remove_left(dir);
    }
}

/// Best effort, and perhaps at the same time as its guardian or another test.
pub(crate) fn remove_left(dir: &Path) {
    if let Some(stack) = Layout::of(dir).ok().and_then(|layout| Stack::read(&layout).ok().flatten()) {
        let _ = stop::kill_rest(&stack);
        let _ = down::remove(&stack);
    }
    let _ = std::fs::remove_dir_all(dir);
}
