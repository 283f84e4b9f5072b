//! Tests on real servers: one binary, a module per topic. Each test has servers, journals and names of its own.

mod delivery;
mod events;
mod prices;
mod redis_link;
mod signals;
