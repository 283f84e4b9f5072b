//! `tripod drill ls` and `run`, and the hidden load.

use serde::Serialize;
use tripod::Timestamp;

use crate::args::{Drill as Command, DrillRun, Global};
use crate::drill::record::{self, Record};
use crate::drill::{self, Drill, Outcome, load};
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// Of an outage, where nobody says how long.
const OUTAGE_SECONDS: u64 = 20;

#[derive(Debug, Serialize)]
struct Listed {
    drill: Drill,
    what_if: &'static str,
    promise: &'static str,
    rounds: u32,
}

pub(super) fn run(command: &Command, global: &Global, output: Output) -> anyhow::Result<Exit> {
    match command {
        Command::Ls => list(output),
        Command::Run(arguments) => rehearse(arguments, global, output),
    }
}

fn list(output: Output) -> anyhow::Result<Exit> {
    let drills = Drill::ALL.map(|drill| Listed {
        drill,
        what_if: drill.what_if(),
        promise: drill.promise(),
        rounds: drill.rounds_default(),
    });
    output.result(&drills, || {
        let mut table = output::table(&["drill", "what if", "promise"]);
        for one in &drills {
            table.add_row([one.drill.name(), one.what_if, one.promise]);
        }
        output::table_text(&table)
    })?;
    Ok(Exit::Done)
}

fn rehearse(arguments: &DrillRun, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let of_outage = arguments.drill == Drill::Outage;
    if (of_outage && arguments.rounds.is_some()) || (!of_outage && arguments.seconds.is_some()) {
        let what = format!(
            "`drill run {}` takes no {}",
            arguments.drill.name(),
            if of_outage { "--rounds" } else { "--seconds" }
        );
        return Err(
            Stop::usage(what, "--seconds is how long the outage is, --rounds how often the others break").into()
        );
    }
    let rounds = arguments.rounds.unwrap_or(arguments.drill.rounds_default());
    let bar = output.progress(arguments.drill.name(), u64::from(rounds));
    let extent = drill::Extent { rounds, seconds: arguments.seconds.unwrap_or(OUTAGE_SECONDS) };
    let report = drill::run(arguments.drill, extent, global, &bar);
    bar.finish_and_clear();
    let report = report?;
    if let Err(error) = keep(arguments.drill, &report, global) {
        output.say(format!("note: {error:#}; the monitor will not show this drill"));
    }
    output.result(&report, || report.words())?;
    Ok(if report.ok() { Exit::Done } else { Exit::False })
}

/// For the monitor.
fn keep(drill: Drill, report: &Outcome, global: &Global) -> anyhow::Result<()> {
    let document = serde_json::to_value(report)?;
    let count = |name: &str| document.get(name).and_then(serde_json::Value::as_u64);
    let record = Record {
        drill: drill.name().to_owned(),
        at: Timestamp::now().to_string(),
        ok: report.ok(),
        lost: count("lost"),
        doubled: count("doubled"),
    };
    record::add(&global.data, record)
}

/// The load of a drill, in a process that the drill can kill.
pub(super) fn load(global: &Global) -> anyhow::Result<Exit> {
    load::run(global.load()?)?;
    Ok(Exit::Done)
}
