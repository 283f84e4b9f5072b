//! Restoring a base backup to a named point, to a time, or to the end of the archive.
//!
//! Constraints: what cannot come out right is refused before the server starts where it can be known, and else in the
//! words of what is missing: PostgreSQL itself takes the end of what it finds for the end of the log. So what is
//! recovered without a target is compared with what the archive holds, and a gap is called by the name of the file.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tripod::Timestamp;
use tripod_stack::PostgresPlace;

use super::archive::{names_in, switch_and_await_archive};
use super::base::{range_of, sync_dir};
use super::wal::{self, Chain, Lsn, SegmentSize, Stretch};
use super::{BaseBackup, PgPlace, moment, timeline};
use crate::exit::{Exit, Stop, verdict};

/// For the archive to take what a running server has.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(30);
/// Characters of a moment up to its microseconds.
const MICROSECONDS: usize = "2026-11-23T10:00:00.123456".len();

/// Where a recovery is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// At a point that [`super::restore_point`] made.
    Point {
        /// Its name.
        name: String,
        /// The timeline it is on.
        timeline: u32,
    },
    /// Behind the last transaction that was committed at this moment or before, by the server's clock, to the
    /// microsecond.
    Time(Timestamp),
    /// At the end of what there is.
    Latest,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point { name, .. } => write!(f, "the point `{name}`"),
            Self::Time(at) => write!(f, "{at}"),
            Self::Latest => f.write_str("the latest state"),
        }
    }
}

/// A base backup that is ready to recover.
#[derive(Debug)]
pub(crate) struct Prepared {
    target: Target,
    backup: BaseBackup,
    places: Vec<PathBuf>,
    chain: Chain,
    size: SegmentSize,
    /// What there is of the log.
    found: Stretch,
}

/// Where a recovery ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Recovered {
    /// Begin of the last record that was carried out; that of the backup's end where there was none to carry out.
    pub(crate) at_lsn: String,
    /// When the last transaction was committed that is in it, by the old server's clock; none where there is none in
    /// the log since the base backup.
    #[serde(serialize_with = "maybe_moment")]
    pub(crate) at_time: Option<Timestamp>,
    /// The one that begins here.
    pub(crate) timeline: u32,
    /// The server's own words about why it stopped there; empty at the end of the log.
    pub(crate) stopped: String,
}

fn maybe_moment<S: serde::Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => moment::serialize(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// Makes the base backup in `base` ready to recover to `target`. `base` is a plain copy of what [`super::base_backup`]
/// made, and `backup` what it gave. Where `base` is the directory of [`PgPlace::make_restore_dir`], it is used as it is,
/// else it is copied there. `wal` are the directories with the log, the first that has a file wins: the backup's own and
/// the live archive, where there is one. Without a point as its target it takes what the archive has not got yet from the
/// cluster that the archive is of: a running server is told to archive it, of one that is away its own log is read.
///
/// Nothing of the stack is changed. Where it fails, the directory of the restore is empty.
pub(crate) fn prepare_restore(
    place: &PgPlace,
    base: &Path,
    backup: &BaseBackup,
    wal: &[PathBuf],
    target: &Target,
) -> anyhow::Result<Prepared> {
    let prepared = try_prepare(place, base, backup, wal, target);
    if prepared.is_err() {
        // As in `recover`: what was given up takes no disk.
        let _ = place.stack.make_restore_dir();
    }
    prepared
}

fn try_prepare(
    place: &PgPlace,
    base: &Path,
    backup: &BaseBackup,
    wal: &[PathBuf],
    target: &Target,
) -> anyhow::Result<Prepared> {
    if let Target::Time(at) = target
        && *at < backup.finished_at
    {
        let what = format!("{at} is before the end of this base backup, which was complete at {}", backup.finished_at);
        return Err(Stop::untrue(what, "choose an older backup, or a later moment").into());
    }
    fits(place, base, backup)?;
    let size = SegmentSize::new(backup.segment_bytes)?;
    let cluster = place.stack.restore_dir();
    let there = |path: &Path| path.canonicalize().ok();
    if there(base).is_none_or(|base| there(&cluster) != Some(base)) {
        copy_dir(base, &place.stack.make_restore_dir()?)?;
    }
    let mut all = wal.iter().map(std::path::absolute).collect::<std::io::Result<Vec<_>>>()?;
    all.retain(|dir| dir.is_dir());
    if !matches!(target, Target::Point { .. }) {
        all.extend(not_archived(place, &all)?);
    }
    let chain = timeline::choose(place, &all, backup, target)?;
    let found = stretch(&all, backup, &chain, size)?;
    // Up to its end there is nothing to choose.
    let consistent = size.number_before(backup.end_lsn.parse()?);
    if let Some((number, missing)) = &found.missing
        && (*target == Target::Latest || *number <= consistent)
    {
        return Err(gap(missing, found.last_name.as_deref(), target));
    }
    let own = cluster.join("tripod-restore");
    let mut places = Vec::new();
    for (number, dir) in all.iter().enumerate() {
        if place.stack.reads(dir) {
            places.push(dir.clone());
            continue;
        }
        let copy = own.join(format!("wal-{number}"));
        std::fs::create_dir_all(&copy).with_context(|| format!("cannot make {}", copy.display()))?;
        for name in names_in(dir)?.iter().filter(|name| wal::is_segment(name) || wal::history_of(name).is_some()) {
            copy_file(&dir.join(name), &copy.join(name))?;
        }
        places.push(copy);
    }
    Ok(Prepared { target: target.clone(), backup: backup.clone(), places, chain, size, found })
}

/// The log of the cluster in place, where one of `places` is its archive and its server cannot be told to complete that.
fn not_archived(place: &PgPlace, places: &[PathBuf]) -> anyhow::Result<Option<PathBuf>> {
    let archive = place.archive().ok().and_then(|archive| archive.canonicalize().ok());
    let is_it = |dir: &PathBuf| archive.is_some() && dir.canonicalize().ok() == archive;
    if !places.iter().any(is_it) {
        return Ok(None);
    }
    match switch_and_await_archive(place, ARCHIVED_WITHIN) {
        Ok(_) => Ok(None),
        Err(error) if verdict(&error).0 == Exit::Unreachable => Ok(Some(place.data().join("pg_wal"))),
        Err(error) => Err(error),
    }
}

/// Whether `base` is what `backup` says, and this stack's programs can start it.
fn fits(place: &PgPlace, base: &Path, backup: &BaseBackup) -> anyhow::Result<()> {
    let major = |version: &str| version.split('.').next().unwrap_or_default().to_owned();
    if major(&backup.version) != major(place.version()) {
        let what = format!("this base backup is of PostgreSQL {}, installed is {}", backup.version, place.version());
        let hint =
            format!("install PostgreSQL {}, or name its programs in TRIPOD_POSTGRES_BIN", major(&backup.version));
        return Err(Stop::untrue(what, hint).into());
    }
    let identifier = PostgresPlace::system_identifier(base)?.to_string();
    let (timeline, start, end) = range_of(base)?;
    let found = (identifier, timeline, start.to_string(), end.to_string());
    let said = (backup.system_identifier.clone(), backup.timeline, backup.start_lsn.clone(), backup.end_lsn.clone());
    if found == said {
        return Ok(());
    }
    let what = format!("{} is another base backup than the one that was named", base.display());
    Err(Stop::untrue(what, "check the backup: `tripod backup verify`").into())
}

/// What there is of the log that leads to the target.
fn stretch(places: &[PathBuf], backup: &BaseBackup, chain: &Chain, size: SegmentSize) -> anyhow::Result<Stretch> {
    let mut names = std::collections::BTreeSet::new();
    for place in places {
        names.extend(names_in(place)?.into_iter().filter(|name| is_itself(&place.join(name), name, size)));
    }
    Ok(chain.stretch(&names, size.number(backup.start_lsn.parse()?), size))
}

/// Whether a file is whole, and the one that its name says: a server keeps old ones under the names of those to come.
fn is_itself(path: &Path, name: &str, size: SegmentSize) -> bool {
    let Some((_, number)) = size.parse(name) else { return false };
    let Ok(mut file) = std::fs::File::open(path) else { return false };
    // Of its first page: two words of two bytes, the timeline, and the place in the log, in this machine's order.
    let mut head = [0_u8; 16];
    let read = file.metadata().is_ok_and(|found| found.len() == size.bytes()) && file.read_exact(&mut head).is_ok();
    let [.., a, b, c, d, e, f, g, h] = head;
    read && u64::from_ne_bytes([a, b, c, d, e, f, g, h]) == size.begin(number).0
}

fn gap(missing: &str, last: Option<&str>, target: &Target) -> anyhow::Error {
    let later = last.map_or_else(String::new, |last| format!(", though later ones are there, up to {last}"));
    let what = format!("the log has a gap: {missing} is missing{later}; {target} cannot be restored");
    let hint = "put that file back into the archive, or restore to a time before it, or choose a later backup";
    Stop::untrue(what, hint).into()
}

/// Lets the prepared base backup catch up, and tells where it ended. The stack's own server may run meanwhile.
///
/// When it returns, a whole cluster lies beside the stack's, on a timeline of its own and with the stack's passwords. Where
/// it fails, nothing does.
pub(crate) fn recover(place: &PgPlace, prepared: &Prepared, deadline: Duration) -> anyhow::Result<Recovered> {
    let recovered = try_recover(place, prepared, deadline);
    if recovered.is_err() {
        // Empties it, as the next one would; its own words are in the log of the restore.
        let _ = place.stack.make_restore_dir();
    }
    recovered
}

fn try_recover(place: &PgPlace, prepared: &Prepared, deadline: Duration) -> anyhow::Result<Recovered> {
    let mut settings = vec![("recovery_target_timeline", prepared.chain.timeline().to_string())];
    match &prepared.target {
        Target::Point { name, .. } => settings.push(("recovery_target_name", name.clone())),
        Target::Time(at) => settings.push(("recovery_target_time", as_setting(*at))),
        Target::Latest => {}
    }
    let missing = place.stack.restore_dir().join("tripod-restore/missing");
    let said = match place.stack.recover(&prepared.places, &settings, deadline) {
        Ok(said) => said,
        Err(tripod_stack::Error::Recovery { log, said }) => {
            let asked = std::fs::read_to_string(missing).unwrap_or_default();
            return Err(
                explain(prepared, &said, &asked).unwrap_or_else(|| tripod_stack::Error::Recovery { log, said }.into())
            );
        }
        Err(error) => return Err(error.into()),
    };
    let recovered = read(&said, &prepared.backup)?;
    if prepared.target == Target::Latest {
        is_whole(prepared, &said, &recovered)?;
    }
    Ok(recovered)
}

/// The reason in words, where it is known. `asked` are the files that were asked for and not found.
fn explain(prepared: &Prepared, said: &str, asked: &str) -> Option<anyhow::Error> {
    let (target, backup, found) = (&prepared.target, &prepared.backup, &prepared.found);
    if said.contains("requested recovery stop point is before consistent recovery point") {
        let what =
            format!("{target} is before the end of this base backup, which was complete at {}", backup.finished_at);
        return Some(Stop::untrue(what, "choose an older backup, or a later moment").into());
    }
    if !said.contains("recovery ended before configured recovery target was reached") {
        return None;
    }
    if let Some(damage) = damage(said) {
        return Some(damaged(&damage, target));
    }
    if let Some((_, missing)) = &found.missing
        && asked.lines().any(|name| name == missing)
    {
        return Some(gap(missing, found.last_name.as_deref(), target));
    }
    let end = found.last_name.as_ref().map_or_else(|| "empty".to_owned(), |last| format!("at its end with {last}"));
    let last = field(said, "last completed transaction was at log time ").and_then(|rest| in_log(&rest));
    let last = last.map_or_else(String::new, |at| format!("; its last transaction is of {at}"));
    let (what, hint) = match target {
        Target::Time(_) => (
            format!("no transaction after {target} is in the archive, which is {end}{last}"),
            "where nothing was written since, say `--to latest`; else bring the missing part of the archive",
        ),
        _ => (
            format!("{target} was not found in the archive, which is {end}{last}"),
            "check the name, and whether the archive goes on elsewhere",
        ),
    };
    Some(Stop::untrue(what, hint).into())
}

/// Whether a recovery without a target has seen all that there is.
fn is_whole(prepared: &Prepared, said: &str, recovered: &Recovered) -> anyhow::Result<()> {
    if let Some(damage) = damage(said) {
        return Err(damaged(&damage, &prepared.target));
    }
    let end = prepared.size.number(recovered.at_lsn.parse::<Lsn>()?);
    // The last record of a file may end in the next one.
    if let (Some(last), Some(name)) = (prepared.found.last, &prepared.found.last_name)
        && end + 1 < last
    {
        let ended = prepared.size.name(prepared.chain.timeline(), end);
        return Err(damaged(&format!("the log could be read up to {ended} and goes on to {name}"), &prepared.target));
    }
    Ok(())
}

fn damaged(damage: &str, target: &Target) -> anyhow::Error {
    let hint = "put an undamaged copy of that file into the archive, or restore to a time before it";
    Stop::untrue(format!("the archived log is damaged: {damage}; {target} cannot be restored"), hint).into()
}

/// What PostgreSQL takes for the end of the log and is not.
fn damage(said: &str) -> Option<String> {
    let marks =
        ["incorrect resource manager data checksum", "has wrong size", "incorrect prev-link", "invalid magic number"];
    said.lines()
        .rev()
        .find(|line| marks.iter().any(|mark| line.contains(mark)))
        .map(|line| without_level(line).to_owned())
}

/// Where it ended, by the server's own words.
fn read(said: &str, backup: &BaseBackup) -> anyhow::Result<Recovered> {
    let timeline = field(said, "selected new timeline ID: ").and_then(|rest| rest.trim().parse().ok());
    let at_lsn = field(said, "redo done at ").and_then(|rest| rest.split(' ').next().map(str::to_owned));
    let stopped = said.lines().rev().find(|line| line.contains("recovery stopping ")).map(without_level);
    Ok(Recovered {
        at_lsn: at_lsn.unwrap_or_else(|| backup.end_lsn.clone()),
        at_time: field(said, "last completed transaction was at log time ").and_then(|rest| in_log(&rest)),
        timeline: timeline.with_context(|| format!("the server did not say its new timeline: {said}"))?,
        stopped: stopped.unwrap_or_default().to_owned(),
    })
}

fn without_level(line: &str) -> &str {
    line.split_once(":  ").map_or(line, |(_, words)| words).trim()
}

/// What stands behind `mark` in the last line that has it.
fn field(said: &str, mark: &str) -> Option<String> {
    said.lines().rev().find_map(|line| line.split_once(mark)).map(|(_, rest)| rest.to_owned())
}

/// `2026-11-23 10:00:00.123456+00`
fn in_log(text: &str) -> Option<Timestamp> {
    let (day, time) = text.trim().split_once(' ')?;
    moment_of(day, time.trim_end_matches("+00"))
}

/// To the microsecond: PostgreSQL would round up what is finer. It knows no `Z` before it has read its settings.
fn as_setting(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{}+00", text.get(..MICROSECONDS).unwrap_or(&text))
}

/// A day and a time of it, in UTC.
pub(super) fn moment_of(day: &str, time: &str) -> Option<Timestamp> {
    format!("{day}T{time}Z").parse().ok()
}

/// Puts what [`recover`] left in the place of the stack's cluster, whose server is ended; `up` starts the new one. Gives
/// where the old one is now, which takes its disk until somebody removes it.
pub(crate) fn put_in_place(place: &PgPlace) -> anyhow::Result<Option<PathBuf>> {
    Ok(place.stack.put_in_place()?)
}

/// Copies what is in `from` into the directory `to`.
fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut left = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = left.pop() {
        for entry in std::fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
            let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().with_context(|| format!("cannot look at {}", from.display()))?;
            if kind.is_dir() {
                std::fs::create_dir(&to).with_context(|| format!("cannot make {}", to.display()))?;
                left.push((from, to));
            } else if kind.is_file() {
                copy_file(&from, &to)?;
            } else {
                anyhow::bail!(
                    "{} is neither a file nor a directory: no base backup of a stack has such a thing",
                    from.display()
                );
            }
        }
    }
    sync_dir(to)
}

fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = std::fs::copy(from, to);
    copied.map(|_| ()).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_cut_at_its_microseconds() {
        assert_eq!(as_setting("2026-11-23T10:00:00.123456999Z".parse().unwrap()), "2026-11-23T10:00:00.123456+00");
        assert_eq!(in_log("2026-11-23 10:00:00.1+00"), Some("2026-11-23T10:00:00.1Z".parse().unwrap()));
    }

    #[test]
    fn where_a_recovery_ended_is_read_from_what_the_server_said() {
        let backup = || BaseBackup {
            start_lsn: "0/3000028".into(),
            end_lsn: "0/3000100".into(),
            timeline: 1,
            system_identifier: "7".into(),
            version: "15.18".into(),
            segment_bytes: 1 << 20,
            started_at: Timestamp::EPOCH,
            finished_at: Timestamp::EPOCH,
            bytes: 0,
        };
        let said = "LOG:  starting point-in-time recovery to \"x\"\n\
                    LOG:  recovery stopping at restore point \"x\", time 2026-11-23 10:00:01.5+00\n\
                    LOG:  redo done at 0/3200060 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 0.01 s\n\
                    LOG:  last completed transaction was at log time 2026-11-23 10:00:00.123456+00\n\
                    LOG:  selected new timeline ID: 2\nLOG:  archive recovery complete\n";
        let recovered = read(said, &backup()).unwrap();
        assert_eq!((recovered.at_lsn.as_str(), recovered.timeline), ("0/3200060", 2));
        assert_eq!(recovered.at_time, Some("2026-11-23T10:00:00.123456Z".parse().unwrap()));
        assert_eq!(recovered.stopped, "recovery stopping at restore point \"x\", time 2026-11-23 10:00:01.5+00");
        let idle = read("LOG:  redo is not required\nLOG:  selected new timeline ID: 3\n", &backup()).unwrap();
        assert_eq!((idle.at_lsn.as_str(), idle.at_time, idle.timeline), ("0/3000100", None, 3));
        assert!(read("LOG:  shutting down\n", &backup()).is_err());
    }
}
