//! Sinks in another process: the bot only records, and what it says about its rows is what that process has done.

use std::time::Duration;

use tripod::config::Delivery;
use tripod::tape::spec::Importance;
use tripod::tape::{Deliverer, Recorded, SinkState, Tape};
use tripod::{Error, Timestamp};
use tripod_stack::ServerName;

use super::rig::{LONG, Rig, record_attempt, record_trade, state, sum_below, until};

fn rig(name: &str) -> Rig {
    let mut rig = Rig::start(name);
    rig.migrate();
    rig.config.tape.delivery = Delivery::Beside;
    rig
}

#[test]
fn a_bot_that_only_records_sees_what_another_process_delivers() {
    const ROWS: u64 = 5_000;
    let rig = rig("beside");
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    for n in 0..ROWS {
        assert_eq!(record_trade(&recorder, base, n), Recorded::Kept);
    }
    // Nobody has ever delivered: the truth is that all of it waits, for a sink that is named.
    let row = rig.ledger_of(&tape, "market_trades");
    assert_eq!((row.recorded, row.pending, row.visible), (ROWS, ROWS, 0));
    assert!(!tape.wait_visible(Duration::from_millis(100)).unwrap());
    let sinks = tape.sinks();
    assert_eq!(sinks.len(), 3, "{sinks:?}");
    assert!(sinks.iter().all(|sink| sink.state == SinkState::NotRunning && sink.pid.is_none()), "{sinks:?}");

    let deliverer = Deliverer::open(&rig.config, &rig.config.bot).unwrap();
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    assert_eq!(rig.trades_on_server(), [ROWS, ROWS, sum_below(ROWS)]);
    let row = rig.ledger_of(&tape, "market_trades");
    assert_eq!((row.recorded, row.visible, row.pending, row.delivered), (ROWS, ROWS, 0, 0));
    until("its state is told", LONG, || state(&tape, Importance::Standard).0 == SinkState::Delivering);
    assert!(tape.sinks().iter().all(|sink| sink.pid == Some(std::process::id())), "{:?}", tape.sinks());

    // What holds it up is told too, and since when, and that it is over.
    rig.stack.kill(ServerName::QuestDb).unwrap();
    record_trade(&recorder, base, ROWS);
    until("the bot is told", LONG, || state(&tape, Importance::Standard).0 == SinkState::Unavailable);
    assert!(!state(&tape, Importance::Standard).1.is_empty(), "it does not say why");
    assert!(!tape.wait_visible(Duration::from_millis(100)).unwrap());
    rig.stack.start_server(ServerName::QuestDb).unwrap();
    let report = tape.close(LONG);
    assert!(report.remaining.is_empty() && report.troubles.is_empty(), "{report:?}");
    assert_eq!(rig.trades_on_server(), [ROWS + 1, ROWS + 1, sum_below(ROWS + 1)]);
    assert!(deliverer.close(LONG).remaining.is_empty());
}

#[test]
fn closing_with_nobody_to_deliver_does_not_wait_and_says_what_remains() {
    let rig = rig("besidenobody");
    let tape = Tape::open(&rig.config).unwrap();
    for n in 0..10 {
        record_trade(&tape.recorder(), Timestamp::now(), n);
    }
    // An hour: the test would not end if it waited.
    let report = tape.close(Duration::from_secs(3600));
    let left: Vec<_> = report.remaining.iter().map(|row| (row.table.as_str(), row.pending)).collect();
    assert_eq!(left, [("market_trades", 10)], "{report:?}");
    assert!(report.troubles.iter().any(|trouble| trouble.contains("tripod deliver")), "{report:?}");
}

#[test]
fn the_kill_switch_is_given_back_when_another_process_has_made_room() {
    let mut rig = rig("besidefull");
    rig.config.journal.critical_budget_mib = 4;
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, mut allowed) = (tape.recorder(), tape.trading_allowed());
    let mut kept = 0_u64;
    while record_attempt(&recorder, u128::from(kept)).is_ok() {
        kept += 1;
        assert!(kept < 1_000_000, "4 MiB never filled up");
    }
    assert!(!*allowed.borrow_and_update());
    let deliverer = Deliverer::open(&rig.config, &rig.config.bot).unwrap();
    until("trading is allowed again", LONG, || *allowed.borrow_and_update());
    assert_eq!(record_attempt(&recorder, u128::from(kept)).unwrap(), Recorded::Kept);
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    let all = (kept + 1).to_string();
    assert_eq!(rig.ask(&format!("SELECT count() FROM {}", rig.table("attempts"))), [all]);
    drop(deliverer);
}

#[test]
fn two_do_not_deliver_and_the_second_is_told_how_to_leave_it_to_the_first() {
    let mut rig = rig("besidetwice");
    let tape = Tape::open(&rig.config).unwrap();
    let deliverer = Deliverer::open(&rig.config, &rig.config.bot).unwrap();
    drop(tape.close(LONG));
    rig.config.tape.delivery = Delivery::Inside;
    let refused = Tape::open(&rig.config).unwrap_err();
    assert!(matches!(refused, Error::Conflict { .. }), "{refused}");
    let words = refused.to_string();
    assert!(words.contains("delivery") && words.contains(&std::process::id().to_string()), "{words}");
    assert!(matches!(Deliverer::open(&rig.config, &rig.config.bot), Err(Error::Conflict { .. })));
    drop(deliverer);
    let tape = Tape::open(&rig.config).unwrap();
    assert!(tape.wait_visible(LONG).unwrap());
}
