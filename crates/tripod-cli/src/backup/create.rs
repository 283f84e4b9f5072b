//! `backup create`: the three stores at one moment, in one directory.
//!
//! Constraints: the moment (the *cut*) is short: a barrier goes to all three stores, then each is asked for its cut at the
//! same time, and when each had it is written down. PostgreSQL's base backup is taken before, since only what comes after
//! it can be restored; what takes long (copying, compressing, summing) comes after. The servers go on all the while.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tripod::{Timestamp, Uuid};
use tripod_stack::ServerName;

use super::events::{Server, Snapshot};
use super::files::{self, Found, Packed, Source};
use super::manifest::{Cut, Events, FORMAT, Manifest, Reference};
use super::postgres::{PgPlace, base_backup, collect_wal, switch_and_await_archive};
use super::questdb::{Checkpoint, Taken};
use super::reference::Point;
use super::site::Ground;
use super::store::{Backup, Store, Work, new_id, remove_dir};
use super::{Part, Shown, leftovers, questdb, reference};
use crate::exit::Stop;

/// For the log up to the restore point to be archived.
const ARCHIVED_WITHIN: Duration = Duration::from_mins(2);
/// Disk that is left free: servers on the same one crash when it is full.
const SPARE_BYTES: u64 = 512 << 20;

/// Makes one. When this returns, it is listed, and on the disk.
pub(crate) fn create(ground: &Ground, shown: Shown<'_>) -> anyhow::Result<Backup> {
    let events = ground.site.events_primary();
    ground.must_run(&[ServerName::QuestDb, ServerName::Postgres, events])?;
    let store = Store::open(ground.backups())?;
    let _lock = store.lock(Work::Change)?;
    leftovers::mend(ground, &store)?;
    has_room(ground, &store)?;
    let begun_at = Timestamp::now();
    let barrier = Uuid::new_v4();
    let chance = u16::try_from(barrier.as_u128() & 0xffff).unwrap_or(0);
    let id = new_id(begun_at, chance);
    let aside = store.aside(&id)?;
    let work = Making { ground, store: &store, id: &id, barrier: barrier.to_string(), aside: &aside, shown };
    let made = work.make(begun_at).and_then(|manifest| Ok((store.publish(&aside, &manifest)?, manifest)));
    match made {
        Ok((dir, manifest)) => Ok(Backup { dir, manifest, proof: None }),
        Err(error) => {
            // Best effort: the next command clears it, too.
            let _ = store.clear_aside();
            Err(error)
        }
    }
}

struct Making<'a> {
    ground: &'a Ground,
    store: &'a Store,
    id: &'a str,
    barrier: String,
    aside: &'a Path,
    shown: Shown<'a>,
}

/// The three cuts.
struct Cuts<'a> {
    checkpoint: Checkpoint<'a>,
    taken: Taken,
    point: Point,
    point_at: Timestamp,
    snapshot: Snapshot,
}

impl Making<'_> {
    fn make(&self, begun_at: Timestamp) -> anyhow::Result<Manifest> {
        let http = self.ground.questdb()?;
        let place = PgPlace::of(self.ground.site.data_dir())?;
        let raw = self.aside.join("raw");
        super::store::make_dirs(&raw)?;
        let (base_dir, wal_dir) = (raw.join("base"), raw.join("wal"));
        self.shown.step("PostgreSQL: base backup", Some(allocated(&place.data())));
        let base = base_backup(&place, &base_dir, &mut |bytes| self.shown.set(bytes))?;

        self.shown.step("the three stores at one moment", None);
        let known = self.known_tables()?;
        let before = questdb::look(&http)?;
        let Cuts { checkpoint, taken, point, point_at, snapshot } = self.cut(&http, &place)?;
        let mut files = self.copy_questdb(checkpoint, &taken, &raw)?;
        let vanished = files.vanished;

        self.shown.step("Redis: snapshot", None);
        files.files.extend(self.pack_snapshot(&snapshot)?.files);
        self.shown.step("PostgreSQL: log up to the point", None);
        let last_segment = switch_and_await_archive(&place, ARCHIVED_WITHIN)?;
        collect_wal(&place, &base.start_lsn, base.timeline, &last_segment, &wal_dir)?;
        let mut reference_files = Found::default();
        let part = Part::Postgres.as_str();
        reference_files.dirs.push(part.to_owned());
        reference_files.add(&base_dir, &format!("{part}/base"))?;
        reference_files.add(&wal_dir, &format!("{part}/wal"))?;
        self.shown.step("PostgreSQL: compressing", Some(base.bytes));
        files.files.extend(files::pack(&reference_files, self.aside, self.shown)?.files);
        remove_dir(&raw)?;

        let at = [taken.at, point_at, snapshot.at];
        let skew = at.iter().max().zip(at.iter().min()).map(|(last, first)| last.since(*first)).unwrap_or_default();
        let cut = Cut {
            barrier: self.barrier.clone(),
            questdb_at: taken.at,
            postgres_at: point_at,
            events_at: snapshot.at,
            skew_ms: u64::try_from(skew.as_millis()).unwrap_or(u64::MAX),
        };
        let mut dirs = taken.found.dirs.clone();
        dirs.extend(reference_files.dirs);
        dirs.push(Part::Events.as_str().to_owned());
        let questdb = questdb::facts(&http, before, &taken, vanished, &known, self.shown)?;
        Ok(Manifest {
            format: FORMAT,
            id: self.id.to_owned(),
            tripod: env!("CARGO_PKG_VERSION").to_owned(),
            begun_at,
            finished_at: Timestamp::now(),
            cut,
            questdb,
            postgres: Reference { base, point: point.point, last_segment, exact: point.exact, tables: point.tables },
            events: Events { version: snapshot.version, exact: snapshot.exact, held: snapshot.held },
            left_out: vec!["redis-prices: prices live for two seconds and come anew from their feeds".to_owned()],
            files: files.files,
            dirs,
        })
    }

    /// What the newest backup knows of the tables.
    fn known_tables(&self) -> anyhow::Result<Vec<super::manifest::Table>> {
        let newest = self.store.list()?.into_iter().find_map(Result::ok);
        Ok(newest.map(|backup| backup.manifest.questdb.tables).unwrap_or_default())
    }

    /// The barrier to each, then each one's cut, all three at the same time.
    fn cut<'a>(&'a self, http: &'a tripod::tape::questdb::QuestDbHttp, place: &PgPlace) -> anyhow::Result<Cuts<'a>> {
        let (site, id, barrier) = (&self.ground.site, self.id, self.barrier.as_str());
        let mut events = Server::open(site, site.events_primary())?;
        questdb::write_barrier(http, id, barrier)?;
        reference::write_barrier(place, id, barrier)?;
        events.write_barrier(barrier)?;

        let together = Barrier::new(3);
        let point_at = Mutex::new(None);
        let (checkpoint, point, begun) = std::thread::scope(|scope| {
            let checkpoint = scope.spawn(|| {
                together.wait();
                Checkpoint::open(http, self.store, id)
            });
            let point = scope.spawn(|| {
                together.wait();
                let taken = || *point_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Timestamp::now());
                reference::take_point(place, id, taken)
            });
            together.wait();
            let begun = events.begin_snapshot();
            (joined(checkpoint), joined(point), begun)
        });
        // First this one: what fails behind it releases it.
        let checkpoint = checkpoint?;
        let (point, begun) = (point?, begun?);
        let taken = questdb::list(&site.data_path(ServerName::QuestDb))?;
        let snapshot = events.await_snapshot(begun)?;
        let point_at = point_at.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Cuts { checkpoint, taken, point, point_at: point_at.context("the restore point has no time")?, snapshot })
    }

    /// Copies what belongs to the checkpoint and releases it, as early as the disk allows.
    fn copy_questdb(&self, checkpoint: Checkpoint<'_>, taken: &Taken, raw: &Path) -> anyhow::Result<Packed> {
        let bytes = taken.found.files.iter().map(|file| length(&file.from)).sum();
        self.shown.step("QuestDB: copying", Some(bytes));
        if let Some(cloned) = files::clone_all(&taken.found, &raw.join("questdb"))? {
            checkpoint.release()?;
            let vanished = taken.found.files.len().saturating_sub(cloned.files.len());
            let mut packed = files::pack(&cloned, self.aside, self.shown)?;
            packed.vanished += u64::try_from(vanished).unwrap_or(0);
            return Ok(packed);
        }
        let packed = files::pack(&taken.found, self.aside, self.shown)?;
        checkpoint.release()?;
        Ok(packed)
    }

    fn pack_snapshot(&self, snapshot: &Snapshot) -> anyhow::Result<Packed> {
        let part = Part::Events.as_str();
        // By its open file: the name may lead to a later snapshot by now.
        let from = PathBuf::from(format!("/proc/self/fd/{}", snapshot.file.as_raw_fd()));
        let source = Source { from, to: format!("{part}/dump.rdb") };
        files::pack(&Found { files: vec![source], dirs: vec![part.to_owned()] }, self.aside, self.shown)
    }
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the backup panicked")))
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Disk that is used by everything below a directory; what goes away meanwhile is not counted.
pub(super) fn allocated(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let each = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => allocated(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    each.sum()
}

/// Refuses where the backup would fill the disk: compressed it is smaller, but nobody knows by how much.
fn has_room(ground: &Ground, store: &Store) -> anyhow::Result<()> {
    let servers = [ServerName::QuestDb, ServerName::Postgres, ground.site.events_primary()];
    let needed: u64 = servers.iter().map(|server| allocated(&ground.site.data_path(*server))).sum();
    room_for(
        store.dir(),
        needed,
        "another disk for the backups: `backup.dir` in the config; or remove old ones: `tripod backup prune`",
    )
}

/// Refuses where `dir` is on a disk with less than `needed` bytes and some to spare.
pub(super) fn room_for(dir: &Path, needed: u64, hint: &str) -> anyhow::Result<()> {
    let found = rustix::fs::statvfs(dir).with_context(|| format!("cannot look at the disk of {}", dir.display()))?;
    let free = found.f_bavail * found.f_frsize;
    if free >= needed + SPARE_BYTES {
        return Ok(());
    }
    let what = format!(
        "{} MiB are free where {} is, and up to {} MiB may be needed",
        free >> 20,
        dir.display(),
        (needed + SPARE_BYTES) >> 20
    );
    Err(Stop::refused(what, hint).into())
}
