//! From a setting that is being written to the same setting applied in another process.
//!
//! Constraints: the other process is a real one, this program again, with memory and connections of its own; it says what
//! it runs on a pipe. The clock is the writer's alone: from before the write to the line on the pipe, so the write and the
//! way back are in the figure. Its poll is an hour away: only notices count. One change at a time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use serde::Deserialize;
use tripod::Config;
use tripod::postgres::{Login, Postgres};
use tripod::settings::{Change, Settings, SettingsWatch};

use super::machine;
use super::report::{Figure, Report};
use crate::args::Global;
use crate::exit::Exit;

const NAMESPACE: &str = "bench";
/// The name of the other process.
const BOT: &str = "bench-settings";
const KEY: &str = "number";
const POLL_EVERY: Duration = Duration::from_secs(3_600);
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// The namespace as the other process reads it.
#[derive(Debug, Deserialize)]
struct Bench {
    #[serde(default)]
    number: u64,
}

/// Measures.
pub(crate) async fn run(changes: u64, global: &Global) -> anyhow::Result<Report> {
    let config_path = global.config.clone().unwrap_or_else(|| global.data.join(tripod::config::FILE_NAME));
    let config = global.load()?;
    let nanos = written_to_applied(&config, &config_path, changes).await?;
    let micros = |nanos: u64| nanos.div_ceil(1000);
    let postgres = Postgres::open_as(&config.postgres, Login::Admin, WRITE_WITHIN)?;
    let version = postgres
        .call("ask for the version", async |client| {
            Ok(client.query_one("SHOW server_version", &[]).await?.try_get::<_, String>(0)?)
        })
        .await?;
    let p99 = Figure::plain("setting_applied_p99", micros(nanos.value_at_quantile(0.99)), "us");
    let results = vec![
        Figure::plain("setting_applied_p50", micros(nanos.value_at_quantile(0.5)), "us"),
        p99.most(50_000).best(10_000).note(format!("{changes} changes, in another process")),
        Figure::plain("setting_applied_max", micros(nanos.max()), "us"),
    ];
    Ok(Report { results, machine: machine::describe(format!("PostgreSQL {version}"))? })
}

/// Nanoseconds of each of `changes`. `config_path` is what the other process reads; it must name the same servers.
async fn written_to_applied(config: &Config, config_path: &Path, changes: u64) -> anyhow::Result<Histogram<u64>> {
    let store = Settings::new(Postgres::open_as(&config.postgres, Login::Admin, WRITE_WITHIN)?);
    let mut other = Other::start(config_path)?;
    let mut standing = store.get::<u64>(NAMESPACE, KEY).await?;
    let number = standing.as_ref().map_or(0, |setting| setting.value);
    other.says(number)?;
    // Three digits, up to a minute.
    let mut taken = Histogram::new_with_max(60_000_000_000, 3)?;
    for number in number + 1..=number + changes {
        let expected = standing.as_ref().map(|setting| setting.revision);
        let began = Instant::now();
        let change = Change { expected, who: "bench", why: "measuring how long a change takes" };
        standing = Some(store.set(NAMESPACE, KEY, &number, change).await?);
        other.says(number)?;
        taken.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    // It also tells the server what it runs: let it, or `settings bots` would show it behind.
    let end = Instant::now() + WRITE_WITHIN;
    while !store
        .applied()
        .await?
        .iter()
        .any(|one| one.bot == BOT && one.namespace == NAMESPACE && one.behind.is_empty())
    {
        ensure!(Instant::now() < end, "the other process does not say what it runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(taken)
}

/// The other process. Dropping it ends it.
struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Other {
    fn start(config_path: &Path) -> anyhow::Result<Self> {
        // The kernel's own name for this program, also where it has been replaced on disk since.
        let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let mut command = Command::new(program);
        command.arg("bench-settings").arg("--config").arg(config_path);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the other process, which is this program itself")?;
        let output = child.stdout.take().context("the other process has no standard output")?;
        Ok(Self { child, lines: BufReader::new(output).lines() })
    }

    /// Until it says that it runs `number`. It ends by itself when it hears nothing for long, so this ends.
    fn says(&mut self, number: u64) -> anyhow::Result<()> {
        let wanted = number.to_string();
        for line in self.lines.by_ref() {
            if line.context("cannot hear the other process")? == wanted {
                return Ok(());
            }
        }
        bail!("the other process ended before it applied {number}")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Ended already in the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process: says each number that it runs, until nothing has changed for [`WRITE_WITHIN`] or the writer is gone.
pub(crate) async fn watch(global: &Global) -> anyhow::Result<Exit> {
    let mut config = global.load()?;
    BOT.clone_into(&mut config.bot);
    let settings = SettingsWatch::<Bench>::open(&config, NAMESPACE, POLL_EVERY).await?;
    let mut changes = settings.changes();
    let end = Instant::now() + WRITE_WITHIN;
    while !settings.is_listening() {
        ensure!(Instant::now() < end, "nobody listens for settings");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    loop {
        let mut output = std::io::stdout();
        if writeln!(output, "{}", settings.get().number).and_then(|()| output.flush()).is_err() {
            return Ok(Exit::Done);
        }
        match tokio::time::timeout(WRITE_WITHIN, changes.changed()).await {
            Ok(Ok(())) => {}
            _ => return Ok(Exit::Done),
        }
    }
}
