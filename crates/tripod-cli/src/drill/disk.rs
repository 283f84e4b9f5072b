//! A small disk that can be filled to the last block and given space again: a tmpfs of the drill's own.
//!
//! Constraints: it is ours alone, so nothing else on the machine runs out of space; making it needs the right to mount,
//! and where that is missing the drill says so before it makes anything. It is unmounted at the end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::fs::statvfs;

use super::server::pause;
use crate::exit::Stop;

/// Enough for a QuestDB that has just started, and memory of the machine.
const MIB: u64 = 1 << 20;
const ROOMY_MIB: u64 = 3 * 1024;
const UNMOUNT_WITHIN: Duration = Duration::from_secs(20);
const UNMOUNT_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
}

impl Disk {
    /// Mounts it at `path`; what an earlier drill mounted there must be gone.
    pub(super) fn mount(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let done = mount(&["-t", "tmpfs", "-o", &size(ROOMY_MIB * MIB), "tripod-drill"], path)?;
        if let Err(words) = done {
            return Err(Stop::refused(
                format!("a small disk cannot be mounted at {}: {words}", path.display()),
                "this drill needs the right to mount (root, or CAP_SYS_ADMIN in a container); the others do not",
            )
            .into());
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Leaves so many bytes free.
    pub(super) fn fill(&self, but: u64) -> anyhow::Result<()> {
        self.resize(self.used()? + but)
    }

    /// Gives it space again.
    pub(super) fn mend(&self) -> anyhow::Result<()> {
        self.resize(ROOMY_MIB * MIB)
    }

    fn used(&self) -> anyhow::Result<u64> {
        let stat = statvfs(&self.path).context("cannot ask the small disk how full it is")?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    }

    fn resize(&self, bytes: u64) -> anyhow::Result<()> {
        let done = mount(&["-o", &format!("remount,{}", size(bytes))], &self.path)?;
        done.map_err(|words| anyhow::anyhow!("the small disk cannot be resized: {words}"))
    }

    /// Unmounts what is mounted at `path`, if anything is. A process that was just ended may hold it for a moment.
    pub(super) fn unmount(path: &Path) -> anyhow::Result<()> {
        let end = Instant::now() + UNMOUNT_WITHIN;
        while is_mounted(path)? {
            let output = Command::new("umount").arg(path).output().context("cannot start `umount`")?;
            if !output.status.success() {
                let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                anyhow::ensure!(Instant::now() < end, "the small disk cannot be unmounted: {words}");
                pause(UNMOUNT_EVERY);
            }
        }
        Ok(())
    }
}

fn is_mounted(path: &Path) -> anyhow::Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let path = path.display().to_string();
    // Blanks stand as \040 there.
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(1)).any(|at| at.replace("\\040", " ") == path))
}

fn size(bytes: u64) -> String {
    format!("size={}k", bytes.div_ceil(1024))
}

fn mount(arguments: &[&str], path: &Path) -> anyhow::Result<Result<(), String>> {
    let output = Command::new("mount").args(arguments).arg(path).output();
    let output = output.context("cannot start `mount`, which this drill needs")?;
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(words) })
}
