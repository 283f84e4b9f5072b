//! The timestamp and the keys.

use tripod::tape::Row;
use tripod::{Timestamp, Uuid};

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
struct TwoTimestamps {
    #[row(timestamp)]
    at: Timestamp,
    #[row(timestamp)]
    received_at: Timestamp,
    #[row(key)]
    id: Uuid,
}

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
struct NotAlwaysThere {
    #[row(timestamp)]
    at: Option<Timestamp>,
    #[row(key)]
    id: Option<Uuid>,
    #[row(key)]
    ratio: f64,
}

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
struct NoTimestamp {
    #[row(timestamp)]
    at: i64,
    #[row(key)]
    id: Uuid,
}

fn main() {}
