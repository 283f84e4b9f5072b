//! One file per command; each gives an [`Exit`] or an error that `exit.rs` turns into words and a code.

mod bench;
mod config;
mod deliver;
mod doctor;
mod drill;
pub(crate) mod events;
mod journal;
mod leftovers;
mod live;
mod migrate;
pub(crate) mod prices;
mod replay;
mod retention;
pub(crate) mod settings;
pub(crate) mod signals;
mod status;
mod tape;
pub(crate) mod tokens;
mod up;

use std::future::Future;

use anyhow::Context as _;
use tripod::Config;
use tripod::tape::questdb::QuestDbHttp;

use crate::args::{Arguments, Bot, Command, Global};
use crate::exit::{Exit, Stop};
use crate::output::Output;

/// Runs what was typed.
pub(crate) fn run(arguments: Arguments, output: Output) -> anyhow::Result<Exit> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Up(arguments) => up::up(&arguments, &global, output),
        Command::Down(arguments) => up::down(&arguments, &global, output),
        Command::Status(arguments) => block_on(status::run(&arguments, &global, output)),
        Command::Monitor(arguments) => crate::monitor::run(&arguments, &global, output),
        Command::Doctor => block_on(doctor::run(&global, output)),
        Command::Migrate(arguments) => block_on(migrate::run(&arguments, &global, output)),
        Command::Replay(arguments) => replay::run(arguments, &global, output),
        Command::Tape(command) => block_on(tape::run(command, &global, output)),
        Command::Journal(command) => journal::run(&command, &global, output),
        Command::Deliver(arguments) => block_on(deliver::run(&arguments, &global, output)),
        Command::Drill(command) => drill::run(&command, &global, output),
        Command::Bench(command) => bench::run(&command, &global, output),
        Command::Tokens(command) => block_on(tokens::run(command, &global, output)),
        Command::Events(command) => block_on(events::run(command, &global, output)),
        Command::Settings(command) => block_on(settings::run(command, &global, output)),
        Command::Prices(command) => block_on(prices::run(command, &global, output)),
        Command::Signals(command) => block_on(signals::run(command, &global, output)),
        Command::Config(command) => config::run(&command, &global, output),
        Command::DrillLoad => drill::load(&global),
        Command::BenchSettings => block_on(crate::bench::settings::watch(&global)),
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

/// The config in force, for the bot that `--bot` names.
fn config_of(bot: &Bot, global: &Global) -> anyhow::Result<Config> {
    let mut config = global.load()?;
    if let Some(name) = &bot.bot {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Err(Stop::usage(
                format!("`{name}` is no bot's name"),
                "a bot's name is made of letters, digits, - and _; it is `bot` in its config",
            )
            .into());
        }
        name.clone_into(&mut config.bot);
    }
    Ok(config)
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
pub(crate) fn questdb_name(config: &Config, number: usize) -> String {
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
