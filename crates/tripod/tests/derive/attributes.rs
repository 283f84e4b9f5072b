//! Attributes that are wrong in themselves.

use tripod::tape::Row;
use tripod::{Decimal, Timestamp, Uuid};

#[derive(Row)]
#[row(table = "fills", importance = "vital")]
struct Vital {
    #[row(timestamp)]
    at: Timestamp,
    #[row(key)]
    id: Uuid,
}

#[derive(Row)]
#[row(table = "fills", importance = "critical", ttl = 3)]
struct Ttl {
    #[row(timestamp)]
    at: Timestamp,
    #[row(key)]
    id: Uuid,
}

#[derive(Row)]
#[row(table = "Fills", importance = "critical", retain_days = 30)]
struct Fields {
    #[row(timestamp)]
    at: Timestamp,
    #[row(key)]
    id: Uuid,
    #[row(decimal = "38,29")]
    too_fine: Decimal,
    #[row(decimal = "39,2")]
    too_wide: Decimal,
    #[row(decimal = "4,5")]
    upside_down: Decimal,
    #[row(decimal = 28)]
    no_scale: Decimal,
    #[row(nullable)]
    unknown: u64,
    #[row(symbol, text = 5)]
    both: String,
    #[row(text = 70000)]
    too_long: String,
    #[row(rename = "id")]
    twice: Uuid,
    camelCase: u64,
}

fn main() {}
