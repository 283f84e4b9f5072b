//! What one `record()` of an execution (29 of 31 columns) costs its caller, and which part of it is what.
//!
//! `cargo bench -p tripod --bench record`. First in runs of 1,000 calls, so that the clock costs nothing: the best run
//! says what the code costs, the middle one what the machine adds. Then, paced at 10,000 a second, each call on its own,
//! with the clock in it (printed beside) and in cold caches, as in a bot; what the kernel did to the thread meanwhile
//! (page faults, taking the processor away) stands beside the calls that took longer than 2 us.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and ends at the first surprise")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tripod::config::Config;
use tripod::tape::tables::{Attempt, Execution, ExecutionStatus};
use tripod::tape::{Tape, encode};
use tripod::{Decimal, Timestamp, Token, Uuid};

const RUN: u64 = 1_000;
const RUNS: u64 = 300;
const PACED: u64 = 50_000;
const PAUSE: Duration = Duration::from_micros(100);
const SIGNATURE: &str = "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW";

fn execution(at: Timestamp, token: Token, number: u64) -> Execution<'static> {
    let attempt = Attempt {
        route: Some("raydium>orca"),
        signature: Some(SIGNATURE),
        amount_in: 1_000_000_000 + number,
        expected_amount_out: Some(1_000_050_000 + number),
        expected_price: Some(Decimal::new(1_000_050, 6)),
        slot_seen: Some(348_219_411),
        slot_sent: Some(348_219_412),
        decide_ns: Some(81_000),
        build_ns: Some(120_000),
        ..Attempt::new(Uuid::from_u128(u128::from(number)), at, "triangle", "raydium", token)
    };
    Execution {
        amount_out: Some(1_000_048_000 + number),
        realised_price: Some(Decimal::new(1_000_048, 6)),
        slippage_bps: Some(Decimal::new(2, 2)),
        profit_lamports: Some(43_000),
        fee_lamports: Some(7_000),
        priority_fee_lamports: Some(2_000),
        tip_lamports: Some(3_000),
        compute_units: Some(231_402),
        slot_landed: Some(348_219_413),
        send_ns: Some(310_000),
        land_ns: Some(402_000_000),
        ..Execution::of(&attempt, at, ExecutionStatus::Landed)
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap()
}

/// Many runs: nanoseconds a call in the best one and in the middle one.
fn in_runs(mut call: impl FnMut(u64)) -> String {
    let mut times: Vec<u64> = (0..RUNS)
        .map(|run| {
            let started = Instant::now();
            (0..RUN).for_each(|number| call(run * RUN + number));
            nanos(started)
        })
        .collect();
    times.sort_unstable();
    let at = |index: usize| format!("{}.{}", times[index] / RUN, times[index] % RUN * 10 / RUN);
    format!("best {} ns, middle {} ns", at(0), at(times.len() / 2))
}

/// What the kernel did to this thread so far: minor page faults, and times that it was taken off the processor.
fn suffered() -> (u64, u64) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/{file}")).unwrap();
    // Behind the name in brackets: state, ppid, pgrp, session, tty, tpgid, flags, minflt.
    let faults = read("stat").rsplit_once(')').unwrap().1.split_whitespace().nth(7).unwrap().parse().unwrap();
    let status = read("status");
    let preempted = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    (faults, preempted.unwrap().trim().parse().unwrap())
}

fn paced(name: &str, mut call: impl FnMut(u64)) {
    let before = suffered();
    let mut next = Instant::now();
    let mut times: Vec<u64> = (0..PACED)
        .map(|number| {
            while Instant::now() < next {
                std::hint::spin_loop();
            }
            next = Instant::now() + PAUSE;
            let started = Instant::now();
            call(number);
            nanos(started)
        })
        .collect();
    let after = suffered();
    times.sort_unstable();
    let at = |per_mille: usize| times[times.len() * per_mille / 1000];
    let long = times.len() - times.partition_point(|nanos| *nanos <= 2_000);
    println!(
        "{name}, paced: p50 {} ns, p99 {} ns, p99.9 {} ns; {long} took longer than 2 us; {} faults, {} times preempted",
        at(500),
        at(990),
        at(999),
        after.0 - before.0,
        after.1 - before.1
    );
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.journal.dir = dir.path().to_owned();
    config.questdb.clear();
    let tape = Tape::open(&config).unwrap();
    let recorder = tape.recorder();
    let (at, token) = (Timestamp::now(), Token::new("So11111111111111111111111111111111111111112").unwrap());
    let row = execution(at, token, 1);
    let len = encode::measure(&row).unwrap();
    let mut room = vec![0; len];
    println!("{len} bytes a row");
    println!("check and measure: {}", in_runs(|_| drop(black_box(encode::measure(black_box(&row))))));
    println!("write: {}", in_runs(|_| drop(black_box(encode::fill(black_box(&row), &mut room)))));
    println!("record(): {}", in_runs(|_| drop(black_box(recorder.record(black_box(&row))))));
    paced("clock alone", |_| {});
    paced("record()", |number| {
        recorder.record(&execution(at, token, number)).unwrap();
    });
    drop(tape.close(Duration::from_secs(10)));
}
