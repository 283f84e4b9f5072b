//! The two directories that may have to be outside the data directory.
//!
//! Constraints: a unix socket's path has at most 107 bytes; PostgreSQL's account must be able to enter the directories
//! above its own. Whatever is chosen is recorded before it is made, and is removed by a wipe only if its name holds the
//! stack's id and it is a real directory: a damaged state file must not lead a wipe anywhere else.

use std::os::unix::fs::{MetadataExt as _, chown, lchown};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ServerName;
use crate::account::Account;
use crate::error::{During as _, Error, Result};
use crate::layout::{Layout, PASSABLE, PRIVATE, make_dir, remove_dir};

/// The longest socket path that the kernel takes.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The longest name below the sockets' directory, with PostgreSQL's own directory and the slash before it.
const SOCKET_NAME_BYTES: usize = "/postgres/.s.PGSQL.65535.lock".len();
/// Where PostgreSQL's directory goes when its account cannot enter the data directory.
const VAR_LIB: &str = "/var/lib/tripod";

/// Where the sockets and PostgreSQL are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Places {
    pub(crate) sockets: PathBuf,
    pub(crate) postgres: PathBuf,
}

impl Places {
    /// The data directory where possible, else the nearest place that works.
    pub(crate) fn choose(layout: &Layout, id: &str, account: Option<&Account>) -> Self {
        let enters = |dir: &Path| account.is_none_or(|account| account.can_enter(dir));
        let here = enters(&layout.stack());
        let own = layout.stack().join("sockets");
        let sockets = if here && own.as_os_str().len() + SOCKET_NAME_BYTES <= SOCKET_PATH_BYTES_MAX {
            own
        } else {
            runtime_dir(&enters).join(format!("tripod-{id}"))
        };
        let postgres =
            if here { layout.dir(ServerName::Postgres) } else { Path::new(VAR_LIB).join(format!("tripod-{id}")) };
        Self { sockets, postgres }
    }

    /// Follows a data directory that was moved from `from`: what is inside it moved with it; the sockets, which are made
    /// anew at each start, are placed anew.
    pub(crate) fn moved(&mut self, from: &Path, layout: &Layout, id: &str, account: Option<&Account>) {
        if let Ok(inside) = self.postgres.strip_prefix(from) {
            self.postgres = layout.home().join(inside);
        }
        if self.sockets.starts_with(from) {
            self.sockets = Self::choose(layout, id, account).sockets;
        }
    }

    /// Those outside the data directory.
    pub(crate) fn outside(&self, layout: &Layout) -> Vec<&Path> {
        [&self.sockets, &self.postgres]
            .into_iter()
            .map(PathBuf::as_path)
            .filter(|p| !p.starts_with(layout.home()))
            .collect()
    }

    /// Whether both are in the data directory or named after the stack: root must not be led anywhere by a user's state.
    pub(crate) fn are_ours(&self, layout: &Layout, id: &str) -> bool {
        [&self.sockets, &self.postgres].into_iter().all(|place| {
            let plain = !place.components().any(|part| part == Component::ParentDir);
            let named = place.file_name().is_some_and(|name| name.to_str() == Some(&format!("tripod-{id}")));
            plain && (named || place.starts_with(layout.stack()))
        })
    }

    /// Makes both, owned as they must be: by the caller, or by the `user` whose stack it is.
    pub(crate) fn make(&self, account: Option<&Account>, user: Option<&Account>) -> Result<()> {
        if self.postgres.starts_with(VAR_LIB) {
            std::fs::create_dir_all(VAR_LIB).during("make directory", Path::new(VAR_LIB))?;
        }
        make_dir(&self.sockets, PASSABLE)?;
        // In a directory that everybody writes to, somebody could have been faster.
        let owner = std::fs::symlink_metadata(&self.sockets).during("look at", &self.sockets)?.uid();
        let caller = rustix::process::geteuid().as_raw();
        if let Some(user) = user.filter(|_| owner == caller) {
            lchown(&self.sockets, Some(user.uid), Some(user.gid)).during("change the owner of", &self.sockets)?;
        } else if owner != caller && user.is_none_or(|user| user.uid != owner) {
            return Err(Error::DataDir { path: self.sockets.clone(), what: format!("belongs to user {owner}") });
        }
        for dir in [self.postgres.clone(), self.postgres_sockets()] {
            make_dir(&dir, PRIVATE)?;
            if let Some(account) = account {
                chown(&dir, Some(account.uid), Some(account.gid)).during("change the owner of", &dir)?;
            }
        }
        Ok(())
    }

    /// PostgreSQL's own directory of sockets, since its account must write there.
    pub(crate) fn postgres_sockets(&self) -> PathBuf {
        self.sockets.join("postgres")
    }

    /// A Redis socket.
    pub(crate) fn redis_socket(&self, server: ServerName) -> PathBuf {
        self.sockets.join(format!("{server}.sock"))
    }
}

/// A short directory for sockets: the user's own for such things, else the temporary one.
fn runtime_dir(enters: &dyn Fn(&Path) -> bool) -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let fits = |dir: &PathBuf| dir.is_absolute() && dir.is_dir() && dir.as_os_str().len() < 48 && enters(dir.as_path());
    own.filter(fits).unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Removes a directory outside the data directory that the stack `id` made.
pub(crate) fn remove_outside(path: &Path, id: &str) -> Result<()> {
    let named = path.file_name().is_some_and(|name| name.to_str() == Some(&format!("tripod-{id}")));
    match std::fs::symlink_metadata(path) {
        Ok(found) if named && found.is_dir() => remove_dir(path)?,
        Ok(_) => return Err(Error::DataDir { path: path.to_owned(), what: "is not one that `up` made".to_owned() }),
        Err(_) => return Ok(()),
    }
    if path.starts_with(VAR_LIB) {
        // Fails while another stack is in it, and should.
        let _ = std::fs::remove_dir(VAR_LIB);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_data_directory_gets_a_short_place_for_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("a".repeat(90));
        let (layout, made) = Layout::make(&long).unwrap();
        assert!(made);
        let places = Places::choose(&layout, "00ff", None);
        assert!(places.sockets.as_os_str().len() + SOCKET_NAME_BYTES <= SOCKET_PATH_BYTES_MAX);
        assert_eq!(places.outside(&layout), [places.sockets.as_path()]);
        assert_eq!(places.postgres, layout.dir(ServerName::Postgres));

        let (layout, _) = Layout::make(dir.path()).unwrap();
        assert!(Places::choose(&layout, "00ff", None).outside(&layout).is_empty());
    }

    #[test]
    fn a_state_names_no_other_places() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, _) = Layout::make(dir.path()).unwrap();
        let right = Places::choose(&layout, "00ff", None);
        assert!(right.are_ours(&layout, "00ff"));
        assert!(Places { sockets: "/tmp/tripod-00ff".into(), ..right.clone() }.are_ours(&layout, "00ff"));
        for wrong in [PathBuf::from("/etc"), layout.stack().join("../../etc"), "/tmp/tripod-00aa".into()] {
            assert!(!Places { postgres: wrong, ..right.clone() }.are_ours(&layout, "00ff"));
        }
    }

    #[test]
    fn a_wipe_is_not_led_astray() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, link, ours) =
            (dir.path().join("theirs"), dir.path().join("tripod-00aa"), dir.path().join("tripod-00ff"));
        std::fs::create_dir(&theirs).unwrap();
        std::fs::create_dir(&ours).unwrap();
        std::os::unix::fs::symlink(&theirs, &link).unwrap();
        assert!(remove_outside(&theirs, "00ff").is_err());
        assert!(remove_outside(&link, "00aa").is_err());
        assert!(theirs.is_dir());
        remove_outside(&ours, "00ff").unwrap();
        assert!(!ours.exists());
        remove_outside(&ours, "00ff").unwrap();
    }
}
