//! The directory of backups: what is in it, who may change it, how one appears and goes.
//!
//! Constraints: a backup is there when its directory has its name, which it gets when all of it is on the disk; what is
//! made or removed lies aside. One process at a time makes, restores or removes backups, one proves them; the locks end
//! with their processes, however those end. Only the owner reads what is in it.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tripod::Timestamp;

use super::Part;
use super::files::{hex, sync_dir, write_synced};
use super::manifest::{FORMAT, Manifest, NAME, PROOF, Proof, SUM};
use crate::exit::Stop;

/// For the owner alone.
const PRIVATE: u32 = 0o700;
const ASIDE: &str = ".aside";
const SCRATCH: &str = ".scratch";
const CHECKPOINT: &str = ".checkpoint.json";

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    dir: PathBuf,
}

/// One backup.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    pub(crate) dir: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) proof: Option<Proof>,
}

/// A backup whose manifest is not what was written.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) id: String,
    pub(crate) why: String,
}

/// Held while backups are made, restored, removed, or while one is proven.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// What a lock is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Making, restoring, removing.
    Change,
    /// Proving.
    Prove,
}

impl Store {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes the directory where there is none.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        make_dirs(dir).map_err(|error| {
            let what = format!("there can be no backups in {}: {}", dir.display(), error.root_cause());
            Stop::usage(what, "name a directory that you may write to: `dir` of [backup] in the config")
        })?;
        Ok(Self::new(dir))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the lock; refused where another process has it, and to root where the backups are a user's.
    pub(crate) fn lock(&self, work: Work) -> anyhow::Result<Lock> {
        self.refuse_root()?;
        let what = match work {
            Work::Change => "is making, restoring or removing backups",
            Work::Prove => "is proving a backup",
        };
        self.try_lock(work)?.ok_or_else(|| {
            let what = format!("another `tripod backup` {what} in {}", self.dir.display());
            Stop::refused(what, "wait for it to end, or end it; its lock ends with it").into()
        })
    }

    /// What root makes, the user whose stack it is could not read or remove.
    fn refuse_root(&self) -> anyhow::Result<()> {
        let owner = std::fs::metadata(&self.dir).with_context(|| format!("cannot open {}", self.dir.display()))?.uid();
        if !rustix::process::geteuid().is_root() || owner == 0 {
            return Ok(());
        }
        let what = format!("the backups in {} are those of user {owner}", self.dir.display());
        Err(Stop::refused(what, "run it as that user: what root makes there, the user cannot use").into())
    }

    /// Takes the lock; none where another process has it.
    pub(crate) fn try_lock(&self, work: Work) -> anyhow::Result<Option<Lock>> {
        let path = self.dir.join(match work {
            Work::Change => ".lock",
            Work::Prove => ".verify.lock",
        });
        let file = File::options().create(true).write(true).truncate(false).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Where a new one is made; what a killed process has left there goes. Needs the lock.
    pub(super) fn aside(&self, id: &str) -> anyhow::Result<PathBuf> {
        self.clear_aside()?;
        let dir = self.dir.join(ASIDE).join(id);
        make_dirs(&dir)?;
        Ok(dir)
    }

    /// Removes what a killed process was making or removing. Needs the lock.
    pub(super) fn clear_aside(&self) -> anyhow::Result<()> {
        remove_dir(&self.dir.join(ASIDE))
    }

    /// The servers of a `verify`.
    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.join(SCRATCH)
    }

    /// Says that a checkpoint is open, or may be.
    pub(super) fn checkpoint_note(&self) -> PathBuf {
        self.dir.join(CHECKPOINT)
    }

    /// Writes the manifest beside the files in `aside` and gives the directory its name. When it returns, the backup is
    /// on the disk, also after a loss of power.
    pub(super) fn publish(&self, aside: &Path, manifest: &Manifest) -> anyhow::Result<PathBuf> {
        let text = serde_json::to_vec_pretty(manifest).context("the manifest has no JSON form")?;
        write_synced(&aside.join(NAME), &text)?;
        write_synced(&aside.join(SUM), format!("{}  {NAME}\n", hex(&Sha256::digest(&text))).as_bytes())?;
        // Everything that was written into it, at once: a sync for each of thousands of files takes minutes.
        let dir = File::open(aside).with_context(|| format!("cannot open {}", aside.display()))?;
        rustix::fs::syncfs(&dir).with_context(|| format!("cannot write {} to disk", aside.display()))?;
        let place = self.dir.join(&manifest.id);
        std::fs::rename(aside, &place).with_context(|| format!("cannot move to {}", place.display()))?;
        sync_dir(&self.dir)?;
        Ok(place)
    }

    /// Those that are there, the newest first. A directory that is none of ours is passed over.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<Result<Backup, Broken>>> {
        Ok(self.ids()?.into_iter().map(|id| self.read(&id)).collect())
    }

    /// The newest first.
    fn ids(&self) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        match std::fs::read_dir(&self.dir) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.with_context(|| format!("cannot list {}", self.dir.display()))?.file_name();
                    ids.extend(name.to_str().filter(|name| is_id(name)).map(str::to_owned));
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("cannot list {}", self.dir.display())),
        }
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// The one of this id, or the newest.
    pub(crate) fn pick(&self, id: Option<&str>) -> anyhow::Result<Backup> {
        let found = match id {
            Some(id) if is_id(id) && self.dir.join(id).is_dir() => Some(self.read(id)),
            Some(_) => None,
            None => self.list()?.into_iter().next(),
        };
        match (found, id) {
            (Some(Ok(backup)), _) => Ok(backup),
            (Some(Err(Broken { id, why })), _) => {
                Err(Stop::untrue(format!("the backup {id} is damaged: {why}"), "`tripod backup ls` lists the others")
                    .into())
            }
            (None, Some(id)) => {
                let what = format!("there is no backup `{id}` in {}", self.dir.display());
                Err(Stop::usage(what, "`tripod backup ls` lists them").into())
            }
            (None, None) => {
                let what = format!("there is no backup in {}", self.dir.display());
                Err(Stop::usage(what, "`tripod backup create` makes one").into())
            }
        }
    }

    /// The newest backup, and the newest proof that a restore was as it should be. Reads no manifest.
    pub(crate) fn last(&self) -> anyhow::Result<(Option<String>, Option<Proof>)> {
        let ids = self.ids()?;
        let proof = ids.iter().find_map(|id| proof_in(&self.dir.join(id), id).filter(|proof| proof.ok));
        Ok((ids.into_iter().next(), proof))
    }

    fn read(&self, id: &str) -> Result<Backup, Broken> {
        let dir = self.dir.join(id);
        let broken = |why: String| Broken { id: id.to_owned(), why };
        let file =
            |name: &str| std::fs::read(dir.join(name)).map_err(|e| broken(format!("{name} cannot be read: {e}")));
        let (text, sum) = (file(NAME)?, file(SUM)?);
        if sum != format!("{}  {NAME}\n", hex(&Sha256::digest(&text))).into_bytes() {
            return Err(broken(format!("{NAME} is not what was written (SHA-256)")));
        }
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|e| broken(format!("{NAME} cannot be understood: {e}")))?;
        if manifest.format != FORMAT {
            return Err(broken(format!("it has format {}, this version reads {FORMAT}", manifest.format)));
        }
        if manifest.id != id {
            return Err(broken(format!("it says that it is {}", manifest.id)));
        }
        let paths = manifest.files.iter().map(|file| &file.path).chain(&manifest.dirs);
        if let Some(path) = paths.into_iter().find(|path| !is_below_a_part(path)) {
            return Err(broken(format!("{NAME} names `{path}`, which is in no part of a backup")));
        }
        Ok(Backup { proof: proof_in(&dir, id), dir, manifest })
    }

    /// Takes a backup away in one step, then removes it. Needs the lock.
    pub(super) fn remove(&self, id: &str) -> anyhow::Result<()> {
        let aside = self.dir.join(ASIDE);
        make_dirs(&aside)?;
        let (from, to) = (self.dir.join(id), aside.join(id));
        std::fs::rename(&from, &to).with_context(|| format!("cannot move {} aside", from.display()))?;
        sync_dir(&self.dir)?;
        remove_dir(&to)
    }
}

impl Backup {
    /// Keeps what a `verify` found.
    pub(super) fn keep_proof(&self, proof: &Proof) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(proof).context("the proof has no JSON form")?;
        let beside = self.dir.join(format!(".{PROOF}.new"));
        write_synced(&beside, &text)?;
        let place = self.dir.join(PROOF);
        std::fs::rename(&beside, &place).with_context(|| format!("cannot replace {}", place.display()))?;
        sync_dir(&self.dir)
    }

    /// When it was proven last, where the last `verify` found it whole.
    pub(crate) fn proven_at(&self) -> Option<Timestamp> {
        self.proof.as_ref().filter(|proof| proof.ok).map(|proof| proof.at)
    }
}

/// What is kept beside a backup; one that cannot be read proves nothing.
fn proof_in(dir: &Path, id: &str) -> Option<Proof> {
    let proof: Proof = serde_json::from_slice(&std::fs::read(dir.join(PROOF)).ok()?).ok()?;
    (proof.id == id).then_some(proof)
}

/// Whether a path stays inside of one of the parts, wherever it is unpacked: somebody may have copied the backup from
/// anywhere.
fn is_below_a_part(path: &str) -> bool {
    let mut components = Path::new(path).components();
    let first = matches!(components.next(), Some(Component::Normal(name)) if Part::ALL.iter().any(|part| name == part.as_str()));
    first && components.all(|component| matches!(component, Component::Normal(_)))
}

/// Makes a directory, and those above it, for the owner alone; one that is there stays as it is.
pub(super) fn make_dirs(dir: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(PRIVATE).create(dir);
    made.with_context(|| format!("cannot make {}", dir.display()))
}

/// Removes a directory with all in it; one that is not there is no error.
pub(super) fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).with_context(|| format!("cannot remove {}", dir.display())),
        _ => Ok(()),
    }
}

/// `20261123T190139.123Z-1f0c`: when it was begun, and four digits by chance.
pub(super) fn new_id(now: Timestamp, chance: u16) -> String {
    let text = now.to_string();
    // 2026-11-23T19:01:39.123456789Z, or without a fraction.
    let (seconds, fraction) = text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), "0"));
    let millis: String = format!("{fraction:0<3}").chars().take(3).collect();
    let plain: String = seconds.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{plain}.{millis}Z-{chance:04x}")
}

fn is_id(name: &str) -> bool {
    let shape: String = name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).take(20).collect();
    let rest = name.get(20..).unwrap_or_default();
    shape == "00000000T000000.000Z" && rest.len() == 5 && rest.starts_with('-') && name.is_ascii() && {
        rest.chars().skip(1).all(|c| c.is_ascii_hexdigit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_backup_is_unpacked_outside_of_its_place() {
        for fine in ["questdb", "questdb/db/a~1/x.d", "postgres/base/PG_VERSION", "redis-events/dump.rdb"] {
            assert!(is_below_a_part(fine), "{fine}");
        }
        for wrong in ["", "..", "/etc/x", "questdb/../../x", "questdb/..", "redis-prices/x", "manifest.json"] {
            assert!(!is_below_a_part(wrong), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_its_time_in_order_and_nothing_else_is_one() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let id = new_id(at("2026-11-23T19:01:39.123456789Z"), 0x1f);
        assert_eq!(id, "20261123T190139.123Z-001f");
        assert_eq!(new_id(at("2026-11-23T19:01:39Z"), 7), "20261123T190139.000Z-0007");
        assert_eq!(new_id(at("2026-11-23T19:01:39.5Z"), 7), "20261123T190139.500Z-0007");
        assert!(is_id(&id));
        for wrong in
            ["", ".aside", "20261123T190139.123Z", "20261123T190139.123Z-001", "x0261123T190139.123Z-001f", "../"]
        {
            assert!(!is_id(wrong), "{wrong}");
        }
    }
}
