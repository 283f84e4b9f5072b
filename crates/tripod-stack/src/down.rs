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
use crate::{ServerName, config_file, places, postgres, stop};

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
    let Some(mut stack) = Stack::read(&layout)? else {
        return if wipe { wipe_unborn(&layout) } else { Ok(DownReport::default()) };
    };
    let place = Place::clear(&layout)?;
    stack.state.wanted = false;
    stack.write()?;
    let mut report = DownReport::default();
    for (server, by_force) in stop::stop(&stack, &ServerName::ALL)? {
        report.stopped.push(server);
        if by_force {
            report.killed.push(server);
        }
    }
    stop::kill_rest(&stack)?;
    if wipe {
        remove(&stack)?;
        report.wiped = true;
    }
    drop((place, lock));
    Ok(report)
}

/// Removes everything that `up` made. The state goes last but for its directory, so that a wipe that is interrupted
/// can be repeated.
pub(crate) fn remove(stack: &Stack) -> Result<()> {
    postgres::remove_shared_memory(stack);
    config_file::remove(stack)?;
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
    Ok(())
}

/// What an `up` leaves that was killed before it wrote its state: a directory with its lock.
fn wipe_unborn(layout: &Layout) -> Result<DownReport> {
    let dir = layout.stack();
    let not_ours = || Error::NotOurs { path: layout.home().to_owned() };
    let state = layout.state();
    for entry in std::fs::read_dir(&dir).during("read", &dir)? {
        let path = entry.during("read", &dir)?.path();
        let beside = path.to_str().zip(state.to_str()).is_some_and(|(path, state)| path.starts_with(state));
        if path != layout.lock() && !beside {
            return Err(not_ours());
        }
    }
    remove_dir(&dir)?;
    Ok(DownReport { wiped: true, ..DownReport::default() })
}
