//! What the server does at best: `pgbench -S`, one lookup by key per transaction, over as many rows; and what `pgbench`
//! makes of the very statement that Tripod looks tokens up with.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use secrecy::ExposeSecret as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::rig::Rig;

/// Rows of one unit of pgbench's scale.
const SCALE_ROWS: u32 = 100_000;
/// Beyond its own time; making a million rows takes some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program, with its tables made.
pub(super) struct PgBench {
    program: PathBuf,
    script: String,
}

impl PgBench {
    /// Makes its tables with `rows` rows, in the bench's own database.
    pub(super) async fn set(rig: &Rig, rows: u32) -> anyhow::Result<Self> {
        let program = program().context("it is not installed; Debian has it in postgresql-15")?;
        let scale = (rows / SCALE_ROWS).max(1).to_string();
        run(rig, &program, &["-i", "-q", "-s", &scale], "", PATIENCE).await?;
        Ok(Self { program, script: script(rows)? })
    }

    /// Transactions of its own lookup, one integer by key: how many a second.
    pub(super) async fn select_only(&self, rig: &Rig, clients: u32, during: Duration) -> anyhow::Result<u64> {
        self.rate(rig, &["-S"], "", clients, during).await
    }

    /// Transactions of Tripod's statement: how many a second.
    pub(super) async fn same_statement(&self, rig: &Rig, clients: u32, during: Duration) -> anyhow::Result<u64> {
        self.rate(rig, &["-f", "-"], &self.script, clients, during).await
    }

    async fn rate(
        &self,
        rig: &Rig,
        what: &[&str],
        script: &str,
        clients: u32,
        during: Duration,
    ) -> anyhow::Result<u64> {
        let (clients, seconds) = (clients.to_string(), during.as_secs().max(1).to_string());
        let arguments = [what, &["-n", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &seconds]].concat();
        let said = run(rig, &self.program, &arguments, script, during + PATIENCE).await?;
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = "));
        let rate = rate.and_then(|rest| rest.split(['.', ' ']).next());
        rate.and_then(|rate| rate.parse().ok()).with_context(|| format!("it says no rate: {said}"))
    }
}

/// Tripod's statement for one mint.
pub(super) fn statement() -> anyhow::Result<&'static str> {
    let mut statements = tripod::tokens::find::statements().into_iter();
    let (_, statement) = statements.find(|(name, _)| *name == "by mint").context("there is no such statement")?;
    Ok(statement)
}

/// One of the tokens that the rig made, whose mints are hashes of numbers, at random.
fn script(rows: u32) -> anyhow::Result<String> {
    let statement =
        statement()?.split_whitespace().collect::<Vec<_>>().join(" ").replace("$1", "sha256(:i::text::bytea)");
    Ok(format!("\\set i random(1, {})\n{statement};\n", rows / 2))
}

async fn run(rig: &Rig, program: &Path, arguments: &[&str], input: &str, within: Duration) -> anyhow::Result<String> {
    let config = &rig.config;
    let (host, port) =
        config.hosts.first().and_then(|host| host.rsplit_once(':')).context("the config names no host")?;
    let mut child = Command::new(program)
        .env_clear()
        .env("PGPASSWORD", config.admin_password.expose_secret())
        .args(arguments)
        .args(["-h", host, "-p", port, "-U", &config.admin_user, &config.database])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.context("it does not read its script")?;
    }
    let Ok(output) = tokio::time::timeout(within, child.wait_with_output()).await else {
        bail!("it did not end within {within:?}");
    };
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// In the path, or where Debian puts the newest.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("pgbench")).find(|file| file.is_file());
    in_path.or_else(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut found: Vec<PathBuf> =
            versions.flatten().map(|entry| entry.path().join("bin/pgbench")).filter(|file| file.is_file()).collect();
        found.sort();
        found.pop()
    })
}
