//! A stand-in for a node: answers what the test says, and keeps what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Status line and further headers, body. An empty status never answers, and holds the connection.
pub(crate) type Reply = (&'static str, String);

pub(crate) struct StandIn {
    address: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl StandIn {
    /// `reply` has the number of the question, from 0, and the question.
    pub(crate) fn start(reply: impl Fn(usize, &Value) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let Some((path, question)) = question(&connection) else { continue };
                let number = kept.lock().unwrap().len();
                kept.lock().unwrap().push((path, question.clone()));
                let (head, body) = reply(number, &question);
                if head.is_empty() {
                    held.push(connection);
                    continue;
                }
                let text =
                    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                // Whoever asked may have gone away.
                let _ = connection.write_all(text.as_bytes());
            }
        });
        Self { address, asked }
    }

    /// With a login, a key in the path and one in the query.
    pub(crate) fn url(&self) -> String {
        format!("http://ada:LOGINSECRET@{}/v2/PATHSECRET?api-key=QUERYSECRET", self.address)
    }

    pub(crate) fn shown(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Path and question of each.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

fn question(connection: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let (name, value) = line.trim().split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, serde_json::from_slice(&body).ok()?))
}
