//! A stack that stands still: its servers are ended, and nobody starts one until this is over.
//!
//! Constraints: for whoever puts data directories in place of others. `up` and `down` wait for it as they wait for each
//! other. A process that is killed with it lets it go; the servers then stay ended until the next `up`.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::state::{Lock, Stack};
use crate::supervisor::Place;
use crate::wait::Deadline;
use crate::{ServerName, stop};

/// Time to wait for an `up` or a `down` that is at work.
const LOCK_WITHIN: Duration = Duration::from_secs(90);

/// Held while the stack must stand still.
#[derive(Debug)]
pub struct Standstill {
    /// Before the lock: who waits for that finds the place free.
    _place: Place,
    _lock: Lock,
}

/// Ends all servers of the stack in `data_dir` in order and keeps them so until the answer is dropped.
///
/// When it returns, no process of the stack is left.
///
/// # Errors
/// [`Error::NotOurs`] where there is no stack; [`Error::Busy`]; [`Error::StillRunning`].
pub fn stand_still(data_dir: &Path) -> Result<Standstill> {
    let layout = Layout::of(data_dir)?;
    let lock = Lock::take(&layout, Deadline::after(LOCK_WITHIN))?;
    let mut stack = Stack::read(&layout)?.ok_or_else(|| Error::NotOurs { path: layout.home().to_owned() })?;
    let place = Place::clear(&layout)?;
    stack.state.wanted = false;
    stack.write()?;
    stop::stop(&stack, &ServerName::ALL)?;
    stop::kill_rest(&stack)?;
    Ok(Standstill { _place: place, _lock: lock })
}
