//! A step as the bot's work: a row for the tape, a price for Redis, an event for the stream.
//!
//! Constraints: trades are keyed by venue, token and trade id, quotes by file name and line number, so that the same
//! script leaves the same rows however often it runs. The slot of an event is its millisecond.

use tripod::tape::encode;
use tripod::tape::tables::{MarketTrade, Quote, Side};
use tripod::{Decimal, Token};

use super::script::Step;
use super::source::{self, Event, Taker};

/// A row for the tape.
#[derive(Debug)]
pub(crate) enum TapeRow<'a> {
    Trade(MarketTrade<'a>),
    Quote(Quote<'a>),
}

/// A price for Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PricePoint {
    pub(crate) token: Token,
    pub(crate) value: Decimal,
    pub(crate) slot: u64,
}

impl Step {
    /// The slot that stands for the event's time.
    pub(crate) fn slot(&self) -> u64 {
        // A timestamp is never before 1970.
        u64::try_from(self.at.as_millis()).unwrap_or(0)
    }

    /// What goes on the tape; none for a price alone.
    pub(crate) fn tape_row(&self) -> Option<TapeRow<'_>> {
        match &self.event {
            Event::Trade(trade) => Some(TapeRow::Trade(self.market_trade(trade))),
            Event::Quote(quote) => Some(TapeRow::Quote(Quote {
                at: self.at,
                source: self.source.as_str(),
                seq: self.line,
                venue: quote.venue.as_str(),
                token: quote.token,
                bid: Some(quote.bid_price),
                bid_size: quote.bid_size,
                ask: Some(quote.ask_price),
                ask_size: quote.ask_size,
                slot: Some(self.slot()),
                received_at: None,
            })),
            Event::Price(_) => None,
        }
    }

    fn market_trade<'a>(&self, trade: &'a source::Trade) -> MarketTrade<'a> {
        MarketTrade {
            at: self.at,
            venue: trade.venue.as_str(),
            token: trade.token,
            trade_id: trade.id.as_str(),
            side: Some(match trade.taker {
                Taker::Buy => Side::Buy,
                Taker::Sell => Side::Sell,
            }),
            price: trade.price,
            size: trade.size,
            slot: Some(self.slot()),
            received_at: None,
        }
    }

    /// The price that the step means for its token: a trade's own, a quote's middle, a pool's.
    pub(crate) fn price(&self) -> Option<PricePoint> {
        let (token, value) = match &self.event {
            Event::Trade(trade) => (trade.token, trade.price),
            Event::Quote(quote) => (quote.token, middle(quote.bid_price, quote.ask_price)?),
            Event::Price(price) => (price.token, price.price),
        };
        Some(PricePoint { token, value, slot: self.slot() })
    }

    /// What the tape would refuse, before anything is recorded.
    pub(crate) fn check(&self) -> Result<(), String> {
        let measured = match self.tape_row() {
            Some(TapeRow::Trade(row)) => encode::measure(&row),
            Some(TapeRow::Quote(row)) => encode::measure(&row),
            None => return Ok(()),
        };
        measured.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Half of the sum, exact; none where it has more digits than a decimal.
fn middle(bid: Decimal, ask: Decimal) -> Option<Decimal> {
    Some((bid.checked_add(ask)? * Decimal::new(5, 1)).normalize())
}
