//! `[prices]`, `[events]`: how live data are written.

use serde::{Deserialize, Serialize};

/// `[prices]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Prices {
    /// Life of `price:TOKEN` (1000 to 2000 by specification; 100 to 60000 taken).
    pub ttl_ms: u64,
    /// Life of the guard that keeps an older slot from replacing a newer one.
    pub guard_ttl_ms: u64,
    /// Put before each key; for several deployments on one Redis, and for tests.
    pub key_prefix: String,
}

/// `[events]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Events {
    /// Entries a stream holds at most, exactly.
    pub cap: u64,
    /// Bytes of one payload at most.
    pub payload_bytes_max: usize,
    /// A consumer that has not acknowledged for this long is taken for dead and its events are claimed.
    pub claim_after_ms: u64,
    /// A handler that has not finished within this has failed.
    pub handler_deadline_ms: u64,
    /// Deliveries of one event to a group at most; then it goes to the dead letters.
    pub tries_max: u64,
    /// Dead letters of a topic kept at most; the oldest go first.
    pub dead_cap: u64,
    /// What was acknowledged within this is looked up after a reconnect, and published again where it is missing.
    pub republish_window_ms: u64,
    /// Put before each key; for several deployments on one Redis, and for tests.
    pub key_prefix: String,
}

impl Default for Prices {
    fn default() -> Self {
        Self { ttl_ms: 2000, guard_ttl_ms: 60_000, key_prefix: String::new() }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            cap: 10_000,
            payload_bytes_max: 65_536,
            claim_after_ms: 30_000,
            handler_deadline_ms: 10_000,
            tries_max: 5,
            dead_cap: 10_000,
            republish_window_ms: 30_000,
            key_prefix: String::new(),
        }
    }
}
