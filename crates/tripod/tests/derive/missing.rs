//! What a row must say.

use tripod::tape::Row;
use tripod::{Timestamp, Uuid};

#[derive(Row)]
struct WithoutTable {
    #[row(timestamp)]
    at: Timestamp,
    #[row(key)]
    id: Uuid,
}

#[derive(Row)]
#[row(table = "fills")]
struct WithoutImportance {
    #[row(timestamp)]
    at: Timestamp,
    #[row(key)]
    id: Uuid,
}

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
struct WithoutTimestamp {
    at: Timestamp,
    #[row(key)]
    id: Uuid,
}

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
struct WithoutKey {
    #[row(timestamp)]
    at: Timestamp,
    id: Uuid,
}

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
enum NoStruct {
    A,
}

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
struct Generic<T> {
    #[row(timestamp)]
    at: Timestamp,
    #[row(key)]
    id: T,
}

fn main() {}
