//! Tests on real servers: one binary, a module per topic. Each test has servers, journals and names of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test stops at the first surprise, as a test does; clippy only knows the functions marked as tests"
)]

mod certificates;
mod delivery;
mod events;
mod failover;
mod health;
mod metrics;
mod postgres;
mod postgres_server;
mod prices;
mod query;
mod questdb_server;
mod redis_link;
mod redis_tls;
mod rollup;
mod rows;
mod schema;
mod settings;
mod signals;
mod tokens;
mod upgrade;
