use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::*;
use crate::error::Advice;

fn config(http: &str) -> QuestDb {
    QuestDb { http: http.into(), user: "bot".into(), password: "hunter2".to_owned().into(), ..QuestDb::default() }
}

fn client(http: &str) -> QuestDbHttp {
    QuestDbHttp::new(&config(http), Duration::from_secs(5)).unwrap()
}

/// Answers one request with `answer`, and hands back the request's head.
fn one_answer(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = read_head(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        head
    });
    (address, server)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn an_answer_is_read_with_its_numbers_exact() {
    let rows = answer(
        r#"{"query":"q","columns":[{"name":"d","type":"DECIMAL(38,18)"},{"name":"l","type":"LONG"},
            {"name":"f","type":"DOUBLE"}],"timestamp":-1,
            "dataset":[["0.100000000000000001",9223372036854775807,0.30000000000000004],[null,-1,5.0E-324]],"count":2}"#,
    )
    .unwrap();
    assert_eq!(rows.columns[1], ("l".into(), "LONG".into()));
    assert_eq!(rows.rows[0][0], Value::from("0.100000000000000001"));
    assert_eq!(rows.rows[0][1].as_i64(), Some(i64::MAX));
    assert_eq!(rows.rows[0][2].as_f64(), Some(0.300_000_000_000_000_04));
    assert_eq!(rows.rows[1][2].as_f64(), Some(f64::from_bits(1)));
    assert!(rows.rows[1][0].is_null());
    assert_eq!(rows.column("f").unwrap(), 2);
    assert!(rows.column("g").unwrap_err().to_string().contains("no column `g`"));
    assert_eq!(answer(r#"{"ddl":"OK"}"#).unwrap(), Rows::default());
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_a_short_one() {
    let error = answer(r#"{"columns":[{"name":"l","type":"LONG"}],"dataset":[[1],[2"#).unwrap_err();
    assert_eq!(error.advice(), Advice::Retry);
    let error = answer(r#"{"columns":[],"dataset":[],"error":"out of memory"}"#).unwrap_err();
    assert!(error.to_string().contains("out of memory"), "{error}");
}

#[test]
fn a_refusal_has_the_servers_own_words() {
    let error = refusal(400, r#"{"query":"selec","error":"unexpected token [selec]","position":7}"#);
    assert_eq!(error.to_string(), "QuestDB refused: unexpected token [selec] (at 7)");
    assert_eq!(error.advice(), Advice::Fix);
    let error = refusal(401, "Unauthorized\r\n");
    assert!(error.to_string().contains("check user and password"), "{error}");
    assert_eq!(refusal(503, "<html>").advice(), Advice::Retry);
    assert_eq!(refusal(404, "").to_string(), "QuestDB refused: HTTP status 404 without a word");
    let page = refusal(404, "<html>\r\n<b>\u{1b}[31mNot\u{202e} found</b>\n").to_string();
    assert_eq!(page, "QuestDB refused: <html> <b> [31mNot found</b>");
    assert!(refusal(400, &"é".repeat(2000)).to_string().chars().count() < 250);
}

#[test]
fn the_statement_and_the_login_go_out_as_questdb_reads_them() {
    let (address, server) = one_answer("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"ddl\":\"OK\"}");
    client(&address).exec("SELECT '50% & more' + \"x\"").unwrap();
    let head = server.join().unwrap();
    assert!(
        head.starts_with("GET /exec?query=SELECT%20%2750%25%20%26%20more%27%20%2B%20%22x%22 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.to_lowercase().contains("authorization: basic ym90omh1bnrlcji="), "{head}");
}

#[test]
fn without_a_password_no_login_is_sent() {
    let (address, server) = one_answer("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"ddl\":\"OK\"}");
    let config = QuestDb { password: String::new().into(), ..config(&address) };
    QuestDbHttp::new(&config, Duration::from_secs(5)).unwrap().exec("SELECT 1").unwrap();
    assert!(!server.join().unwrap().to_lowercase().contains("authorization"));
}

#[test]
fn a_server_error_may_be_tried_again() {
    let (address, _server) = one_answer("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    let error = client(&address).exec("SELECT 1").unwrap_err();
    assert_eq!(error.advice(), Advice::Retry);
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
}

#[test]
fn a_connection_that_is_dropped_or_refused_is_unreachable_and_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dropper = std::thread::spawn(move || drop(listener.accept().unwrap()));
    for _ in ["dropped", "refused"] {
        let error = client(&address).exec("SELECT 1").unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains(&address));
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    dropper.join().unwrap();
}

/// Silent from the start, and silent in the middle of the answer: the deadline is one for all of it.
#[test]
fn a_server_that_does_not_answer_costs_no_more_than_the_deadline() {
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"col"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (done, until_done) = std::sync::mpsc::sync_channel::<()>(1);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(beginning.as_bytes()).unwrap();
            let _ = until_done.recv();
        });
        let timeout = Duration::from_millis(200);
        let started = Instant::now();
        let error = QuestDbHttp::new(&config(&address), timeout).unwrap().exec("SELECT 1").unwrap_err();
        assert!(matches!(error, Error::Deadline { after, .. } if after == timeout), "{error:?}");
        assert!(started.elapsed() >= timeout);
        drop(done);
        server.join().unwrap();
    }
}

#[test]
fn an_address_without_a_port_is_refused_with_the_sinks_name() {
    for bad in ["localhost", ":9000", "localhost:", "localhost:99999"] {
        let config = QuestDb { name: "replica".into(), ..config(bad) };
        let error = QuestDbHttp::new(&config, Duration::from_secs(1)).unwrap_err().to_string();
        assert!(error.contains("replica") && error.contains("host:port"), "{error}");
        assert!(QuestDbHttp::sender_conf(&config, Duration::from_secs(1)).is_err());
    }
}

#[test]
fn the_password_is_in_no_debug() {
    let debug = format!("{:?}", client("127.0.0.1:1"));
    assert!(!debug.contains("hunter2") && !debug.contains("Ym90Omh1bnRlcjI="), "{debug}");
}

#[test]
fn a_sender_is_built_while_the_server_is_away_and_speaks_the_version_with_decimals() {
    let config = config("127.0.0.1:1");
    let sender = QuestDbHttp::sender_conf(&config, Duration::from_secs(1)).unwrap().build().unwrap();
    assert_eq!(sender.protocol_version(), ProtocolVersion::V3);
}
