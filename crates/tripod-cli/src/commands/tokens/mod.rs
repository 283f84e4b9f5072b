//! `tripod tokens …`: reference data, as the store has it.
//!
//! Constraints: a mint is named by its address alone, because symbols are shared. What the store does not hold is
//! "checked and false" (exit 1), never an empty document.

mod assess;
mod fetch;
mod import;
mod search;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use tripod::Timestamp;
use tripod::postgres::{Login, Postgres};
use tripod::tokens::{Address, EXTENSION_NAMES, StoredToken, Tokens as Store};

use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::Output;

/// An operator waits longer than a bot.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// What a token's account says, every extension included
    Show(Show),
    /// May it be traded, and at what cost? Exit 1 where the policy refuses it
    Assess(Assess),
    /// Tokens by symbol or name, by extension, authority, hook, delegate, fee, …
    Search(Search),
    /// Read token lists (JSON), Jupiter's CSV, or accounts as RPC nodes give them; .gz too
    Import(Import),
    /// Read mint accounts from a node by JSON-RPC
    Fetch(Fetch),
    /// What changed about a token since it is known
    Changes(Changes),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The mint's address
    #[arg(value_name = "MINT", value_parser = address)]
    mint: Address,
}

#[derive(Debug, Args)]
pub(crate) struct Assess {
    /// The mint's address
    #[arg(value_name = "MINT", value_parser = address)]
    mint: Address,
    /// The epoch whose transfer fee counts [default: mainnet's, estimated from the time]
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
    /// The time whose multiplier counts, RFC 3339 (2026-11-23T10:00:00Z) [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("question").required(true))]
pub(crate) struct Search {
    /// A symbol, or a part of a name of three letters or more
    #[arg(value_name = "TEXT", group = "question")]
    text: Option<String>,
    /// Those with this extension: its number, or its name (TransferHook)
    #[arg(long, value_name = "EXTENSION", group = "question", value_parser = extension)]
    extension: Option<u16>,
    /// Those that this address has some power over: it mints, freezes, closes, pauses, sets the fee, …
    #[arg(long, value_name = "KEY", group = "question", value_parser = key)]
    authority: Option<Address>,
    /// Those whose transfers call this program
    #[arg(long, value_name = "PROGRAM", group = "question", value_parser = key)]
    hook: Option<Address>,
    /// Those whose permanent delegate this address is
    #[arg(long, value_name = "KEY", group = "question", value_parser = key)]
    delegate: Option<Address>,
    /// Those whose transfers cost more than this, basis points
    #[arg(long, value_name = "BPS", group = "question", value_parser = clap::value_parser!(u16).range(..10_000))]
    fee_above: Option<u16>,
    /// The epoch whose transfer fee counts [default: mainnet's, estimated from the clock]
    #[arg(long, value_name = "N", requires = "fee_above")]
    epoch: Option<u64>,
    /// Those that are paused
    #[arg(long, group = "question")]
    paused: bool,
    /// The members of this mint's group
    #[arg(long, value_name = "MINT", group = "question", value_parser = key)]
    members_of: Option<Address>,
    /// Those with an extension that could not be read
    #[arg(long, group = "question")]
    unread: bool,
    /// Begin behind this mint: the last one of the answer before
    #[arg(long, value_name = "MINT", value_parser = key, conflicts_with = "text")]
    after: Option<Address>,
    /// Answers at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// What to read
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Slot of accounts that come without one; an older one never replaces a newer one
    #[arg(long, value_name = "N", default_value_t = 0)]
    slot: u64,
    /// Who says it, kept beside the tokens [default: list:FILE or file:FILE]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The list's number of the chain to take: 101 mainnet, 102 testnet, 103 devnet
    #[arg(long, value_name = "N", default_value_t = tripod::tokens::import::MAINNET)]
    chain: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// The node's address; one that holds a key belongs into the environment, where no process list shows it
    #[arg(long, value_name = "URL", env = "TRIPOD_RPC_URL", hide_env_values = true)]
    rpc: String,
    /// The mints' addresses
    #[arg(value_name = "MINT", required_unless_present = "from")]
    mints: Vec<String>,
    /// A file with an address on each line, - for stdin; # begins a comment
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Do not ask again for what the store has seen at this slot or later: goes on where a fetch was cut short
    #[arg(long, value_name = "SLOT")]
    since: Option<u64>,
    /// Accounts of one question
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=100))]
    batch: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// The mint's address
    #[arg(value_name = "MINT", value_parser = address)]
    mint: Address,
    /// Changes at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(super) async fn run(command: Tokens, global: &Global, output: Output) -> anyhow::Result<Exit> {
    match command {
        Tokens::Show(arguments) => show::run(&arguments, global, output).await,
        Tokens::Assess(arguments) => assess::run(&arguments, global, output).await,
        Tokens::Search(arguments) => search::run(&arguments, global, output).await,
        Tokens::Import(arguments) => import::run(&arguments, global, output).await,
        Tokens::Fetch(arguments) => fetch::run(arguments, global, output).await,
        Tokens::Changes(arguments) => search::changes(&arguments, global, output).await,
    }
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|_| "a mint is 32 bytes in base58; `tripod tokens search` finds it by its symbol".to_owned())
}

fn key(text: &str) -> Result<Address, String> {
    text.parse().map_err(|_| "an address is 32 bytes in base58".to_owned())
}

fn extension(text: &str) -> Result<u16, String> {
    let by_name = EXTENSION_NAMES.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = by_name.and_then(|number| u16::try_from(number).ok()).or_else(|| text.parse().ok());
    number.ok_or_else(|| format!("neither a number nor one of {}", EXTENSION_NAMES[1..].join(", ")))
}

fn postgres(global: &Global) -> tripod::Result<Postgres> {
    Postgres::open_as(&global.load()?.postgres, Login::Bot, DEADLINE)
}

/// The token, or the next step where there is none.
async fn known(store: &Store, mint: &Address) -> anyhow::Result<StoredToken> {
    store.get(mint).await?.ok_or_else(|| unknown(mint).into())
}

fn unknown(mint: &Address) -> Stop {
    Stop::untrue(
        format!("the store does not know the token {mint}"),
        "`tripod tokens fetch` reads its account from a node; `tripod tokens search` finds tokens by symbol",
    )
}

/// A text that somebody on a chain chose: nothing in it may move the terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
