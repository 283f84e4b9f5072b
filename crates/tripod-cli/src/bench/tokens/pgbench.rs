//! What the server does at best: `pgbench -S`, one lookup by key per transaction, over as many rows.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use secrecy::ExposeSecret as _;
use tokio::process::Command;

use super::rig::Rig;

/// Rows of one unit of pgbench's scale.
const SCALE_ROWS: u32 = 100_000;
/// Beyond its own time; making a million rows takes some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Transactions a second.
pub(super) async fn select_only(rig: &Rig, rows: u32, clients: u32, during: Duration) -> anyhow::Result<u64> {
    let program = program().context("it is not installed; Debian has it in postgresql-15")?;
    let scale = (rows / SCALE_ROWS).max(1).to_string();
    run(rig, &program, &["-i", "-q", "-s", &scale], PATIENCE).await?;
    let (clients, seconds) = (clients.to_string(), during.as_secs().max(1).to_string());
    let arguments = ["-S", "-n", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &seconds];
    let said = run(rig, &program, &arguments, during + PATIENCE).await?;
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|rest| rest.split(['.', ' ']).next());
    rate.and_then(|rate| rate.parse().ok()).with_context(|| format!("it says no rate: {said}"))
}

async fn run(rig: &Rig, program: &PathBuf, arguments: &[&str], within: Duration) -> anyhow::Result<String> {
    let config = &rig.config;
    let (host, port) =
        config.hosts.first().and_then(|host| host.rsplit_once(':')).context("the config names no host")?;
    let child = Command::new(program)
        .env_clear()
        .env("PGPASSWORD", config.admin_password.expose_secret())
        .args(arguments)
        .args(["-h", host, "-p", port, "-U", &config.admin_user, &config.database])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(output) = tokio::time::timeout(within, child).await else {
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
