//! Redis, twice: one instance for prices that keeps nothing, one for events that keeps everything.
//!
//! Constraints: the default user is off; the bot's user cannot reconfigure, flush or stop the server; the operator's can
//! do everything. A server that says LOADING is not ready, though it accepts connections.
//!
//! ```text
//! DATA/stack/redis-KIND/{redis.conf,users.acl}    ours, written at each `up`
//! DATA/stack/redis-KIND/…                         append-only file and snapshot
//! SOCKETS/redis-KIND.sock                         its unix socket
//! ```

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::layout::{PRIVATE, make_dir};
use crate::programs::{major, named, not_it, path_dirs, version_line, why_not};
use crate::secrets::{Secret, write_private};
use crate::server::{Probe, clean_command};
use crate::state::{Programs, Stack};
use crate::{Owner, ServerName, replication, versions};

const PRICES_CONF: &str = include_str!("../conf/redis/prices.conf");
const EVENTS_CONF: &str = include_str!("../conf/redis/events.conf");

/// The operator's user.
pub(crate) const ADMIN: &str = "tripod_admin";
/// The bot's user.
pub(crate) const BOT: &str = "tripod_bot";

/// What the bot may do: read and write keys and streams, run scripts, publish and subscribe. Nothing that reconfigures,
/// empties, blocks or stops a server; of the commands that Redis counts as dangerous, the two that only report.
pub(crate) const BOT_RULES: &str = "resetchannels &* ~* -@all +@read +@write +@stream +@pubsub +@scripting +@connection \
                         +@transaction +@fast -@admin -@dangerous -function -script|flush -script|kill -script|debug \
                         +role +info";

/// Finds a Redis that is new enough.
pub(crate) fn find(programs: &mut Programs) -> Result<()> {
    let wanted = versions::major("REDIS_MAJOR_MIN");
    let what = format!("Redis {wanted} or newer (`redis-server`)");
    let named = named("TRIPOD_REDIS_SERVER", &what)?;
    let places = match &named {
        Some(program) => vec![program.clone()],
        None => path_dirs().iter().map(|dir| dir.join("redis-server")).collect::<Vec<PathBuf>>(),
    };
    for program in places.into_iter().filter(|program| program.is_file()) {
        // "Redis server v=7.0.15 sha=…"
        let line = version_line(&program, "--version").unwrap_or_default();
        let version = line.split(' ').find_map(|word| word.strip_prefix("v="));
        if version.and_then(major).is_some_and(|found| found >= wanted) {
            programs.redis_server = program;
            return Ok(());
        }
    }
    if let Some(program) = named {
        let said = version_line(&program, "--version");
        return Err(not_it("TRIPOD_REDIS_SERVER", &program, &what, &why_not(&program, said.as_deref())));
    }
    Err(Error::Missing { what, looked: "TRIPOD_REDIS_SERVER, PATH".to_owned(), wrong: None })
}

fn passwords(stack: &Stack, server: ServerName) -> (&Secret, &Secret) {
    let all = &stack.state.passwords;
    if server == ServerName::RedisPrices {
        (&all.prices_bot, &all.prices_admin)
    } else {
        (&all.events_bot, &all.events_admin)
    }
}

/// Writes the config file and the users.
pub(crate) fn prepare(stack: &Stack, server: ServerName) -> Result<()> {
    let dir = stack.layout.dir(server);
    make_dir(&dir, PRIVATE)?;
    let template = match server {
        ServerName::RedisPrices => PRICES_CONF.to_owned(),
        _ if stack.is_replicated(server) => format!("{EVENTS_CONF}{}", replication::NODE_CONF),
        _ => EVENTS_CONF.to_owned(),
    };
    let users = dir.join("users.acl");
    let mut own = format!(
        "\n# This stack's own; written at each `tripod up`.\n\
         port {}\nunixsocket {}\nunixsocketperm 700\n{}\naclfile {}\nset-proc-title yes\n\
         proc-title-template \"{{title}} {}\"\n",
        stack.state.ports.first(server),
        quoted(&stack.state.places.redis_socket(server)),
        directory_line(&dir),
        quoted(&users),
        stack.tag(server),
    );
    if stack.state.owner == Owner::Test {
        own.push_str("appendfsync no\n");
    }
    let mut more_users = String::new();
    if stack.is_replicated(server) {
        own.push_str(&replication::node_lines(stack));
        more_users = replication::node_users(stack);
    }
    write_private(&dir.join("redis.conf"), &format!("{template}{own}"), None)?;
    let (bot, admin) = passwords(stack, server);
    // Nobody can log in as the default user. It may do everything all the same: Redis before 8.4 replays a transaction of
    // its append-only file (and what a script wrote is one) only as far as the default user may, and drops the rest
    // without a word.
    let others = others(&std::fs::read_to_string(&users).unwrap_or_default());
    let acl = format!(
        "user default off resetpass resetchannels ~* &* +@all\nuser {ADMIN} on >{} ~* &* +@all\n\
         user {BOT} on >{} {BOT_RULES}\n{more_users}{others}",
        admin.expose(),
        bot.expose()
    );
    write_private(&users, &acl, None)
}

/// Users that somebody made on the server and saved, an exporter's: they stay.
fn others(acl: &str) -> String {
    let ours = ["default", ADMIN, BOT, replication::SENTINEL, replication::REPLICA];
    let name = |line: &str| line.strip_prefix("user ").and_then(|rest| rest.split(' ').next().map(str::to_owned));
    let theirs = acl.lines().filter(|line| name(line).is_some_and(|name| !ours.contains(&name.as_str())));
    theirs.map(|line| format!("{line}\n")).collect()
}

/// The line of its config that says where it works.
pub(crate) fn directory_line(dir: &std::path::Path) -> String {
    format!("dir {}", quoted(dir))
}

/// A path as Redis reads it back from its config.
pub(crate) fn quoted(path: &std::path::Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

/// The command that starts it.
pub(crate) fn command(stack: &Stack, server: ServerName) -> Command {
    let mut command = clean_command(&stack.state.programs.redis_server);
    // Says nothing to syslog, which is off; it is how the process is known until it has read its title.
    command.arg(stack.layout.dir(server).join("redis.conf")).args(["--syslog-ident", &stack.tag(server)]);
    command
}

/// Logs in, asks PING and for its version.
pub(crate) fn probe(stack: &Stack, server: ServerName, at_most: Duration) -> Probe {
    let (_, admin) = passwords(stack, server);
    match ask(stack.state.ports.first(server), admin, at_most) {
        Ok(version) => Probe::Ready(version),
        Err(e) => why_silent(&e, at_most),
    }
}

/// What an error of a question to it says about it.
pub(crate) fn why_silent(error: &std::io::Error, at_most: Duration) -> Probe {
    match error {
        e if e.kind() == ErrorKind::ConnectionRefused => Probe::Starting("does not listen yet".to_owned()),
        e if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Probe::Silent(format!("no answer to PING within {at_most:?}"))
        }
        e if e.to_string().starts_with("LOADING") => Probe::Starting("is loading its data".to_owned()),
        e => Probe::Silent(format!("no answer to PING: {e}")),
    }
}

fn ask(port: u16, admin: &Secret, at_most: Duration) -> std::io::Result<Option<String>> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), at_most)?;
    stream.set_read_timeout(Some(at_most))?;
    stream.set_write_timeout(Some(at_most))?;
    stream.write_all(format!("AUTH {ADMIN} {}\r\nPING\r\nINFO server\r\n", admin.expose()).as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = || -> std::io::Result<String> {
        let mut text = String::new();
        reader.by_ref().take(1024).read_line(&mut text)?;
        let text = text.trim_end();
        match text.strip_prefix('-') {
            Some(refused) => Err(std::io::Error::other(refused.to_owned())),
            None if text.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            None => Ok(text.to_owned()),
        }
    };
    // To AUTH and PING; then "$SIZE", "# Server", "redis_version:7.0.15".
    for _ in 0..4 {
        line()?;
    }
    Ok(line()?.strip_prefix("redis_version:").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_somebody_else_stay_and_ours_are_not_doubled() {
        let acl = format!("user default off\nuser {BOT} on #00 ~*\nuser watcher on #11 -@all +info\n# a word\n\n");
        assert_eq!(others(&acl), "user watcher on #11 -@all +info\n");
    }
}
