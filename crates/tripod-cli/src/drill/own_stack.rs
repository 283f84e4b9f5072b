//! Servers of a drill's or a bench's own: started for it, broken by it, gone with it. Those of the local stack are never
//! touched.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use tripod::Config;
use tripod_stack::{Options, RunState, ServerName, Servers, UpReport};

use super::scene::remove_dir;
use super::server::{hold, kill_process};

const GONE_WITHIN: Duration = Duration::from_secs(60);

/// A stack in the drill's directory.
#[derive(Debug)]
pub(crate) struct OwnStack {
    options: Options,
    supervisor_pid: u32,
    kept: bool,
}

impl OwnStack {
    pub(crate) fn start(dir: &Path, servers: Servers) -> anyhow::Result<Self> {
        Self::start_with(dir, servers, BTreeMap::new())
    }

    /// The same, with something in the servers' environment.
    pub(super) fn start_with(
        dir: &Path,
        servers: Servers,
        environment: BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        // What a drill that was killed has left.
        if dir.exists() {
            tripod_stack::down(dir, true)?;
            remove_dir(dir)?;
        }
        let mut options = Options::new(dir);
        options.servers = servers;
        options.environment = environment;
        let mut own = Self { options, supervisor_pid: 0, kept: false };
        own.up()?;
        Ok(own)
    }

    /// Starts what does not run, as `tripod up` does.
    pub(super) fn up(&mut self) -> anyhow::Result<UpReport> {
        let report = tripod_stack::up(&self.options)?;
        self.supervisor_pid = report.supervisor_pid;
        Ok(report)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// The file that `up` has written.
    pub(super) fn config_path(&self) -> PathBuf {
        self.dir().join(tripod::config::FILE_NAME)
    }

    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::local(self.dir())?)
    }

    /// The node that the sentinels take for the primary.
    pub(super) fn primary(&self) -> anyhow::Result<ServerName> {
        tripod_stack::events_primary(self.dir())?.context("no sentinel answers")
    }

    /// Whether every server runs, each replica follows, and the sentinels agree who is the primary.
    pub(super) fn is_whole(&self) -> anyhow::Result<bool> {
        let servers = tripod_stack::check(self.dir())?;
        let running = servers.iter().all(|server| server.state == RunState::Running);
        let sentinels = servers.iter().filter(|server| server.name.is_sentinel());
        let views: HashSet<_> = sentinels.map(|server| server.role.as_deref()).collect();
        Ok(running && views.len() <= 1)
    }

    /// kill -9; it is started again at once.
    pub(super) fn kill(&self, server: ServerName) -> anyhow::Result<()> {
        let found = tripod_stack::check(self.dir())?.into_iter().find(|found| found.name == server);
        let pid = found.and_then(|found| found.pid).with_context(|| format!("{server} does not run"))?;
        tripod_stack::forget_endings(self.dir())?;
        kill_process(pid)
    }

    /// kill -9 of the supervisor and of every server, at once: nobody is left who would start one again. When this returns they
    /// are gone, with their ports: on a busy machine that takes a while.
    pub(super) fn kill_all(&self) -> anyhow::Result<()> {
        let mut pids = vec![self.supervisor_pid];
        for server in tripod_stack::check(self.dir())? {
            pids.push(server.pid.with_context(|| format!("{} does not run", server.name))?);
        }
        let held = pids.into_iter().map(hold).collect::<anyhow::Result<Vec<_>>>()?;
        held.iter().try_for_each(|one| pidfd_send_signal(one, Signal::KILL)).context("a server cannot be killed")?;
        let within = Timespec::try_from(GONE_WITHIN).context("the wait has no end")?;
        for one in &held {
            // Readable once its last thread has ended.
            let ended = poll(&mut [PollFd::new(one, PollFlags::IN)], Some(&within)).context("cannot await an end")?;
            ensure!(ended > 0, "a killed server is still there after {GONE_WITHIN:?}");
        }
        Ok(())
    }

    /// Stops it and leaves its data, for somebody to look at; the next run removes them.
    pub(super) fn keep(&mut self) -> anyhow::Result<()> {
        self.kept = true;
        tripod_stack::down(self.dir(), false)?;
        Ok(())
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The next run removes what is left.
        let _ = tripod_stack::down(self.dir(), true);
        let _ = remove_dir(self.dir());
    }
}
