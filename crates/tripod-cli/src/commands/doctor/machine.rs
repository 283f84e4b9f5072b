//! This machine: the disk under the journals, the kernel's settings that servers suffer from, the config file's mode.
//!
//! Constraints: what is not there to be read (another kernel, a container) is no finding. The kernel is judged only where
//! a server of the config is on this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use tripod::Config;
use tripod::audit::Departure;

/// QuestDB maps each column file of each open partition.
const MAPS_MIN: u64 = 262_144;
const FILES_MIN: u64 = 4_096;
const INODES_MIN: u64 = 10_000;
/// What is free beyond what the journals may still take.
const SPARE_MIB: u64 = 1_024;

pub(super) fn look(config: &Config, file: &Path) -> Vec<Departure> {
    let mut found: Vec<_> = secrets(file).into_iter().collect();
    found.extend(disk(config));
    let local = |address: &String| ["127.", "localhost", "[::1]", "/"].iter().any(|start| address.starts_with(start));
    if config.redis.prices.addresses.iter().chain(&config.redis.events.addresses).any(local) {
        found.extend(redis_kernel());
    }
    if config.questdb.iter().any(|server| local(&server.http)) {
        found.extend(questdb_kernel());
    }
    found
}

fn secrets(file: &Path) -> Option<Departure> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        Departure::wrong(
            "machine.config-mode",
            format!("{} can be read by others (mode {mode:o})", file.display()),
            "it holds the passwords of every server",
            format!("chmod 600 {}", file.display()),
        )
    })
}

fn disk(config: &Config) -> Vec<Departure> {
    // A bot that has not run yet: the directory that its own will be made in.
    let Some(place) = config.journal.dir.ancestors().find(|place| place.is_dir()) else { return Vec::new() };
    let Ok(facts) = rustix::fs::statvfs(place) else { return Vec::new() };
    let free_mib = facts.f_bavail.saturating_mul(facts.f_frsize) >> 20;
    let journal = &config.journal;
    let budgets_mib = journal.critical_budget_mib + journal.standard_budget_mib + journal.debug_budget_mib;
    let used_mib = super::journals::bytes_of_all(config) >> 20;
    let wanted_mib = budgets_mib.saturating_sub(used_mib) + SPARE_MIB;
    let mut found = Vec::new();
    if free_mib < wanted_mib {
        found.push(Departure::wrong(
            "machine.disk",
            format!(
                "{free_mib} MiB are free in {}, and the journals may still take {}",
                place.display(),
                wanted_mib - SPARE_MIB
            ),
            "in an outage the disk is full before the budgets are used, and record() is refused earlier than said",
            "make room, or lower journal.critical_budget_mib, standard_budget_mib, debug_budget_mib",
        ));
    }
    if facts.f_files > 0 && facts.f_favail < INODES_MIN {
        found.push(Departure::wrong(
            "machine.inodes",
            format!("{} inodes are free in {}", facts.f_favail, place.display()),
            "without one no segment can be made, however much space there is",
            "delete what has many small files there, or move journal.dir",
        ));
    }
    found
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn redis_kernel() -> Vec<Departure> {
    let mut found = Vec::new();
    if number("/proc/sys/vm/overcommit_memory") == Some(0) {
        found.push(Departure::advice(
            "machine.overcommit",
            "vm.overcommit_memory is 0",
            "where memory is short, Redis cannot fork to save or to rewrite its append-only file",
            "sysctl vm.overcommit_memory=1, and the same in /etc/sysctl.d",
        ));
    }
    let huge = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    if huge.contains("[always]") {
        found.push(Departure::advice(
            "machine.huge-pages",
            "transparent huge pages are always on",
            "after each save of Redis its writes stall for milliseconds, page by page",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, at each start of the machine",
        ));
    }
    found
}

fn questdb_kernel() -> Vec<Departure> {
    let mut found = Vec::new();
    if let Some(maps) = number("/proc/sys/vm/max_map_count").filter(|maps| *maps < MAPS_MIN) {
        found.push(Departure::advice(
            "machine.map-count",
            format!("vm.max_map_count is {maps}"),
            "QuestDB maps a file per column and partition; at the limit reads and writes fail",
            format!("sysctl vm.max_map_count={MAPS_MIN}, and the same in /etc/sysctl.d"),
        ));
    }
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files < FILES_MIN) {
        found.push(Departure::advice(
            "machine.open-files",
            format!("a process may open {files} files"),
            "QuestDB opens one per column and partition; a question over many days fails at the limit",
            "ulimit -n 65536 before `tripod up`, or LimitNOFILE in the service",
        ));
    }
    found
}
