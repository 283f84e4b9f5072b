//! One file per command; each gives an [`Exit`] or an error that `exit.rs` turns into words and a code.

mod config;
mod migrate;
mod replay;
pub(crate) mod settings;
mod status;
pub(crate) mod tokens;
mod up;

use std::future::Future;

use anyhow::Context as _;
use tripod::Config;
use tripod::ledger::{self, LedgerRow};
use tripod::tape::questdb::QuestDbHttp;

use crate::args::{Arguments, Command, Global};
use crate::exit::Exit;
use crate::output::Output;

/// Runs what was typed.
pub(crate) fn run(arguments: Arguments, output: Output) -> anyhow::Result<Exit> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Up => up::up(&global, output),
        Command::Down(arguments) => up::down(&arguments, &global, output),
        Command::Status => block_on(status::run(&global, output)),
        Command::Migrate(arguments) => block_on(migrate::run(&arguments, &global, output)),
        Command::Replay(arguments) => replay::run(arguments, &global, output),
        Command::Tokens(command) => block_on(tokens::run(command, &global, output)),
        Command::Settings(command) => block_on(settings::run(command, &global, output)),
        Command::Config(command) => config::run(&command, &global, output),
        Command::Supervise => up::supervise(&global),
    }
}

impl Global {
    /// The config in force: the file that `--config` names, else the local stack's.
    pub(crate) fn load(&self) -> tripod::Result<Config> {
        match &self.config {
            Some(file) => Config::load(file),
            None => Config::local(&self.data),
        }
    }
}

/// The ledger of this config's journals; empty before the first row.
fn ledger_of(config: &Config) -> tripod::Result<Vec<LedgerRow>> {
    let dir = config.journal_dir();
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    match ledger::read(&dir) {
        // A bot is making its journals at this moment: there is nothing in them yet.
        Err(tripod::Error::Journal(tripod_journal::Error::Missing { .. })) => Ok(Vec::new()),
        ledger => ledger,
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}

/// The name of one of the config's QuestDB servers, as it is shown.
fn questdb_name(config: &Config, number: usize) -> String {
    match (config.questdb.len(), config.questdb.get(number)) {
        (2.., Some(server)) => format!("questdb-{}", server.name),
        _ => "questdb".to_owned(),
    }
}

/// Asks a QuestDB server on a thread that may wait.
async fn ask_questdb<T: Send + 'static>(
    server: &tripod::config::QuestDb,
    timeout: std::time::Duration,
    work: impl FnOnce(&QuestDbHttp) -> tripod::Result<T> + Send + 'static,
) -> tripod::Result<T> {
    let http = QuestDbHttp::new(server, timeout)?;
    tokio::task::spawn_blocking(move || work(&http))
        .await
        .unwrap_or(Err(tripod::Error::Closed("the thread that asks QuestDB")))
}
