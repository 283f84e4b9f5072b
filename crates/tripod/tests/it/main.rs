//! Tests on real servers: one binary, a module per topic. Each test has servers, journals and names of its own.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

mod delivery;
mod events;
mod prices;
mod redis_link;
mod signals;
