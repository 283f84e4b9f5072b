//! What the delivery tests stand on: a QuestDB of their own, rows that can be told apart on the server, and waiting.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tripod::config::Config;
use tripod::ledger::LedgerRow;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::spec::Importance;
use tripod::tape::tables::{self, Attempt, MarketTrade};
use tripod::tape::{Recorded, Recorder, SinkState, Tape, schema};
use tripod::{Decimal, Error, Timestamp, Token, Uuid};
use tripod_stack::{Servers, TestStack};

/// Generous: the machine may be busy with other tests' servers. Nothing here waits that long when all is well.
pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(super) const SHORT: Duration = Duration::from_secs(5);

/// A QuestDB of its own and a config with a journal directory, bot and tables of its own.
pub(crate) struct Rig {
    pub(crate) stack: TestStack,
    pub(crate) config: Config,
    _journals: TempDir,
}

impl Rig {
    pub(crate) fn start(name: &str) -> Self {
        let stack = TestStack::start(Servers { questdb: true, ..Servers::NONE }).unwrap();
        let journals = tempfile::tempdir().unwrap();
        let mut config = Config::load_with(&stack.config_path(), []).unwrap();
        config.bot = name.to_owned();
        config.journal.dir = journals.path().to_owned();
        config.journal.segment_mib = 1;
        config.journal.critical_budget_mib = 64;
        config.journal.standard_budget_mib = 64;
        config.journal.debug_budget_mib = 16;
        config.tape.table_prefix = format!("{}_", name.replace('-', "_"));
        Self { stack, config, _journals: journals }
    }

    pub(crate) fn migrate(&self) {
        let http = self.http();
        let live = schema::read_live(&http).unwrap();
        let plan = schema::plan(&live, tables::builtin(), &self.config.tape.table_prefix);
        schema::apply(&http, &plan).unwrap();
    }

    pub(crate) fn http(&self) -> QuestDbHttp {
        QuestDbHttp::new(&self.config.questdb[0], Duration::from_secs(30)).unwrap()
    }

    pub(crate) fn table(&self, name: &str) -> String {
        format!("{}{name}", self.config.tape.table_prefix)
    }

    /// The first row of a query's answer, as text.
    pub(crate) fn ask(&self, sql: &str) -> Vec<String> {
        let answer = self.http().exec(sql).unwrap();
        answer.rows[0].iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
    }

    /// count, distinct keys and sum of sizes of the trades, as the server has them.
    pub(super) fn trades_on_server(&self) -> [u64; 3] {
        let table = self.table("market_trades");
        let row = self.ask(&format!("SELECT count(), count_distinct(trade_id), sum(size)::long FROM {table}"));
        [0, 1, 2].map(|column| row[column].parse().unwrap_or(0))
    }

    pub(super) fn ledger_of(&self, tape: &Tape, table: &str) -> LedgerRow {
        let rows = tape.ledger().unwrap();
        for row in &rows {
            assert!(row.adds_up, "{row:?}");
        }
        rows.into_iter().find(|row| row.table == table && row.sink == self.config.questdb[0].name).unwrap()
    }
}

/// The trade number `n`; sizes make the sum tell which rows are there.
pub(super) fn record_trade(recorder: &Recorder, base: Timestamp, n: u64) -> Recorded {
    recorder.record(&trade(base, n, &n.to_string())).unwrap()
}

pub(super) fn trade(base: Timestamp, n: u64, trade_id: &str) -> MarketTrade<'_> {
    MarketTrade {
        at: base.checked_add(Duration::from_micros(n / 3)).unwrap(),
        venue: ["raydium", "orca"][usize::try_from(n % 2).unwrap()],
        token: Token::new(["SOL", "BONK", "JUP"][usize::try_from(n % 3).unwrap()]).unwrap(),
        trade_id,
        side: None,
        price: Decimal::new(i64::try_from(n).unwrap() + 1, 9),
        size: Decimal::from(n),
        slot: Some(u64::MAX - n),
        received_at: None,
    }
}

pub(super) fn sum_below(n: u64) -> u64 {
    n * (n - 1) / 2
}

pub(super) fn record_attempt(recorder: &Recorder, n: u128) -> Result<Recorded, Error> {
    let token = Token::new("So11111111111111111111111111111111111111112").unwrap();
    recorder.record(&Attempt {
        at: Timestamp::now(),
        id: Uuid::from_u128(n),
        strategy: "triangle",
        venue: "raydium",
        token,
        route: Some("raydium>orca"),
        signature: None,
        token_in: token,
        token_out: token,
        amount_in: u64::MAX,
        expected_amount_out: None,
        minimum_amount_out: None,
        expected_price: None,
        expected_profit_lamports: Some(-5),
        slippage_limit_bps: None,
        compute_unit_limit: None,
        priority_fee_lamports: None,
        tip_lamports: None,
        slot_seen: None,
        slot_sent: None,
        last_valid_block_height: None,
        decide_ns: None,
        build_ns: None,
    })
}

/// Polls until `condition` holds; panics with `what` at the deadline.
pub(super) fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

pub(super) fn state(tape: &Tape, class: Importance) -> (SinkState, String) {
    let sinks = tape.sinks();
    let sink = sinks.iter().find(|sink| sink.class == class).unwrap();
    (sink.state, sink.why.clone())
}
