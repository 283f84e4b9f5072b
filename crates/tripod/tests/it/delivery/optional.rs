//! A server that is not required: dead, it slows nobody, holds nothing back, and what it missed is counted.

use tripod::Timestamp;
use tripod::tape::spec::Importance;
use tripod::tape::{Recorded, SinkState, SinkStatus, Tape};

use super::rig::{LONG, Rig, record_trade, sum_below, until};

fn rig(name: &str) -> Rig {
    let mut rig = Rig::start(name);
    rig.migrate();
    let mut replica = rig.config.questdb[0].clone();
    replica.name = "replica".to_owned();
    replica.required = false;
    // Port 9 (discard) of this machine: nobody listens.
    replica.http = "127.0.0.1:9".to_owned();
    rig.config.questdb.push(replica);
    // Eight segments: the dead one falls behind soon.
    rig.config.journal.standard_budget_mib = 8;
    rig.config.journal.keep_hours = 0;
    rig
}

fn replica(tape: &Tape) -> SinkStatus {
    tape.sinks().into_iter().find(|s| s.class == Importance::Standard && s.sink == "replica").unwrap()
}

/// recorded, pending, visible, missed of the replica's trades; each row of the ledger adds up.
fn counts(tape: &Tape) -> [u64; 4] {
    let rows = tape.ledger().unwrap();
    assert!(rows.iter().all(|row| row.adds_up), "{rows:?}");
    let row = rows.into_iter().find(|row| row.sink == "replica" && row.table == "market_trades").unwrap();
    [row.recorded, row.pending, row.visible, row.missed]
}

#[test]
fn a_dead_optional_server_slows_nobody_blocks_no_deletion_and_what_it_missed_is_counted() {
    // Twice what eight segments hold.
    const ROWS: u64 = 150_000;
    let mut rig = rig("optional");
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    for n in 0..ROWS {
        assert_eq!(record_trade(&recorder, base, n), Recorded::Kept, "row {n}: its segments were held back");
        if n % 10_000 == 0 {
            // The journal's segments are for what the required server has not got yet.
            assert!(tape.wait_visible(LONG).unwrap(), "the dead one is waited for: {:?}", tape.sinks());
            counts(&tape);
        }
    }
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    assert_eq!(rig.trades_on_server(), [ROWS, ROWS, sum_below(ROWS)]);
    until("it is detached and has counted", LONG, || {
        counts(&tape);
        replica(&tape).state == SinkState::Detached && counts(&tape) == [ROWS, 0, 0, ROWS]
    });
    let said = replica(&tape);
    assert!(said.why.contains("not required") && said.missed_rows > 0, "{said:?}");

    // Its server comes back: it stays away until it is told, and then has what is recorded from then on.
    drop(tape.close(LONG));
    rig.config.questdb[1].http = rig.config.questdb[0].http.clone();
    let tape = Tape::open(&rig.config).unwrap();
    for n in ROWS..ROWS + 100 {
        record_trade(&tape.recorder(), base, n);
    }
    until("the replica has the new rows", LONG, || counts(&tape) == [ROWS + 100, 0, 100, ROWS]);
    assert_eq!(replica(&tape).state, SinkState::Delivering);
}

#[test]
fn a_detached_sink_goes_on_when_it_is_told() {
    let rig = rig("attached");
    let tape = Tape::open(&rig.config).unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    let mut rows = 0;
    while replica(&tape).state != SinkState::Detached {
        for n in rows..rows + 5_000 {
            assert_eq!(record_trade(&recorder, base, n), Recorded::Kept);
        }
        rows += 5_000;
        assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
        assert!(rows < 5_000_000, "it never fell behind: {:?}", replica(&tape));
    }
    until("all is counted", LONG, || counts(&tape) == [rows, 0, 0, rows]);
    tape.attach("replica");
    until("it tries again", LONG, || replica(&tape).state != SinkState::Detached);
    record_trade(&recorder, base, rows);
    until("what comes now waits for it", LONG, || counts(&tape) == [rows + 1, 1, 0, rows]);
}
