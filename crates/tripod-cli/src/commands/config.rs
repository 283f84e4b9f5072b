//! `tripod config check`, `show`, `reference`; `prometheus` stands beside.

use serde::Serialize;
use toml::{Table, Value};
use tripod::config::reference;

use crate::args::{Config as Command, Global};
use crate::exit::Exit;
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
    global.load()?;
    let file = global.config.clone().unwrap_or_else(|| global.data.join(tripod::config::FILE_NAME));
    let checked = Checked { ok: true, file: file.display().to_string() };
    output.result(&checked, || format!("{} is a config that a bot can start with", checked.file))?;
    Ok(Exit::Done)
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
