//! `tripod bench`: figures, not verdicts. A missed bar is printed as missed; the exit code stays 0.

use crate::args::{Bench as Command, Global};
use crate::bench;
use crate::exit::Exit;
use crate::output::Output;

pub(super) fn run(command: &Command, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let spinner = output.spinner("looking at the stack");
    let (report, markdown) = match command {
        Command::Tape(wanted) => (bench::tape(wanted, global, &spinner), wanted.markdown),
        Command::Prices => (bench::prices::run(global, &spinner), false),
        Command::Tokens => (bench::tokens::tokens(global, &spinner), false),
        Command::Events { seconds } => (bench::events::events(global, *seconds, &spinner), false),
        Command::Monitor { seconds } => (bench::monitor::run(global, *seconds, &spinner), false),
        Command::Settings { changes } => (super::block_on(bench::settings::run(*changes, global)), false),
    };
    spinner.finish_and_clear();
    let report = report?;
    if !report.is_of_release() {
        output.say("note: this is a debug build; `make build` makes the one that the figures are about");
    }
    output.result(&report, || if markdown { report.markdown() } else { report.words() })?;
    Ok(Exit::Done)
}
