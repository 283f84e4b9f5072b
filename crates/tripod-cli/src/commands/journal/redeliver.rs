//! `tripod journal redeliver --since TIME`: for a QuestDB that lost something in a way that nobody could see.
//!
//! Constraints: the sinks must be ours while it runs, so a bot that runs them itself is ended first; one whose
//! `delivery` is `beside` may go on. Harmless where nothing was lost: the tables' keys take a second delivery. What the
//! journal no longer holds is said with its span. Ended half-way, nothing is lost: the rows are pending, and whoever
//! runs the sinks next delivers them.

use std::time::Duration;

use serde::Serialize;
use tripod::Timestamp;
use tripod::ledger::LedgerRow;
use tripod::tape::{Deliverer, SinkState};

use super::super::config_of;
use crate::args::{Global, Redeliver};
use crate::exit::{Exit, Stop};
use crate::output::Output;

/// After the last row is visible, or the deadline.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize)]
struct Redelivered {
    bot: String,
    since: String,
    sinks: Vec<Again>,
    /// Rows that are not visible yet; they are in the journal and pending.
    remaining: u64,
    ledger: Vec<LedgerRow>,
    ok: bool,
}

/// How far one sink went back.
#[derive(Debug, Serialize)]
struct Again {
    sink: String,
    class: &'static str,
    /// What was delivered after this was delivered again; null is all that the journal holds.
    to: Option<String>,
    /// Rows since then that are no longer in the journal.
    gone_rows: u64,
    /// The oldest row that it still has, where some are gone.
    gone_before: Option<String>,
    /// Why not everything is visible.
    why: String,
}

pub(super) fn run(arguments: &Redeliver, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = config_of(&arguments.bot, global)?;
    super::journals(&config)?;
    if arguments.since > Timestamp::now() {
        let what = format!("--since {} is in the future", arguments.since);
        return Err(Stop::usage(what, "name the time after which QuestDB may have lost something").into());
    }
    let deliverer = Deliverer::open(&config, &config.bot).map_err(|error| match error {
        tripod::Error::Conflict { .. } => anyhow::Error::from(Stop::refused(
            error.to_string(),
            "end that process, run this command again, then start it again; a bot calls `Tape::redeliver_since`",
        )),
        other => other.into(),
    })?;
    deliverer.redeliver_since(arguments.since);
    let spinner = output.spinner("delivering again");
    let visible = deliverer.wait_visible(Duration::from_secs(arguments.deadline));
    spinner.finish_and_clear();
    let visible = visible?;
    let statuses = deliverer.sinks();
    let close_within = if visible { CLOSE_WITHIN } else { Duration::ZERO };
    let report = deliverer.close(close_within);
    let ledger = tripod::ledger::of(&config)?;
    let remaining = report.remaining.iter().map(|row| row.pending + row.delivered).sum();
    let is_away = statuses.iter().any(|sink| sink.state == SinkState::Unavailable);
    let again = statuses.into_iter().map(|sink| {
        let went = sink.last_rewind;
        Again {
            sink: sink.sink,
            class: sink.class.as_str(),
            to: went.as_ref().and_then(|went| went.to.clone()),
            gone_rows: went.as_ref().map_or(0, |went| went.gone_rows),
            gone_before: went.and_then(|went| went.gone_before),
            why: sink.why,
        }
    });
    let ok = visible && ledger.iter().all(|row| row.adds_up);
    let done = Redelivered {
        bot: config.bot,
        since: arguments.since.to_string(),
        sinks: again.collect(),
        remaining,
        ledger,
        ok,
    };
    output.result(&done, || words(&done))?;
    Ok(match (ok, is_away) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Unreachable,
        (false, false) => Exit::False,
    })
}

fn words(done: &Redelivered) -> String {
    let mut text = String::new();
    for sink in &done.sinks {
        let to = sink.to.as_deref().unwrap_or("the beginning of the journal");
        text += &format!("{} {}: delivered again from {to}\n", sink.sink, sink.class);
        if sink.gone_rows > 0 {
            let before = sink.gone_before.as_deref().unwrap_or("now");
            text += &format!("  {} rows from before {before} are no longer in the journal\n", sink.gone_rows);
        }
        if !sink.why.is_empty() {
            text += &format!("  {}\n", sink.why);
        }
    }
    text + &match (done.ok, done.remaining) {
        (true, _) => "every row that the journal holds since then is visible".to_owned(),
        (false, rows) => format!("{rows} rows are pending; nothing is lost, `tripod deliver` goes on with them"),
    }
}
