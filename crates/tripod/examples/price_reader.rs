//! Writes a price, reads it back, and decides by its age whether to trade on it.
//!
//! ```text
//! tripod up
//! cargo run -p tripod --example price_reader [DATA_DIR]
//! ```
//! The price is readable by anything that speaks Redis: `GET price:So111…` gives the bare decimal while it lives.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use tripod::prices::{Freshness, PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::{Config, Token};

/// This strategy does not trade on a price older than this.
const AGE_MAX: Duration = Duration::from_millis(500);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data_dir = std::env::args().nth(1).unwrap_or_else(|| ".tripod".to_owned());
    let prices = Prices::connect(&Config::local(data_dir)?).await?;
    // From here on memory also has what other processes write.
    prices.follow().await?;

    let sol = Token::new("So11111111111111111111111111111111111111112")?;
    let update = PriceUpdate {
        token: sol,
        value: "152.1250".parse()?,
        slot: 298_417_223,
        source: Label::new("source", "example")?,
        venue: None,
    };
    // A slot that is behind the one in Redis is counted as older and changes nothing.
    let report = prices.write(&[update]).await?;
    println!("written {}, older {}", report.written, report.older);

    // Memory first: nanoseconds, never waits. Redis where memory has nothing.
    let price = match prices.latest(&sol) {
        Some(price) => Some(price),
        None => prices.read(&sol).await?,
    };
    match price.map(|price| (price, price.freshness(AGE_MAX))) {
        Some((price, Freshness::Fresh)) => println!("trade on {} of slot {:?}", price.value, price.slot),
        Some((price, Freshness::Stale { age })) => println!("{} is {age:?} old: do not trade", price.value),
        None => println!("nobody has written a price within its life: do not trade"),
    }
    Ok(())
}
