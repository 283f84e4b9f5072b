//! Who is the supervisor, and how `up` and `down` make it go.
//!
//! Constraints: a data directory has one supervisor, or none and then one `up` or `down` may hold its place. The place is
//! a locked file: the kernel gives it free when its holder ends, however it ends. `up` and `down` keep the place while
//! they change things, so that a supervisor which an `up` that was killed has just started cannot begin in the middle.
//!
//! ```text
//! supervisor.lock   locked by the holder; a supervisor's process id inside, nothing inside for `up` and `down`
//! control           fifo of lines: `forget` (see `forget_endings`), or `go`; the supervisor goes between two starts, never
//!                   in one
//! ```

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{During as _, Error, Result};
use crate::layout::Layout;
use crate::state::open_lock;
use crate::wait::{Deadline, until};

/// Time for a supervisor to go when it was asked, and again when it was killed.
const QUIT_GRACE: Duration = Duration::from_secs(5);
/// Time for a new supervisor to get the place from the `up` that started it.
const START_GRACE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// More than anybody says at a time.
const HEARD_BYTES_MAX: usize = 256;

/// What can be said to a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Go,
    Forget,
}

impl Word {
    const fn line(self) -> &'static str {
        match self {
            Self::Go => "go\n",
            Self::Forget => "forget\n",
        }
    }
}

/// The supervisor's place, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    file: File,
    path: PathBuf,
}

impl Place {
    /// For `up` and `down`: makes a supervisor go, by asking it, then by force, and takes its place.
    pub(crate) fn clear(layout: &Layout) -> Result<Self> {
        let path = layout.supervisor_lock();
        let file = open_lock(&path)?;
        let taken = |by_force: bool| {
            until(Deadline::after(QUIT_GRACE), LOOK_EVERY, || {
                if lock(&file, &path)? {
                    return Ok(Some(()));
                }
                if by_force {
                    kill_holder(layout)?;
                } else {
                    say(layout, Word::Go);
                }
                Ok::<_, Error>(None)
            })
        };
        if taken(false)?.is_none() && taken(true)?.is_none() {
            return Err(Error::StillRunning { count: 1, pids: holder(layout)?.unwrap_or(0).to_string() });
        }
        file.set_len(0).during("write", &path)?;
        Ok(Self { file, path })
    }

    /// For a supervisor: takes the place that `up` gives free, and writes its id into it; none where another has it.
    /// Never makes the file: where it is missing, the stack was wiped meanwhile.
    pub(crate) fn take(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.supervisor_lock();
        let mut file = File::options().read(true).write(true).open(&path).during("open", &path)?;
        let taken = until(Deadline::after(START_GRACE), LOOK_EVERY, || Ok(lock(&file, &path)?.then_some(())))?;
        if taken.is_none() {
            return Ok(None);
        }
        file.set_len(0).during("write", &path)?;
        file.rewind().during("write", &path)?;
        file.write_all(std::process::id().to_string().as_bytes()).during("write", &path)?;
        Ok(Some(Self { file, path }))
    }

    /// Whether the file is still where it was made.
    pub(crate) fn is_there(&self) -> bool {
        let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
        let held = self.file.metadata().map(identity).ok();
        held.is_some() && held == std::fs::metadata(&self.path).map(identity).ok()
    }
}

fn lock(file: &File, path: &Path) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(e)) => Err(e).during("lock", path),
    }
}

/// The process that holds the place: a supervisor's id, 0 for an `up` or `down` at work, none where nobody does.
pub(crate) fn holder(layout: &Layout) -> Result<Option<u32>> {
    let path = layout.supervisor_lock();
    let mut file = match File::options().read(true).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).during("open", &path),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).during("read", &path)?;
            Ok(Some(text.trim().parse().unwrap_or(0)))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(e).during("lock", &path),
    }
}

/// Opens the fifo, making it where it is missing.
pub(crate) fn open_control(layout: &Layout) -> Result<OwnedFd> {
    let path = layout.control();
    match rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e).during("make", &path),
    }
    // For reading and writing: with a writer of our own it is never at its end.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(&path, flags, Mode::empty()).during("open", &path)?;
    let kind = rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode)).during("look at", &path)?;
    if kind == FileType::Fifo { Ok(fd) } else { Err(rustix::io::Errno::EXIST).during("make fifo", &path) }
}

/// Best effort: it may not have opened the fifo yet, or may hang; the caller looks whether it does what it was told.
pub(crate) fn say(layout: &Layout, word: Word) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if let Ok(fd) = rustix::fs::open(layout.control(), flags, Mode::empty()) {
        // So few bytes are written whole or not at all.
        let _ = rustix::io::write(&fd, word.line().as_bytes());
    }
}

/// What was said since: to go, where that is among it, or where nothing can be read.
pub(super) fn hear(control: &OwnedFd) -> Word {
    let mut heard = [0; HEARD_BYTES_MAX];
    // A word that is cut here is said again: whoever wants the supervisor to go does so until it went.
    let len = rustix::io::read(control, &mut heard).unwrap_or(0);
    let heard = heard.get(..len).unwrap_or_default();
    let go = Word::Go.line().as_bytes();
    if heard.is_empty() || heard.windows(go.len()).any(|line| line == go) { Word::Go } else { Word::Forget }
}

fn kill_holder(layout: &Layout) -> Result<()> {
    // A supervisor that is a thread of this very process is not ended that way.
    let Some(found) = holder(layout)?.filter(|pid| *pid != std::process::id()) else { return Ok(()) };
    let Some(pid) = i32::try_from(found).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let Ok(fd) = pidfd_open(pid, PidfdFlags::NONBLOCK) else { return Ok(()) };
    // Still the holder after its handle was opened: the id was not taken by another process.
    if holder(layout)? == Some(found) {
        let _ = pidfd_send_signal(&fd, Signal::KILL);
    }
    Ok(())
}
