//! The formats whose lines are columns between commas.

use tripod::{Decimal, Timestamp, Token};

use super::{Event, Price, Quote, Taker, Trade};

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

type Read = Result<(Timestamp, Event), String>;

/// Cuts a line at its commas; quotes around a whole field are taken off.
pub(super) fn split(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|field| {
        let field = field.trim();
        field.strip_prefix('"').and_then(|f| f.strip_suffix('"')).unwrap_or(field)
    })
}

/// The fields of one line under their header.
pub(super) struct Fields<'a> {
    header: &'static [&'static str],
    values: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(line: &'a str, header: &'static [&'static str]) -> Result<Self, String> {
        let values: Vec<&str> = split(line).collect();
        if values.len() != header.len() {
            let columns = if values.len() == 1 { "column" } else { "columns" };
            return Err(format!("has {} {columns} instead of {}", values.len(), header.len()));
        }
        Ok(Self { header, values })
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        let position = self.header.iter().position(|n| *n == name);
        position.and_then(|p| self.values.get(p)).copied().ok_or_else(|| format!("has no column {name}"))
    }

    fn token(&self, name: &str) -> Result<Token, String> {
        token(name, self.text(name)?)
    }

    fn positive(&self, name: &str) -> Result<Decimal, String> {
        positive(name, self.text(name)?)
    }

    /// A size that may be absent.
    fn size(&self, name: &str) -> Result<Option<Decimal>, String> {
        match self.text(name)? {
            "" => Ok(None),
            text => not_negative(name, text).map(Some),
        }
    }

    fn time(&self, name: &str) -> Result<Timestamp, String> {
        time(name, self.text(name)?)
    }

    fn millis(&self, name: &str) -> Result<Timestamp, String> {
        let text = self.text(name)?;
        let millis: i64 = text.parse().map_err(|_| format!("{name} `{text}` is not a count of milliseconds"))?;
        let nanos = millis.checked_mul(NANOS_PER_MILLI).ok_or_else(|| format!("{name} `{text}` is out of range"))?;
        Timestamp::from_nanos(nanos).map_err(|_| format!("{name} `{text}` is outside 1970 to 2261"))
    }

    /// Seconds with a fraction, exact to the nanosecond.
    fn seconds(&self, name: &str) -> Result<Timestamp, String> {
        let text = self.text(name)?;
        let wrong = || format!("{name} `{text}` is not a time in seconds");
        let seconds = Decimal::from_str_exact(text).map_err(|_| wrong())?;
        let nanos = seconds.checked_mul(Decimal::from(NANOS_PER_SECOND)).ok_or_else(wrong)?;
        if !nanos.is_integer() {
            return Err(format!("{name} `{text}` is finer than a nanosecond"));
        }
        let nanos = i64::try_from(nanos).map_err(|_| wrong())?;
        Timestamp::from_nanos(nanos).map_err(|_| format!("{name} `{text}` is outside 1970 to 2261"))
    }

    fn taker(&self, name: &str) -> Result<Taker, String> {
        taker(name, self.text(name)?)
    }

    fn quote(&self, venue: Token) -> Result<Event, String> {
        Ok(Event::Quote(Quote {
            venue,
            token: self.token("symbol")?,
            bid_price: self.positive("bid_px")?,
            bid_size: self.size("bid_sz")?,
            ask_price: self.positive("ask_px")?,
            ask_size: self.size("ask_sz")?,
        }))
    }
}

pub(super) fn token(name: &str, text: &str) -> Result<Token, String> {
    Token::new(text).map_err(|error| format!("{name} `{text}`: {error}"))
}

pub(super) fn time(name: &str, text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("{name} `{text}` is not an RFC 3339 time between 1970 and 2261"))
}

pub(super) fn taker(name: &str, text: &str) -> Result<Taker, String> {
    match text {
        "buy" | "Buy" | "BUY" => Ok(Taker::Buy),
        "sell" | "Sell" | "SELL" => Ok(Taker::Sell),
        _ => Err(format!("{name} `{text}` is neither buy nor sell")),
    }
}

/// Every digit of the text, or an error; plain (`0.00001302`) or with an exponent (`1.302e-5`).
pub(super) fn decimal(name: &str, text: &str) -> Result<Decimal, String> {
    let wrong = || format!("{name} `{text}` is not a decimal number of at most 28 digits");
    let Some((digits, _)) = text.split_once(['e', 'E']) else {
        return Decimal::from_str_exact(text).map_err(|_| wrong());
    };
    // `from_scientific` rounds; it may only be asked where the digits fit as they are.
    Decimal::from_str_exact(digits).map_err(|_| wrong())?;
    Decimal::from_scientific(text).map_err(|_| wrong())
}

pub(super) fn positive(name: &str, text: &str) -> Result<Decimal, String> {
    let value = decimal(name, text)?;
    if value > Decimal::ZERO { Ok(value) } else { Err(format!("{name} `{text}` is not above zero")) }
}

pub(super) fn not_negative(name: &str, text: &str) -> Result<Decimal, String> {
    let value = decimal(name, text)?;
    if value >= Decimal::ZERO { Ok(value) } else { Err(format!("{name} `{text}` is below zero")) }
}

pub(super) fn spot_trade(fields: &Fields<'_>) -> Read {
    let trade = Trade {
        venue: fields.token("exchange")?,
        token: fields.token("symbol")?,
        id: fields.token("trade_id")?,
        price: fields.positive("price")?,
        size: fields.positive("amount")?,
        taker: fields.taker("side")?,
    };
    Ok((fields.time("time_exchange")?, Event::Trade(trade)))
}

pub(super) fn usdm_trade(fields: &Fields<'_>) -> Read {
    let trade = Trade {
        venue: usdm_venue(fields)?,
        token: fields.token("symbol")?,
        id: fields.token("trade_id")?,
        price: fields.positive("price")?,
        size: fields.positive("qty")?,
        taker: fields.taker("taker_side")?,
    };
    Ok((fields.millis("trade_ms")?, Event::Trade(trade)))
}

pub(super) fn spot_quote(fields: &Fields<'_>) -> Read {
    Ok((fields.time("time_exchange")?, fields.quote(fields.token("exchange")?)?))
}

pub(super) fn usdm_quote(fields: &Fields<'_>) -> Read {
    Ok((fields.millis("txn_ms")?, fields.quote(usdm_venue(fields)?)?))
}

pub(super) fn cryptofeed_quote(fields: &Fields<'_>) -> Read {
    let at = fields.seconds("recv_ts_s")?;
    if !fields.text("last_px")?.is_empty() {
        fields.positive("last_px")?;
    }
    Ok((at, fields.quote(fields.token("exchange")?)?))
}

pub(super) fn pool_price(fields: &Fields<'_>) -> Read {
    // The pools of these files are Orca's SOL/USDC pools, named by their tick spacing.
    let pool = fields.text("pool")?;
    let token = token("pool", &format!("SOL-USDC-orca-{pool}"))?;
    Ok((fields.time("ts")?, Event::Price(Price { token, price: fields.positive("price")? })))
}

/// `usdm` alone would not say whose market it is.
fn usdm_venue(fields: &Fields<'_>) -> Result<Token, String> {
    token("market", &format!("binance_{}", fields.text("market")?))
}
