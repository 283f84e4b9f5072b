//! The steps that decide what a power loss leaves: syncs of ranges, files and names, renames, removals.
//!
//! Constraints: every step of that kind in this crate goes through here, so that the power-loss test can stand in for
//! the disk. Outside of that test each is the plain call.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::mapping::WritableMap;

#[cfg(test)]
use crate::power_tests::shadow;

/// Waits until a range of a mapped file is on the disk.
pub(crate) fn sync_map(map: &WritableMap, path: &Path, offset: usize, len: usize) -> io::Result<()> {
    #[cfg(test)]
    if let Some(answer) = shadow::sync_range(path, offset, len) {
        return answer;
    }
    let _ = path;
    map.sync(offset, len)
}

/// Waits until a file's bytes and length are on the disk.
pub(crate) fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if let Some(answer) = shadow::sync_range(path, 0, usize::MAX) {
        return answer;
    }
    let _ = path;
    file.sync_data()
}

/// Waits until the names in a directory are on the disk.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if let Some(answer) = shadow::sync_dir(path) {
        return answer;
    }
    File::open(path)?.sync_all()
}

/// Gives a file its name, in place of another one where there is one.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    shadow::renaming(from, to);
    fs::rename(from, to)
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    shadow::removing(path);
    fs::remove_file(path)
}
