//! `tripod deliver`: a bot's rows go on to QuestDB without the bot.
//!
//! Constraints: needs the config and the journals, not the bot's code. Ends in order: on ^C or SIGTERM what is in flight
//! is finished and the cursors are stored. What remains stays in the journal and is named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tripod::ledger::LedgerRow;
use tripod::tape::{Deliverer, SinkState};

use super::config_of;
use crate::args::{Deliver, Global};
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// Between looks whether somebody wants it to end.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After ^C, for what is in flight.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize)]
struct Delivered {
    bot: String,
    /// Rows that are neither visible nor settled otherwise, over all sinks.
    remaining: u64,
    ledger: Vec<LedgerRow>,
    /// Why not, per sink, in words.
    troubles: Vec<String>,
    ok: bool,
}

/// How the work ended.
struct End {
    delivered: Delivered,
    /// A server did not answer.
    is_away: bool,
}

pub(super) async fn run(arguments: &Deliver, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = config_of(&arguments.bot, global)?;
    let deliverer = Deliverer::open(&config, &config.bot).map_err(running)?;
    let stop = Arc::new(AtomicBool::new(false));
    // Before a word is said: who reads it may end it at once.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked.store(true, Ordering::Release);
    });
    let servers: Vec<_> = config.questdb.iter().map(|server| server.http.as_str()).collect();
    output.say(format!("delivering the rows of bot {} to {}; ^C ends it", config.bot, servers.join(", ")));

    let deadline = arguments.until_empty.then(|| Duration::from_secs(arguments.deadline));
    let spinner = output.spinner("delivering");
    let work = tokio::task::spawn_blocking(move || deliver(deliverer, config.bot, deadline, &stop));
    let end = work.await.context("the delivery ended by a panic; its rows are in the journal")??;
    spinner.finish_and_clear();
    let End { delivered, is_away } = end;
    output.result(&delivered, || words(&delivered))?;
    Ok(match (delivered.ok || !arguments.until_empty, is_away) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Unreachable,
        (false, false) => Exit::False,
    })
}

/// Body of the thread that may wait.
fn deliver(deliverer: Deliverer, bot: String, deadline: Option<Duration>, stop: &AtomicBool) -> tripod::Result<End> {
    let started = Instant::now();
    let is_late = || deadline.is_some_and(|deadline| started.elapsed() >= deadline);
    let mut empty = false;
    while !stop.load(Ordering::Acquire) && !is_late() {
        empty = deliverer.wait_visible(LOOK_EVERY)?;
        match deadline {
            Some(_) if empty => break,
            // Everything is delivered and more may come: the next look is not before its time.
            None if empty => std::thread::park_timeout(LOOK_EVERY),
            _ => {}
        }
    }
    let interrupted = stop.load(Ordering::Acquire);
    let mut troubles = Vec::new();
    let mut is_away = false;
    for sink in deliverer.sinks() {
        let what =
            [sink.why.as_str()].into_iter().chain(sink.damaged.iter().chain(&sink.suspended).map(String::as_str));
        let what: Vec<_> = what.filter(|what| !what.is_empty()).collect();
        if !what.is_empty() {
            troubles.push(format!("{} {}: {}", sink.sink, sink.class.as_str(), what.join("; ")));
        }
        is_away |= sink.state == SinkState::Unavailable;
    }
    // Nothing more comes of waiting where the deadline has passed; after ^C what is in flight is finished.
    let close_within = if empty || interrupted { CLOSE_WITHIN } else { Duration::ZERO };
    let ledger_dir = deliverer.journal_dir();
    let report = deliverer.close(close_within);
    troubles.extend(report.troubles);
    let remaining = report.remaining.iter().map(|row| row.pending + row.delivered).sum();
    let ledger = tripod::ledger::read(&ledger_dir)?;
    let ok = remaining == 0 && ledger.iter().all(|row| row.adds_up);
    Ok(End { delivered: Delivered { bot, remaining, ledger, troubles, ok }, is_away })
}

fn running(error: tripod::Error) -> anyhow::Error {
    match error {
        tripod::Error::Conflict { .. } => {
            Stop::refused(error.to_string(), "nothing is to do while it runs; `tripod status` shows how far it is")
                .into()
        }
        other => other.into(),
    }
}

fn words(delivered: &Delivered) -> String {
    let mut table = output::table(&["table", "sink", "recorded", "visible", "quarantined", "remaining"]);
    for row in delivered.ledger.iter().filter(|row| row.recorded > 0) {
        let counts = [row.recorded, row.visible, row.quarantined, row.pending + row.delivered];
        let cells = [row.table.clone(), row.sink.clone()];
        table.add_row(cells.into_iter().chain(counts.iter().map(ToString::to_string)));
    }
    output::align_right(&mut table, 2..6);
    let mut text = output::table_text(&table);
    for trouble in &delivered.troubles {
        text += &format!("{trouble}\n");
    }
    text + &match delivered.remaining {
        0 => "nothing is left to deliver".to_owned(),
        rows => format!("{rows} rows remain in the journal; nothing is lost, run it again"),
    }
}
