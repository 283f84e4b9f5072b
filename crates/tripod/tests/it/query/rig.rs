//! Tables, journals and a reader of a test's own, and values that a lossy way would change.

use std::time::Duration;

use tempfile::TempDir;
use tripod::tape::query::{Limits, Reader, Span};
use tripod::tape::tables::{self, Attempt, Execution, ExecutionStatus};
use tripod::tape::{Tape, schema};
use tripod::{Config, Decimal, Timestamp, Token, Uuid};

use crate::questdb_server::{DEADLINE, config, http};

pub(super) const DAY: Duration = Duration::from_hours(24);

/// Tables and journals of a test's own, on the server that all share.
pub(super) struct Rig {
    pub(super) config: Config,
    _journals: TempDir,
}

impl Rig {
    pub(super) fn new(name: &str) -> Self {
        let journals = tempfile::tempdir().unwrap();
        let mut all = Config::default();
        all.bot = name.to_owned();
        all.questdb = vec![config()];
        all.journal.dir = journals.path().to_owned();
        all.journal.segment_mib = 1;
        all.tape.table_prefix = format!("{name}_");
        let plan = schema::plan(&schema::read_live(&http()).unwrap(), tables::builtin(), &all.tape.table_prefix);
        schema::apply(&http(), &plan).unwrap();
        Self { config: all, _journals: journals }
    }

    /// Records, and waits until it is visible.
    pub(super) fn record(&self, record: impl FnOnce(&tripod::tape::Recorder)) {
        let tape = Tape::open(&self.config).unwrap();
        record(&tape.recorder());
        assert!(tape.wait_visible(DEADLINE).unwrap(), "{:?}", tape.sinks());
    }

    pub(super) fn reader(&self, change: impl FnOnce(&mut Limits)) -> Reader {
        let mut limits = Limits::default();
        limits.deadline = DEADLINE;
        change(&mut limits);
        Reader::open(&self.config, limits).unwrap()
    }
}

/// A nanosecond of the present hour that no rounding leaves as it is.
pub(super) fn now() -> Timestamp {
    let hour = Timestamp::now().as_nanos() / 3_600_000_000_000 * 3_600_000_000_000;
    Timestamp::from_nanos(hour - 3_600_000_000_000 + 123_456_789).unwrap()
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap()
}

pub(super) fn around(at: Timestamp) -> Span {
    Span::new(at.checked_sub(DAY).unwrap(), later(at, DAY)).unwrap()
}

pub(super) fn token(name: &str) -> Token {
    Token::new(name).unwrap()
}

pub(super) fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// Every column set, each to something that a lossy way would change.
pub(super) fn full<'a>(at: Timestamp, id: Uuid) -> (Attempt<'a>, Execution<'a>) {
    let attempt = Attempt {
        route: Some("raydium>orca"),
        signature: Some("5h6xBEauJ3PK6SWCZ1PGjBvj8vDdWG3KpwATGy1ARAXFSDwt8GFXM7W5Ncn16wmqokgpiKRLuS83KUxyZyv2sUYv"),
        token_in: token("So11111111111111111111111111111111111111112"),
        token_out: token("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
        amount_in: u64::MAX,
        expected_amount_out: Some(u64::MAX - 1),
        minimum_amount_out: Some(0),
        expected_price: Some(decimal("12345678901.123456789012345678")),
        expected_profit_lamports: Some(i64::MIN + 1),
        slippage_limit_bps: Some(decimal("-0.0001")),
        compute_unit_limit: Some(10_000),
        priority_fee_lamports: Some(1 << 63),
        tip_lamports: Some(100_000_000),
        slot_seen: Some(9_007_199_254_740_993),
        slot_sent: Some(1),
        last_valid_block_height: Some(u64::from(u32::MAX)),
        decide_ns: Some(9_999),
        build_ns: Some(10_001),
        ..Attempt::new(id, at, "triangle", "raydium", token("SOL"))
    };
    let execution = Execution {
        amount_out: Some(18_446_744_073_709_551_614),
        realised_price: Some(decimal("0.000000000000000001")),
        slippage_bps: Some(decimal("-99999999999999.9999")),
        profit_lamports: Some(i64::MAX),
        fee_lamports: Some(0),
        priority_fee_lamports: Some(10_000),
        tip_lamports: Some(20_000_000),
        compute_units: Some(123_456_789),
        slot_landed: Some(348_219_413),
        error_code: Some(-32_002),
        error: Some("slippage \"limit\", exceeded\nat\tinstruction 2 – ∞"),
        send_ns: Some(1),
        land_ns: Some(u64::MAX),
        ..Execution::of(&attempt, later(at, Duration::from_nanos(1)), ExecutionStatus::Failed)
    };
    (attempt, execution)
}
