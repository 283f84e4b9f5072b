//! The data layer a Solana trading system stands on.

// `#[derive(Row)]` writes `::tripod::…`, in this crate's own tables too.
extern crate self as tripod;

pub mod config;
pub mod error;
pub mod events;
pub mod health;
pub mod ledger;
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
