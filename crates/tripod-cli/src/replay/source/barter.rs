//! One JSON event a line, as the crate `barter` records its market streams.

use serde::Deserialize;
use serde_json::value::RawValue;
use tripod::{Timestamp, Token};

use super::columns::{not_negative, positive, taker, time, token};
use super::{Event, Quote, Trade};

/// What the recording calls its instruments by number.
const INSTRUMENTS: [&str; 3] = ["BTCUSDT", "ETHUSDT", "SOLUSDT"];

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "Item", borrow)]
    item: Item<'a>,
}

#[derive(Deserialize)]
struct Item<'a> {
    time_exchange: &'a str,
    exchange: &'a str,
    instrument: usize,
    #[serde(borrow)]
    kind: Kind<'a>,
}

#[derive(Deserialize)]
enum Kind<'a> {
    Trade(#[serde(borrow)] Fill<'a>),
    OrderBookL1(#[serde(borrow)] Book<'a>),
}

// Numbers stay text: a float would change them.
#[derive(Deserialize)]
struct Fill<'a> {
    id: &'a str,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    amount: &'a RawValue,
    side: &'a str,
}

#[derive(Deserialize)]
struct Book<'a> {
    #[serde(borrow)]
    best_bid: Level<'a>,
    #[serde(borrow)]
    best_ask: Level<'a>,
}

#[derive(Deserialize)]
struct Level<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    amount: &'a RawValue,
}

pub(super) fn read(line: &str) -> Result<(Timestamp, Event), String> {
    let Line { item } =
        serde_json::from_str(line).map_err(|error| format!("is not an event of this format: {error}"))?;
    let at = time("time_exchange", item.time_exchange)?;
    let venue = token("exchange", item.exchange)?;
    let symbol: Token = match INSTRUMENTS.get(item.instrument) {
        Some(symbol) => token("instrument", symbol)?,
        None => return Err(format!("instrument {} is unknown (0 to {})", item.instrument, INSTRUMENTS.len() - 1)),
    };
    let event = match item.kind {
        Kind::Trade(fill) => Event::Trade(Trade {
            venue,
            token: symbol,
            id: token("id", fill.id)?,
            price: positive("price", number(fill.price))?,
            size: positive("amount", number(fill.amount))?,
            taker: taker("side", fill.side)?,
        }),
        Kind::OrderBookL1(book) => Event::Quote(Quote {
            venue,
            token: symbol,
            bid_price: positive("best_bid.price", number(book.best_bid.price))?,
            bid_size: Some(not_negative("best_bid.amount", number(book.best_bid.amount))?),
            ask_price: positive("best_ask.price", number(book.best_ask.price))?,
            ask_size: Some(not_negative("best_ask.amount", number(book.best_ask.amount))?),
        }),
    };
    Ok((at, event))
}

/// The digits of a JSON number, or of a JSON string that holds one.
fn number(raw: &RawValue) -> &str {
    raw.get().trim_matches('"')
}
