//! The formats, each known by the first line of its files.

use tripod::Timestamp;

use super::columns::{self, Fields};
use super::{Event, barter};

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    SpotTrades,
    UsdmTrades,
    SpotQuotes,
    UsdmQuotes,
    CryptofeedQuotes,
    PoolPrices,
    Barter,
}

type Header = &'static [&'static str];

/// Every format with a header line, and that line's columns.
const HEADERS: [(Format, Header); 6] = [
    (
        Format::SpotTrades,
        &["time_exchange", "time_received", "exchange", "symbol", "trade_id", "price", "amount", "side"],
    ),
    (
        Format::UsdmTrades,
        &[
            "local_ns",
            "event_ms",
            "trade_ms",
            "market",
            "symbol",
            "trade_id",
            "price",
            "qty",
            "taker_side",
            "order_type",
        ],
    ),
    (
        Format::SpotQuotes,
        &["time_exchange", "time_received", "exchange", "symbol", "bid_px", "bid_sz", "ask_px", "ask_sz"],
    ),
    (
        Format::UsdmQuotes,
        &["local_ns", "event_ms", "txn_ms", "market", "symbol", "bid_px", "bid_sz", "ask_px", "ask_sz"],
    ),
    (Format::CryptofeedQuotes, &["recv_ts_s", "exchange", "symbol", "bid_px", "bid_sz", "ask_px", "ask_sz", "last_px"]),
    (Format::PoolPrices, &["ts", "pool", "price"]),
];

impl Format {
    /// By a file's first line.
    pub(super) fn recognise(first: &str) -> Result<Self, String> {
        if first.starts_with('{') {
            return Ok(Self::Barter);
        }
        let columns: Vec<&str> = columns::split(first).collect();
        if let Some((format, _)) = HEADERS.iter().find(|(_, header)| *header == columns.as_slice()) {
            return Ok(*format);
        }
        Err(unknown(&columns))
    }

    /// Whether the first line names the columns.
    pub(super) fn has_header(self) -> bool {
        self != Self::Barter
    }

    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SpotTrades => "spot trades",
            Self::UsdmTrades => "futures trades",
            Self::SpotQuotes => "spot quotes",
            Self::UsdmQuotes => "futures quotes",
            Self::CryptofeedQuotes => "quotes of several exchanges",
            Self::PoolPrices => "pool prices",
            Self::Barter => "trades and quotes (JSON lines)",
        }
    }

    /// One line.
    pub(super) fn read(self, line: &str) -> Result<(Timestamp, Event), String> {
        let Some((_, header)) = HEADERS.iter().find(|(format, _)| *format == self) else {
            return barter::read(line);
        };
        let fields = Fields::of(line, header)?;
        match self {
            Self::SpotTrades => columns::spot_trade(&fields),
            Self::UsdmTrades => columns::usdm_trade(&fields),
            Self::SpotQuotes => columns::spot_quote(&fields),
            Self::UsdmQuotes => columns::usdm_quote(&fields),
            Self::CryptofeedQuotes => columns::cryptofeed_quote(&fields),
            Self::PoolPrices => columns::pool_price(&fields),
            Self::Barter => barter::read(line),
        }
    }
}

/// Says what the first line is and which known one it comes closest to.
fn unknown(columns: &[&str]) -> String {
    let closest = HEADERS
        .iter()
        .map(|(format, header)| (header.iter().filter(|name| columns.contains(name)).count(), format, header))
        .max_by_key(|(shared, ..)| *shared)
        .filter(|(shared, ..)| *shared >= 2);
    match closest {
        Some((_, format, header)) => {
            let missing: Vec<&str> = header.iter().filter(|name| !columns.contains(name)).copied().collect();
            let extra: Vec<&str> = columns.iter().filter(|name| !header.contains(name)).copied().collect();
            let difference = match (missing.is_empty(), extra.is_empty()) {
                (true, true) => "their order differs".to_owned(),
                (false, true) => format!("it lacks {}", missing.join(", ")),
                (true, false) => format!("it also has {}", extra.join(", ")),
                (false, false) => format!("it lacks {} and has {} instead", missing.join(", "), extra.join(", ")),
            };
            format!("its columns are those of {} but {difference} (expected: {})", format.name(), header.join(","))
        }
        None => {
            let shown: String = columns.join(",").chars().take(60).collect();
            format!("is of no known format: its first line is `{}`", shown.escape_debug())
        }
    }
}
