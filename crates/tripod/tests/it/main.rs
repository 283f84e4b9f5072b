//! Tests against real servers, one module per topic.

mod health;
mod postgres;
mod postgres_server;
mod settings;
mod tokens;
