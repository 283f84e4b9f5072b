//! Tests on real servers: one binary, a module per topic. Each test has servers, journals and names of its own.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, and does not see that helpers here are tests too")]

mod delivery;
