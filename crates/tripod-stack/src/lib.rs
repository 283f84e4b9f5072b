//! Runs real QuestDB, PostgreSQL and Redis as plain local processes: for the operator (`tripod up`) and for every test.
//!
//! Constraints: what the operator runs is what the tests run. Everything listens on 127.0.0.1 and on unix sockets alone.
//! Passwords are generated, kept in files of mode 0600, and are on no command line. Every wait has a deadline. A kill -9
//! of anything (this caller, the supervisor, a server) leaves what the next [`up`] or [`down`] puts in order. This
//! crate knows no table and no key: it does not depend on `tripod`.
//!
//! ```text
//!  up ──▶ supervisor (one background process) ──▶ QuestDB · PostgreSQL · Redis prices · Redis events (× 3, with sentinels)
//!  down ──▶ asks the supervisor to go, ends the servers, looks whether they are gone
//!  check ──▶ asks the kernel and each server
//!  TestStack ──▶ the same servers as children of a test, ended with it by a guardian, however the test ends
//! ```
//!
//! Operation: no pid file. A server carries the random id of its stack on its command line, so the kernel knows which
//! processes are whose (see `process.rs`); a supervisor that was killed is replaced by one that adopts them.

mod account;
mod check;
mod config_file;
mod down;
mod endings;
mod error;
mod layout;
mod places;
mod ports;
mod postgres;
mod process;
mod programs;
mod proxy;
mod questdb;
mod redis;
mod replication;
mod secrets;
mod server;
mod standby;
mod state;
mod stop;
mod strays;
mod supervisor;
mod test_stack;
mod up;
mod versions;
mod wait;
mod wire;

pub use check::{RunState, ServerState, check, events_primary};
pub use down::{DownReport, down};
pub use error::{Error, Result};
pub use proxy::Proxy;
pub use server::{ServerName, Servers};
pub use standby::Standby;
pub use supervisor::{forget_endings, supervise};
pub use test_stack::{Login, TestStack};
pub use up::{Options, Owner, UpReport, up};
