//! Rows as they stand on the server.
//!
//! Constraints: every column of the table is there, by the same name and of the same type as in the row that was
//! recorded, only that text is owned. [`StoredExecution::as_row`] gives the recorded form back, so a round trip can be
//! compared whole. A column that is added to the row is a compile error here until it is read.

use super::select::Columns;
use crate::error::Result;
use crate::tape::tables::{Attempt, Execution, ExecutionStatus};
use crate::value::{Decimal, Timestamp, Token, Uuid};

/// From the owned form of a value to the one that a row borrows.
trait Lend<'a> {
    type Lent;
    fn lend(&'a self) -> Self::Lent;
}

impl<'a> Lend<'a> for String {
    type Lent = &'a str;
    fn lend(&'a self) -> &'a str {
        self
    }
}

impl<'a, T: Lend<'a>> Lend<'a> for Option<T> {
    type Lent = Option<T::Lent>;
    fn lend(&'a self) -> Self::Lent {
        self.as_ref().map(Lend::lend)
    }
}

macro_rules! lend_copies {
    ($($type:ty),*) => {
        $(impl Lend<'_> for $type {
            type Lent = Self;
            fn lend(&self) -> Self {
                *self
            }
        })*
    };
}
lend_copies!(Timestamp, Uuid, Token, ExecutionStatus, Decimal, u64, i64);

/// A row's owned form: its fields in the order of the table's columns.
macro_rules! stored {
    ($(#[$doc:meta])* $name:ident as $row:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $(#[doc = concat!("See [`", stringify!($row), "::", stringify!($field), "`].")] pub $field: $type,)*
        }

        impl $name {
            /// The row as it was recorded.
            #[must_use]
            pub fn as_row(&self) -> $row<'_> {
                $row { $($field: self.$field.lend(),)* }
            }

            pub(super) fn read(columns: &mut Columns<'_>) -> Result<Self> {
                Ok(Self { $($field: columns.named(stringify!($field))?,)* })
            }
        }
    };
}

stored! {
    /// An [`Execution`] as the server has it.
    StoredExecution as Execution {
        at: Timestamp,
        id: Uuid,
        strategy: String,
        venue: String,
        token: Token,
        status: ExecutionStatus,
        attempted_at: Option<Timestamp>,
        route: Option<String>,
        signature: Option<String>,
        token_in: Token,
        token_out: Token,
        amount_in: u64,
        amount_out: Option<u64>,
        expected_amount_out: Option<u64>,
        expected_price: Option<Decimal>,
        realised_price: Option<Decimal>,
        slippage_bps: Option<Decimal>,
        profit_lamports: Option<i64>,
        fee_lamports: Option<u64>,
        priority_fee_lamports: Option<u64>,
        tip_lamports: Option<u64>,
        compute_units: Option<u64>,
        slot_seen: Option<u64>,
        slot_sent: Option<u64>,
        slot_landed: Option<u64>,
        error_code: Option<i64>,
        error: Option<String>,
        decide_ns: Option<u64>,
        build_ns: Option<u64>,
        send_ns: Option<u64>,
        land_ns: Option<u64>,
    }
}

stored! {
    /// An [`Attempt`] as the server has it.
    StoredAttempt as Attempt {
        at: Timestamp,
        id: Uuid,
        strategy: String,
        venue: String,
        token: Token,
        route: Option<String>,
        signature: Option<String>,
        token_in: Token,
        token_out: Token,
        amount_in: u64,
        expected_amount_out: Option<u64>,
        minimum_amount_out: Option<u64>,
        expected_price: Option<Decimal>,
        expected_profit_lamports: Option<i64>,
        slippage_limit_bps: Option<Decimal>,
        compute_unit_limit: Option<u64>,
        priority_fee_lamports: Option<u64>,
        tip_lamports: Option<u64>,
        slot_seen: Option<u64>,
        slot_sent: Option<u64>,
        last_valid_block_height: Option<u64>,
        decide_ns: Option<u64>,
        build_ns: Option<u64>,
    }
}

/// What the market trades of one stretch of time come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candle {
    /// The stretch's begin.
    pub at: Timestamp,
    /// Price of the first trade.
    pub open: Decimal,
    /// Highest price.
    pub high: Decimal,
    /// Lowest price.
    pub low: Decimal,
    /// Price of the last trade.
    pub close: Decimal,
    /// Whole tokens traded.
    pub volume: Decimal,
    /// Trades.
    pub trades: u64,
}

impl Candle {
    pub(super) fn read(columns: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            at: columns.next()?,
            open: columns.next()?,
            high: columns.next()?,
            low: columns.next()?,
            close: columns.next()?,
            volume: columns.next()?,
            trades: columns.next()?,
        })
    }
}
