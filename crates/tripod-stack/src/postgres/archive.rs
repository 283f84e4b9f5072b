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

const SCRIPT: &str = include_str!("archive-wal.sh");

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
