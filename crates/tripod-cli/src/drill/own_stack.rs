//! Redis servers of a drill's or a bench's own: started for it, broken by it, gone with it. The events of the local stack are never
//! touched.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tripod::Config;
use tripod_stack::{Options, RunState, ServerName, Servers};

use super::scene::remove_dir;

/// A stack in the drill's directory.
#[derive(Debug)]
pub(crate) struct OwnStack {
    dir: PathBuf,
}

impl OwnStack {
    pub(crate) fn start(dir: &Path, servers: Servers) -> anyhow::Result<Self> {
        // What a drill that was killed has left.
        if dir.exists() {
            tripod_stack::down(dir, true)?;
            remove_dir(dir)?;
        }
        let mut options = Options::new(dir);
        options.servers = servers;
        let own = Self { dir: dir.to_owned() };
        tripod_stack::up(&options)?;
        Ok(own)
    }

    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::local(&self.dir)?)
    }

    /// The node that the sentinels take for the primary.
    pub(super) fn primary(&self) -> anyhow::Result<ServerName> {
        tripod_stack::events_primary(&self.dir)?.context("no sentinel answers")
    }

    /// Whether every server runs, each replica follows, and the sentinels agree who is the primary.
    pub(super) fn is_whole(&self) -> anyhow::Result<bool> {
        let servers = tripod_stack::check(&self.dir)?;
        let running = servers.iter().all(|server| server.state == RunState::Running);
        let sentinels = servers.iter().filter(|server| server.name.is_sentinel());
        let views: HashSet<_> = sentinels.map(|server| server.role.as_deref()).collect();
        Ok(running && views.len() <= 1)
    }

    /// kill -9; it is started again at once.
    pub(super) fn kill(&self, server: ServerName) -> anyhow::Result<()> {
        let found = tripod_stack::check(&self.dir)?.into_iter().find(|found| found.name == server);
        let pid = found.and_then(|found| found.pid).with_context(|| format!("{server} does not run"))?;
        tripod_stack::forget_endings(&self.dir)?;
        super::server::kill_process(pid)
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        // The next run removes what is left.
        let _ = tripod_stack::down(&self.dir, true);
        let _ = remove_dir(&self.dir);
    }
}
