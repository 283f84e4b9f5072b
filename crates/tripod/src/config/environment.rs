//! Overrides from the environment: `TRIPOD__SECTION__KEY=value`.
//!
//! The value's type is that of the default at the same place, so `TRIPOD__BOT=7` is the text "7" and
//! `TRIPOD__EVENTS__CAP=7` the number. A variable that names no key is an error, as in the file.

use crate::error::{Error, Result};

const PREFIX: &str = "TRIPOD__";

pub(super) fn apply(document: &mut toml::Table, variables: impl IntoIterator<Item = (String, String)>) -> Result<()> {
    let shape = super::reference::shape();
    let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, text) in variables {
        let wrong = |what: String| Error::Config { path: name.clone().into(), what };
        let keys: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
        let kind = find(&shape, &keys).ok_or_else(|| {
            wrong("names no key of the configuration; `tripod config reference` lists them all".to_owned())
        })?;
        let value = parse(kind, &text).map_err(wrong)?;
        put(document, &keys, value).map_err(|what| Error::Config { path: name.clone().into(), what })?;
    }
    Ok(())
}

/// The default at `keys`; a number steps into a list of tables, where each entry has the first one's shape.
fn find<'a>(table: &'a toml::Table, keys: &[String]) -> Option<&'a toml::Value> {
    let (first, rest) = keys.split_first()?;
    let value = table.get(first)?;
    match (value, rest) {
        (_, []) => (!value.is_table()).then_some(value),
        (toml::Value::Table(inner), rest) => find(inner, rest),
        (toml::Value::Array(list), [index, rest @ ..]) => {
            index.parse::<usize>().ok()?;
            find(list.first()?.as_table()?, rest)
        }
        _ => None,
    }
}

fn parse(kind: &toml::Value, text: &str) -> Result<toml::Value, String> {
    match kind {
        toml::Value::Integer(_) => {
            text.parse().map(toml::Value::Integer).map_err(|_| format!("`{text}` is not a whole number"))
        }
        toml::Value::Boolean(_) => {
            text.parse().map(toml::Value::Boolean).map_err(|_| format!("`{text}` is not true or false"))
        }
        toml::Value::Array(list) if list.first().is_none_or(toml::Value::is_str) => {
            Ok(toml::Value::Array(text.split(',').map(|t| toml::Value::String(t.trim().to_owned())).collect()))
        }
        toml::Value::String(_) => Ok(toml::Value::String(text.to_owned())),
        _ => Err("is a section, not a key".to_owned()),
    }
}

fn put(table: &mut toml::Table, keys: &[String], value: toml::Value) -> Result<(), String> {
    match keys {
        [] => Ok(()),
        [last] => {
            table.insert(last.clone(), value);
            Ok(())
        }
        [first, index, rest @ ..] if index.parse::<usize>().is_ok() => {
            let at: usize = index.parse().map_err(|_| "is not a number".to_owned())?;
            let default = || toml::Value::Array(vec![toml::Value::Table(toml::Table::new())]);
            let list = table.entry(first.clone()).or_insert_with(default);
            let list = list.as_array_mut().ok_or_else(|| format!("`{first}` is not a list"))?;
            let count = list.len();
            let entry = list.get_mut(at).and_then(toml::Value::as_table_mut);
            put(entry.ok_or_else(|| format!("there is no {first} number {at}; the file has {count}"))?, rest, value)
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            put(inner.as_table_mut().ok_or_else(|| format!("`{first}` is not a section"))?, rest, value)
        }
    }
}

/// The variable that overrides `keys`, for messages and the reference.
pub(super) fn variable(keys: &[&str]) -> String {
    format!("{PREFIX}{}", keys.join("__").to_uppercase())
}
