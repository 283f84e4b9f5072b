//! To its place in one step.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use serde::Serialize;
use tripod::Result;

use super::{failed, invalid};

pub(super) fn write_synced(path: &Path, document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(document)
        .map_err(|e| invalid(path.display().to_string(), format!("has no JSON form: {e}")))?;
    let mut file = File::create(path).map_err(|e| failed("create", path, e))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(|e| failed("write", path, e))
}

/// Moves the directory `aside` to `place`. Where something is there, the two change places in one step, and the old one
/// is removed from where the new one was.
pub(super) fn put(aside: &Path, place: &Path) -> Result<()> {
    let parent = place.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| failed("create", parent, e))?;
    sync_dir(aside)?;
    if place.exists() {
        rustix::fs::renameat_with(CWD, aside, CWD, place, RenameFlags::EXCHANGE)
            .map_err(|e| failed("replace", place, e.into()))?;
    } else {
        std::fs::rename(aside, place).map_err(|e| failed("move to", place, e))?;
    }
    // The day's name in the table's directory, and the table's in the archive's.
    sync_dir(parent)?;
    parent.parent().map_or(Ok(()), sync_dir)?;
    match std::fs::remove_dir_all(aside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("remove the old copy in", aside, e)),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| failed("sync", dir, e))
}
