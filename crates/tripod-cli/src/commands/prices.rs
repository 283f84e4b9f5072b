//! `tripod prices get / watch`: the latest prices as a bot sees them.
//!
//! Constraints: reads only. A price that is not there is "checked and false" (exit 1). `watch --json` writes one document
//! a line, as they come.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use tripod::prices::{Price, Prices as Store};
use tripod::redis::Label;
use tripod::{Decimal, Token};

use super::live::{Until, ended};
use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// Tokens whose change waits for the terminal.
const WAITING_MAX: usize = 10_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Prices {
    /// The latest price of a token: value, slot, age, who wrote it; exit 1 where there is none
    Get(Get),
    /// Every change of some tokens' prices, or of all, as they come; a slow terminal skips to the newest
    Watch(Watch),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The token: a mint's address, or a market's symbol
    #[arg(value_name = "TOKEN", value_parser = token)]
    token: Token,
    /// Its price at one venue
    #[arg(long, value_name = "NAME", value_parser = venue)]
    venue: Option<Label>,
    /// Exit 1 where the price is older, or of unknown age
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    fresh_ms: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Tokens; none for all
    #[arg(value_name = "TOKEN", value_parser = token)]
    tokens: Vec<Token>,
    /// Their prices at one venue
    #[arg(long, value_name = "NAME", value_parser = venue, requires = "tokens")]
    venue: Option<Label>,
    #[command(flatten)]
    until: Until,
}

fn token(text: &str) -> Result<Token, String> {
    Token::new(text).map_err(|error| error.to_string())
}

fn venue(text: &str) -> Result<Label, String> {
    Label::new("venue", text).map_err(|error| error.to_string())
}

/// The contract `prices get`.
#[derive(Debug, Serialize)]
struct Shown {
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    venue: Option<String>,
    value: Decimal,
    slot: Option<u64>,
    age_ms: Option<u64>,
    source: Option<String>,
}

impl Shown {
    fn new(token: &Token, venue: Option<&Label>, price: &Price) -> Self {
        Self {
            token: token.to_string(),
            venue: venue.map(Label::to_string),
            value: price.value,
            slot: price.slot,
            age_ms: price.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            source: price.source.map(|source| source.to_string()),
        }
    }

    fn words(&self) -> String {
        let known = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
        let Self { token, venue, value, slot, age_ms, source } = self;
        let at = venue.as_ref().map(|venue| format!(" at {venue}")).unwrap_or_default();
        let by = source.as_deref().unwrap_or("unknown");
        format!("{token}{at} {value}  slot {}, age {} ms, by {by}", known(*slot), known(*age_ms))
    }
}

pub(super) async fn run(command: Prices, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let prices = Store::connect(&global.load()?).await?;
    match command {
        Prices::Get(arguments) => get(&prices, &arguments, output).await,
        Prices::Watch(arguments) => watch(&prices, &arguments, output).await,
    }
}

async fn get(prices: &Store, arguments: &Get, output: Output) -> anyhow::Result<Exit> {
    let Get { token, venue, fresh_ms } = arguments;
    let price = match venue {
        Some(venue) => prices.read_at(token, *venue).await?,
        None => prices.read(token).await?,
    };
    let price = price.ok_or_else(|| {
        let what = format!("there is no price of {token}: nobody has written one within its life");
        Stop::untrue(what, "`tripod prices watch` shows what is written; prices live for prices.ttl_ms")
    })?;
    let shown = Shown::new(token, venue.as_ref(), &price);
    output.result(&shown, || shown.words())?;
    let is_fresh = fresh_ms.is_none_or(|limit| price.age.is_some_and(|age| age <= Duration::from_millis(limit)));
    Ok(if is_fresh { Exit::Done } else { Exit::False })
}

async fn watch(prices: &Store, arguments: &Watch, output: Output) -> anyhow::Result<Exit> {
    let wanted: Vec<_> = arguments.tokens.iter().map(|token| (*token, arguments.venue)).collect();
    let mut watch =
        if wanted.is_empty() { prices.watch_all(WAITING_MAX).await? } else { prices.watch(&wanted).await? };
    output.say("watching; ^C ends it");
    let mut end = std::pin::pin!(ended(&arguments.until));
    let mut left = arguments.until.count;
    while left != Some(0) {
        let change = tokio::select! {
            change = watch.next() => change,
            () = &mut end => break,
        };
        let shown = Shown::new(&change.token, change.venue.as_ref(), &change.price);
        output.line(&shown, || shown.words())?;
        left = left.map(|left| left - 1);
    }
    if watch.skipped() > 0 {
        output.say(format!("{} left out: newer ones had come", output::counted(watch.skipped(), "change")));
    }
    Ok(Exit::Done)
}
