//! What is around the servers: clocks, the network, the limits of processes, the journals.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tripod::Config;
use tripod::tape::Tape;
use tripod::tape::tables::Attempt;
use tripod::{Error, Timestamp, Token, Uuid};
use tripod_stack::{ServerName, Servers, TestStack};

use super::{doctor, doctor_with, found, found_in, ids, stack};
use crate::run::{Said, run};

/// What the drill `clock-back` puts between a process and its clock.
const SHIFTED_CLOCK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/drill_clock.so"));

#[test]
pub(super) fn a_clock_that_differs_from_the_servers_is_found_for_each_of_them() {
    let stack = stack(Servers::ALL);
    let dir = tempfile::tempdir().unwrap();
    let (object, clock) = (dir.path().join("clock.so"), dir.path().join("clock"));
    std::fs::write(&object, SHIFTED_CLOCK).unwrap();
    let look = |seconds: i64| {
        std::fs::write(&clock, seconds.to_ne_bytes()).unwrap();
        let variables = [("LD_PRELOAD", object.to_str().unwrap()), ("TRIPOD_DRILL_CLOCK", clock.to_str().unwrap())];
        found_in(&doctor_with(stack.data_dir(), &variables))
    };
    assert_eq!(look(0), []);
    for seconds in [-10, 10] {
        let clocks = look(seconds);
        // Both instances of Redis have one.
        assert_eq!(ids(&clocks), ["postgres.clock", "questdb.clock", "redis.clock"], "{seconds} s: {clocks:?}");
    }
}

#[test]
pub(super) fn an_address_off_this_machine_without_tls_is_found() {
    let stack = stack(Servers::ALL);
    let data = stack.data_dir();
    assert_eq!(found(data), []);
    // No loopback address, and it leads here all the same.
    let port = stack.address(ServerName::QuestDb).split(':').next_back().unwrap().to_owned();
    let address = format!("0.0.0.0:{port}");
    let plain = found_in(&doctor_with(data, &[("TRIPOD__QUESTDB__0__HTTP", &address)]));
    assert_eq!(ids(&plain), ["network.plain"], "{plain:?}");
}

#[test]
pub(super) fn few_open_files_are_found() {
    let stack = stack(Servers::ALL);
    let look = |limit: &str| -> Said {
        let program = env!("CARGO_BIN_EXE_tripod");
        let script = format!("ulimit -n {limit}; exec {program} --data . doctor --json");
        Command::new("/bin/sh").args(["-c", &script]).current_dir(stack.data_dir()).output().unwrap().into()
    };
    let says = |limit: &str| look(limit).json()["findings"].to_string().contains("machine.open-files");
    assert!(says("1024"));
    assert!(!says("4096"));
}

/// Small segments, as small a budget as they allow.
const SMALL: [(&str, &str); 2] = [("TRIPOD__JOURNAL__SEGMENT_MIB", "1"), ("TRIPOD__JOURNAL__CRITICAL_BUDGET_MIB", "8")];

#[test]
pub(super) fn a_journal_that_nears_its_budget_and_one_that_cannot_be_read_are_found() {
    let stack = stack(Servers { questdb: true, ..Servers::ALL });
    let data = stack.data_dir();
    let look = || found_in(&doctor_with(data, &SMALL));
    assert_eq!(look(), []);
    stack.stop_server(ServerName::QuestDb).unwrap();
    let mut config = Config::local(data).unwrap();
    (config.journal.segment_mib, config.journal.critical_budget_mib) = (1, 8);
    let tape = Tape::open(&config).unwrap();
    let recorder = tape.recorder();
    let token = Token::new("SOL-USDC").unwrap();
    let full = (0..1_000_000).find_map(|_| {
        recorder.record(&Attempt::new(Uuid::now_v7(), Timestamp::now(), "arbitrage", "orca", token)).err()
    });
    assert!(matches!(full, Some(Error::CannotRecord { .. })), "{full:?}");
    let report = tape.close(std::time::Duration::ZERO);
    assert!(!report.remaining.is_empty(), "nothing waits");
    stack.start_server(ServerName::QuestDb).unwrap();
    let waiting = look();
    assert_eq!(ids(&waiting), ["journal.budget"], "{waiting:?}");

    let class = data.join("journals/bot/critical");
    let mut segments: Vec<_> =
        std::fs::read_dir(class.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    overwrite(&segments[0]);
    let damaged = look();
    assert_eq!(ids(&damaged), ["journal.budget", "journal.damaged"], "{damaged:?}");
    overwrite(&class.join("sinks/main.cursor"));
    let unreadable = look();
    assert_eq!(ids(&unreadable), ["journal.unreadable"], "{unreadable:?}");
}

/// Every byte of the file is another one.
fn overwrite(path: &Path) {
    let len = usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap();
    std::fs::write(path, vec![7_u8; len]).unwrap();
}

#[test]
pub(super) fn a_backup_that_nobody_has_proven_and_one_that_is_too_old_are_found() {
    let stack = stack(Servers::ALL);
    let data = stack.data_dir();
    let done = |arguments: &[&str]| {
        let said = run(data, &[&["--data", ".", "-q"], arguments].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
    };
    assert_eq!(found(data), [], "nobody asked for backups");
    done(&["backup", "create"]);
    let unproven = found(data);
    assert_eq!(ids(&unproven), ["backup.unproven"], "{unproven:?}");
    done(&["backup", "verify"]);
    assert_eq!(found(data), []);
    // Journals that keep nothing of what was delivered: every backup is older than they reach.
    let old = found_in(&doctor_with(data, &[("TRIPOD__JOURNAL__KEEP_HOURS", "0")]));
    assert_eq!(ids(&old), ["backup.old"], "{old:?}");
}

#[test]
pub(super) fn the_machine_is_looked_at_though_no_server_answers() {
    let stack = TestStack::start(Servers::NONE).unwrap();
    let data = stack.data_dir();
    std::fs::set_permissions(stack.config_path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = doctor(data);
    assert_eq!(said.code, Some(3), "{said:?}");
    let text = said.json()["findings"].to_string();
    for id in ["questdb.unreachable", "postgres.unreachable", "redis.unreachable", "machine.config-mode"] {
        assert!(text.contains(id), "{id} is missing in {text}");
    }
    assert!(!text.contains("machine.disk"), "{text}");
    let said = doctor_with(data, &[("TRIPOD__JOURNAL__DEBUG_BUDGET_MIB", "1048576")]);
    assert!(said.json()["findings"].to_string().contains("machine.disk"), "{said:?}");
}
