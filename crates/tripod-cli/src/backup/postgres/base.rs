//! A base backup: the cluster's files, copied while the server writes to them, with a manifest of their checksums.
//!
//! Constraints: what is there under the given name is whole: it is copied under another one, forced to disk by
//! `pg_basebackup`, and renamed. The login can do this and nothing else, and its password is on no command line. The log that
//! makes the copy consistent comes from the archive, so the archive is tried before anything is copied. (`pg_basebackup` can
//! stream it too; where it was killed, the process that does so lives on and holds a replication slot.) A copy whose
//! caller was killed ends itself when it next reports its progress.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tripod::Timestamp;
use tripod_stack::PostgresPlace;

use super::archive::switch_and_await_archive;
use super::tool::{self, Patience};
use super::wal::Lsn;
use super::{PgPlace, moment};
use crate::exit::{Exit, Stop};

/// For the archive to take a file, before and after the copy; a busy server fills some each second.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(30);
/// It reports each second while anything is copied; the checkpoint before and the last sync are silent.
const SILENT_MAX: Duration = Duration::from_secs(300);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What a base backup says about itself; a manifest keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaseBackup {
    /// Recovery begins here.
    pub(crate) start_lsn: String,
    /// And has to come as far as this at least.
    pub(crate) end_lsn: String,
    pub(crate) timeline: u32,
    /// The cluster's own number; its archive is named after it.
    pub(crate) system_identifier: String,
    /// The server's: `15.18`. A restore needs programs of the same major version.
    pub(crate) version: String,
    /// Length of a file of the log.
    pub(crate) segment_bytes: u64,
    /// By the server's clock, before the first file was copied.
    #[serde(with = "moment")]
    pub(crate) started_at: Timestamp,
    /// By the server's clock, after the last one: no moment before it can be restored from this backup.
    #[serde(with = "moment")]
    pub(crate) finished_at: Timestamp,
    /// Of all files.
    pub(crate) bytes: u64,
}

/// Copies the running cluster into the directory `into`, which must not be there yet; `progress` is told the bytes
/// copied so far, about once a second.
///
/// When it returns, `into` is whole and on disk, and the archive has the log from `start_lsn` to `end_lsn`, without which
/// nothing can be made of it. Where it fails, or is killed, there is no `into`.
pub(crate) fn base_backup(place: &PgPlace, into: &Path, progress: &mut dyn FnMut(u64)) -> anyhow::Result<BaseBackup> {
    let into = std::path::absolute(into).with_context(|| format!("cannot find {}", into.display()))?;
    if std::fs::symlink_metadata(&into).is_ok() {
        let what = format!("{} is there already", into.display());
        return Err(Stop::refused(what, "name another directory; a backup never overwrites one").into());
    }
    let beside = unfinished(&into);
    remove(&beside)?;
    switch_and_await_archive(place, ARCHIVED_WITHIN)?;
    let (started_at, version, segment_bytes) = place.ask("begin a base backup", ANSWER_WITHIN, async |client| {
        let sql = "SELECT clock_timestamp(), current_setting('server_version'),
                          (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size')";
        let row = client.query_one(sql, &[]).await?;
        let (at, version, bytes): (std::time::SystemTime, String, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok((at, version, bytes))
    })?;
    let copied = copy(place, &beside, progress).and_then(|()| {
        let finished_at = place.ask("end a base backup", ANSWER_WITHIN, async |client| {
            let at: std::time::SystemTime = client.query_one("SELECT clock_timestamp()", &[]).await?.try_get(0)?;
            Ok(at)
        })?;
        let (timeline, start, end) = range_of(&beside)?;
        let backup = BaseBackup {
            start_lsn: start.to_string(),
            end_lsn: end.to_string(),
            timeline,
            system_identifier: PostgresPlace::system_identifier(&beside)?.to_string(),
            version: version.split(' ').next().unwrap_or_default().to_owned(),
            segment_bytes: u64::try_from(segment_bytes).unwrap_or(0),
            started_at: timestamp(started_at)?,
            finished_at: timestamp(finished_at)?,
            bytes: size_of(&beside)?,
        };
        std::fs::rename(&beside, &into).with_context(|| format!("cannot rename {}", beside.display()))?;
        sync_dir(into.parent().unwrap_or(Path::new("/")))?;
        Ok(backup)
    });
    if copied.is_err() {
        // Best effort: the error that counts is the first one, and the next try removes it.
        let _ = remove(&beside);
    }
    copied
}

fn copy(place: &PgPlace, into: &Path, progress: &mut dyn FnMut(u64)) -> anyhow::Result<()> {
    let mut command = place.stack.client("pg_basebackup");
    command.args(["--format=plain", "--wal-method=none", "--checkpoint=fast", "--progress", "--no-password"]);
    command.arg("--username").arg(place.stack.backup_user()).arg("--pgdata").arg(into);
    let mut waits_since = None;
    let said = tool::run(command, Patience { total: None, silent: SILENT_MAX }, |line| {
        if let Some(bytes) = copied_in(line) {
            progress(bytes);
        }
        // Said again and again while it waits. The seconds in it are none where somebody writes meanwhile.
        if line.contains("waiting for") && line.contains("required WAL segments") {
            let waited = waits_since.get_or_insert_with(Instant::now).elapsed();
            if waited > ARCHIVED_WITHIN {
                let what = format!("the archive has not taken the end of the base backup's log within {waited:.0?}");
                return Err(Stop::untrue(what, "`tripod doctor` says what is wrong with the archive").into());
            }
        }
        Ok(())
    })?;
    if said.status.success() {
        return Ok(());
    }
    let mut complaint = said.complaint();
    if !complaint.contains("pg_basebackup") {
        complaint = format!("pg_basebackup: {complaint}");
    }
    let gone = ["server closed the connection", "could not connect", "connection to server", "terminating connection"];
    let exit = if gone.iter().any(|words| complaint.contains(words)) { Exit::Unreachable } else { Exit::False };
    let hint = "`tripod doctor` says what is wrong with the server; then try again".to_owned();
    Err(Stop { exit, what: complaint, hint }.into())
}

/// `39205/39205 kB (100%), 1/1 tablespace`
fn copied_in(line: &str) -> Option<u64> {
    let (numbers, _) = line.trim_start().split_once(" kB (")?;
    numbers.split_once('/')?.0.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The part of `backup_manifest` that is read.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(rename = "WAL-Ranges")]
    ranges: Vec<Range>,
}

#[derive(Debug, Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: Lsn,
    #[serde(rename = "End-LSN")]
    end: Lsn,
}

/// The stretch of the log that makes the files consistent, and its timeline.
pub(super) fn range_of(base: &Path) -> anyhow::Result<(u32, Lsn, Lsn)> {
    let path = base.join("backup_manifest");
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let manifest: Manifest =
        serde_json::from_reader(BufReader::new(file)).with_context(|| format!("{} is no manifest", path.display()))?;
    match &manifest.ranges[..] {
        [only] => Ok((only.timeline, only.start, only.end)),
        ranges => anyhow::bail!("{} names {} stretches of the log; one is expected", path.display(), ranges.len()),
    }
}

/// Where a base backup is while it is not whole.
fn unfinished(into: &Path) -> PathBuf {
    let mut name = into.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

pub(super) fn sync_dir(dir: &Path) -> anyhow::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("cannot write {} to disk", dir.display()))
}

fn size_of(dir: &Path) -> anyhow::Result<u64> {
    let (mut left, mut bytes) = (vec![dir.to_owned()], 0);
    while let Some(dir) = left.pop() {
        let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
            let found = entry.metadata().with_context(|| format!("cannot look at {}", entry.path().display()))?;
            if found.is_dir() {
                left.push(entry.path());
            } else {
                bytes += found.len();
            }
        }
    }
    Ok(bytes)
}

/// A server's clock.
pub(super) fn timestamp(time: std::time::SystemTime) -> anyhow::Result<Timestamp> {
    let nanos = time.duration_since(std::time::UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_nanos()).ok());
    Ok(Timestamp::from_nanos(nanos.context("the server's clock stands before 1970")?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_and_other_lines_are_not() {
        assert_eq!(copied_in("39205/39205 kB (100%), 1/1 tablespace"), Some(39_205 * 1024));
        assert_eq!(copied_in("    12/39205 kB (0%), 0/1 tablespace (…/base/5/1259)"), Some(12 * 1024));
        for other in ["waiting for checkpoint", "pg_basebackup: error: x", "/ kB (", ""] {
            assert_eq!(copied_in(other), None, "{other}");
        }
    }

    #[test]
    fn a_backup_reads_what_it_writes() {
        let at = Timestamp::from_nanos(1_742_944_020_773_674_205).unwrap();
        let backup = BaseBackup {
            start_lsn: "0/3000028".into(),
            end_lsn: "0/3000100".into(),
            timeline: 1,
            system_identifier: "7300000000000000000".into(),
            version: "15.18".into(),
            segment_bytes: 1 << 20,
            started_at: at,
            finished_at: at,
            bytes: 7,
        };
        let text = serde_json::to_string(&backup).unwrap();
        assert!(text.contains("\"2025-03-25T23:07:00.773674205Z\""), "{text}");
        assert_eq!(serde_json::from_str::<BaseBackup>(&text).unwrap(), backup);
    }
}
