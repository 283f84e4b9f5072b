//! Servers of their own, on data that somebody put there first: a backup is proven on them, and made ready on them
//! before it takes the place of a stack's data.
//!
//! Constraints: the servers are children of this process, and a guardian (see `test_stack`) ends them and removes their
//! directory when this process is gone, however it went, until [`Scratch::leave`] says that the directory is to stay.
//! Nothing is forced to disk by the servers: who wants to keep the files syncs them afterwards.
//!
//! ```text
//! lay ─▶ directories, nothing in them ─▶ the caller puts data there ─▶ start ─▶ stop ─▶ dropped: all gone
//!                                                                                └────▶ leave: files stay
//! ```

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::layout::{Layout, PASSABLE, PRIVATE, make_dir, remove_dir};
use crate::secrets::{hex, write_private};
use crate::server::Servers;
use crate::site::Site;
use crate::state::Stack;
use crate::test_stack::{guard, remove_left};
use crate::up::{self, LogEnds};
use crate::wait::Deadline;
use crate::{Owner, ServerName, config_file, down, stop};

/// How often ports are chosen anew.
const PORT_TRIES: usize = 3;

/// See the module. Dropping it ends the servers and removes the directory.
#[derive(Debug)]
pub struct Scratch {
    stack: Stack,
    children: HashMap<ServerName, Child>,
    guardian: Option<(Child, ChildStdin)>,
    more: HashMap<ServerName, String>,
    /// Whether the directory is to stay.
    left: bool,
}

impl Scratch {
    /// Makes the directories of `servers` in a new directory below `parent`, after removing what those that were killed
    /// left there. Nothing runs yet. One at a time in a parent.
    ///
    /// # Errors
    /// As [`crate::up`].
    pub fn lay(parent: &Path, servers: Servers) -> Result<Self> {
        Self::clear(parent);
        make_dir(parent, PASSABLE)?;
        // A name of its own: the guardian of one that was killed may just be removing that one's directory.
        let (layout, _) = Layout::make(&parent.join(hex::<4>()?))?;
        let stack = Stack::fresh(&layout, true, Owner::Test, servers)?;
        stack.write()?;
        let guardian = Some(guard(&stack)?);
        let mut scratch = Self { stack, children: HashMap::new(), guardian, more: HashMap::new(), left: false };
        let stack = &mut scratch.stack;
        up::ready_to_start(stack)?;
        make_dir(&stack.layout.logs(), PRIVATE)?;
        stack.state.places.make(stack.state.account.as_ref(), stack.user().as_ref())?;
        for server in servers.iter().filter(|server| *server != ServerName::Postgres) {
            make_dir(&stack.layout.dir(server), PRIVATE)?;
        }
        stack.write()?;
        config_file::write(stack)?;
        Ok(scratch)
    }

    /// Ends and removes all below `parent`, and `parent` itself; does nothing where nothing is. Best effort: what cannot be
    /// removed stays until the next time.
    pub fn clear(parent: &Path) {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            remove_left(&entry.path());
        }
        let _ = std::fs::remove_dir(parent);
    }

    /// Where everything is. PostgreSQL's cluster is not made: the caller puts one there.
    #[must_use]
    pub fn site(&self) -> Site {
        Site::on(&self.stack)
    }

    /// The log of one server.
    #[must_use]
    pub fn log_path(&self, server: ServerName) -> PathBuf {
        self.stack.layout.log(server)
    }

    /// Lines that stand behind a server's own config from its next start on.
    pub fn configure(&mut self, server: ServerName, lines: &str) {
        self.more.insert(server, lines.to_owned());
    }

    /// Starts `servers` side by side and waits until they answer.
    ///
    /// # Errors
    /// [`Error::Failed`] with the end of its log where one of them ends; [`Error::NotReady`].
    pub fn start(&mut self, servers: Servers, within: Duration) -> Result<()> {
        for attempt in 1.. {
            let logs = LogEnds::of(&self.stack);
            match self.try_start(servers, within) {
                Err(Error::Failed { server, .. }) if attempt < PORT_TRIES && logs.say_in_use(&self.stack, server) => {
                    for server in servers.iter() {
                        self.kill(server)?;
                        for (_, port) in self.stack.state.ports.of(server) {
                            *port = 0;
                        }
                    }
                }
                other => return other,
            }
        }
        Ok(())
    }

    fn try_start(&mut self, servers: Servers, within: Duration) -> Result<()> {
        let held = up::choose_ports(&mut self.stack, &mut Vec::new())?;
        self.stack.state.wanted = true;
        self.stack.write()?;
        config_file::write(&self.stack)?;
        for server in servers.iter() {
            self.stack.prepare(server)?;
            self.change_config(server)?;
        }
        drop(held);
        for server in servers.iter() {
            let child = self.stack.start(server)?;
            self.children.insert(server, child);
        }
        let mut only = self.stack.clone();
        only.state.servers = servers;
        up::await_ready(&only, Deadline::after(within), || {
            let ended =
                |(server, child): (&ServerName, &mut Child)| matches!(child.try_wait(), Ok(Some(_))).then_some(*server);
            let Some(server) = self.children.iter_mut().find_map(ended) else { return Ok(()) };
            let log = self.stack.layout.log(server);
            Err(Error::Failed { server, tail: up::tail(&log), log })
        })
    }

    /// What differs from a stack's own config.
    fn change_config(&self, server: ServerName) -> Result<()> {
        let dir = self.stack.data_path(server);
        let (file, owner) = match server {
            ServerName::QuestDb => (dir.join("conf/server.conf"), None),
            ServerName::Postgres => (dir.join("postgresql.conf"), self.stack.state.account.as_ref()),
            _ => (dir.join("redis.conf"), None),
        };
        let Some(more) = self.more.get(&server) else { return Ok(()) };
        let text =
            std::fs::read_to_string(&file).map_err(|source| Error::Io { doing: "read", path: file.clone(), source })?;
        write_private(&file, &format!("{text}\n{more}\n"), owner)
    }

    /// Ends `servers` in order.
    ///
    /// # Errors
    /// [`Error::StillRunning`].
    pub fn stop(&mut self, servers: Servers) -> Result<()> {
        let names: Vec<ServerName> = servers.iter().collect();
        stop::stop(&self.stack, &names)?;
        names.into_iter().for_each(|server| self.reap(server));
        Ok(())
    }

    fn kill(&mut self, server: ServerName) -> Result<()> {
        stop::kill(&self.stack, server)?;
        self.reap(server);
        Ok(())
    }

    /// Awaits a child that was ended, so that it does not stay as a dead entry in the process table.
    fn reap(&mut self, server: ServerName) {
        if let Some(mut child) = self.children.remove(&server) {
            let _ = child.wait();
        }
    }

    /// Ends what still runs, in order, and leaves the files: from now on [`Scratch::clear`] removes them.
    ///
    /// # Errors
    /// [`Error::StillRunning`].
    pub fn leave(mut self) -> Result<()> {
        self.stop(self.stack.state.servers)?;
        self.left = true;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        // In order where that gives something back: shared memory.
        stop::stop(&self.stack, &[ServerName::Postgres])?;
        stop::kill_rest(&self.stack)?;
        for server in ServerName::ALL {
            self.reap(server);
        }
        if !self.left {
            down::remove(&self.stack)?;
            // With what the caller has put beside.
            let home = self.stack.layout.home();
            remove_dir(home)?;
            let _ = home.parent().map(std::fs::remove_dir);
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let done = self.end().is_ok();
        if let Some((mut guardian, mut line)) = self.guardian.take() {
            // What did not work here the guardian tries; it ends the servers in any case.
            let last_word = match (self.left, done) {
                (true, _) => "keep\n",
                (false, true) => "done\n",
                (false, false) => "",
            };
            let _ = line.write_all(last_word.as_bytes());
            drop(line);
            let _ = guardian.wait();
        }
    }
}
