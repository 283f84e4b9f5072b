//! Delivery through a proxy that ends TLS and asks for a login of its own, as open-source QuestDB needs one. The proxy's
//! certificate and what it asks for change under the sink; what arrived is asked of QuestDB itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use secrecy::ExposeSecret as _;
use tripod::Timestamp;
use tripod::tape::query::{Limits, Reader, Span};
use tripod::tape::spec::Importance;
use tripod::tape::{Recorded, SinkState, Tape};
use tripod_stack::ServerName;

use super::rig::{LONG, Rig, record_attempt, record_trade, state, sum_below};
use crate::certificates::Authority;

/// What the proxy shows and asks for at this moment.
struct Face {
    tls: Arc<ServerConfig>,
    authorization: String,
}

struct Proxy {
    address: SocketAddr,
    face: Arc<Mutex<Face>>,
}

/// What a proxy needs to show a certificate of 127.0.0.1, valid until 1 January of `until`.
fn shown(authority: &Authority, until: i32) -> Arc<ServerConfig> {
    let made = authority.certify(until);
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.key.serialize_der()));
    let provider = rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![made.der], private).unwrap())
}

impl Proxy {
    /// In front of the rig's QuestDB, whose own login it sends on.
    fn start(rig: &Rig, tls: Arc<ServerConfig>, authorization: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let face = Arc::new(Mutex::new(Face { tls, authorization: authorization.to_owned() }));
        let (server, shown) = (rig.stack.address(ServerName::QuestDb), Arc::clone(&face));
        let own = &rig.config.questdb[0];
        let own = basic(&own.user, own.password.expose_secret());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, shown, own) = (server.clone(), Arc::clone(&shown), own.clone());
                // A connection that breaks is the client's matter.
                std::thread::spawn(move || serve(client, &server, &shown, &own));
            }
        });
        Self { address, face }
    }

    fn show(&self, tls: Arc<ServerConfig>) {
        self.face.lock().unwrap().tls = tls;
    }

    fn ask_for(&self, authorization: &str) {
        authorization.clone_into(&mut self.face.lock().unwrap().authorization);
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// The requests of one connection, until it ends or another certificate is to be shown.
fn serve(client: TcpStream, server: &str, face: &Mutex<Face>, own: &str) -> Option<()> {
    let tls = Arc::clone(&face.lock().unwrap().tls);
    let mut client = StreamOwned::new(ServerConnection::new(Arc::clone(&tls)).ok()?, client);
    let mut upstream = TcpStream::connect(server).ok()?;
    loop {
        let (head, body) = message(&mut client)?;
        let (asked, changed) = {
            let face = face.lock().unwrap();
            (face.authorization.clone(), !Arc::ptr_eq(&face.tls, &tls))
        };
        if changed {
            return None;
        }
        let mut given = "";
        let mut kept = String::new();
        for line in head.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => given = value,
                _ => kept += &format!("{line}\r\n"),
            }
        }
        if given != asked {
            client.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\nwrong login\n").ok()?;
            continue;
        }
        upstream.write_all(format!("{kept}Authorization: {own}\r\n\r\n").as_bytes()).ok()?;
        upstream.write_all(&body).ok()?;
        let (head, body) = message(&mut upstream)?;
        client.write_all(head.as_bytes()).ok()?;
        client.write_all(&body).ok()?;
        client.flush().ok()?;
    }
}

/// In front of the rig's PostgreSQL protocol: TLS to here, plain from here on.
fn start_pg(rig: &Rig, tls: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = rig.stack.questdb_pg_address();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (server, tls) = (server.clone(), Arc::clone(&tls));
            std::thread::spawn(move || serve_pg(client, &server, tls));
        }
    });
    address
}

fn serve_pg(mut client: TcpStream, server: &str, tls: Arc<ServerConfig>) -> Option<()> {
    // SSLRequest, and that TLS may begin.
    let mut request = [0; 8];
    client.read_exact(&mut request).ok()?;
    assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "the client wants no TLS");
    client.write_all(b"S").ok()?;
    let mut upstream = TcpStream::connect(server).ok()?;
    for side in [&client, &upstream] {
        side.set_read_timeout(Some(Duration::from_millis(5))).ok()?;
    }
    let mut client = StreamOwned::new(ServerConnection::new(tls).ok()?, client);
    loop {
        pass(&mut client, &mut upstream)?;
        pass(&mut upstream, &mut client)?;
    }
}

/// What is there now; none where one side has ended.
fn pass(from: &mut impl Read, to: &mut impl Write) -> Option<()> {
    let mut part = [0; 16 << 10];
    match from.read(&mut part) {
        Ok(0) => None,
        Ok(read) => to.write_all(&part[..read]).and_then(|()| to.flush()).ok(),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(()),
        Err(_) => None,
    }
}

/// Head and body of a request or an answer; the body as it stands on the wire.
fn message(from: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        more(from, &mut bytes)?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut body = bytes.split_off(end);
    let field = |name: &str| {
        let named = head.lines().filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim().to_ascii_lowercase())
    };
    if field("transfer-encoding").is_some_and(|value| value == "chunked") {
        while !ends_with_last_chunk(&body) {
            more(from, &mut body)?;
        }
    } else {
        let len: usize = field("content-length").map_or(0, |value| value.parse().unwrap());
        while body.len() < len {
            more(from, &mut body)?;
        }
    }
    Some((head, body))
}

/// A line of zeros, then an empty one; QuestDB writes two zeros.
fn ends_with_last_chunk(body: &[u8]) -> bool {
    let Some(rest) = body.strip_suffix(b"\r\n\r\n") else { return false };
    let zeros = rest.iter().rev().take_while(|byte| **byte == b'0').count();
    zeros > 0 && (zeros == rest.len() || rest[..rest.len() - zeros].ends_with(b"\n"))
}

fn more(from: &mut impl Read, bytes: &mut Vec<u8>) -> Option<()> {
    let mut part = [0; 16 << 10];
    let read = from.read(&mut part).ok().filter(|read| *read > 0)?;
    bytes.extend_from_slice(&part[..read]);
    Some(())
}

/// The config whose QuestDB is the proxy.
fn through(rig: &Rig, proxy: &Proxy, authority: &Authority) -> tripod::Config {
    let mut config = rig.config.clone();
    let server = &mut config.questdb[0];
    (server.http, server.tls, server.ca_file) = (proxy.address.to_string(), true, Some(authority.file.clone()));
    (server.user, server.password) = ("bot".to_owned(), "secret-pass".to_owned().into());
    config.tape.request_timeout_ms = 20_000;
    config
}

fn is_in(tape: &Tape, expected: SinkState, words: &str) {
    let end = Instant::now() + LONG;
    loop {
        let (state, why) = state(tape, Importance::Standard);
        assert!(!why.contains("secret"), "a secret is in it: {why}");
        if state == expected && why.contains(words) {
            return;
        }
        assert!(Instant::now() < end, "the sink does not say {words} but {state:?}: {why}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn rows_go_through_tls_with_a_password_and_every_fault_of_it_is_named_and_mended_without_a_loss() {
    let rig = Rig::start("tlsbasic");
    rig.migrate();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("a stranger's"));
    let (good, login) = (shown(&authority, 2100), basic("bot", "secret-pass"));
    let proxy = Proxy::start(&rig, Arc::clone(&good), &login);
    let tape = Tape::open(&through(&rig, &proxy, &authority)).unwrap();
    let (recorder, base) = (tape.recorder(), Timestamp::now());
    let mut rows = 0;
    let mut record = || {
        (rows..rows + 500).for_each(|n| assert_eq!(record_trade(&recorder, base, n), Recorded::Kept));
        rows += 500;
        rows
    };
    let all_there = |rows: u64| {
        assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
        assert_eq!(rig.trades_on_server(), [rows, rows, sum_below(rows)]);
        assert_eq!(rig.ledger_of(&tape, "market_trades").visible, rows);
    };
    all_there(record());

    proxy.show(shown(&stranger, 2100));
    record();
    is_in(&tape, SinkState::Certificate, "invalid peer certificate");
    proxy.show(shown(&authority, 2021));
    is_in(&tape, SinkState::Certificate, "xpired");
    proxy.show(Arc::clone(&good));
    all_there(record());

    proxy.ask_for(&basic("bot", "another"));
    record();
    is_in(&tape, SinkState::Login, "password");
    proxy.ask_for(&login);
    all_there(record());
}

#[test]
fn rows_go_through_tls_with_a_token() {
    let rig = Rig::start("tlstoken");
    rig.migrate();
    let authority = Authority::new("ours");
    let proxy = Proxy::start(&rig, shown(&authority, 2100), "Bearer secret-token");
    let mut config = through(&rig, &proxy, &authority);
    config.questdb[0].token = "secret-token".to_owned().into();
    let tape = Tape::open(&config).unwrap();
    for n in 0..100 {
        record_trade(&tape.recorder(), Timestamp::now(), n);
    }
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    assert_eq!(rig.trades_on_server(), [100, 100, sum_below(100)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_back_through_tls_of_an_authority_of_ones_own_and_of_no_other() {
    let rig = Rig::start("tlsread");
    rig.migrate();
    let authority = Authority::new("ours");
    let proxy = Proxy::start(&rig, shown(&authority, 2100), &basic("bot", "secret-pass"));
    let mut config = through(&rig, &proxy, &authority);
    let tape = Tape::open(&config).unwrap();
    for n in 0..30 {
        record_attempt(&tape.recorder(), n).unwrap();
    }
    assert!(tokio::task::block_in_place(|| tape.wait_visible(LONG)).unwrap(), "{:?}", tape.sinks());

    // QuestDB's own login from here on: this proxy looks into nothing.
    let own = &rig.config.questdb[0];
    (config.questdb[0].user, config.questdb[0].password) = (own.user.clone(), own.password.clone());
    let reader = |config: &tripod::Config| {
        let mut limits = Limits::default();
        limits.deadline = LONG;
        Reader::open(config, limits).unwrap()
    };
    let span = Span::last(Duration::from_hours(1));
    config.questdb[0].pg = start_pg(&rig, shown(&authority, 2100)).to_string();
    assert_eq!(reader(&config).attempts_without_end(span).await.unwrap().rows.len(), 30);
    config.questdb[0].pg = start_pg(&rig, shown(&Authority::new("a stranger's"), 2100)).to_string();
    let error = reader(&config).attempts_without_end(span).await.unwrap_err();
    assert!(format!("{error:?}").contains("InvalidCertificate"), "{error:?}");
}
