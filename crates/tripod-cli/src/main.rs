//! The operator's binary.
//!
//! Picture:
//! ```text
//! args ─▶ commands::* ─▶ output (data on stdout, words on stderr)
//!                  └───▶ exit   (code, error, causes, hint)
//! ```

mod archive;
mod args;
mod bench;
mod commands;
mod drill;
mod exit;
mod logging;
mod monitor;
mod output;
mod own_redis;
mod replay;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::Arguments;
use crate::exit::Exit;
use crate::output::Output;

/// The next step after wrong usage.
const USAGE_HINT: &str = "`tripod --help` lists the commands, `tripod COMMAND --help` what each takes";

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error).into(),
    };
    logging::start(arguments.global.verbose, arguments.global.quiet);
    let output = Output::new(arguments.global.json, arguments.global.quiet);
    match commands::run(arguments, output) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let (exit, hint) = exit::verdict(&error);
            output.failure(&exit::sentence(&error), &hint, exit.code());
            output::complain(&exit::render(&error));
            exit.into()
        }
    }
}

/// Answers `--help` and `--version` on stdout, and wrong usage on stderr with a hint like any other error.
fn refuse(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that has gone away is no error.
        let _ = output::print(&if std::io::stdout().is_terminal() {
            error.render().ansi().to_string()
        } else {
            error.render().to_string()
        });
        return Exit::Done;
    }
    let text =
        if std::io::stderr().is_terminal() { error.render().ansi().to_string() } else { error.render().to_string() };
    // clap ends with a line that says the same as the hint.
    let text = text.split("\n\nFor more information").next().unwrap_or(&text);
    // What was typed could not be read, so it is only looked for.
    let json = std::env::args_os().any(|argument| argument == "--json");
    let plain = error.render().to_string();
    let message = plain.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Output::new(json, false).failure(message, USAGE_HINT, Exit::Usage.code());
    output::complain_in_colour(text.trim_end());
    if error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        output::complain(&format!("hint: {USAGE_HINT}"));
    }
    Exit::Usage
}
