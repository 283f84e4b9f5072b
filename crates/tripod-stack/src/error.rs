//! What can go wrong while servers are started and stopped, each in one sentence, each with the next step.
//!
//! Constraints: no text holds a secret. [`Error::hint`] is what the command line prints after `hint:`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ServerName;

/// How much of a long text an error shows.
const LAST_LINES: usize = 12;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program or file that a server needs is not on this machine, or is too old.
    #[error("{}", missing(what, looked, wrong.as_deref()))]
    Missing {
        /// What is missing, with the oldest version taken.
        what: String,
        /// Where it was looked for.
        looked: String,
        /// Why what a variable of the environment names is not it, where one does.
        wrong: Option<String>,
    },
    /// The data directory cannot be used as one.
    #[error("the data directory {path} {what}", path = path.display())]
    DataDir {
        /// The directory as given.
        path: PathBuf,
        /// Why, as the end of the sentence.
        what: String,
    },
    /// A directory was to be wiped that `up` did not make.
    #[error("{path} holds no state of a Tripod stack, so nothing in it was touched", path = path.display())]
    NotOurs {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory is a copy of another one that still exists; both would fight for the same processes.
    #[error("{here} is a copy of the stack in {there}", here = here.display(), there = there.display())]
    Copied {
        /// The data directory as given.
        here: PathBuf,
        /// The one it was made in.
        there: PathBuf,
    },
    /// Another `up` or `down` works on this data directory.
    #[error("another `up`, `down` or restore has been working on {path} for {waited:?}", path = path.display())]
    Busy {
        /// The data directory.
        path: PathBuf,
        /// How long this call waited for it.
        waited: Duration,
    },
    /// There is not enough room for the servers to start.
    #[error("only {free_mib} MiB are free where {path} is, {needed_mib} MiB are needed", path = path.display())]
    DiskFull {
        /// The directory that was looked at.
        path: PathBuf,
        /// Free for this user, in MiB.
        free_mib: u64,
        /// Wanted, in MiB.
        needed_mib: u64,
    },
    /// The config file of the data directory is not one.
    #[error("{path} {what}; it was left as it is", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why, as the end of the sentence.
        what: String,
    },
    /// The recorded state of the stack cannot be used.
    #[error("the recorded state {path} {what}", path = path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why, as the end of the sentence.
        what: String,
    },
    /// A server's data could not be made ready for its first start.
    #[error("{server} could not be set up: {what}")]
    Setup {
        /// The server.
        server: ServerName,
        /// The step and the tool's own words.
        what: String,
    },
    /// A server started and ended again, more than once.
    #[error("{server} does not stay up; its log {log} ends with:\n{tail}", log = log.display())]
    Failed {
        /// The server.
        server: ServerName,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A server did not become ready in time.
    #[error("{server} was not ready after {waited:?} ({why}); its log {log} ends with:\n{tail}", log = log.display())]
    NotReady {
        /// The server.
        server: ServerName,
        /// How long was waited.
        waited: Duration,
        /// What the last question to it gave.
        why: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A cluster did not recover from its base backup and the archive.
    #[error("PostgreSQL did not recover; its log {log} ends with:\n{}", last_lines(said), log = log.display())]
    Recovery {
        /// Its log file.
        log: PathBuf,
        /// What it said, all of it but for what is too long ago.
        said: String,
    },
    /// The background process that keeps the servers running could not be started, or ended.
    #[error("the supervisor ended; its log {log} ends with:\n{tail}", log = log.display())]
    Supervisor {
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// Processes are left that even SIGKILL did not end in time.
    #[error("{count} processes of the stack are still there after SIGKILL: {pids}")]
    StillRunning {
        /// How many.
        count: usize,
        /// Their ids.
        pids: String,
    },
    /// No port was found free.
    #[error("no free port was found on 127.0.0.1 after {tries} tries")]
    NoPort {
        /// How many were tried.
        tries: u32,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {what}")]
    Random {
        /// Its words.
        what: String,
    },
    /// A call to the operating system failed.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// The step, as the middle of the sentence.
        doing: &'static str,
        /// The file, directory or process.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

fn missing(what: &str, looked: &str, wrong: Option<&str>) -> String {
    match wrong {
        Some(wrong) => format!("{looked}, which is not {what}: {wrong}"),
        None => format!("{what} was not found; looked at {looked}"),
    }
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

impl Error {
    /// The next step, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { looked, wrong: Some(_), .. } => {
                let variable = looked.split(' ').next().unwrap_or_default();
                format!("correct {variable}, or unset it: then the usual places are looked at")
            }
            Self::Missing { .. } => {
                "run scripts/install-servers, or name the place in TRIPOD_QUESTDB_JAR, TRIPOD_JAVA, \
                                     TRIPOD_POSTGRES_BIN or TRIPOD_REDIS_SERVER"
                    .to_owned()
            }
            Self::DataDir { .. } => "choose another one with --data DIR".to_owned(),
            Self::NotOurs { path } => format!("look into {} and remove it by hand if it may go", path.display()),
            Self::Copied { here, .. } => format!(
                "use the original, or remove {} in the copy to start with empty servers there",
                here.join(crate::layout::STACK_DIR).display()
            ),
            Self::Busy { .. } => "wait for it to end, or end it; its lock ends with it".to_owned(),
            Self::DiskFull { .. } => {
                "free some space, or choose a directory on another disk with --data DIR".to_owned()
            }
            Self::Config { path, .. } => {
                format!("repair {} or move it away, then run `tripod up` again", path.display())
            }
            Self::State { path, .. } => {
                format!(
                    "remove {} and run `tripod up`: the data stay and get new passwords; or delete them with \
                     `tripod down --wipe --yes`",
                    path.display()
                )
            }
            Self::Setup { .. } => "run `tripod up` again; what was half made is removed first".to_owned(),
            Self::Failed { log, .. } | Self::NotReady { log, .. } | Self::Supervisor { log, .. } => {
                format!("read {}, then run `tripod up` again", log.display())
            }
            Self::Recovery { log, .. } => format!("read {}; nothing was replaced", log.display()),
            Self::StillRunning { .. } => {
                "look at them with `ps -o pid,stat,wchan,args -p`, then run `tripod down` again".to_owned()
            }
            Self::NoPort { .. } => "look at what listens with `ss -ltn`".to_owned(),
            Self::Random { .. } => return None,
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "run as the user who owns it, or choose another directory with --data DIR".to_owned()
                }
                std::io::ErrorKind::StorageFull => "free some space on that disk".to_owned(),
                _ => return None,
            },
        })
    }
}

/// Names the step and the path of an input/output error.
pub(crate) trait During<T> {
    /// Turns an input/output error into ours.
    fn during(self, doing: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> During<T> for Result<T, E> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { doing, path: path.to_owned(), source: source.into() })
    }
}
