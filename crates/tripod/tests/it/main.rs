//! Tests against real servers, one module per topic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test stops at the first surprise, as a test does; clippy only knows the functions marked as tests"
)]

mod health;
mod postgres;
mod postgres_server;
mod settings;
mod tokens;
