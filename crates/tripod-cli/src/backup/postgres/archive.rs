//! The archive of the write-ahead log: making sure that something is in it, taking from it, and removing from it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tripod::Timestamp;

use super::base::{sync_dir, timestamp};
use super::timeline::Histories;
use super::tool::until;
use super::wal::{self, Lsn, SegmentSize};
use super::{PgPlace, moment};
use crate::exit::Stop;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// PostgreSQL's own limit for the name of a point.
const NAME_BYTES_MAX: usize = 63;
/// Of the server's log, in an error.
const LOG_BYTES: u64 = 16 * 1024;

/// A named place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestorePoint {
    pub(crate) name: String,
    pub(crate) lsn: String,
    /// The timeline it is on; a name alone would be looked for on any.
    pub(crate) timeline: u32,
    /// By the server's clock.
    #[serde(with = "moment")]
    pub(crate) at: Timestamp,
}

/// Writes a named point into the log. Everything that was committed before the call is before it.
///
/// When it returns, the point is in the server's log; [`switch_and_await_archive`] brings it into the archive.
pub(crate) fn restore_point(place: &PgPlace, name: &str) -> anyhow::Result<RestorePoint> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let hint = format!("a point's name has 1 to {NAME_BYTES_MAX} bytes and no control character");
        return Err(Stop::usage(format!("`{}` is no name for a point", name.escape_debug()), hint).into());
    }
    let (lsn, file, at) = place.ask("make a restore point", ANSWER_WITHIN, async |client| {
        let sql = "SELECT lsn::text, pg_catalog.pg_walfile_name(lsn), clock_timestamp()
                   FROM pg_catalog.pg_create_restore_point($1) AS lsn";
        let row = client.query_one(sql, &[&name]).await?;
        let found: (String, String, std::time::SystemTime) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(found)
    })?;
    let timeline = file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let timeline = timeline.with_context(|| format!("`{file}` is no file of a write-ahead log"))?;
    Ok(RestorePoint { name: name.to_owned(), lsn, timeline, at: timestamp(at)? })
}

/// Ends the current file of the log and waits until the archive has it; gives its name: the last one that anything
/// written before the call is in.
pub(crate) fn switch_and_await_archive(place: &PgPlace, deadline: Duration) -> anyhow::Result<String> {
    let segment = place.ask("switch to a new file of the log", ANSWER_WITHIN, async |client| {
        // Where nothing was written since the last switch, this is the file that the last one ended.
        let sql = "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_switch_wal())";
        let name: String = client.query_one(sql, &[]).await?.try_get(0)?;
        Ok(name)
    })?;
    let path = place.archive()?.join(&segment);
    // It gets this name when it is whole and on disk.
    if until(deadline, LOOK_EVERY, || Ok(path.is_file().then_some(())))?.is_some() {
        return Ok(segment);
    }
    let failure = place.ask("ask for the archiver's state", ANSWER_WITHIN, async |client| {
        let sql = "SELECT CASE WHEN current_setting('archive_mode') = 'off' THEN 'archive_mode is off'
                               WHEN last_failed_time > coalesce(last_archived_time, '-infinity')
                               THEN format('it has failed %s times, last with %s', failed_count, last_failed_wal)
                               ELSE format('it does not say why; the last file it took is %s',
                                           coalesce(last_archived_wal, 'none')) END
                   FROM pg_catalog.pg_stat_archiver";
        let words: String = client.query_one(sql, &[]).await?.try_get(0)?;
        Ok(words)
    })?;
    let said = last_said(&place.stack.log(), "cannot archive ").map_or_else(String::new, |said| format!("; {said}"));
    let what = format!("the archive has not taken {segment} within {deadline:?}: {failure}{said}");
    let hint = "`tripod up` puts the archive's directory in order; `tripod doctor` says whether it works";
    Err(Stop::untrue(what, hint).into())
}

/// The last line of a log that says something.
fn last_said(log: &Path, mark: &str) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = File::open(log).ok()?;
    let from = file.metadata().ok()?.len().saturating_sub(LOG_BYTES);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|line| line.contains(mark)).map(|line| line.trim().to_owned())
}

/// Copies the files of the log from the one that holds `from_lsn` to `to_segment` out of the archive into the directory
/// `into`, with the histories of the timelines; gives how many files that were. `timeline` is that of `from_lsn`.
///
/// When it returns, each copy is on disk. A file that is missing is an error that names it.
pub(crate) fn collect_wal(
    place: &PgPlace,
    from_lsn: &str,
    timeline: u32,
    to_segment: &str,
    into: &Path,
) -> anyhow::Result<u64> {
    let (archive, from) = (place.archive()?, from_lsn.parse::<Lsn>()?);
    let last = archive.join(to_segment);
    let length = std::fs::metadata(&last).map_err(|_| lacks(&archive, to_segment))?.len();
    let size = SegmentSize::new(length)?;
    let (last_timeline, last_number) =
        size.parse(to_segment).with_context(|| format!("`{to_segment}` is no file of a write-ahead log"))?;
    let histories = Histories::read(std::slice::from_ref(&archive))?;
    let chain = histories.chain(last_timeline);
    if !chain.passes(timeline, from) {
        let what = format!("timeline {last_timeline} does not go through {from_lsn} of timeline {timeline}");
        return Err(Stop::untrue(what, "the server was restored meanwhile: take the base backup again").into());
    }
    std::fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let names = names_in(&archive)?;
    let first = size.number(from);
    let stretch = chain.stretch(&names, first, size);
    if let Some((_, missing)) = stretch.missing.filter(|(number, _)| *number <= last_number) {
        return Err(lacks(&archive, &missing));
    }
    let mut files = 0;
    let wanted = (first..=last_number).filter_map(|number| chain.name_in(&names, number, size));
    for name in wanted.chain(names.iter().filter(|name| wal::history_of(name).is_some()).cloned()) {
        let (from, to) = (archive.join(&name), into.join(&name));
        std::fs::copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        File::open(&to).and_then(|file| file.sync_all()).with_context(|| format!("cannot write {}", to.display()))?;
        files += 1;
    }
    sync_dir(into)?;
    Ok(files)
}

fn lacks(archive: &Path, name: &str) -> anyhow::Error {
    let what = format!("{name} is missing in the archive {}", archive.display());
    let hint = "a restore cannot get past it; take a new backup, which begins behind it";
    Stop::untrue(what, hint).into()
}

/// The names of all that is in a directory of the log's files; none where it is not there.
pub(super) fn names_in(dir: &Path) -> anyhow::Result<std::collections::BTreeSet<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
        other => other.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
    let names: std::io::Result<Vec<_>> = entries.map(name).collect();
    Ok(names.with_context(|| format!("cannot read {}", dir.display()))?.into_iter().flatten().collect())
}

/// What a kept backup needs of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Of the cluster it was taken of.
    pub(crate) system_identifier: String,
    /// Name of the file of the log that its recovery begins with.
    pub(crate) first_segment: String,
}

impl Needed {
    /// Of a base backup.
    pub(crate) fn by(backup: &super::BaseBackup) -> anyhow::Result<Self> {
        let size = SegmentSize::new(backup.segment_bytes)?;
        let first_segment = size.name(backup.timeline, size.number(backup.start_lsn.parse()?));
        Ok(Self { system_identifier: backup.system_identifier.clone(), first_segment })
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Pruned {
    pub(crate) files: u64,
    /// Of disk; the files are sparse.
    pub(crate) bytes: u64,
}

/// Removes from the archives what none of `needed` begins with or comes after, whatever its timeline. Histories of
/// timelines stay, and so does everything of a cluster that no kept backup is of: with no backup that counts, one may
/// be on its way.
pub(crate) fn prune_archive(place: &PgPlace, needed: &[Needed]) -> anyhow::Result<Pruned> {
    let mut oldest: BTreeMap<&str, &str> = BTreeMap::new();
    for one in needed {
        let name = &one.first_segment;
        let at = wal::place_in(name).with_context(|| format!("`{name}` is no file of a write-ahead log"))?;
        let kept = oldest.entry(&one.system_identifier).or_insert(at);
        *kept = (*kept).min(at);
    }
    let mut pruned = Pruned::default();
    for (cluster, oldest) in oldest {
        let archive = place.archive_of(cluster);
        for name in names_in(&archive)?.iter().filter(|name| wal::place_in(name).is_some_and(|at| at < oldest)) {
            let path = archive.join(name);
            let found = std::fs::metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            pruned.files += 1;
            pruned.bytes += std::os::unix::fs::MetadataExt::blocks(&found) * 512;
        }
    }
    Ok(pruned)
}
