//! A whole bot in small: it sees a trade, decides, records the decision before it acts, and says how it ended.
//!
//! Start the local stack first (`make run`, or `tripod up` and `tripod migrate`), then:
//!
//! ```text
//! cargo run --release -p tripod --example minimal_bot [DATA_DIR]
//! tripod --config DATA_DIR/tripod.toml status
//! ```

use std::time::Duration;

use tripod::events::Events;
use tripod::prices::{Freshness, PriceUpdate, Prices};
use tripod::redis::Label;
use tripod::tape::Tape;
use tripod::tape::tables::{Attempt, Execution, ExecutionStatus, MarketTrade, Side};
use tripod::{Config, Decimal, Result, Timestamp, Token, Uuid};

const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
const WRAPPED_SOL: &str = "So11111111111111111111111111111111111111112";

#[tokio::main]
async fn main() -> Result<()> {
    // A name of its own: this bot's journals and cursors are nobody else's.
    let mut config = Config::local(std::env::args().nth(1).unwrap_or_else(|| ".tripod".into()))?;
    config.bot = "minimal-bot".into();

    // QuestDB need not be up for this, nor at any time after: rows wait in the journal.
    let tape = Tape::open(&config)?;
    let recorder = tape.recorder();
    let trading_allowed = tape.trading_allowed();
    let prices = Prices::connect(&config).await?;
    let events = Events::connect(&config).await?;
    let fills = events.publisher("fills")?;

    let sol = Token::new(WRAPPED_SOL)?;
    let (at, slot) = (Timestamp::now(), 298_417_223);

    // What the market did. Never waits, and survives a kill -9 once it has returned.
    recorder.record(&MarketTrade {
        at,
        venue: "orca",
        token: sol,
        trade_id: &Uuid::new_v4().to_string(),
        side: Some(Side::Buy),
        price: Decimal::new(8_876_370, 5),
        size: Decimal::new(125, 1),
        slot: Some(slot),
        received_at: Some(at),
    })?;

    // The latest price, guarded: an older slot could not replace it.
    let (value, source) = (Decimal::new(8_876_370, 5), Label::new("source", "orca")?);
    prices.write(&[PriceUpdate { token: sol, value, slot, source, venue: None }]).await?;

    // The decision. A price that is too old, or a tape that cannot keep what is done, is a reason not to trade.
    let price = prices.latest(&sol).filter(|price| price.freshness(Duration::from_millis(500)) == Freshness::Fresh);
    let Some(price) = price.filter(|_| *trading_allowed.borrow()) else {
        return Ok(());
    };
    let mut attempt = Attempt::new(Uuid::now_v7(), Timestamp::now(), "example", "orca", sol);
    attempt.token_in = Token::new(USDC)?;
    attempt.amount_in = 100_000_000;
    attempt.expected_price = Some(price.value);
    attempt.slot_seen = price.slot;
    recorder.record(&attempt)?; // before anything is sent: if the bot dies now, the attempt is known

    // ... send the transaction, learn its end ...
    let mut execution = Execution::of(&attempt, Timestamp::now(), ExecutionStatus::Simulated);
    execution.realised_price = Some(price.value);
    recorder.record(&execution)?;
    fills.publish("simulated", &attempt.id.to_string()).await?;

    // Delivers what it can; what remains waits in the journal for the next start.
    let report = tape.close(Duration::from_secs(5));
    for table in report.remaining {
        tracing::warn!(table = table.table, pending = table.pending, "not visible yet");
    }
    Ok(())
}
