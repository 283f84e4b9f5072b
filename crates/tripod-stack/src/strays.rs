//! Processes of a data directory whose state was lost: found by where they work, not by an id that nobody knows any more.
//!
//! Constraints: what is ended here must be this directory's beyond doubt. A server says so by its working directory, which
//! the kernel keeps up to date when a directory is moved; its command line counts only where that says nothing. A copy of a
//! data directory holds files with the original's id: such a file counts only where it names this very directory.
//!
//! ```text
//! /proc/PID/cwd, cmdline ─┐
//!                         ├─▶ ids ─▶ every process that carries one ─▶ ended as `down` does
//! redis.conf, `dir` here ─┘
//! /proc/PID/fd ─▶ who has DATA/stack/control open ─▶ a supervisor: it goes first, or it would start them again
//! ```

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::Result;
use crate::layout::Layout;
use crate::server::Servers;
use crate::state::Stack;
use crate::{Owner, ServerName, process, redis, stop};

/// Hexadecimal digits of a stack's id.
const ID_DIGITS: usize = 16;

/// What a data directory without a readable state still has.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// The id that its servers carried, where one is known.
    pub(crate) id: Option<String>,
    /// Those that ran and were ended; whether by force.
    pub(crate) servers: Vec<(ServerName, bool)>,
}

/// Ends every live process of `layout`, but for those of the stack `known`. The caller holds the supervisor's place.
pub(crate) fn end(layout: &Layout, known: Option<&str>) -> Result<Ended> {
    end_supervisors(layout);
    let mut ended = Ended::default();
    let mut ids = live_ids(layout);
    ids.extend(configured_id(layout));
    ids.dedup();
    for id in ids.into_iter().filter(|id| known != Some(id.as_str())) {
        let stack = Stack::with_id(layout, id.clone(), false, Owner::Operator, Servers::ALL)?;
        ended.servers.extend(stop::stop(&stack, &ServerName::ALL)?);
        stop::kill_rest(&stack)?;
        ended.id = Some(id);
    }
    Ok(ended)
}

/// The ids that processes at work in this directory carry.
fn live_ids(layout: &Layout) -> Vec<String> {
    let mut ids: Vec<String> = pids().filter_map(|pid| id_of(layout, pid)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn pids() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).filter_map(Pid::from_raw)
}

fn directory_of(pid: Pid) -> PathBuf {
    Path::new("/proc").join(pid.as_raw_nonzero().to_string())
}

fn id_of(layout: &Layout, pid: Pid) -> Option<String> {
    let directory = directory_of(pid);
    let line = std::fs::read(directory.join("cmdline")).ok()?;
    let id = id_in(&line).filter(|id| process::recognise(id, &line).is_some())?;
    let works_in = std::fs::read_link(directory.join("cwd")).ok().filter(|works_in| works_in != Path::new("/"));
    works_here(&layout.stack(), works_in.as_deref(), &line).then_some(id)
}

/// Whether a process with this working directory and this command line belongs to `stack`.
fn works_here(stack: &Path, works_in: Option<&Path>, line: &[u8]) -> bool {
    if let Some(works_in) = works_in {
        return works_in.starts_with(stack);
    }
    line.split(|byte| *byte == 0).any(|word| {
        let path = word.splitn(2, |byte| *byte == b'=').last().unwrap_or(word);
        [word, path].iter().any(|word| Path::new(std::ffi::OsStr::from_bytes(word)).starts_with(stack))
    })
}

/// The id in the first tag of a command line.
fn id_in(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let tags = text.split("tripod-").skip(1);
    tags.filter_map(|rest| rest.split_once('-'))
        .map(|(id, _)| id)
        .find(|id| id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::to_owned)
}

/// The id in the config of a Redis of this directory, for what lives outside of it: PostgreSQL's data, sockets.
fn configured_id(layout: &Layout) -> Option<String> {
    [ServerName::RedisPrices, ServerName::RedisEvents].into_iter().find_map(|server| {
        let text = std::fs::read_to_string(layout.dir(server).join("redis.conf")).ok()?;
        let here = redis::directory_line(&layout.dir(server));
        text.lines().any(|line| line == here).then(|| id_in(text.as_bytes())).flatten()
    })
}

/// Ends supervisors that the lock file does not lead to, because somebody removed it.
fn end_supervisors(layout: &Layout) {
    let control = layout.control();
    let mut removed = control.clone().into_os_string();
    removed.push(" (deleted)");
    let has_it_open = |pid: Pid| {
        let open = std::fs::read_dir(directory_of(pid).join("fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|open| open == control || open.as_os_str() == removed)
    };
    for pid in pids().filter(|pid| *pid != rustix::process::getpid() && has_it_open(*pid)) {
        let Ok(handle) = pidfd_open(pid, PidfdFlags::NONBLOCK) else { continue };
        // Still the one that was looked at. One that is killed leaves nothing to repair.
        if has_it_open(pid) {
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_from_a_tag() {
        let line = b"/usr/bin/redis-server /d/tripod-data-x/c --syslog-ident tripod-0123456789abcdef-redis-prices";
        assert_eq!(id_in(line).as_deref(), Some("0123456789abcdef"));
        assert_eq!(id_in(b"tripod-xyz-questdb"), None);
        assert_eq!(id_in(b""), None);
    }

    #[test]
    fn the_working_directory_decides_and_else_the_command_line() {
        let stack = Path::new("/d/stack");
        let line = b"java\0-Djava.io.tmpdir=/d/stack/questdb/tmp\0-d\0/d/stack/questdb";
        assert!(works_here(stack, None, line));
        assert!(works_here(stack, Some(Path::new("/d/stack/questdb")), b"redis-server x"));
        assert!(!works_here(stack, Some(Path::new("/moved/stack/questdb")), line), "it was moved; this is a new one");
        assert!(!works_here(stack, None, b"java\0-d\0/d/stack-of-others/questdb"));
    }
}
