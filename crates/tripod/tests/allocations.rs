//! `record()` allocates nothing. A binary of its own: the allocator of the whole process counts here.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use tripod::config::Config;
use tripod::tape::tables::{Attempt, Execution, ExecutionStatus, MarketTrade, Side};
use tripod::tape::{Recorded, Recorder, Row, Tape};
use tripod::{Decimal, Timestamp, Token, Uuid};

/// Enough to change segments a number of times.
const ROWS: u64 = 20_000;
const SIGNATURE: &str = "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW";

fn allocations<R: Row>(recorder: &Recorder, row: impl Fn(u64) -> R) -> u64 {
    // The first row of a table makes its spec.
    assert_eq!(recorder.record(&row(0)).unwrap(), Recorded::Kept);
    let counted = allocation_counter::measure(|| {
        for number in 1..=ROWS {
            assert_eq!(recorder.record(&row(number)).unwrap(), Recorded::Kept);
        }
    });
    counted.count_total
}

#[test]
fn recording_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.journal.dir = dir.path().to_owned();
    config.questdb.clear();
    let tape = Tape::open(&config).unwrap();
    let recorder = tape.recorder();
    let at = Timestamp::now();
    let token = Token::new("So11111111111111111111111111111111111111112").unwrap();
    let attempt = |number: u64| Attempt {
        route: Some("raydium>orca"),
        signature: Some(SIGNATURE),
        amount_in: 1_000_000_000 + number,
        expected_price: Some(Decimal::new(1_000_050, 6)),
        slot_seen: Some(348_219_411),
        ..Attempt::new(Uuid::from_u128(u128::from(number)), at, "triangle", "raydium", token)
    };
    let execution = |number: u64| Execution {
        amount_out: Some(number),
        realised_price: Some(Decimal::new(1_000_048, 6)),
        slippage_bps: Some(Decimal::new(2, 2)),
        error: Some("slippage tolerance exceeded"),
        ..Execution::of(&attempt(number), at, ExecutionStatus::Landed)
    };
    let trade = |number: u64| MarketTrade {
        at,
        venue: "raydium",
        token,
        trade_id: "348219411:2",
        side: Some(Side::Buy),
        price: Decimal::new(14_000_000, 5),
        size: Decimal::new(1_234_567, 6),
        slot: Some(number),
        received_at: Some(at),
    };
    // That an allocation would be seen.
    let seen = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(seen.count_total, 1);
    assert_eq!(allocations(&recorder, attempt), 0, "attempts");
    assert_eq!(allocations(&recorder, execution), 0, "executions");
    assert_eq!(allocations(&recorder, trade), 0, "market trades");
}
