//! Which backups there are, as their directory tells.
//!
//! Constraints: read-only, and no lock is taken, not even for a moment: a `tripod backup` that starts then would be refused.
//! Manifests are long and never change, so each is read once.
//!
//! ```text
//! backups/ID/manifest.json   finished_at                 a directory with its name is a whole backup
//! backups/ID/proof.json      at, ok                      once it was restored and compared
//! backups/.lock              held while one is made, restored or removed
//! ```

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

/// Bytes of a manifest or a proof at most.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Backups {
    /// By id, and so by time.
    known: BTreeMap<String, Known>,
    /// One is made, restored or removed at this moment; none where the kernel does not tell.
    pub(super) running: Option<bool>,
    /// What cannot be read.
    pub(super) trouble: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    finished_at: Option<String>,
    proven_at: Option<String>,
    /// It was restored, and something differed.
    refuted: bool,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    finished_at: String,
}

#[derive(Debug, Deserialize)]
struct Proof {
    at: String,
    ok: bool,
}

impl Backups {
    /// The newest, and when it was finished.
    pub(super) fn last(&self) -> Option<(&str, Option<&str>)> {
        self.known.last_key_value().map(|(id, known)| (id.as_str(), known.finished_at.as_deref()))
    }

    /// When the newest of the proven ones was proven.
    pub(super) fn last_proven_at(&self) -> Option<&str> {
        self.known.values().rev().find_map(|known| known.proven_at.as_deref())
    }

    /// The newest backup that anybody tried to prove differed.
    pub(super) fn is_refuted(&self) -> bool {
        let tried = self.known.values().rev().find(|known| known.refuted || known.proven_at.is_some());
        tried.is_some_and(|known| known.refuted)
    }

    /// Looks again.
    pub(super) fn look(mut self, dir: &Path) -> Self {
        let mut ids = Vec::new();
        self.trouble = None;
        match std::fs::read_dir(dir) {
            Ok(entries) => ids.extend(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.trouble = Some(format!("cannot list {}: {error}", dir.display())),
        }
        ids.retain(|id| !id.starts_with('.') && dir.join(id).join("manifest.json").is_file());
        self.known.retain(|id, _| ids.contains(id));
        for id in ids {
            let place = dir.join(&id);
            let known = self.known.entry(id).or_default();
            if known.finished_at.is_none() {
                known.finished_at = json::<Manifest>(&place.join("manifest.json")).map(|manifest| manifest.finished_at);
            }
            // A later proof takes the place of an earlier one.
            let proof = json::<Proof>(&place.join("proof.json"));
            known.refuted = proof.as_ref().is_some_and(|proof| !proof.ok);
            known.proven_at = proof.filter(|proof| proof.ok).map(|proof| proof.at);
        }
        self.running = is_locked(&dir.join(".lock"));
        self
    }
}

/// None where it is not there or not as it should be: `tripod backup ls` says why.
fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Whether a process holds a lock on the file, by the kernel's list.
fn is_locked(path: &Path) -> Option<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(file) = std::fs::metadata(path) else { return Some(false) };
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    Some(lists(&locks, rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()), file.ino()))
}

/// `1: FLOCK  ADVISORY  WRITE 1234 08:02:131 0 EOF`
fn lists(locks: &str, major: u32, minor: u32, inode: u64) -> bool {
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().any(|line| line.contains("FLOCK") && line.split_whitespace().any(|word| word == place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_the_newest_proven_one_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let write = |id: &str, name: &str, text: &str| {
            std::fs::create_dir_all(dir.path().join(id)).unwrap();
            std::fs::write(dir.path().join(id).join(name), text).unwrap();
        };
        assert_eq!(Backups::default().look(dir.path()).last(), None);
        assert_eq!(Backups::default().look(&dir.path().join("no")).running, Some(false));
        write("20260101T000000Z", "manifest.json", r#"{"id":"x","finished_at":"2026-01-01T00:00:05Z","files":[]}"#);
        write("20260101T000000Z", "proof.json", r#"{"at":"2026-01-01T01:00:00Z","ok":true}"#);
        write("20260102T000000Z", "manifest.json", r#"{"finished_at":"2026-01-02T00:00:05Z"}"#);
        write("20260102T000000Z", "proof.json", r#"{"at":"2026-01-02T01:00:00Z","ok":false}"#);
        write(".aside", "manifest.json", "{}");
        std::fs::create_dir(dir.path().join("20260103T000000Z")).unwrap();
        let backups = Backups::default().look(dir.path());
        assert_eq!(backups.last(), Some(("20260102T000000Z", Some("2026-01-02T00:00:05Z"))));
        assert_eq!(backups.last_proven_at(), Some("2026-01-01T01:00:00Z"));
        assert!(backups.is_refuted(), "the newest one differs");
        write("20260104T000000Z", "manifest.json", r#"{"finished_at":"2026-01-04T00:00:05Z"}"#);
        write("20260104T000000Z", "proof.json", r#"{"at":"2026-01-04T01:00:00Z","ok":true}"#);
        assert!(!backups.clone().look(dir.path()).is_refuted(), "a newer one does not");
        std::fs::remove_dir_all(dir.path().join("20260104T000000Z")).unwrap();
        std::fs::remove_dir_all(dir.path().join("20260101T000000Z")).unwrap();
        let backups = backups.look(dir.path());
        assert_eq!((backups.last_proven_at(), backups.trouble.clone()), (None, None));
    }

    #[test]
    fn a_lock_is_seen_and_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join(".lock")).unwrap();
        let running = || Backups::default().look(dir.path()).running;
        assert_eq!(running(), Some(false));
        file.lock().unwrap();
        assert_eq!(running(), Some(true));
        drop(file);
        assert_eq!(running(), Some(false));
    }

    #[test]
    fn only_a_lock_on_this_file_counts() {
        let locks = "1: FLOCK  ADVISORY  WRITE 12 08:02:131 0 EOF\n2: POSIX  ADVISORY  WRITE 13 08:02:132 0 EOF\n";
        assert!(lists(locks, 8, 2, 131));
        assert!(!lists(locks, 8, 2, 13) && !lists(locks, 8, 2, 132) && !lists(locks, 8, 3, 131));
    }
}
