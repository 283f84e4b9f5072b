//! `tripod bench`: figures, not verdicts. A missed bar is printed as missed; the exit code stays 0.

use crate::args::{Bench as Command, Global};
use crate::bench;
use crate::exit::Exit;
use crate::output::Output;

pub(super) fn run(command: &Command, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let spinner = output.spinner("looking at the stack");
    let report = match command {
        Command::Tape => bench::tape(global, &spinner),
        Command::Events { seconds } => bench::events(global, *seconds, &spinner),
    };
    spinner.finish_and_clear();
    let report = report?;
    if !report.is_of_release() {
        output.say("note: this is a debug build; `make build` makes the one that the figures are about");
    }
    output.result(&report, || report.words())?;
    Ok(Exit::Done)
}
