//! The servers as one shape: names, which of them, and the same few functions for each.
//!
//! Constraints: what differs between the servers stands in `questdb`, `postgres` and `redis`, one file each, with the
//! same functions; nothing else in the crate knows a server's flags or protocol.

use std::fmt;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::error::{During as _, Result};
use crate::state::{Stack, open_or_make};
use crate::{postgres, process, questdb, redis, replication};

/// One of the servers of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerName {
    /// The tape.
    #[serde(rename = "questdb")]
    QuestDb,
    /// Reference data.
    Postgres,
    /// Latest prices: Redis without a disk.
    RedisPrices,
    /// Event streams and signals: Redis with an append-only file. With high availability: the first of three nodes.
    RedisEvents,
    /// The second node for events; which of them is the primary is the sentinels' to say.
    #[serde(rename = "redis-events-2")]
    RedisEvents2,
    /// The third.
    #[serde(rename = "redis-events-3")]
    RedisEvents3,
    /// Watches the nodes and makes another one the primary when it is gone.
    #[serde(rename = "redis-sentinel-1")]
    RedisSentinel1,
    /// The second sentinel.
    #[serde(rename = "redis-sentinel-2")]
    RedisSentinel2,
    /// The third.
    #[serde(rename = "redis-sentinel-3")]
    RedisSentinel3,
}

impl ServerName {
    /// Every name there is, in the order in which they are listed and stopped. A stack without high availability has the
    /// first four: `Servers::ALL.iter()`.
    pub const ALL: [Self; 9] = [
        Self::Postgres,
        Self::QuestDb,
        Self::RedisPrices,
        Self::RedisEvents,
        Self::RedisEvents2,
        Self::RedisEvents3,
        Self::RedisSentinel1,
        Self::RedisSentinel2,
        Self::RedisSentinel3,
    ];

    /// Those that hold the event streams, where they are highly available; else the first alone.
    pub const EVENTS: [Self; 3] = [Self::RedisEvents, Self::RedisEvents2, Self::RedisEvents3];
    /// Those that watch them.
    pub const SENTINELS: [Self; 3] = [Self::RedisSentinel1, Self::RedisSentinel2, Self::RedisSentinel3];

    /// The name of its directory, its log, its place in `--json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuestDb => "questdb",
            Self::Postgres => "postgres",
            Self::RedisPrices => "redis-prices",
            Self::RedisEvents => "redis-events",
            Self::RedisEvents2 => "redis-events-2",
            Self::RedisEvents3 => "redis-events-3",
            Self::RedisSentinel1 => "redis-sentinel-1",
            Self::RedisSentinel2 => "redis-sentinel-2",
            Self::RedisSentinel3 => "redis-sentinel-3",
        }
    }

    /// Whether it holds the event streams.
    #[must_use]
    pub fn is_events(self) -> bool {
        Self::EVENTS.contains(&self)
    }

    /// Whether it is one of the sentinels.
    #[must_use]
    pub fn is_sentinel(self) -> bool {
        Self::SENTINELS.contains(&self)
    }

    /// The kind of server: `questdb`, `postgres` or `redis`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::QuestDb => "questdb",
            Self::Postgres => "postgres",
            _ => "redis",
        }
    }

    /// The signal that ends it in order.
    pub(crate) fn stop_signal(self) -> Signal {
        match self {
            Self::QuestDb => Signal::TERM,
            // "Fast": ends the sessions. SIGTERM would wait for the clients to go.
            Self::Postgres => Signal::INT,
            _ => Signal::TERM,
        }
    }

    /// How long it may take for that before it is killed. QuestDB's first run writes its class archive at the end.
    pub(crate) fn stop_grace(self) -> Duration {
        Duration::from_secs(match self {
            Self::QuestDb => 20,
            Self::Postgres => 15,
            _ => 10,
        })
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// The tape.
    pub questdb: bool,
    /// Reference data.
    pub postgres: bool,
    /// Latest prices.
    pub redis_prices: bool,
    /// Event streams and signals.
    pub redis_events: bool,
    /// The events with high availability: two more nodes and three sentinels.
    #[serde(default)]
    pub events_ha: bool,
}

impl Servers {
    /// One of each.
    pub const ALL: Self =
        Self { questdb: true, postgres: true, redis_prices: true, redis_events: true, events_ha: false };
    /// None; to build a choice from: `Servers { questdb: true, ..Servers::NONE }`.
    pub const NONE: Self =
        Self { questdb: false, postgres: false, redis_prices: false, redis_events: false, events_ha: false };
    /// Three nodes for events and three sentinels, alone.
    pub const EVENTS_HA: Self = Self { redis_events: true, events_ha: true, ..Self::NONE };

    /// One alone.
    #[must_use]
    pub fn only(server: ServerName) -> Self {
        Self {
            questdb: server == ServerName::QuestDb,
            postgres: server == ServerName::Postgres,
            redis_prices: server == ServerName::RedisPrices,
            redis_events: server == ServerName::RedisEvents,
            events_ha: false,
        }
    }

    /// Whether `server` is among them.
    #[must_use]
    pub fn has(self, server: ServerName) -> bool {
        match server {
            ServerName::QuestDb => self.questdb,
            ServerName::Postgres => self.postgres,
            ServerName::RedisPrices => self.redis_prices,
            ServerName::RedisEvents => self.redis_events,
            _ => self.redis_events && self.events_ha,
        }
    }

    /// They, one by one.
    pub fn iter(self) -> impl Iterator<Item = ServerName> {
        ServerName::ALL.into_iter().filter(move |server| self.has(*server))
    }

    /// These and those.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            questdb: self.questdb || other.questdb,
            postgres: self.postgres || other.postgres,
            redis_prices: self.redis_prices || other.redis_prices,
            redis_events: self.redis_events || other.redis_events,
            events_ha: self.events_ha || other.events_ha,
        }
    }
}

/// What a server answers in its own protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It takes logins and answers; its version where the answer held it.
    Ready(Option<String>),
    /// It answers that it is not ready yet.
    Starting(String),
    /// It does not answer, or not as it should.
    Silent(String),
}

impl Stack {
    /// Finds the server's programs and records where they are.
    pub(crate) fn find_programs(&mut self, server: ServerName) -> Result<()> {
        let archives = self.layout.stack();
        match server {
            ServerName::QuestDb => questdb::find(&mut self.state.programs, &archives),
            ServerName::Postgres => postgres::find(&mut self.state.programs),
            _ => redis::find(&mut self.state.programs),
        }
    }

    /// Whether the programs that were recorded are still there.
    pub(crate) fn has_programs(&self, server: ServerName) -> bool {
        let programs = &self.state.programs;
        match server {
            ServerName::QuestDb => programs.java.is_file() && programs.questdb_jar.is_file(),
            ServerName::Postgres => programs.postgres_bin.join("postgres").is_file(),
            _ => programs.redis_server.is_file(),
        }
    }

    /// Makes its directory and its config files as they must be for a start.
    pub(crate) fn prepare(&self, server: ServerName) -> Result<()> {
        match server {
            ServerName::QuestDb => questdb::prepare(self),
            ServerName::Postgres => postgres::prepare(self),
            sentinel if sentinel.is_sentinel() => replication::prepare_sentinel(self, sentinel),
            redis => redis::prepare(self, redis),
        }
    }

    /// Starts it: without waiting for it to be ready, and only where no process of it lives (the caller looked).
    pub(crate) fn start(&self, server: ServerName) -> Result<Child> {
        let mut command = match server {
            ServerName::QuestDb => questdb::command(self)?,
            ServerName::Postgres => postgres::command(self)?,
            replicated if self.is_replicated(replicated) => replication::command(self, replicated),
            redis => redis::command(self, redis),
        };
        let path = self.layout.log(server);
        let log = open_log(&path)?;
        let errors = log.try_clone().during("open", &path)?;
        command.envs(&self.state.environment);
        // A group of its own: what a terminal sends to the caller's group does not reach it.
        command.process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
        command.spawn().during("start", std::path::Path::new(command.get_program()))
    }

    /// Asks it whether it is ready.
    pub(crate) fn probe(&self, server: ServerName, at_most: Duration) -> Probe {
        match server {
            ServerName::QuestDb => questdb::probe(self, at_most),
            ServerName::Postgres => postgres::probe(self, at_most),
            replicated if self.is_replicated(replicated) => replication::probe(self, replicated, at_most),
            redis => redis::probe(self, redis, at_most),
        }
    }

    /// Whether it is a node or a sentinel of events with high availability.
    pub(crate) fn is_replicated(&self, server: ServerName) -> bool {
        self.state.servers.events_ha && (server.is_events() || server.is_sentinel())
    }

    /// Its tag on the command line.
    pub(crate) fn tag(&self, server: ServerName) -> String {
        process::tag(&self.state.id, server)
    }
}

/// A log that only grows at its end, so that the supervisor can cut it while servers write.
pub(crate) fn open_log(path: &std::path::Path) -> Result<File> {
    open_or_make(path, File::options().append(true))
}

/// A command with an environment of its own: nothing of the caller's (a JAVA_TOOL_OPTIONS, a PGDATA) leaks in.
pub(crate) fn clean_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
    command
}
