//! Tests against real servers; one module per topic.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise, in its helpers too")]

mod events;
mod prices;
mod redis_link;
mod signals;
