//! The binary as an operator meets it: what it prints, what it exits with, what it does to real servers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise, its helpers too")]

mod backup;
mod doctor;
mod drill;
mod events;
mod golden;
mod input;
mod monitor;
mod monitor_alerts;
mod monitor_cost;
mod prices;
mod reads;
mod retention;
mod run;
mod servers;
mod settings;
mod sinks;
mod tokens;
mod tokens_fetch;
mod units;
mod watch;
