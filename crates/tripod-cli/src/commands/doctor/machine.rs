//! This machine: the disk under the journals, the kernel's settings that servers suffer from, the config file's mode.
//!
//! Constraints: looking and judging are apart. [`Facts`] is what the machine says; what is not there to be read (another
//! kernel, a container) is no finding. The kernel is judged only where a server of the config is on this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};
use tripod::Config;
use tripod::audit::{Departure, Finding};

/// QuestDB maps each column file of each open partition.
const MAPS_MIN: u64 = 262_144;
const FILES_MIN: u64 = 4_096;
const INODES_MIN: u64 = 10_000;
/// What is free beyond what the journals may still take.
const SPARE_MIB: u64 = 1_024;

/// What the machine says.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// The config file's permissions.
    config_mode: Option<u32>,
    /// Where the journals are, or will be.
    disk: Option<Disk>,
    overcommit_memory: Option<u64>,
    /// `always [madvise] never`
    huge_pages: String,
    max_map_count: Option<u64>,
    /// That a process may open, as this one was started.
    open_files: Option<u64>,
}

#[derive(Debug, Clone)]
struct Disk {
    place: PathBuf,
    free_mib: u64,
    /// None where the file system does not count them.
    free_inodes: Option<u64>,
    /// That the journals take already.
    journals_mib: u64,
}

pub(super) fn look(config: &Config, file: &Path) -> Vec<Departure> {
    judge(&Facts::read(config, file), config, file)
}

impl Facts {
    fn read(config: &Config, file: &Path) -> Self {
        Self {
            config_mode: fs::metadata(file).ok().map(|meta| meta.permissions().mode() & 0o777),
            disk: Disk::read(config),
            overcommit_memory: number("/proc/sys/vm/overcommit_memory"),
            huge_pages: fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default(),
            max_map_count: number("/proc/sys/vm/max_map_count"),
            open_files: getrlimit(Resource::Nofile).current,
        }
    }
}

impl Disk {
    fn read(config: &Config) -> Option<Self> {
        // A bot that has not run yet: the directory that its own will be made in.
        let place = config.journal.dir.ancestors().find(|place| place.is_dir())?;
        let stat = rustix::fs::statvfs(place).ok()?;
        Some(Self {
            place: place.to_owned(),
            free_mib: stat.f_bavail.saturating_mul(stat.f_frsize) >> 20,
            free_inodes: (stat.f_files > 0).then_some(stat.f_favail),
            journals_mib: super::journals::bytes_of_all(config) >> 20,
        })
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The part that needs no machine.
fn judge(facts: &Facts, config: &Config, file: &Path) -> Vec<Departure> {
    let mut found: Vec<_> = facts.config_mode.and_then(|mode| secrets(mode, file)).into_iter().collect();
    found.extend(facts.disk.iter().flat_map(|facts| disk(facts, config)));
    let local = |address: &String| ["127.", "localhost", "[::1]", "/"].iter().any(|start| address.starts_with(start));
    if config.redis.prices.addresses.iter().chain(&config.redis.events.addresses).any(local) {
        found.extend(redis_kernel(facts));
    }
    if config.questdb.iter().any(|server| local(&server.http)) {
        found.extend(questdb_kernel(facts));
    }
    found
}

fn secrets(mode: u32, file: &Path) -> Option<Departure> {
    (mode & 0o077 != 0).then(|| {
        Departure::wrong(
            Finding::MachineConfigMode,
            format!("{} can be read by others (mode {mode:o})", file.display()),
            "it holds the passwords of every server",
            format!("chmod 600 {}", file.display()),
        )
    })
}

fn disk(facts: &Disk, config: &Config) -> Vec<Departure> {
    let Disk { place, free_mib, free_inodes, journals_mib } = facts;
    let journal = &config.journal;
    let budgets_mib = journal.critical_budget_mib + journal.standard_budget_mib + journal.debug_budget_mib;
    let wanted_mib = budgets_mib.saturating_sub(*journals_mib) + SPARE_MIB;
    let mut found = Vec::new();
    if *free_mib < wanted_mib {
        found.push(Departure::wrong(
            Finding::MachineDisk,
            format!(
                "{free_mib} MiB are free in {}, and the journals may still take {}",
                place.display(),
                wanted_mib - SPARE_MIB
            ),
            "in an outage the disk is full before the budgets are used, and record() is refused earlier than said",
            "make room, or lower journal.critical_budget_mib, standard_budget_mib, debug_budget_mib",
        ));
    }
    if let Some(free) = free_inodes.filter(|free| *free < INODES_MIN) {
        found.push(Departure::wrong(
            Finding::MachineInodes,
            format!("{free} inodes are free in {}", place.display()),
            "without one no segment can be made, however much space there is",
            "delete what has many small files there, or move journal.dir",
        ));
    }
    found
}

fn redis_kernel(facts: &Facts) -> Vec<Departure> {
    let mut found = Vec::new();
    if facts.overcommit_memory == Some(0) {
        found.push(Departure::advice(
            Finding::MachineOvercommit,
            "vm.overcommit_memory is 0",
            "where memory is short, Redis cannot fork to save or to rewrite its append-only file",
            "sysctl vm.overcommit_memory=1, and the same in /etc/sysctl.d",
        ));
    }
    if facts.huge_pages.contains("[always]") {
        found.push(Departure::advice(
            Finding::MachineHugePages,
            "transparent huge pages are always on",
            "after each save of Redis its writes stall for milliseconds, page by page",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, at each start of the machine",
        ));
    }
    found
}

fn questdb_kernel(facts: &Facts) -> Vec<Departure> {
    let mut found = Vec::new();
    if let Some(maps) = facts.max_map_count.filter(|maps| *maps < MAPS_MIN) {
        found.push(Departure::advice(
            Finding::MachineMapCount,
            format!("vm.max_map_count is {maps}"),
            "QuestDB maps a file per column and partition; at the limit reads and writes fail",
            format!("sysctl vm.max_map_count={MAPS_MIN}, and the same in /etc/sysctl.d"),
        ));
    }
    if let Some(files) = facts.open_files.filter(|files| *files < FILES_MIN) {
        found.push(Departure::advice(
            Finding::MachineOpenFiles,
            format!("a process may open {files} files"),
            "QuestDB opens one per column and partition; a question over many days fails at the limit",
            "ulimit -n 65536 before `tripod up`, or LimitNOFILE in the service",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine as it should be, with 20 GiB free under the default budgets of 8.5 GiB.
    fn facts() -> Facts {
        Facts {
            config_mode: Some(0o600),
            disk: Some(Disk { place: "/data".into(), free_mib: 20_480, free_inodes: Some(1_000_000), journals_mib: 0 }),
            overcommit_memory: Some(1),
            huge_pages: "always [madvise] never".into(),
            max_map_count: Some(MAPS_MIN),
            open_files: Some(65_536),
        }
    }

    fn ids(facts: &Facts, config: &Config) -> Vec<&'static str> {
        judge(facts, config, Path::new("tripod.toml")).iter().map(|found| found.id).collect()
    }

    #[test]
    fn each_thing_that_is_not_as_it_should_be_is_found_and_nothing_else() {
        let config = Config::default();
        assert_eq!(ids(&facts(), &config), Vec::<&str>::new());
        assert_eq!(ids(&Facts::default(), &config), Vec::<&str>::new(), "what cannot be read is no finding");
        let on = |change: fn(&mut Disk)| {
            let mut disk = facts().disk.unwrap();
            change(&mut disk);
            Facts { disk: Some(disk), ..facts() }
        };
        let cases = [
            (Facts { config_mode: Some(0o640), ..facts() }, "machine.config-mode"),
            (on(|disk| disk.free_mib = 9_000), "machine.disk"),
            (on(|disk| disk.free_inodes = Some(9_999)), "machine.inodes"),
            (Facts { overcommit_memory: Some(0), ..facts() }, "machine.overcommit"),
            (Facts { huge_pages: "[always] madvise never".into(), ..facts() }, "machine.huge-pages"),
            (Facts { max_map_count: Some(65_530), ..facts() }, "machine.map-count"),
            (Facts { open_files: Some(1_024), ..facts() }, "machine.open-files"),
        ];
        for (broken, id) in cases {
            assert_eq!(ids(&broken, &config), [id], "{broken:?}");
        }
        // What the journals hold already is taken out of what they may take.
        let filled = on(|disk| (disk.free_mib, disk.journals_mib) = (9_000, 4_096));
        assert_eq!(ids(&filled, &config), Vec::<&str>::new());
        assert_eq!(ids(&on(|disk| disk.free_inodes = None), &config), Vec::<&str>::new());
    }

    #[test]
    fn the_kernel_is_judged_only_where_a_server_is_on_this_machine() {
        let mut config = Config::default();
        let bad = Facts {
            overcommit_memory: Some(0),
            huge_pages: "[always]".into(),
            max_map_count: Some(1),
            open_files: Some(1),
            ..facts()
        };
        assert_eq!(ids(&bad, &config).len(), 4);
        config.redis.prices.addresses = vec!["10.0.0.5:6379".into()];
        config.redis.events.addresses = vec!["10.0.0.5:6380".into()];
        assert_eq!(ids(&bad, &config), ["machine.map-count", "machine.open-files"]);
        config.questdb[0].http = "10.0.0.5:9000".into();
        assert_eq!(ids(&bad, &config), Vec::<&str>::new());
    }
}
