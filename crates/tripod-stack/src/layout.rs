//! Where things are inside a data directory.
//!
//! Constraints: everything that `up` makes is below `DATA/stack`, but for `DATA/tripod.toml` and for two directories
//! that may have to be elsewhere: the sockets' (the kernel takes paths of at most 107 bytes) and PostgreSQL's (its account
//! may not be let through to DATA). Those two are named after the stack's random id, recorded in the state, and removed
//! with it.
//!
//! ```text
//! DATA/tripod.toml                  what a bot and every command read
//! DATA/stack/state.json             ports, passwords, places (0600)
//! DATA/stack/lock                   held by `up` and `down`
//! DATA/stack/supervisor.lock        held by the supervisor, its process id inside
//! DATA/stack/control                fifo: `down` asks the supervisor to go
//! DATA/stack/logs/SERVER.log        standard output and error; at most 8 MiB, and one older
//! DATA/stack/logs/SERVER.ended.json how often it ended by itself, and how
//! DATA/stack/SERVER/                the server's own files
//! DATA/stack/sockets/               unix sockets
//! ```

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ServerName;
use crate::account::hand_over_dir;
use crate::error::{During as _, Error, Result};
use crate::wait::{Deadline, until};

/// The directory inside the data directory.
pub(crate) const STACK_DIR: &str = "stack";

/// Passable for other accounts (PostgreSQL's), readable for none of them.
pub(crate) const PASSABLE: u32 = 0o711;
/// For the owner alone.
pub(crate) const PRIVATE: u32 = 0o700;

const REMOVE_WITHIN: Duration = Duration::from_secs(5);
const REMOVE_EVERY: Duration = Duration::from_millis(20);

/// The paths of one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    home: PathBuf,
}

impl Layout {
    /// Of an existing directory. Symbolic links are resolved, so that two names of one directory are one stack.
    pub(crate) fn of(data_dir: &Path) -> Result<Self> {
        let home = data_dir.canonicalize().during("open", data_dir)?;
        if !home.is_dir() {
            return Err(Error::DataDir { path: data_dir.to_owned(), what: "is a file".to_owned() });
        }
        Ok(Self { home })
    }

    /// Of a directory that is made where it is missing; says whether it was.
    pub(crate) fn make(data_dir: &Path) -> Result<(Self, bool)> {
        let wrong = |what: String| Error::DataDir { path: data_dir.to_owned(), what };
        // It stands in config files, line by line, and in a state that is text.
        let whole = std::path::absolute(data_dir).during("find", data_dir)?;
        match whole.to_str() {
            None => return Err(wrong("has a name that is not UTF-8".to_owned())),
            Some(path) if path.chars().any(char::is_control) => {
                let path = PathBuf::from(path.escape_debug().to_string());
                let what = "has a control character (a line break, a tab) in its path".to_owned();
                return Err(Error::DataDir { path, what });
            }
            Some(_) => {}
        }
        let missing = !data_dir.exists();
        if missing {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(data_dir)
                .map_err(|e| wrong(format!("cannot be made: {e}")))?;
        }
        let layout = Self::of(data_dir)?;
        match std::fs::symlink_metadata(layout.stack()) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(wrong(format!("holds a `{STACK_DIR}` that is not a directory"))),
            // Whoever makes it is whose stack it is.
            Err(_) => make_own_dir(&layout.stack(), PASSABLE, false).map_err(|e| match e {
                Error::Io { source, .. } => wrong(format!("cannot be written to: {source}")),
                other => other,
            })?,
        }
        Ok((layout, missing))
    }

    /// The data directory itself, absolute, without symbolic links.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home.join("tripod.toml")
    }

    pub(crate) fn stack(&self) -> PathBuf {
        self.home.join(STACK_DIR)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.stack().join("state.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.stack().join("lock")
    }

    pub(crate) fn supervisor_lock(&self) -> PathBuf {
        self.stack().join("supervisor.lock")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.stack().join("control")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.stack().join("logs")
    }

    pub(crate) fn log(&self, server: ServerName) -> PathBuf {
        self.logs().join(format!("{server}.log"))
    }

    pub(crate) fn endings(&self, server: ServerName) -> PathBuf {
        self.logs().join(format!("{server}.ended.json"))
    }

    pub(crate) fn supervisor_log(&self) -> PathBuf {
        self.logs().join("supervisor.log")
    }

    /// A server's own directory, where it is not elsewhere.
    pub(crate) fn dir(&self, server: ServerName) -> PathBuf {
        self.stack().join(server.as_str())
    }
}

/// Makes a directory of exactly this mode, whatever the umask is; one that is there keeps its content.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    make_own_dir(path, mode, true)
}

fn make_own_dir(path: &Path, mode: u32, hand_over: bool) -> Result<()> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(path).during("look at", path)?;
            if !found.is_dir() {
                return Err(Error::DataDir {
                    path: path.to_owned(),
                    what: "is in the way: not a directory".to_owned(),
                });
            }
        }
        other => {
            other.during("make directory", path)?;
            if hand_over {
                hand_over_dir(path).during("change the owner of", path)?;
            }
        }
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).during("set the mode of", path)
}

/// Removes a directory with everything in it; one that is not there is no error. Follows no symbolic link. A process
/// that was just killed may have made a last file meanwhile: then it is tried again.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    let removed = until(Deadline::after(REMOVE_WITHIN), REMOVE_EVERY, || match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => Ok(None),
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).during("remove", path),
        _ => Ok(Some(())),
    })?;
    removed.ok_or(std::io::Error::from(ErrorKind::DirectoryNotEmpty)).during("remove", path)
}
