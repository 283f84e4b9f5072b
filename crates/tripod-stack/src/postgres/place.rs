//! A stack's PostgreSQL for whoever copies it, checks it, or puts a restored cluster in its place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{ADMIN, BACKUP, DATABASE, archive, data, pass_file, recovery};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::server::clean_command;
use crate::state::Stack;
use crate::{Login, ServerName};

/// A program that waits for a server's answer to a login gives up after so many seconds.
const CONNECT_WITHIN_S: &str = "10";

/// Where it is, and how to log in.
#[derive(Clone)]
pub struct PostgresPlace {
    stack: Stack,
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresPlace").field("data", &self.data()).field("port", &self.port()).finish_non_exhaustive()
    }
}

impl PostgresPlace {
    /// Of the stack in `data_dir`.
    ///
    /// # Errors
    /// [`Error::NotOurs`] where there is no stack, or none with a PostgreSQL; [`Error::State`] where what is recorded
    /// cannot be read; [`Error::Missing`] where root looks at a user's stack and finds no programs of its own.
    pub fn of(data_dir: &Path) -> Result<Self> {
        let layout = Layout::of(data_dir)?;
        let stack = Stack::read(&layout)?.filter(|stack| stack.state.servers.postgres);
        let mut stack = stack.ok_or_else(|| Error::NotOurs { path: data_dir.to_owned() })?;
        if stack.user().is_some() {
            // Root runs no program that a file of the user's names.
            stack.find_programs(ServerName::Postgres)?;
        }
        Ok(Self { stack })
    }

    /// The cluster.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        data(&self.stack)
    }

    /// The archives of all clusters that were ever in this place, each named after its system identifier.
    #[must_use]
    pub fn archives(&self) -> PathBuf {
        archive::root(&self.stack)
    }

    /// The archive of the cluster that is in place.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no cluster.
    pub fn archive(&self) -> Result<PathBuf> {
        archive::of(&self.stack, &self.data())
    }

    /// The system identifier of a cluster or of a base backup: a number of its own.
    ///
    /// # Errors
    /// [`Error::Io`] where `cluster` is none.
    pub fn system_identifier(cluster: &Path) -> Result<u64> {
        archive::system_identifier(cluster)
    }

    /// On 127.0.0.1; also in the name of its socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.stack.state.ports.postgres
    }

    /// `15.18`: of its programs.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.stack.state.programs.postgres_version
    }

    /// The superuser.
    #[must_use]
    pub fn admin(&self) -> Login {
        Login::new(ADMIN, self.stack.state.passwords.postgres_admin.clone())
    }

    /// The login for base backups: its name.
    #[must_use]
    pub fn backup_user(&self) -> &'static str {
        BACKUP
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &'static str {
        DATABASE
    }

    /// What the server says.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.stack.layout.log(ServerName::Postgres)
    }

    /// One of PostgreSQL's client programs, run by the caller, with the way to the server and to the passwords in its
    /// environment. It runs in `/`: give it absolute paths.
    #[must_use]
    pub fn client(&self, name: &str) -> Command {
        let mut command = clean_command(self.stack.state.programs.postgres_bin.join(name));
        command.env("PGPASSFILE", pass_file(&self.stack));
        command.env("PGHOST", self.stack.state.places.postgres_sockets());
        command.env("PGPORT", self.port().to_string());
        command.env("PGCONNECT_TIMEOUT", CONNECT_WITHIN_S);
        command
    }

    /// Whether the server's account reads what is in `dir`: it is the caller's own, or in this place.
    #[must_use]
    pub fn reads(&self, dir: &Path) -> bool {
        self.stack.state.account.is_none() || dir.starts_with(&self.stack.state.places.postgres)
    }

    /// An empty directory for a base backup that is to recover. What an earlier restore left there goes.
    ///
    /// # Errors
    /// [`Error::Busy`] while another `up`, `down` or restore is at work; [`Error::DataDir`] where the caller is root and the
    /// stack a user's; [`Error::Io`].
    pub fn make_restore_dir(&self) -> Result<PathBuf> {
        recovery::make_place(&self.stack)
    }

    /// That directory.
    #[must_use]
    pub fn restore_dir(&self) -> PathBuf {
        recovery::place(&self.stack)
    }

    /// Recovers the base backup in [`PostgresPlace::restore_dir`] with the log from `places`, the first of them that has
    /// a file wins; gives what the server said. The stack's own server may run meanwhile. `settings` are those of the
    /// recovery's target.
    ///
    /// When it returns, the cluster is on a timeline of its own, was ended in order, and has this stack's passwords.
    ///
    /// # Errors
    /// [`Error::Recovery`] with what the server said; [`Error::NotReady`] where it takes longer than `deadline`.
    pub fn recover(&self, places: &[PathBuf], settings: &[(&str, String)], deadline: Duration) -> Result<String> {
        recovery::recover(&self.stack, places, settings, deadline)
    }

    /// Ends the stack's PostgreSQL, and the supervisor with it, and puts the recovered cluster in its place. Gives where
    /// the old one is now, if there was one. `up` starts the new one.
    ///
    /// When it returns, a loss of power leaves the new one in place.
    ///
    /// # Errors
    /// [`Error::Setup`] where the cluster in [`PostgresPlace::restore_dir`] has not recovered; nothing is changed then.
    pub fn put_in_place(&self) -> Result<Option<PathBuf>> {
        recovery::put_in_place(&self.stack)
    }
}
