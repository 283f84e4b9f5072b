//! `backup restore`: a backup takes the place of the stack's data.
//!
//! Constraints: everything that can fail comes first, while the stack still runs on what it has: sums, recovery on servers
//! of its own, counts. Then the stack stands still, directories change places (see `swap`), and `up` starts it: seconds.
//! What was there is kept until servers have answered. QuestDB is put back to the cut: the rows since are the journals' to
//! bring, and whether they can is said, with the moment from which rows are missing where they cannot.
//!
//! Operation: look, ask → unpack, recover, check → stand still → change places → `up` → what the journals hold.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tripod::tape::spec::Importance;
use tripod::{Config, Timestamp};
use tripod_stack::{Options, Scratch, ServerName, Servers, stand_still};

use super::check::Checked;
use super::events::Server;
use super::manifest::{TableCheck, instant};
use super::postgres::{PgPlace, Recovered, Target};
use super::site::Ground;
use super::store::{Backup, Store, Work, make_dirs};
use super::swap::Move;
use super::{Part, Shown, create, leftovers, reference, stage, swap};
use crate::exit::Stop;

/// Redis writes its append-only file from memory.
const LOG_WITHIN: Duration = Duration::from_mins(10);
/// How long the servers may take to answer on the new data.
const UP_WITHIN: Duration = Duration::from_mins(10);

/// To which moment PostgreSQL goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Behind the last transaction that was committed then.
    Time(Timestamp),
    /// The end of the archive.
    Latest,
}

impl FromStr for To {
    type Err = tripod::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" { Ok(Self::Latest) } else { text.parse().map(Self::Time) }
    }
}

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// The newest where none is named.
    pub(crate) id: Option<String>,
    /// Data of the stack may go.
    pub(crate) overwrite: bool,
    /// PostgreSQL to another moment than the backup's.
    pub(crate) to: Option<To>,
    /// This part alone.
    pub(crate) only: Option<Part>,
}

impl Wish {
    fn parts(&self) -> Vec<Part> {
        self.only.map_or_else(|| Part::ALL.to_vec(), |part| vec![part])
    }
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Restored {
    #[serde(skip)]
    pub(crate) backup: Backup,
    pub(crate) parts: Vec<Part>,
    pub(crate) tables: Vec<TableCheck>,
    /// From the begin to servers that answer on the new data.
    pub(crate) took: Duration,
    /// Of that, without servers.
    pub(crate) down: Duration,
    /// Where PostgreSQL's recovery ended.
    pub(crate) recovered: Option<Recovered>,
    pub(crate) rows: Option<RowsSince>,
}

/// What becomes of the rows that were recorded after the cut.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RowsSince {
    /// QuestDB's cut. Rows that a SELECT returned by then are there.
    #[serde(with = "instant")]
    pub(crate) since: Timestamp,
    /// The journals on this machine that sinks deliver from.
    pub(crate) journals: Vec<Journal>,
}

impl RowsSince {
    /// From when rows are missing; none where the journals have all of them.
    pub(crate) fn missing_from(&self) -> Option<Timestamp> {
        let all = !self.journals.is_empty() && self.journals.iter().all(|journal| journal.whole);
        (!all).then_some(self.since)
    }
}

/// One journal of one bot, and one server that it is delivered to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Journal {
    pub(crate) bot: String,
    pub(crate) sink: String,
    pub(crate) class: Importance,
    /// It has everything since the cut.
    pub(crate) whole: bool,
    /// When it was made.
    pub(crate) begun_at: Option<String>,
}

/// Puts a backup in place of the stack's data. When this returns, the servers answer on it.
pub(crate) fn restore(ground: &Ground, wish: &Wish, shown: Shown<'_>) -> anyhow::Result<Restored> {
    if wish.to.is_some() && wish.only.is_some_and(|part| part != Part::Postgres) {
        let what = "--to names a moment of PostgreSQL's log, and PostgreSQL is left as it is";
        return Err(Stop::usage(what, "leave --only out, or say `--only postgres`").into());
    }
    let store = Store::new(ground.backups());
    let backup = store.pick(wish.id.as_deref())?;
    let parts = wish.parts();
    if !wish.overwrite {
        return Err(refusal(ground, &backup, &parts));
    }
    let _lock = store.lock(Work::Change)?;
    leftovers::mend(ground, &store)?;
    let data = ground.site.data_dir().to_owned();
    let needed = parts.iter().map(|part| backup.manifest.unpacked(*part)).sum();
    create::room_for(&data, needed, "free some space there; the old data stay until the new ones are in place")?;

    let begun = Instant::now();
    let ready = make_ready(ground, &backup, wish, &parts, shown)?;
    shown.step("putting it in place", None);
    let down = Instant::now();
    swap::begin(&data, &backup.manifest.id, parts.contains(&Part::Questdb), ready.moves)?;
    let still = stand_still(&data)?;
    swap::carry_out(&data)?;
    drop(still);
    let mut options = Options::new(&data);
    options.deadline = UP_WITHIN;
    tripod_stack::up(&options)?;
    let (took, down) = (begun.elapsed(), down.elapsed());
    swap::finish(&data)?;

    let mut tables = ready.checked.tables;
    if parts.contains(&Part::Postgres) {
        tables.extend(reference_rows(&data, &backup)?);
    }
    let rows = parts.contains(&Part::Questdb).then(|| rows_since(&ground.config, backup.manifest.cut.questdb_at));
    Ok(Restored { parts, tables, took, down, recovered: ready.recovered, rows: rows.transpose()?, backup })
}

/// What would be overwritten.
fn refusal(ground: &Ground, backup: &Backup, parts: &[Part]) -> anyhow::Error {
    let names: Vec<_> = parts.iter().map(|part| part.as_str()).collect();
    let what = format!(
        "this would replace the data of {} of the stack in {} by those of backup {}, taken at {}",
        names.join(", "),
        ground.site.data_dir().display(),
        backup.manifest.id,
        backup.manifest.cut.questdb_at
    );
    Stop::refused(what, "say --yes if that is meant; rows since then come back as far as journals hold them").into()
}

/// What lies ready to be moved.
struct Ready {
    moves: Vec<Move>,
    checked: Checked,
    recovered: Option<Recovered>,
}

fn make_ready(
    ground: &Ground,
    backup: &Backup,
    wish: &Wish,
    parts: &[Part],
    shown: Shown<'_>,
) -> anyhow::Result<Ready> {
    let (site, manifest) = (&ground.site, &backup.manifest);
    let servers = Servers {
        questdb: parts.contains(&Part::Questdb),
        redis_events: parts.contains(&Part::Events),
        ..Servers::NONE
    };
    let mut scratch = Scratch::lay(&swap::ready_dir(site.data_dir()), servers)?;
    let dir = scratch.site().data_dir().to_owned();
    stage::fill(backup, &mut scratch, parts, shown)?;
    let (mut moves, mut recovered) = (Vec::new(), None);
    if parts.contains(&Part::Postgres) {
        let place = PgPlace::of(site.data_dir())?;
        let aside = dir.join("unpacked");
        make_dirs(&aside)?;
        let archive = Some(place.archive_of(&manifest.postgres.base.system_identifier)).filter(|dir| dir.is_dir());
        let (cluster, ended) =
            stage::recover_postgres(backup, &place, &target(backup, wish.to), (&aside, archive), false, shown)?;
        recovered = Some(ended);
        moves.push(Move::to(place.data(), Some(cluster)));
    }
    let mut checked = Checked::default();
    stage::start(&mut scratch, servers, shown)?;
    let own = scratch.site();
    if servers.questdb {
        checked.questdb(&stage::questdb(&own)?, manifest, false, shown)?;
        let (from, to) = (own.data_path(ServerName::QuestDb), site.data_path(ServerName::QuestDb));
        moves.push(Move::to(to.join("db"), Some(from.join("db"))));
    }
    if servers.redis_events {
        let mut server = Server::open(&own, ServerName::RedisEvents)?;
        checked.events(&mut server, manifest)?;
        server.begin_log(LOG_WITHIN)?;
        let from = own.data_path(ServerName::RedisEvents);
        let primary = site.events_primary();
        for node in ServerName::EVENTS.into_iter().filter(|node| site.servers().has(*node)) {
            // The others get everything from the primary.
            let from = |name: &str| (node == primary).then(|| from.join(name));
            let to = site.data_path(node);
            moves.push(Move::to(to.join("appendonlydir"), from("appendonlydir")));
            moves.push(Move::to(to.join("dump.rdb"), None));
        }
    }
    if let Some(first) = checked.problems.first() {
        let what = format!("the backup {} does not hold what it says: {first}", manifest.id);
        return Err(Stop::untrue(what, "nothing was replaced; take another one: `tripod backup ls`").into());
    }
    scratch.leave()?;
    to_disk(&dir)?;
    moves.iter().filter_map(|one| one.from.as_deref()).try_for_each(to_disk)?;
    Ok(Ready { moves, checked, recovered })
}

fn target(backup: &Backup, to: Option<To>) -> Target {
    let point = &backup.manifest.postgres.point;
    match to {
        None => Target::Point { name: point.name.clone(), timeline: point.timeline },
        Some(To::Time(at)) => Target::Time(at),
        Some(To::Latest) => Target::Latest,
    }
}

/// Everything on the disk that `path` is on.
fn to_disk(path: &Path) -> anyhow::Result<()> {
    let synced = std::fs::File::open(path).and_then(|file| Ok(rustix::fs::syncfs(&file)?));
    synced.with_context(|| format!("cannot write {} to disk", path.display()))
}

/// What PostgreSQL has after it was started; bots may write to it already.
fn reference_rows(data: &Path, backup: &Backup) -> anyhow::Result<Vec<TableCheck>> {
    let found = reference::look(&PgPlace::of(data)?)?;
    let check = |table: &super::manifest::Relation| TableCheck {
        store: Part::Postgres,
        name: table.name.clone(),
        expected: table.rows,
        expected_most: None,
        restored: found.iter().find(|there| there.name == table.name).map(|there| there.rows),
        compared: 0,
    };
    Ok(backup.manifest.postgres.tables.iter().map(check).collect())
}

/// Whether the journals on this machine bring everything that was delivered after `since`.
fn rows_since(config: &Config, since: Timestamp) -> anyhow::Result<RowsSince> {
    let mut journals = Vec::new();
    for bot in bots(&config.journal.dir)? {
        let mut own = config.clone();
        own.bot.clone_from(&bot);
        journals.extend(tripod::tape::reach(&own, since)?.into_iter().map(|reach| Journal {
            bot: bot.clone(),
            sink: reach.sink,
            class: reach.class,
            whole: reach.whole,
            begun_at: reach.begun_at.map(|at| at.to_string()),
        }));
    }
    Ok(RowsSince { since, journals })
}

/// Those with journals in this directory.
fn bots(dir: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot list {}", dir.display()))?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>();
    let paths = paths.with_context(|| format!("cannot list {}", dir.display()))?;
    let mut bots: Vec<String> = paths
        .into_iter()
        .filter(|path| path.is_dir())
        .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
        .collect();
    bots.sort();
    Ok(bots)
}
