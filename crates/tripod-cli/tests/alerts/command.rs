//! The binary, ended with the test that runs it.

use std::path::Path;
use std::process::Command;

use crate::programs::bound;
use crate::run::run;

/// `tripod` on a stack, with nothing of the caller's environment that it reads.
pub(crate) fn tripod_bound(data: &Path) -> Command {
    let mut command = bound(env!("CARGO_BIN_EXE_tripod"));
    command.env_remove("TRIPOD_DATA").env_remove("TRIPOD_LOG").current_dir(data).args(["--data", "."]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TRIPOD__")) {
        command.env_remove(name);
    }
    command
}

/// Runs it and expects that all went well.
pub(crate) fn done(data: &Path, arguments: &[&str]) {
    let said = run(data, &[&["--data", "."], arguments].concat());
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
}
