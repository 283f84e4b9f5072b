//! The monitor that is measured: this program again, in a process of its own, and what the kernel says of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::super::machine::kib;
use crate::drill::pause;

/// `USER_HZ`: the unit of times in `/proc/PID/stat`, 100 on every Linux that Tripod runs on.
const TICKS_PER_SECOND: u64 = 100;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const END_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent {
    /// Of all its threads, its own and the kernel's for it.
    pub(super) cpu: Duration,
    pub(super) rss_bytes: u64,
    pub(super) rss_anon_bytes: u64,
}

/// A running monitor. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Watched {
    child: Child,
    /// `IP:port`
    address: String,
}

fn this_program(data: &Path) -> Command {
    // The kernel's own name for this program, also where it has been replaced on disk since.
    let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let mut command = Command::new(program);
    // Its servers are those of `data`, whatever the environment says.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TRIPOD")) {
        command.env_remove(name);
    }
    command.arg("--data").arg(data).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Brings the bench's own servers to the schema.
pub(super) fn migrate(data: &Path) -> anyhow::Result<()> {
    let status = this_program(data).args(["--quiet", "migrate"]).stdout(Stdio::null()).status();
    ensure!(
        status.context("cannot start `tripod migrate`")?.success(),
        "`tripod migrate` failed on {}",
        data.display()
    );
    Ok(())
}

impl Watched {
    /// On a port that nobody has.
    pub(super) fn start(data: &Path) -> anyhow::Result<Self> {
        let mut command = this_program(data);
        command.args(["--json", "--quiet", "monitor", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let child = command.spawn().context("cannot start the monitor, which is this program itself")?;
        let mut watched = Self { child, address: String::new() };
        let output = watched.child.stdout.take().context("the monitor has no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("cannot hear the monitor")?;
        let said: Value =
            serde_json::from_str(&line).with_context(|| format!("the monitor does not listen: {line}"))?;
        said["address"].as_str().context("the monitor says no address")?.clone_into(&mut watched.address);
        Ok(watched)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The text behind a path, by a connection of its own.
    pub(super) fn ask(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(&self.address).context("the monitor takes no connection")?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        // 1.0: the answer ends with the connection, and has no chunks.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("the monitor does not answer to {path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer to {path}"))?;
        ensure!(head.split(' ').nth(1) == Some("200"), "{path}: {}", head.lines().next().unwrap_or_default());
        Ok(body.to_owned())
    }

    pub(super) fn snapshot(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.ask("/api/snapshot")?)?)
    }

    /// What it has used since its start.
    pub(super) fn spent(&self) -> anyhow::Result<Spent> {
        let read = |name: &str| {
            let path = format!("/proc/{}/{name}", self.child.id());
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}; has the monitor ended?"))
        };
        spent(&read("stat")?, &read("status")?).context("the kernel does not say what the monitor has used")
    }

    /// As an init system ends it.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot end the monitor")?;
        let end = Instant::now() + END_WITHIN;
        loop {
            match self.child.try_wait().context("cannot wait for the monitor")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the monitor did not end well: {status}"),
                None => ensure!(Instant::now() < end, "the monitor did not end within {END_WITHIN:?}"),
            }
            pause(LOOK_EVERY);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Ended already in the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From `/proc/PID/stat` and `/proc/PID/status`.
fn spent(stat: &str, status: &str) -> Option<Spent> {
    // The second field is a name in brackets that may hold anything; utime and stime are the 14th and 15th.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut times = rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    let ticks = times.next()?? + times.next()??;
    let bytes = |name| Some(kib(status, name)? * 1024);
    Some(Spent {
        cpu: Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND),
        rss_bytes: bytes("VmRSS")?,
        rss_anon_bytes: bytes("RssAnon")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_used_is_read_behind_its_name_whatever_that_is() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 3 0 250 50 900 900 20 0 9 0 4711 1000 2000";
        let status = "Name:\ta ) b\nVmRSS:\t  2048 kB\nRssAnon:\t  1024 kB\nRssFile:\t 1024 kB\n";
        let used = Spent { cpu: Duration::from_secs(3), rss_bytes: 2 << 20, rss_anon_bytes: 1 << 20 };
        assert_eq!(spent(stat, status), Some(used));
        assert_eq!((spent("7 (a) S 1 7", status), spent(stat, "Name:\ta\n")), (None, None));
    }

    #[test]
    fn a_process_that_works_is_seen_to_work() {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap();
        let now = || spent(&read("stat"), &read("status")).unwrap();
        let first = now();
        assert!(first.rss_bytes >= first.rss_anon_bytes && first.rss_anon_bytes > 0, "{first:?}");
        // A tenth of a second of work, however long that takes here.
        let mut rounds = 0_u64;
        while now().cpu < first.cpu + Duration::from_millis(100) {
            rounds += 1;
            assert!(rounds < 10_000_000, "its time stands still");
        }
    }
}
