//! `tripod tokens search …` and `tripod tokens changes MINT`.

use serde::Serialize;
use serde_json::Value;
use tripod::Timestamp;
use tripod::postgres::NAMES_UNINDEXED;
use tripod::tokens::{Address, Hit, Question, TokenChange, Tokens, estimate_epoch};

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
    let store = Tokens::new(postgres(global)?);
    // One more tells whether there are more.
    let most = arguments.limit.saturating_add(1);
    let (mut found, what) = match (&arguments.text, question(arguments)) {
        (_, Some((question, what))) => (store.find(question, arguments.after.as_ref(), most).await?, what),
        (text, None) => {
            let text = text.as_deref().unwrap_or_default();
            if !store.names_are_indexed().await? {
                output.say(format!("note: {NAMES_UNINDEXED}"));
            }
            (store.search(text, most).await?, format!("is called `{text}`"))
        }
    };
    let more = found.len() > limit;
    found.truncate(limit);
    if found.is_empty() {
        let hint = "`tripod tokens import FILE` reads token lists and accounts, `tripod tokens fetch` asks a node";
        return Err(Stop::untrue(format!("no token {what}"), hint).into());
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
        let end = if more { "there are more; --limit N shows them, --after MINT those behind one\n" } else { "" };
        format!("{}{end}", output::table_text(&table))
    })?;
    Ok(Exit::Done)
}

/// What is asked beside the names, and how an empty answer says it.
fn question(arguments: &Search) -> Option<(Question, String)> {
    let by_key = [
        (arguments.authority, Question::Authority as fn(Address) -> Question, "is in the power of"),
        (arguments.hook, Question::HookProgram, "calls the program"),
        (arguments.delegate, Question::PermanentDelegate, "has the permanent delegate"),
        (arguments.members_of, Question::MembersOf, "is a member of"),
    ];
    if let Some((key, question, what)) = by_key.into_iter().find_map(|(key, q, what)| Some((key?, q, what))) {
        return Some((question(key), format!("{what} {key}")));
    }
    if let Some(number) = arguments.extension {
        return Some((Question::Extension(number), format!("has the extension {number}")));
    }
    if let Some(bps) = arguments.fee_above {
        let epoch = arguments.epoch.unwrap_or_else(|| estimate_epoch(Timestamp::now()));
        return Some((
            Question::FeeAbove { bps, epoch },
            format!("costs more than {bps} basis points in epoch {epoch}"),
        ));
    }
    if arguments.paused {
        return Some((Question::Paused, "is paused".to_owned()));
    }
    arguments.unread.then(|| (Question::Unread, "has an extension that could not be read".to_owned()))
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
