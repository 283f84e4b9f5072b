//! `down`: nothing of the stack runs any more; with `wipe`, nothing of it is left on disk.
//!
//! Constraints: the supervisor goes first, or it would start again what is ended. Whether something is left is asked of
//! the kernel, not of a list. A wipe removes what `up` made and nothing else: journals, backups and the user's own lines
//! in `tripod.toml` stay. It follows no symbolic link.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::{During as _, Error, Result};
use crate::layout::{Layout, remove_dir};
use crate::state::{Lock, Stack};
use crate::supervisor::Place;
use crate::wait::Deadline;
use crate::{Owner, ServerName, Servers, config_file, places, postgres, stop, strays};

/// Time to wait for an `up` or another `down` that is at work.
const LOCK_WITHIN: Duration = Duration::from_secs(90);

/// What `down` found and did.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct DownReport {
    /// Servers that ran and were ended.
    pub stopped: Vec<ServerName>,
    /// Those among them that did not end in time and were killed.
    pub killed: Vec<ServerName>,
    /// Whether the stack's files were removed.
    pub wiped: bool,
    /// Whether there was a stack at all.
    pub found: bool,
    /// What was left, and why.
    pub notes: Vec<String>,
}

/// Ends the supervisor and all servers of the stack in `data_dir`; does nothing where there is none. With `wipe` it
/// also removes everything that `up` made.
///
/// When it returns, no process of the stack is left.
///
/// # Errors
/// [`Error::NotOurs`] where something is to be wiped that `up` did not make; [`Error::StillRunning`] where even SIGKILL
/// did not help.
pub fn down(data_dir: &Path, wipe: bool) -> Result<DownReport> {
    if !data_dir.exists() {
        return Ok(DownReport::default());
    }
    let layout = Layout::of(data_dir)?;
    let Ok(found) = std::fs::symlink_metadata(layout.stack()) else { return Ok(DownReport::default()) };
    if !found.is_dir() {
        return Err(Error::NotOurs { path: layout.home().to_owned() });
    }
    let lock = Lock::take(&layout, Deadline::after(LOCK_WITHIN))?;
    let mut stack = match Stack::read(&layout) {
        Ok(Some(stack)) => stack,
        Ok(None) => return down_without_state(&layout, &lock, wipe),
        Err(Error::State { .. }) if wipe => return down_without_state(&layout, &lock, wipe),
        Err(error) => return Err(error),
    };
    let place = Place::clear(&layout)?;
    stack.state.wanted = false;
    stack.write()?;
    let mut report = DownReport { found: true, ..DownReport::default() };
    report.add(stop::stop(&stack, &ServerName::ALL)?);
    stop::kill_rest(&stack)?;
    if wipe {
        // Of a state that was lost and made anew.
        report.add(strays::end(&layout, Some(&stack.state.id))?.servers);
        report.notes.extend(remove(&stack)?);
        report.wiped = true;
    }
    drop((place, lock));
    Ok(report)
}

impl DownReport {
    fn add(&mut self, ended: Vec<(ServerName, bool)>) {
        for (server, by_force) in ended {
            self.stopped.push(server);
            if by_force {
                self.killed.push(server);
            }
        }
    }
}

/// The state was never written, was lost or cannot be read: what belongs to the directory is found without it.
fn down_without_state(layout: &Layout, lock: &Lock, wipe: bool) -> Result<DownReport> {
    let holds = match holds_a_stack(layout) {
        // Somebody else's: nothing of ours runs there.
        Err(Error::NotOurs { .. }) if !wipe => return Ok(DownReport::default()),
        other => other?,
    };
    if !holds {
        if wipe {
            remove_unborn(layout, lock.home_was_made())?;
        }
        return Ok(DownReport { found: wipe, wiped: wipe, ..DownReport::default() });
    }
    let _place = Place::clear(layout)?;
    let ended = strays::end(layout, None)?;
    let mut report = DownReport { found: true, ..DownReport::default() };
    report.add(ended.servers);
    if wipe {
        let made = lock.home_was_made();
        let stack = match ended.id {
            Some(id) => Stack::with_id(layout, id, made, Owner::Operator, Servers::ALL)?,
            None => Stack::fresh(layout, made, Owner::Operator, Servers::ALL)?,
        };
        report.notes.extend(remove(&stack)?);
        report.wiped = true;
    }
    Ok(report)
}

/// Whether the directory holds what an `up` leaves once it got further than its state, though the state may be lost.
/// Fails on a directory of somebody else's, where something is in it that no `up` makes.
pub(crate) fn holds_a_stack(layout: &Layout) -> Result<bool> {
    let dir = layout.stack();
    let (mut begun, mut servers, mut theirs) = (false, false, false);
    for entry in std::fs::read_dir(&dir).during("read", &dir)? {
        let name = entry.during("read", &dir)?.file_name();
        let name = name.to_str().unwrap_or_default();
        match name {
            "state.json" | "supervisor.lock" => begun = true,
            "lock" => {}
            "control" | "logs" | "sockets" => servers = true,
            _ if name.starts_with("state.json.") => {}
            _ if name.ends_with(".jsa") || ServerName::ALL.iter().any(|server| server.as_str() == name) => {
                servers = true;
            }
            _ => theirs = true,
        }
    }
    // A directory called `postgres` may be anybody's; beside a supervisor's lock it is ours.
    if layout.state().exists() || (begun && !theirs) || !(servers || theirs) {
        return Ok(begun);
    }
    Err(Error::NotOurs { path: layout.home().to_owned() })
}

/// Removes everything that `up` made. The state goes last but for its directory, so that a wipe that is interrupted
/// can be repeated.
pub(crate) fn remove(stack: &Stack) -> Result<Option<String>> {
    postgres::remove_shared_memory(stack);
    let note = config_file::remove(stack)?;
    for place in stack.state.places.outside(&stack.layout) {
        places::remove_outside(place, &stack.state.id)?;
    }
    let dir = stack.layout.stack();
    let state = stack.layout.state();
    for entry in std::fs::read_dir(&dir).during("read", &dir)? {
        let path = entry.during("read", &dir)?.path();
        if path == state || path == stack.layout.lock() {
            continue;
        }
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            remove_dir(&path)?;
        } else {
            std::fs::remove_file(&path).during("remove", &path)?;
        }
    }
    remove_dir(&dir)?;
    if stack.state.made_home {
        // Stays where there is something else in it: journals, backups.
        let _ = std::fs::remove_dir(stack.layout.home());
    }
    Ok(note)
}

/// What an `up` leaves that was killed, or that refused, before it wrote its state: a directory with its lock.
pub(crate) fn remove_unborn(layout: &Layout, made_home: bool) -> Result<()> {
    if holds_a_stack(layout)? {
        return Ok(());
    }
    remove_dir(&layout.stack())?;
    if made_home {
        // Stays where there is something else in it.
        let _ = std::fs::remove_dir(layout.home());
    }
    Ok(())
}
