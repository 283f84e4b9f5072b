//! From a backup to data that servers run on: unpacked, recovered by the servers themselves.
//!
//! Constraints: each server is told to restore in its own way: QuestDB by the file that makes it recover its checkpoint,
//! Redis by a start without its append-only file, which it would read instead of the snapshot; PostgreSQL by its own
//! recovery up to the point. Everything that comes out of the backup is compared with its sum. Nothing of the stack's own
//! data is touched.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tripod::tape::questdb::QuestDbHttp;
use tripod_stack::{Scratch, ServerName, Servers, Site};

use super::files;
use super::postgres::{PgPlace, Recovered, Target, prepare_restore, recover, verify_files};
use super::site::{questdb_of, scratch_config};
use super::store::{Backup, make_dirs};
use super::{Part, Shown, pause};
use crate::exit::Stop;

/// QuestDB rebuilds the symbols of every table before it answers.
const READY_WITHIN: Duration = Duration::from_mins(10);
/// What was in QuestDB's log and not in its tables at the cut is applied after the start.
const APPLIED_WITHIN: Duration = Duration::from_mins(10);
/// From the base backup to the point: as much log as was written meanwhile; to the latest state perhaps days of it.
const RECOVERED_WITHIN: Duration = Duration::from_mins(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Makes QuestDB recover the checkpoint in its root when it starts.
const TRIGGER: &str = "_restore";

/// Unpacks one part: `questdb/db/x` to `into/db/x`.
fn unpack(backup: &Backup, part: Part, into: &Path, shown: Shown<'_>) -> anyhow::Result<()> {
    let start = format!("{}/", part.as_str());
    let place = |path: &str| into.join(path.strip_prefix(&start).unwrap_or(path));
    shown.step(&format!("unpacking {}", part.as_str()), Some(backup.manifest.unpacked(part)));
    make_dirs(into)?;
    for dir in backup.manifest.dirs_of(part) {
        make_dirs(&place(dir))?;
    }
    let files: Vec<_> = backup.manifest.files_of(part).collect();
    files::unpack(&files, &backup.dir, place, shown)
}

/// Puts QuestDB's and Redis's parts where servers that have not been started yet will look for them.
pub(super) fn fill(backup: &Backup, scratch: &mut Scratch, parts: &[Part], shown: Shown<'_>) -> anyhow::Result<()> {
    let site = scratch.site();
    if parts.contains(&Part::Questdb) {
        let root = site.data_path(ServerName::QuestDb);
        unpack(backup, Part::Questdb, &root, shown)?;
        let trigger = root.join(TRIGGER);
        std::fs::write(&trigger, "").with_context(|| format!("cannot write {}", trigger.display()))?;
    }
    if parts.contains(&Part::Events) {
        unpack(backup, Part::Events, &site.data_path(ServerName::RedisEvents), shown)?;
        scratch.configure(ServerName::RedisEvents, "appendonly no\nsave \"\"");
    }
    Ok(())
}

/// Recovers PostgreSQL's part beside the cluster of `place`; `aside` is a directory for the log meanwhile, and `archive`
/// what the stack has archived since. The stack's own server may run. With `thorough` each file is also compared with what
/// PostgreSQL itself wrote down when it copied it.
pub(super) fn recover_postgres(
    backup: &Backup,
    place: &PgPlace,
    target: &Target,
    (aside, archive): (&Path, Option<PathBuf>),
    thorough: bool,
    shown: Shown<'_>,
) -> anyhow::Result<(PathBuf, Recovered)> {
    let unpacked = aside.join(Part::Postgres.as_str());
    unpack(backup, Part::Postgres, &unpacked, shown)?;
    shown.step("PostgreSQL: recovering", None);
    let cluster = place.make_restore_dir()?;
    // The same disk in the usual case; else it is copied there by what follows.
    let moved = std::fs::remove_dir(&cluster).and_then(|()| std::fs::rename(unpacked.join("base"), &cluster));
    let base = if moved.is_ok() { cluster.clone() } else { unpacked.join("base") };
    let mut wal = vec![unpacked.join("wal")];
    wal.extend(archive);
    if thorough && let Some(first) = verify_files(place, &base)?.first() {
        let hint = "take another backup (`tripod backup ls`)";
        return Err(Stop::untrue(format!("PostgreSQL's base backup is not whole: {first}"), hint).into());
    }
    let prepared = prepare_restore(place, &base, &backup.manifest.postgres.base, &wal, target)?;
    let recovered = recover(place, &prepared, RECOVERED_WITHIN)?;
    Ok((cluster, recovered))
}

/// Starts the servers of a scratch stack and waits until QuestDB has applied its log.
pub(super) fn start(scratch: &mut Scratch, servers: Servers, shown: Shown<'_>) -> anyhow::Result<()> {
    shown.step("starting servers on it", None);
    scratch.start(servers, READY_WITHIN)?;
    if servers.questdb {
        await_applied(&questdb(&scratch.site())?)?;
    }
    Ok(())
}

/// The QuestDB of a scratch stack.
pub(super) fn questdb(site: &Site) -> anyhow::Result<QuestDbHttp> {
    questdb_of(&scratch_config(site)?)
}

fn await_applied(http: &QuestDbHttp) -> anyhow::Result<()> {
    let end = Instant::now() + APPLIED_WITHIN;
    let waiting = "SELECT name FROM wal_tables() WHERE NOT suspended AND writerTxn < sequencerTxn LIMIT 1";
    loop {
        let rows = http.exec(waiting)?.rows;
        let Some(row) = rows.first() else { return Ok(()) };
        if Instant::now() >= end {
            let name = row.first().map(ToString::to_string).unwrap_or_default();
            bail!("QuestDB has not applied the log of table {name} within {APPLIED_WITHIN:?}");
        }
        pause(LOOK_EVERY);
    }
}
