//! `tripod status`: one screen on which everything stands.
//!
//! Constraints: each server is asked itself, with every login that the config has for it, all at the same time, within
//! seconds; one that does not answer hides nothing of the others. The ledger and the sinks' state are read from the
//! journals' files, with the bot alive or dead. What is wrong makes `ok` false and is said in a line; what is worth knowing is a note.

mod health;
mod rows;
mod servers;
mod sinks;
mod words;

use serde::Serialize;
use tripod::events::EventInfo;
use tripod::health::Component;
use tripod::ledger::{self, LedgerRow};
use tripod::settings::AppliedSettings;
use tripod::tape::{RecordTimes, SinkStatus};
use tripod::{Server, Timestamp};

use crate::args::Global;
use crate::exit::Exit;
use crate::output::Output;
use servers::{ServerStatus, State};

#[derive(Debug, Serialize)]
struct Status {
    servers: Vec<ServerStatus>,
    ledger: Vec<LedgerRow>,
    /// What each sink says, in whatever process it runs.
    sinks: Vec<SinkStatus>,
    /// What `record()` takes, by class.
    record: Vec<RecordTimes>,
    streams: Vec<EventInfo>,
    /// What components said last.
    components: Vec<Component>,
    /// What bots that watch settings run.
    settings: Vec<AppliedSettings>,
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
    let (tape, postgres, (prices, _), (events, streams), (components, settings)) = tokio::join!(
        servers::questdbs(&config),
        servers::postgres(&config),
        servers::redis(&config, Server::RedisPrices),
        servers::redis(&config, Server::RedisEvents),
        health::look(&config),
    );
    let mut servers = tape;
    servers.extend([postgres, prices, events]);
    let mut notes = Vec::new();
    if global.config.is_none() {
        notes = servers::explain_by_stack(global, &mut servers);
    }
    let mut ledger = ledger::of(&config)?;
    let mut found = rows::judge(&ledger);
    if ledger.iter().any(|row| row.delivered > 0) {
        let (later, waiting) = rows::look_again(&config, &ledger).await?;
        ledger = later;
        found = rows::judge(&ledger);
        found.extend(waiting);
    }
    found.extend(health::judge(&components, &settings));
    let (sinks, record) = (tripod::tape::statuses(&config)?, tripod::tape::record_times(&config)?);
    found.extend(sinks::judge(&sinks, &ledger, Timestamp::now()));
    found.extend(rows::retention(&config)?);
    notes.extend(found.notes);
    let alarms = found.alarms;
    let ok = servers.iter().all(|server| server.state == State::Running) && alarms.is_empty();
    let nothing_answers = servers.iter().all(|server| server.state == State::Unreachable);
    let status = Status {
        servers,
        ledger,
        sinks,
        record,
        streams,
        components,
        settings,
        backup: Backup::default(),
        alarms,
        notes,
        ok,
    };
    output.result(&status, || words::words(&status))?;
    Ok(match (ok, nothing_answers) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Unreachable,
        (false, false) => Exit::False,
    })
}
