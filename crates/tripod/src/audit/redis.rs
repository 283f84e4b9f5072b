//! Redis: settings for what it holds, the default user, what the bot's user really may, persistence, room, the clock; with
//! high availability the sentinels and the replicas.

mod sentinels;
mod settings;

use std::time::Duration;

use ::redis::{Cmd, Value, cmd};

use super::{Departure, Finding, clock};
use crate::config;
use crate::error::{Error, Result, Server};
use crate::redis::{Instance, Link};
use crate::value::Timestamp;

pub use sentinels::{replicas, sentinels};

/// The major version that everything here was tried with.
pub const TESTED: u64 = 7;

/// Looks at one instance through its operator's login. [`Link::server`] says what it holds; `prefix` stands before the
/// bot's keys there.
///
/// # Errors
/// As every call, where the server does not answer at all.
pub async fn look(link: &Link, config: &config::Redis, prefix: &str) -> Result<Vec<Departure>> {
    let instance = link.instance().await?;
    let mut found = settings::judge(link.server(), &instance);
    found.extend(bot_user(link, &config.user).await?);
    // What follows is of a user that is there.
    let has_user = found.iter().all(|departure| departure.id != "redis.bot-user" && departure.id != "redis.unknown");
    let before = Timestamp::now();
    let (seconds, micros): (u64, u64) = link.query("TIME", &cmd("TIME")).await?;
    let theirs = Duration::from_secs(seconds) + Duration::from_micros(micros);
    if let Some(theirs) = i64::try_from(theirs.as_nanos()).ok().and_then(|at| Timestamp::from_nanos(at).ok()) {
        found.extend(clock(Finding::RedisClock, &link.server().to_string(), before, theirs, Timestamp::now()));
    }
    found.extend(default_user(link, &instance).await?);
    if has_user {
        found.extend(rights(link, &config.user, prefix).await?);
    }
    if link.server() == Server::RedisEvents {
        found.extend(append_sync(link).await?);
    }
    Ok(found)
}

/// The part that a server's config file settles, and whether the bot's user is there: what `tripod migrate` looks at. The
/// same judge as [`look`]'s.
///
/// # Errors
/// As [`look`].
pub async fn look_at_settings(link: &Link, config: &config::Redis) -> Result<Vec<Departure>> {
    let mut found = settings::judge(link.server(), &link.instance().await?);
    found.extend(bot_user(link, &config.user).await?);
    Ok(found)
}

/// Whether there is such a user at all.
async fn bot_user(link: &Link, user: &str) -> Result<Option<Departure>> {
    match dry_run(link, user, &cmd("PING")).await {
        Ok(_) => Ok(None),
        Err(Error::Refused { what, .. }) if what.contains("not found") => Ok(Some(Departure::wrong(
            Finding::RedisBotUser,
            format!("{}: there is no user {user}", link.server()),
            "the bot cannot log in",
            format!(
                "ACL SETUSER {user} on >PASSWORD ~* &* -@all +@read +@write +@stream +@pubsub +@scripting \
                 +@connection +@transaction +@fast -@admin -@dangerous +role +info; then ACL SAVE"
            ),
        ))),
        Err(Error::Refused { what, .. }) => Ok(Some(unknown(user, &what))),
        Err(error) => Err(error),
    }
}

/// Redis before 8.4 replays a transaction of its append-only file, and what a script wrote is one, only as far as the
/// default user may, and drops the rest without a word.
async fn default_user(link: &Link, instance: &Instance) -> Result<Option<Departure>> {
    if !instance.append_only || instance.at_least(8, 4) {
        return Ok(None);
    }
    let lacks = match dry_run(link, "default", cmd("XADD").arg("any").arg("*").arg("f").arg("v")).await {
        Ok(lacks) => lacks,
        Err(Error::Refused { what, .. }) => return Ok(Some(unknown("the default user", &what))),
        Err(error) => return Err(error),
    };
    Ok(lacks.map(|words| {
        Departure::wrong(
            Finding::RedisDefaultUser,
            format!("{}: the default user may not write ({words})", link.server()),
            "this version replays what scripts wrote with the default user's rights: a restart loses it, silently",
            "ACL SETUSER default off resetpass ~* &* +@all (nobody can log in as it), in the ACL file too; or Redis 8.4",
        )
    }))
}

/// What the bot does, tried without doing it.
async fn rights(link: &Link, user: &str, prefix: &str) -> Result<Vec<Departure>> {
    let mut found = Vec::new();
    let mut lacking = Vec::new();
    for command in needs(link.server(), prefix) {
        match dry_run(link, user, &command).await {
            Ok(None) => {}
            Ok(Some(words)) => lacking.push(words),
            Err(Error::Refused { what, .. }) => {
                found.push(unknown(user, &what));
                break;
            }
            Err(error) => return Err(error),
        }
    }
    if !lacking.is_empty() {
        found.push(Departure::wrong(
            Finding::RedisBotRights,
            format!("{}: user {user} lacks rights: {}", link.server(), lacking.join("; ")),
            "what needs them fails with NOPERM when it is needed, and not before",
            format!("ACL SETUSER {user} with what it lacks, and ACL SAVE"),
        ));
    }
    for forbidden in [cmd("FLUSHALL"), cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").clone(), cmd("SHUTDOWN")] {
        if found.is_empty() && matches!(dry_run(link, user, &forbidden).await, Ok(None)) {
            let name = String::from_utf8_lossy(&forbidden.get_packed_command()).into_owned();
            let name = name.split("\r\n").nth(2).unwrap_or_default().to_owned();
            found.push(Departure::wrong(
                Finding::RedisBotRights,
                format!("{}: user {user} may {name}", link.server()),
                "a stolen or broken bot can empty or stop the server",
                format!("ACL SETUSER {user} -@admin -@dangerous, then add back what it lacks; ACL SAVE"),
            ));
        }
    }
    Ok(found)
}

/// The commands of a bot, with keys of their kind; each `@` is the prefix.
const NEEDS_PRICES: [&str; 7] = [
    "MGET @price:x guard:{@price:x}",
    "SET @price:x 1 PX 1000",
    "SET guard:{@price:x} 1 PX 1000",
    "SCAN 0",
    "PUBLISH @prices 1",
    "SUBSCRIBE @prices",
    "EVALSHA 0 0",
];
const NEEDS_EVENTS: [&str; 15] = [
    "XADD @events:x MAXLEN = 10 * f v",
    "XREADGROUP GROUP g c STREAMS @events:x >",
    "XREAD STREAMS @events:x 0",
    "XACK @events:x g 1-1",
    "XAUTOCLAIM @events:x g c 1000 0",
    "XCLAIM @events:x g c 0 1-1 IDLE 0 JUSTID",
    "XGROUP SETID @events:x g 0",
    "XPENDING @events:x g",
    "XINFO STREAM @events:x",
    "XRANGE @events:x - +",
    "SET @events:x:key 1 PX 1000",
    "TIME",
    "PUBLISH @signals:x 1",
    "SUBSCRIBE @signals:x",
    "EVALSHA 0 0",
];

fn needs(server: Server, prefix: &str) -> Vec<Cmd> {
    let command = |line: &&str| {
        let mut words = line.split(' ').map(|word| word.replace('@', prefix));
        let mut command = cmd(&words.next().unwrap_or_default());
        for word in words {
            command.arg(word);
        }
        command
    };
    match server {
        Server::RedisEvents => NEEDS_EVENTS.iter().map(command).collect(),
        _ => NEEDS_PRICES.iter().map(command).collect(),
    }
}

/// None: it may. Else the server's words.
async fn dry_run(link: &Link, user: &str, command: &Cmd) -> Result<Option<String>> {
    let mut ask = cmd("ACL");
    ask.arg("DRYRUN").arg(user);
    for argument in command.args_iter() {
        if let ::redis::Arg::Simple(word) = argument {
            ask.arg(word);
        }
    }
    Ok(match link.query::<Value>("ACL DRYRUN", &ask).await? {
        Value::Okay => None,
        Value::SimpleString(word) if word == "OK" => None,
        Value::BulkString(words) => Some(String::from_utf8_lossy(&words).into_owned()),
        other => Some(format!("{other:?}")),
    })
}

async fn append_sync(link: &Link) -> Result<Option<Departure>> {
    let ask = link.query::<Vec<String>>("CONFIG GET", cmd("CONFIG").arg("GET").arg("appendfsync")).await;
    let value = match ask {
        Ok(pair) => pair.into_iter().nth(1).unwrap_or_default(),
        Err(Error::Refused { what, .. }) => return Ok(Some(unknown("appendfsync", &what))),
        Err(error) => return Err(error),
    };
    Ok((value == "no").then(|| {
        Departure::advice(
            Finding::RedisAppendSync,
            format!("{}: appendfsync is no", link.server()),
            "a power loss takes half a minute of events instead of a second",
            settings::set("appendfsync", "everysec"),
        )
    }))
}

fn unknown(what: &str, words: &str) -> Departure {
    Departure::advice(
        Finding::RedisUnknown,
        format!("{what} cannot be looked at: {words}"),
        "what nobody can look at may be wrong",
        "give `admin_user` the right: ACL SETUSER … +acl +config|get +info",
    )
}
