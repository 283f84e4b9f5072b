//! A server with numbered rows, and what happens to it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tripod::Timestamp;
use tripod::postgres::{Login, Postgres};
use tripod_stack::{ServerName, Servers, TestStack};

use super::super::*;

/// For a machine that builds at the same time.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) struct Scene {
    pub(super) stack: TestStack,
    pub(super) place: PgPlace,
    dir: tempfile::TempDir,
}

impl Scene {
    pub(super) fn new() -> Self {
        let stack = TestStack::start(Servers::only(ServerName::Postgres)).unwrap();
        let place = PgPlace::of(stack.data_dir()).unwrap();
        let dir = tempfile::Builder::new().prefix("pg it's \"odd\" $(x) %p ").tempdir().unwrap();
        let scene = Self { stack, place, dir };
        scene.sql(
            "CREATE TABLE public.numbered (n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())",
        );
        scene
    }

    pub(super) fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn sql(&self, sql: &str) {
        self.place.ask("prepare", LONG, async |client| Ok(client.batch_execute(sql).await?)).unwrap();
    }

    pub(super) fn number(&self, sql: &str) -> i64 {
        self.place.ask("ask", LONG, async |client| Ok(client.query_one(sql, &[]).await?.try_get(0)?)).unwrap()
    }

    pub(super) fn text(&self, sql: &str) -> String {
        self.place.ask("ask", LONG, async |client| Ok(client.query_one(sql, &[]).await?.try_get(0)?)).unwrap()
    }

    /// Rows with these numbers, each in a transaction of its own.
    pub(super) fn write(&self, numbers: std::ops::RangeInclusive<i64>) {
        for n in numbers {
            self.sql(&format!("INSERT INTO public.numbered (n) VALUES ({n})"));
        }
    }

    pub(super) fn rows(&self) -> Vec<i64> {
        let sql = "SELECT coalesce(array_agg(n ORDER BY n), '{}') FROM public.numbered";
        self.place.ask("ask", LONG, async |client| Ok(client.query_one(sql, &[]).await?.try_get(0)?)).unwrap()
    }

    /// The server's clock.
    pub(super) fn now(&self) -> Timestamp {
        let at = |text: String| text.parse().unwrap();
        at(self.text("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"))
    }

    pub(super) fn timeline(&self) -> u32 {
        let name = self.text("SELECT pg_walfile_name(pg_current_wal_lsn())");
        u32::from_str_radix(&name[..8], 16).unwrap()
    }

    pub(super) fn base(&self, name: &str) -> (PathBuf, BaseBackup) {
        let into = self.dir(name);
        let backup = base_backup(&self.place, &into, &mut |_| ()).unwrap();
        (into, backup)
    }

    /// All that was written up to now, as a backup takes it.
    pub(super) fn collect(&self, backup: &BaseBackup, name: &str) -> PathBuf {
        let (into, last) = (self.dir(name), switch_and_await_archive(&self.place, LONG).unwrap());
        assert!(collect_wal(&self.place, &backup.start_lsn, backup.timeline, &last, &into).unwrap() > 0);
        into
    }

    /// Restores into this stack, and starts its server on it.
    pub(super) fn restore(&self, base: &Path, backup: &BaseBackup, wal: &[PathBuf], target: &Target) -> Recovered {
        let recovered = self.recover(base, backup, wal, target).unwrap();
        put_in_place(&self.place).unwrap();
        self.stack.start_server(ServerName::Postgres).unwrap();
        recovered
    }

    pub(super) fn recover(
        &self,
        base: &Path,
        backup: &BaseBackup,
        wal: &[PathBuf],
        target: &Target,
    ) -> anyhow::Result<Recovered> {
        let prepared = prepare_restore(&self.place, base, backup, wal, target)?;
        recover(&self.place, &prepared, LONG)
    }

    pub(super) fn refusal(&self, base: &Path, backup: &BaseBackup, wal: &[PathBuf], target: &Target) -> String {
        self.recover(base, backup, wal, target).unwrap_err().to_string()
    }
}

pub(super) fn point(name: &str, timeline: u32) -> Target {
    Target::Point { name: name.to_owned(), timeline }
}

pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not within {LONG:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

pub(super) fn flip_a_bit(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Tells a thread to stop.
pub(super) struct Stopping<'a>(pub(super) &'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes numbered rows, one transaction each, until it is told to stop.
pub(super) fn write_until(config: &config::Postgres, stop: &AtomicBool, last: &AtomicI64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let postgres = Postgres::open_as(config, Login::Admin, LONG).unwrap();
        while !stop.load(Ordering::Relaxed) {
            let n = last.load(Ordering::Relaxed) + 1;
            let sql = "INSERT INTO public.numbered (n) VALUES ($1)";
            postgres.call("write", async |client| Ok(client.execute(sql, &[&n]).await?)).await.unwrap();
            last.store(n, Ordering::Relaxed);
        }
    });
}

/// Those that this process has started itself, and not what they have started.
pub(super) fn children_with(path: &Path) -> Vec<rustix::process::Pid> {
    let (path, parent) = (path.as_os_str().as_encoded_bytes(), format!("PPid:\t{}\n", std::process::id()));
    let carries = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&parent) && line.windows(path.len()).any(|window| window == path)
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).filter(carries);
    pids.filter_map(rustix::process::Pid::from_raw).collect()
}
