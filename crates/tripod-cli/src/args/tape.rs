//! What `tape`, `journal` and `deliver` take.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tripod::tape::retention::Day;

/// Rows that `tape query` prints where nothing else is said.
const QUERY_ROWS: u32 = 1000;
/// Rows that it prints at most: as many as a person or a script can take at once.
const QUERY_ROWS_MAX: i64 = 1_000_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Tape {
    /// List the tables of each QuestDB: rows, span, TTL, disk, whether suspended
    Ls,
    /// Run SQL that reads (SELECT, WITH, SHOW, EXPLAIN) on the first QuestDB
    Query(Query),
    /// Write one day of a table as Parquet, read it back, compare it with the server by value
    Export(Export),
    /// What becomes of old days: rolled up, archived, and only then dropped by the server
    #[command(subcommand)]
    Retention(Retention),
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The table, by its name on the server
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// Which day, UTC (2026-11-23)
    #[arg(long, value_name = "DAY")]
    pub(crate) day: Day,
    /// Directory to write into, as table=TABLE/day=DAY/part-0.parquet [default: the archive of the config]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Replace what is there, once the new one is proven
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Retention {
    /// List each day: when the server drops it, and what covers it; changes nothing
    Plan,
    /// Roll up, archive and compare the days that ended; a critical day that is not covered holds its table's TTL up (exit 1)
    Run,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// One statement; table names are the server's own
    #[arg(value_name = "SQL")]
    pub(crate) sql: String,
    /// Print this many rows at most
    #[arg(long, value_name = "N", default_value_t = QUERY_ROWS, value_parser = clap::value_parser!(u32).range(1..=QUERY_ROWS_MAX))]
    pub(crate) limit: u32,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) deadline: u64,
}

/// Whose journals.
#[derive(Debug, Args)]
pub(crate) struct Bot {
    /// Name of the bot whose journals are meant [default: the config's]
    #[arg(long, value_name = "NAME")]
    pub(crate) bot: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Journal {
    /// List a bot's journals: segments, disk, budget, and what each sink has not delivered yet
    Ls(Bot),
    /// Read every record of a bot's journals and check its checksum; exit 1 names each damaged file and place
    Verify(Bot),
    /// Rows that QuestDB refused
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Deliver once more what was delivered after a moment, for a QuestDB that lost something; the bot must not deliver
    Redeliver(Redeliver),
}

#[derive(Debug, Args)]
pub(crate) struct Redeliver {
    /// From when on, RFC 3339 (2026-11-23T10:00:00Z); rows that are there already stay as they are
    #[arg(long, value_name = "TIME")]
    pub(crate) since: tripod::Timestamp,
    /// Give up waiting after so many seconds; what is left stays pending
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) deadline: u64,
    #[command(flatten)]
    pub(crate) bot: Bot,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Quarantine {
    /// List the quarantined rows with their reasons; the numbers are what the other commands take
    Ls(Bot),
    /// Print one row with all its columns
    Show {
        /// Its number in `ls`
        #[arg(value_name = "N")]
        number: usize,
        #[command(flatten)]
        bot: Bot,
    },
    /// Record rows again, exactly as they were, and take them out; the bot must not run
    Retry {
        /// Their numbers in `ls` [default: all]
        #[arg(value_name = "N")]
        numbers: Vec<usize>,
        #[command(flatten)]
        bot: Bot,
    },
    /// Throw rows away for good; the bot must not run
    Drop {
        /// Their numbers in `ls` [default: all]
        #[arg(value_name = "N")]
        numbers: Vec<usize>,
        /// Yes, really throw them away
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        bot: Bot,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Deliver {
    #[command(flatten)]
    pub(crate) bot: Bot,
    /// End when nothing is left to deliver; exit 1 where something is left at the deadline
    #[arg(long)]
    pub(crate) until_empty: bool,
    /// With --until-empty: give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "until_empty", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) deadline: u64,
}
