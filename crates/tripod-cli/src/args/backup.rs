//! What `backup` takes.

use clap::{Args, Subcommand};

use crate::backup::Part;
use crate::backup::restore::To;

/// Backups that `prune` keeps where nothing else is said.
const KEEP: usize = 7;

#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Make one: QuestDB, PostgreSQL and Redis events of the local stack as they are at one moment
    Create,
    /// List them, the newest first: when, how large, when proven
    Ls,
    /// Prove one: restore it into servers of its own and compare with what was there (exit 1 where it differs)
    Verify(Chosen),
    /// Put one in place of the stack's data (needs --yes); then sinks deliver again what the journals hold
    Restore(Restore),
    /// Remove old ones: prints what would go, and does it with --yes; never the last proven one
    Prune(Prune),
}

#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Which one [default: the newest]
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) backup: Chosen,
    /// PostgreSQL to a moment after the backup, RFC 3339, or `latest`: as far as its archive reaches [default: the backup's]
    #[arg(long, value_name = "TIME|latest")]
    pub(crate) to: Option<To>,
    /// This store alone; the others stay as they are
    #[arg(long, value_name = "STORE")]
    pub(crate) only: Option<Part>,
    /// Yes, really replace the data that are there
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Keep so many of the newest
    #[arg(long, value_name = "N", default_value_t = KEEP)]
    pub(crate) keep: usize,
    /// And all that are younger than so many days
    #[arg(long, value_name = "D", default_value_t = 0)]
    pub(crate) keep_days: u64,
    /// Yes, really remove them
    #[arg(long)]
    pub(crate) yes: bool,
}
