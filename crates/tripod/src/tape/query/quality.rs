//! How well executions went.
//!
//! Constraints: sums, not averages, so that hours can be added up to days without an error; exact to the last digit.

use super::select::Columns;
use crate::error::Result;
use crate::value::{Decimal, Timestamp};

/// The executions of one hour, strategy and venue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quality {
    /// The hour's begin.
    pub hour: Timestamp,
    /// Which strategy decided.
    pub strategy: String,
    /// Where the first leg traded.
    pub venue: String,
    /// Executions of any status.
    pub executions: u64,
    /// In a block, and it did what it should.
    pub landed: u64,
    /// In a block, and a program refused it.
    pub failed: u64,
    /// Its blockhash ran out.
    pub expired: u64,
    /// Never sent, or thrown away on the way.
    pub dropped: u64,
    /// Only simulated, on purpose.
    pub simulated: u64,
    /// Transaction fees with the priority fee in them, lamports; absent where no execution has one.
    pub fee_lamports: Option<u64>,
    /// Tips, lamports.
    pub tip_lamports: Option<u64>,
    /// Profit after fees and tips, lamports; negative is a loss.
    pub profit_lamports: Option<i64>,
    /// Slippage of those that have one; absent where none has.
    pub slippage: Option<Slippage>,
}

/// Slippage in basis points; positive is worse than expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slippage {
    /// Executions that have one.
    pub executions: u64,
    /// Their sum.
    pub sum_bps: Decimal,
    /// The best.
    pub min_bps: Decimal,
    /// The worst.
    pub max_bps: Decimal,
}

impl Slippage {
    /// The mean, rounded to what a [`Decimal`] holds.
    #[must_use]
    pub fn mean_bps(&self) -> Decimal {
        self.sum_bps.checked_div(Decimal::from(self.executions)).unwrap_or_default()
    }
}

impl Quality {
    /// Landed of those that were sent for real; absent where none was.
    #[must_use]
    pub fn landed_share(&self) -> Option<Decimal> {
        let sent = self.executions.saturating_sub(self.simulated);
        Decimal::from(self.landed).checked_div(Decimal::from(sent))
    }

    pub(super) fn read(columns: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            hour: columns.next()?,
            strategy: columns.next()?,
            venue: columns.next()?,
            executions: columns.next()?,
            landed: columns.next()?,
            failed: columns.next()?,
            expired: columns.next()?,
            dropped: columns.next()?,
            simulated: columns.next()?,
            fee_lamports: columns.next()?,
            tip_lamports: columns.next()?,
            profit_lamports: columns.next()?,
            slippage: slippage(columns.next()?, columns.next()?, columns.next()?, columns.next()?),
        })
    }
}

fn slippage(executions: u64, sum: Option<Decimal>, min: Option<Decimal>, max: Option<Decimal>) -> Option<Slippage> {
    Some(Slippage { executions, sum_bps: sum?, min_bps: min?, max_bps: max? })
}

/// The statement; its parameters are the span's begin and end, and the row limit.
pub(super) fn sql(table: &str) -> String {
    let counts: Vec<_> = ["landed", "failed", "expired", "dropped", "simulated"]
        .iter()
        .map(|status| format!("sum(CASE WHEN status = '{status}' THEN 1 ELSE 0 END) {status}"))
        .collect();
    format!(
        "SELECT timestamp_floor('h', at)::long hour, strategy, venue, count() executions, {}, sum(fee_lamports) fees, \
         sum(tip_lamports) tips, sum(profit_lamports) profit, count(slippage_bps) slippages, \
         sum(slippage_bps) slippage_sum, min(slippage_bps) slippage_min, max(slippage_bps) slippage_max \
         FROM {table} WHERE at >= $1 AND at < $2 \
         GROUP BY hour, strategy, venue ORDER BY hour, strategy, venue LIMIT $3",
        counts.join(", ")
    )
}
