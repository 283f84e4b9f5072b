//! Backup and restore of the three stores as one.

pub(crate) mod postgres;
