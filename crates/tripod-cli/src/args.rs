//! What can be typed. Only commands that work stand here.
//!
//! Constraints: names, exit codes and `--json` fields are a contract (golden tests freeze them). Every command takes
//! the same global arguments. No secret is ever an argument: arguments show in the process list.

mod backup;
mod tape;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use tripod::Timestamp;

use crate::drill;
use crate::replay::pace::Rate;

pub(crate) use backup::{Backup, Chosen, Prune, Restore};
pub(crate) use tape::{Bot, Deliver, Export, Journal, Quarantine, Query, Redeliver, Retention, Tape};

/// The data layer a Solana trading system stands on: QuestDB, PostgreSQL, Redis.
#[derive(Debug, Parser)]
#[command(name = "tripod", version, propagate_version = false, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done and true, 1 checked and false, 2 wrong usage or config,\n\
                        3 a server could not be reached, 4 refused for safety (needs --yes).")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The arguments that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "For every command")]
pub(crate) struct Global {
    /// Config file to read instead of DIR/tripod.toml
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the local stack: its servers' files, logs and tripod.toml
    #[arg(long, value_name = "DIR", global = true, env = "TRIPOD_DATA", default_value = ".tripod")]
    pub(crate) data: PathBuf,
    /// Print one JSON document on stdout instead of words and tables; an error is one, too: {"error": …}
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but data and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log more on stderr: -v what is done, -vv why, -vvv everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the local stack (QuestDB, PostgreSQL, two Redis); again is harmless, and heals it
    Up(Up),
    /// Stop the local stack; its data stay
    Down(Down),
    /// One screen: each server, the ledger of each table, streams and their readers
    Status(Status),
    /// Watch everything, for as long as it runs: a page in the browser, /metrics, alerts, jobs at set times
    Monitor(Monitor),
    /// Look for what is not as Tripod needs it: servers, rights, machine, journals; each finding with its remedy
    Doctor,
    /// Bring all servers to the schema that this version needs
    Migrate(Migrate),
    /// Do a whole bot's work from recorded trades and quotes, then prove that nothing was lost or doubled
    Replay(Replay),
    /// The time-series tables: list them, ask them, archive them, let old days go
    #[command(subcommand)]
    Tape(Tape),
    /// The bot's log on its own disk: what waits, whether it is whole, what was refused
    #[command(subcommand)]
    Journal(Journal),
    /// Deliver a bot's rows without the bot: after it died, until ^C or until nothing is left
    Deliver(Deliver),
    /// Backups of the three stores as one, proven by a restore
    #[command(subcommand)]
    Backup(Backup),
    /// Rehearse a failure on the local stack under load, and prove what was promised for it
    #[command(subcommand)]
    Drill(Drill),
    /// Measure what the README says, beside the raw client, on the local stack
    #[command(subcommand)]
    Bench(Bench),
    /// Tokens: import them, show every extension, judge whether they can be traded
    #[command(subcommand)]
    Tokens(crate::commands::tokens::Tokens),
    /// Event streams: publish, read along, how far each group is, dead letters
    #[command(subcommand)]
    Events(crate::commands::events::Events),
    /// Settings: typed values with every revision there was
    #[command(subcommand)]
    Settings(crate::commands::settings::Settings),
    /// Latest prices: read one, watch them change
    #[command(subcommand)]
    Prices(crate::commands::prices::Prices),
    /// Signals (pub/sub): hear what is said
    #[command(subcommand)]
    Signals(crate::commands::signals::Signals),
    /// The configuration: check it, show it, print the commented reference
    #[command(subcommand)]
    Config(Config),
    /// The stack's background process; started by `up`
    #[command(hide = true)]
    Supervise,
    /// The load of a drill; started by `drill run`
    #[command(hide = true)]
    DrillLoad,
    /// The other process that settings are measured with; started by `bench settings`
    #[command(hide = true)]
    BenchSettings,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Events with high availability: three Redis nodes and three sentinels; once said, it stays
    #[arg(long)]
    pub(crate) ha: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Also delete the servers' data: tables, tokens, settings, events; journals and backups stay
    #[arg(long)]
    pub(crate) wipe: bool,
    /// Yes, really delete it
    #[arg(long, requires = "wipe")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Look each second until ^C; on a terminal in place, else a screen for each change (--json: a document a line)
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Monitor {
    /// Where to listen; port 0: any free one; beyond this machine only with a token [default: monitor.listen, 127.0.0.1:9600]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Print what would be done and change nothing
    #[arg(long)]
    pub(crate) plan: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Recorded trades, quotes or prices: .csv, .csv.gz, .jsonl.gz (see samples/)
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// How fast: rows a second (5000/s), as recorded (1x, 10x), or as fast as it goes (max)
    #[arg(long, value_name = "RATE", default_value = "max")]
    pub(crate) rate: Rate,
    /// Stop after this many rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rows: Option<u64>,
    /// Time of the first row, RFC 3339 (2026-11-23T10:00:00Z); the same time leaves exactly the same rows [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) start_at: Option<Timestamp>,
    /// Leave lines out that cannot be read, and list them; without it one such line keeps everything out
    #[arg(long)]
    pub(crate) skip_broken: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Drill {
    /// The drills, and what each one proves
    Ls,
    /// Run one: it breaks the local stack on purpose, and mends it
    Run(DrillRun),
}

#[derive(Debug, Args)]
pub(crate) struct DrillRun {
    /// Which one
    #[arg(value_name = "NAME")]
    pub(crate) drill: drill::Drill,
    /// How often it breaks something [default: 1 to 5, see `drill ls`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// With outage: how long QuestDB is away [default: 20]
    #[arg(long, value_name = "N", conflicts_with = "rounds", value_parser = clap::value_parser!(u64).range(5..=7200))]
    pub(crate) seconds: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// record(), delivery, visibility, memory, questions; takes about 3 minutes and 8 GiB of disk
    Tape(BenchTape),
    /// Prices and signals: reads beside 20,000 writes a second, batches, memory, from process to process; half a minute
    Prices,
    /// Tokens: memory, lookups, bulk upserts, decoding, the start with a million; takes about three minutes
    Tokens,
    /// Publishing and handling events, on a Redis of its own
    Events {
        /// How long the steady 10 events a second are measured
        #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
    /// What the monitor takes of the machine, with ten browsers that follow it; on servers of its own
    Monitor {
        /// How long it is followed; half of that with nobody, and half of that while answers are timed
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..=86_400))]
        seconds: u64,
    },
    /// From a setting written to the same setting applied in another process
    Settings {
        /// Changes, one after the other
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        changes: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BenchTape {
    /// Rows a day that the questions are asked about: 30 days, in each of executions and market_trades
    #[arg(long, value_name = "ROWS", default_value_t = 20_000,
          value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    rows_per_day: u64,
    /// The size that the bars are meant for, 1,000,000 rows a day; some minutes more, and 40 GiB of disk
    #[arg(long, conflicts_with = "rows_per_day")]
    full: bool,
    /// Journal that waits while memory is measured, GiB
    #[arg(long, value_name = "GIB", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) backlog_gib: u64,
    /// Print the table as markdown
    #[arg(long)]
    pub(crate) markdown: bool,
}

impl BenchTape {
    pub(crate) fn rows_per_day(&self) -> u64 {
        if self.full { 1_000_000 } else { self.rows_per_day }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Read the config as a bot would, and say what is wrong with it
    Check,
    /// Print the config in force: file, environment, password files; secrets as ***
    Show,
    /// Print the commented reference: every key with its default
    Reference,
    /// Write a directory with which Prometheus and Alertmanager watch these servers, and make the exporters' logins
    Prometheus(crate::commands::prometheus::Prometheus),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_has_no_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_arguments_stand_before_or_after_the_command() {
        let before = Arguments::try_parse_from(["tripod", "--data", "d", "--json", "status"]).unwrap();
        let after = Arguments::try_parse_from(["tripod", "status", "--data", "d", "--json"]).unwrap();
        assert_eq!((&before.global.data, before.global.json), (&after.global.data, after.global.json));
        assert!(before.global.json);
    }

    #[test]
    fn yes_without_wipe_and_no_file_and_no_row_are_refused() {
        for wrong in [
            &["tripod", "down", "--yes"][..],
            &["tripod", "replay"],
            &["tripod", "replay", "f", "--rows", "0"],
            &["tripod", "replay", "f", "--rate", "fast"],
            &["tripod", "replay", "f", "--start-at", "yesterday"],
            &["tripod", "fly"],
        ] {
            let error = Arguments::try_parse_from(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
