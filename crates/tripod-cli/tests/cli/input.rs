//! What `replay` refuses before it asks any server.

use std::path::Path;

use crate::run::{Said, run};

const HEADER: &str = "time_exchange,time_received,exchange,symbol,trade_id,price,amount,side\n";

fn trade(second: u32, price: &str) -> String {
    format!("2025-03-25T23:07:{second:02}Z,x,binance_spot,SOLUSDT,{second},{price},1,Buy\n")
}

fn replay(dir: &Path, text: impl AsRef<[u8]>, arguments: &[&str]) -> Said {
    std::fs::write(dir.join("trades.csv"), text).unwrap();
    let mut all = vec!["replay", "trades.csv"];
    all.extend(arguments);
    run(dir, &all)
}

#[test]
fn a_broken_line_is_named_and_nothing_goes_in() {
    let dir = tempfile::tempdir().unwrap();
    let text = [HEADER, &trade(1, "143.5"), &trade(2, "abc"), &trade(3, "143.6"), "x\n"].concat();
    let said = replay(dir.path(), text, &[]);
    assert_eq!(said.code, Some(2));
    insta::assert_snapshot!("broken-line", said.golden(dir.path()));
}

#[test]
fn broken_lines_that_are_left_out_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let text = [HEADER, &trade(1, "143.5"), &trade(2, "abc"), &trade(3, "143.6"), "x\n"].concat();
    // The input is fine then; what is missing is a stack.
    let said = replay(dir.path(), text, &["--skip-broken"]);
    assert_eq!(said.code, Some(2));
    insta::assert_snapshot!("broken-lines-left-out", said.golden(dir.path()));
}

#[test]
fn files_that_are_no_recording_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8]); 4] = [
        ("input-empty", b""),
        ("input-garbage", &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]),
        ("input-columns", b"time_exchange,exchange,symbol,trade_id,price,amount,side\n"),
        ("input-header-only", HEADER.as_bytes()),
    ];
    for (name, text) in cases {
        let said = replay(dir.path(), text, &[]);
        assert_eq!(said.code, Some(2), "{said:?}");
        insta::assert_snapshot!(name, said.golden(dir.path()));
    }
    let missing = run(dir.path(), &["replay", "nothing.csv.gz"]);
    insta::assert_snapshot!("input-missing", missing.golden(dir.path()));
}

#[test]
fn a_start_that_the_tape_would_not_keep_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = [HEADER, &trade(1, "143.5")].concat();
    for (start, words) in [("2020-01-01T00:00:00Z", "past the retention"), ("2100-01-01T00:00:00Z", "takes none after")]
    {
        let said = replay(dir.path(), &text, &["--start-at", start]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(words) && said.err.contains("\nhint: "), "{said:?}");
    }
}

#[test]
fn one_file_given_twice_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let said = replay(dir.path(), [HEADER, &trade(1, "143.5")].concat(), &["trades.csv"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("have the same name"), "{said:?}");
}

#[test]
fn a_line_of_an_absurd_time_is_the_only_one_that_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    for absurd in ["2200-01-01", "1971-01-01", "2031-01-01"] {
        let wrong = trade(4, "143.5").replace("2025-03-25", absurd);
        let text =
            [HEADER, &trade(1, "143.5"), &trade(2, "143.6"), &trade(3, "143.7"), &wrong, &trade(5, "143.8")].concat();
        let said = replay(dir.path(), &text, &[]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("trades.csv line 5: its time ") && !said.err.contains("more broken"), "{said:?}");
        let said = replay(dir.path(), &text, &["--skip-broken"]);
        assert!(said.err.contains("4 trades, 0 quotes, 0 prices from "), "{said:?}");
    }
}

#[test]
fn what_a_file_says_does_not_steer_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["--json"], &["--skip-broken"]] {
        let said = replay(dir.path(), [HEADER, &trade(1, "1"), &trade(2, "\u{1b}[2J\u{202e}9")].concat(), arguments);
        assert!(said.err.contains("\\u{1b}[2J\\u{202e}9"), "{said:?}");
        assert!(!(said.out + &said.err).contains(['\u{1b}', '\u{202e}']), "a raw character");
    }
}
