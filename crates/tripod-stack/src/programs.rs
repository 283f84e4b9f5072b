//! Finding the servers' programs: what the environment names, else the usual places.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

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
        None => format!("{} does not run, or does not say its version", program.display()),
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

/// What a program says to `--version`, first line.
pub(crate) fn version_line(program: &Path, argument: impl AsRef<OsStr>) -> Option<String> {
    let output =
        crate::server::clean_command(program).arg(argument).stdin(std::process::Stdio::null()).output().ok()?;
    // Java says it on standard error.
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8(said).ok()?;
    text.lines().next().map(str::to_owned).filter(|_| output.status.success())
}

/// The first number in a version such as `15.18`.
pub(crate) fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?.parse().ok()
}
