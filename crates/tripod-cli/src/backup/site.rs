//! The stack that is backed up, and put back: its servers, their files, their logins.
//!
//! Constraints: a backup copies files, so it is of the stack in the data directory, and of no other server that a config
//! may name; one that names another is refused. The directory of backups lies in none that is backed up.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tripod::Config;
use tripod::config::RedisMode;
use tripod::tape::questdb::QuestDbHttp;
use tripod_stack::{RunState, ServerName, Site};

use crate::args::Global;
use crate::exit::{Exit, Stop};

/// One statement, CHECKPOINT CREATE among them: it has the kernel write everything back first.
const STATEMENT_WITHIN: Duration = Duration::from_mins(2);

/// See the module.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) config: Config,
    pub(crate) site: Site,
}

impl Ground {
    /// The stack of the command's data directory. The config must name its servers and no others.
    pub(crate) fn of(global: &Global) -> anyhow::Result<Self> {
        let config = global.load()?;
        let hint = "leave --config out and give the stack's directory with --data; servers of others are backed up by \
                    their own means";
        let data = global.data.as_path();
        let Some(site) = Site::of(data)? else {
            return Err(Stop::refused(format!("there is no local stack in {}", data.display()), hint).into());
        };
        refuse_root(site.data_dir())?;
        let servers = site.servers();
        if !(servers.questdb && servers.postgres && servers.redis_events) {
            let what = format!("the stack in {} has not all of QuestDB, PostgreSQL and Redis events", data.display());
            return Err(Stop::usage(what, "`tripod up` starts all of them").into());
        }
        let address = |server| site.address(server);
        let questdb = config.questdb.iter().all(|server| server.http == address(ServerName::QuestDb));
        let postgres = config.postgres.hosts.iter().all(|host| *host == address(ServerName::Postgres));
        let events = &config.redis.events;
        let events = events.mode == RedisMode::Sentinel
            || events.addresses.iter().all(|one| *one == address(ServerName::RedisEvents));
        if !(questdb && postgres && events) {
            let what = format!("the config names servers that are not those of the stack in {}", data.display());
            return Err(Stop::refused(what, hint).into());
        }
        let ground = Self { config, site };
        ground.refuse_backups_inside()?;
        Ok(ground)
    }

    /// Where the backups are.
    pub(crate) fn backups(&self) -> &Path {
        &self.config.backup.dir
    }

    fn refuse_backups_inside(&self) -> anyhow::Result<()> {
        let backups = resolved(self.backups())?;
        for server in self.site.servers().iter() {
            let data = resolved(&self.site.data_path(server))?;
            if backups.starts_with(&data) {
                let what = format!("`backup.dir` {} is inside the data of {server}", backups.display());
                return Err(Stop::usage(what, "choose a directory elsewhere, best on another disk").into());
            }
        }
        Ok(())
    }

    /// Fails with the servers that do not answer.
    pub(crate) fn must_run(&self, servers: &[ServerName]) -> anyhow::Result<()> {
        let found = tripod_stack::check(self.site.data_dir())?;
        let away = found.iter().find(|one| servers.contains(&one.name) && one.state != RunState::Running);
        let Some(away) = away else { return Ok(()) };
        let what = format!("{} does not answer: {}", away.name, away.detail);
        Err(Stop { exit: Exit::Unreachable, what, hint: "`tripod up` starts or heals the local stack".into() }.into())
    }

    pub(crate) fn questdb(&self) -> anyhow::Result<QuestDbHttp> {
        questdb_of(&self.config)
    }
}

/// A stack that a user has made is that user's: what root would put into it, its servers could not write to.
fn refuse_root(data: &Path) -> anyhow::Result<()> {
    let dir = data.join("stack");
    let owner = std::fs::metadata(&dir).with_context(|| format!("cannot open {}", dir.display()))?.uid();
    if !rustix::process::geteuid().is_root() || owner == 0 {
        return Ok(());
    }
    let what = format!("the stack in {} is that of user {owner}", data.display());
    Err(Stop::refused(what, "run it as that user").into())
}

/// The config of servers of a backup's own. The environment speaks of the stack's, not of these.
pub(super) fn scratch_config(site: &Site) -> anyhow::Result<Config> {
    Ok(Config::load_with(&site.data_dir().join(tripod::config::FILE_NAME), std::iter::empty())?)
}

/// The first QuestDB of a config, over HTTP.
pub(super) fn questdb_of(config: &Config) -> anyhow::Result<QuestDbHttp> {
    let server = config.questdb.first().context("the config names no QuestDB")?;
    Ok(QuestDbHttp::new(server, STATEMENT_WITHIN)?)
}

/// A path without links, also where its end is not there yet.
fn resolved(path: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    let mut missing = Vec::new();
    let mut there = path.as_path();
    loop {
        if let Ok(found) = there.canonicalize() {
            return Ok(missing.iter().rev().fold(found, |path, part: &Component<'_>| path.join(part)));
        }
        match (there.components().next_back(), there.parent()) {
            (Some(last), Some(parent)) => {
                missing.push(last);
                there = parent;
            }
            _ => return Ok(path.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_resolved_though_its_end_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("data")).unwrap();
        std::os::unix::fs::symlink(real.join("data"), real.join("link")).unwrap();
        assert_eq!(resolved(&real.join("link/a/b")).unwrap(), real.join("data/a/b"));
        assert_eq!(resolved(&real.join("link")).unwrap(), real.join("data"));
    }
}
