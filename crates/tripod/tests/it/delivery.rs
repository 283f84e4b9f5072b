//! Delivery, against a real QuestDB that is killed, absent, behind, or of another opinion. What is visible is asked from
//! the server; our own counts are then compared with that.

mod beside;
mod expired;
mod forget;
mod lost_log;
mod optional;
pub(crate) mod rig;
mod tls;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tripod::config::Config;
use tripod::tape::spec::Importance;
use tripod::tape::{Recorded, Row, SinkState, Tape, quarantine};
use tripod::{Decimal, Error, Timestamp};
use tripod_stack::ServerName;

use rig::{LONG, Rig, SHORT, record_attempt, record_trade, state, sum_below, trade, until};

#[test]
fn rows_from_four_threads_are_visible_exactly_once_and_the_ledger_agrees_with_the_server() {
    const ROWS: u64 = 50_000;
    let rig = Rig::start("fourthreads");
    rig.migrate();
    let tape = Tape::open(&rig.config).unwrap();
    let base = Timestamp::now();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let recorder = tape.recorder();
            scope.spawn(move || {
                for n in (thread..ROWS).step_by(4) {
                    assert_eq!(record_trade(&recorder, base, n), Recorded::Kept);
                }
            });
        }
    });
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    // What the tape calls visible a SELECT returns, at once and exactly.
    assert_eq!(rig.trades_on_server(), [ROWS, ROWS, sum_below(ROWS)]);
    let row = rig.ledger_of(&tape, "market_trades");
    assert_eq!((row.recorded, row.visible, row.pending, row.delivered), (ROWS, ROWS, 0, 0));
    let table = rig.table("market_trades");
    let kept = rig.ask(&format!("SELECT slot::varchar, price::varchar, at::long FROM {table} WHERE trade_id = '4242'"));
    let expected = trade(base, 4242, "4242");
    assert_eq!(kept[0], (u64::MAX - 4242).to_string(), "a u64 came through something smaller");
    assert_eq!(kept[1].parse::<Decimal>().unwrap(), expected.price);
    assert_eq!(kept[2], expected.at.as_nanos().to_string());
    let sinks = tape.sinks();
    let sink = sinks.iter().find(|sink| sink.class == Importance::Standard).unwrap();
    assert!(sink.visible_p50.is_some() && sink.visible_p50 <= sink.visible_p99, "{sink:?}");
    let report = tape.close(LONG);
    assert!(report.remaining.is_empty() && report.troubles.is_empty(), "{report:?}");
}

#[test]
fn a_server_killed_in_the_middle_of_it_loses_and_doubles_nothing() {
    const ROWS: u64 = 60_000;
    let mut rig = Rig::start("serverkilled");
    rig.migrate();
    // Small requests, so that the kill comes between many of them.
    rig.config.tape.flush_rows = 500;
    rig.config.tape.flush_interval_ms = 10;
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    for n in 0..ROWS / 3 {
        record_trade(&recorder, base, n);
    }
    until("some rows are visible", LONG, || rig.ledger_of(&tape, "market_trades").visible > 0);
    rig.stack.kill(ServerName::QuestDb).unwrap();
    for n in ROWS / 3..ROWS / 3 * 2 {
        record_trade(&recorder, base, n);
    }
    until("the sink has noticed", LONG, || state(&tape, Importance::Standard).0 == SinkState::Unavailable);
    assert!(!state(&tape, Importance::Standard).1.is_empty(), "it does not say why");
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    for n in ROWS / 3 * 2..ROWS {
        record_trade(&recorder, base, n);
    }
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    assert_eq!(rig.trades_on_server(), [ROWS, ROWS, sum_below(ROWS)]);
    assert_eq!(rig.ledger_of(&tape, "market_trades").visible, ROWS);
}

#[test]
fn a_server_that_is_absent_at_the_start_gets_everything_later_also_after_the_bot_was_restarted() {
    let rig = Rig::start("absent");
    rig.migrate();
    rig.stack.kill(ServerName::QuestDb).unwrap();
    let base = Timestamp::now();
    let first = Tape::open(&rig.config).unwrap();
    for n in 0..3_000 {
        assert_eq!(record_trade(&first.recorder(), base, n), Recorded::Kept);
    }
    assert!(!first.wait_visible(Duration::from_millis(300)).unwrap());
    until("the sink has noticed", LONG, || state(&first, Importance::Standard).0 == SinkState::Unavailable);
    let report = first.close(Duration::from_millis(300));
    let left: Vec<_> = report.remaining.iter().map(|row| (row.table.as_str(), row.pending)).collect();
    assert_eq!(left, [("market_trades", 3_000)], "{report:?}");

    let second = Tape::open(&rig.config).unwrap();
    for n in 3_000..4_000 {
        record_trade(&second.recorder(), base, n);
    }
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    assert!(second.wait_visible(LONG).unwrap(), "{:?}", second.sinks());
    assert_eq!(rig.trades_on_server(), [4_000, 4_000, sum_below(4_000)]);
    assert_eq!(rig.ledger_of(&second, "market_trades").visible, 4_000);
    drop(second);

    // Without a bot, from the files alone.
    let ledger = tripod::ledger::read(&rig.config.journal_dir()).unwrap();
    assert!(ledger.iter().any(|row| row.table == "market_trades" && row.visible == 4_000), "{ledger:?}");
}

#[test]
fn one_row_and_then_silence_becomes_visible() {
    let rig = Rig::start("silence");
    rig.migrate();
    let tape = Tape::open(&rig.config).unwrap();
    record_trade(&tape.recorder(), Timestamp::now(), 7);
    until("the row is visible", LONG, || rig.trades_on_server() == [1, 1, 7]);
    until("and called so", LONG, || rig.ledger_of(&tape, "market_trades").visible == 1);
    // Nothing came behind it that could have sent it on its way, and nobody waited for it or closed the tape.
    let all: Vec<_> = tape.ledger().unwrap().into_iter().map(|row| row.recorded).collect();
    assert_eq!(all.iter().sum::<u64>(), 1, "{all:?}");
}

#[test]
fn a_server_that_hangs_in_the_middle_of_a_request_loses_and_doubles_nothing() {
    const ROWS: u64 = 20_000;
    let mut rig = Rig::start("hangs");
    rig.migrate();
    rig.config.tape.request_timeout_ms = 500;
    rig.config.tape.flush_rows = 1_000;
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    for n in 0..ROWS / 2 {
        record_trade(&recorder, base, n);
    }
    until("some rows are visible", LONG, || rig.ledger_of(&tape, "market_trades").visible > 0);
    rig.stack.freeze(ServerName::QuestDb);
    for n in ROWS / 2..ROWS {
        record_trade(&recorder, base, n);
    }
    until("the sink has noticed", LONG, || state(&tape, Importance::Standard).0 == SinkState::Unavailable);
    rig.stack.thaw(ServerName::QuestDb);
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    assert_eq!(rig.trades_on_server(), [ROWS, ROWS, sum_below(ROWS)]);
}

#[test]
fn a_wrong_password_is_said_and_costs_no_row() {
    let rig = Rig::start("login");
    rig.migrate();
    let mut wrong = rig.config.clone();
    wrong.questdb[0].password = "not this one".into();
    let tape = Tape::open(&wrong).unwrap();
    record_trade(&tape.recorder(), Timestamp::now(), 5);
    until("the sink says so", LONG, || state(&tape, Importance::Standard).0 == SinkState::Login);
    let said = format!("{:?}", tape.sinks());
    assert!(said.contains("password") && !said.contains("not this one"), "{said}");
    drop(tape.close(Duration::ZERO));
    let tape = Tape::open(&rig.config).unwrap();
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    assert_eq!(rig.trades_on_server(), [1, 1, 5]);
}

#[test]
fn a_dead_replica_slows_nobody_and_its_own_rows_wait_for_it() {
    let mut rig = Rig::start("replica");
    rig.migrate();
    let mut replica = rig.config.questdb[0].clone();
    replica.name = "replica".to_owned();
    // Port 9 (discard) of this machine: nobody listens.
    replica.http = "127.0.0.1:9".to_owned();
    rig.config.questdb.push(replica);
    let tape = Tape::open(&rig.config).unwrap();
    let base = Timestamp::now();
    for n in 0..500 {
        record_trade(&tape.recorder(), base, n);
    }
    until("visible on the one that lives", LONG, || rig.ledger_of(&tape, "market_trades").visible == 500);
    assert_eq!(rig.trades_on_server(), [500, 500, sum_below(500)]);
    let ledger = tape.ledger().unwrap();
    let waits = ledger.iter().find(|row| row.sink == "replica" && row.table == "market_trades").unwrap();
    assert_eq!((waits.recorded, waits.pending, waits.adds_up), (500, 500, true));
    assert!(!tape.wait_visible(Duration::from_millis(200)).unwrap(), "it is not visible on every server");
}

/// On the server its price has fewer digits than here.
#[derive(Debug, Row)]
#[row(table = "narrow", importance = "critical", retain_days = 30)]
struct Narrow {
    /// When.
    #[row(timestamp)]
    at: Timestamp,
    /// Which.
    #[row(key)]
    id: u64,
    /// How much.
    #[row(decimal = "18,4")]
    price: Decimal,
}

#[test]
fn a_row_that_only_the_server_refuses_goes_to_quarantine_with_its_words_and_the_others_go_on() {
    const ROWS: u64 = 1_000;
    const BAD: [u64; 3] = [0, 500, 999];
    let rig = Rig::start("poison");
    rig.migrate();
    let table = rig.table("narrow");
    let ddl = format!(
        "CREATE TABLE {table} (at TIMESTAMP_NS, id DECIMAL(20,0), price DECIMAL(6,2)) TIMESTAMP(at) PARTITION BY DAY \
         WAL DEDUP UPSERT KEYS(at, id)"
    );
    rig.http().exec(&ddl).unwrap();
    let tape = Tape::open(&rig.config).unwrap();
    tape.register::<Narrow>().unwrap();
    let recorder = tape.recorder();
    let at = Timestamp::now();
    for id in 0..ROWS {
        let price = if BAD.contains(&id) { Decimal::new(1_234_567_890, 4) } else { Decimal::new(100, 2) };
        recorder.record(&Narrow { at, id, price }).unwrap();
        // Rows of another table in the same requests.
        record_attempt(&recorder, u128::from(id)).unwrap();
    }
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    let good = (ROWS - 3).to_string();
    assert_eq!(rig.ask(&format!("SELECT count(), count_distinct(id::long) FROM {table}")), [good.clone(), good]);
    assert_eq!(rig.ask(&format!("SELECT count() FROM {}", rig.table("attempts"))), [ROWS.to_string()]);
    let row = rig.ledger_of(&tape, "narrow");
    assert_eq!((row.recorded, row.visible, row.quarantined), (ROWS, ROWS - 3, 3));
    let file = quarantine::path(&rig.config.journal_dir(), &rig.config.questdb[0].name, Importance::Critical);
    let held = quarantine::read(&file).unwrap();
    let ids: Vec<_> = held.iter().map(|row| row.row["id"].as_str().unwrap().parse::<u64>().unwrap()).collect();
    assert_eq!(ids, BAD);
    for row in &held {
        assert_eq!((row.table.as_str(), row.reason), ("narrow", quarantine::Reason::Refused));
        assert!(row.words.contains("DECIMAL(6,2)"), "not the server's words: {}", row.words);
        assert_eq!(row.row["price"].as_str().unwrap().parse::<Decimal>().unwrap(), Decimal::new(1_234_567_890, 4));
    }
    assert_eq!(state(&tape, Importance::Critical).0, SinkState::Delivering);
}

#[test]
fn a_row_that_would_vanish_on_the_server_is_not_sent() {
    let rig = Rig::start("expired");
    rig.migrate();
    let tape = Tape::open(&rig.config).unwrap();
    let now = Timestamp::now();
    let days = |days: u64| now.checked_sub(Duration::from_secs(days * 86_400)).unwrap();
    for (n, base) in [(1, days(31)), (2, days(30)), (3, days(28)), (4, now)] {
        record_trade(&tape.recorder(), base, n);
    }
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    assert_eq!(rig.trades_on_server(), [2, 2, 7]);
    let row = rig.ledger_of(&tape, "market_trades");
    assert_eq!((row.visible, row.quarantined), (2, 2));
    let file = quarantine::path(&rig.config.journal_dir(), &rig.config.questdb[0].name, Importance::Standard);
    assert!(quarantine::read(&file).unwrap().iter().all(|row| row.reason == quarantine::Reason::Expired));
}

#[test]
fn a_server_without_the_tables_is_waited_for_named_and_gone_on_with() {
    let rig = Rig::start("behind");
    let tape = Tape::open(&rig.config).unwrap();
    let base = Timestamp::now();
    for n in 0..100 {
        record_trade(&tape.recorder(), base, n);
    }
    until("the sink waits for the schema", LONG, || state(&tape, Importance::Standard).0 == SinkState::Schema);
    let (_, why) = state(&tape, Importance::Standard);
    assert!(why.contains(&rig.table("market_trades")) && why.contains("tripod migrate"), "{why}");
    assert_eq!(rig.ledger_of(&tape, "market_trades").pending, 100);
    rig.migrate();
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    assert_eq!(rig.trades_on_server(), [100, 100, sum_below(100)]);
    assert_eq!(state(&tape, Importance::Standard).0, SinkState::Delivering);
}

#[test]
fn a_full_critical_journal_refuses_and_stops_trading_until_there_is_room_and_other_classes_drop_and_count() {
    let mut rig = Rig::start("full");
    rig.migrate();
    rig.config.journal.critical_budget_mib = 4;
    rig.config.journal.standard_budget_mib = 4;
    rig.stack.kill(ServerName::QuestDb).unwrap();
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, mut allowed) = (tape.recorder(), tape.trading_allowed());
    assert!(*allowed.borrow_and_update());

    let mut kept = 0_u64;
    let refused = loop {
        match record_attempt(&recorder, u128::from(kept)) {
            Ok(Recorded::Kept) => kept += 1,
            Ok(Recorded::Dropped) => panic!("a critical row was dropped"),
            Err(e) => break e,
        }
        assert!(kept < 1_000_000, "4 MiB never filled up");
    };
    assert!(matches!(&refused, Error::CannotRecord { table, .. } if table == "attempts"), "{refused}");
    assert_eq!(refused.advice(), tripod::Advice::StopTrading);
    assert!(!*allowed.borrow_and_update());

    let (base, mut trades, mut dropped) = (Timestamp::now(), 0_u64, 0_u64);
    while dropped < 10 {
        match record_trade(&recorder, base, trades) {
            Recorded::Kept => trades += 1,
            Recorded::Dropped => dropped += 1,
        }
        assert!(trades < 1_000_000, "4 MiB never filled up");
    }
    let row = rig.ledger_of(&tape, "market_trades");
    assert_eq!((row.recorded, row.pending, row.dropped), (trades + 10, trades, 10));

    rig.stack.start_server(ServerName::QuestDb).unwrap();
    until("trading is allowed again", LONG, || *allowed.borrow_and_update());
    assert_eq!(record_attempt(&recorder, u128::from(kept)).unwrap(), Recorded::Kept);
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    let table = rig.table("attempts");
    let all = (kept + 1).to_string();
    assert_eq!(rig.ask(&format!("SELECT count(), count_distinct(id) FROM {table}")), [all.clone(), all]);
    let row = rig.ledger_of(&tape, "attempts");
    assert_eq!((row.recorded, row.visible, row.dropped), (kept + 1, kept + 1, 0), "a refused row was counted");
}

#[test]
fn an_unregistered_type_and_a_second_owner_are_refused() {
    let rig = Rig::start("refusals");
    let tape = Tape::open(&rig.config).unwrap();
    let row = Narrow { at: Timestamp::now(), id: 1, price: Decimal::ONE };
    let refused = tape.recorder().record(&row).unwrap_err();
    assert!(matches!(&refused, Error::Invalid { what, .. } if what == &Narrow::spec().name), "{refused}");
    assert!(matches!(Tape::open(&rig.config), Err(Error::Journal(_))));
    let recorder = tape.recorder();
    drop(tape.close(SHORT));
    assert!(matches!(record_attempt(&recorder, 1), Err(Error::Closed(_))));
}

/// Not a test of its own: the bot that `a_bot_killed_…` starts and kills.
#[test]
#[ignore = "started by another test"]
fn the_bot_that_is_killed() {
    let Ok(config) = std::env::var("TRIPOD_TEST_BOT_CONFIG") else { return };
    let journals = PathBuf::from(std::env::var("TRIPOD_TEST_BOT_JOURNALS").unwrap());
    let config = bot_config(Path::new(&config), &journals);
    let tape = Tape::open(&config).unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    for n in 0.. {
        assert_eq!(record_trade(&recorder, base, n), Recorded::Kept);
        if n % 100 == 99 {
            println!("recorded {}", n + 1);
        }
    }
}

fn bot_config(path: &Path, journals: &Path) -> Config {
    // Its own names only: the parent's environment must not reach the parsed keys.
    let mut config = Config::load_with(path, []).unwrap();
    config.bot = "killed".to_owned();
    config.journal.dir = journals.to_owned();
    config.journal.segment_mib = 1;
    config.journal.standard_budget_mib = 256;
    config.tape.table_prefix = "botkilled_".to_owned();
    config
}

#[test]
fn a_bot_killed_in_the_middle_has_lost_no_row_for_which_record_returned() {
    let mut rig = Rig::start("botkilled");
    rig.migrate();
    let journals = rig.config.journal.dir.clone();
    rig.config = bot_config(&rig.stack.config_path(), &journals);
    let mut bot = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "delivery::the_bot_that_is_killed", "--ignored", "--nocapture"])
        .env("TRIPOD_TEST_BOT_CONFIG", rig.stack.config_path())
        .env("TRIPOD_TEST_BOT_JOURNALS", &journals)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bot.stdout.take().unwrap()).lines();
    let mut recorded = 0;
    while recorded < 20_000 {
        let line = lines.next().expect("the bot ended by itself").unwrap();
        recorded = line.strip_prefix("recorded ").map_or(recorded, |n| n.parse().unwrap());
    }
    bot.kill().unwrap();
    bot.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        recorded = line.strip_prefix("recorded ").and_then(|n| n.parse().ok()).unwrap_or(recorded);
    }

    let tape = Tape::open(&rig.config).unwrap();
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    let [count, distinct, sum] = rig.trades_on_server();
    assert!(count >= recorded, "{count} rows on the server, {recorded} were recorded");
    assert_eq!((distinct, sum), (count, sum_below(count)), "rows 0 to {count}, each once");
    let row = rig.ledger_of(&tape, "market_trades");
    assert_eq!((row.recorded, row.visible), (count, count));
}
