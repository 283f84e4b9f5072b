//! Where a stack keeps what, and how each server is reached: for whoever works on its files or logs in as its operator.
//!
//! Constraints: read from the recorded state, changes nothing, asks no server. A password is handed out only as a [`Login`],
//! which does not print it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::layout::Layout;
use crate::secrets::Secret;
use crate::server::Servers;
use crate::state::Stack;
use crate::{ServerName, postgres, questdb, redis, replication};

/// A user and a password.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub user: &'static str,
    secret: Secret,
}

impl Login {
    pub(crate) fn new(user: &'static str, secret: Secret) -> Self {
        Self { user, secret }
    }

    /// The password, in the clear.
    #[must_use]
    pub fn password(&self) -> &str {
        self.secret.expose()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Stack {
    /// Where a server keeps its data: QuestDB's root, PostgreSQL's cluster, the directory of a Redis.
    pub(crate) fn data_path(&self, server: ServerName) -> PathBuf {
        match server {
            ServerName::Postgres => self.state.places.postgres.join("data"),
            _ => self.layout.dir(server),
        }
    }

    /// The bot's login; QuestDB has one for both.
    pub(crate) fn bot(&self, server: ServerName) -> Login {
        let passwords = &self.state.passwords;
        let (user, secret) = match server {
            ServerName::QuestDb => (questdb::USER, &passwords.questdb),
            ServerName::Postgres => (postgres::BOT, &passwords.postgres_bot),
            ServerName::RedisPrices => (redis::BOT, &passwords.prices_bot),
            _ => (redis::BOT, &passwords.events_bot),
        };
        Login { user, secret: secret.clone() }
    }

    /// The administrator's login.
    pub(crate) fn admin(&self, server: ServerName) -> Login {
        let passwords = &self.state.passwords;
        let (user, secret) = match server {
            ServerName::QuestDb => (questdb::USER, &passwords.questdb),
            ServerName::Postgres => (postgres::ADMIN, &passwords.postgres_admin),
            ServerName::RedisPrices => (redis::ADMIN, &passwords.prices_admin),
            _ => (redis::ADMIN, &passwords.events_admin),
        };
        Login { user, secret: secret.clone() }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Site {
    stack: Stack,
}

impl Site {
    /// Of the stack in `data_dir`; none where there is no stack.
    ///
    /// # Errors
    /// As [`crate::check`].
    pub fn of(data_dir: &Path) -> Result<Option<Self>> {
        if !data_dir.exists() {
            return Ok(None);
        }
        let layout = Layout::of(data_dir)?;
        Ok(Stack::read(&layout)?.map(|stack| Self { stack }))
    }

    pub(crate) fn on(stack: &Stack) -> Self {
        Self { stack: stack.clone() }
    }

    /// The data directory, absolute, without symbolic links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.stack.layout.home()
    }

    /// Which servers it has.
    #[must_use]
    pub fn servers(&self) -> Servers {
        self.stack.state.servers
    }

    /// Where a server keeps its data: QuestDB's root, PostgreSQL's cluster, the directory of a Redis.
    #[must_use]
    pub fn data_path(&self, server: ServerName) -> PathBuf {
        self.stack.data_path(server)
    }

    /// `127.0.0.1:port`: of HTTP for QuestDB.
    #[must_use]
    pub fn address(&self, server: ServerName) -> String {
        format!("127.0.0.1:{}", self.stack.state.ports.first(server))
    }

    /// The administrator's login.
    #[must_use]
    pub fn admin(&self, server: ServerName) -> Login {
        self.stack.admin(server)
    }

    /// The node that holds the events as the primary: with high availability what the sentinels say, or, where none of
    /// them answers, the one that would be started as it.
    #[must_use]
    pub fn events_primary(&self) -> ServerName {
        let replicated = self.stack.state.servers.events_ha;
        let said = if replicated { replication::primary_now(&self.stack) } else { None };
        said.or(self.stack.state.events_primary.filter(|_| replicated)).unwrap_or(ServerName::RedisEvents)
    }
}
