//! The operator's binary.
//!
//! Picture:
//! ```text
//! args ─▶ commands::* ─▶ output (data on stdout, words on stderr)
//!                  └───▶ exit   (code, error, causes, hint)
//! ```

mod args;
mod bench;
mod commands;
mod drill;
mod exit;
mod logging;
mod output;
mod replay;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::Arguments;
use crate::exit::Exit;
use crate::output::Output;

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
            output::complain(&exit::render(&error));
            exit::verdict(&error).0.into()
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
    output::complain(text.trim_end());
    if error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        output::complain("hint: `tripod --help` lists the commands, `tripod COMMAND --help` what each takes");
    }
    Exit::Usage
}
