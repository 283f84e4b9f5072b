//! `tripod status`: one screen on which everything stands.
//!
//! Constraints: each server is asked itself, all at the same time, within seconds; one that does not answer hides
//! nothing of the others. The ledger is read from the journals' files, with the bot alive or dead.

use std::time::Duration;

use serde::Serialize;
use tripod::events::{EventInfo, Events};
use tripod::ledger::{self, LedgerRow};
use tripod::postgres::{Login, Postgres, migrations};
use tripod::redis::Link;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::schema::{self, ActionKind};
use tripod::tape::tables::builtin;
use tripod::{Config, Error, Server};

use super::{ask_questdb, questdb_name};
use crate::args::Global;
use crate::exit::Exit;
use crate::output::{self, Output};

/// A server that does not answer within this counts as unreachable.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct Status {
    servers: Vec<ServerStatus>,
    ledger: Vec<LedgerRow>,
    streams: Vec<EventInfo>,
    backup: Backup,
    ok: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Answers, and is as it should be.
    Running,
    /// Answers, and something about it is wrong: `detail` says what.
    Wrong,
    /// Does not answer.
    Unreachable,
}

#[derive(Debug, Serialize)]
struct ServerStatus {
    name: String,
    kind: &'static str,
    state: State,
    version: Option<String>,
    address: String,
    detail: String,
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
        questdbs(&config),
        postgres(&config),
        redis(&config, Server::RedisPrices),
        redis(&config, Server::RedisEvents),
    );
    let mut servers = tape;
    servers.extend([postgres, prices, events]);
    if global.config.is_none() {
        explain_by_stack(global, &mut servers);
    }
    let ledger = ledger::read(&config.journal_dir())?;
    let ok = servers.iter().all(|server| server.state == State::Running) && ledger.iter().all(|row| row.adds_up);
    let nothing_answers = servers.iter().all(|server| server.state == State::Unreachable);
    let status = Status { servers, ledger, streams, backup: Backup::default(), ok };
    output.result(&status, || words(&status))?;
    Ok(match (ok, nothing_answers) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Unreachable,
        (false, false) => Exit::False,
    })
}

/// A server's version and what is wrong with it, or why it does not answer.
type Answer = tripod::Result<(String, Option<String>)>;

fn server_status(name: String, kind: &'static str, address: String, answer: Answer) -> ServerStatus {
    let (state, version, detail) = match answer {
        Ok((version, None)) => (State::Running, Some(version), String::new()),
        Ok((version, Some(wrong))) => (State::Wrong, Some(version), wrong),
        Err(error @ (Error::Unreachable { .. } | Error::Deadline { .. })) => (State::Unreachable, None, chain(&error)),
        Err(error) => (State::Wrong, None, chain(&error)),
    };
    ServerStatus { name, kind, state, version, address, detail }
}

/// An error and its causes in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

async fn questdbs(config: &Config) -> Vec<ServerStatus> {
    let mut found = Vec::new();
    for (number, server) in config.questdb.iter().enumerate() {
        let prefix = config.tape.table_prefix.clone();
        let answer = ask_questdb(server, ANSWER_WITHIN, move |http| {
            let version = http.version()?;
            Ok((version, wrong_with_questdb(http, &prefix)?))
        })
        .await;
        found.push(server_status(questdb_name(config, number), "questdb", server.http.clone(), answer));
    }
    found
}

/// Suspended tables answer OK and show nothing; a schema that is behind keeps rows in the journal.
fn wrong_with_questdb(http: &QuestDbHttp, prefix: &str) -> tripod::Result<Option<String>> {
    let suspended = http.exec("SELECT name FROM wal_tables() WHERE suspended ORDER BY name")?;
    let names: Vec<_> = suspended.rows.iter().filter_map(|row| row.first()?.as_str()).collect();
    if !names.is_empty() {
        return Ok(Some(format!("suspended: {}; `ALTER TABLE … RESUME WAL` brings the rows back", names.join(", "))));
    }
    let plan = schema::plan(&schema::read_live(http)?, builtin(), prefix);
    let behind = plan.iter().filter(|action| action.action != ActionKind::None).count();
    Ok((behind > 0).then(|| format!("schema: {behind} changes are due; run `tripod migrate`")))
}

async fn postgres(config: &Config) -> ServerStatus {
    let address = config.postgres.hosts.join(", ");
    let answer = async {
        let postgres = Postgres::open_as(&config.postgres, Login::Bot, ANSWER_WITHIN)?;
        let version = postgres
            .call("ask for the version", async |client| {
                Ok(client.query_one("SHOW server_version", &[]).await?.try_get::<_, String>(0)?)
            })
            .await?;
        // "15.14 (Debian 15.14-0+deb12u1)"
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        match migrations::check(&postgres).await {
            Ok(()) => Ok((version, None)),
            Err(Error::Schema { what, .. }) => Ok((version, Some(what))),
            Err(error) => Err(error),
        }
    };
    server_status("postgres".to_owned(), "postgres", address, answer.await)
}

/// One Redis instance, and its streams where it is the one for events.
async fn redis(config: &Config, server: Server) -> (ServerStatus, Vec<EventInfo>) {
    let (name, redis) = match server {
        Server::RedisEvents => ("redis-events", &config.redis.events),
        _ => ("redis-prices", &config.redis.prices),
    };
    let asked = async {
        let link = Link::connect_admin(redis, server).await?;
        let instance = link.instance().await?;
        let wrong = (!instance.append_only_ok).then(|| "the last write to its append-only file failed".to_owned());
        let streams = match server {
            Server::RedisEvents => streams(link, config).await?,
            _ => Vec::new(),
        };
        Ok(((instance.version, wrong), streams))
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, asked)
        .await
        .unwrap_or_else(|_| Err(Error::Deadline { server, what: "status".to_owned(), after: ANSWER_WITHIN }));
    let (answer, streams) = match answer {
        Ok((answer, streams)) => (Ok(answer), streams),
        Err(error) => (Err(error), Vec::new()),
    };
    (server_status(name.to_owned(), "redis", redis.addresses.join(", "), answer), streams)
}

async fn streams(link: Link, config: &Config) -> tripod::Result<Vec<EventInfo>> {
    let events = Events::over(link, config)?;
    let mut streams = Vec::new();
    for topic in events.topics().await? {
        streams.extend(events.info(&topic).await?);
    }
    Ok(streams)
}

/// Where the servers are the local stack's, it knows why one does not answer.
fn explain_by_stack(global: &Global, servers: &mut [ServerStatus]) {
    let Ok(known) = tripod_stack::check(&global.data) else { return };
    for server in servers.iter_mut().filter(|server| server.state == State::Unreachable) {
        if let Some(known) = known.iter().find(|known| known.name.as_str() == server.name && !known.detail.is_empty()) {
            server.detail.clone_from(&known.detail);
        }
    }
}

fn words(status: &Status) -> String {
    let mut text = servers_words(&status.servers);
    text += "\n";
    text += &ledger_words(&status.ledger);
    if !status.streams.is_empty() {
        text += "\n";
        text += &streams_words(&status.streams);
    }
    text += "\nlast proven backup  none\n";
    text += if status.ok { "all is well" } else { "something is wrong: see above" };
    text
}

fn servers_words(servers: &[ServerStatus]) -> String {
    let mut table = output::table(&["server", "state", "version", "address", ""]);
    for server in servers {
        let state = match server.state {
            State::Running => "running",
            State::Wrong => "wrong",
            State::Unreachable => "unreachable",
        };
        table.add_row([
            server.name.as_str(),
            state,
            server.version.as_deref().unwrap_or("-"),
            &server.address,
            &server.detail,
        ]);
    }
    output::table_text(&table)
}

fn ledger_words(ledger: &[LedgerRow]) -> String {
    if ledger.is_empty() {
        return "nothing was recorded here yet\n".to_owned();
    }
    let mut table = output::table(&[
        "table",
        "sink",
        "recorded",
        "pending",
        "delivered",
        "visible",
        "quarantined",
        "dropped",
        "adds up",
    ]);
    for row in ledger {
        let counts = [row.recorded, row.pending, row.delivered, row.visible, row.quarantined, row.dropped];
        let mut cells = vec![row.table.clone(), row.sink.clone()];
        cells.extend(counts.iter().map(ToString::to_string));
        cells.push(if row.adds_up { "yes" } else { "NO" }.to_owned());
        table.add_row(cells);
    }
    output::align_right(&mut table, 2..8);
    output::table_text(&table)
}

fn streams_words(streams: &[EventInfo]) -> String {
    let mut table =
        output::table(&["topic", "length", "cap", "group", "lag", "pending", "trimmed unread", "trimmed pending"]);
    for stream in streams {
        let head = [stream.topic.clone(), stream.length.to_string(), stream.cap.to_string()];
        if stream.groups.is_empty() {
            table.add_row(head.iter().map(String::as_str).chain(["-"; 5]));
        }
        for group in &stream.groups {
            let mut cells = head.to_vec();
            let unread = group.trimmed_unread.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
            cells.extend([group.name.clone(), group.lag.to_string(), group.pending.to_string(), unread]);
            cells.push(group.trimmed_pending.to_string());
            table.add_row(cells);
        }
    }
    output::align_right(&mut table, 1..3);
    output::align_right(&mut table, 4..8);
    output::table_text(&table)
}
