//! The listener and its routes. Read-only: nothing that is asked here changes anything, or asks a server anything.
//!
//! Constraints: bounded: so many connections, so long for a request's head, so much buffered for a client that does not
//! read, so long until one that is gone is noticed. Every answer is made from the newest sample.
//!
//! ```text
//! GET /              the page, or what is missing to have one     GET /api/snapshot   the newest sample
//! GET /assets/…      its files                                    GET /api/history    the last quarter of an hour
//! GET /metrics       Prometheus text                              GET /api/events     a sample a second, as it comes
//! GET /health        200 while no alert is critical, else 503
//! ```

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tripod::Timestamp;

use super::access::{Access, Verdict};
use super::history::History;
use super::page;
use super::snapshot::Severity;
use super::sse::{self, Frame};

/// Connections at once; a browser has one for the events and some for files.
const CONNECTIONS_MAX: usize = 128;
/// Clients of the events at once.
const EVENTS_MAX: usize = 64;
/// The head of a request comes within this, and the next one on the same connection.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Buffered of one connection at most.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Bytes that the kernel keeps for a client that does not read.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// A client that takes nothing for so long is gone.
const GONE_AFTER_MS: u32 = 60_000;
/// A sample that is older means that the monitor itself has stopped.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(10);

/// What every request needs.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) access: Access,
    pub(super) frames: watch::Receiver<Arc<Frame>>,
    pub(super) history: Arc<Mutex<History>>,
    /// True once the monitor ends.
    pub(super) stop: watch::Receiver<bool>,
    pub(super) streams: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(
        access: Access,
        frames: watch::Receiver<Arc<Frame>>,
        history: Arc<Mutex<History>>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { access, frames, history, stop, streams: Arc::new(Semaphore::new(EVENTS_MAX)) }
    }

    fn frame(&self) -> Arc<Frame> {
        Arc::clone(&self.frames.borrow())
    }
}

/// Answers until `shared.stop` says so.
pub(super) async fn serve(listener: TcpListener, shared: Shared) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stop = shared.stop.clone();
    let router = router(shared);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (stream, place) = accepted;
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .max_buf_size(BUFFER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off is no news.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => {
                prepare(&stream);
                return (stream, place);
            }
            Err(error) => {
                // Out of files, most often: a moment later there may be one.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Best effort: without these a client that is gone is noticed later.
fn prepare(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_tcp_user_timeout(stream, GONE_AFTER_MS);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES);
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/api/snapshot", get(snapshot))
        .route("/api/history", get(history))
        .route("/api/events", get(events))
        .fallback(file)
        .layer(from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Before every route: who asks, by which method; behind it, what no answer may lack.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let verdict = shared.access.judge(request.uri(), request.headers());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match verdict {
        Verdict::ForeignHost => refuse(
            StatusCode::MISDIRECTED_REQUEST,
            "without a token the monitor answers to localhost, 127.0.0.1 and [::1] only; set [monitor] token_file",
        ),
        Verdict::NoToken => {
            let mut response = refuse(
                StatusCode::UNAUTHORIZED,
                "show the token: /?token=… in a browser, `Authorization: Bearer …` elsewhere",
            );
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        _ if !is_read => {
            let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "everything here is read-only: GET or HEAD");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        Verdict::Welcome(cookie) => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
            response
        }
        Verdict::Granted => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, page::POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[derive(Debug, Serialize)]
struct Refusal {
    error: &'static str,
}

fn refuse(status: StatusCode, error: &'static str) -> Response {
    let body = serde_json::to_vec(&Refusal { error }).unwrap_or_default();
    answer(status, "application/json", body.into())
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}

async fn index(headers: HeaderMap) -> Response {
    page::index(&headers)
}

async fn file(uri: Uri, headers: HeaderMap) -> Response {
    page::file(uri.path(), &headers).unwrap_or_else(|| {
        refuse(
            StatusCode::NOT_FOUND,
            "there is /, /metrics, /health, /api/snapshot, /api/history, /api/events; nothing else",
        )
    })
}

async fn metrics(State(shared): State<Shared>) -> Response {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", shared.frame().metrics())
}

async fn snapshot(State(shared): State<Shared>) -> Response {
    answer(StatusCode::OK, "application/json", shared.frame().json())
}

async fn history(State(shared): State<Shared>) -> Response {
    answer(StatusCode::OK, "application/json", shared.frame().history(&shared.history))
}

async fn events(State(shared): State<Shared>) -> Response {
    let Ok(place) = Arc::clone(&shared.streams).try_acquire_owned() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many clients follow the events; close one of them");
    };
    use futures_util::StreamExt as _;
    let events = sse::events(shared.frames.clone(), shared.stop.clone()).inspect(move |_| {
        // The place is given back with the stream.
        let _ = &place;
    });
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    (StatusCode::OK, headers, Body::from_stream(events)).into_response()
}

/// `/health`.
#[derive(Debug, Serialize)]
struct Health<'a> {
    ok: bool,
    seq: u64,
    at: &'a str,
    servers: Vec<HealthServer<'a>>,
    /// What makes it not ok.
    critical: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct HealthServer<'a> {
    name: &'a str,
    state: super::snapshot::State,
}

async fn health(State(shared): State<Shared>) -> Response {
    let frame = shared.frame();
    let (status, body) = judge(&frame, Timestamp::now());
    answer(status, "application/json", body.into())
}

fn judge(frame: &Frame, now: Timestamp) -> (StatusCode, Vec<u8>) {
    let snapshot = &frame.snapshot;
    let age = snapshot.at.parse().map_or(Duration::MAX, |at| now.since(at));
    let mut critical: Vec<&str> = snapshot
        .alerts
        .iter()
        .filter(|alert| alert.severity == Severity::Critical)
        .map(|alert| alert.what.as_str())
        .collect();
    if age > SAMPLE_AGE_MAX {
        critical.push("the monitor itself samples no more");
    }
    let ok = critical.is_empty();
    let servers =
        snapshot.servers.iter().map(|server| HealthServer { name: &server.name, state: server.state }).collect();
    let health = Health { ok, seq: snapshot.seq, at: &snapshot.at, servers, critical };
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, serde_json::to_vec(&health).unwrap_or_default())
}

/// Takes the address.
///
/// # Errors
/// One sentence for an address that somebody has, or that is not this machine's.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, crate::exit::Stop> {
    TcpListener::bind(address).await.map_err(|error| {
        let (what, hint) = match error.kind() {
            std::io::ErrorKind::AddrInUse => (
                format!("{address} is taken, perhaps by another `tripod monitor`"),
                format!(
                    "--listen takes another address (port 0: any free one); `ss -ltnp 'sport = :{}'` names who has it",
                    address.port()
                ),
            ),
            std::io::ErrorKind::PermissionDenied => (
                format!("this user may not listen on {address}"),
                "ports below 1024 are the system's; --listen takes another address".to_owned(),
            ),
            _ => (
                format!("cannot listen on {address}: {error}"),
                "--listen takes an address of this machine, e.g. 127.0.0.1:9600".to_owned(),
            ),
        };
        crate::exit::Stop::usage(what, hint)
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn health_is_false_for_a_critical_alert_and_for_a_monitor_that_has_stopped() {
        let frame = |snapshot| Frame::new(snapshot, Arc::default());
        let at: Timestamp = samples::quiet().at.parse().unwrap();
        let later = |seconds| at.checked_add(Duration::from_secs(seconds)).unwrap();
        assert_eq!(judge(&frame(samples::quiet()), later(1)).0, StatusCode::OK);
        assert_eq!(judge(&frame(samples::quiet()), later(60)).0, StatusCode::SERVICE_UNAVAILABLE);
        let (status, body) = judge(&frame(samples::full()), later(1));
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["ok"], false);
        assert!(!body["critical"].as_array().unwrap().is_empty(), "{body}");
    }
}
