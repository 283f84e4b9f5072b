//! The alerts of `ops/`: each has a cause that makes it fire, a page that says what to do, and metrics that somebody serves.
//!
//! Needs Prometheus, Alertmanager and the exporters; `scripts/install-monitoring` installs them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise, its helpers too")]
#![allow(clippy::print_stdout, reason = "what programs said is shown with the test that failed")]

mod bot;
mod command;
mod directory;
mod drill;
mod end_to_end;
mod files;
mod http;
mod live;
mod pages;
mod programs;
mod promtool;
mod quiet;
mod routes;
#[allow(dead_code, reason = "shared with the tests of the command line")]
#[path = "../cli/run.rs"]
mod run;
mod watch;
