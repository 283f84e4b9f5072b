//! Events with high availability: three Redis nodes, three sentinels that watch them.
//!
//! Constraints: the sentinels alone say which node is the primary. A node that died as the primary is not started again
//! before they have made another one the primary: started at once it would be back as it was and nothing would fail
//! over; started later by itself it would take writes that are thrown away when it is demoted, ten seconds after that.
//! The sentinels keep their own config files up to date: those are written here only while no sentinel runs. Files that
//! Redis itself rewrites hold passwords: nodes and sentinels run with a umask that keeps them their owner's.
//!
//! ```text
//! redis-sentinel-1 ┐                 ┌ redis-events    primary ◀── writes, with one replica in sight
//! redis-sentinel-2 ├─ ask, decide ──▶├ redis-events-2  replica
//! redis-sentinel-3 ┘  (two of three) └ redis-events-3  replica
//!        ▲ who is the primary?
//! supervisor, before it starts a node: as the primary, as a replica of that one, or not yet
//! ```
//! After everything was down, the newest of the sentinels' files says who was the primary last.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::Result;
use crate::layout::{PRIVATE, make_dir};
use crate::secrets::{Secret, write_private};
use crate::server::{Probe, clean_command};
use crate::state::Stack;
use crate::wire::{Reply, ask};
use crate::{ServerName, process, redis};

/// What the sentinels call the primary.
pub(crate) const PRIMARY_NAME: &str = "tripod";
/// The sentinels' user at the nodes, and at each other.
pub(crate) const SENTINEL: &str = "tripod_sentinel";
/// The replicas' user at their primary.
pub(crate) const REPLICA: &str = "tripod_replica";

const SENTINEL_CONF: &str = include_str!("../conf/redis/sentinel.conf");
pub(crate) const NODE_CONF: &str = include_str!("../conf/redis/events-ha.conf");

/// A primary that has not answered for this long is gone. 1000 makes sentinels take a new primary for gone that they have
/// just connected to, which costs 17 s; more only makes an outage longer.
const DOWN_AFTER_MS: u32 = 2000;
/// A failover that did not work is tried again after twice this.
const FAILOVER_TIMEOUT_MS: u32 = 5000;
/// Sentinels that must agree that the primary is gone.
const QUORUM: usize = 2;

/// What a sentinel may do at a node (sentinel.conf of Redis 7).
const SENTINEL_RULES: &str = "resetchannels &__sentinel__:hello -@all +auth +hello +multi +slaveof +ping +exec +subscribe \
                              +config|rewrite +role +publish +info +client|setname +client|kill +script|kill";
/// What a sentinel may do at another one. Without PUBLISH one that was busy with a failover would not hear in time that
/// there was another one since, and undo it.
const PEER_RULES: &str = "resetchannels &__sentinel__:hello -@all +auth +hello +ping +publish \
                          +sentinel|is-master-down-by-addr +client|setname";
/// What a replica may do at its primary.
const REPLICA_RULES: &str = "resetchannels -@all +auth +psync +replconf +ping";
/// What a bot may ask a sentinel: who is the primary, to be told when it changes, and whether they could agree on another.
const ASKER_RULES: &str = "resetchannels &+switch-master -@all +@connection -@dangerous +sentinel|master \
                           +sentinel|get-master-addr-by-name +sentinel|ckquorum +subscribe +unsubscribe";

/// How long one sentinel may take to say what it knows.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);

/// Before a start: passwords where there are none yet, and who was the primary last. The ports are still those of the
/// last start.
pub(crate) fn make_ready(stack: &mut Stack) -> Result<()> {
    if !stack.state.servers.events_ha {
        return Ok(());
    }
    let passwords = &mut stack.state.passwords;
    if passwords.events_sentinel.is_none() || passwords.events_replica.is_none() {
        passwords.events_sentinel = Some(Secret::fresh()?);
        passwords.events_replica = Some(Secret::fresh()?);
    }
    let files = ServerName::SENTINELS.map(|sentinel| std::fs::read_to_string(conf_of(stack, sentinel)));
    let last = files.iter().flatten().filter_map(|text| recorded(text)).max_by_key(|view| view.epoch);
    if let Some(node) = last.and_then(|view| node_at(stack, view.port)) {
        stack.state.events_primary = Some(node);
    }
    Ok(())
}

/// What one sentinel takes for the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct View {
    /// Grows with each failover; the greatest is the truth.
    epoch: u64,
    port: u16,
    /// Whether it is gone, or being replaced.
    troubled: bool,
    replicas: usize,
    sentinels: usize,
}

/// The view in a sentinel's file.
fn recorded(text: &str) -> Option<View> {
    let line = |start: &str| {
        let name = format!("{start} {PRIMARY_NAME} ");
        text.lines().find_map(|line| line.strip_prefix(&name))
    };
    let port = line("sentinel monitor")?.split(' ').nth(1)?.parse().ok()?;
    let epoch = line("sentinel config-epoch").and_then(|rest| rest.trim().parse().ok()).unwrap_or(0);
    Some(View { epoch, port, troubled: false, replicas: 0, sentinels: 0 })
}

fn view_of(stack: &Stack, sentinel: ServerName) -> std::io::Result<View> {
    let port = stack.state.ports.first(sentinel);
    let question = format!("SENTINEL MASTER {PRIMARY_NAME}");
    let answers = ask(port, redis::ADMIN, &stack.state.passwords.events_admin, &[&question], ANSWER_WITHIN)?;
    let answer = answers.first().unwrap_or(&Reply::Nil);
    let number = |name: &str| answer.field(name).and_then(|text| text.parse::<u64>().ok());
    let port = number("port").and_then(|port| u16::try_from(port).ok());
    let flags = answer.field("flags").unwrap_or_default();
    let count = |name: &str| number(name).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    Ok(View {
        epoch: number("config-epoch").unwrap_or(0),
        port: port.ok_or_else(|| std::io::Error::other(answer.text().to_owned()))?,
        troubled: flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "failover_in_progress")),
        replicas: count("num-slaves"),
        sentinels: count("num-other-sentinels"),
    })
}

fn views(stack: &Stack) -> Vec<View> {
    ServerName::SENTINELS.iter().filter_map(|sentinel| view_of(stack, *sentinel).ok()).collect()
}

fn node_at(stack: &Stack, port: u16) -> Option<ServerName> {
    ServerName::EVENTS.into_iter().find(|node| stack.state.ports.first(*node) == port)
}

/// The node that the sentinels take for the primary now; none where none of them answers.
pub(crate) fn primary_now(stack: &Stack) -> Option<ServerName> {
    views(stack).iter().max_by_key(|view| view.epoch).and_then(|view| node_at(stack, view.port))
}

/// As what a node is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The primary.
    Primary,
    /// A replica of that node.
    ReplicaOf(ServerName),
    /// It was the primary when it ended, and the sentinels have not replaced it yet.
    NotYet,
}

/// As what `node` is to be started; `ended` says that it ran and ended under this supervisor.
pub(crate) fn part_of(stack: &Stack, node: ServerName, ended: bool) -> Part {
    let views = views(stack);
    let others_live =
        ServerName::EVENTS.into_iter().any(|other| other != node && process::main_of(&stack.state.id, other).is_some());
    decide(stack, node, &views, ended, others_live)
}

fn decide(stack: &Stack, node: ServerName, views: &[View], ended: bool, others_live: bool) -> Part {
    let Some(view) = views.iter().max_by_key(|view| view.epoch) else {
        let primary = stack.state.events_primary.unwrap_or(ServerName::RedisEvents);
        return if primary == node { Part::Primary } else { Part::ReplicaOf(primary) };
    };
    match node_at(stack, view.port) {
        Some(other) if other != node => Part::ReplicaOf(other),
        // Two of them, and a replica that could take over: then they will. Without, it is the best there is.
        _ if others_live && views.len() >= QUORUM && view.replicas > 0 && (ended || view.troubled) => Part::NotYet,
        _ => Part::Primary,
    }
}

/// Users of a node beside the bot's and the operator's.
pub(crate) fn node_users(stack: &Stack) -> String {
    let passwords = &stack.state.passwords;
    match (&passwords.events_sentinel, &passwords.events_replica) {
        (Some(sentinel), Some(replica)) if stack.state.servers.events_ha => format!(
            "user {SENTINEL} on >{} {SENTINEL_RULES}\nuser {REPLICA} on >{} {REPLICA_RULES}\n",
            sentinel.expose(),
            replica.expose()
        ),
        _ => String::new(),
    }
}

/// Lines of a node's config beside those of a single one.
pub(crate) fn node_lines(stack: &Stack) -> String {
    match &stack.state.passwords.events_replica {
        Some(replica) if stack.state.servers.events_ha => {
            format!("masteruser {REPLICA}\nmasterauth {}\n", replica.expose())
        }
        _ => String::new(),
    }
}

fn conf_of(stack: &Stack, server: ServerName) -> PathBuf {
    stack.layout.dir(server).join("redis.conf")
}

/// Writes a sentinel's config, unless one of them runs: then they know more than stands here.
pub(crate) fn prepare_sentinel(stack: &Stack, sentinel: ServerName) -> Result<()> {
    let dir = stack.layout.dir(sentinel);
    make_dir(&dir, PRIVATE)?;
    let conf = conf_of(stack, sentinel);
    let one_runs = ServerName::SENTINELS.iter().any(|one| process::main_of(&stack.state.id, *one).is_some());
    if one_runs && conf.exists() {
        return Ok(());
    }
    let passwords = &stack.state.passwords;
    let Some(own) = &passwords.events_sentinel else { return Ok(()) };
    let users = dir.join("users.acl");
    let acl = format!(
        "user default off resetpass resetchannels -@all\nuser {} on >{} ~* &* +@all\nuser {} on >{} {ASKER_RULES}\n\
         user {SENTINEL} on >{} {PEER_RULES}\n",
        redis::ADMIN,
        passwords.events_admin.expose(),
        redis::BOT,
        passwords.events_bot.expose(),
        own.expose(),
    );
    write_private(&users, &acl, None)?;
    let primary = stack.state.events_primary.unwrap_or(ServerName::RedisEvents);
    let text = format!(
        "{SENTINEL_CONF}\n# This stack's own.\nport {port}\nunixsocket {socket}\nunixsocketperm 700\n{dir}\naclfile {users}\n\
         set-proc-title yes\nproc-title-template \"{{title}} {tag}\"\n\
         sentinel monitor {PRIMARY_NAME} 127.0.0.1 {primary} {QUORUM}\n\
         sentinel auth-user {PRIMARY_NAME} {SENTINEL}\nsentinel auth-pass {PRIMARY_NAME} {password}\n\
         sentinel sentinel-user {SENTINEL}\nsentinel sentinel-pass {password}\n\
         sentinel down-after-milliseconds {PRIMARY_NAME} {DOWN_AFTER_MS}\n\
         sentinel failover-timeout {PRIMARY_NAME} {FAILOVER_TIMEOUT_MS}\nsentinel parallel-syncs {PRIMARY_NAME} 2\n",
        port = stack.state.ports.first(sentinel),
        socket = redis::quoted(&stack.state.places.redis_socket(sentinel)),
        dir = redis::directory_line(&dir),
        users = redis::quoted(&users),
        tag = stack.tag(sentinel),
        primary = stack.state.ports.first(primary),
        password = own.expose(),
    );
    write_private(&conf, &text, None)
}

/// The command that starts a node or a sentinel. A node that is not to be started yet is started as the primary: whoever
/// does not want that asks [`part_of`] first.
pub(crate) fn command(stack: &Stack, server: ServerName) -> Command {
    let mut command = clean_command(Path::new("/bin/sh"));
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(&stack.state.programs.redis_server);
    command.arg(conf_of(stack, server));
    if server.is_sentinel() {
        command.arg("--sentinel");
    } else {
        // Whatever stands in the file: a sentinel had it rewritten when it made this node something else.
        match part_of(stack, server, false) {
            Part::ReplicaOf(primary) => {
                command.args(["--replicaof", "127.0.0.1", &stack.state.ports.first(primary).to_string()])
            }
            Part::Primary | Part::NotYet => command.args(["--replicaof", "no", "one"]),
        };
    }
    command.args(["--syslog-ident", &stack.tag(server)]);
    command
}

/// How it is: ready is a primary that answers, a replica that follows, a sentinel that knows all the others.
pub(crate) fn probe(stack: &Stack, server: ServerName, at_most: Duration) -> Probe {
    let port = stack.state.ports.first(server);
    let master = format!("SENTINEL MASTER {PRIMARY_NAME}");
    let questions = ["INFO server", if server.is_sentinel() { &master } else { "ROLE" }];
    let answers = match ask(port, redis::ADMIN, &stack.state.passwords.events_admin, &questions, at_most) {
        Ok(answers) => answers,
        Err(error) => return redis::why_silent(&error, at_most),
    };
    let [info, second] = answers.as_slice() else { return Probe::Silent("answered nothing".to_owned()) };
    let version = info.text().lines().find_map(|line| line.trim_end().strip_prefix("redis_version:"));
    let version = version.map(str::to_owned);
    if server.is_sentinel() {
        return match view_of(stack, server) {
            Ok(view) if view.troubled => Probe::Starting("takes the primary for gone, or is replacing it".to_owned()),
            Ok(view) if view.replicas >= 2 && view.sentinels >= 2 => Probe::Ready(version),
            Ok(view) => Probe::Starting(format!(
                "knows {} of 2 replicas and {} of 2 other sentinels",
                view.replicas, view.sentinels
            )),
            Err(error) => Probe::Silent(error.to_string()),
        };
    }
    match (second.parts().first().map(Reply::text), second.parts().get(3).map(Reply::text)) {
        (Some("master"), _) | (Some("slave"), Some("connected")) => Probe::Ready(version),
        (Some("slave"), state) => Probe::Starting(format!("replica, {}", state.unwrap_or("not connected"))),
        _ => Probe::Silent(format!("answered ROLE with `{}`", second.text())),
    }
}

/// What it does in the replication, in words; none where it does not answer.
pub(crate) fn role(stack: &Stack, server: ServerName, at_most: Duration) -> Option<String> {
    if server.is_sentinel() {
        let view = view_of(stack, server).ok()?;
        let primary = node_at(stack, view.port).map_or("an unknown node", ServerName::as_str);
        let trouble = if view.troubled { ", which it takes for gone" } else { "" };
        return Some(format!("sentinel; primary: {primary}{trouble}"));
    }
    let port = stack.state.ports.first(server);
    let answers = ask(port, redis::ADMIN, &stack.state.passwords.events_admin, &["ROLE"], at_most).ok()?;
    let parts = answers.first()?.parts();
    Some(match parts.first()?.text() {
        "master" => {
            let replicas = parts.get(2).map_or(0, |replicas| replicas.parts().len());
            format!("primary; {replicas} replica{}", if replicas == 1 { "" } else { "s" })
        }
        _ => {
            let of = parts.get(2).and_then(|port| port.text().parse().ok()).and_then(|port| node_at(stack, port));
            let state = parts.get(3).map_or("", Reply::text);
            format!("replica of {}, {state}", of.map_or("an unknown node", ServerName::as_str))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::{Owner, Servers};

    fn stack() -> (tempfile::TempDir, Stack) {
        let dir = tempfile::tempdir().unwrap();
        let (layout, _) = Layout::make(dir.path()).unwrap();
        let mut stack = Stack::fresh(&layout, true, Owner::Test, Servers::EVENTS_HA).unwrap();
        stack.state.ports.redis_events = 1;
        stack.state.ports.events_ha = [2, 3, 11, 12, 13];
        (dir, stack)
    }

    fn view(epoch: u64, port: u16) -> View {
        View { epoch, port, troubled: false, replicas: 2, sentinels: 2 }
    }

    #[test]
    fn the_newest_view_says_who_is_the_primary_and_a_dead_one_waits_for_its_successor() {
        use ServerName::{RedisEvents as One, RedisEvents2 as Two};
        let (_dir, stack) = stack();
        let part = |node, views: &[View], ended, others| decide(&stack, node, views, ended, others);
        // Nobody knows: the first is the primary.
        assert_eq!(part(One, &[], true, true), Part::Primary);
        assert_eq!(part(Two, &[], false, true), Part::ReplicaOf(One));
        // It ended as the primary; then one sentinel knows its successor, two do not yet.
        let before = [view(0, 1); 3];
        assert_eq!(part(One, &before, true, true), Part::NotYet);
        assert_eq!(part(One, &[view(0, 1), view(1, 2), view(0, 1)], true, true), Part::ReplicaOf(Two));
        assert_eq!(part(Two, &before, true, true), Part::ReplicaOf(One));
        // Nobody could take over: no other node, no quorum, no replica known.
        assert_eq!(part(One, &before, true, false), Part::Primary);
        assert_eq!(part(One, &before[..1], true, true), Part::Primary);
        assert_eq!(part(One, &[View { replicas: 0, ..view(0, 1) }; 3], true, true), Part::Primary);
        // A first start, and one of a supervisor that did not see the end.
        assert_eq!(part(One, &before, false, true), Part::Primary);
        assert_eq!(part(One, &[View { troubled: true, ..view(0, 1) }; 3], false, true), Part::NotYet);
    }

    #[test]
    fn the_last_primary_is_read_from_the_newest_file() {
        let (_dir, mut stack) = stack();
        for (sentinel, epoch, port) in [(0, 3, 1), (1, 4, 3), (2, 2, 2)] {
            let sentinel = ServerName::SENTINELS[sentinel];
            make_dir(&stack.layout.dir(sentinel), PRIVATE).unwrap();
            let text =
                format!("port 7\nsentinel monitor tripod 127.0.0.1 {port} 2\nsentinel config-epoch tripod {epoch}\n");
            std::fs::write(conf_of(&stack, sentinel), text).unwrap();
        }
        make_ready(&mut stack).unwrap();
        assert_eq!(stack.state.events_primary, Some(ServerName::RedisEvents3));
        assert!(stack.state.passwords.events_sentinel.is_some());
    }
}
