//! The archive of PostgreSQL's write-ahead log, beside the cluster: what a base backup needs to restore any moment since.
//!
//! Constraints: each cluster has a directory of its own, named after its system identifier, so that one that was made
//! anew in the same place never meets the old one's files. The settings name everything relative to the data directory:
//! no path of a user's reaches a shell, a data directory may be moved while its server runs, and a copy of a cluster that
//! somebody starts elsewhere cannot write here. Each `up` makes the directories again and gives them back to the account.
//!
//! ```text
//! PLACE/archive-wal.sh                 what archive_command runs
//! PLACE/archive/IDENTIFIER/            finished files: 0000000100000000000000A7, timelines' histories, .backup, .partial
//! PLACE/archive/IDENTIFIER/.NAME.new   one that is being written
//! ```

use std::io::Read as _;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};

use super::{data, durable};
use crate::ServerName;
use crate::error::{During as _, Error, Result};
use crate::layout::{PRIVATE, make_dir};
use crate::secrets::write_private;
use crate::state::Stack;

const SCRIPT: &str = include_str!("../../conf/postgres/archive-wal.sh");

/// The directory of all clusters' archives.
pub(super) fn root(stack: &Stack) -> PathBuf {
    stack.state.places.postgres.join("archive")
}

/// The archive of the cluster in `data`.
pub(super) fn of(stack: &Stack, data: &Path) -> Result<PathBuf> {
    Ok(root(stack).join(system_identifier(data)?.to_string()))
}

/// Makes the archive of the stack's cluster, for its account alone; what is in it stays.
pub(crate) fn make(stack: &Stack) -> Result<()> {
    make_of(stack, &data(stack))
}

/// The same for the cluster in `data`.
pub(super) fn make_of(stack: &Stack, data: &Path) -> Result<()> {
    for dir in [root(stack), of(stack, data)?] {
        make_dir(&dir, PRIVATE).map_err(|error| match error {
            Error::DataDir { path, .. } => Error::Setup {
                server: ServerName::Postgres,
                what: format!("its archive {} is not a directory; move away what is there", path.display()),
            },
            other => other,
        })?;
        if let Some(owner) = stack.state.account.clone().or_else(|| stack.user()) {
            lchown(&dir, Some(owner.uid), Some(owner.gid)).during("change the owner of", &dir)?;
        }
    }
    write_private(&stack.state.places.postgres.join("archive-wal.sh"), SCRIPT, stack.state.account.as_ref())
}

/// The setting that puts finished files there.
pub(super) fn setting(stack: &Stack, data: &Path) -> Result<String> {
    let (identifier, durable) = (system_identifier(data)?, durable(stack));
    Ok(format!("archive_command = '/bin/sh ../archive-wal.sh \"%p\" \"%f\" ../archive/{identifier} {durable}'\n"))
}

/// A cluster's own number: the first eight bytes of its control file, in this machine's order.
pub(super) fn system_identifier(data: &Path) -> Result<u64> {
    let path = data.join("global/pg_control");
    let mut bytes = [0_u8; 8];
    std::fs::File::open(&path).and_then(|mut file| file.read_exact(&mut bytes)).during("read", &path)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::Builder::new().prefix("it's \"odd\" $(x) ").tempdir().unwrap();
            std::fs::create_dir(dir.path().join("an archive")).unwrap();
            Self { dir }
        }

        fn archived(&self) -> PathBuf {
            self.dir.path().join("an archive/0001")
        }

        fn run(&self, content: &[u8], sync: &str) -> Output {
            let (script, file) = (self.dir.path().join("archive-wal.sh"), self.dir.path().join("a file"));
            std::fs::write(&script, SCRIPT).unwrap();
            std::fs::write(&file, content).unwrap();
            let mut command = Command::new("/bin/sh");
            command.arg(&script).arg(&file).arg("0001").arg(self.dir.path().join("an archive")).arg(sync);
            command.output().unwrap()
        }
    }

    #[test]
    fn a_file_is_archived_once_and_whole_and_another_of_its_name_is_refused() {
        let scene = Scene::new();
        let content = [&[7_u8; 5000][..], &[0; 1 << 20][..]].concat();
        // Half of it, of a try that was killed.
        std::fs::write(scene.dir.path().join("an archive/.0001.new"), &content[..100]).unwrap();
        for round in 1..=2 {
            let output = scene.run(&content, "on");
            assert!(output.status.success(), "round {round}: {output:?}");
            assert_eq!(std::fs::read(scene.archived()).unwrap(), content);
            assert_eq!(std::fs::read_dir(scene.dir.path().join("an archive")).unwrap().count(), 1);
        }
        let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(scene.archived()).unwrap());
        assert!(blocks * 512 < 100_000, "zeros take {blocks} blocks");

        for other in [&content[..5000], b"", b"other"] {
            let output = scene.run(other, "off");
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("is there already and differs"), "{output:?}");
        }
        assert_eq!(std::fs::read(scene.archived()).unwrap(), content);
    }

    #[test]
    fn an_archive_that_is_none_fails_and_says_so() {
        let scene = Scene::new();
        let archive = scene.dir.path().join("an archive");
        std::fs::remove_dir(&archive).unwrap();
        for break_it in [|_: &Path| (), |archive: &Path| std::fs::write(archive, "").unwrap()] {
            break_it(&archive);
            let output = scene.run(b"content", "on");
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("is not a directory"), "{output:?}");
        }
    }

    #[test]
    fn a_cluster_is_known_by_its_control_file() {
        let scene = Scene::new();
        std::fs::create_dir(scene.dir.path().join("global")).unwrap();
        std::fs::write(scene.dir.path().join("global/pg_control"), [&7_u64.to_ne_bytes()[..], &[1; 20]].concat())
            .unwrap();
        assert_eq!(system_identifier(scene.dir.path()).unwrap(), 7);
        let path = scene.dir.path().join("nowhere");
        assert!(system_identifier(&path).is_err());
    }
}
