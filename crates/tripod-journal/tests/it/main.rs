//! The journal from outside: real files, real threads, real kills. One binary, a module per topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in what the tests share, as inside of them.

mod crash;
mod damage;
mod format;
mod fuzz;
mod inspect;
mod limits;
mod model;
mod parallel;
mod snapshot;
mod support;
