//! `tripod journal ls`, `verify`, `quarantine …`, `redeliver`: the local log, from its files, with the bot alive or dead.

mod quarantine;
mod redeliver;

use std::path::PathBuf;

use serde::Serialize;
use tripod::Config;
use tripod::tape::spec::Importance;
use tripod_journal::{Catalog, Inventory, SegmentState, Snapshot, verify};

use super::config_of;
use crate::args::{Bot, Global, Journal};
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

pub(super) fn run(command: &Journal, global: &Global, output: Output) -> anyhow::Result<Exit> {
    match command {
        Journal::Ls(bot) => ls(bot, global, output),
        Journal::Verify(bot) => verify_all(bot, global, output),
        Journal::Quarantine(command) => quarantine::run(command, global, output),
        Journal::Redeliver(arguments) => redeliver::run(arguments, global, output),
    }
}

/// The journals that a bot has.
fn journals(config: &Config) -> Result<Vec<(Importance, PathBuf)>, Stop> {
    let dir = config.journal_dir();
    let found: Vec<_> = Importance::ALL
        .into_iter()
        .map(|class| (class, dir.join(class.as_str())))
        .filter(|(_, dir)| dir.join("segments").is_dir())
        .collect();
    if found.is_empty() {
        return Err(Stop::usage(
            format!("bot `{}` has no journal in {}", config.bot, config.journal.dir.display()),
            others(config),
        ));
    }
    Ok(found)
}

/// Which bots do have one.
fn others(config: &Config) -> String {
    let mut names: Vec<String> = std::fs::read_dir(&config.journal.dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    match names.is_empty() {
        true => "a bot makes its journals when it opens its tape".to_owned(),
        false => format!("--bot NAME names another; there are {}", names.join(", ")),
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    bot: String,
    journals: Vec<JournalInfo>,
}

#[derive(Debug, Serialize)]
struct JournalInfo {
    class: Importance,
    dir: PathBuf,
    tables: Vec<String>,
    segments: usize,
    spare_segments: usize,
    damaged_segments: usize,
    bytes: u64,
    budget_bytes: u64,
    sinks: Vec<SinkInfo>,
}

#[derive(Debug, Serialize)]
struct SinkInfo {
    sink: String,
    undelivered_rows: u64,
    undelivered_bytes: u64,
}

fn ls(bot: &Bot, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = config_of(bot, global)?;
    let mut listed = Listed { bot: config.bot.clone(), journals: Vec::new() };
    for (class, dir) in journals(&config)? {
        listed.journals.push(look(&config, class, dir).map_err(tripod::Error::from)?);
    }
    output.result(&listed, || words(&listed))?;
    Ok(Exit::Done)
}

fn look(config: &Config, class: Importance, dir: PathBuf) -> Result<JournalInfo, tripod_journal::Error> {
    let inventory = Inventory::read(&dir)?;
    let count = |state| inventory.segments.iter().filter(|segment| segment.state == state).count();
    let spare_segments = count(SegmentState::Spare);
    let mut sinks = Vec::new();
    for progress in &inventory.sinks {
        let pending = Snapshot::read(&dir, &progress.name)?.pending;
        sinks.push(SinkInfo {
            sink: progress.name.clone(),
            undelivered_rows: pending.iter().map(|(_, rows)| rows).sum(),
            undelivered_bytes: progress.undelivered_bytes,
        });
    }
    let mut tables: Vec<_> = Catalog::read(&dir)?.entries().iter().map(|entry| entry.name.clone()).collect();
    tables.sort();
    tables.dedup();
    let budget_mib = match class {
        Importance::Critical => config.journal.critical_budget_mib,
        Importance::Standard => config.journal.standard_budget_mib,
        Importance::Debug => config.journal.debug_budget_mib,
    };
    Ok(JournalInfo {
        class,
        tables,
        segments: inventory.segments.len() - spare_segments,
        spare_segments,
        damaged_segments: count(SegmentState::Damaged),
        bytes: inventory.segments.iter().map(|segment| segment.bytes).sum(),
        budget_bytes: budget_mib.saturating_mul(1024 * 1024),
        sinks,
        dir,
    })
}

fn words(listed: &Listed) -> String {
    let mut table =
        output::table(&["class", "segments", "disk", "budget", "sink", "undelivered rows", "undelivered", "tables"]);
    for journal in &listed.journals {
        let head = [
            journal.class.as_str().to_owned(),
            match journal.damaged_segments {
                0 => format!("{} + {} spare", journal.segments, journal.spare_segments),
                damaged => format!("{} + {} spare, {damaged} DAMAGED", journal.segments, journal.spare_segments),
            },
            output::mebibytes(journal.bytes),
            output::mebibytes(journal.budget_bytes),
        ];
        let tables = journal.tables.join(" ");
        if journal.sinks.is_empty() {
            table.add_row(head.iter().map(String::as_str).chain(["-", "-", "-", &tables]));
        }
        for sink in &journal.sinks {
            let rows = sink.undelivered_rows.to_string();
            let bytes = output::mebibytes(sink.undelivered_bytes);
            table.add_row(head.iter().map(String::as_str).chain([sink.sink.as_str(), &rows, &bytes, &tables]));
        }
    }
    output::align_right(&mut table, 2..4);
    output::align_right(&mut table, 5..7);
    format!("bot {}\n{}", listed.bot, output::table_text(&table))
}

#[derive(Debug, Serialize)]
struct Verified {
    bot: String,
    journals: Vec<VerifiedJournal>,
    ok: bool,
}

#[derive(Debug, Serialize)]
struct VerifiedJournal {
    class: Importance,
    segments: u64,
    records: u64,
    bytes: u64,
    damage: Vec<Damage>,
}

#[derive(Debug, Serialize)]
struct Damage {
    file: PathBuf,
    offset: u64,
    what: String,
}

fn verify_all(bot: &Bot, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = config_of(bot, global)?;
    let mut verified = Verified { bot: config.bot.clone(), journals: Vec::new(), ok: true };
    for (class, dir) in journals(&config)? {
        let inventory = Inventory::read(&dir).map_err(tripod::Error::from)?;
        let bar =
            output.progress(&format!("reading {}", class.as_str()), inventory.segments.iter().map(|s| s.bytes).sum());
        let found = verify(&dir, |bytes| bar.inc(bytes)).map_err(tripod::Error::from)?;
        bar.finish_and_clear();
        let damage: Vec<_> = found
            .damage
            .into_iter()
            .map(|damage| Damage { file: damage.path, offset: damage.offset, what: damage.what })
            .collect();
        verified.ok &= damage.is_empty();
        let (segments, records, bytes) = (found.segments, found.records, found.bytes);
        verified.journals.push(VerifiedJournal { class, segments, records, bytes, damage });
    }
    output.result(&verified, || verdict(&verified))?;
    Ok(if verified.ok { Exit::Done } else { Exit::False })
}

fn verdict(verified: &Verified) -> String {
    let mut text = String::new();
    for journal in &verified.journals {
        let (class, segments, records) = (journal.class.as_str(), journal.segments, journal.records);
        text += &format!("{class}: {records} records in {segments} segments\n");
        for damage in &journal.damage {
            text += &format!("  {} offset {}: {}\n", damage.file.display(), damage.offset, damage.what);
        }
    }
    text + match verified.ok {
        true => "every record is as it was written",
        false => "DAMAGED: a sink stops at such a place of a segment and goes on in the others; keep the file",
    }
}
