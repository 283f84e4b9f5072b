//! Tests on real servers. One binary, a module per topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod delivery;
mod derive;
mod questdb_server;
mod rows;
mod schema;
