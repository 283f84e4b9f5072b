//! What a stack remembers between an `up` and the next: one JSON file, readable by its owner alone.
//!
//! Constraints: it is written before anything outside the data directory is made, so that whatever happens afterwards
//! `down --wipe` knows what to remove. It is replaced at once, never edited in place. Nothing in it goes stale by itself:
//! which processes live is asked of the kernel (see `process`).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::{Account, hand_over};
use crate::error::{During as _, Error, Result};
use crate::layout::Layout;
use crate::secrets::{Secret, hex, write_private};
use crate::wait::{Deadline, until};
use crate::{Owner, ServerName, Servers, places};

/// Raised when the meaning of a field changes.
const FORMAT: u32 = 1;

/// In the lock file of a data directory that `up` made.
const HOME_WAS_MADE: &[u8; 5] = b"made\n";

/// How often a lock that somebody holds is tried again.
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// Everything about one stack that outlives a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) format: u32,
    /// Random; the name of the stack on command lines and in directories outside the data directory.
    pub(crate) id: String,
    /// The data directory it was made in.
    pub(crate) home: PathBuf,
    /// Whether `up` made the data directory, so that a wipe removes it when it is empty.
    pub(crate) made_home: bool,
    pub(crate) owner: Owner,
    /// Whether the servers are meant to run: true from `up` to `down`, also over a reboot.
    pub(crate) wanted: bool,
    /// Which of them.
    pub(crate) servers: Servers,
    pub(crate) ports: Ports,
    pub(crate) passwords: Passwords,
    pub(crate) places: places::Places,
    /// The node that starts as the primary where no sentinel runs that would know better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) events_primary: Option<ServerName>,
    /// Who PostgreSQL runs as, where that is not the caller.
    pub(crate) account: Option<Account>,
    pub(crate) programs: Programs,
    /// Whether PostgreSQL's data have passwords of a state that was lost, or lack a login; they get the ones above.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) logins_are_old: bool,
    /// What the servers find in their environment besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) environment: BTreeMap<String, String>,
}

/// Ports on 127.0.0.1; 0 is none yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) questdb_http: u16,
    pub(crate) questdb_pg: u16,
    pub(crate) questdb_metrics: u16,
    pub(crate) postgres: u16,
    pub(crate) redis_prices: u16,
    pub(crate) redis_events: u16,
    /// Two more nodes, three sentinels.
    #[serde(default)]
    pub(crate) events_ha: [u16; 5],
}

impl Ports {
    /// The ports of one server, each with what it is for.
    pub(crate) fn of(&mut self, server: ServerName) -> Vec<(&'static str, &mut u16)> {
        match server {
            ServerName::QuestDb => vec![
                ("HTTP", &mut self.questdb_http),
                ("PostgreSQL protocol", &mut self.questdb_pg),
                ("metrics", &mut self.questdb_metrics),
            ],
            ServerName::Postgres => vec![("connections", &mut self.postgres)],
            ServerName::RedisPrices => vec![("connections", &mut self.redis_prices)],
            ServerName::RedisEvents => vec![("connections", &mut self.redis_events)],
            replicated => vec![("connections", &mut self.events_ha[place(replicated)])],
        }
    }

    /// The port that stands for the server in a list.
    pub(crate) fn first(&self, server: ServerName) -> u16 {
        match server {
            ServerName::QuestDb => self.questdb_http,
            ServerName::Postgres => self.postgres,
            ServerName::RedisPrices => self.redis_prices,
            ServerName::RedisEvents => self.redis_events,
            replicated => self.events_ha[place(replicated)],
        }
    }
}

/// Where the port of a server stands that exists with high availability only.
fn place(server: ServerName) -> usize {
    match server {
        ServerName::RedisEvents2 => 0,
        ServerName::RedisEvents3 => 1,
        ServerName::RedisSentinel1 => 2,
        ServerName::RedisSentinel2 => 3,
        _ => 4,
    }
}

/// One password per login.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Passwords {
    pub(crate) questdb: Secret,
    pub(crate) postgres_bot: Secret,
    pub(crate) postgres_admin: Secret,
    pub(crate) prices_bot: Secret,
    pub(crate) prices_admin: Secret,
    pub(crate) events_bot: Secret,
    pub(crate) events_admin: Secret,
    /// The sentinels' login at the nodes and at each other, and the replicas' at their primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) events_sentinel: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) events_replica: Option<Secret>,
    /// Base backups; none in a state of an older version, until the next `up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) postgres_backup: Option<Secret>,
}

/// Where the programs were found at the last `up`; the supervisor starts exactly these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Programs {
    pub(crate) java: PathBuf,
    pub(crate) questdb_jar: PathBuf,
    /// The class-data archive of this Java and this jar, made by the first start that ends in order.
    pub(crate) questdb_archive: PathBuf,
    /// Directory with `postgres` and `initdb`.
    pub(crate) postgres_bin: PathBuf,
    /// What `postgres --version` says.
    pub(crate) postgres_version: String,
    pub(crate) redis_server: PathBuf,
}

/// A data directory and what is known about it.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) layout: Layout,
    pub(crate) state: State,
}

impl Stack {
    /// Reads the state; none where there is no stack. A data directory that was moved is taken as it is.
    pub(crate) fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.state();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).during("read", &path),
        };
        let wrong = |what: String| Error::State { path: path.clone(), what };
        let mut state: State =
            serde_json::from_str(&text).map_err(|e| wrong(format!("is not what `up` wrote: {e}")))?;
        if state.format != FORMAT {
            return Err(wrong(format!("has format {}, this version reads {FORMAT}", state.format)));
        }
        if state.home != layout.home() {
            if let Some(original) =
                Layout::of(&state.home).ok().filter(|there| id_in(&there.state()).as_ref() == Some(&state.id))
            {
                return Err(Error::Copied { here: layout.home().to_owned(), there: original.home().to_owned() });
            }
            state.places.moved(&state.home, layout, &state.id, state.account.as_ref());
            state.home = layout.home().to_owned();
        }
        if !state.places.are_ours(layout, &state.id) {
            return Err(wrong("names a place that no `up` makes".to_owned()));
        }
        let mut stack = Self { layout: layout.clone(), state };
        if stack.user().is_some() {
            // Everything runs as that user; no other account is taken from a file that the user can write.
            stack.state.account = None;
        }
        Ok(Some(stack))
    }

    /// A new one, not written yet.
    pub(crate) fn fresh(layout: &Layout, made_home: bool, owner: Owner, servers: Servers) -> Result<Self> {
        Self::with_id(layout, hex::<8>()?, made_home, owner, servers)
    }

    /// A new one under an id that the directory had before, so that what is named after it is found again.
    pub(crate) fn with_id(
        layout: &Layout,
        id: String,
        made_home: bool,
        owner: Owner,
        servers: Servers,
    ) -> Result<Self> {
        let account = Account::unprivileged();
        let state = State {
            format: FORMAT,
            home: layout.home().to_owned(),
            made_home,
            owner,
            wanted: false,
            servers,
            ports: Ports::default(),
            passwords: Passwords {
                questdb: Secret::fresh()?,
                postgres_bot: Secret::fresh()?,
                postgres_admin: Secret::fresh()?,
                prices_bot: Secret::fresh()?,
                prices_admin: Secret::fresh()?,
                events_bot: Secret::fresh()?,
                events_admin: Secret::fresh()?,
                events_sentinel: None,
                events_replica: None,
                postgres_backup: Some(Secret::fresh()?),
            },
            events_primary: None,
            places: places::Places::choose(layout, &id, account.as_ref()),
            account,
            programs: Programs::default(),
            logins_are_old: false,
            environment: BTreeMap::new(),
            id,
        };
        Ok(Self { layout: layout.clone(), state })
    }

    /// The normal user whose stack it is, where the caller is root: the servers run as that user.
    pub(crate) fn user(&self) -> Option<Account> {
        Account::owner_of(&self.layout.stack())
    }

    /// Replaces the file.
    pub(crate) fn write(&self) -> Result<()> {
        let path = self.layout.state();
        let text = serde_json::to_string_pretty(&self.state)
            .map_err(|e| Error::State { path: path.clone(), what: format!("cannot be written: {e}") })?;
        write_private(&path, &text, None)
    }
}

fn id_in(path: &Path) -> Option<String> {
    let state: State = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    Some(state.id)
}

/// Held by the one `up` or `down` that works on a data directory; ends with its process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes it, waiting for another holder until the deadline.
    pub(crate) fn take(layout: &Layout, deadline: Deadline) -> Result<Self> {
        let path = layout.lock();
        let taken = until(deadline, LOCK_EVERY, || -> Result<Option<Self>> {
            let file = open_lock(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
                Err(std::fs::TryLockError::Error(e)) => return Err(e).during("lock", &path),
            }
            // A wipe removes the file while others wait for it: then the lock that was got is on nothing.
            let (held, there) = (file.metadata().during("look at", &path)?, std::fs::metadata(&path));
            Ok(there.is_ok_and(|there| there.ino() == held.ino()).then_some(Self { file }))
        })?;
        taken.ok_or_else(|| Error::Busy { path: layout.home().to_owned(), waited: deadline.waited() })
    }

    /// Writes down that the data directory was made, for the time before there is a state and after it was lost.
    pub(crate) fn remember_home_was_made(&mut self, layout: &Layout) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.write_all_at(HOME_WAS_MADE, 0)).during("write", &layout.lock())
    }

    /// Whether that is written down.
    pub(crate) fn home_was_made(&self) -> bool {
        let mut text = [0_u8; HOME_WAS_MADE.len()];
        self.file.read_exact_at(&mut text, 0).is_ok() && text == *HOME_WAS_MADE
    }
}

/// Opens a lock file without changing it, making it where it is missing.
pub(crate) fn open_lock(path: &Path) -> Result<File> {
    open_or_make(path, File::options().read(true).write(true))
}

/// Opens a file, or makes it: then for its owner alone, who is the owner of its directory. A file that was there keeps
/// its owner: it may be a link to one of somebody else's.
pub(crate) fn open_or_make(path: &Path, options: &mut std::fs::OpenOptions) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match options.clone().create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            hand_over(&file, path).during("change the owner of", path)?;
            Ok(file)
        }
        // Or made anew where it was removed in between.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            options.clone().create(true).mode(0o600).open(path).during("open", path)
        }
        Err(e) => Err(e).during("open", path),
    }
}
