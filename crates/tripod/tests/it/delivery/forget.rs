//! A server that forgot: put back to an older copy, robbed of its newest log, with a table made anew, killed again and
//! again. Each time every row is there again by itself, exactly once, and the ledger adds up. The server is asked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tripod::Timestamp;
use tripod::tape::spec::Importance;
use tripod::tape::{Rewound, SinkStatus, Tape, quarantine};
use tripod_stack::ServerName;

use super::rig::{LONG, Rig, record_trade, sum_below, until};

/// A rig whose sinks send small requests and go back only as far as the server's own words make them.
pub(super) fn rig(name: &str) -> Rig {
    let mut rig = Rig::start(name);
    rig.migrate();
    rig.config.tape.flush_rows = 500;
    rig.config.tape.flush_interval_ms = 10;
    rig.config.tape.rewind_s = 0;
    rig
}

pub(super) fn sink(tape: &Tape) -> SinkStatus {
    tape.sinks().into_iter().find(|sink| sink.class == Importance::Standard).unwrap()
}

fn last_rewind(tape: &Tape) -> Rewound {
    sink(tape).last_rewind.expect("the sink did not go back")
}

fn history(rig: &Rig) -> PathBuf {
    let name = format!("{}.history", rig.config.questdb[0].name);
    rig.config.journal_dir().join("standard/sinks").join(name)
}

/// The history's newest entry is about that many rows.
fn history_knows(rig: &Rig, rows: u64) -> bool {
    let text = std::fs::read_to_string(history(rig)).unwrap_or_default();
    text.lines().last().is_some_and(|line| line.contains(&format!("\"passed\":{rows},")))
}

/// Records `rows` and waits until they are visible and the history knows.
pub(super) fn record_and_see(rig: &Rig, tape: &Tape, base: Timestamp, rows: std::ops::Range<u64>) {
    let end = rows.end;
    for n in rows {
        record_trade(&tape.recorder(), base, n);
    }
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    assert_eq!(rig.trades_on_server(), [end, end, sum_below(end)]);
    until("the history has an entry of it", LONG, || history_knows(rig, end));
}

/// Waits for that many rows on the server; says how the sink is where they do not come.
pub(super) fn comes_back(rig: &Rig, tape: &Tape, rows: u64) {
    let end = Instant::now() + LONG;
    while rig.trades_on_server()[0] != rows {
        let (server, ledger) = (rig.trades_on_server(), rig.ledger_of(tape, "market_trades"));
        assert!(Instant::now() < end, "{rows} rows are not back: {server:?} {ledger:?} {:?}", sink(tape));
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// All rows on the server exactly once, and the ledger says the same.
pub(super) fn all_there(rig: &Rig, tape: &Tape, rows: u64) {
    until("the ledger calls all rows visible", LONG, || {
        let row = rig.ledger_of(tape, "market_trades");
        (row.recorded, row.visible, row.pending, row.delivered) == (rows, rows, 0, 0)
    });
    assert!(tape.wait_visible(LONG).unwrap());
    assert_eq!(rig.trades_on_server(), [rows, rows, sum_below(rows)], "{:?}", sink(tape));
}

fn db(rig: &Rig) -> PathBuf {
    rig.stack.data_path(ServerName::QuestDb).join("db")
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Takes a copy of the stopped server's data, runs `meanwhile` on the started one, and puts the copy back.
fn with_an_older_copy(rig: &Rig, meanwhile: impl FnOnce()) {
    let (data, older) = (db(rig), db(rig).with_extension("older"));
    rig.stack.stop_server(ServerName::QuestDb).unwrap();
    copy(&data, &older);
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    meanwhile();
    rig.stack.kill(ServerName::QuestDb).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&older, &data).unwrap();
}

#[test]
fn a_server_put_back_to_an_older_copy_has_every_row_again_by_itself() {
    let rig = rig("oldercopy");
    let tape = Tape::open(&rig.config).unwrap();
    let base = Timestamp::now();
    record_and_see(&rig, &tape, base, 0..5_000);
    with_an_older_copy(&rig, || {
        record_and_see(&rig, &tape, base, 5_000..9_000);
        record_and_see(&rig, &tape, base, 9_000..12_000);
    });
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    // Nothing is recorded: the sink finds out by looking.
    comes_back(&rig, &tape, 12_000);
    all_there(&rig, &tape, 12_000);
    let why = last_rewind(&tape).why;
    assert!(why.contains("was at") && why.contains("started again"), "not for the transactions: {why}");
}

#[test]
fn a_bot_that_was_restarted_meanwhile_knows_too_what_the_server_had() {
    let rig = rig("botandserver");
    let first = Tape::open(&rig.config).unwrap();
    let base = Timestamp::now();
    record_and_see(&rig, &first, base, 0..3_000);
    with_an_older_copy(&rig, || {
        record_and_see(&rig, &first, base, 3_000..6_000);
        assert!(first.close(LONG).remaining.is_empty());
    });
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    assert_eq!(rig.trades_on_server()[0], 3_000, "the test's own premise");
    let second = Tape::open(&rig.config).unwrap();
    // New rows raise the server's transactions before the first look.
    for n in 6_000..7_000 {
        record_trade(&second.recorder(), base, n);
    }
    comes_back(&rig, &second, 7_000);
    all_there(&rig, &second, 7_000);
}

#[test]
fn a_server_put_back_while_nobody_delivered_is_noticed_before_all_is_called_visible() {
    let rig = rig("putbackasleep");
    let first = Tape::open(&rig.config).unwrap();
    let base = Timestamp::now();
    record_and_see(&rig, &first, base, 0..3_000);
    with_an_older_copy(&rig, || {
        record_and_see(&rig, &first, base, 3_000..6_000);
        assert!(first.close(LONG).remaining.is_empty());
    });
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    assert_eq!(rig.trades_on_server()[0], 3_000, "the test's own premise");
    let second = Tape::open(&rig.config).unwrap();
    // Nothing is recorded, and every row was visible once.
    assert!(second.wait_visible(LONG).unwrap(), "{:?}", sink(&second));
    assert_eq!(rig.trades_on_server(), [6_000, 6_000, sum_below(6_000)]);
}

#[test]
fn the_newest_log_thrown_away_before_it_was_applied_is_passed_and_its_rows_are_sent_again() {
    const ROWS: u64 = 40_000;
    let rig = rig("logthrownaway");
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    record_and_see(&rig, &tape, base, 0..1_000);
    let table = rig.table("market_trades");
    // Acknowledged and not applied: what a power loss leaves behind, only slower.
    rig.stack.kill(ServerName::QuestDb).unwrap();
    let conf = rig.stack.data_path(ServerName::QuestDb).join("conf/server.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{text}dev.mode.enabled=true\n")).unwrap();
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    rig.http().exec(&format!("ALTER TABLE {table} SUSPEND WAL")).unwrap();
    for n in 1_000..ROWS {
        record_trade(&recorder, base, n);
    }
    until("all is answered", LONG, || rig.ledger_of(&tape, "market_trades").pending == 0);
    until("the suspended table is named", LONG, || sink(&tape).suspended.iter().any(|s| s.table == table));
    rig.stack.kill(ServerName::QuestDb).unwrap();
    let dir = table_dir(&rig, &table);
    let newest = wal_dirs(&dir).pop().unwrap();
    std::fs::remove_dir_all(&newest).unwrap();
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    comes_back(&rig, &tape, ROWS);
    all_there(&rig, &tape, ROWS);
    until("no table is suspended", LONG, || sink(&tape).suspended.is_empty());
}

#[test]
fn the_newest_log_thrown_away_in_the_middle_of_the_load_costs_no_row() {
    const ROWS: u64 = 60_000;
    let rig = rig("logunderload");
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    for n in 0..ROWS / 2 {
        record_trade(&recorder, base, n);
    }
    until("some rows are visible", LONG, || rig.ledger_of(&tape, "market_trades").visible > 0);
    rig.stack.kill(ServerName::QuestDb).unwrap();
    let dir = table_dir(&rig, &rig.table("market_trades"));
    std::fs::remove_dir_all(wal_dirs(&dir).pop().unwrap()).unwrap();
    for n in ROWS / 2..ROWS {
        record_trade(&recorder, base, n);
    }
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    comes_back(&rig, &tape, ROWS);
    all_there(&rig, &tape, ROWS);
}

pub(super) fn table_dir(rig: &Rig, table: &str) -> PathBuf {
    let entries = std::fs::read_dir(db(rig)).unwrap().map(|entry| entry.unwrap().path());
    let is_table =
        |path: &PathBuf| path.is_dir() && path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{table}~"));
    entries.filter(is_table).max().unwrap()
}

/// The log's directories, oldest first.
pub(super) fn wal_dirs(table_dir: &Path) -> Vec<PathBuf> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("wal")?.parse::<u32>().ok();
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(table_dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.retain(|path| path.is_dir() && number(path).is_some());
    dirs.sort_by_key(|path| number(path));
    dirs
}

#[test]
fn a_table_that_was_dropped_and_made_anew_gets_all_its_rows_again() {
    let rig = rig("madeanew");
    let tape = Tape::open(&rig.config).unwrap();
    let base = Timestamp::now();
    record_and_see(&rig, &tape, base, 0..2_000);
    record_and_see(&rig, &tape, base, 2_000..4_000);
    let live = rig.http().exec("SELECT view_name FROM materialized_views()").unwrap();
    for view in live.rows.iter().filter_map(|row| row[0].as_str()) {
        rig.http().exec(&format!("DROP MATERIALIZED VIEW {view}")).unwrap();
    }
    rig.http().exec(&format!("DROP TABLE {}", rig.table("market_trades"))).unwrap();
    rig.migrate();
    comes_back(&rig, &tape, 4_000);
    all_there(&rig, &tape, 4_000);
    assert!(last_rewind(&tape).why.contains("made anew"), "{:?}", last_rewind(&tape));
}

#[test]
fn five_kills_of_the_server_at_random_moments_and_of_the_bot_between_lose_and_double_nothing() {
    const ROUND: u64 = 8_000;
    let mut rig = rig("fivekills");
    rig.config.tape.rewind_s = 120;
    let base = Timestamp::now();
    let mut tape = Tape::open(&rig.config).unwrap();
    for round in 0..5_u64 {
        let (mut moment, from) = ([0; 2], round * ROUND);
        getrandom(&mut moment);
        let kill_at = from + u64::from(u16::from_le_bytes(moment)) % ROUND;
        let recorder = tape.recorder();
        for n in from..from + ROUND {
            record_trade(&recorder, base, n);
            if n % 50 == 0 {
                // A pace at which requests are in flight all the time.
                std::thread::park_timeout(Duration::from_millis(1));
            }
            if n == kill_at {
                rig.stack.kill(ServerName::QuestDb).unwrap();
            }
        }
        if round % 2 == 1 {
            drop(tape.close(Duration::ZERO));
            tape = Tape::open(&rig.config).unwrap();
        }
        rig.stack.start_server(ServerName::QuestDb).unwrap();
    }
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    all_there(&rig, &tape, 5 * ROUND);
    // Once more, now that something is surely known of the run that ends: it goes back, and nothing is there twice.
    rig.stack.kill(ServerName::QuestDb).unwrap();
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    until("it went back", LONG, || sink(&tape).rewinds > 0);
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    all_there(&rig, &tape, 5 * ROUND);
}

fn getrandom(bytes: &mut [u8]) {
    use std::io::Read;
    std::fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
}

#[test]
fn what_is_no_longer_in_the_journal_is_said_and_the_ledger_still_adds_up() {
    const ROWS: u64 = 30_000;
    let mut rig = rig("toolate");
    rig.config.journal.keep_hours = 0;
    let tape = Tape::open(&rig.config).unwrap();
    let base = Timestamp::now();
    record_and_see(&rig, &tape, base, 0..1_000);
    with_an_older_copy(&rig, || record_and_see(&rig, &tape, base, 1_000..ROWS));
    let (data, older) = (db(&rig), db(&rig).with_extension("older"));
    copy(&data, &older);
    let gone = gone_after_start(&rig, &tape);
    all_that_is_left(&rig, &tape, ROWS, gone);
    // The same copy once more: what is gone is gone for this run too, and is said again.
    rig.stack.kill(ServerName::QuestDb).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&older, &data).unwrap();
    let gone = gone_after_start(&rig, &tape);
    all_that_is_left(&rig, &tape, ROWS, gone);
}

/// Starts the server, waits until the sink has gone back for it, and returns the rows it called gone.
fn gone_after_start(rig: &Rig, tape: &Tape) -> u64 {
    // An earlier start was one too, and may have found segments deleted: that is not the one meant.
    let earlier = sink(tape).rewinds;
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    let gone = |sink: &SinkStatus| sink.last_rewind.as_ref().is_some_and(|rewound| rewound.gone_rows > 0);
    let end = Instant::now() + LONG;
    while !(sink(tape).rewinds > earlier && gone(&sink(tape))) {
        assert!(Instant::now() < end, "the sink has not gone back: {:?}", sink(tape));
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let rewound = last_rewind(tape);
    assert!(rewound.gone_before.is_some(), "{rewound:?}");
    rewound.gone_rows
}

/// The ledger goes on calling the rows visible that nobody can send again; the server has all others.
fn all_that_is_left(rig: &Rig, tape: &Tape, rows: u64, gone: u64) {
    assert!(gone < rows, "nothing was left to be sent again");
    let end = Instant::now() + LONG;
    while rig.trades_on_server()[0] < rows - gone {
        assert!(Instant::now() < end, "{gone} of {rows} gone, there {:?}, {:?}", rig.trades_on_server(), sink(tape));
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", sink(tape));
    let row = rig.ledger_of(tape, "market_trades");
    assert_eq!((row.recorded, row.visible, row.pending, row.delivered), (rows, rows, 0, 0));
    let [count, distinct, _] = rig.trades_on_server();
    assert_eq!(count, distinct);
}

#[test]
fn what_was_deleted_behind_our_back_is_delivered_again_when_asked_for() {
    let rig = rig("byhand");
    let tape = Tape::open(&rig.config).unwrap();
    let base = Timestamp::now();
    record_and_see(&rig, &tape, base, 0..2_000);
    let noon = Timestamp::now();
    record_and_see(&rig, &tape, base, 2_000..4_000);
    rig.http().exec(&format!("TRUNCATE TABLE {}", rig.table("market_trades"))).unwrap();
    until("the table is empty", LONG, || rig.trades_on_server()[0] == 0);
    tape.redeliver_since(noon);
    assert!(tape.wait_visible(LONG).unwrap());
    let [count, distinct, _] = rig.trades_on_server();
    assert!((2_000..4_000).contains(&count) && count == distinct, "{count} rows, {distinct} distinct");
    tape.redeliver_since(Timestamp::EPOCH);
    all_there(&rig, &tape, 4_000);
}

#[test]
fn what_is_in_quarantine_is_not_put_there_twice() {
    let rig = rig("quarantinedonce");
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, now) = (tape.recorder(), Timestamp::now());
    let too_old = now.checked_sub(Duration::from_hours(24 * 31)).unwrap();
    for n in 0..100 {
        record_trade(&recorder, if n % 10 == 0 { too_old } else { now }, n);
    }
    for _ in 0..2 {
        assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
        let row = rig.ledger_of(&tape, "market_trades");
        assert_eq!((row.recorded, row.visible, row.quarantined, row.pending), (100, 90, 10, 0));
        let file = quarantine::path(&rig.config.journal_dir(), &rig.config.questdb[0].name, Importance::Standard);
        assert_eq!(quarantine::read(&file).unwrap().len(), 10);
        assert_eq!(rig.trades_on_server()[..2], [90, 90]);
        tape.redeliver_since(Timestamp::EPOCH);
    }
    until("it went back", LONG, || sink(&tape).rewinds == 2);
}
