//! A table of the bot's own: its struct is its schema.
//!
//! ```text
//! tripod up && tripod migrate
//! cargo run --release -p tripod --example own_table [DATA_DIR]
//! tripod migrate                                   # makes `pool_states`: its spec stands beside the journal
//! tripod deliver --bot own-table --until-empty     # the bot has ended; its rows arrive all the same
//! tripod tape query "SELECT * FROM pool_states"
//! ```
//!
//! The operator's commands have no code of this bot. What the table is they read from the journal, where it was written
//! when the bot registered it.

use std::time::Duration;

use tripod::tape::{Recorded, Row, Tape};
use tripod::{Config, Decimal, Result, Timestamp, Token};

/// What a pool held at a slot.
#[derive(Debug, Clone, Copy, Row)]
#[row(table = "pool_states", importance = "standard", retain_days = 30)]
struct PoolState<'a> {
    /// When the bot saw it.
    #[row(timestamp)]
    at: Timestamp,
    /// The pool's address.
    #[row(key)]
    pool: Token,
    /// Slot of the state; with the pool it tells one state from another.
    #[row(key)]
    slot: u64,
    /// Which program runs the pool.
    #[row(symbol)]
    venue: &'a str,
    /// Raw units of the first token: all of u64, not a digit less.
    reserve_base: u64,
    /// Raw units of the second.
    reserve_quote: u64,
    /// Price of one whole first token in the second.
    #[row(decimal = "38,18")]
    price: Decimal,
    /// Fee in basis points, where the pool tells.
    fee_bps: Option<i64>,
    /// What the decoder had to say.
    #[row(text = 120)]
    note: Option<&'a str>,
}

/// States that it records.
const STATES: u64 = 500;

fn main() -> Result<()> {
    // A name of its own: this bot's journals and cursors are nobody else's.
    let mut config = Config::local(std::env::args().nth(1).unwrap_or_else(|| ".tripod".into()))?;
    config.bot = "own-table".into();

    let tape = Tape::open(&config)?;
    // Once, before the first row. It writes the spec beside the journal, and that is all that anybody else needs.
    tape.register::<PoolState<'_>>()?;

    let recorder = tape.recorder();
    let pool = Token::new("58oQChx4yWmvKdwLLZzBi4ChoCc2fqCUWBkwMihLYQo2")?;
    for number in 0..STATES {
        let state = PoolState {
            at: Timestamp::now(),
            pool,
            slot: 348_219_411 + number,
            venue: "raydium",
            reserve_base: u64::MAX - number,
            reserve_quote: 88_763_700_000_000 + number,
            price: Decimal::new(88_763_700_000, 9) + Decimal::new(1, 18) * Decimal::from(number),
            fee_bps: (number % 2 == 0).then_some(25),
            note: None,
        };
        if recorder.record(&state)? == Recorded::Dropped {
            tracing::warn!(number, "the journal is full, and a standard row is not worth stopping for");
        }
    }

    // Not waited for: where the table is not on the server yet, the rows stay in the journal, and `tripod deliver` or
    // this bot's next start brings them.
    let report = tape.close(Duration::from_millis(500));
    for table in report.remaining {
        tracing::warn!(table = table.table, pending = table.pending, "not delivered yet");
    }
    Ok(())
}
