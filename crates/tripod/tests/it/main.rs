//! Tests against real servers; one module per topic.

mod events;
mod prices;
mod redis_link;
mod signals;
