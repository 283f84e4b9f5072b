//! `up`: from whatever is there to a running stack, or one clear sentence.
//!
//! Constraints: may be called on anything: nothing, a running stack, one whose supervisor or servers were killed, one
//! that an `up` left half made, one that a reboot ended. May be killed at any instruction. Two at once: the second waits.
//!
//! ```text
//! directory ─▶ lock ─▶ state ─▶ all ready? ─yes─▶ report
//!                                  │no
//!                                  ▼
//!        programs, disk, config file: refuse before anything changes
//!                                  ▼
//!   ┌─▶ ask the supervisor to go ─▶ ports ─▶ files ─▶ supervisor ─▶ wait until each server answers ─▶ report
//!   └───────────────────────────── a port was taken in between ◀──────────┘
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{RunState, ServerState, look};
use crate::error::{During as _, Error, Result};
use crate::layout::{Layout, PRIVATE, make_dir};
use crate::ports::Held;
use crate::server::{Probe, Servers};
use crate::state::{Lock, Stack};
use crate::supervisor::Place;
use crate::wait::{Deadline, pause};
use crate::{ServerName, config_file, down, endings, postgres, process, replication, stop, strays, supervisor};

/// Time for everything; the first start on a busy machine takes ten seconds.
const DEADLINE: Duration = Duration::from_secs(90);
/// A server that is asked for the first time answers within this, or is asked again.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Pause between two rounds of asking.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// Free disk without which nothing is started: servers that run out of it crash.
const DISK_NEEDED_MIB: u64 = 300;
/// A server that ended this often within one `up` will not stay up.
const ENDINGS_MAX: u32 = 3;
/// How long the ports of before may still be those of servers that are about to be gone.
const PORTS_WITHIN: Duration = Duration::from_secs(3);
/// How often ports are chosen anew.
const PORT_TRIES: usize = 3;
/// How much of a log an error shows.
const TAIL_LINES: usize = 12;

/// Whose stack it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// Data are kept: what a server acknowledged is on disk as its own settings say.
    Operator,
    /// Data may go: nothing is forced to disk. Use [`crate::TestStack`], which also ends it with the test.
    Test,
}

/// What to start, and where.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The data directory; made where it is missing.
    pub data_dir: PathBuf,
    /// The servers to start; those of an earlier `up` of the same directory stay.
    pub servers: Servers,
    /// Whose it is; fixed by the first `up`.
    pub owner: Owner,
    /// What the servers find in their environment besides what the stack sets; kept with it and replaced where this is not
    /// empty. A server takes it in at its next start.
    pub environment: BTreeMap<String, String>,
    /// Program and arguments that call [`crate::supervise`] on the data directory, which is put behind them.
    pub supervisor: (PathBuf, Vec<OsString>),
    /// Everything is ready within this, or it is an error.
    pub deadline: Duration,
}

impl Options {
    /// All servers, for an operator; supervised by this program's hidden `supervise --data DIR`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        // The kernel's own name for this program, also where it has been replaced on disk since.
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        Self {
            data_dir: data_dir.into(),
            servers: Servers::ALL,
            owner: Owner::Operator,
            environment: BTreeMap::new(),
            supervisor: (program, vec!["supervise".into(), "--data".into()]),
            deadline: DEADLINE,
        }
    }
}

/// What `up` found and did.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct UpReport {
    /// Each server, ready.
    pub servers: Vec<ServerState>,
    /// Those that did not run before.
    pub started: Vec<ServerName>,
    /// The file with addresses and logins.
    pub config: PathBuf,
    /// The background process.
    pub supervisor_pid: u32,
    /// Whether it was started by this call; also where every server ran already.
    pub supervisor_started: bool,
    /// From the call to everything ready.
    pub took: Duration,
    /// What is not as somebody may expect it: a port that changed, data in another place.
    pub notes: Vec<String>,
}

/// Starts what does not run, waits until everything answers, writes `DATA/tripod.toml`.
///
/// When it returns, every server has answered a login in its own protocol, and a supervisor starts again what dies.
///
/// # Errors
/// One sentence with the next step ([`Error::hint`]). What this call started is ended again, unless servers ran before.
pub fn up(options: &Options) -> Result<UpReport> {
    let deadline = Deadline::after(options.deadline);
    let (layout, made_home) = Layout::make(&options.data_dir)?;
    let mut lock = Lock::take(&layout, deadline)?;
    if made_home {
        lock.remember_home_was_made(&layout)?;
    }
    let (mut stack, born) = match Stack::read(&layout)? {
        Some(stack) => (stack, true),
        None => (begin(&layout, lock.home_was_made(), options)?, false),
    };
    let mut report = UpReport {
        servers: Vec::new(),
        started: Vec::new(),
        config: layout.config(),
        supervisor_pid: 0,
        supervisor_started: false,
        took: Duration::ZERO,
        notes: notes(&stack),
    };
    let servers = stack.state.servers.and(options.servers);
    let supervisor = supervisor::holder(&layout)?.filter(|pid| *pid != 0);
    // Settings of an older version, among them some that only a restart changes.
    let outdated = born && postgres::is_outdated(&stack);
    if let Some(pid) = supervisor.filter(|_| !outdated && stack.state.wanted && servers == stack.state.servers) {
        let found: Vec<_> = servers.iter().map(|server| look(&stack, server, true, ANSWER_WITHIN)).collect();
        if found.iter().all(|server| server.state == RunState::Running) {
            config_file::write(&stack)?;
            if servers.postgres {
                postgres::make_archive(&stack)?;
            }
            return Ok(UpReport { servers: found, supervisor_pid: pid, took: deadline.waited(), ..report });
        }
    }
    let turned = servers.events_ha && !stack.state.servers.events_ha;
    stack.state.servers = servers;
    if !options.environment.is_empty() {
        stack.state.environment.clone_from(&options.environment);
    }
    if let Err(error) = ready_to_start(&mut stack) {
        if !born {
            // Best effort: the refusal is what counts.
            let _ = down::remove_unborn(&layout, lock.home_was_made());
        }
        return Err(error);
    }
    if turned && born {
        // It has a config and users without replication, and must not be without a supervisor when it is ended.
        let _place = Place::clear(&layout)?;
        stop::stop(&stack, &[ServerName::RedisEvents])?;
    }
    if outdated {
        let _place = Place::clear(&layout)?;
        if !stop::stop(&stack, &[ServerName::Postgres])?.is_empty() {
            report.notes.push("PostgreSQL was restarted: it ran with the settings of an older version".to_owned());
        }
    }
    let ran: HashSet<ServerName> = running(&stack).collect();
    report.started = servers.iter().filter(|server| !ran.contains(server)).collect();
    if supervisor.is_none() && stack.state.wanted && !ran.is_empty() {
        report.notes.push("the supervisor had ended; it was started again".to_owned());
    }
    for attempt in 1.. {
        let logs = LogEnds::of(&stack);
        match start(&mut stack, options, deadline, &mut report.notes) {
            Ok(pid) => {
                report.supervisor_pid = pid;
                report.supervisor_started = true;
                break;
            }
            // Somebody was faster on a port: others are chosen.
            Err(Error::Failed { server, .. }) if attempt < PORT_TRIES && logs.say_in_use(&stack, server) => {
                let _place = Place::clear(&layout)?;
                stop::kill(&stack, server)?;
                forget_ports(&mut stack, server, &mut report.notes);
            }
            Err(error) => {
                if ran.is_empty() {
                    give_up(&mut stack)?;
                }
                return Err(error);
            }
        }
    }
    report.servers = servers.iter().map(|server| look(&stack, server, true, ANSWER_WITHIN)).collect();
    report.took = deadline.waited();
    Ok(report)
}

/// A stack for a directory without a state: a new one, or one whose state was lost. Then its servers are ended, its data
/// are kept.
fn begin(layout: &Layout, made_home: bool, options: &Options) -> Result<Stack> {
    let lost = down::holds_a_stack(layout)?;
    if !lost {
        return Stack::fresh(layout, made_home, options.owner, options.servers);
    }
    let _place = Place::clear(layout)?;
    let mut stack = match strays::end(layout, None)?.id {
        Some(id) => Stack::with_id(layout, id, made_home, options.owner, options.servers)?,
        None => Stack::fresh(layout, made_home, options.owner, options.servers)?,
    };
    stack.state.logins_are_old = stack.state.places.postgres.join("data").exists();
    Ok(stack)
}

/// Those with a live main process.
fn running(stack: &Stack) -> impl Iterator<Item = ServerName> {
    stack.state.servers.iter().filter(|server| process::main_of(&stack.state.id, *server).is_some())
}

/// Everything that can be refused before anything is changed.
pub(crate) fn ready_to_start(stack: &mut Stack) -> Result<()> {
    for server in stack.state.servers.iter() {
        // What root finds, the user whose stack it is may not be able to read.
        if stack.user().is_none() || !stack.has_programs(server) {
            stack.find_programs(server)?;
        }
    }
    replication::make_ready(stack)?;
    postgres::make_ready(stack)?;
    config_file::check(stack)?;
    let mut places = vec![stack.layout.home().to_owned()];
    places.extend(
        stack.state.places.outside(&stack.layout).iter().filter_map(|place| place.parent().map(Path::to_owned)),
    );
    for place in places.iter().filter(|place| place.exists()) {
        let found = rustix::fs::statvfs(place).during("look at the disk of", place)?;
        let free_mib = (found.f_bavail * found.f_frsize) >> 20;
        if free_mib < DISK_NEEDED_MIB {
            return Err(Error::DiskFull { path: place.clone(), free_mib, needed_mib: DISK_NEEDED_MIB });
        }
    }
    Ok(())
}

/// Makes every file of every server; the state is written first.
pub(crate) fn prepare(stack: &Stack) -> Result<()> {
    stack.write()?;
    make_dir(&stack.layout.logs(), PRIVATE)?;
    stack.state.places.make(stack.state.account.as_ref(), stack.user().as_ref())?;
    for server in stack.state.servers.iter() {
        endings::forget(&stack.layout, server)?;
        stack.prepare(server)?;
    }
    config_file::write(stack)
}

/// One attempt; gives the supervisor's id.
fn start(stack: &mut Stack, options: &Options, deadline: Deadline, notes: &mut Vec<String>) -> Result<u32> {
    let place = Place::clear(&stack.layout)?;
    let held = choose_ports(stack, notes)?;
    stack.state.wanted = true;
    prepare(stack)?;
    if std::mem::take(&mut stack.state.logins_are_old) {
        stack.write()?;
    }
    drop(held);
    let (program, arguments) = &options.supervisor;
    let mut command = Command::new(program);
    command.args(arguments).arg(stack.layout.home());
    let mut child = supervisor::start_background(stack, command)?;
    drop(place);
    await_ready(stack, deadline, || {
        // Another one may be at work: of an `up` that was killed right after it had started it.
        let ended = child.try_wait().during("look at the supervisor", &stack.layout.supervisor_log())?;
        if ended.is_none() || supervisor::holder(&stack.layout)?.is_some() {
            return Ok(());
        }
        let log = stack.layout.supervisor_log();
        Err(Error::Supervisor { tail: tail(&log), log })
    })?;
    Ok(supervisor::holder(&stack.layout)?.unwrap_or_else(|| child.id()))
}

/// Gives each server that does not run its ports, the kept ones where they are free, and holds them.
pub(crate) fn choose_ports(stack: &mut Stack, notes: &mut Vec<String>) -> Result<Vec<Held>> {
    let ran: HashSet<ServerName> = running(stack).collect();
    let (mut held, soon) = (Vec::new(), Deadline::after(PORTS_WITHIN));
    for server in stack.state.servers.iter().filter(|server| !ran.contains(server)) {
        for (what, port) in stack.state.ports.of(server) {
            let kept = (*port != 0).then_some(*port);
            let one = match kept.and_then(|port| Held::take_again(port, soon)) {
                Some(one) => one,
                None => Held::find()?,
            };
            let number = one.number()?;
            if let Some(kept) = kept.filter(|kept| *kept != number) {
                notes.push(moved(server, what, kept, number));
            }
            *port = number;
            held.push(one);
        }
    }
    Ok(held)
}

fn moved(server: ServerName, what: &str, from: u16, to: u16) -> String {
    format!("port {from} of {server} ({what}) is taken by another program; it is {to} now")
}

fn forget_ports(stack: &mut Stack, server: ServerName, notes: &mut Vec<String>) {
    for (what, port) in stack.state.ports.of(server) {
        notes.push(format!("port {port} of {server} ({what}) was taken while it started; another one was chosen"));
        *port = 0;
    }
}

/// Waits until every server answers; `alive` fails when nobody would start one again.
pub(crate) fn await_ready(stack: &Stack, deadline: Deadline, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
    let mut waiting: Vec<ServerName> = stack.state.servers.iter().collect();
    let mut why: HashMap<ServerName, String> = HashMap::new();
    loop {
        alive()?;
        waiting.retain(|server| {
            if process::main_of(&stack.state.id, *server).is_none() {
                return true;
            }
            match stack.probe(*server, ANSWER_WITHIN.min(deadline.left().max(ASK_EVERY))) {
                Probe::Ready(_) => false,
                Probe::Starting(words) | Probe::Silent(words) => {
                    why.insert(*server, words);
                    true
                }
            }
        });
        let given_up = |server: &&ServerName| endings::of(&stack.layout, **server).count >= ENDINGS_MAX;
        if let Some(server) = waiting.iter().find(given_up).copied() {
            let log = stack.layout.log(server);
            return Err(Error::Failed { server, tail: tail(&log), log });
        }
        let Some(server) = waiting.first().copied() else { return Ok(()) };
        if deadline.over() {
            let log = stack.layout.log(server);
            let why = why.remove(&server).unwrap_or_else(|| "it has no process".to_owned());
            return Err(Error::NotReady { server, waited: deadline.waited(), why, tail: tail(&log), log });
        }
        pause(ASK_EVERY.min(deadline.left()));
    }
}

/// Ends what a failed `up` started.
fn give_up(stack: &mut Stack) -> Result<()> {
    let _place = Place::clear(&stack.layout)?;
    stop::stop(stack, &ServerName::ALL)?;
    stop::kill_rest(stack)?;
    stack.state.wanted = false;
    stack.write()
}

/// The last lines of a log, or why there are none.
pub(crate) fn tail(log: &Path) -> String {
    let text = match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => return format!("(cannot be read: {e})"),
    };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Where each log ended before a start: what stands behind is that start's own.
pub(crate) struct LogEnds(HashMap<ServerName, u64>);

impl LogEnds {
    pub(crate) fn of(stack: &Stack) -> Self {
        let end = |server| std::fs::metadata(stack.layout.log(server)).map_or(0, |meta| meta.len());
        Self(stack.state.servers.iter().map(|server| (server, end(server))).collect())
    }

    /// Whether the server said since then that somebody has its port. QuestDB says it above a long list of calls.
    pub(crate) fn say_in_use(&self, stack: &Stack, server: ServerName) -> bool {
        let log = std::fs::read(stack.layout.log(server)).unwrap_or_default();
        let before = self.0.get(&server).and_then(|end| usize::try_from(*end).ok()).unwrap_or(0);
        // One that is shorter now was begun anew.
        in_use(&String::from_utf8_lossy(log.get(before..).unwrap_or(&log)))
    }
}

/// Whether a server's words are about a port that somebody has.
fn in_use(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["address already in use", "could not bind", "address in use"].iter().any(|mark| words.contains(mark))
}

/// What is in another place than one would look.
fn notes(stack: &Stack) -> Vec<String> {
    let (places, account) = (&stack.state.places, stack.state.account.as_ref().map_or("-", |account| &account.name));
    let mut notes = Vec::new();
    for place in places.outside(&stack.layout) {
        notes.push(if place == places.postgres {
            let home = stack.layout.home().display();
            format!("PostgreSQL's data are in {}: its account `{account}` cannot enter {home}", place.display())
        } else {
            format!("unix sockets are in {}: in the data directory their paths would not do", place.display())
        });
    }
    notes
}
