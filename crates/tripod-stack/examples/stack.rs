//! The crate by hand: `cargo run -p tripod-stack --example stack -- up DIR | down DIR | wipe DIR | check DIR`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its terminal")]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        // What `up` starts in the background.
        ["supervise", "--data", dir] => tripod_stack::supervise(Path::new(dir)),
        ["up", dir] => tripod_stack::up(&tripod_stack::Options::new(dir)).map(|report| println!("{report:#?}")),
        ["down", dir] => tripod_stack::down(Path::new(dir), false).map(|report| println!("{report:?}")),
        ["wipe", dir] => tripod_stack::down(Path::new(dir), true).map(|report| println!("{report:?}")),
        ["check", dir] => tripod_stack::check(Path::new(dir)).map(|report| println!("{report:#?}")),
        _ => {
            eprintln!("usage: stack up|down|wipe|check DIR");
            return ExitCode::from(2);
        }
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}
