//! A small HTTP server for what the tests serve (a bot's metrics) and receive (an Alertmanager's messages).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Gives `answer` the path and the body of each request, and sends what it says.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&str, &str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                // A client that goes away is its own business.
                let _ = stream.and_then(|stream| serve(&stream, &answer));
            }
        });
        Self { address, ends, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: &TcpStream, answer: &impl Fn(&str, &str) -> String) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let said = answer(first.split(' ').nth(1).unwrap_or("/"), &String::from_utf8_lossy(&body));
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}",
        said.len()
    )
}

/// The text behind an address.
pub(crate) fn get(url: &str) -> Result<String, String> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(15))).proxy(None).build().into();
    let mut answer = agent.get(url).call().map_err(|error| format!("{url}: {error}"))?;
    answer.body_mut().read_to_string().map_err(|error| format!("{url}: {error}"))
}

/// The JSON behind an address.
pub(crate) fn get_json(url: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(&get(url)?).map_err(|error| format!("{url}: {error}"))
}

/// Sends a JSON document.
pub(crate) fn post(url: &str, body: &serde_json::Value) -> Result<(), String> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(15))).proxy(None).build().into();
    let request = agent.post(url).header("content-type", "application/json");
    request.send(body.to_string()).map(drop).map_err(|error| format!("{url}: {error}"))
}
