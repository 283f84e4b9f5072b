//! A streaming standby of a test's PostgreSQL: for what only a failover shows.
//!
//! Constraints: made by `pg_basebackup -R` from the running primary, with an address of its own. It ends with its
//! handle; where that is never dropped, with the test's guardian, which knows the stack's id on its command line. The
//! stack itself does not take it for its server: freezing or killing that one leaves this one alone.

use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{During as _, Error, Result};
use crate::ports::Held;
use crate::postgres::{BACKUP, says_ready, tool};
use crate::secrets::{Secret, write_private};
use crate::server::open_log;
use crate::state::Stack;
use crate::wait::{Deadline, until};
use crate::{ServerName, TestStack};

const READY_WITHIN: Duration = Duration::from_secs(60);
const END_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// See the module.
pub struct Standby {
    stack: Stack,
    data: PathBuf,
    port: u16,
    child: Child,
}

impl fmt::Debug for Standby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standby").field("data", &self.data).field("port", &self.port).finish_non_exhaustive()
    }
}

impl TestStack {
    /// Copies the running PostgreSQL and starts the copy as its streaming standby. One at a time.
    ///
    /// # Errors
    /// [`Error::Setup`] with the words of `pg_basebackup`; [`Error::Failed`] where it does not answer.
    pub fn start_standby(&self) -> Result<Standby> {
        Standby::start(self.stack())
    }
}

impl Standby {
    fn start(stack: &Stack) -> Result<Self> {
        let data = stack.state.places.postgres.join("standby");
        let sockets = stack.state.places.postgres_sockets();
        let held = Held::find()?;
        let port = held.number()?;
        let mut copy = tool(stack, "pg_basebackup");
        copy.env("PGPASSWORD", stack.state.passwords.postgres_backup.as_ref().map_or("", Secret::expose));
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-U", BACKUP]).arg("-h").arg(&sockets);
        copy.arg("-p").arg(stack.state.ports.postgres.to_string()).arg("-D").arg(&data);
        run(copy)?;
        let conf = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&conf).during("read", &conf)?;
        // A later line wins.
        write_private(&conf, &format!("{text}port = {port}\n"), stack.state.account.as_ref())?;
        let log = stack.layout.logs().join("postgres-standby.log");
        let file = open_log(&log)?;
        let mut command = tool(stack, "postgres");
        command.arg("-D").arg(&data).arg("-c").arg(format!("cluster_name={}", tag(stack)));
        command.stdin(Stdio::null()).stdout(file.try_clone().during("open", &log)?).stderr(file);
        drop(held);
        let child = command.process_group(0).spawn().during("start", Path::new(command.get_program()))?;
        let mut standby = Self { stack: stack.clone(), data, port, child };
        standby.await_ready(&log)?;
        Ok(standby)
    }

    fn await_ready(&mut self, log: &Path) -> Result<()> {
        let ready = until(Deadline::after(READY_WITHIN), LOOK_EVERY, || {
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            Ok::<_, std::convert::Infallible>(if ended { Some(false) } else { says_ready(self.port).then_some(true) })
        });
        match ready {
            Ok(Some(true)) => Ok(()),
            _ => {
                let tail = crate::up::tail(log);
                Err(Error::Failed { server: ServerName::Postgres, tail, log: log.to_owned() })
            }
        }
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes it a primary; returns when it takes writes.
    ///
    /// # Errors
    /// [`Error::Setup`] with the words of `pg_ctl`.
    pub fn promote(&self) -> Result<()> {
        let mut promote = tool(&self.stack, "pg_ctl");
        promote.args(["promote", "-w", "-t", "60", "-s", "-D"]).arg(&self.data);
        run(promote)
    }

    fn signal(&self, signal: Signal) {
        for pid in processes(&tag(&self.stack)) {
            // One that is gone meanwhile is no error.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        // At once, and giving its shared memory back.
        self.signal(Signal::QUIT);
        let _ = until(Deadline::after(END_WITHIN), LOOK_EVERY, || {
            Ok::<_, std::convert::Infallible>(matches!(self.child.try_wait(), Ok(Some(_))).then_some(()))
        });
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// On its command line and in its processes' titles. The guardian looks for the part before the last word.
fn tag(stack: &Stack) -> String {
    format!("tripod-{}-standby", stack.state.id)
}

fn processes(tag: &str) -> Vec<Pid> {
    let carries = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&line);
        text.split(['\0', ' ']).any(|word| word.trim_end_matches(':').trim_start_matches("cluster_name=") == tag)
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(carries)
        .filter_map(Pid::from_raw)
        .collect()
}

fn run(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().during("start", Path::new(command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let what = format!("{}: {}", command.get_program().display(), words.trim());
    Err(Error::Setup { server: ServerName::Postgres, what })
}
