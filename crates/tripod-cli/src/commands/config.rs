//! `tripod config check`, `show`, `reference`; `prometheus` stands beside.

use std::time::Duration;

use serde::Serialize;
use toml::{Table, Value};
use tripod::config::reference;
use tripod::postgres::Postgres;
use tripod::redis::Transport;
use tripod::tape::questdb::QuestDbHttp;

use crate::args::{Config as Command, Global};
use crate::exit::{Exit, Stop};
use crate::output::Output;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

pub(super) fn run(command: &Command, global: &Global, output: Output) -> anyhow::Result<Exit> {
    match command {
        Command::Check => check(global, output),
        Command::Show => show(global, output),
        Command::Prometheus(arguments) => super::block_on(super::prometheus::run(arguments, global, output)),
        Command::Reference => {
            let text = reference();
            output.result(&serde_json::json!({"reference": text}), || text.clone())?;
            Ok(Exit::Done)
        }
    }
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
    file: String,
}

fn check(global: &Global, output: Output) -> anyhow::Result<Exit> {
    can_be_opened(&global.load()?)?;
    let file = global.config.clone().unwrap_or_else(|| global.data.join(tripod::config::FILE_NAME));
    let checked = Checked { ok: true, file: file.display().to_string() };
    output.result(&checked, || format!("{} is a config that a bot can start with", checked.file))?;
    Ok(Exit::Done)
}

/// What a bot reads when it opens its handles, and no sooner: the files of certificate authorities. Asks no server.
fn can_be_opened(config: &tripod::Config) -> anyhow::Result<()> {
    let wrong = |section: &str, error: tripod::Error| {
        let why = std::error::Error::source(&error).map_or_else(String::new, |why| format!(": {why}"));
        Stop::usage(
            format!("[{section}] {error}{why}"),
            "correct that section of the config, or the file that it names",
        )
    };
    for sink in &config.questdb {
        QuestDbHttp::new(sink, Duration::from_secs(1)).map_err(|error| wrong("[questdb]", error))?;
    }
    Postgres::open(&config.postgres).map_err(|error| wrong("postgres", error))?;
    Transport::new(&config.redis.prices).map_err(|error| wrong("redis.prices", error))?;
    Transport::new(&config.redis.events).map_err(|error| wrong("redis.events", error))?;
    Ok(())
}

fn show(global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    let mut document = Table::try_from(&config)?;
    mark_secrets(&config, &mut document);
    output.result(&document, || document.to_string())?;
    Ok(Exit::Done)
}

/// The config leaves its secrets out when it is written; this says where they stand, and whether there is one.
fn mark_secrets(config: &tripod::Config, document: &mut Table) {
    use secrecy::ExposeSecret as _;
    let mut mark = |path: &[&str], key: &str, secret: &secrecy::SecretString| {
        let text = if secret.expose_secret().is_empty() { "" } else { HIDDEN };
        if let Some(table) = descend(document, path) {
            table.insert(key.to_owned(), Value::String(text.to_owned()));
        }
    };
    for (number, sink) in config.questdb.iter().enumerate() {
        mark(&["questdb", &number.to_string()], "password", &sink.password);
        mark(&["questdb", &number.to_string()], "token", &sink.token);
    }
    mark(&["postgres"], "password", &config.postgres.password);
    mark(&["postgres"], "admin_password", &config.postgres.admin_password);
    for (name, redis) in [("prices", &config.redis.prices), ("events", &config.redis.events)] {
        mark(&["redis", name], "password", &redis.password);
        mark(&["redis", name], "admin_password", &redis.admin_password);
        mark(&["redis", name], "sentinel_password", &redis.sentinel_password);
    }
}

fn descend<'a>(document: &'a mut Table, path: &[&str]) -> Option<&'a mut Table> {
    let Some((first, rest)) = path.split_first() else {
        return Some(document);
    };
    match document.get_mut(*first)? {
        Value::Table(table) => descend(table, rest),
        Value::Array(list) => {
            let (number, rest) = rest.split_first()?;
            let Value::Table(table) = list.get_mut(number.parse::<usize>().ok()?)? else { return None };
            descend(table, rest)
        }
        _ => None,
    }
}
