//! The PostgreSQL half of a backup: base backups, the log since, and any moment in between.
//!
//! Constraints: everything here blocks and has a deadline; call it from a thread that may wait (a thread of a runtime may
//! too: the questions to the server run on one of their own). PostgreSQL's own programs do the copying, the checking and
//! the recovery; what is added is that nothing half made has the name of something whole, that a missing file is called by its
//! name, and that the right timeline is followed. It works on the local stack's server: a server that somebody else runs
//! is backed up by whoever runs it.
//!
//! ```text
//! backup    base_backup ─▶ restore_point ─▶ switch_and_await_archive ─▶ collect_wal
//! verify    verify_files ─▶ prepare_restore ─▶ (unpack) ─▶ recover ─▶ put_in_place ─▶ up ─▶ amcheck      on a stack of its own
//! restore   the same on the stack itself; its server runs until put_in_place
//! prune     prune_archive
//! ```
//!
//! Operation. A restore is two steps, so that what goes wrong goes wrong before anything is replaced: `recover` lets the
//! base backup catch up in a directory of its own beside the cluster in place ([`PgPlace::make_restore_dir`] makes it;
//! unpack the base backup there), and `put_in_place` lets the two change places. `up` (or `TestStack::start_server`) starts
//! what is in place. The restored cluster gets the passwords of the stack it is restored into.
//!
//! Timelines. Each restore begins a new timeline, numbered one above all that the archive knows, so give every `wal` list the live archive
//! as well ([`PgPlace::archive`]) where there is one. What was recorded before the restore stays in the archive, on its
//! own timeline: restoring once more to a moment before or after the fork follows the timeline that was in use at that
//! moment, not the newest one. A restored copy on trial has a newer timeline than the original: ask it by [`PgPlace::ask`], or by
//! `Postgres::open_copy`; any other handle would make this process take it for the server that has replaced the original.

mod archive;
mod base;
mod check;
mod restore;
mod timeline;
mod tool;
mod wal;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tripod::postgres::{Client, Failure, Login, Postgres};
use tripod::{Config, config};
use tripod_stack::PostgresPlace;

pub(crate) use archive::{
    Needed, Pruned, RestorePoint, collect_wal, prune_archive, restore_point, switch_and_await_archive,
};
pub(crate) use base::{BaseBackup, base_backup};
pub(crate) use check::{amcheck, verify_files};
pub(crate) use restore::{Recovered, Target, prepare_restore, put_in_place, recover};

/// Where the local stack's PostgreSQL is, and how to log in.
#[derive(Debug, Clone)]
pub(crate) struct PgPlace {
    stack: PostgresPlace,
    config: config::Postgres,
}

impl PgPlace {
    /// Of the stack in `data_dir`; the server need not run.
    pub(crate) fn of(data_dir: &Path) -> anyhow::Result<Self> {
        let stack = PostgresPlace::of(data_dir)?;
        let mut config = Config::local(data_dir)?.postgres;
        let admin = stack.admin();
        config.hosts = vec![format!("127.0.0.1:{}", stack.port())];
        stack.database().clone_into(&mut config.database);
        admin.user.clone_into(&mut config.admin_user);
        config.admin_password = admin.password().to_owned().into();
        (config.admin_password_file, config.tls, config.pool_size) = (None, false, 1);
        Ok(Self { stack, config })
    }

    /// The cluster's directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.stack.data()
    }

    /// The archive of the cluster in place.
    pub(crate) fn archive(&self) -> anyhow::Result<PathBuf> {
        Ok(self.stack.archive()?)
    }

    /// The archive of the cluster with this system identifier, whether or not it is the one in place.
    pub(crate) fn archive_of(&self, system_identifier: &str) -> PathBuf {
        self.stack.archives().join(system_identifier)
    }

    /// `15.18`: of the programs that are used.
    pub(crate) fn version(&self) -> &str {
        self.stack.version()
    }

    /// An empty directory for a base backup that is to recover; what an earlier restore left goes.
    pub(crate) fn make_restore_dir(&self) -> anyhow::Result<PathBuf> {
        Ok(self.stack.make_restore_dir()?)
    }

    /// Asks the server as its superuser, on a thread of its own. It may be a copy: this process does not take it for the
    /// server that has replaced the original.
    pub(super) fn ask<T: Send>(
        &self,
        what: &'static str,
        deadline: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Failure> + Send,
    ) -> anyhow::Result<T> {
        let ask = || -> anyhow::Result<T> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.context("cannot start the runtime")?;
            Ok(runtime.block_on(async {
                let postgres = Postgres::open_copy(&self.config, Login::Admin, deadline)?;
                postgres.call(what, work).await
            })?)
        };
        std::thread::scope(|scope| scope.spawn(ask).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

/// A moment as text in RFC 3339, for manifests.
mod moment {
    use serde::{Deserialize as _, Deserializer, Serializer, de};
    use tripod::Timestamp;

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
