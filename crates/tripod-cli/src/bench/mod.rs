//! `tripod bench`: figures, measured here and now. It is no test: a missed bar is printed as missed, the exit code is 0.
//!
//! Constraints: a figure stands beside its bar, and beside what the raw client does with the same rows in the same run,
//! where there is such a client. The two take turns ([`pair`]), so that a drift of the machine falls on both. What was
//! measured with, how busy the machine was, and what the clock itself costs is told with the figures ([`machine`]).
//!
//! A bench is a file of its own that ends in a [`Report`]: [`Figure`](report::Figure)s, made in [`report`], printed as a
//! table, as markdown, or as the `--json` document by the command.

pub(crate) mod events;
mod machine;
pub(crate) mod monitor;
mod pair;
pub(crate) mod prices;
mod report;
pub(crate) mod settings;
pub(crate) mod tape;
pub(crate) mod tokens;

pub(crate) use tape::tape;
