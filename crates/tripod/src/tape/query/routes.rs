//! How often each route won.
//!
//! Constraints: counts, not shares, so that hours can be added up to days. The statement counts per status first: that
//! is a group by of integers, which takes half the time of a case per row; the sums over what is left cost nothing.

use super::select::Columns;
use crate::error::Result;
use crate::value::{Decimal, Timestamp};

/// The executions of one hour and route.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WinRate {
    /// The hour's begin.
    pub hour: Timestamp,
    /// All venues in order, as in `raydium>orca`; absent where the bot did not say.
    pub route: Option<String>,
    /// Executions of any status.
    pub executions: u64,
    /// In a block, and it did what it should.
    pub landed: u64,
    /// Only simulated, on purpose.
    pub simulated: u64,
    /// Profit after fees and tips, lamports; negative is a loss; absent where no execution has one.
    pub profit_lamports: Option<i64>,
}

impl WinRate {
    /// Landed of those that were sent for real; absent where none was.
    #[must_use]
    pub fn landed_share(&self) -> Option<Decimal> {
        let sent = self.executions.saturating_sub(self.simulated);
        Decimal::from(self.landed).checked_div(Decimal::from(sent))
    }

    pub(super) fn read(columns: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            hour: columns.next()?,
            route: columns.next()?,
            executions: columns.next()?,
            landed: columns.next()?,
            simulated: columns.next()?,
            profit_lamports: columns.next()?,
        })
    }
}

/// The statement; its parameters are the span's begin and end, and the row limit.
pub(super) fn sql(table: &str) -> String {
    format!(
        "SELECT hour, route, sum(n) executions, sum(CASE WHEN status = 'landed' THEN n ELSE 0 END) landed, \
         sum(CASE WHEN status = 'simulated' THEN n ELSE 0 END) simulated, sum(profit) profit \
         FROM (SELECT timestamp_floor('h', at)::long hour, route, status, count() n, sum(profit_lamports) profit \
         FROM {table} WHERE at >= $1 AND at < $2 GROUP BY hour, route, status) \
         GROUP BY hour, route ORDER BY hour, route LIMIT $3"
    )
}
