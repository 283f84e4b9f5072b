//! `tripod tape retention plan`, `run`; `tape export`.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tripod::Timestamp;
use tripod::config::Config;
use tripod::tape::retention::{Day, RetentionState, TableState, columns_of};
use tripod::tape::schema;

use super::{ask_questdb, migrate, questdb_name};
use crate::archive::run::{DayReport, Outcome, Work};
use crate::archive::{Archive, Manifest, Source, damage, manifest};
use crate::args::{Export, Retention};
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// One statement: the rollup of a day of many rows takes longest.
const STATEMENT_WITHIN: Duration = Duration::from_mins(5);

#[derive(Debug, Serialize)]
struct Report {
    tables: Vec<TableState>,
    days: Vec<DayReport>,
    /// Nothing that should be covered is not; a plan is not judged.
    ok: bool,
}

pub(super) async fn run(command: &Retention, config: &Config, output: Output) -> anyhow::Result<Exit> {
    let planned_only = matches!(command, Retention::Plan);
    let specs = migrate::specs(config)?;
    let dir = config.retention.archive_dir.clone();
    let archive = if planned_only { None } else { Some(Archive::open(&dir)?) };
    let archive = std::sync::Arc::new(archive);
    let mut state = RetentionState::read(&dir)?;
    let mut all = Outcome::default();
    for (number, server) in config.questdb.iter().enumerate() {
        let shown = questdb_name(config, number);
        let (config, specs, archive) = (config.clone(), specs.clone(), std::sync::Arc::clone(&archive));
        let (name, mut known) = (server.name.clone(), state.clone());
        let asked = ask_questdb(server, STATEMENT_WITHIN, move |http| {
            let work = Work {
                http,
                server: &name,
                is_first: number == 0,
                config: &config,
                specs: &specs,
                archive: archive.as_ref().as_ref(),
                now: Timestamp::now(),
            };
            let outcome = work.run(&mut known)?;
            Ok((outcome, known))
        });
        let (outcome, known) = asked.await.with_context(|| format!("on {shown}"))?;
        state = known;
        all.days.extend(outcome.days);
        all.tables.extend(outcome.tables);
    }
    if !planned_only {
        // What is not on any server any more needs no mark.
        let on_server: std::collections::BTreeSet<String> = all.days.iter().map(|day| day.day.to_string()).collect();
        state.kept.retain(|key, _| key.rsplit('/').next().is_some_and(|day| on_server.contains(day)));
        state.tables.clone_from(&all.tables);
        state.write(&dir)?;
    }
    let ok = planned_only || all.tables.iter().all(|table| table.uncovered.is_empty());
    let report = Report { tables: all.tables, days: all.days, ok };
    output.result(&report, || words(&report))?;
    Ok(if ok { Exit::Done } else { Exit::False })
}

fn words(report: &Report) -> String {
    if report.days.is_empty() {
        return "no table has a row yet".to_owned();
    }
    let mut table = output::table(&["server", "table", "day", "rows", "gone after", "archive", "rollup", ""]);
    for day in &report.days {
        table.add_row([
            day.server.as_str(),
            &day.table,
            &day.day.to_string(),
            &day.rows.to_string(),
            &day.expires_at,
            day.archive,
            day.rollup,
            &day.detail,
        ]);
    }
    output::align_right(&mut table, 3..4);
    let mut text = output::table_text(&table);
    for table in &report.tables {
        if table.held() {
            text += &format!(
                "\n{} ({}): kept {} days instead of {}, because nothing covers {} of its days",
                table.table,
                table.server,
                table.ttl_days,
                table.wanted_days,
                table.uncovered.len()
            );
        }
    }
    text
}

#[derive(Debug, Serialize)]
struct Exported {
    #[serde(flatten)]
    manifest: Manifest,
    dir: String,
    /// False: it was there already, and is equal.
    written: bool,
}

/// Writes one day of one table, of any importance, from the first server.
pub(super) async fn export(arguments: &Export, config: &Config, output: Output) -> anyhow::Result<Exit> {
    let server = config.questdb.first().ok_or_else(|| Stop::usage("the config has no QuestDB", "add one"))?;
    let name = questdb_name(config, 0);
    let (table, day, replace) = (arguments.table.clone(), arguments.day, arguments.replace);
    if table.is_empty() || !table.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Stop::usage(format!("`{table}` is no table's name"), "`tripod tape ls` lists them").into());
    }
    let dir = arguments.to.clone().unwrap_or_else(|| config.retention.archive_dir.clone());
    let spinner = output.spinner(&format!("{table} of {day}"));
    let asked = ask_questdb(server, STATEMENT_WITHIN, move |http| export_day(http, &table, day, replace, &dir));
    let exported = asked.await;
    spinner.finish_and_clear();
    let (exported, differs) = exported?;
    if differs {
        return Err(Stop::untrue(
            format!("{} is there and is not what {name} has now", exported.dir),
            "--replace writes it anew, once the new one is proven",
        )
        .into());
    }
    output.result(&exported, || {
        let Exported { manifest, dir, written } = &exported;
        let done = if *written { "written, read back" } else { "already there, read back" };
        format!(
            "{} rows of {} of {}: {done} and equal to the server, in {dir} ({})",
            manifest.rows,
            manifest.table,
            manifest.day,
            output::mebibytes(manifest.bytes)
        )
    })?;
    Ok(Exit::Done)
}

fn export_day(
    http: &tripod::tape::questdb::QuestDbHttp,
    table: &str,
    day: Day,
    replace: bool,
    dir: &std::path::Path,
) -> tripod::Result<(Exported, bool)> {
    let invalid = |why: &str| tripod::Error::Invalid { what: format!("table {table}"), why: why.into() };
    let live = schema::read_live(http)?;
    let found = live.0.get(table).ok_or_else(|| invalid("is not on the server; `tripod tape ls` lists them"))?;
    let designated =
        found.designated.as_deref().ok_or_else(|| invalid("has no designated timestamp, and so no days"))?;
    let columns = columns_of(found)?;
    let source = Source { http, table, designated, columns: &columns, day };
    let archive = Archive::open(dir)?;
    let place = crate::archive::day_dir(dir, table, day).display().to_string();
    if let Some(known) = manifest(dir, table, day)?.filter(|_| !replace) {
        let sum = source.sum()?;
        let equal = (sum.rows, sum.hex()) == (known.rows, known.checksum.clone()) && damage(dir, &known).is_none();
        return Ok((Exported { manifest: known, dir: place, written: false }, !equal));
    }
    let manifest = archive.export(&source)?;
    Ok((Exported { manifest, dir: place, written: true }, false))
}
