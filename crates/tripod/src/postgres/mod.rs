//! PostgreSQL, the server behind tokens, settings and health: connections, error classes, migrations, roles.
//!
//! Constraints: any call answers or fails within one stated deadline, also when the server is frozen, restarting, full
//! or read-only; a connection that was left in the middle of something is never used again; the bot never migrates,
//! it checks ([`migrations::check`]) and refuses.
//!
//! Picture:
//! ```text
//! tokens ─┐                 ┌─ wait ─┬─ connect ─┬─ query ─┐
//! settings├─▶ Postgres::call│        one outer deadline    │──▶ answer, or Error with its Advice
//! health ─┘                 └────────┴───────────┴─────────┘
//! tripod migrate ─▶ migrations::apply ─▶ advisory lock ─▶ roles ─▶ numbered files as tripod_owner
//! ```

mod class;
mod connect;
mod extensions;
mod listen;
pub mod migrations;
mod numeric;
mod pool;
mod race;
mod roles;
mod survey;

pub use class::{Class, Failure, classify};
pub use connect::Login;
pub(crate) use connect::tls_connector;
pub use extensions::NAMES_UNINDEXED;
pub(crate) use listen::Listener;
pub(crate) use numeric::Unsigned;
pub use pool::Postgres;
pub use roles::GROUPS;
pub use survey::{PostgresLook, PostgresSurvey, Standby};

/// The driver's client as [`Postgres::call`] lends it; re-exported so that a caller needs no second driver version.
pub use deadpool_postgres::Client;

/// A `timestamptz` as the driver reads it.
pub(crate) fn timestamp(time: std::time::SystemTime) -> crate::error::Result<crate::value::Timestamp> {
    let nanos = time.duration_since(std::time::UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_nanos()).ok());
    crate::value::Timestamp::from_nanos(nanos.unwrap_or(-1))
}
