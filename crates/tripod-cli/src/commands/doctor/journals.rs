//! The journals of every bot on this machine: room within the budgets, segments that cannot be read, quarantine.

use std::path::{Path, PathBuf};

use tripod::Config;
use tripod::audit::{Departure, Finding};
use tripod::tape::spec::Importance;
use tripod_journal::{Inventory, SegmentState};

use super::super::migrate::journal_dirs;

/// Of a budget, in percent: an operator should know before `record()` is refused.
const BUDGET_PERCENT_MAX: u64 = 75;

pub(super) fn look(config: &Config) -> anyhow::Result<Vec<Departure>> {
    let mut found = Vec::new();
    for journals in journal_dirs(config)? {
        for class in Importance::ALL {
            let dir = journals.join(class.as_str());
            if dir.join("segments").is_dir() {
                found.extend(look_at(&dir, class, config.journal.budget_mib(class) << 20));
            }
        }
    }
    Ok(found)
}

/// Bytes on the disk, of all of them.
pub(super) fn bytes_of_all(config: &Config) -> u64 {
    let dirs: Vec<PathBuf> = journal_dirs(config).unwrap_or_default();
    let each = dirs.iter().flat_map(|dir| Importance::ALL.map(|class| dir.join(class.as_str())));
    each.filter_map(|dir| Inventory::read(&dir).ok()).flat_map(|all| all.segments).map(|segment| segment.bytes).sum()
}

fn look_at(dir: &Path, class: Importance, budget: u64) -> Vec<Departure> {
    let inventory = match Inventory::read(dir) {
        Ok(inventory) => inventory,
        Err(error) => {
            return vec![Departure::wrong(
                Finding::JournalUnreadable,
                format!("{}: {error}", dir.display()),
                "its rows cannot be delivered",
                "`tripod journal verify` names file and offset",
            )];
        }
    };
    let mut found = Vec::new();
    let damaged: Vec<_> = inventory.segments.iter().filter(|one| one.state == SegmentState::Damaged).collect();
    if let Some(first) = damaged.first() {
        found.push(Departure::wrong(
            Finding::JournalDamaged,
            format!(
                "{} of {} segments cannot be read, the first is {}",
                damaged.len(),
                inventory.segments.len(),
                first.path.display()
            ),
            "rows in it are not delivered; those of other segments are",
            "`tripod journal verify` says where; check the disk (dmesg, smartctl)",
        ));
    }
    for sink in &inventory.sinks {
        if sink.undelivered_bytes > budget / 100 * BUDGET_PERCENT_MAX {
            found.push(Departure::wrong(
                Finding::JournalBudget,
                format!(
                    "sink {} has {} MiB to deliver in {}, of a budget of {} MiB",
                    sink.name,
                    sink.undelivered_bytes >> 20,
                    dir.display(),
                    budget >> 20
                ),
                match class {
                    Importance::Critical => "at the budget record() is refused and trading_allowed() turns false",
                    Importance::Standard | Importance::Debug => "at the budget new rows are dropped and counted",
                },
                "`tripod status` says why the sink does not deliver; `tripod deliver` does it without the bot",
            ));
        }
    }
    found
}
