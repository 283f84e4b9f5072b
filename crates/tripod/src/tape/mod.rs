//! The tape: time-series tables in QuestDB.

pub mod row;
pub mod spec;
