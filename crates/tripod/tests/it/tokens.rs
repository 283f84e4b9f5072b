//! Tokens: real mint accounts against the official decoder, and the store against a real server.

mod assess;
mod cache;
mod decode;
mod samples;
mod store;
