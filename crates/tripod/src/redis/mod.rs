//! One handle to one Redis, for prices, events and signals alike.
//!
//! Constraints: a caller never waits for a reconnect and never longer than its deadline; nothing here queues without a
//! limit; no error, log line or `Debug` shows a password.
//!
//! Picture:
//! ```text
//! prices, events, signals ──▶ Link ──▶ ArcSwap(connection) ──▶ the primary
//!                              ▲              ▲ swaps
//!                              │       supervisor task ──▶ Target: a fixed address, or asks the sentinels
//!                    Dedicated, Subscription: connections of their own (blocking reads, pub/sub)
//! ```
//! Operation: [`Link::connect`] proves the login once; from then on the supervisor alone connects. It looks at the
//! connection once a second and whenever a call met trouble, and while there is none every call fails at once with
//! [`Error::Unreachable`].

mod dedicated;
mod fault;
mod instance;
mod label;
mod link;
mod scripts;
mod sentinels;
mod subscription;
mod target;
mod transport;

pub use instance::{Instance, Replica};
pub use label::{LABEL_BYTES_MAX, Label};
pub use link::Link;
pub use sentinels::SentinelSaid;
pub use transport::Transport;

pub(crate) use dedicated::Dedicated;
pub(crate) use fault::code_of;
pub(crate) use link::backoff;
pub(crate) use scripts::{
    DEAD_LETTER, DEAD_REDRIVE, FOLLOW_READ, GROUP_CLAIM, GROUP_CREATE, GROUP_LEAVE, GROUP_READ, GROUP_RENEW,
    PRICE_WRITE, PUBLISH_ONCE,
};
pub(crate) use sentinels::Sentinels;
pub(crate) use subscription::{Delivery, Subscription};

use crate::error::{Error, Result};

/// As which of the two configured users to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// `user`: what a bot may do.
    Bot,
    /// `admin_user`: for `status`, `migrate` and `doctor`.
    Admin,
}

/// Refuses a key prefix that would change what a key means: braces move it to another Cluster slot, spaces and control
/// bytes break the price feed's lines.
pub(crate) fn check_prefix(key: &str, prefix: &str) -> Result<()> {
    match prefix.bytes().find(|b| !b.is_ascii_graphic() || b"{}*?[]\\".contains(b)) {
        Some(bad) => Err(Error::invalid(key, format!("has the byte 0x{bad:02x}; letters, digits and -_.: are safe"))),
        None => Ok(()),
    }
}
