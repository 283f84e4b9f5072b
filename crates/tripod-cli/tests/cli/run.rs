//! Runs the binary and keeps what it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The command with nothing of the caller's environment that it reads.
pub(crate) fn tripod() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tripod"));
    command.env_remove("TRIPOD_DATA").env_remove("TRIPOD_LOG");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TRIPOD__")) {
        command.env_remove(name);
    }
    command
}

/// Exit code, stdout, stderr.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// All of it, for a golden file; `path` is shown as `DIR`.
    pub(crate) fn golden(&self, path: &Path) -> String {
        let text = format!("exit {:?}\n--- stdout\n{}--- stderr\n{}", self.code.unwrap(), self.out, self.err);
        text.replace(&path.display().to_string(), "DIR")
    }

    /// The one JSON document on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `tripod` with `arguments` in `dir`.
pub(crate) fn run(dir: &Path, arguments: &[&str]) -> Said {
    tripod().current_dir(dir).args(arguments).output().unwrap().into()
}

/// A file under `samples/`.
pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(name)
}
