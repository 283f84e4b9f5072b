//! `tripod settings diff` and `rollback`: the past of one setting, beside what stands.

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tripod::postgres::Login;
use tripod::settings::Change;

use super::{missing, one, store};
use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Its namespace
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
    /// Its key
    #[arg(value_name = "KEY")]
    key: String,
    /// The earlier revision [default: the one before --to]
    #[arg(long, value_name = "N")]
    from: Option<i64>,
    /// The later revision [default: the one that stands]
    #[arg(long, value_name = "N")]
    to: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Its namespace
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
    /// Its key
    #[arg(value_name = "KEY")]
    key: String,
    /// The revision whose value comes back, as a new revision
    #[arg(long, value_name = "N")]
    to: i64,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// The revision that this is based on [default: the one that stands now]
    #[arg(long, value_name = "N")]
    revision: Option<i64>,
    /// Who
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "operator")]
    who: String,
}

/// One place of a value in which two revisions differ.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    /// A JSON pointer; empty for the value itself.
    place: String,
    before: Option<Value>,
    after: Option<Value>,
}

#[derive(Debug, Serialize)]
struct Differences<'a> {
    namespace: &'a str,
    key: &'a str,
    from: i64,
    to: i64,
    differences: Vec<Difference>,
}

pub(super) async fn diff(arguments: &Diff, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let (store, namespace, key) = (store(global, Login::Bot)?, &arguments.namespace, &arguments.key);
    let to = match arguments.to {
        Some(to) => to,
        None => store.get::<Value>(namespace, key).await?.ok_or_else(|| missing(namespace, Some(key)))?.revision,
    };
    let from = arguments.from.unwrap_or(to - 1);
    // Before the first there was nothing.
    let before = if from == 0 { None } else { Some(store.at(namespace, key, from).await?.after) };
    let after = store.at(namespace, key, to).await?.after;
    let mut differences = Vec::new();
    compare(String::new(), before.as_ref(), Some(&after), &mut differences);
    let found = Differences { namespace, key, from, to, differences };
    output.result(&found, || {
        if found.differences.is_empty() {
            return format!("revisions {from} and {to} hold the same value");
        }
        let mut table = output::table(&["place", &format!("revision {from}"), &format!("revision {to}")]);
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), Value::to_string);
        for one in &found.differences {
            let place = if one.place.is_empty() { "(the value)" } else { &one.place };
            table.add_row([place, &text(&one.before), &text(&one.after)]);
        }
        output::table_text(&table)
    })?;
    Ok(Exit::Done)
}

/// Objects are compared key by key, everything else whole: a list in which one entry moved is another list.
fn compare(place: String, before: Option<&Value>, after: Option<&Value>, into: &mut Vec<Difference>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let name = key.replace('~', "~0").replace('/', "~1");
                compare(format!("{place}/{name}"), before.get(key), after.get(key), into);
            }
        }
        (before, after) => into.push(Difference { place, before: before.cloned(), after: after.cloned() }),
    }
}

pub(super) async fn rollback(arguments: &Rollback, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let Rollback { namespace, key, to, why, revision, who } = arguments;
    let store = store(global, Login::Admin)?;
    let standing = store.get::<Value>(namespace, key).await?.ok_or_else(|| missing(namespace, Some(key)))?;
    let expected = revision.unwrap_or(standing.revision);
    if revision.is_none() && *to == standing.revision {
        let what = format!("revision {to} of {namespace}/{key} is the one that stands");
        return Err(Stop::usage(what, "`tripod settings history` lists the earlier ones").into());
    }
    let change = Change { expected: Some(expected), who, why };
    let setting = store.roll_back(namespace, key, *to, change).await?;
    output.result(&setting, || one(&setting))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_said_and_where() {
        let differences = |before: Value, after: Value| {
            let mut found = Vec::new();
            compare(String::new(), Some(&before), Some(&after), &mut found);
            found.into_iter().map(|d| (d.place, d.before, d.after)).collect::<Vec<_>>()
        };
        assert_eq!(differences(json!({"a": 1}), json!({"a": 1})), []);
        assert_eq!(
            differences(json!({"a": {"b/c": 1, "d": [1]}, "e": 1}), json!({"a": {"b/c": 2, "d": [1]}, "f": null})),
            [
                ("/a/b~1c".into(), Some(json!(1)), Some(json!(2))),
                ("/e".into(), Some(json!(1)), None),
                ("/f".into(), None, Some(Value::Null)),
            ]
        );
        assert_eq!(differences(json!(1), json!({})), [(String::new(), Some(json!(1)), Some(json!({})))]);
    }
}
