//! How it goes: [`Performance`] of a strategy, and any named [`Sample`].

use crate::tape::Row;
use crate::value::{Decimal, Timestamp, Token};

/// A strategy's books at an instant, per token it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Row)]
#[row(table = "performance", importance = "standard", retain_days = 30)]
pub struct Performance<'a> {
    /// When the books were read.
    #[row(timestamp)]
    pub at: Timestamp,
    /// Who recorded it: a process, by name.
    #[row(key, symbol)]
    pub source: &'a str,
    /// Counts up per source, never used twice.
    #[row(key)]
    pub seq: u64,
    /// Whose books.
    #[row(key, symbol)]
    pub strategy: &'a str,
    /// What is held.
    #[row(key)]
    pub token: Token,
    /// What the money columns are in.
    pub quote_token: Token,
    /// How many whole `token` are held; negative is owed.
    #[row(decimal = "38,18")]
    pub inventory: Decimal,
    /// What a price move is felt on, in `quote_token`; negative is short.
    #[row(decimal = "38,18")]
    pub exposure: Option<Decimal>,
    /// Profit of closed positions since the strategy's start, in `quote_token`.
    #[row(decimal = "38,18")]
    pub realised_pnl: Option<Decimal>,
    /// Profit of open positions at the current price, in `quote_token`.
    #[row(decimal = "38,18")]
    pub unrealised_pnl: Option<Decimal>,
    /// Fees and tips since the strategy's start, lamports.
    pub fees_lamports: Option<u64>,
    /// Attempts since the strategy's start.
    pub attempts: Option<u64>,
    /// Attempts that landed since the strategy's start.
    pub landed: Option<u64>,
}

/// Any named measurement. A float: for latencies, ratios, queue lengths, never for money.
#[derive(Debug, Clone, Copy, PartialEq, Row)]
#[row(table = "samples", importance = "debug", retain_days = 30)]
pub struct Sample<'a> {
    /// When it was measured.
    #[row(timestamp)]
    pub at: Timestamp,
    /// Who measured: a process, by name.
    #[row(key, symbol)]
    pub source: &'a str,
    /// Counts up per source, never used twice.
    #[row(key)]
    pub seq: u64,
    /// What was measured, unit last, as in `send_queue_length` or `quote_age_ms`.
    #[row(key, symbol)]
    pub name: &'a str,
    /// The measurement.
    pub value: f64,
    /// Anything else worth keeping.
    #[row(text = 256)]
    pub note: Option<&'a str>,
}
