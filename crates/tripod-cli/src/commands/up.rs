//! `tripod up`, `down` and the hidden `supervise`.

use serde::Serialize;
use tripod_stack::{Options, RunState, ServerState};

use super::leftovers;
use crate::args::{Down, Global, Up as UpArguments};
use crate::backup::leftovers as backup;
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

#[derive(Serialize)]
struct Up<'a> {
    servers: &'a [ServerState],
    started: &'a [tripod_stack::ServerName],
    config: String,
    elapsed_s: f64,
    notes: &'a [String],
}

pub(super) fn up(arguments: &UpArguments, global: &Global, output: Output) -> anyhow::Result<Exit> {
    if let Some(file) = &global.config {
        return Err(Stop::usage(
            format!("`up` starts servers of its own and cannot use {}", file.display()),
            "leave --config out; `up` writes DIR/tripod.toml itself",
        )
        .into());
    }
    if let Some(done) = backup::go_on_with_moves(&global.data)? {
        output.say(format!("note: {done}"));
    }
    let spinner = output.spinner("starting QuestDB, PostgreSQL and Redis");
    let mut options = Options::new(&global.data);
    options.servers.events_ha = arguments.ha;
    let report = tripod_stack::up(&options);
    spinner.finish_and_clear();
    let report = report?;
    for note in &report.notes {
        output.say(format!("note: {note}"));
    }
    for done in backup::after_up(&global.data)? {
        output.say(format!("note: {done}"));
    }
    let document = Up {
        servers: &report.servers,
        started: &report.started,
        config: report.config.display().to_string(),
        elapsed_s: report.took.as_secs_f64(),
        notes: &report.notes,
    };
    output.done(&document, || {
        let mut text = match report.started.len() {
            0 if report.supervisor_started => {
                "the servers were running; their supervisor was started again\n".to_owned()
            }
            0 => "everything was running already\n".to_owned(),
            _ => format!("ready after {:.1} s\n", report.took.as_secs_f64()),
        };
        text += &servers_table(&report.servers);
        text += &format!("\nconfig  {}\nnext    tripod migrate", report.config.display());
        text
    })?;
    Ok(Exit::Done)
}

fn servers_table(servers: &[ServerState]) -> String {
    let replicated = servers.iter().any(|server| server.role.is_some());
    let mut header = vec!["server", "state", "version", "address"];
    header.extend(replicated.then_some("part"));
    let mut table = output::table(&header);
    for server in servers {
        let mut row = vec![
            server.name.to_string(),
            state_word(server.state).to_owned(),
            server.version.clone().unwrap_or_else(|| "?".to_owned()),
            server.address.clone(),
        ];
        row.extend(replicated.then(|| server.role.clone().unwrap_or_default()));
        table.add_row(row);
    }
    output::table_text(&table)
}

fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Starting => "starting",
        RunState::Stopped => "stopped",
        RunState::Dead => "dead",
        RunState::Unreachable => "unreachable",
    }
}

#[derive(Serialize)]
struct Ended<'a> {
    stopped: &'a [tripod_stack::ServerName],
    wiped: bool,
}

pub(super) fn down(arguments: &Down, global: &Global, output: Output) -> anyhow::Result<Exit> {
    if arguments.wipe && !arguments.yes {
        return Err(Stop::refused(
            format!(
                "this would delete every table, token, setting, event and journal of the stack in {}",
                global.data.display()
            ),
            "say `tripod down --wipe --yes` if that is meant",
        )
        .into());
    }
    if arguments.wipe
        && let Some(lock) = leftovers::held_lock(&global.data)?
    {
        return Err(Stop::refused(
            format!("a bot is recording into the journals of this stack: it holds {}", lock.display()),
            "end the bot first; its journals go with the wipe",
        )
        .into());
    }
    let spinner = output.spinner("stopping the servers");
    let report = tripod_stack::down(&global.data, arguments.wipe);
    spinner.finish_and_clear();
    let report = report?;
    for note in &report.notes {
        output.say(format!("note: {note}"));
    }
    if report.wiped {
        leftovers::remove(&global.data)?;
    }
    let document = Ended { stopped: &report.stopped, wiped: report.wiped };
    output.done(&document, || {
        if !report.found && !report.wiped && report.stopped.is_empty() {
            return format!("there is no stack in {}", global.data.display());
        }
        let mut text = match report.stopped.len() {
            0 => "nothing was running".to_owned(),
            count => format!("{count} servers stopped"),
        };
        text += if report.wiped { "; their data were deleted" } else { "; the data stay" };
        text
    })?;
    Ok(Exit::Done)
}

/// The stack's background process.
pub(super) fn supervise(global: &Global) -> anyhow::Result<Exit> {
    tripod_stack::supervise(&global.data)?;
    Ok(Exit::Done)
}
