//! `tripod events …`: streams as bots see them, and what an operator does about them.
//!
//! Constraints: looking changes nothing: reading along is done without a group. What throws something away asks for
//! `--yes`. A topic or group that does not exist is "checked and false" (exit 1), never an empty document.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use tripod::Server;
use tripod::events::{
    ConsumerInfo, DeadLetter, Draft, Event, EventId, EventInfo, Events as Streams, Follow, Missed, PendingInfo,
};
use tripod::redis::Link;

use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// Characters of a payload in a table.
const PAYLOAD_CHARS: usize = 80;

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// Print a topic's events: the newest ones, or as they come
    Tail(Tail),
    /// How far each group is: lag, pending, and what the cap took before it was read or acknowledged
    Groups(Groups),
    /// What a group was given and has not acknowledged, and its consumers
    Pending(Pending),
    /// Events that a group gave up, with the reasons
    Dead(Dead),
    /// Publish dead letters again, for the group that gave them up
    Redrive(Redrive),
    /// Throw dead letters away for good
    Drop(DropDead),
    /// Publish one event
    Publish(Publish),
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Events at most; with --for: it ends early when it has so many
    #[arg(short, long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    number: u32,
    /// Wait for new ones, so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    r#for: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Groups {
    /// The topic [default: all]
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Pending {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// The group
    #[arg(value_name = "GROUP")]
    group: String,
    /// Events at most, the oldest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Dead {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Dead letters at most, the oldest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Redrive {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Their ids in `dead`
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<EventId>,
    /// All of them
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DropDead {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Their ids in `dead`
    #[arg(value_name = "ID", required = true)]
    ids: Vec<EventId>,
    /// Yes, really throw them away
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// What kind of event, as consumers expect it
    #[arg(value_name = "KIND")]
    kind: String,
    /// The payload as JSON
    #[arg(value_name = "JSON")]
    payload: String,
    /// Published again under the same key within ten minutes, it is one event
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

pub(super) async fn run(command: Events, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    // Publishing needs no more than a bot may; looking into everything needs the operator's login.
    let publishes = matches!(command, Events::Publish(_) | Events::Redrive(_) | Events::Drop(_));
    let link = match publishes {
        true => Link::connect(&config.redis.events, Server::RedisEvents).await?,
        false => Link::connect_admin(&config.redis.events, Server::RedisEvents).await?,
    };
    let streams = Streams::over(link, &config)?;
    match command {
        Events::Tail(arguments) => tail(&arguments, &streams, output).await,
        Events::Groups(arguments) => groups(&arguments, &streams, output).await,
        Events::Pending(arguments) => pending(&arguments, &streams, output).await,
        Events::Dead(arguments) => dead(&arguments, &streams, output).await,
        Events::Redrive(arguments) => redrive(&arguments, &streams, output).await,
        Events::Drop(arguments) => drop_dead(&arguments, &streams, output).await,
        Events::Publish(arguments) => publish(&arguments, &streams, output).await,
    }
}

async fn info(streams: &Streams, topic: &str) -> anyhow::Result<EventInfo> {
    let found = streams.info(topic).await?;
    Ok(found.ok_or_else(|| Stop::untrue(format!("there is no topic {topic}"), "`tripod events groups` lists them"))?)
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    kind: String,
    key: Option<String>,
    time: Option<String>,
    payload: String,
}

impl From<Event> for Row {
    fn from(event: Event) -> Self {
        Self {
            id: event.id.to_string(),
            kind: event.kind,
            key: event.key,
            time: event.time.map(|time| time.to_string()),
            payload: String::from_utf8_lossy(&event.payload).into_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Tailed {
    topic: String,
    /// Events that the cap took while this was reading; null where that is not known.
    missed: Option<u64>,
    events: Vec<Row>,
}

async fn tail(arguments: &Tail, streams: &Streams, output: Output) -> anyhow::Result<Exit> {
    let topic = &arguments.topic;
    let most = usize::try_from(arguments.number).context("too many")?;
    let mut tailed = Tailed { topic: topic.clone(), missed: Some(0), events: Vec::new() };
    if let Some(seconds) = arguments.r#for {
        let mut follower = streams.follower(topic, Follow::Now).await?;
        let end = Instant::now() + Duration::from_secs(seconds);
        while tailed.events.len() < most {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(read) = tokio::time::timeout(left, follower.next()).await else { break };
            let read = read?;
            tailed.missed = match read.missed {
                Missed::Exactly(more) => tailed.missed.map(|missed| missed + more),
                Missed::Unknown => None,
            };
            tailed.events.extend(read.events.into_iter().map(Row::from));
            if left.is_zero() {
                break;
            }
        }
        tailed.events.truncate(most);
    } else {
        info(streams, topic).await?;
        let newest = streams.newest(topic, most).await?;
        tailed.events.extend(newest.into_iter().map(Row::from));
    }
    output.result(&tailed, || {
        let mut table = output::table(&["id", "kind", "key", "time", "payload"]);
        for row in &tailed.events {
            table.add_row([
                row.id.clone(),
                output::one_line(&row.kind, PAYLOAD_CHARS),
                output::one_line(row.key.as_deref().unwrap_or("-"), PAYLOAD_CHARS),
                row.time.clone().unwrap_or_else(|| "-".to_owned()),
                output::one_line(&row.payload, PAYLOAD_CHARS),
            ]);
        }
        let missed = match tailed.missed {
            Some(0) => String::new(),
            Some(missed) => format!("{} trimmed by the cap before this read them\n", output::counted(missed, "event")),
            None => "some were trimmed by the cap before this read them; how many is not known\n".to_owned(),
        };
        output::table_text(&table) + &missed
    })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Listed {
    streams: Vec<EventInfo>,
}

async fn groups(arguments: &Groups, streams: &Streams, output: Output) -> anyhow::Result<Exit> {
    let mut listed = Listed { streams: Vec::new() };
    match &arguments.topic {
        Some(topic) => listed.streams.push(info(streams, topic).await?),
        None => {
            for topic in streams.topics().await? {
                listed.streams.extend(streams.info(&topic).await?);
            }
        }
    }
    output.result(&listed, || {
        if listed.streams.is_empty() {
            return "there is no topic yet".to_owned();
        }
        let header = ["topic", "length", "cap", "dead", "group", "lag", "pending", "trimmed unread", "trimmed pending"];
        let mut table = output::table(&header);
        for stream in &listed.streams {
            let own =
                [stream.topic.clone(), stream.length.to_string(), stream.cap.to_string(), stream.dead.to_string()];
            if stream.groups.is_empty() {
                table.add_row(own.iter().cloned().chain(["-".to_owned()]));
            }
            for group in &stream.groups {
                let unread = group.trimmed_unread.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
                let more = [
                    group.name.clone(),
                    group.lag.to_string(),
                    group.pending.to_string(),
                    unread,
                    group.trimmed_pending.to_string(),
                ];
                table.add_row(own.iter().cloned().chain(more));
            }
        }
        output::align_right(&mut table, 1..4);
        output::align_right(&mut table, 5..9);
        output::table_text(&table)
    })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Held {
    pending: Vec<PendingInfo>,
    consumers: Vec<ConsumerInfo>,
}

async fn pending(arguments: &Pending, streams: &Streams, output: Output) -> anyhow::Result<Exit> {
    let found = info(streams, &arguments.topic).await?;
    if !found.groups.iter().any(|group| group.name == arguments.group) {
        let what = format!("{} has no group {}", arguments.topic, arguments.group);
        return Err(Stop::untrue(what, "`tripod events groups` lists them").into());
    }
    let limit = usize::try_from(arguments.limit).context("too many")?;
    let held = Held {
        pending: streams.pending(&arguments.topic, &arguments.group, limit).await?,
        consumers: streams.consumers(&arguments.topic, &arguments.group).await?,
    };
    output.result(&held, || {
        let mut consumers = output::table(&["consumer", "pending", "idle ms"]);
        for one in &held.consumers {
            consumers.add_row([one.name.clone(), one.pending.to_string(), one.idle_ms.to_string()]);
        }
        output::align_right(&mut consumers, 1..3);
        let mut pending = output::table(&["id", "consumer", "idle ms", "deliveries"]);
        for one in &held.pending {
            pending.add_row([one.id.clone(), one.consumer.clone(), one.idle_ms.to_string(), one.tries.to_string()]);
        }
        output::align_right(&mut pending, 2..4);
        format!("{}\n{}", output::table_text(&consumers), output::table_text(&pending))
    })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Letters {
    dead: Vec<DeadLetter>,
}

async fn dead(arguments: &Dead, streams: &Streams, output: Output) -> anyhow::Result<Exit> {
    let limit = usize::try_from(arguments.limit).context("too many")?;
    let letters = Letters { dead: streams.dead(&arguments.topic, limit).await? };
    output.result(&letters, || {
        if letters.dead.is_empty() {
            return format!("{} has no dead letters", arguments.topic);
        }
        let mut table = output::table(&["id", "group", "deliveries", "died", "kind", "reason", "payload"]);
        for letter in &letters.dead {
            table.add_row([
                letter.id.to_string(),
                letter.group.clone(),
                letter.tries.to_string(),
                letter.died.map_or_else(|| "-".to_owned(), |died| died.to_string()),
                output::one_line(&letter.kind, PAYLOAD_CHARS),
                output::one_line(&letter.reason, PAYLOAD_CHARS),
                output::one_line(&String::from_utf8_lossy(&letter.payload), PAYLOAD_CHARS),
            ]);
        }
        output::table_text(&table)
    })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Redriven {
    redriven: Vec<[String; 2]>,
    missing: Vec<String>,
}

async fn redrive(arguments: &Redrive, streams: &Streams, output: Output) -> anyhow::Result<Exit> {
    let ids = match arguments.all {
        false => arguments.ids.clone(),
        true => {
            let all = streams.dead(&arguments.topic, usize::MAX >> 1).await?;
            all.iter().map(|letter| letter.id).collect()
        }
    };
    let mut done = Redriven { redriven: Vec::new(), missing: Vec::new() };
    for id in ids {
        match streams.redrive(&arguments.topic, id).await? {
            Some(new) => done.redriven.push([id.to_string(), new.to_string()]),
            None => done.missing.push(id.to_string()),
        }
    }
    output.result(&done, || {
        let count = output::counted(done.redriven.len(), "dead letter");
        let mut text = format!("{count} published again\n");
        for id in &done.missing {
            text += &format!("{id} is no dead letter of {}\n", arguments.topic);
        }
        text
    })?;
    Ok(if done.missing.is_empty() { Exit::Done } else { Exit::False })
}

#[derive(Debug, Serialize)]
struct Dropped {
    dropped: u64,
}

async fn drop_dead(arguments: &DropDead, streams: &Streams, output: Output) -> anyhow::Result<Exit> {
    if !arguments.yes {
        let what = format!("this would throw {} away for good", output::counted(arguments.ids.len(), "dead letter"));
        return Err(
            Stop::refused(what, "say --yes if that is meant; `tripod events redrive` publishes them again").into()
        );
    }
    let dropped = streams.drop_dead(&arguments.topic, &arguments.ids).await?;
    let all = usize::try_from(dropped).is_ok_and(|dropped| dropped == arguments.ids.len());
    output.result(&Dropped { dropped }, || format!("{} thrown away", output::counted(dropped, "dead letter")))?;
    Ok(if all { Exit::Done } else { Exit::False })
}

#[derive(Debug, Serialize)]
struct Published {
    topic: String,
    id: String,
}

async fn publish(arguments: &Publish, streams: &Streams, output: Output) -> anyhow::Result<Exit> {
    let payload: Box<serde_json::value::RawValue> = serde_json::from_str(&arguments.payload)
        .map_err(|error| Stop::usage(format!("the payload is not JSON: {error}"), "text goes in quotes: '\"text\"'"))?;
    let mut draft = Draft::new(&arguments.kind, &payload)?;
    if let Some(key) = &arguments.key {
        draft = draft.with_key(key)?;
    }
    let id = streams.publisher(&arguments.topic)?.publish_draft(&draft).await?;
    let published = Published { topic: arguments.topic.clone(), id: id.to_string() };
    output.result(&published, || published.id.clone())?;
    Ok(Exit::Done)
}
