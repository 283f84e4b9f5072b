//! The rows of the bench: an execution with most of its columns set, and a trade of the market.

use std::fmt::Write as _;
use std::time::Duration;

use tripod::tape::tables::{Attempt, Execution, ExecutionStatus, MarketTrade, Side};
use tripod::{Decimal, Timestamp, Token, Uuid};

/// What every row has in common, made once.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Stock {
    base: Timestamp,
    mint: Token,
    markets: [Token; 4],
}

/// Between two trades, in their own time.
const TRADE_STEP: Duration = Duration::from_micros(1);

impl Stock {
    pub(in crate::bench) fn new() -> tripod::Result<Self> {
        let token = Token::new;
        Ok(Self {
            base: Timestamp::now(),
            mint: token("So11111111111111111111111111111111111111112")?,
            markets: [token("SOLUSDT")?, token("BONKUSDT")?, token("JUPUSDT")?, token("WIFUSDT")?],
        })
    }

    /// The execution number `number`: 29 of 31 columns are set.
    pub(super) fn execution(&self, number: u64) -> Execution<'static> {
        let attempt = Attempt {
            route: Some("raydium>orca"),
            signature: Some("5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW"),
            amount_in: 1_000_000_000 + number,
            expected_amount_out: Some(1_000_050_000 + number),
            expected_price: Some(Decimal::new(1_000_050, 6)),
            slot_seen: Some(348_219_411),
            slot_sent: Some(348_219_412),
            decide_ns: Some(81_000),
            build_ns: Some(120_000),
            ..Attempt::new(Uuid::from_u128(u128::from(number)), self.at(number), "triangle", "raydium", self.mint)
        };
        Execution {
            amount_out: Some(1_000_048_000 + number),
            realised_price: Some(Decimal::new(1_000_048, 6)),
            slippage_bps: Some(Decimal::new(2, 2)),
            profit_lamports: Some(43_000),
            fee_lamports: Some(7_000),
            priority_fee_lamports: Some(2_000),
            tip_lamports: Some(3_000),
            compute_units: Some(231_402),
            slot_landed: Some(348_219_413),
            send_ns: Some(310_000),
            land_ns: Some(402_000_000),
            ..Execution::of(&attempt, self.at(number), ExecutionStatus::Landed)
        }
    }

    /// The trade number `number`; `id` is room for its text.
    pub(in crate::bench) fn trade<'a>(&self, number: u64, id: &'a mut String) -> MarketTrade<'a> {
        id.clear();
        // Into a String it cannot fail.
        let _ = write!(id, "{number}");
        let cents = i64::try_from(number % 100_000).unwrap_or(0);
        let market = usize::try_from(number).unwrap_or(0) % self.markets.len();
        MarketTrade {
            at: self.at(number),
            venue: if number.is_multiple_of(2) { "raydium" } else { "binance" },
            token: self.markets.get(market).copied().unwrap_or(self.mint),
            trade_id: id,
            side: Some(if number.is_multiple_of(3) { Side::Buy } else { Side::Sell }),
            price: Decimal::new(14_000_000 + cents, 5),
            size: Decimal::new(1_234_567 + cents, 6),
            slot: Some(348_219_411 + number / 1000),
            received_at: None,
        }
    }

    fn at(&self, number: u64) -> Timestamp {
        let later = TRADE_STEP.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
        self.base.checked_add(later).unwrap_or(self.base)
    }
}
