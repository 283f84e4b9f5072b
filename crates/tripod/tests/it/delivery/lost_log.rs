//! A part of a table's log that becomes unreadable under a server that goes on: its rows come again, also those that are
//! delivered while that part is being passed, on a server that takes its time with it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use tripod::Timestamp;
use tripod::tape::Tape;

use super::forget::{all_there, comes_back, record_and_see, rig, sink, table_dir, wal_dirs};
use super::rig::{LONG, record_trade, until};

/// Long enough for many batches.
const SLOW: Duration = Duration::from_secs(2);
/// Stands in the question for the transactions that are to be passed, and in no other.
const QUESTION: &[u8] = b"segmentId";

/// The address of a way to the server on which that question takes its time. Ends with its connections.
fn slow_way(server: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, server) = (listener.local_addr().unwrap().to_string(), server.to_owned());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(to) = TcpStream::connect(&server) else { continue };
            let (back_from, back_to) = (to.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || copy(client, to, true));
            std::thread::spawn(move || copy(back_from, back_to, false));
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream, is_asking: bool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if is_asking && bytes[..read].windows(QUESTION.len()).any(|part| part == QUESTION) {
            std::thread::park_timeout(SLOW);
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn what_is_delivered_again_is_not_passed_with_the_lost_part_of_the_log() {
    let mut rig = rig("lostlog");
    let (tape, direct) = {
        let direct = rig.config.clone();
        rig.config.questdb[0].http = slow_way(&direct.questdb[0].http);
        (Tape::open(&rig.config).unwrap(), direct)
    };
    // What the test asks goes to the server itself.
    rig.config = direct;
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    record_and_see(&rig, &tape, base, 0..1_000);
    let mut rows = 1_000;
    let mut more = || {
        for _ in 0..50 {
            record_trade(&recorder, base, rows);
            rows += 1;
        }
        rows
    };
    until("some are visible", LONG, || more() > 3_000 && rig.ledger_of(&tape, "market_trades").visible > 2_000);
    let wal = wal_dirs(&table_dir(&rig, &rig.table("market_trades"))).pop().unwrap();
    let mut segments: Vec<_> = std::fs::read_dir(&wal).unwrap().flatten().map(|entry| entry.path()).collect();
    segments.retain(|path| path.is_dir());
    segments.sort_by_key(|path| path.file_name().unwrap().to_str().unwrap().parse::<u32>().unwrap());
    let event = segments.pop().unwrap().join("_event");
    std::fs::rename(&event, event.with_extension("gone")).unwrap();
    until("the sink went back", LONG, || {
        more();
        sink(&tape).last_rewind.is_some_and(|rewind| rewind.why.contains("cannot be read"))
    });
    until("the table goes on", LONG, || {
        more();
        sink(&tape).suspended.is_empty()
    });
    let rows = more();
    comes_back(&rig, &tape, rows);
    all_there(&rig, &tape, rows);
}
