//! Redis's part: a snapshot of the events, and what the live server holds at that moment.
//!
//! Constraints: the moment of a snapshot is the fork, which BGSAVE answers. What is held is asked for before and after it in one
//! piece, without another client's command in between; where both answers are equal, that is what the snapshot has. The
//! snapshot is Redis's own file with Redis's own checksum; users and passwords are not in it.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use tripod::Timestamp;
use tripod_stack::{ServerName, Site};

use super::manifest::{Held, Stream};
use super::pause;
use crate::exit::Stop;

/// The key of the barrier.
const BARRIER: &str = "tripod:backup:barrier";
/// One command; a look at ten streams of ten thousand entries takes some milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// For another snapshot, or a rewrite of the log, to end; and for ours.
const SAVED_WITHIN: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Every stream: key, length, first and last id, its groups. Blocks the server while it looks.
const LOOK: &str = r"
local function field(list, name)
  for i = 1, #list, 2 do if list[i] == name then return list[i + 1] end end
end
local streams, seen, cursor = {}, {}, '0'
repeat
  local page = redis.call('SCAN', cursor, 'COUNT', 1000, 'TYPE', 'stream')
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    if not seen[key] then
      seen[key] = true
      local info = redis.call('XINFO', 'STREAM', key)
      local first, last = field(info, 'first-entry'), field(info, 'last-entry')
      local groups = {}
      for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
        groups[#groups + 1] = {field(group, 'name'), field(group, 'pending'), field(group, 'last-delivered-id')}
      end
      streams[#streams + 1] = {key, field(info, 'length'), first and first[1] or '', last and last[1] or '', groups}
    end
  end
until cursor == '0'
return {redis.call('DBSIZE'), streams}
";

/// Keys; per stream key, length, first id, last id, groups.
type Looked = (u64, Vec<(String, u64, String, String, Vec<(String, u64, String)>)>);

fn held(looked: Looked) -> Held {
    let (keys, streams) = looked;
    let streams = streams.into_iter().map(|(key, length, first, last, mut groups)| {
        groups.sort_unstable();
        (key, Stream { length, first, last, groups })
    });
    Held { keys, streams: streams.collect() }
}

/// A Redis, as its operator.
pub(super) struct Server {
    connection: redis::Connection,
    dir: PathBuf,
}

/// A snapshot that is on the disk.
pub(super) struct Snapshot {
    /// Open since it was there: a later one takes its name, not its content.
    pub(super) file: File,
    pub(super) at: Timestamp,
    pub(super) held: Held,
    pub(super) exact: bool,
    pub(super) version: String,
}

impl Server {
    /// Logs in to `server` of a stack.
    pub(super) fn open(site: &Site, server: ServerName) -> anyhow::Result<Self> {
        let login = site.admin(server);
        let address = site.address(server);
        let (host, port) = address.rsplit_once(':').context("a stack's address has no port")?;
        let address = ConnectionAddr::Tcp(host.to_owned(), port.parse().context("a port is a number")?);
        let login = RedisConnectionInfo::default()
            .set_username(login.user)
            .set_password(login.password())
            .set_skip_set_lib_name();
        let info = address.into_connection_info().context("an address of the stack is none")?.set_redis_settings(login);
        let client = redis::Client::open(info).context("cannot set up a connection to Redis")?;
        let connection = client.get_connection_with_timeout(ANSWER_WITHIN).map_err(|e| away(server, &e))?;
        connection.set_read_timeout(Some(ANSWER_WITHIN)).context("cannot set a deadline for Redis")?;
        connection.set_write_timeout(Some(ANSWER_WITHIN)).context("cannot set a deadline for Redis")?;
        Ok(Self { connection, dir: site.data_path(server) })
    }

    pub(super) fn write_barrier(&mut self, barrier: &str) -> anyhow::Result<()> {
        redis::cmd("SET").arg(BARRIER).arg(barrier).exec(&mut self.connection).context("Redis took no barrier")
    }

    pub(super) fn has_barrier(&mut self, barrier: &str) -> anyhow::Result<bool> {
        let there: Option<String> =
            redis::cmd("GET").arg(BARRIER).query(&mut self.connection).context("Redis does not answer")?;
        Ok(there.as_deref() == Some(barrier))
    }

    /// What it holds now.
    pub(super) fn look(&mut self) -> anyhow::Result<Held> {
        let looked: Looked = redis::cmd("EVAL").arg(LOOK).arg(0).query(&mut self.connection)?;
        Ok(held(looked))
    }

    /// Has a snapshot made. The answer comes when Redis has forked; [`Server::await_snapshot`] waits for the file.
    pub(super) fn begin_snapshot(&mut self) -> anyhow::Result<(Timestamp, Held, bool)> {
        let end = Instant::now() + SAVED_WITHIN;
        loop {
            let mut pipe = redis::pipe();
            pipe.cmd("EVAL").arg(LOOK).arg(0).cmd("BGSAVE").cmd("EVAL").arg(LOOK).arg(0);
            let answer: redis::RedisResult<(Looked, String, Looked)> = pipe.query(&mut self.connection);
            match answer {
                Ok((before, _, after)) => {
                    let (before, after) = (held(before), held(after));
                    return Ok((Timestamp::now(), before.clone(), before == after));
                }
                // Its own snapshot, or the rewrite of its log, has the only child that it may have.
                Err(error)
                    if error.to_string().contains("in progress") || error.to_string().contains("child process") =>
                {
                    if Instant::now() >= end {
                        return Err(error).context("Redis has had no time for a snapshot");
                    }
                    pause(LOOK_EVERY);
                }
                Err(error) => return Err(error).context("Redis makes no snapshot"),
            }
        }
    }

    /// Waits for the snapshot that was begun and opens it.
    pub(super) fn await_snapshot(&mut self, begun: (Timestamp, Held, bool)) -> anyhow::Result<Snapshot> {
        let end = Instant::now() + SAVED_WITHIN;
        let info = loop {
            let info = self.info("persistence")?;
            if field(&info, "rdb_bgsave_in_progress") == Some("0") {
                break info;
            }
            if Instant::now() >= end {
                bail!("Redis has not finished its snapshot within {SAVED_WITHIN:?}");
            }
            pause(LOOK_EVERY);
        };
        if field(&info, "rdb_last_bgsave_status") != Some("ok") {
            let what = "Redis could not write its snapshot";
            return Err(Stop::untrue(what, "its log says why; mostly its disk is full, or memory is short").into());
        }
        let saved = |server: &mut Self| -> anyhow::Result<u64> {
            redis::cmd("LASTSAVE").query(&mut server.connection).context("Redis does not say when it saved last")
        };
        let before = saved(self)?;
        let path = self.dir.join("dump.rdb");
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        if saved(self)? != before {
            bail!("Redis made another snapshot in the same moment; run it again");
        }
        let server = self.info("server")?;
        let version = field(&server, "redis_version").unwrap_or("?").to_owned();
        let (at, held, exact) = begun;
        Ok(Snapshot { file, at, held, exact, version })
    }

    /// Turns the append-only file on and waits until it holds everything.
    pub(super) fn begin_log(&mut self, within: Duration) -> anyhow::Result<()> {
        redis::cmd("CONFIG").arg("SET").arg("appendonly").arg("yes").exec(&mut self.connection)?;
        let end = Instant::now() + within;
        loop {
            let info = self.info("persistence")?;
            let idle =
                ["aof_rewrite_in_progress", "aof_rewrite_scheduled"].iter().all(|name| field(&info, name) == Some("0"));
            if idle && field(&info, "aof_enabled") == Some("1") {
                if field(&info, "aof_last_bgrewrite_status") != Some("ok") {
                    bail!("Redis could not write its append-only file");
                }
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("Redis has not written its append-only file within {within:?}");
            }
            pause(LOOK_EVERY);
        }
    }

    fn info(&mut self, section: &str) -> anyhow::Result<String> {
        redis::cmd("INFO").arg(section).query(&mut self.connection).context("Redis does not answer INFO")
    }
}

fn away(server: ServerName, error: &redis::RedisError) -> Stop {
    let what = format!("{server} takes no login: {error}");
    Stop { exit: crate::exit::Exit::Unreachable, what, hint: "`tripod status` says more".into() }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
