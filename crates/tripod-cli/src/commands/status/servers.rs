//! The servers, each asked itself, by every login that the config has for it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tripod::events::{EventInfo, Events};
use tripod::postgres::{Login, Postgres, migrations};
use tripod::redis::Link;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::schema::{self, ActionKind};
use tripod::tape::tables::builtin;
use tripod::{Config, Error, Server};

use super::super::{ask_questdb, questdb_name};
use crate::args::Global;
use crate::output;

/// A server that does not answer within this counts as unreachable.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Answers, and is as it should be.
    Running,
    /// Answers, and something about it is wrong: `detail` says what.
    Wrong,
    /// Does not answer.
    Unreachable,
}

#[derive(Debug, Serialize)]
pub(super) struct ServerStatus {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) state: State,
    pub(super) version: Option<String>,
    pub(super) address: String,
    pub(super) detail: String,
}

/// What a server says of itself: its version, and what is wrong with it.
type Facts = tripod::Result<(String, Option<String>)>;

/// The version where it is known and what is wrong, or why it does not answer.
type Answer = tripod::Result<(Option<String>, Option<String>)>;

fn server_status(name: String, kind: &'static str, address: String, answer: Answer) -> ServerStatus {
    let (state, version, detail) = match answer {
        Ok((version, None)) => (State::Running, version, String::new()),
        Ok((version, Some(wrong))) => (State::Wrong, version, wrong),
        Err(error) if is_absence(&error) => (State::Unreachable, None, chain(&error)),
        Err(error) => (State::Wrong, None, chain(&error)),
    };
    ServerStatus { name, kind, state, version, address, detail }
}

/// Characters of what is said about one answer at most: somebody else's server may answer with a whole page.
const DETAIL_CHARS_MAX: usize = 300;

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
    output::one_line(&text, DETAIL_CHARS_MAX)
}

pub(super) async fn questdbs(config: &Config) -> Vec<ServerStatus> {
    let mut found = Vec::new();
    for (number, server) in config.questdb.iter().enumerate() {
        let prefix = config.tape.table_prefix.clone();
        let answer = ask_questdb(server, ANSWER_WITHIN, move |http| {
            let version = http.version()?;
            Ok((Some(version), wrong_with_questdb(http, &prefix)?))
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
    let views = schema::read_views(http)?;
    let ours = views.0.iter().filter(|(name, _)| name.starts_with(prefix));
    let invalid: Vec<_> =
        ours.filter_map(|(name, view)| Some(format!("{name} ({})", view.invalid.as_ref()?))).collect();
    if !invalid.is_empty() {
        return Ok(Some(format!(
            "views that follow no more: {}; `tripod migrate` says the way out",
            invalid.join(", ")
        )));
    }
    let plan = schema::plan(&schema::read_live(http)?, builtin(), prefix);
    let behind = plan.iter().filter(|action| action.action != ActionKind::None).count();
    Ok((behind > 0).then(|| format!("schema: {} due; run `tripod migrate`", output::counted(behind, "change"))))
}

pub(super) async fn postgres(config: &Config) -> ServerStatus {
    let settings = &config.postgres;
    let bot = async {
        let postgres = Postgres::open_as(settings, Login::Bot, ANSWER_WITHIN)?;
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
    let admin = async {
        let postgres = Postgres::open_as(settings, Login::Admin, ANSWER_WITHIN)?;
        postgres
            .call("log in", async |client| {
                client.query_one("SELECT 1", &[]).await?;
                Ok(())
            })
            .await
    };
    let (bot, admin) = tokio::join!(bot, admin);
    let answer = both((&settings.user, bot), (&settings.admin_user, admin));
    server_status("postgres".to_owned(), "postgres", settings.hosts.join(", "), answer)
}

/// One Redis instance, and its streams where it is the one for events.
pub(super) async fn redis(config: &Config, server: Server) -> (ServerStatus, Vec<EventInfo>) {
    let (name, redis) = match server {
        Server::RedisEvents => ("redis-events", &config.redis.events),
        _ => ("redis-prices", &config.redis.prices),
    };
    let admin = async {
        let link = Link::connect_admin(redis, server).await?;
        let instance = link.instance().await?;
        let wrong = (!instance.append_only_ok).then(|| "the last write to its append-only file failed".to_owned());
        let streams = match server {
            Server::RedisEvents => streams(link, config).await?,
            _ => Vec::new(),
        };
        Ok(((instance.version, wrong), streams))
    };
    let bot = async { Link::connect(redis, server).await.map(drop) };
    let (admin, bot) = tokio::join!(within(server, admin), within(server, bot));
    let (admin, streams) = match admin {
        Ok((answer, streams)) => (Ok(answer), streams),
        Err(error) => (Err(error), Vec::new()),
    };
    let answer = both((&redis.admin_user, admin), (&redis.user, bot));
    (server_status(name.to_owned(), "redis", redis.addresses.join(", "), answer), streams)
}

async fn within<T>(server: Server, work: impl Future<Output = tripod::Result<T>>) -> tripod::Result<T> {
    let late = |_| Error::Deadline { server, what: "status".to_owned(), after: ANSWER_WITHIN };
    tokio::time::timeout(ANSWER_WITHIN, work).await.map_err(late)?
}

/// The answers to a server's two logins as one: it is away where neither got an answer, and wrong where one did not get
/// what it must.
fn both((asker, asked): (&str, Facts), (other, logged_in): (&str, tripod::Result<()>)) -> Answer {
    let said = |user: &str, error: &Error| format!("login `{user}`: {}", chain(error));
    match (asked, logged_in) {
        (Ok((version, wrong)), Ok(())) => Ok((Some(version), wrong)),
        (Ok((version, wrong)), Err(error)) => {
            let wrongs: Vec<_> = [Some(said(other, &error)), wrong].into_iter().flatten().collect();
            Ok((Some(version), Some(wrongs.join("; "))))
        }
        (Err(error), Ok(())) => Ok((None, Some(said(asker, &error)))),
        (Err(error), Err(second)) => match (is_absence(&error), is_absence(&second)) {
            (true, true) => Err(error),
            (false, true) => Ok((None, Some(said(asker, &error)))),
            (true, false) => Ok((None, Some(said(other, &second)))),
            (false, false) => Ok((None, Some(format!("{}; {}", said(asker, &error), said(other, &second))))),
        },
    }
}

fn is_absence(error: &Error) -> bool {
    matches!(error, Error::Unreachable { .. } | Error::Deadline { .. })
}

async fn streams(link: Link, config: &Config) -> tripod::Result<Vec<EventInfo>> {
    let events = Events::over(link, config)?;
    let mut streams = Vec::new();
    for topic in events.topics().await? {
        streams.extend(events.info(&topic).await?);
    }
    Ok(streams)
}

/// Where the servers are the local stack's, it knows why one does not answer; what it says of those that run are notes.
pub(super) fn explain_by_stack(global: &Global, servers: &mut [ServerStatus]) -> Vec<String> {
    let Ok(known) = tripod_stack::check(&global.data) else { return Vec::new() };
    let said = |name: &str| known.iter().find(|known| known.name.as_str() == name && !known.detail.is_empty());
    let mut notes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for server in servers {
        let Some(known) = said(&server.name) else { continue };
        match server.state {
            State::Unreachable => server.detail.clone_from(&known.detail),
            State::Running | State::Wrong if known.state == tripod_stack::RunState::Running => {
                notes.entry(&known.detail).or_default().push(&server.name);
            }
            _ => {}
        }
    }
    let mut notes: Vec<String> =
        notes.into_iter().map(|(detail, names)| format!("{}: {detail}", names.join(", "))).collect();
    // What each node and each sentinel does, where events are replicated.
    notes.extend(known.iter().filter_map(|known| Some(format!("{}: {}", known.name, known.role.as_ref()?))));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Error {
        Error::Refused { server: Server::Postgres, what: "no".into(), code: Some("28P01".into()), source: None }
    }

    fn away() -> Error {
        Error::Deadline { server: Server::Postgres, what: "x".into(), after: ANSWER_WITHIN }
    }

    fn state(asked: Facts, logged_in: tripod::Result<()>) -> (State, String) {
        let status = server_status("p".into(), "postgres", "h:1".into(), both(("bot", asked), ("boss", logged_in)));
        (status.state, status.detail)
    }

    #[test]
    fn a_login_that_is_refused_is_wrong_and_named_whichever_it_is() {
        let fine = || Ok(("15".to_owned(), None));
        assert_eq!(state(fine(), Ok(())), (State::Running, String::new()));
        assert_eq!(state(fine(), Err(refused())), (State::Wrong, "login `boss`: PostgreSQL refused: no".into()));
        assert_eq!(state(Err(refused()), Ok(())), (State::Wrong, "login `bot`: PostgreSQL refused: no".into()));
        let (both_refused, detail) = state(Err(refused()), Err(refused()));
        assert!(both_refused == State::Wrong && detail.contains("`bot`") && detail.contains("`boss`"), "{detail}");
        assert_eq!(state(Err(away()), Err(away())).0, State::Unreachable);
        assert_eq!(state(Err(away()), Err(refused())).0, State::Wrong);
    }
}
