//! Directories that change places, as one step that a kill does not leave half done.
//!
//! Constraints: what is to be moved is written down and on the disk before the first name changes; whoever comes next
//! goes on with it, so a stack is never started on the data of two moments. Each move may be done again: what lies
//! ready goes to its place, what was there goes aside, what is aside already is what was there first. The old data are
//! removed when servers have answered on the new ones.
//!
//! ```text
//! DATA/restore.json   {"placed":false} ─▶ moves ─▶ {"placed":true} ─▶ `up` ─▶ old data removed ─▶ gone
//! DATA/restored.json                          └─▶ when QuestDB's data last took another's place; stays
//! ```

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tripod::Timestamp;
use tripod_stack::Scratch;

use super::files::{sync_dir, write_synced};
use super::manifest::instant;
use super::store::make_dirs;

const RECORD: &str = "restore.json";
const READY: &str = "restore";
const LAST: &str = "restored.json";

/// One file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Move {
    /// What lies ready; nothing where the place is to be empty.
    pub(super) from: Option<PathBuf>,
    /// Where it belongs.
    pub(super) place: PathBuf,
    /// Where what was there goes.
    pub(super) aside: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    backup: String,
    placed: bool,
    /// Whether QuestDB's data are among them.
    #[serde(default)]
    tape: bool,
    moves: Vec<Move>,
}

/// The last time that a backup took the place of QuestDB's data here. What sinks said before is of what was there then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastRestore {
    pub(crate) backup: String,
    #[serde(with = "instant")]
    pub(crate) at: Timestamp,
}

/// None where there was none.
pub(crate) fn last_restore(data: &Path) -> anyhow::Result<Option<LastRestore>> {
    read_json(&data.join(LAST))
}

/// Where a restore makes things ready.
pub(crate) fn ready_dir(data: &Path) -> PathBuf {
    data.join(READY)
}

/// The record of a restore.
pub(crate) fn record_path(data: &Path) -> PathBuf {
    data.join(RECORD)
}

impl Move {
    /// To `place`; what is there goes beside it.
    pub(super) fn to(place: PathBuf, from: Option<PathBuf>) -> Self {
        let mut aside = place.clone().into_os_string();
        aside.push(".before-restore");
        Self { from, place, aside: aside.into() }
    }

    fn carry_out(&self) -> anyhow::Result<()> {
        let ready = match &self.from {
            Some(from) if !exists(from) => return Ok(()),
            from => from.as_ref(),
        };
        if exists(&self.place) {
            if exists(&self.aside) {
                // An interrupted restore put it there; what was there before that is aside.
                if ready.is_some() { remove(&self.place)? } else { return Ok(()) }
            } else {
                std::fs::rename(&self.place, &self.aside)
                    .with_context(|| format!("cannot move {} aside", self.place.display()))?;
            }
        }
        let parent = self.place.parent().unwrap_or(Path::new("/"));
        if let Some(ready) = ready {
            // A server's whole directory may be what was destroyed.
            make_dirs(parent)?;
            put(ready, &self.place)?;
        }
        if exists(parent) { sync_dir(parent) } else { Ok(()) }
    }
}

/// Writes down what is to be moved. From now on the moves are carried out, by this process or by the next one.
pub(super) fn begin(data: &Path, backup: &str, tape: bool, moves: Vec<Move>) -> anyhow::Result<()> {
    write_json(data, RECORD, &Record { backup: backup.to_owned(), placed: false, tape, moves })
}

/// Carries out what is written down, where something is; gives the backup's id. The servers must stand still.
pub(super) fn carry_out(data: &Path) -> anyhow::Result<Option<String>> {
    let Some(mut record) = read(data)?.filter(|record| !record.placed) else { return Ok(None) };
    for one in &record.moves {
        one.carry_out()?;
    }
    if record.tape {
        write_json(data, LAST, &LastRestore { backup: record.backup.clone(), at: Timestamp::now() })?;
    }
    record.placed = true;
    write_json(data, RECORD, &record)?;
    Ok(Some(record.backup))
}

/// Whether moves are written down and not carried out.
pub(super) fn is_begun(data: &Path) -> anyhow::Result<bool> {
    Ok(read(data)?.is_some_and(|record| !record.placed))
}

/// Removes the old data, once servers have answered on the new ones; does nothing where nothing was moved.
pub(super) fn finish(data: &Path) -> anyhow::Result<()> {
    let Some(record) = read(data)?.filter(|record| record.placed) else { return Ok(()) };
    for one in &record.moves {
        remove(&one.aside)?;
    }
    clear_ready(data);
    let path = record_path(data);
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    sync_dir(data)
}

/// Removes what a restore that was killed had made ready, unless it is to be moved.
pub(super) fn clear_ready(data: &Path) {
    Scratch::clear(&ready_dir(data));
}

fn read(data: &Path) -> anyhow::Result<Option<Record>> {
    read_json(&record_path(data))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| format!("{} is damaged", path.display())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write_json(data: &Path, name: &str, content: &impl Serialize) -> anyhow::Result<()> {
    let (path, beside) = (data.join(name), data.join(format!(".{name}.new")));
    write_synced(&beside, &serde_json::to_vec_pretty(content)?)?;
    std::fs::rename(&beside, &path).with_context(|| format!("cannot replace {}", path.display()))?;
    sync_dir(data)
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

/// Gives it its name; on another disk, where a server's data have one of their own, it is copied beside its place first.
fn put(from: &Path, place: &Path) -> anyhow::Result<()> {
    let moved = match std::fs::rename(from, place) {
        Err(e) if e.kind() == ErrorKind::CrossesDevices => {
            let mut beside = place.to_owned().into_os_string();
            beside.push(".coming");
            let beside = PathBuf::from(beside);
            remove(&beside)?;
            copy(from, &beside).with_context(|| format!("cannot copy {} to {}", from.display(), beside.display()))?;
            std::fs::rename(&beside, place).and_then(|()| {
                // Behind the rename: until then it can be copied again.
                if from.is_dir() { std::fs::remove_dir_all(from) } else { std::fs::remove_file(from) }
            })
        }
        other => other,
    };
    moved.with_context(|| format!("cannot move {} to {}", from.display(), place.display()))
}

/// Copies with modes and owners, and forces it to disk.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let found = std::fs::symlink_metadata(from)?;
    if found.is_dir() {
        std::fs::create_dir(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        std::fs::set_permissions(to, found.permissions())?;
    } else {
        std::fs::copy(from, to)?;
    }
    if rustix::process::geteuid().is_root() {
        lchown(to, Some(found.uid()), Some(found.gid()))?;
    }
    std::fs::File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> (tempfile::TempDir, Vec<Move>) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("ready/db/x", "new"), ("ready/pg/x", "new"), ("data/db/x", "old"), ("data/dump", "old")] {
            std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        let at = |path: &str| dir.path().join(path);
        let moves = vec![
            Move::to(at("data/db"), Some(at("ready/db"))),
            // Its place was destroyed.
            Move::to(at("data/pg"), Some(at("ready/pg"))),
            Move::to(at("data/dump"), None),
        ];
        (dir, moves)
    }

    fn text(dir: &Path, path: &str) -> Option<String> {
        std::fs::read_to_string(dir.join(path)).ok()
    }

    /// Stopped after each step of each move, and gone on with: the same end, and the old data are there until the end.
    #[test]
    fn interrupted_anywhere_it_is_gone_on_with() {
        for carried_out in 0..=3 {
            for aside_only in [false, true] {
                let (dir, moves) = scene();
                let data = dir.path();
                begin(data, "b", true, moves.clone()).unwrap();
                for one in moves.iter().take(carried_out) {
                    one.carry_out().unwrap();
                }
                if let Some(one) = moves.get(carried_out).filter(|one| aside_only && exists(&one.place)) {
                    std::fs::rename(&one.place, &one.aside).unwrap();
                }
                assert!(is_begun(data).unwrap());
                assert_eq!(carry_out(data).unwrap().as_deref(), Some("b"));
                assert_eq!(carry_out(data).unwrap(), None);
                assert_eq!(
                    (text(data, "data/db/x"), text(data, "data/pg/x")),
                    (Some("new".into()), Some("new".into()))
                );
                assert_eq!(text(data, "data/dump"), None);
                assert_eq!(text(data, "data/db.before-restore/x").as_deref(), Some("old"));
                assert_eq!(text(data, "data/dump.before-restore").as_deref(), Some("old"));
                assert_eq!(last_restore(data).unwrap().map(|last| last.backup).as_deref(), Some("b"));
                finish(data).unwrap();
                assert_eq!(text(data, "data/db.before-restore/x"), None);
                assert!(!record_path(data).exists());
                finish(data).unwrap();
            }
        }
    }

    #[test]
    fn a_second_restore_over_an_unfinished_one_keeps_the_oldest_aside() {
        let (dir, moves) = scene();
        let data = dir.path();
        begin(data, "one", false, moves.clone()).unwrap();
        carry_out(data).unwrap();
        std::fs::create_dir_all(data.join("ready/db")).unwrap();
        std::fs::write(data.join("ready/db/x"), "newer").unwrap();
        begin(data, "two", false, moves).unwrap();
        carry_out(data).unwrap();
        assert_eq!(last_restore(data).unwrap(), None, "QuestDB's data were not among them");
        assert_eq!(text(data, "data/db/x").as_deref(), Some("newer"));
        assert_eq!(text(data, "data/db.before-restore/x").as_deref(), Some("old"));
    }
}
