//! What a question may cost, and how it fails: deadlines, logins, servers that are silent, gone, or back.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use tripod::tape::query::{Limits, Reader, Span};
use tripod::{Config, Error, Server, Timestamp, Uuid};
use tripod_stack::{ServerName, Servers, TestStack};

use super::rig::{Rig, around, now};
use crate::questdb_server::{DEADLINE, http};

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_takes_too_long_ends_at_its_deadline_on_the_server_too() {
    let rig = Rig::new("queryslow");
    // The table of a prefix of its own is an endless view.
    http()
        .exec(
            "CREATE VIEW queryendless_executions AS (SELECT (x*1000)::timestamp_ns at, 's'::symbol strategy, \
             'v'::symbol venue, 'landed'::symbol status, 1::decimal(20,0) fee_lamports, \
             1::decimal(20,0) tip_lamports, 1L profit_lamports, 1::decimal(18,4) slippage_bps \
             FROM long_sequence(500000000000))",
        )
        .unwrap();
    let mut limits = Limits::default();
    limits.deadline = Duration::from_millis(600);
    let reader = Reader::open_on(&rig.config.questdb[0], "queryendless_", limits).unwrap();
    let span = Span::new(Timestamp::EPOCH, Timestamp::now()).unwrap();
    let asked = Instant::now();
    let (typed, plain) = tokio::join!(
        reader.execution_quality(span),
        reader.sql("SELECT sum(profit_lamports % 7) FROM queryendless_executions", 10)
    );
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    for error in [typed.unwrap_err(), plain.unwrap_err()] {
        assert!(matches!(error, Error::Deadline { server: Server::QuestDb, .. }), "{error:?}");
    }
    // Nobody waits for them any more, and the server does not go on with them.
    let started = Instant::now();
    let running =
        "SELECT count() FROM query_activity() WHERE query LIKE '%queryendless%' AND query NOT LIKE '%activity%'";
    while http().exec(running).unwrap().rows[0][0] != 0 {
        assert!(started.elapsed() < DEADLINE, "the server still works on a question that was given up");
    }
    http().exec("DROP VIEW queryendless_executions").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_has_its_type_within_the_deadline() {
    let rig = Rig::new("queryfail");
    let id = Uuid::from_u128(1);
    let mut limits = Limits::default();
    limits.deadline = Duration::from_millis(700);
    let server = rig.config.questdb[0].clone();

    let missing = Reader::open_on(&server, "nosuchprefix_", limits).unwrap().execution(id).await.unwrap_err();
    assert!(matches!(missing, Error::Schema { .. }) && missing.to_string().contains("tripod migrate"), "{missing:?}");

    let mut login = server.clone();
    login.password = "wrong".to_owned().into();
    let reader = Reader::open_on(&login, "queryfail_", limits).unwrap();
    for error in [reader.execution(id).await.unwrap_err(), reader.sql("SELECT 1", 1).await.unwrap_err()] {
        assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("password"), "{error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "the password: {error:?}");
    }

    // Takes the connection and says nothing, as a frozen server does.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut frozen = server.clone();
    (frozen.pg, frozen.http) = (address.clone(), address.clone());
    let reader = Reader::open_on(&frozen, "queryfail_", limits).unwrap();
    let asked = Instant::now();
    let (typed, plain) = tokio::join!(reader.execution(id), reader.sql("SELECT 1", 1));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    for error in [typed.unwrap_err(), plain.unwrap_err()] {
        assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    }

    drop(silent);
    for error in [reader.execution(id).await.unwrap_err(), reader.sql("SELECT 1", 1).await.unwrap_err()] {
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_questions_than_may_be_asked_at_a_time_wait_their_turn_and_a_dropped_one_gives_its_turn_back() {
    let rig = Rig::new("queryturns");
    let reader = rig.reader(|limits| limits.concurrent_max = 1);
    let abandoned = tokio::time::timeout(Duration::from_micros(300), reader.execution_quality(around(now()))).await;
    drop(abandoned);
    let asked = (0..12_u32).map(|n| {
        let reader = reader.clone();
        tokio::spawn(async move {
            match n % 2 {
                0 => reader.execution(Uuid::from_u128(n.into())).await.map(|found| found.is_none()),
                _ => reader.sql("SELECT 1", 1).await.map(|table| table.rows.len() == 1),
            }
        })
    });
    for answer in asked.collect::<Vec<_>>() {
        assert!(answer.await.unwrap().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_asked_again_without_a_new_reader() {
    let stack = TestStack::start(Servers::only(ServerName::QuestDb)).unwrap();
    let server = Config::load_with(&stack.config_path(), []).unwrap().questdb.remove(0);
    let mut limits = Limits::default();
    limits.deadline = Duration::from_secs(3);
    let reader = Reader::open_on(&server, "", limits).unwrap();
    let id = Uuid::from_u128(1);
    assert!(matches!(reader.execution(id).await, Err(Error::Schema { .. })), "it answers: there is no such table");
    stack.kill(ServerName::QuestDb).unwrap();
    assert!(matches!(reader.execution(id).await, Err(Error::Unreachable { .. })));
    stack.start_server(ServerName::QuestDb).unwrap();
    assert!(matches!(reader.execution(id).await, Err(Error::Schema { .. })));
}
