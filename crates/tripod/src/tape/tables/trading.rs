//! What the bot itself did: [`Attempt`] before it sends, [`Execution`] when the end is known.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::tape::Row;
use crate::tape::row::AsText;
use crate::value::{Decimal, Timestamp, Token, Uuid};

/// A decision to trade, recorded before anything is sent: an attempt whose bot died is still known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Row)]
#[row(table = "attempts", importance = "critical", retain_days = 30)]
pub struct Attempt<'a> {
    /// When the bot decided.
    #[row(timestamp)]
    pub at: Timestamp,
    /// The attempt's id, new for each; its execution has the same.
    #[row(key)]
    pub id: Uuid,
    /// Which strategy decided.
    #[row(key, symbol)]
    pub strategy: &'a str,
    /// Where the first leg trades, or the aggregator that routes.
    #[row(key, symbol)]
    pub venue: &'a str,
    /// What is traded: the mint or market that the price is of.
    #[row(key)]
    pub token: Token,
    /// All venues in order, as in `raydium>orca`.
    #[row(symbol)]
    pub route: Option<&'a str>,
    /// The transaction's first signature in base58; known once it is signed.
    #[row(text = 88)]
    pub signature: Option<&'a str>,
    /// What is paid with. The same as `token_out` in a round trip.
    pub token_in: Token,
    /// What is received.
    pub token_out: Token,
    /// Paid, raw units of `token_in`.
    pub amount_in: u64,
    /// Expected, raw units of `token_out`.
    pub expected_amount_out: Option<u64>,
    /// The transaction fails below this, raw units of `token_out`.
    pub minimum_amount_out: Option<u64>,
    /// Expected price of one whole `token`.
    #[row(decimal = "38,18")]
    pub expected_price: Option<Decimal>,
    /// Expected profit after fees and tips, lamports; negative is a loss.
    pub expected_profit_lamports: Option<i64>,
    /// Slippage allowed, basis points of the expected price.
    #[row(decimal = "18,4")]
    pub slippage_limit_bps: Option<Decimal>,
    /// Compute units asked for.
    pub compute_unit_limit: Option<u64>,
    /// Priority fee offered, lamports in all.
    pub priority_fee_lamports: Option<u64>,
    /// Tip offered to the block builder, lamports.
    pub tip_lamports: Option<u64>,
    /// Slot of the state that the decision was made on.
    pub slot_seen: Option<u64>,
    /// Slot of the bot's clock when it was about to send.
    pub slot_sent: Option<u64>,
    /// Block height after which the transaction can no longer land.
    pub last_valid_block_height: Option<u64>,
    /// From seeing the state to the decision, nanoseconds.
    pub decide_ns: Option<u64>,
    /// From the decision to the signed transaction, nanoseconds.
    pub build_ns: Option<u64>,
}

/// How an attempt ended, one row per attempt, recorded when that is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Row)]
#[row(table = "executions", importance = "critical", retain_days = 30)]
pub struct Execution<'a> {
    /// When the end was known.
    #[row(timestamp)]
    pub at: Timestamp,
    /// The attempt's id.
    #[row(key)]
    pub id: Uuid,
    /// Which strategy decided.
    #[row(key, symbol)]
    pub strategy: &'a str,
    /// Where the first leg trades, or the aggregator that routes.
    #[row(key, symbol)]
    pub venue: &'a str,
    /// What is traded: the mint or market that the price is of.
    #[row(key)]
    pub token: Token,
    /// How it ended.
    #[row(key, symbol)]
    pub status: ExecutionStatus,
    /// When the bot decided: the attempt's `at`.
    pub attempted_at: Option<Timestamp>,
    /// All venues in order, as in `raydium>orca`.
    #[row(symbol)]
    pub route: Option<&'a str>,
    /// The transaction's first signature in base58.
    #[row(text = 88)]
    pub signature: Option<&'a str>,
    /// What is paid with. The same as `token_out` in a round trip.
    pub token_in: Token,
    /// What is received.
    pub token_out: Token,
    /// Paid, raw units of `token_in`.
    pub amount_in: u64,
    /// Received, raw units of `token_out`; absent unless landed or simulated.
    pub amount_out: Option<u64>,
    /// Expected, raw units of `token_out`.
    pub expected_amount_out: Option<u64>,
    /// Expected price of one whole `token`.
    #[row(decimal = "38,18")]
    pub expected_price: Option<Decimal>,
    /// Price that was had.
    #[row(decimal = "38,18")]
    pub realised_price: Option<Decimal>,
    /// Realised against expected, basis points; positive is worse than expected.
    #[row(decimal = "18,4")]
    pub slippage_bps: Option<Decimal>,
    /// Profit after fees and tips, lamports; negative is a loss.
    pub profit_lamports: Option<i64>,
    /// Transaction fee with the priority fee in it, lamports. A failed transaction that landed pays it too.
    pub fee_lamports: Option<u64>,
    /// The part of the fee that bought priority, lamports.
    pub priority_fee_lamports: Option<u64>,
    /// Tip paid to the block builder, lamports.
    pub tip_lamports: Option<u64>,
    /// Compute units used.
    pub compute_units: Option<u64>,
    /// Slot of the state that the decision was made on.
    pub slot_seen: Option<u64>,
    /// Slot of the bot's clock when it sent.
    pub slot_sent: Option<u64>,
    /// Slot that the transaction is in.
    pub slot_landed: Option<u64>,
    /// The program's or the node's error code.
    pub error_code: Option<i64>,
    /// The error in words, or the name of the failed instruction.
    #[row(text = 256)]
    pub error: Option<&'a str>,
    /// From seeing the state to the decision, nanoseconds.
    pub decide_ns: Option<u64>,
    /// From the decision to the signed transaction, nanoseconds.
    pub build_ns: Option<u64>,
    /// From signed to handed to the network, nanoseconds.
    pub send_ns: Option<u64>,
    /// From handed to the network to the end known, nanoseconds.
    pub land_ns: Option<u64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecutionStatus {
    /// In a block, and it did what it should.
    Landed,
    /// In a block, and a program refused it; the fee is gone.
    Failed,
    /// Its blockhash ran out before it was in a block.
    Expired,
    /// Never sent, or thrown away on the way: a full queue, a leader that did not take it.
    Dropped,
    /// Only simulated, on purpose.
    Simulated,
}

impl AsText for ExecutionStatus {
    #[inline]
    fn as_text(&self) -> &str {
        match self {
            Self::Landed => "landed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Simulated => "simulated",
        }
    }
}

impl FromStr for ExecutionStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Landed, Self::Failed, Self::Expired, Self::Dropped, Self::Simulated]
            .into_iter()
            .find(|status| status.as_text() == text)
            .ok_or_else(|| Error::invalid("execution status", format!("`{text}` is none that this version knows")))
    }
}

impl<'a> Attempt<'a> {
    /// An attempt to trade `token` for itself (a round trip), with nothing else known yet; set what is.
    #[must_use]
    pub fn new(id: Uuid, at: Timestamp, strategy: &'a str, venue: &'a str, token: Token) -> Self {
        Self {
            at,
            id,
            strategy,
            venue,
            token,
            route: None,
            signature: None,
            token_in: token,
            token_out: token,
            amount_in: 0,
            expected_amount_out: None,
            minimum_amount_out: None,
            expected_price: None,
            expected_profit_lamports: None,
            slippage_limit_bps: None,
            compute_unit_limit: None,
            priority_fee_lamports: None,
            tip_lamports: None,
            slot_seen: None,
            slot_sent: None,
            last_valid_block_height: None,
            decide_ns: None,
            build_ns: None,
        }
    }
}

impl<'a> Execution<'a> {
    /// The end of `attempt`, with what the attempt said carried over and the rest absent, to be filled in.
    #[must_use]
    pub fn of(attempt: &Attempt<'a>, at: Timestamp, status: ExecutionStatus) -> Self {
        Self {
            at,
            id: attempt.id,
            strategy: attempt.strategy,
            venue: attempt.venue,
            token: attempt.token,
            status,
            attempted_at: Some(attempt.at),
            route: attempt.route,
            signature: attempt.signature,
            token_in: attempt.token_in,
            token_out: attempt.token_out,
            amount_in: attempt.amount_in,
            amount_out: None,
            expected_amount_out: attempt.expected_amount_out,
            expected_price: attempt.expected_price,
            realised_price: None,
            slippage_bps: None,
            profit_lamports: None,
            fee_lamports: None,
            priority_fee_lamports: None,
            tip_lamports: None,
            compute_units: None,
            slot_seen: attempt.slot_seen,
            slot_sent: attempt.slot_sent,
            slot_landed: None,
            error_code: None,
            error: None,
            decide_ns: attempt.decide_ns,
            build_ns: attempt.build_ns,
            send_ns: None,
            land_ns: None,
        }
    }
}
