//! What a bot does around each trade: an attempt before it sends, an execution when the end is known, and a look at the
//! kill switch in between.
//!
//! `tripod up && tripod migrate && cargo run --example record_executions`

#![expect(clippy::print_stderr, reason = "an example talks to its reader")]

use std::time::Duration;

use tripod::tape::Tape;
use tripod::tape::tables::{Attempt, Execution, ExecutionStatus};
use tripod::{Config, Decimal, Timestamp, Token, Uuid};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A development stack is asked for by name; production is `Config::load("/etc/…/tripod.toml")`.
    let tape = Tape::open(&Config::local(".tripod")?)?;
    let recorder = tape.recorder();
    let trading_allowed = tape.trading_allowed();

    let sol = Token::new("So11111111111111111111111111111111111111112")?;
    for number in 0..1_000_u64 {
        if !*trading_allowed.borrow() {
            break;
        }
        let attempt = Attempt {
            at: Timestamp::now(),
            id: Uuid::now_v7(),
            strategy: "triangle",
            venue: "raydium",
            token: sol,
            route: Some("raydium>orca"),
            signature: None,
            token_in: sol,
            token_out: sol,
            amount_in: 1_000_000_000 + number,
            expected_amount_out: Some(1_000_050_000 + number),
            minimum_amount_out: Some(1_000_000_000 + number),
            expected_price: Some(Decimal::new(1_000_050, 6)),
            expected_profit_lamports: Some(45_000),
            slippage_limit_bps: Some(Decimal::from(50)),
            compute_unit_limit: Some(400_000),
            priority_fee_lamports: Some(2_000),
            tip_lamports: Some(3_000),
            slot_seen: Some(348_219_411),
            slot_sent: Some(348_219_412),
            last_valid_block_height: None,
            decide_ns: Some(81_000),
            build_ns: Some(120_000),
        };
        // When it returns Ok(Recorded::Kept), the row survives whatever happens to this process from here on.
        recorder.record(&attempt)?;

        // … the transaction is sent here, and its end waited for …

        recorder.record(&Execution {
            amount_out: Some(1_000_048_000 + number),
            realised_price: Some(Decimal::new(1_000_048, 6)),
            slot_landed: Some(348_219_413),
            ..Execution::of(&attempt, Timestamp::now(), ExecutionStatus::Landed)
        })?;
    }

    let report = tape.close(Duration::from_secs(10));
    for row in &report.remaining {
        // Not lost: the next start goes on from there.
        eprintln!("{} on {}: {} rows wait in the journal", row.table, row.sink, row.pending + row.delivered);
    }
    Ok(())
}
