//! `tripod status`: one screen on which everything stands.
//!
//! Constraints: each server is asked itself, with every login that the config has for it, all at the same time, within
//! seconds; one that does not answer hides nothing of the others. The ledger and the sinks' state are read from the
//! journals' files, with the bot alive or dead. What is wrong makes `ok` false and is said in a line; what is worth knowing is a note.

mod health;
mod rows;
mod servers;
mod sinks;
mod watch;
mod words;

use serde::Serialize;
use tripod::events::EventInfo;
use tripod::health::Component;
use tripod::ledger::{self, LedgerRow};
use tripod::settings::AppliedSettings;
use tripod::tape::{RecordTimes, SinkStatus};
use tripod::{Config, Server, Timestamp};

use crate::args::{Global, Status as Arguments};
use crate::backup::store::Store;
use crate::backup::swap::{self, LastRestore};
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
    /// The last restore of QuestDB's data, in this data directory.
    restored: Option<LastRestore>,
    /// What is wrong with the rows; each makes `ok` false.
    alarms: Vec<String>,
    /// What is worth knowing and no alarm.
    notes: Vec<String>,
    ok: bool,
}

/// What stands in the directory of backups.
#[derive(Debug, Default, Serialize)]
struct Backup {
    last_id: Option<String>,
    /// The newest backup that a restore on servers of its own has proven, and when it did.
    last_proven_id: Option<String>,
    last_proven_at: Option<String>,
}

impl Backup {
    fn look(config: &Config) -> anyhow::Result<Self> {
        let (last_id, proof) = Store::new(&config.backup.dir).last()?;
        let proven = proof.map(|proof| (proof.id, proof.at.to_string()));
        let (last_proven_id, last_proven_at) = proven.unzip();
        Ok(Self { last_id, last_proven_id, last_proven_at })
    }
}

pub(super) async fn run(arguments: &Arguments, global: &Global, output: Output) -> anyhow::Result<Exit> {
    if arguments.watch {
        return Box::pin(watch::run(global, output)).await;
    }
    let status = Box::pin(look(global)).await?;
    output.result(&status, || words::words(&status))?;
    Ok(status.exit())
}

/// One look at everything.
async fn look(global: &Global) -> anyhow::Result<Status> {
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
    let restored = swap::last_restore(&global.data)?;
    found.extend(sinks::judge(&sinks, &ledger, restored.as_ref(), Timestamp::now()));
    found.extend(rows::retention(&config)?);
    notes.extend(found.notes);
    let alarms = found.alarms;
    let ok = servers.iter().all(|server| server.state == State::Running) && alarms.is_empty();
    let backup = Backup::look(&config)?;
    Ok(Status { servers, ledger, sinks, record, streams, components, settings, backup, restored, alarms, notes, ok })
}

impl Status {
    fn exit(&self) -> Exit {
        let nothing_answers = self.servers.iter().all(|server| server.state == State::Unreachable);
        match (self.ok, nothing_answers) {
            (true, _) => Exit::Done,
            (false, true) => Exit::Unreachable,
            (false, false) => Exit::False,
        }
    }
}
