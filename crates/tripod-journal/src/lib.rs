//! Crash-safe append-only log on memory-mapped segments. It knows bytes, not rows.

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {}
