use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const SPOT_TRADES: &str = "time_exchange,time_received,exchange,symbol,trade_id,price,amount,side\n";
const POOL: &str = "ts,pool,price\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// All records, or what is wrong with the file or its lines.
fn read(bytes: impl AsRef<[u8]>) -> (Vec<Record>, Vec<String>) {
    let folder = Folder::new();
    let path = folder.file("f", bytes);
    let prefix = path.display().to_string();
    let say = |broken: Broken| broken.to_string().replacen(&prefix, "f", 1);
    match Source::open(&path, 0) {
        Err(broken) => (Vec::new(), vec![say(broken)]),
        Ok(source) => {
            let (mut records, mut wrong) = (Vec::new(), Vec::new());
            for read in source {
                match read {
                    Ok(record) => records.push(record),
                    Err(broken) => wrong.push(say(broken)),
                }
            }
            (records, wrong)
        }
    }
}

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

fn number(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn each_format_keeps_every_digit_of_its_numbers_and_times() {
    let trade = |venue, symbol, id, price, size, taker| {
        Event::Trade(Trade {
            venue: token(venue),
            token: token(symbol),
            id: token(id),
            price: number(price),
            size: number(size),
            taker,
        })
    };
    let quote = |venue, symbol, bid: (&str, Option<&str>), ask: (&str, Option<&str>)| {
        Event::Quote(Quote {
            venue: token(venue),
            token: token(symbol),
            bid_price: number(bid.0),
            bid_size: bid.1.map(number),
            ask_price: number(ask.0),
            ask_size: ask.1.map(number),
        })
    };
    let cases = [
        (
            format!(
                "{SPOT_TRADES}2025-03-25T23:07:00.715Z,2025-03-25T23:07:00.847021081Z,binance_spot,BTCUSDT,4744868157,87232.0,0.00012,Sell\n"
            ),
            "2025-03-25T23:07:00.715Z",
            trade("binance_spot", "BTCUSDT", "4744868157", "87232.0", "0.00012", Taker::Sell),
        ),
        (
            "local_ns,event_ms,trade_ms,market,symbol,trade_id,price,qty,taker_side,order_type\n\
             1723161255088176367,1723161256322,1723161256321,usdm,BTCUSDT,5266583935,61800.30,0.006,buy,MARKET\n"
                .to_owned(),
            "2024-08-08T23:54:16.321Z",
            trade("binance_usdm", "BTCUSDT", "5266583935", "61800.30", "0.006", Taker::Buy),
        ),
        (
            "time_exchange,time_received,exchange,symbol,bid_px,bid_sz,ask_px,ask_sz\n\
             2025-03-25T23:07:00.773674205Z,2025-03-25T23:07:00.773684644Z,binance_spot,ETHUSDT,2059.10000000,33.09140000,2059.11000000,3.01460000\n"
                .to_owned(),
            "2025-03-25T23:07:00.773674205Z",
            quote("binance_spot", "ETHUSDT", ("2059.1", Some("33.0914")), ("2059.11", Some("3.0146"))),
        ),
        (
            "local_ns,event_ms,txn_ms,market,symbol,bid_px,bid_sz,ask_px,ask_sz\n\
             1723161255088165267,1723161256311,1723161256310,usdm,ETHUSDT,2681.62,1.165,2681.63,73.077\n"
                .to_owned(),
            "2024-08-08T23:54:16.310Z",
            quote("binance_usdm", "ETHUSDT", ("2681.62", Some("1.165")), ("2681.63", Some("73.077"))),
        ),
        (
            "recv_ts_s,exchange,symbol,bid_px,bid_sz,ask_px,ask_sz,last_px\n\
             1618677817.1041741,COINBASE,SKL-BTC,0.00001302,,1.305e-05,,0.00001302\n"
                .to_owned(),
            "2021-04-17T16:43:37.1041741Z",
            quote("COINBASE", "SKL-BTC", ("0.00001302", None), ("0.00001305", None)),
        ),
        (
            format!("{POOL}2026-04-17T08:51:24.113Z,ts64,88.7637\n"),
            "2026-04-17T08:51:24.113Z",
            Event::Price(Price { token: token("SOL-USDC-orca-ts64"), price: number("88.7637") }),
        ),
        (
            r#"{"Item":{"time_exchange":"2025-03-25T23:07:01.315Z","time_received":"2025-03-25T23:07:01.489517771Z","exchange":"binance_spot","instrument":2,"kind":{"Trade":{"id":"1169618299","price":143.5400000000000001,"amount":0.428,"side":"Buy"}}}}"#
                .to_owned(),
            "2025-03-25T23:07:01.315Z",
            trade("binance_spot", "SOLUSDT", "1169618299", "143.5400000000000001", "0.428", Taker::Buy),
        ),
        (
            r#"{"Item":{"time_exchange":"2025-03-25T23:07:00.773674205Z","time_received":"2025-03-25T23:07:00.773684644Z","exchange":"binance_spot","instrument":1,"kind":{"OrderBookL1":{"last_update_time":"2025-03-25T23:07:00.773674205Z","best_bid":{"price":"2059.10000000","amount":"33.09140000"},"best_ask":{"price":"2059.11000000","amount":"3.01460000"}}}}}"#
                .to_owned(),
            "2025-03-25T23:07:00.773674205Z",
            quote("binance_spot", "ETHUSDT", ("2059.1", Some("33.0914")), ("2059.11", Some("3.0146"))),
        ),
    ];
    for (text, at, event) in cases {
        let line = if text.starts_with('{') { 1 } else { 2 };
        let expected = vec![Record { file: 0, line, at: time(at), event }];
        assert_eq!(read(&text), (expected.clone(), vec![]), "plain: {text}");
        assert_eq!(read(gzip(&text)), (expected, vec![]), "gzip: {text}");
    }
}

#[test]
fn a_broken_line_is_named_with_its_number_and_the_lines_around_it_are_read() {
    let good = "2026-04-17T08:51:24.113Z,ts1,88.7637";
    let cases = [
        ("2026-04-17T08:51:24.113Z,ts1", "has 2 columns instead of 3"),
        ("2026-04-17T08:51:24.113Z,ts1,88.7637,9", "has 4 columns instead of 3"),
        ("2026-04-17T08:51:24.113Z,ts1,", "price `` is not a decimal number of at most 28 digits"),
        ("2026-04-17T08:51:24.113Z,ts1,abc", "price `abc` is not a decimal number of at most 28 digits"),
        ("2026-04-17T08:51:24.113Z,ts1,NaN", "price `NaN` is not a decimal number of at most 28 digits"),
        ("2026-04-17T08:51:24.113Z,ts1,0", "price `0` is not above zero"),
        ("2026-04-17T08:51:24.113Z,ts1,-1", "price `-1` is not above zero"),
        (
            "2026-04-17T08:51:24.113Z,ts1,0.12345678901234567890123456789",
            "price `0.12345678901234567890123456789` is not a decimal number of at most 28 digits",
        ),
        ("yesterday,ts1,88.1", "ts `yesterday` is not an RFC 3339 time between 1970 and 2261"),
        ("1969-01-01T00:00:00Z,ts1,88.1", "ts `1969-01-01T00:00:00Z` is not an RFC 3339 time between 1970 and 2261"),
    ];
    for (line, what) in cases {
        let (records, wrong) = read(format!("{POOL}{good}\n{line}\n{good}\n"));
        assert_eq!(records.iter().map(|r| r.line).collect::<Vec<_>>(), [2, 4], "{line}");
        assert_eq!(wrong, [format!("f line 3: {what}")]);
    }
}

#[test]
fn trades_refuse_what_no_exchange_can_mean() {
    let line = |id: &str, size: &str, side: &str| {
        format!("{SPOT_TRADES}2025-03-25T23:07:00.715Z,x,binance_spot,BTCUSDT,{id},87232.0,{size},{side}\n")
    };
    for (text, what) in [
        (line("", "1", "Buy"), "f line 2: trade_id ``: token: is empty"),
        (line("7", "0", "Buy"), "f line 2: amount `0` is not above zero"),
        (line("7", "1", "up"), "f line 2: side `up` is neither buy nor sell"),
    ] {
        assert_eq!(read(text).1, [what]);
    }
}

#[test]
fn a_broken_json_event_is_named() {
    let (records, wrong) = read("{\"Item\":1}\n{\n");
    assert!(records.is_empty());
    assert_eq!(wrong.len(), 2);
    assert!(wrong[0].starts_with("f line 1: is not an event of this format"), "{wrong:?}");
    assert!(wrong[1].starts_with("f line 2: "), "{wrong:?}");
}

#[test]
fn a_file_of_no_known_format_says_what_it_looks_like() {
    let cases = [
        ("", "f: is empty"),
        ("\u{1}\u{2}binary\n", "f: is of no known format: its first line is `\\u{1}\\u{2}binary`"),
        ("a,b\n1,2\n", "f: is of no known format: its first line is `a,b`"),
        ("ts,price\n", "f: its columns are those of pool prices but it lacks pool (expected: ts,pool,price)"),
        ("ts,pool,price,x\n", "f: its columns are those of pool prices but it also has x (expected: ts,pool,price)"),
        (
            "pool,ts,price\n",
            "f: its columns are those of pool prices but their order differs (expected: ts,pool,price)",
        ),
        (
            "ts,pool,px\n",
            "f: its columns are those of pool prices but it lacks price and has px instead (expected: ts,pool,price)",
        ),
    ];
    for (text, what) in cases {
        assert_eq!(read(text), (vec![], vec![what.to_owned()]), "{text:?}");
    }
    assert_eq!(read(gzip("")).1, ["f: is empty"]);
    assert_eq!(read([b'x', 0xff, b'\n']).1, ["f line 1: is not UTF-8 (byte 2 of the line)"]);
    assert_eq!(read([b'x', 0, b'\n']).1, ["f line 1: has a NUL byte; this is not text"]);
}

#[test]
fn a_missing_file_and_a_directory_are_said_to_be_so() {
    let folder = Folder::new();
    let missing = Source::open(&folder.0.path().join("gone.csv"), 0).unwrap_err();
    assert!(missing.to_string().ends_with("gone.csv: no such file"), "{missing}");
    let directory = Source::open(folder.0.path(), 0).unwrap_err();
    assert!(directory.to_string().ends_with("is a directory; name the files in it"), "{directory}");
}

#[test]
fn a_gzip_file_that_ends_early_is_reported_once_and_its_whole_lines_are_read() {
    let lines: String = (0..20_000u32).map(|n| format!("2026-04-17T08:51:24.{:03}Z,ts1,{n}.5\n", n % 1000)).collect();
    let whole = gzip(format!("{POOL}{lines}"));
    let (records, wrong) = read(&whole[..whole.len() / 2]);
    assert!(!records.is_empty() && records.len() < 20_000, "{}", records.len());
    assert_eq!(wrong.len(), 1);
    let line = records.last().unwrap().line + 1;
    assert_eq!(wrong[0], format!("f line {line}: the gzip file ends in the middle (an incomplete download or copy?)"));
}

#[test]
fn a_gzip_file_that_is_damaged_is_reported() {
    let mut damaged = gzip(format!("{POOL}2026-04-17T08:51:24.113Z,ts1,88.7637\n"));
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 0xff;
    let (_, wrong) = read(&damaged);
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].contains("cannot be read on from here"), "{wrong:?}");
}

#[test]
fn a_line_without_end_is_not_held_in_memory_and_does_not_hide_the_next() {
    let long = "x".repeat(3 * lines::LINE_BYTES_MAX);
    let good = "2026-04-17T08:51:24.113Z,ts1,88.7637";
    let (records, wrong) = read(format!("{POOL}{long}\n{good}\n"));
    assert_eq!(wrong, ["f line 2: has more than 65536 bytes; this is not a line of data"]);
    assert_eq!(records.iter().map(|r| r.line).collect::<Vec<_>>(), [3]);
}

#[test]
fn windows_line_ends_a_byte_order_mark_quotes_and_blank_lines_are_harmless() {
    let (records, wrong) = read("\u{feff}ts,pool,price\r\n\r\n\"2026-04-17T08:51:24.113Z\",\"ts1\",\"88.7637\"\r\n");
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(records.iter().map(|r| r.line).collect::<Vec<_>>(), [3]);
}
