//! One file per command; each gives an [`Exit`] or an error that `exit.rs` turns into words and a code.

mod config;

use crate::args::{Arguments, Command, Global};
use crate::exit::Exit;
use crate::output::Output;

/// Runs what was typed.
pub(crate) fn run(arguments: Arguments, output: Output) -> anyhow::Result<Exit> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Config(command) => config::run(&command, &global, output),
        _ => Ok(Exit::Done),
    }
}

impl Global {
    /// The config in force: the file that `--config` names, else the local stack's.
    pub(crate) fn load(&self) -> tripod::Result<tripod::Config> {
        match &self.config {
            Some(file) => tripod::Config::load(file),
            None => tripod::Config::local(&self.data),
        }
    }
}
