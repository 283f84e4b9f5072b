//! The log: on stderr, quiet unless asked for.
//!
//! `TRIPOD_LOG` takes the filter syntax of `tracing` (`tripod=debug,questdb=trace`) and wins over `-v`. No secret ever
//! reaches a log: the config holds them in a type that prints as nothing.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts the log at the level that `-v` and `-q` ask for.
pub(crate) fn start(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "warn,tripod=info,tripod_stack=info,tripod_journal=info",
        (false, 2) => "warn,tripod=debug,tripod_stack=debug,tripod_journal=debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_env("TRIPOD_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // A second start (in a test) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
