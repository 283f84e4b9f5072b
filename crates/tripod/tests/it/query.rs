//! Reading back, against a real QuestDB: every answer is compared with what was recorded, digit for digit.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tripod::tape::query::{Limits, Reader, Span};
use tripod::tape::tables::{self, Attempt, Execution, ExecutionStatus, MarketTrade, Side};
use tripod::tape::{Tape, schema};
use tripod::{Config, Decimal, Error, Server, Timestamp, Token, Uuid};
use tripod_stack::{ServerName, Servers, TestStack};

use crate::questdb_server::{DEADLINE, config, http};

const DAY: Duration = Duration::from_hours(24);

/// Tables and journals of a test's own, on the server that all share.
struct Rig {
    config: Config,
    _journals: TempDir,
}

impl Rig {
    fn new(name: &str) -> Self {
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
    fn record(&self, record: impl FnOnce(&tripod::tape::Recorder)) {
        let tape = Tape::open(&self.config).unwrap();
        record(&tape.recorder());
        assert!(tape.wait_visible(DEADLINE).unwrap(), "{:?}", tape.sinks());
    }

    fn reader(&self, change: impl FnOnce(&mut Limits)) -> Reader {
        let mut limits = Limits::default();
        limits.deadline = DEADLINE;
        change(&mut limits);
        Reader::open(&self.config, limits).unwrap()
    }
}

/// A nanosecond of the present hour that no rounding leaves as it is.
fn now() -> Timestamp {
    let hour = Timestamp::now().as_nanos() / 3_600_000_000_000 * 3_600_000_000_000;
    Timestamp::from_nanos(hour - 3_600_000_000_000 + 123_456_789).unwrap()
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap()
}

fn around(at: Timestamp) -> Span {
    Span::new(at.checked_sub(DAY).unwrap(), later(at, DAY)).unwrap()
}

fn token(name: &str) -> Token {
    Token::new(name).unwrap()
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// Every column set, each to something that a lossy way would change.
fn full<'a>(at: Timestamp, id: Uuid) -> (Attempt<'a>, Execution<'a>) {
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

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_comes_back_as_it_was_recorded_in_every_column() {
    let rig = Rig::new("queryround");
    let at = now();
    // One id tells its time, one does not, and one tells a time at which nothing is.
    let ids = [Uuid::now_v7(), Uuid::from_u128(5), Uuid::now_v7(), Uuid::from_u128(6)];
    let (attempt, full) = full(Timestamp::now(), ids[0]);
    let bare = Execution::of(&Attempt::new(ids[1], at, "s", "v", token("BONK")), at, ExecutionStatus::Simulated);
    let displaced = Execution { id: ids[2], at: at.checked_sub(DAY * 3).unwrap(), ..full };
    let empty_text = Execution { id: ids[3], error: Some(""), fee_lamports: None, ..full };
    let recorded = [full, bare, displaced, empty_text];
    rig.record(|recorder| {
        recorder.record(&attempt).unwrap();
        for execution in &recorded {
            recorder.record(execution).unwrap();
        }
    });
    let reader = rig.reader(|_| {});
    for execution in &recorded {
        let found = reader.execution(execution.id).await.unwrap().unwrap();
        assert_eq!(found.as_row(), *execution);
    }
    assert_eq!(reader.execution(Uuid::now_v7()).await.unwrap(), None);
    assert_eq!(reader.execution(Uuid::from_u128(99)).await.unwrap(), None);

    let exactly = |from, until| Span::new(from, until).unwrap();
    let next = |at| later(at, Duration::from_nanos(1));
    let one = reader.executions_in(exactly(bare.at, next(bare.at))).await.unwrap();
    assert_eq!(one.rows.iter().map(|row| row.as_row()).collect::<Vec<_>>(), [bare], "a span of one nanosecond");
    assert!(
        reader
            .executions_in(exactly(next(bare.at), later(bare.at, Duration::from_secs(1))))
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    let all = reader.executions_in(Span::last(DAY * 5)).await.unwrap();
    assert_eq!(all.rows.iter().map(|row| row.id).take(2).collect::<Vec<_>>(), [displaced.id, bare.id], "oldest first");
    assert_eq!((all.rows.len(), all.truncated), (4, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_executions_of_a_token_are_the_newest_and_the_cut_is_said() {
    let rig = Rig::new("querylast");
    let base = now();
    rig.record(|recorder| {
        for n in 0..50_u32 {
            let name = if n % 2 == 0 { "SOL" } else { "JUP" };
            let at = later(base, Duration::from_nanos(u64::from(n)));
            let attempt = Attempt::new(Uuid::from_u128(n.into()), at, "s", "v", token(name));
            recorder.record(&Execution::of(&attempt, at, ExecutionStatus::Landed)).unwrap();
        }
    });
    let reader = rig.reader(|limits| limits.rows_max = 20);
    let ids = |answer: &tripod::tape::query::Answer<tripod::tape::query::StoredExecution>| {
        answer.rows.iter().map(|row| row.id.as_u128()).collect::<Vec<_>>()
    };
    let last = reader.executions_of(token("SOL"), 3).await.unwrap();
    assert_eq!((ids(&last), last.truncated), (vec![48, 46, 44], true));
    let limited = reader.executions_of(token("JUP"), 1_000).await.unwrap();
    assert_eq!((ids(&limited)[19], limited.rows.len(), limited.truncated), (11, 20, true), "the reader's own limit");
    let span = reader.executions_in(around(base)).await.unwrap();
    assert_eq!((ids(&span), span.truncated), ((0..20).collect(), true));
    let all = rig.reader(|limits| limits.rows_max = 50).executions_in(around(base)).await.unwrap();
    assert_eq!((all.rows.len(), all.truncated), (50, false), "exactly the limit is not cut");
    assert!(reader.executions_of(token("none"), 5).await.unwrap().rows.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_without_an_end_are_those_whose_execution_is_missing() {
    let rig = Rig::new("queryopen");
    let base = now();
    let (with_all, _) = full(later(base, Duration::from_secs(7)), Uuid::from_u128(7));
    rig.record(|recorder| {
        for n in 0..20_u64 {
            let at = later(base, Duration::from_secs(n));
            let attempt = match n {
                7 => with_all,
                _ => Attempt::new(Uuid::from_u128(n.into()), at, "s", "v", token("SOL")),
            };
            recorder.record(&attempt).unwrap();
            if n % 3 != 1 {
                // Long after, and even before by a clock that was set back.
                let end = if n == 3 { at.checked_sub(Duration::from_secs(30)).unwrap() } else { later(at, DAY / 2) };
                recorder.record(&Execution::of(&attempt, end, ExecutionStatus::Landed)).unwrap();
            }
        }
    });
    let reader = rig.reader(|_| {});
    let open = reader.attempts_without_end(around(base)).await.unwrap();
    let ids: Vec<_> = open.rows.iter().map(|row| row.id.as_u128()).collect();
    assert_eq!((ids, open.truncated), (vec![1, 4, 7, 10, 13, 16, 19], false));
    assert_eq!(open.rows[2].as_row(), with_all);
    let part = Span::new(later(base, Duration::from_secs(4)), later(base, Duration::from_secs(10))).unwrap();
    let ids: Vec<_> =
        reader.attempts_without_end(part).await.unwrap().rows.iter().map(|row| row.id.as_u128()).collect();
    assert_eq!(ids, [4, 7], "from is included, until is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn candles_are_what_the_trades_come_to() {
    let rig = Rig::new("querycandle");
    let base = now();
    let trades: Vec<(Timestamp, &str, Decimal, Decimal)> = (0..400_i64)
        .map(|n| {
            let at = later(base, Duration::from_millis(u64::try_from(n).unwrap() * 777));
            // A minute without a trade, prices that go up and down, digits to the end.
            let at = if n > 200 { later(at, Duration::from_secs(90)) } else { at };
            let price = Decimal::from_i128_with_scale(i128::from((n * 7919) % 1009 + 1) * 1_000_000_000_001, 18);
            (at, ["orca", "raydium"][usize::try_from(n % 2).unwrap()], price, Decimal::new(n + 1, 18))
        })
        .collect();
    rig.record(|recorder| {
        for (n, (at, venue, price, size)) in trades.iter().enumerate() {
            for market in ["SOLUSDT", "OTHER"] {
                let trade = MarketTrade {
                    at: *at,
                    venue,
                    token: token(market),
                    trade_id: &n.to_string(),
                    side: Some(Side::Buy),
                    price: *price,
                    size: *size,
                    slot: None,
                    received_at: None,
                };
                recorder.record(&trade).unwrap();
            }
        }
    });
    let reader = rig.reader(|_| {});
    for (venue, seconds) in [(None, 60), (Some("orca"), 60), (None, 1), (Some("raydium"), 3600), (Some("nowhere"), 60)]
    {
        let mut expected: BTreeMap<i64, Vec<(Decimal, Decimal)>> = BTreeMap::new();
        for (at, on, price, size) in &trades {
            if venue.is_none_or(|venue| venue == *on) {
                let width = seconds * 1_000_000_000;
                expected.entry(at.as_nanos() / width * width).or_default().push((*price, *size));
            }
        }
        let every = Duration::from_secs(u64::try_from(seconds).unwrap());
        let answer = reader.candles(token("SOLUSDT"), venue, around(base), every).await.unwrap();
        let found: Vec<_> =
            answer.rows.iter().map(|c| (c.at.as_nanos(), c.open, c.high, c.low, c.close, c.volume, c.trades)).collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(at, trades)| {
                let prices = || trades.iter().map(|(price, _)| *price);
                let volume: Decimal = trades.iter().map(|(_, size)| *size).sum();
                let (high, low) = (prices().max().unwrap(), prices().min().unwrap());
                let count = u64::try_from(trades.len()).unwrap();
                (at, prices().next().unwrap(), high, low, prices().next_back().unwrap(), volume, count)
            })
            .collect();
        assert_eq!(found, expected, "{venue:?} {seconds}");
    }
    let wrong = reader.candles(token("SOLUSDT"), None, around(base), Duration::from_millis(1500)).await.unwrap_err();
    assert!(matches!(wrong, Error::Invalid { .. }), "{wrong:?}");
    let quoted = reader.candles(token("SOLUSDT"), Some("x' OR '1'='1"), around(base), Duration::from_secs(60)).await;
    assert!(quoted.unwrap().rows.is_empty(), "a parameter is no SQL");
}

#[tokio::test(flavor = "multi_thread")]
async fn execution_quality_adds_up_to_what_was_recorded() {
    let rig = Rig::new("queryquality");
    let base = now();
    let statuses = ["landed", "failed", "expired", "dropped", "simulated"];
    let rows: Vec<_> = (0..120_i64)
        .map(|n| {
            // Two hours, two strategies, two venues; a strategy without fees in the second hour.
            let at = later(base, Duration::from_secs(if n < 60 { 10 } else { 3_700 } + u64::try_from(n).unwrap()));
            let (strategy, venue) =
                (["arb", "snipe"][usize::from(n % 2 == 0)], ["orca", "raydium"][usize::from(n % 3 == 0)]);
            let attempt = Attempt::new(Uuid::from_u128(n.unsigned_abs().into()), at, strategy, venue, token("SOL"));
            let bare = n >= 60 && strategy == "arb";
            Execution {
                fee_lamports: (!bare).then_some(u64::MAX / 1_000 + n.unsigned_abs()),
                tip_lamports: (n % 5 == 0).then_some(n.unsigned_abs()),
                profit_lamports: (!bare).then_some(50 - n),
                slippage_bps: (!bare && n % 4 != 0).then_some(Decimal::new(n * 31 - 1_000, 4)),
                ..Execution::of(&attempt, at, statuses[usize::try_from(n % 5).unwrap()].parse().unwrap())
            }
        })
        .collect();
    rig.record(|recorder| {
        for row in &rows {
            recorder.record(row).unwrap();
        }
    });
    let mut expected: BTreeMap<(i64, &str, &str), Vec<&Execution<'_>>> = BTreeMap::new();
    for row in &rows {
        let hour = row.at.as_nanos() / 3_600_000_000_000 * 3_600_000_000_000;
        expected.entry((hour, row.strategy, row.venue)).or_default().push(row);
    }
    let answer = rig.reader(|_| {}).execution_quality(around(base)).await.unwrap();
    assert_eq!((answer.rows.len(), answer.truncated), (expected.len(), false));
    for (found, ((hour, strategy, venue), rows)) in answer.rows.iter().zip(&expected) {
        assert_eq!((found.hour.as_nanos(), found.strategy.as_str(), found.venue.as_str()), (*hour, *strategy, *venue));
        let count = |status: &str| {
            let status: ExecutionStatus = status.parse().unwrap();
            u64::try_from(rows.iter().filter(|row| row.status == status).count()).unwrap()
        };
        let counts = [found.landed, found.failed, found.expired, found.dropped, found.simulated];
        assert_eq!(counts, statuses.map(count));
        assert_eq!(found.executions, counts.iter().sum::<u64>());
        let sum = |of: fn(&Execution<'_>) -> Option<u64>| rows.iter().filter_map(|row| of(row)).reduce(|a, b| a + b);
        assert_eq!(found.fee_lamports, sum(|row| row.fee_lamports), "none is not zero");
        assert_eq!(found.tip_lamports, sum(|row| row.tip_lamports));
        let profits = rows.iter().filter_map(|row| row.profit_lamports).reduce(|a, b| a + b);
        assert_eq!(found.profit_lamports, profits);
        let slippages: Vec<_> = rows.iter().filter_map(|row| row.slippage_bps).collect();
        let slippage = found.slippage.map(|s| (s.executions, s.sum_bps, s.min_bps, s.max_bps));
        let wanted = (!slippages.is_empty()).then(|| {
            let (min, max) = (slippages.iter().min().unwrap(), slippages.iter().max().unwrap());
            (u64::try_from(slippages.len()).unwrap(), slippages.iter().sum(), *min, *max)
        });
        assert_eq!(slippage, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn win_rates_count_each_route_of_each_hour() {
    let rig = Rig::new("querywins");
    let base = now();
    let (statuses, routes) = (["landed", "failed", "simulated"], [Some("orca"), Some("raydium>orca"), None]);
    let rows: Vec<_> = (0..90_u64)
        .map(|n| {
            let at = later(base, Duration::from_secs(if n < 40 { 10 } else { 3_700 } + n));
            let [status, route, part] = [n % 7 % 3, n / 3 % 3, n % 2].map(|index| usize::try_from(index).unwrap());
            let attempt = Attempt {
                route: routes[route],
                ..Attempt::new(Uuid::from_u128(n.into()), at, ["arb", "snipe"][part], "orca", token("SOL"))
            };
            Execution {
                // A route without any profit, one with it in some rows only.
                profit_lamports: (routes[route].is_some() && n % 5 != 0).then(|| 40 - i64::try_from(n).unwrap()),
                ..Execution::of(&attempt, at, statuses[status].parse().unwrap())
            }
        })
        .collect();
    rig.record(|recorder| {
        for row in &rows {
            recorder.record(row).unwrap();
        }
    });
    type Counts = (u64, u64, u64, Option<i64>);
    let mut expected: BTreeMap<(i64, Option<String>), Counts> = BTreeMap::new();
    for row in &rows {
        let hour = row.at.as_nanos() / 3_600_000_000_000 * 3_600_000_000_000;
        let counts = expected.entry((hour, row.route.map(str::to_owned))).or_default();
        counts.0 += 1;
        counts.1 += u64::from(row.status == ExecutionStatus::Landed);
        counts.2 += u64::from(row.status == ExecutionStatus::Simulated);
        counts.3 = row.profit_lamports.map(|profit| profit + counts.3.unwrap_or(0)).or(counts.3);
    }
    let answer = rig.reader(|_| {}).win_rates(around(base)).await.unwrap();
    assert!(!answer.truncated && answer.rows.is_sorted_by_key(|rate| rate.hour), "{answer:?}");
    for rate in &answer.rows {
        let sent = rate.executions - rate.simulated;
        assert_eq!(rate.landed_share(), Decimal::from(rate.landed).checked_div(Decimal::from(sent)));
    }
    let found: BTreeMap<_, _> = answer
        .rows
        .into_iter()
        .map(|rate| {
            let counts: Counts = (rate.executions, rate.landed, rate.simulated, rate.profit_lamports);
            ((rate.hour.as_nanos(), rate.route), counts)
        })
        .collect();
    assert_eq!(found, expected);
    let cut = rig.reader(|limits| limits.rows_max = 2).win_rates(around(base)).await.unwrap();
    assert_eq!((cut.rows.len(), cut.truncated), (2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_keeps_every_digit_is_cut_where_asked_and_never_writes() {
    let rig = Rig::new("queryplain");
    let (_, execution) = full(now(), Uuid::from_u128(1));
    rig.record(|recorder| {
        recorder.record(&execution).unwrap();
        for n in 2..12 {
            recorder.record(&Execution { id: Uuid::from_u128(n), ..execution }).unwrap();
        }
    });
    let reader = rig.reader(|_| {});
    let exact = "SELECT at, amount_in, realised_price, profit_lamports, error FROM queryplain_executions";
    let table = reader.sql(exact, 3).await.unwrap();
    assert_eq!((table.rows.len(), table.truncated), (3, true));
    let types: Vec<_> = table.columns.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(types, ["TIMESTAMP_NS", "DECIMAL(20,0)", "DECIMAL(38,18)", "LONG", "VARCHAR"]);
    assert_eq!(table.rows[0][0], execution.at.to_string());
    assert_eq!(table.rows[0][1], u64::MAX.to_string());
    assert_eq!(table.rows[0][2], "0.000000000000000001");
    assert_eq!(table.rows[0][3], i64::MAX);
    assert_eq!(table.rows[0][4], execution.error.unwrap());
    let all = reader.sql(exact, 11).await.unwrap();
    assert_eq!((all.rows.len(), all.truncated), (11, false));

    for order in [
        "WITH x AS (SELECT 1) UPDATE queryplain_executions SET profit_lamports = 1",
        "INSERT INTO queryplain_executions(at) VALUES (now())",
        "DROP TABLE queryplain_executions",
    ] {
        assert!(matches!(reader.sql(order, 10).await, Err(Error::Invalid { .. })), "{order}");
    }
    let refused = reader.sql("SELECT 1; DROP TABLE queryplain_executions", 10).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused:?}");
    assert_eq!(reader.sql(exact, 100).await.unwrap(), all, "nothing has changed");
    let wrong = reader.sql("SELECT nothing FROM queryplain_executions", 10).await.unwrap_err();
    assert!(wrong.to_string().contains("nothing"), "not the server's words: {wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_takes_too_long_ends_at_its_deadline_on_the_server_too() {
    let rig = Rig::new("queryslow");
    // The table of a prefix of its own is an endless view.
    http()
        .exec(
            "CREATE VIEW queryendless_executions AS (SELECT (x*1000)::timestamp_ns at, 's'::symbol strategy, \
             'v'::symbol venue, 'landed'::symbol status, 1::decimal(20,0) fee_lamports, \
             1::decimal(20,0) tip_lamports, 1L profit_lamports, 1::decimal(18,4) slippage_bps \
             FROM long_sequence(500000000000))",
        )
        .unwrap();
    let mut limits = Limits::default();
    limits.deadline = Duration::from_millis(600);
    let reader = Reader::open_on(&rig.config.questdb[0], "queryendless_", limits).unwrap();
    let span = Span::new(Timestamp::EPOCH, Timestamp::now()).unwrap();
    let asked = Instant::now();
    let (typed, plain) = tokio::join!(
        reader.execution_quality(span),
        reader.sql("SELECT sum(profit_lamports % 7) FROM queryendless_executions", 10)
    );
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    for error in [typed.unwrap_err(), plain.unwrap_err()] {
        assert!(matches!(error, Error::Deadline { server: Server::QuestDb, .. }), "{error:?}");
    }
    // Nobody waits for them any more, and the server does not go on with them.
    let started = Instant::now();
    let running =
        "SELECT count() FROM query_activity() WHERE query LIKE '%queryendless%' AND query NOT LIKE '%activity%'";
    while http().exec(running).unwrap().rows[0][0] != 0 {
        assert!(started.elapsed() < DEADLINE, "the server still works on a question that was given up");
    }
    http().exec("DROP VIEW queryendless_executions").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_has_its_type_within_the_deadline() {
    let rig = Rig::new("queryfail");
    let id = Uuid::from_u128(1);
    let mut limits = Limits::default();
    limits.deadline = Duration::from_millis(700);
    let server = rig.config.questdb[0].clone();

    let missing = Reader::open_on(&server, "nosuchprefix_", limits).unwrap().execution(id).await.unwrap_err();
    assert!(matches!(missing, Error::Schema { .. }) && missing.to_string().contains("tripod migrate"), "{missing:?}");

    let mut login = server.clone();
    login.password = "wrong".to_owned().into();
    let reader = Reader::open_on(&login, "queryfail_", limits).unwrap();
    for error in [reader.execution(id).await.unwrap_err(), reader.sql("SELECT 1", 1).await.unwrap_err()] {
        assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("password"), "{error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "the password: {error:?}");
    }

    // Takes the connection and says nothing, as a frozen server does.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut frozen = server.clone();
    (frozen.pg, frozen.http) = (address.clone(), address.clone());
    let reader = Reader::open_on(&frozen, "queryfail_", limits).unwrap();
    let asked = Instant::now();
    let (typed, plain) = tokio::join!(reader.execution(id), reader.sql("SELECT 1", 1));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    for error in [typed.unwrap_err(), plain.unwrap_err()] {
        assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    }

    drop(silent);
    for error in [reader.execution(id).await.unwrap_err(), reader.sql("SELECT 1", 1).await.unwrap_err()] {
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_questions_than_may_be_asked_at_a_time_wait_their_turn_and_a_dropped_one_gives_its_turn_back() {
    let rig = Rig::new("queryturns");
    let reader = rig.reader(|limits| limits.concurrent_max = 1);
    let abandoned = tokio::time::timeout(Duration::from_micros(300), reader.execution_quality(around(now()))).await;
    drop(abandoned);
    let asked = (0..12_u32).map(|n| {
        let reader = reader.clone();
        tokio::spawn(async move {
            match n % 2 {
                0 => reader.execution(Uuid::from_u128(n.into())).await.map(|found| found.is_none()),
                _ => reader.sql("SELECT 1", 1).await.map(|table| table.rows.len() == 1),
            }
        })
    });
    for answer in asked.collect::<Vec<_>>() {
        assert!(answer.await.unwrap().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_asked_again_without_a_new_reader() {
    let stack = TestStack::start(Servers::only(ServerName::QuestDb)).unwrap();
    let server = Config::load_with(&stack.config_path(), []).unwrap().questdb.remove(0);
    let mut limits = Limits::default();
    limits.deadline = Duration::from_secs(3);
    let reader = Reader::open_on(&server, "", limits).unwrap();
    let id = Uuid::from_u128(1);
    assert!(matches!(reader.execution(id).await, Err(Error::Schema { .. })), "it answers: there is no such table");
    stack.kill(ServerName::QuestDb).unwrap();
    assert!(matches!(reader.execution(id).await, Err(Error::Unreachable { .. })));
    stack.start_server(ServerName::QuestDb).unwrap();
    assert!(matches!(reader.execution(id).await, Err(Error::Schema { .. })));
}
