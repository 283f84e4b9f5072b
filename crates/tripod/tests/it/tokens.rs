//! Tokens: real mint accounts against the official decoder, and the store against a real server.

mod announce;
mod assess;
mod cache;
mod decode;
mod differential;
mod fetch;
mod import;
mod node;
mod plans;
mod questions;
mod samples;
mod store;
