//! Finding the servers' programs: what the environment names, else the usual places.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::wait::{Deadline, until};

/// A program that has not said its version by then never will. Java takes half a second on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Of what it says; less than a pipe holds, so that it never waits for a reader.
const SAID_BYTES_MAX: u64 = 16 * 1024;

/// What `variable` names, if it is set: then it must be there, nothing else is looked at.
pub(crate) fn named(variable: &str, what: &str) -> Result<Option<PathBuf>> {
    let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else { return Ok(None) };
    let path = PathBuf::from(value);
    match std::path::absolute(&path) {
        Ok(absolute) if absolute.exists() => Ok(Some(absolute)),
        _ => Err(not_it(variable, &path, what, "there is no such file")),
    }
}

/// What `variable` names is there and is something else.
pub(crate) fn not_it(variable: &str, path: &Path, what: &str, why: &str) -> Error {
    Error::Missing {
        what: what.to_owned(),
        looked: format!("{variable} names {}", path.display()),
        wrong: Some(why.to_owned()),
    }
}

/// What went wrong with a program that was to say its version.
pub(crate) fn why_not(program: &Path, said: Option<&str>) -> String {
    match said {
        Some(said) => format!("it says `{}`", said.trim()),
        None => {
            let within = ANSWER_WITHIN.as_secs();
            format!("{} does not run, or does not say its version within {within} s", program.display())
        }
    }
}

/// The directories of `PATH`.
pub(crate) fn path_dirs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect()
}

/// The cache directory that `scripts/install-servers` fills: `$TRIPOD_CACHE`, `$XDG_CACHE_HOME/tripod`, `~/.cache/tripod`.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("TRIPOD_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("tripod")))
        .or_else(|| Some(set("HOME")?.join(".cache").join("tripod")))
        .filter(|dir| dir.is_absolute())
}

/// What a program says to `--version`, first line; none where it says nothing within [`ANSWER_WITHIN`], and is killed.
pub(crate) fn version_line(program: &Path, argument: impl AsRef<OsStr>) -> Option<String> {
    version_within(program, argument, ANSWER_WITHIN)
}

fn version_within(program: &Path, argument: impl AsRef<OsStr>, within: Duration) -> Option<String> {
    let mut command = crate::server::clean_command(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that what a script started ends with it and nobody holds the pipes.
    let mut child = command.process_group(0).spawn().ok()?;
    let deadline = Deadline::after(within);
    let ended = until(deadline, LOOK_EVERY, || child.try_wait());
    if !matches!(ended, Ok(Some(_))) {
        let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = group.map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
        let _ = child.wait();
        return None;
    }
    // Java says it on standard error.
    let out = first_bytes(child.stdout.take()?)?;
    let said = if out.is_empty() { first_bytes(child.stderr.take()?)? } else { out };
    let text = String::from_utf8(said).ok()?;
    text.lines().next().map(str::to_owned).filter(|_| matches!(ended, Ok(Some(status)) if status.success()))
}

/// What already is in the pipe of a program that has ended: a child of it that lives on may hold the pipe open.
fn first_bytes(pipe: impl Read + AsFd) -> Option<Vec<u8>> {
    rustix::io::ioctl_fionbio(&pipe, true).ok()?;
    let mut bytes = Vec::new();
    match pipe.take(SAID_BYTES_MAX).read_to_end(&mut bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => None,
        _ => Some(bytes),
    }
}

/// The first number in a version such as `15.18`.
pub(crate) fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_never_says_its_version_is_not_waited_for() {
        let long = Duration::from_secs(60);
        assert_eq!(version_within(Path::new("/bin/echo"), "one", long).as_deref(), Some("one"));
        assert_eq!(version_within(Path::new("/bin/false"), "", long), None);
        let began = std::time::Instant::now();
        assert_eq!(version_within(Path::new("/bin/sleep"), "600", Duration::from_millis(100)), None);
        assert!(began.elapsed() < long, "it waited for it");
    }
}
