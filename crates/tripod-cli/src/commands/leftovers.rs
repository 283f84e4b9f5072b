//! What bots, drills, benchmarks and interrupted restores left in the stack's own directory; it goes with a wipe.
//!
//! Constraints: nothing is taken from under a bot that runs. Journals elsewhere (`journal.dir`) belong to their bots and
//! stay; a link is never followed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

use crate::backup::swap;

/// The directories that commands and bots make beside the servers' own.
const NAMES: [&str; 4] = ["journals", "drills", "bench", "restore"];

/// The lock files of a journal that somebody holds right now, in the journals of this directory.
pub(super) fn held_lock(data: &Path) -> anyhow::Result<Option<PathBuf>> {
    for bot in directories(&data.join("journals"))? {
        for class in directories(&bot)? {
            let mut locks = vec![class.join("writer.lock")];
            locks.extend(files(&class.join("sinks"))?.filter(|path| path.extension().is_some_and(|e| e == "lock")));
            for lock in locks {
                let Ok(file) = File::open(&lock) else { continue };
                if flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
                    return Ok(Some(lock));
                }
            }
        }
    }
    Ok(None)
}

/// Removes what is left, and the directory itself where nothing else is in it.
pub(super) fn remove(data: &Path) -> anyhow::Result<()> {
    for dir in NAMES.map(|name| data.join(name)).into_iter().filter(|dir| is_directory(dir)) {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let record = swap::record_path(data);
    match fs::remove_file(&record) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", record.display()))
        }
        _ => Ok(()),
    }?;
    // Stays where somebody keeps something else in it.
    let _ = fs::remove_dir(data);
    Ok(())
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

fn directories(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    Ok(files(dir)?.filter(|path| is_directory(path)).collect())
}

fn files(dir: &Path) -> anyhow::Result<impl Iterator<Item = PathBuf> + use<>> {
    let mut paths = Vec::new();
    if is_directory(dir) {
        let failed = || format!("cannot list {}", dir.display());
        for entry in fs::read_dir(dir).with_context(failed)? {
            paths.push(entry.with_context(failed)?.path());
        }
    }
    Ok(paths.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_go_with_a_wipe_but_never_from_under_a_bot() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let class = data.join("journals/bot/critical");
        fs::create_dir_all(class.join("sinks")).unwrap();
        let (writer, sink) = (class.join("writer.lock"), class.join("sinks/main.lock"));
        for lock in [&writer, &sink] {
            let held = File::create(lock).unwrap();
            assert_eq!(held_lock(&data).unwrap(), None);
            flock(&held, FlockOperation::LockExclusive).unwrap();
            assert_eq!(held_lock(&data).unwrap().as_ref(), Some(lock));
        }
        assert_eq!(held_lock(&data).unwrap(), None, "both were let go");

        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        fs::write(elsewhere.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, data.join("drills")).unwrap();
        remove(&data).unwrap();
        assert!(!data.join("journals").exists() && elsewhere.join("kept").exists());
    }
}
