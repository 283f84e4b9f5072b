//! `tripod settings watch` and `bots`: what changes now, and which bot runs what.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tripod::Advice;
use tripod::postgres::Login;
use tripod::settings::AppliedSettings;

use super::{one, store};
use crate::args::Global;
use crate::exit::Exit;
use crate::output::{self, Output};

/// Between two looks: an operator's eye is not faster.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Its namespace
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
    /// End after this many changes; without it, ^C ends it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    changes: Option<u64>,
}

/// Prints what stands, then each new revision that it meets; of two within one look, the later.
pub(super) async fn watch(arguments: &Watch, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let store = store(global, Login::Bot)?;
    let mut seen: Option<BTreeMap<String, i64>> = None;
    let (mut met, mut in_trouble) = (0, false);
    loop {
        match store.list(&arguments.namespace).await {
            Ok(settings) => {
                in_trouble = false;
                let before = seen.replace(settings.iter().map(|s| (s.key.clone(), s.revision)).collect());
                for setting in settings {
                    let known = before.as_ref().and_then(|before| before.get(&setting.key));
                    if known != Some(&setting.revision) {
                        output.result(&setting, || one(&setting))?;
                        met += u64::from(before.is_some());
                    }
                }
            }
            // It comes back, and the watch goes on; from the start on it must have been there once.
            Err(error) if seen.is_some() && error.advice() != Advice::Fix => {
                if !std::mem::replace(&mut in_trouble, true) {
                    output.say(format!("{error}; the watch goes on"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        if arguments.changes.is_some_and(|changes| met >= changes) {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[derive(Debug, Serialize)]
struct Bots {
    bots: Vec<AppliedSettings>,
}

pub(super) async fn bots(global: &Global, output: Output) -> anyhow::Result<Exit> {
    let bots = Bots { bots: store(global, Login::Bot)?.applied().await? };
    // A bot that is gone runs nothing.
    let well = bots.bots.iter().all(|bot| bot.is_gone() || (bot.behind.is_empty() && bot.refused.is_empty()));
    output.result(&bots, || {
        if bots.bots.is_empty() {
            return "no bot watches settings".to_owned();
        }
        let mut table = output::table(&["bot", "namespace", "runs", "applied", "state"]);
        for bot in &bots.bots {
            let runs: Vec<_> = bot.revisions.iter().map(|(key, revision)| format!("{key} {revision}")).collect();
            table.add_row([&bot.bot, &bot.namespace, &runs.join(", "), &bot.applied_at.to_string(), &state(bot)]);
        }
        output::table_text(&table)
    })?;
    Ok(if well { Exit::Done } else { Exit::False })
}

/// How a bot is with its settings, in words.
pub(crate) fn state(bot: &AppliedSettings) -> String {
    if bot.is_gone() {
        return format!("gone: silent for {} s", bot.age.as_secs());
    }
    let refused = bot.refused.iter().map(|one| format!("{} revision {} refused: {}", one.key, one.revision, one.why));
    let behind = bot.behind.iter().filter(|key| bot.refused.iter().all(|one| one.key != **key && one.key != "*"));
    let words: Vec<String> = refused.chain(behind.map(|key| format!("{key} is another revision"))).collect();
    if words.is_empty() { "runs what stands".to_owned() } else { words.join("; ") }
}
