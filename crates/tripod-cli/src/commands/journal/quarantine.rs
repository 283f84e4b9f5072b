//! `tripod journal quarantine ls`, `show`, `retry`, `drop`.
//!
//! Constraints: rows are numbered over all files of a bot, by class, sink and age. Numbers move when rows come or go, so
//! what is changed is checked to be what was listed: the row itself is matched, not its number.

use serde::Serialize;
use tripod::Config;
use tripod::tape::quarantine::{QuarantineFile, Quarantined, Reason, drop_rows, files, retry_rows};
use tripod::tape::spec::Importance;

use super::super::config_of;
use crate::args::{Global, Quarantine};
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

pub(super) fn run(command: &Quarantine, global: &Global, output: Output) -> anyhow::Result<Exit> {
    match command {
        Quarantine::Ls(bot) => ls(&config_of(bot, global)?, output),
        Quarantine::Show { number, bot } => show(*number, &config_of(bot, global)?, output),
        Quarantine::Retry { numbers, bot } => retry(numbers, &config_of(bot, global)?, output),
        Quarantine::Drop { numbers, yes, bot } => discard(numbers, *yes, &config_of(bot, global)?, output),
    }
}

/// A row with its number.
#[derive(Debug, Serialize)]
struct Numbered<'a> {
    number: usize,
    sink: &'a str,
    class: Importance,
    #[serde(flatten)]
    row: &'a Quarantined,
}

fn numbered(files: &[QuarantineFile]) -> Vec<Numbered<'_>> {
    files
        .iter()
        .flat_map(|file| file.rows.iter().map(move |row| (file, row)))
        .zip(1..)
        .map(|((file, row), number)| Numbered { number, sink: &file.sink, class: file.class, row })
        .collect()
}

fn ls(config: &Config, output: Output) -> anyhow::Result<Exit> {
    #[derive(Serialize)]
    struct Listed<'a> {
        rows: Vec<Numbered<'a>>,
    }
    let files = files(&config.journal_dir())?;
    let listed = Listed { rows: numbered(&files) };
    output.result(&listed, || words(&listed.rows))?;
    Ok(Exit::Done)
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Refused => "refused",
        Reason::Expired => "expired",
        Reason::Unreadable => "unreadable",
        _ => "other",
    }
}

fn words(rows: &[Numbered<'_>]) -> String {
    if rows.is_empty() {
        return "the quarantine is empty".to_owned();
    }
    let mut table = output::table(&["", "table", "sink", "since", "reason", ""]);
    for Numbered { number, sink, row, .. } in rows {
        let number = number.to_string();
        let said = row.words.lines().next().unwrap_or_default();
        table.add_row([&number, row.table.as_str(), sink, &row.quarantined_at, reason(row.reason), said]);
    }
    output::align_right(&mut table, 0..1);
    output::table_text(&table)
}

fn show(number: usize, config: &Config, output: Output) -> anyhow::Result<Exit> {
    let files = files(&config.journal_dir())?;
    let rows = numbered(&files);
    let row = rows.get(number.wrapping_sub(1)).ok_or_else(|| unknown(number, rows.len()))?;
    output.result(row, || {
        let mut table = output::table(&["column", "value"]);
        for (column, value) in &row.row.row {
            table.add_row([column, value.as_str().unwrap_or("NULL")]);
        }
        let Quarantined { table: name, words, quarantined_at, segment, offset, .. } = row.row;
        format!(
            "{name}, {} by sink {} at {quarantined_at}\n{words}\njournal {}, segment {segment}, byte {offset}\n\n{}",
            reason(row.row.reason),
            row.sink,
            row.class.as_str(),
            output::table_text(&table)
        )
    })?;
    Ok(Exit::Done)
}

fn unknown(number: usize, rows: usize) -> Stop {
    Stop::usage(
        format!("there is no row {number} in the quarantine; it has {rows}"),
        "`tripod journal quarantine ls` shows the numbers",
    )
}

/// The chosen rows of each file; all of them where no number is given.
fn chosen<'a>(
    numbers: &[usize],
    files: &'a [QuarantineFile],
) -> Result<Vec<(&'a QuarantineFile, Vec<&'a Quarantined>)>, Stop> {
    let total = files.iter().map(|file| file.rows.len()).sum();
    if let Some(number) = numbers.iter().find(|number| !(1..=total).contains(*number)) {
        return Err(unknown(*number, total));
    }
    let mut next = 1..;
    Ok(files
        .iter()
        .map(|file| {
            let rows = file.rows.iter().zip(&mut next);
            let wanted = rows.filter(|(_, number)| numbers.is_empty() || numbers.contains(number));
            (file, wanted.map(|(row, _)| row).collect::<Vec<_>>())
        })
        .filter(|(_, rows)| !rows.is_empty())
        .collect())
}

fn retry(numbers: &[usize], config: &Config, output: Output) -> anyhow::Result<Exit> {
    #[derive(Serialize)]
    struct Retried {
        recorded: usize,
    }
    let files = files(&config.journal_dir())?;
    let mut recorded = 0;
    for (file, rows) in chosen(numbers, &files)? {
        recorded += retry_rows(config, &file.sink, file.class, |row| rows.contains(&row)).map_err(in_use)?;
    }
    output.result(&Retried { recorded }, || {
        format!("{recorded} rows recorded again; the bot's next start or `tripod deliver` delivers them")
    })?;
    Ok(Exit::Done)
}

fn discard(numbers: &[usize], yes: bool, config: &Config, output: Output) -> anyhow::Result<Exit> {
    #[derive(Serialize)]
    struct Dropped {
        dropped: usize,
    }
    let files = files(&config.journal_dir())?;
    let chosen = chosen(numbers, &files)?;
    let count: usize = chosen.iter().map(|(_, rows)| rows.len()).sum();
    if count > 0 && !yes {
        return Err(Stop::refused(
            format!("{count} rows would be thrown away for good"),
            "`tripod journal quarantine show N` shows a row; add --yes to throw them away",
        )
        .into());
    }
    let mut dropped = 0;
    for (file, rows) in chosen {
        dropped +=
            drop_rows(&config.journal_dir(), &file.sink, file.class, |row| rows.contains(&row)).map_err(in_use)?;
    }
    output.result(&Dropped { dropped }, || {
        format!("{dropped} rows thrown away; the ledger counts them as quarantined")
    })?;
    Ok(Exit::Done)
}

/// A bot that runs keeps its quarantine open.
fn in_use(error: tripod::Error) -> anyhow::Error {
    match error {
        tripod::Error::Conflict { .. } => {
            Stop::refused(error.to_string(), "end the bot, then run the same command again").into()
        }
        other => other.into(),
    }
}
