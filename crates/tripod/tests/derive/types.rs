//! Types that are no column, by themselves or with their attribute.

use tripod::tape::Row;
use tripod::{Decimal, Timestamp, Uuid};

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
struct NeedAnAttribute {
    #[row(timestamp)]
    at: Timestamp,
    #[row(key)]
    id: Uuid,
    price: Option<Decimal>,
    name: String,
    sure: Option<bool>,
}

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
struct NoColumn {
    #[row(timestamp)]
    at: Timestamp,
    #[row(key)]
    id: Uuid,
    small: u32,
}

#[derive(Row)]
#[row(table = "fills", importance = "critical")]
struct NoDecimal {
    #[row(timestamp)]
    at: Timestamp,
    #[row(key)]
    id: Uuid,
    #[row(decimal = "28,18")]
    price: f64,
}

fn main() {}
