//! The data layer a Solana trading system stands on: a tape in QuestDB, reference data in PostgreSQL, live data in Redis.
//!
//! # Twenty lines of a bot
//! ```no_run
//! use std::time::Duration;
//! use tripod::prices::{PriceUpdate, Prices};
//! use tripod::redis::Label;
//! use tripod::tape::{Tape, tables::Attempt};
//! use tripod::{Config, Decimal, Timestamp, Token, Uuid};
//!
//! # async fn bot() -> tripod::Result<()> {
//! let config = Config::local(".tripod")?; // what `tripod up` wrote; in production: Config::load(path)
//! let tape = Tape::open(&config)?; // QuestDB need not be up
//! let recorder = tape.recorder(); // clone it into every thread
//! let prices = Prices::connect(&config).await?;
//!
//! let token = Token::new("So11111111111111111111111111111111111111112")?;
//! let (value, source) = (Decimal::new(8_876_370, 5), Label::new("source", "orca")?);
//! prices.write(&[PriceUpdate { token, value, slot: 298_417_223, source, venue: None }]).await?;
//!
//! if *tape.trading_allowed().borrow() {
//!     let attempt = Attempt::new(Uuid::now_v7(), Timestamp::now(), "example", "orca", token);
//!     recorder.record(&attempt)?; // survives a kill -9 from here on; then send the transaction
//! }
//! tape.close(Duration::from_secs(5)); // delivers what it can; the rest waits for the next start
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//! | you want | look at |
//! |---|---|
//! | to record rows, your own tables too | [`tape`], [`tape::Row`] |
//! | to know what became of them | [`ledger`], [`metrics`] |
//! | tokens, settings, health | [`tokens`], [`settings`], [`health`] |
//! | prices, events, signals | [`prices`], [`events`], [`signals`] |
//! | what to do about an error | [`Error::advice`] |
//! | what a server has that Tripod cannot do with | [`audit`] |
//!
//! # What holds everywhere
//! Every call ends within a deadline that the configuration names. Every error says whether to retry, to wait, to fix
//! something or to stop trading. Every handle is cheap to clone and reconnects by itself. Nothing here migrates a
//! server: a schema that is behind is an error that names `tripod migrate`.

// `#[derive(Row)]` writes `::tripod::…`, in this crate's own tables too.
extern crate self as tripod;

/// The README's Rust compiles, or the documentation tests fail.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

pub mod audit;
pub mod config;
pub mod error;
pub mod events;
pub mod health;
pub mod ledger;
pub mod metrics;
pub mod postgres;
pub mod prices;
pub mod redis;
pub mod settings;
pub mod signals;
pub mod tape;
pub mod tokens;
pub mod value;

pub use config::Config;
pub use error::{Advice, Error, Result, Server};
pub use value::{Decimal, Timestamp, Token, Uuid};
