//! `tripod tokens search TEXT` and `tripod tokens changes MINT`.

use serde::Serialize;
use serde_json::Value;
use tripod::tokens::{Hit, TokenChange, Tokens};

use super::{Changes, Search, plain, postgres, unknown};
use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

#[derive(Debug, Serialize)]
struct Found {
    found: Vec<Hit>,
    /// The limit cut it.
    more: bool,
}

pub(super) async fn run(arguments: &Search, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let limit = usize::try_from(arguments.limit)?;
    // One more tells whether there are more.
    let mut found = Tokens::new(postgres(global)?).search(&arguments.text, arguments.limit.saturating_add(1)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    if found.is_empty() {
        let what = format!("no token is called `{}`", arguments.text);
        return Err(Stop::untrue(what, "`tripod tokens import FILE` reads token lists and accounts").into());
    }
    let found = Found { found, more };
    output.result(&found, || {
        let mut table = output::table(&["mint", "symbol", "name", "decimals", "on chain", "named by"]);
        let text = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), plain);
        for hit in &found.found {
            let on_chain = if hit.on_chain { "yes" } else { "unseen" };
            table.add_row([
                hit.mint.to_string(),
                text(&hit.symbol),
                text(&hit.name),
                hit.decimals.to_string(),
                on_chain.to_owned(),
                text(&hit.named_by),
            ]);
        }
        output::align_right(&mut table, 3..4);
        let end = if more { "there are more; --limit N shows them\n" } else { "" };
        format!("{}{end}", output::table_text(&table))
    })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Changed {
    mint: String,
    changes: Vec<TokenChange>,
}

pub(super) async fn changes(arguments: &Changes, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let store = Tokens::new(postgres(global)?);
    let changes = store.changes(&arguments.mint, arguments.limit).await?;
    if changes.is_empty() && store.get(&arguments.mint).await?.is_none() {
        return Err(unknown(&arguments.mint).into());
    }
    let changed = Changed { mint: arguments.mint.to_string(), changes };
    output.result(&changed, || {
        if changed.changes.is_empty() {
            return "nothing changed about it since it is known".to_owned();
        }
        let mut table = output::table(&["stored", "slot", "what", "from", "to", "by"]);
        let value = |value: &Option<Value>| match value {
            None | Some(Value::Null) => "none".to_owned(),
            Some(Value::String(text)) => plain(text),
            Some(other) => plain(&other.to_string()),
        };
        for change in &changed.changes {
            table.add_row([
                change.changed_at.to_string(),
                change.slot.to_string(),
                change.field.clone(),
                value(&change.before),
                value(&change.after),
                plain(&change.source),
            ]);
        }
        output::table_text(&table)
    })?;
    Ok(Exit::Done)
}
