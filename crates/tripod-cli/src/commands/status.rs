//! `tripod status`: one screen on which everything stands.
//!
//! Constraints: each server is asked itself, with every login that the config has for it, all at the same time, within
//! seconds; one that does not answer hides nothing of the others. The ledger is read from the journals' files, with the
//! bot alive or dead. What is wrong makes `ok` false and is said in a line; what is worth knowing is a note.

mod rows;
mod servers;
mod words;

use serde::Serialize;
use tripod::Server;
use tripod::events::EventInfo;
use tripod::ledger::{self, LedgerRow};

use crate::args::Global;
use crate::exit::Exit;
use crate::output::Output;
use servers::{ServerStatus, State};

#[derive(Debug, Serialize)]
struct Status {
    servers: Vec<ServerStatus>,
    ledger: Vec<LedgerRow>,
    streams: Vec<EventInfo>,
    backup: Backup,
    /// What is wrong with the rows; each makes `ok` false.
    alarms: Vec<String>,
    /// What is worth knowing and no alarm.
    notes: Vec<String>,
    ok: bool,
}

/// There is no backup command yet, so there is no backup to speak of.
#[derive(Debug, Default, Serialize)]
struct Backup {
    last_id: Option<String>,
    last_proven_at: Option<String>,
}

pub(super) async fn run(global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    let (tape, postgres, (prices, _), (events, streams)) = tokio::join!(
        servers::questdbs(&config),
        servers::postgres(&config),
        servers::redis(&config, Server::RedisPrices),
        servers::redis(&config, Server::RedisEvents),
    );
    let mut servers = tape;
    servers.extend([postgres, prices, events]);
    let mut notes = Vec::new();
    if global.config.is_none() {
        notes = servers::explain_by_stack(global, &mut servers);
    }
    let mut ledger = ledger::read(&config.journal_dir())?;
    let mut found = rows::judge(&ledger);
    if ledger.iter().any(|row| row.delivered > 0) {
        let (later, waiting) = rows::look_again(&config, &ledger).await?;
        ledger = later;
        found = rows::judge(&ledger);
        found.extend(waiting);
    }
    found.extend(rows::retention(&config)?);
    notes.extend(found.notes);
    let alarms = found.alarms;
    let ok = servers.iter().all(|server| server.state == State::Running) && alarms.is_empty();
    let nothing_answers = servers.iter().all(|server| server.state == State::Unreachable);
    let status = Status { servers, ledger, streams, backup: Backup::default(), alarms, notes, ok };
    output.result(&status, || words::words(&status))?;
    Ok(match (ok, nothing_answers) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Unreachable,
        (false, false) => Exit::False,
    })
}
