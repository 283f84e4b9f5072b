//! Finding, signalling and awaiting the servers' processes.
//!
//! Constraints: no pid file. A pid in a file goes stale, is reused, is missing when its writer was killed between the
//! start and the write. Each server instead carries the stack's random id on its command line (its *tag*), so the
//! kernel's process table is the record: what carries the tag is ours, what does not is not, whoever started it.
//!
//! ```text
//! QuestDB      java … -Dtripod.stack=tripod-ID-questdb …
//! PostgreSQL   postgres -D … -c cluster_name=tripod-ID-postgres     its children: "postgres: tripod-ID-postgres: …"
//! Redis        redis-server … --syslog-ident tripod-ID-redis-prices, then the title "redis-server tripod-ID-redis-prices"
//! initdb       … -D …/tripod-ID-initdb
//! ```
//!
//! Operation: a signal goes through a pidfd that was opened first and whose process was looked at again afterwards, so
//! a process that took the id of a dead one is never hit.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::ServerName;
use crate::wait::{Deadline, until};

/// How often the process table is looked at while something is awaited that has no pidfd.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a server's process carries on its command line.
pub(crate) fn tag(id: &str, server: ServerName) -> String {
    format!("tripod-{id}-{server}")
}

/// What PostgreSQL's directory is called while `initdb` fills it.
pub(crate) fn initdb_tag(id: &str) -> String {
    format!("tripod-{id}-initdb")
}

/// A live process of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: Pid,
    /// Its parent's.
    parent: i32,
    /// Whose it is; none for the tools of a setup.
    server: Option<ServerName>,
    /// Says of itself that it is a server's helper process.
    helper: bool,
}

impl Process {
    /// Whether it belongs to a setup, not to a server.
    pub(crate) fn is_tool(&self) -> bool {
        self.server.is_none()
    }
}

/// All live processes of the stack `id`.
pub(crate) fn all(id: &str) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(Pid::from_raw)
        .filter_map(|pid| look(id, pid))
        .collect()
}

/// The processes of one server.
pub(crate) fn of(id: &str, server: ServerName) -> Vec<Process> {
    all(id).into_iter().filter(|process| process.server == Some(server)).collect()
}

/// The server's main process: the one that was started, not one that it started itself.
pub(crate) fn main_of(id: &str, server: ServerName) -> Option<Process> {
    main_among(&of(id, server))
}

fn main_among(processes: &[Process]) -> Option<Process> {
    let pids: HashSet<i32> = processes.iter().map(|process| process.pid.as_raw_nonzero().get()).collect();
    processes.iter().find(|process| !process.helper && !pids.contains(&process.parent)).copied()
}

fn look(id: &str, pid: Pid) -> Option<Process> {
    let dir = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    // Empty for a process that has ended and was not awaited yet; unreadable for one that is gone.
    let line = std::fs::read(dir.join("cmdline")).ok()?;
    let (server, helper) = recognise(id, &line)?;
    let parent = parent_in(&std::fs::read_to_string(dir.join("stat")).ok()?)?;
    Some(Process { pid, parent, server, helper })
}

/// Whose command line it is, and whether it is a helper's.
pub(crate) fn recognise(id: &str, line: &[u8]) -> Option<(Option<ServerName>, bool)> {
    let prefix = format!("tripod-{id}-");
    if !line.windows(prefix.len()).any(|window| window == prefix.as_bytes()) {
        return None;
    }
    let text = String::from_utf8_lossy(line);
    let words: Vec<&str> = text.split(['\0', ' ']).filter(|word| !word.is_empty()).collect();
    let program = words.first()?.rsplit('/').next()?;
    for server in ServerName::ALL {
        let tag = tag(id, server);
        let (ours, helper) = match server {
            ServerName::QuestDb => (words.contains(&format!("-Dtripod.stack={tag}").as_str()), false),
            ServerName::Postgres => {
                let title = *words.first()? == "postgres:" && words.get(1) == Some(&format!("{tag}:").as_str());
                (title || words.contains(&format!("cluster_name={tag}").as_str()), title)
            }
            // A command somebody types to look for the tag is not a server.
            _ => (program.starts_with("redis-") && words.contains(&tag.as_str()), !program.starts_with("redis-server")),
        };
        if ours {
            return Some((Some(server), helper));
        }
    }
    let initdb = initdb_tag(id);
    let tool = matches!(program, "initdb" | "postgres" | "sh");
    (tool && words.iter().any(|word| word.ends_with(&initdb))).then_some((None, true))
}

/// The fourth field of `/proc/PID/stat`; the second is a name in brackets that may hold anything.
fn parent_in(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A handle on exactly this process, not on one that takes its id later. None where it is gone.
pub(crate) fn hold(id: &str, process: Process) -> Option<OwnedFd> {
    let fd = pidfd_open(process.pid, PidfdFlags::NONBLOCK).ok()?;
    (look(id, process.pid)?.server == process.server).then_some(fd)
}

/// Sends `signal` to each; one that is gone is no error.
pub(crate) fn signal(id: &str, processes: &[Process], signal: Signal) {
    for process in processes {
        if let Some(fd) = hold(id, *process) {
            // Gone in between, or a user's process that is not ours to end: `down` verifies afterwards what is left.
            let _ = pidfd_send_signal(fd, signal);
        }
    }
}

/// Waits until none of the processes that `list` gives is left; gives those that are.
pub(crate) fn gone(deadline: Deadline, mut list: impl FnMut() -> Vec<Process>) -> Vec<Process> {
    let mut left = Vec::new();
    let ended = until(deadline, LOOK_EVERY, || {
        left = list();
        Ok::<_, std::convert::Infallible>(left.is_empty().then_some(()))
    });
    if let Ok(Some(())) = ended { Vec::new() } else { left }
}

/// Waits until one of `files` is readable (a pidfd: its process ended) or the time is over; says which are.
pub(crate) fn readable(files: &[&OwnedFd], at_most: Duration) -> Vec<bool> {
    let mut polled: Vec<PollFd<'_>> =
        files.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
    let timeout = Timespec {
        tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // An interrupted wait is a short one: the caller looks again.
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => polled.iter().map(|fd| !fd.revents().is_empty()).collect(),
        Err(_) => vec![false; files.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    fn owner(line: &str) -> Option<(Option<ServerName>, bool)> {
        recognise(ID, line.replace('|', "\0").as_bytes())
    }

    #[test]
    fn a_server_is_known_by_its_command_line_and_by_its_title() {
        let cases = [
            (
                "/usr/bin/java|-Xmx256m|-Dtripod.stack=tripod-0123456789abcdef-questdb|-m|x",
                Some((Some(ServerName::QuestDb), false)),
            ),
            (
                "/x/postgres|-D|/a b/c|-c|cluster_name=tripod-0123456789abcdef-postgres",
                Some((Some(ServerName::Postgres), false)),
            ),
            ("postgres: tripod-0123456789abcdef-postgres: checkpointer ", Some((Some(ServerName::Postgres), true))),
            (
                "/usr/bin/redis-server|/c|--syslog-ident|tripod-0123456789abcdef-redis-prices",
                Some((Some(ServerName::RedisPrices), false)),
            ),
            (
                "/usr/bin/redis-server tripod-0123456789abcdef-redis-events",
                Some((Some(ServerName::RedisEvents), false)),
            ),
            ("redis-rdb-bgsave tripod-0123456789abcdef-redis-events", Some((Some(ServerName::RedisEvents), true))),
            ("/x/initdb|-D|/d/tripod-0123456789abcdef-initdb", Some((None, true))),
            ("grep|tripod-0123456789abcdef-redis-events", None),
            ("less|/d/tripod-0123456789abcdef-initdb", None),
            ("/usr/bin/redis-server tripod-ffffffffffffffff-redis-events", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(owner(line), expected, "{line}");
        }
    }

    #[test]
    fn the_main_process_is_no_helper_and_no_child_of_another() {
        let process = |pid: i32, parent: i32, helper: bool| Process {
            pid: Pid::from_raw(pid).unwrap(),
            parent,
            server: Some(ServerName::Postgres),
            helper,
        };
        let (main, forked, titled) = (process(20, 1, false), process(21, 20, false), process(22, 20, true));
        assert_eq!(main_among(&[titled, forked, main]), Some(main));
        assert_eq!(main_among(&[titled]), None, "a helper that survived its server is not the server");
    }

    #[test]
    fn the_parent_is_found_behind_a_name_with_brackets() {
        assert_eq!(parent_in("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12"), None);
    }
}
