//! Rows through a real QuestDB: what went in comes out, to the last digit, once.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use questdb::ingress::Buffer;
use serde_json::Value as Json;
use tripod::tape::encode::{self, Value};
use tripod::tape::row::AsText;
use tripod::tape::spec::{Kind, TableSpec};
use tripod::tape::tables::{Attempt, Execution, ExecutionStatus, MarketTrade, Performance, Quote, Sample, Side};
use tripod::tape::{Row, schema};
use tripod::{Decimal, Timestamp, Token, Uuid};

use crate::questdb_server::{config, http, send, sender};

const MINT: &str = "So11111111111111111111111111111111111111112";
const SIGNATURE: &str = "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW";
/// 64 bytes that the line protocol or JSON could trip over.
const SYMBOL: &str = "a b,c=d\"e\\f\ng\th'é🦀 null NULL <>&;:/?%#{}[]()|~`!@$^*+-_.0123";
const TEXT: &str = "line\nline\r\n\"quoted\" back\\slash, a=b 'é🦀' \u{7f}\u{1b}[0m\t null";

fn payload<R: Row>(row: &R) -> Vec<u8> {
    let mut payload = vec![0; encode::measure(row).unwrap()];
    encode::fill(row, &mut payload).unwrap();
    payload
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

/// What `/exec` says for a value that arrived as it was.
fn json_of(kind: Kind, value: Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => value.into(),
        Value::Long(value) => value.into(),
        Value::Double(value) => value.into(),
        Value::Decimal(value) => {
            let Kind::Decimal { scale, .. } = kind else { panic!("{kind} holds a decimal") };
            with_scale(value, usize::from(scale)).into()
        }
        Value::Unsigned(value) => value.to_string().into(),
        Value::Timestamp(value) => value.to_string().into(),
        Value::Uuid(value) => value.to_string().into(),
        Value::Symbol(value) | Value::Text(value) => value.into(),
    }
}

/// The decimal as text with exactly `scale` digits after the point; fails where that would cut one.
fn with_scale(value: Decimal, scale: usize) -> String {
    let text = value.normalize().to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    assert!(part.len() <= scale, "{value} has more than {scale} digits");
    if scale == 0 { whole.to_owned() } else { format!("{whole}.{part:0<scale$}") }
}

/// Creates the table, writes the rows twice, and compares what a SELECT says with what the rows say.
fn assert_arrives(prefix: &str, spec: &TableSpec, payloads: &[Vec<u8>]) {
    let http = http();
    let table = spec.server_name(prefix);
    http.exec(&spec.ddl(prefix)).unwrap();
    let mut expected: Vec<Vec<Json>> = payloads
        .iter()
        .map(|payload| {
            let values = encode::decode(spec, payload).unwrap();
            values.into_iter().zip(&spec.columns).map(|(value, column)| json_of(column.kind, value)).collect()
        })
        .collect();
    expected.sort_by_key(|row| serde_json::to_string(row).unwrap());
    for delivery in ["first", "second"] {
        let mut buffer = sender().new_buffer();
        for payload in payloads {
            encode::append_line(spec, &table, payload, &mut buffer).unwrap();
        }
        send(&mut buffer, &table);
        let answer = http.exec(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let types: Vec<_> = answer.columns.iter().map(|(name, kind)| (name.clone(), kind.clone())).collect();
        let wanted: Vec<_> = spec.columns.iter().map(|c| (c.name.clone(), c.kind.to_string())).collect();
        assert_eq!(types, wanted);
        let mut found = answer.rows;
        found.sort_by_key(|row| serde_json::to_string(row).unwrap());
        assert_eq!(found.len(), expected.len(), "{table} after the {delivery} delivery");
        for (found, expected) in found.iter().zip(&expected) {
            for ((found, expected), column) in found.iter().zip(expected).zip(&spec.columns) {
                assert_eq!(found, expected, "{table}.{} after the {delivery} delivery", column.name);
            }
        }
    }
}

/// Everything at its upper end.
fn largest() -> Attempt<'static> {
    Attempt {
        at: Timestamp::now(),
        id: Uuid::from_u128(u128::MAX),
        strategy: SYMBOL,
        venue: "raydium",
        token: token(MINT),
        route: Some("raydium>orca>meteora"),
        signature: Some(SIGNATURE),
        token_in: token(&"x".repeat(64)),
        token_out: token("BTC/USD"),
        amount_in: u64::MAX,
        expected_amount_out: Some(u64::MAX),
        minimum_amount_out: Some(u64::MAX - 1),
        expected_price: Some(decimal("99999999999.999999999999999999")),
        expected_profit_lamports: Some(i64::MAX),
        slippage_limit_bps: Some(decimal("99999999999999.9999")),
        compute_unit_limit: Some(1_400_000),
        priority_fee_lamports: Some(u64::MAX),
        tip_lamports: Some(1 << 63),
        slot_seen: Some(u64::MAX),
        slot_sent: Some(9_007_199_254_740_993),
        last_valid_block_height: Some(1),
        decide_ns: Some(u64::MAX),
        build_ns: Some(2),
    }
}

/// Everything zero, that may be.
fn zero() -> Attempt<'static> {
    Attempt {
        id: Uuid::from_u128(1),
        strategy: "0",
        signature: Some(""),
        amount_in: 0,
        expected_amount_out: Some(0),
        minimum_amount_out: Some(0),
        expected_price: Some(Decimal::ZERO),
        expected_profit_lamports: Some(0),
        slippage_limit_bps: Some(decimal("0.0000000000")),
        compute_unit_limit: Some(0),
        priority_fee_lamports: Some(0),
        tip_lamports: Some(0),
        slot_seen: Some(0),
        ..largest()
    }
}

/// Everything absent, that may be.
fn absent() -> Attempt<'static> {
    Attempt {
        id: Uuid::nil(),
        route: None,
        signature: None,
        expected_amount_out: None,
        minimum_amount_out: None,
        expected_price: None,
        expected_profit_lamports: None,
        slippage_limit_bps: None,
        compute_unit_limit: None,
        priority_fee_lamports: None,
        tip_lamports: None,
        slot_seen: None,
        slot_sent: None,
        last_valid_block_height: None,
        decide_ns: None,
        build_ns: None,
        ..largest()
    }
}

#[test]
fn attempts_arrive_to_the_last_digit_once() {
    let least = Attempt {
        at: Timestamp::MAX,
        expected_profit_lamports: Some(i64::MIN + 1),
        expected_price: Some(decimal("0.000000000000000001")),
        ..largest()
    };
    assert_arrives("a_", Attempt::spec(), &[largest(), zero(), absent(), least].map(|row| payload(&row)));
}

#[test]
fn executions_of_every_status_arrive_to_the_last_digit_once() {
    let now = Timestamp::now();
    let full = Execution {
        attempted_at: Some(Timestamp::EPOCH),
        amount_out: Some(u64::MAX),
        realised_price: Some(decimal("-79228162514.264337593543950335")),
        slippage_bps: Some(decimal("-0.0001")),
        profit_lamports: Some(-1),
        fee_lamports: Some(5000),
        priority_fee_lamports: Some(0),
        tip_lamports: Some(u64::MAX),
        compute_units: Some(200_000),
        slot_landed: Some(u64::MAX),
        error_code: Some(-32_002),
        error: Some(TEXT),
        send_ns: Some(0),
        land_ns: Some(u64::MAX),
        ..Execution::of(&largest(), now, ExecutionStatus::Landed)
    };
    let mut rows = vec![payload(&full), payload(&Execution { error: Some(""), id: Uuid::from_u128(2), ..full })];
    for status in [
        ExecutionStatus::Landed,
        ExecutionStatus::Failed,
        ExecutionStatus::Expired,
        ExecutionStatus::Dropped,
        ExecutionStatus::Simulated,
    ] {
        rows.push(payload(&Execution::of(&absent(), now, status)));
    }
    assert_arrives("e_", Execution::spec(), &rows);
}

#[test]
fn market_trades_and_quotes_arrive_to_the_last_digit_once() {
    let at = Timestamp::now();
    let trade = MarketTrade {
        at,
        venue: "coinbase",
        token: token("BTC-USD"),
        trade_id: "348219411",
        side: Some(Side::Buy),
        price: decimal("87232.01"),
        size: decimal("0.00001"),
        slot: Some(u64::MAX),
        received_at: Some(at),
    };
    let long_id = "i".repeat(96);
    let trades = [
        trade,
        // The same instant, price and size: only the id tells them apart.
        MarketTrade { trade_id: "348219412", ..trade },
        MarketTrade { trade_id: &long_id, side: Some(Side::Sell), price: decimal("0.000000012"), ..trade },
        MarketTrade { trade_id: "", side: None, slot: None, received_at: None, ..trade },
        MarketTrade { venue: SYMBOL, size: Decimal::ZERO, slot: Some(0), ..trade },
    ];
    assert_arrives("m_", MarketTrade::spec(), &trades.map(|row| payload(&row)));

    let quote = Quote {
        at,
        source: "pyth",
        seq: u64::MAX,
        venue: "orca",
        token: token(MINT),
        bid: Some(decimal("79228162514.264337593543950335")),
        bid_size: Some(decimal("1.10")),
        ask: Some(decimal("0.000000000000000001")),
        ask_size: Some(Decimal::ZERO),
        slot: Some(0),
        received_at: Some(Timestamp::MAX),
    };
    let empty_book = Quote { seq: 0, bid: None, bid_size: None, ask: None, ask_size: None, slot: None, ..quote };
    let next = Quote { seq: u64::MAX - 1, received_at: None, ..quote };
    assert_arrives("q_", Quote::spec(), &[quote, empty_book, next].map(|row| payload(&row)));
}

#[test]
fn performance_and_samples_arrive_to_the_last_digit_once() {
    let at = Timestamp::now();
    let books = Performance {
        at,
        source: "bot-1",
        seq: 1,
        strategy: "triangle",
        token: token(MINT),
        quote_token: token("USDC"),
        inventory: decimal("-0.000000000000000001"),
        exposure: Some(decimal("-12345678901.2345")),
        realised_pnl: Some(Decimal::ZERO),
        unrealised_pnl: Some(decimal("1e-18")),
        fees_lamports: Some(u64::MAX),
        attempts: Some(0),
        landed: Some(7),
    };
    let unknown = Performance {
        seq: 2,
        exposure: None,
        realised_pnl: None,
        unrealised_pnl: None,
        fees_lamports: None,
        attempts: None,
        landed: None,
        ..books
    };
    assert_arrives("p_", Performance::spec(), &[books, unknown].map(|row| payload(&row)));

    let sample = Sample { at, source: "bot-1", seq: 0, name: "quote_age_ms", value: 0.1, note: Some(TEXT) };
    let values =
        [f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::from_bits(1), 0.0, -0.0, 1e21, 0.1 + 0.2, 123_456.789_012_345_67];
    let mut rows = vec![payload(&sample), payload(&Sample { seq: 1, note: None, ..sample })];
    rows.extend((2..).zip(values).map(|(seq, value)| payload(&Sample { seq, value, note: Some(""), ..sample })));
    assert_arrives("s_", Sample::spec(), &rows);
}

#[derive(Debug, Clone, Copy)]
enum Colour {
    Red,
}

impl AsText for Colour {
    fn as_text(&self) -> &str {
        "red"
    }
}

/// A bot's own table with every kind of column, made outside the library; the timestamp is not its first field.
#[derive(Debug, Clone, Row)]
#[row(table = "every_kind", importance = "debug", retain_days = 1)]
struct Every {
    /// Told apart by this.
    #[row(key)]
    id: Uuid,
    flag: bool,
    #[row(timestamp)]
    r#when: Timestamp,
    long: i64,
    long_or_none: Option<i64>,
    double: f64,
    double_or_none: Option<f64>,
    #[row(decimal = "38,18")]
    decimal: Decimal,
    #[row(decimal = "18, 9")]
    decimal_or_none: Option<Decimal>,
    unsigned: u64,
    #[row(rename = "u_or_none")]
    unsigned_or_none: Option<u64>,
    instant: Timestamp,
    instant_or_none: Option<Timestamp>,
    uuid_or_none: Option<Uuid>,
    token: Token,
    token_or_none: Option<Token>,
    #[row(symbol)]
    symbol: String,
    #[row(symbol)]
    colour: Option<Colour>,
    #[row(text = 300)]
    text: String,
    #[row(text = 65535)]
    text_or_none: Option<String>,
}

fn instants() -> impl Strategy<Value = Timestamp> {
    (0..=Timestamp::MAX.as_nanos()).prop_map(|nanos| Timestamp::from_nanos(nanos).unwrap())
}

fn decimals(digits: u32, scale: u32) -> impl Strategy<Value = Decimal> {
    let most = 10_i128.pow(digits) - 1;
    (-most..=most, 0..=scale).prop_map(|(mantissa, scale)| Decimal::from_i128_with_scale(mantissa, scale))
}

fn texts(bytes: usize) -> impl Strategy<Value = String> {
    any::<String>().prop_map(move |mut text| {
        text.retain(|c| c != '\0');
        while text.len() > bytes {
            text.pop();
        }
        text
    })
}

fn longs() -> impl Strategy<Value = i64> {
    i64::MIN + 1..=i64::MAX
}

fn doubles() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("QuestDB has no infinity", |value| value.is_finite())
}

fn every() -> impl Strategy<Value = Every> {
    use prop::option::of;
    let tokens = "[A-Za-z0-9./_-]{1,64}".prop_map(|text| token(&text));
    let symbols = texts(64).prop_filter("empty", |text| !text.is_empty());
    let numbers = (longs(), of(longs()), doubles(), of(doubles()), decimals(20, 18), of(decimals(9, 9)));
    let times = (instants(), of(instants()));
    let words = (tokens.clone(), of(tokens), symbols, of(Just(Colour::Red)), texts(300), of(texts(65_535)));
    (any::<(u128, bool, u64)>(), of(any::<u64>()), of(any::<u128>()), numbers, times, words).prop_map(
        |((id, flag, unsigned), unsigned_or_none, uuid, numbers, times, words)| Every {
            id: Uuid::from_u128(id),
            flag,
            r#when: Timestamp::now(),
            long: numbers.0,
            long_or_none: numbers.1,
            double: numbers.2,
            double_or_none: numbers.3,
            decimal: numbers.4,
            decimal_or_none: numbers.5,
            unsigned,
            unsigned_or_none,
            instant: times.0,
            instant_or_none: times.1,
            uuid_or_none: uuid.map(Uuid::from_u128),
            token: words.0,
            token_or_none: words.1,
            symbol: words.2,
            colour: words.3,
            text: words.4,
            text_or_none: words.5,
        },
    )
}

#[test]
fn random_rows_of_a_bots_own_table_arrive_to_the_last_digit_once() {
    let spec = Every::spec();
    spec.check().unwrap();
    assert_eq!(spec.columns[0].name, "when", "the designated timestamp stands first, wherever the field is");
    assert_eq!(spec.columns[1].doc, "Told apart by this.");
    // The journal's way: the spec travels as JSON, and the bot's code is not there.
    let travelled = TableSpec::from_json(&spec.to_json().unwrap()).unwrap();
    let mut runner = TestRunner::default();
    let strategy = every();
    let rows: Vec<_> = (0..500).map(|_| payload(&strategy.new_tree(&mut runner).unwrap().current())).collect();
    assert_arrives("r_", &travelled, &rows);
}

#[test]
fn null_empty_and_zero_stay_three_things() {
    let http = http();
    http.exec(&Attempt::spec().ddl("n_")).unwrap();
    let mut buffer = sender().new_buffer();
    for row in [zero(), absent()] {
        encode::append_line(Attempt::spec(), "n_attempts", &payload(&row), &mut buffer).unwrap();
    }
    send(&mut buffer, "n_attempts");
    let count = |condition: &str| {
        let rows = http.exec(&format!("SELECT count() FROM n_attempts WHERE {condition}")).unwrap().rows;
        rows[0][0].as_u64().unwrap()
    };
    assert_eq!(count("signature = ''"), 1);
    assert_eq!(count("signature IS NULL"), 1);
    assert_eq!(count("expected_price = 0m"), 1);
    assert_eq!(count("expected_price IS NULL"), 1);
    assert_eq!(count("slot_seen = 0m"), 1);
    assert_eq!(count("slot_seen IS NULL"), 1);
    assert_eq!(count("expected_profit_lamports = 0"), 1);
    assert_eq!(count("expected_profit_lamports IS NULL"), 1);
}

/// What the checks of `measure` are for: the line protocol takes it, and something else is stored.
#[test]
fn a_decimal_that_is_only_wide_because_of_zeros_is_kept_not_refused() {
    let row = Sample { at: Timestamp::now(), source: "z", seq: 1, name: "n", value: 1.0, note: None };
    assert!(encode::measure(&Sample { value: f64::NAN, ..row }).is_err());
    let trade = MarketTrade {
        at: Timestamp::now(),
        venue: "v",
        token: token("T"),
        trade_id: "1",
        side: None,
        price: decimal("1.2500000000000000000000000000"),
        size: decimal("99999999999.000000000000000000"),
        slot: None,
        received_at: None,
    };
    assert_arrives("z_", MarketTrade::spec(), &[payload(&trade)]);
}

#[test]
fn a_wrong_login_is_refused_by_name_and_shown_nowhere() {
    let mut config = config();
    config.password = "wrong-hunter2".to_owned().into();
    let http = tripod::tape::questdb::QuestDbHttp::new(&config, crate::questdb_server::DEADLINE).unwrap();
    let error = http.exec("SELECT 1").unwrap_err();
    assert!(matches!(&error, tripod::Error::Refused { code: Some(code), .. } if code == "401"), "{error:?}");
    let builder = tripod::tape::questdb::QuestDbHttp::sender_conf(&config, crate::questdb_server::DEADLINE).unwrap();
    let mut sender = builder.build().unwrap();
    assert!(!format!("{builder:?} {sender:?} {error:?} {http:?}").contains("hunter2"));
    let mut buffer = Buffer::new(questdb::ingress::ProtocolVersion::V3);
    let row = payload(&absent());
    encode::append_line(Attempt::spec(), "attempts", &row, &mut buffer).unwrap();
    let error = sender.flush(&mut buffer).unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!(error.code(), questdb::ErrorCode::AuthError);
}

#[test]
fn the_server_says_its_version_and_where_a_statement_is_wrong() {
    let http = http();
    assert_eq!(http.version().unwrap(), "9.3.4");
    let error = http.exec("SELECT 1 FROM nowhere").unwrap_err().to_string();
    assert_eq!(error, "QuestDB refused: table does not exist [table=nowhere] (at 14)");
    let rows = http.exec("SELECT 9223372036854775807, '50% & \"more\" + é', 1.5m, null").unwrap();
    assert_eq!(rows.rows, [[Json::from(i64::MAX), "50% & \"more\" + é".into(), "1.5".into(), Json::Null]]);
}

#[test]
fn every_builtin_table_is_made_by_one_plan_and_then_as_specified() {
    let http = http();
    let specs = tripod::tape::tables::builtin();
    let plan = schema::plan(&schema::read_live(&http).unwrap(), specs.iter().copied(), "b_");
    assert!(plan.iter().all(|action| action.action == schema::ActionKind::Create), "{plan:?}");
    assert_eq!(schema::apply(&http, &plan).unwrap(), specs.len());
    let plan = schema::plan(&schema::read_live(&http).unwrap(), specs, "b_");
    assert!(plan.iter().all(|action| action.action == schema::ActionKind::None), "{plan:?}");
    assert_eq!(schema::apply(&http, &plan).unwrap(), 0);
}
