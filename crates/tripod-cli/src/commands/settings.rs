//! `tripod settings get / set / history / diff / rollback / watch / bots`.
//!
//! Constraints: a write says on which revision it is based, so that two operators cannot overwrite each other unseen.
//! A setting whose form this program knows (the token policy) is read as a bot will read it before it is written.

mod live;
mod past;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use tripod::postgres::{Login, Postgres};
use tripod::settings::{Change, Revision, Setting, Settings as Store};
use tripod::tokens::Policy;

use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

pub(crate) use live::state;

const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(crate) enum Settings {
    /// One setting, or all of a namespace
    Get(Get),
    /// Write a value; a new revision with who and why
    Set(Set),
    /// Every value there was, the newest first
    History(History),
    /// In what two revisions differ
    Diff(past::Diff),
    /// Bring an earlier value back, as a new revision
    Rollback(past::Rollback),
    /// Print a namespace, then each change of it as it comes
    Watch(live::Watch),
    /// Which bot runs which revisions; exit 1 where one is behind or cannot read one
    Bots,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Its namespace: tokens, or a bot's own
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
    /// Its key; without it all of the namespace
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Its namespace
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
    /// Its key
    #[arg(value_name = "KEY")]
    key: String,
    /// The value as JSON
    #[arg(value_name = "JSON")]
    value: String,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// The revision that this is based on; left out for the first value
    #[arg(long, value_name = "N")]
    revision: Option<i64>,
    /// Who
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "operator")]
    who: String,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Its namespace
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
    /// Its key
    #[arg(value_name = "KEY")]
    key: String,
    /// Revisions at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(super) async fn run(command: Settings, global: &Global, output: Output) -> anyhow::Result<Exit> {
    match command {
        Settings::Get(arguments) => get(&arguments, global, output).await,
        Settings::Set(arguments) => set(&arguments, global, output).await,
        Settings::History(arguments) => history(&arguments, global, output).await,
        Settings::Diff(arguments) => past::diff(&arguments, global, output).await,
        Settings::Rollback(arguments) => past::rollback(&arguments, global, output).await,
        Settings::Watch(arguments) => live::watch(&arguments, global, output).await,
        Settings::Bots => live::bots(global, output).await,
    }
}

fn store(global: &Global, login: Login) -> tripod::Result<Store> {
    Ok(Store::new(Postgres::open_as(&global.load()?.postgres, login, DEADLINE)?))
}

fn missing(namespace: &str, key: Option<&str>) -> Stop {
    let what = match key {
        Some(key) => format!("the setting {namespace}/{key} was never set"),
        None => format!("the namespace {namespace} has no settings"),
    };
    let hint = if namespace == Policy::NAMESPACE {
        "defaults hold; `tripod settings set tokens policy '{…}' --why TEXT` replaces them"
    } else {
        "`tripod settings set NAMESPACE KEY JSON --why TEXT` sets one"
    };
    Stop::untrue(what, hint)
}

#[derive(Debug, Serialize)]
struct Listed {
    settings: Vec<Setting<Value>>,
}

async fn get(arguments: &Get, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let (store, namespace) = (store(global, Login::Bot)?, &arguments.namespace);
    if let Some(key) = &arguments.key {
        let found = store.get::<Value>(namespace, key).await?;
        let setting = found.ok_or_else(|| missing(namespace, Some(key)))?;
        output.result(&setting, || one(&setting))?;
        return Ok(Exit::Done);
    }
    let settings = store.list(namespace).await?;
    if settings.is_empty() {
        return Err(missing(namespace, None).into());
    }
    let listed = Listed { settings };
    output.result(&listed, || {
        let mut table = output::table(&["key", "revision", "value", "by", "changed"]);
        for s in &listed.settings {
            let (revision, changed) = (s.revision.to_string(), s.changed_at.to_string());
            table.add_row([&s.key, &revision, &s.value.to_string(), &s.changed_by, &changed]);
        }
        output::table_text(&table)
    })?;
    Ok(Exit::Done)
}

/// The value as it can be given to `set` again; the rest is for people.
fn one(setting: &Setting<Value>) -> String {
    let Setting { namespace, key, value, revision, changed_by, reason, changed_at } = setting;
    format!("{namespace}/{key} revision {revision}, {changed_at}, by {changed_by}: {reason}\n{value}")
}

async fn set(arguments: &Set, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let Set { namespace, key, value, why, revision, who } = arguments;
    let value: Value = serde_json::from_str(value).map_err(|error| {
        Stop::usage(format!("the value is not JSON: {error}"), "a text needs its quotes too: '\"text\"'")
    })?;
    if (namespace.as_str(), key.as_str()) == (Policy::NAMESPACE, Policy::KEY) {
        serde_json::from_value::<Policy>(value.clone()).map_err(|error| {
            Stop::usage(format!("no bot could read this policy: {error}"), "correct the value; nothing was written")
        })?;
    }
    let change = Change { expected: *revision, who, why };
    let setting = store(global, Login::Admin)?.set(namespace, key, &value, change).await?;
    output.result(&setting, || one(&setting))?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Past<'a> {
    namespace: &'a str,
    key: &'a str,
    revisions: Vec<Revision>,
}

async fn history(arguments: &History, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let (namespace, key) = (arguments.namespace.as_str(), arguments.key.as_str());
    let revisions = store(global, Login::Bot)?.history(namespace, key, arguments.limit).await?;
    if revisions.is_empty() {
        return Err(missing(namespace, Some(key)).into());
    }
    let past = Past { namespace, key, revisions };
    output.result(&past, || {
        let mut table = output::table(&["revision", "changed", "by", "login", "why", "value"]);
        for r in &past.revisions {
            let (revision, changed) = (r.revision.to_string(), r.changed_at.to_string());
            table.add_row([&revision, &changed, &r.changed_by, &r.login, &r.reason, &r.after.to_string()]);
        }
        output::table_text(&table)
    })?;
    Ok(Exit::Done)
}
