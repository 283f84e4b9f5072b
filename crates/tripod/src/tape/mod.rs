//! The tape: time-series tables in QuestDB.

pub mod encode;
pub mod questdb;
pub mod row;
pub mod schema;
pub mod spec;
pub mod tables;

pub use row::Row;
pub use tripod_derive::Row;
