//! The binary as an operator meets it: what it prints, what it exits with, what it does to real servers.

mod golden;
mod input;
mod run;
mod servers;
