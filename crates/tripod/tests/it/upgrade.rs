//! Upgrades: journals that older releases have left with rows in them, and databases that older schemas have filled.
//!
//! `fixtures/journal-N.tar.gz` is a journal of format N, as a kill -9 left it; see the README there. What its rows hold is
//! made again here from their numbers.

mod schema;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tripod::tape::spec::TableSpec;
use tripod::tape::tables::{self, Attempt, MarketTrade};
use tripod::tape::{Deliverer, Row, Tape, schema as questdb_schema};
use tripod::{Config, Decimal, Timestamp, Token, Uuid, ledger};
use tripod_stack::ServerName;

use crate::delivery::rig::{LONG, Rig};

/// Rows of each table; of these so many were visible on another server when their bot was killed.
const ROWS: u64 = 1000;
const DELIVERED: u64 = 300;
/// The year 2200: rows of a fixture must not expire.
const BASE: i64 = 7_258_118_400_000_000_000;
/// The bot.
const BOT: &str = "fixture";

/// A column of every kind. It stays as it is; a later release's rows of other kinds belong into the next fixture.
#[derive(Debug, Clone, Copy, Row)]
#[row(table = "every_kind", importance = "standard", retain_days = 30)]
struct EveryKind<'a> {
    /// When.
    #[row(timestamp)]
    at: Timestamp,
    /// Which.
    #[row(key)]
    id: Uuid,
    /// A symbol.
    #[row(key, symbol)]
    venue: &'a str,
    /// Its number.
    number: i64,
    /// All of u64.
    units: u64,
    /// A price.
    #[row(decimal = "38,18")]
    price: Decimal,
    /// A float.
    ratio: f64,
    /// A flag.
    flag: bool,
    /// Sometimes absent.
    seen_at: Option<Timestamp>,
    /// A token.
    token: Token,
    /// Sometimes absent; with what a protocol may trip over.
    #[row(text = 64)]
    note: Option<&'a str>,
}

fn at(n: u64) -> Timestamp {
    Timestamp::from_nanos(BASE + i64::try_from(n).unwrap() * 1_000_003).unwrap()
}

fn every_kind(n: u64) -> EveryKind<'static> {
    let small = i64::try_from(n).unwrap();
    EveryKind {
        at: at(n),
        id: Uuid::from_u128(u128::from(n) << 64 | 7),
        venue: ["orca", "raydium", "p\u{fc}ml"][usize::try_from(n % 3).unwrap()],
        number: small - 500,
        units: u64::MAX - n,
        price: Decimal::new(small * 1_000_001 + 1, 18),
        ratio: f64::from(u32::try_from(n).unwrap()) / 7.0,
        flag: n.is_multiple_of(2),
        seen_at: (!n.is_multiple_of(5)).then(|| at(n).checked_add(Duration::from_nanos(n)).unwrap()),
        token: Token::new(["So11111111111111111111111111111111111111112", "SOL-USDC"][usize::from(n % 2 == 1)])
            .unwrap(),
        note: [None, Some("a b,c=d\"e\\f"), Some("line\nline"), Some("'\u{1f980}' null")]
            [usize::try_from(n % 4).unwrap()],
    }
}

fn attempt(n: u64) -> Attempt<'static> {
    let token = Token::new("So11111111111111111111111111111111111111112").unwrap();
    Attempt { amount_in: n, ..Attempt::new(Uuid::from_u128(u128::from(n) + 1), at(n), "triangle", "raydium", token) }
}

fn trade(n: u64, id: &str) -> MarketTrade<'_> {
    MarketTrade {
        at: at(n),
        venue: "orca",
        token: Token::new("SOL-USDC").unwrap(),
        trade_id: id,
        side: None,
        price: Decimal::new(15_000 + i64::try_from(n).unwrap(), 2),
        size: Decimal::from(n),
        slot: Some(n),
        received_at: None,
    }
}

/// Whether the server's answer is this row, to the last digit.
fn holds(row: &EveryKind<'_>, cells: &[Value]) -> bool {
    let [at, id, venue, number, units, price, ratio, flag, seen_at, token, note] = cells else { return false };
    at.as_i64() == Some(row.at.as_nanos())
        && id.as_str() == Some(&*row.id.to_string())
        && venue.as_str() == Some(row.venue)
        && number.as_i64() == Some(row.number)
        && units.as_str() == Some(&*row.units.to_string())
        && price.as_str().and_then(|text| text.parse::<Decimal>().ok()) == Some(row.price)
        && ratio.as_f64().map(f64::to_bits) == Some(row.ratio.to_bits())
        && flag.as_bool() == Some(row.flag)
        && seen_at.as_i64() == row.seen_at.map(Timestamp::as_nanos)
        && token.as_str() == Some(row.token.as_str())
        && note.as_str() == row.note
}

const SELECTED: &str = "at::long, id, venue, number, units, price, ratio, flag, seen_at::long, token, note";

/// Makes the tables.
fn migrate(rig: &Rig) {
    let http = rig.http();
    let specs: Vec<&TableSpec> = tables::builtin().iter().copied().chain([EveryKind::spec()]).collect();
    let live = questdb_schema::read_live(&http).unwrap();
    let plan = questdb_schema::plan(&live, specs, &rig.config.tape.table_prefix);
    questdb_schema::apply(&http, &plan).unwrap();
}

fn unpack(fixture: &str, into: &Path) {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    let done = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(into).status().unwrap();
    assert!(done.success());
}

/// Every row is on the server, once, as it was recorded.
fn all_there(rig: &Rig, config: &Config) {
    for table in ["attempts", "market_trades", "every_kind"] {
        let name = rig.table(table);
        assert_eq!(rig.ask(&format!("SELECT count() FROM {name}")), [ROWS.to_string()], "{table}");
    }
    let sum = ROWS * (ROWS - 1) / 2;
    let attempts = rig.ask(&format!("SELECT sum(amount_in)::long, count_distinct(id) FROM {}", rig.table("attempts")));
    assert_eq!(attempts, [sum.to_string(), ROWS.to_string()]);
    let trades = format!("SELECT sum(size)::long, count_distinct(trade_id) FROM {}", rig.table("market_trades"));
    assert_eq!(rig.ask(&trades), [sum.to_string(), ROWS.to_string()]);
    let sql = format!("SELECT {SELECTED} FROM {} ORDER BY number", rig.table("every_kind"));
    let answer = rig.http().exec(&sql).unwrap();
    for (n, cells) in (0..).zip(&answer.rows) {
        assert!(holds(&every_kind(n), cells), "row {n}: {cells:?}");
    }
    let ledger = ledger::of(config).unwrap();
    for table in ["attempts", "market_trades", "every_kind"] {
        let row = ledger.iter().find(|row| row.table == table).unwrap();
        assert!(row.adds_up && row.recorded == ROWS && row.visible == ROWS, "{row:?}");
    }
}

#[test]
fn a_journal_that_an_older_release_left_is_delivered_row_for_row() {
    let rig = Rig::start("upgrade");
    migrate(&rig);
    let journals = tempfile::tempdir().unwrap();
    unpack("journal-1.tar.gz", journals.path());
    let mut config = rig.config.clone();
    config.bot = BOT.into();
    config.journal.dir = journals.path().to_owned();
    // Without the bot, as an operator does after an upgrade.
    let deliverer = Deliverer::open(&config, BOT).unwrap();
    assert!(deliverer.wait_visible(LONG).unwrap(), "{:?}", deliverer.sinks());
    assert!(deliverer.close(LONG).remaining.is_empty());
    all_there(&rig, &config);

    // By the bot's next start, which also goes on with it.
    let http = rig.http();
    for table in ["attempts", "market_trades", "every_kind"] {
        http.exec(&format!("DROP TABLE {}", rig.table(table))).unwrap();
    }
    migrate(&rig);
    let journals = tempfile::tempdir().unwrap();
    unpack("journal-1.tar.gz", journals.path());
    config.journal.dir = journals.path().to_owned();
    let tape = Tape::open(&config).unwrap();
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    all_there(&rig, &config);
    tape.register::<EveryKind<'_>>().unwrap();
    tape.recorder().record(&every_kind(ROWS)).unwrap();
    assert!(tape.wait_visible(LONG).unwrap());
    let count = format!("SELECT count() FROM {}", rig.table("every_kind"));
    assert_eq!(rig.ask(&count), [(ROWS + 1).to_string()]);
    assert!(tape.close(LONG).remaining.is_empty());
}

/// Makes the fixture of the form that this release writes: run it by hand before the form changes, not after.
#[test]
#[ignore = "writes tests/fixtures/journal-new.tar.gz"]
fn write_a_journal_as_a_killed_bot_leaves_it() {
    let rig = Rig::start("fixture");
    migrate(&rig);
    let mut config = rig.config.clone();
    config.bot = BOT.into();
    let tape = Tape::open(&config).unwrap();
    tape.register::<EveryKind<'_>>().unwrap();
    let recorder = tape.recorder();
    let record = |n: u64| {
        recorder.record(&attempt(n)).unwrap();
        recorder.record(&trade(n, &n.to_string())).unwrap();
        recorder.record(&every_kind(n)).unwrap();
    };
    (0..DELIVERED).for_each(record);
    assert!(tape.wait_visible(LONG).unwrap());
    rig.stack.stop_server(ServerName::QuestDb).unwrap();
    (DELIVERED..ROWS).for_each(record);
    // What a kill -9 leaves is what is there at any moment.
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-new.tar.gz");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "--sparse", "-czf"]).arg(archive);
    let done = tar.arg("-C").arg(&config.journal.dir).arg(BOT).status().unwrap();
    assert!(done.success());
}
