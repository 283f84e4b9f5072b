//! QuestDB over HTTP, blocking: SQL for DDL and checks through `/exec`, and the sender that rows go out by.
//!
//! Constraints: every call has one deadline, from the name's resolution to the last byte of the answer. What QuestDB
//! says is passed on in its own words. Numbers stay exact: `/exec` writes DECIMAL as text and LONG as an integer, and
//! floats are read back to the same bits. The password is in no error and no `Debug`.
//!
//! Picture:
//! ```text
//! exec(sql) ──GET /exec──▶ 200 {"columns":…,"dataset":…}  Rows
//!                          4xx {"error":…,"position":…}   Refused, with the place in the SQL
//!                          5xx                            Busy
//!                          no answer                      Unreachable, or Deadline
//! ```
//! A query whose deadline passed may still be running on the server; QuestDB ends it by its own `query.timeout`.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use questdb::ingress::{Protocol, ProtocolVersion, Sender, SenderBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use ureq::tls::{PemItem, RootCerts};

use crate::config::QuestDb;
use crate::error::{Error, Result, Server};

/// Bytes of an answer at most; a larger one is an error that says to add a LIMIT.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Characters of the server's words that go into an error.
const WORDS_CHARS_MAX: usize = 200;

/// An answer to [`QuestDbHttp::exec`]. DDL answers with no columns and no rows.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Rows {
    /// Name and QuestDB type of each column.
    #[serde(default, deserialize_with = "columns")]
    pub columns: Vec<(String, String)>,
    /// The values. DECIMAL, TIMESTAMP, UUID, SYMBOL, VARCHAR are JSON strings, LONG an integer, NULL is null.
    #[serde(default, rename = "dataset")]
    pub rows: Vec<Vec<Value>>,
}

impl Rows {
    /// The place of a column in each row.
    ///
    /// # Errors
    /// [`Error::Refused`] where the answer has no such column: the server is of a version that this one does not know.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.columns.iter().position(|(column, _)| column == name).ok_or_else(|| Error::Refused {
            server: Server::QuestDb,
            what: format!("its answer has no column `{name}`; is it a version that Tripod was tested with?"),
            code: None,
            source: None,
        })
    }
}

fn columns<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    #[derive(Deserialize)]
    struct Column {
        name: String,
        r#type: String,
    }
    Ok(Vec::<Column>::deserialize(deserializer)?.into_iter().map(|column| (column.name, column.r#type)).collect())
}

/// A QuestDB server's HTTP endpoint. Clones share their connections.
#[derive(Clone)]
pub struct QuestDbHttp {
    agent: ureq::Agent,
    /// `https://host:port`.
    base: String,
    /// `host:port`, for errors.
    address: String,
    /// The Authorization header, where there is a password.
    authorization: Option<SecretString>,
    timeout: Duration,
}

impl fmt::Debug for QuestDbHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuestDbHttp").field("base", &self.base).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl QuestDbHttp {
    /// A client of `config.http`; each call ends within `timeout`. Nothing is sent yet. Without a password no login is
    /// sent, which fits a QuestDB that asks for none.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `config.http` is not `host:port`, or `config.ca_file` holds no certificate;
    /// [`Error::File`] where that cannot be read.
    pub fn new(config: &QuestDb, timeout: Duration) -> Result<Self> {
        host_and_port(config)?;
        let scheme = if config.tls { "https" } else { "http" };
        let mut tls = ureq::tls::TlsConfig::builder();
        if let (true, Some(file)) = (config.tls, &config.ca_file) {
            tls = tls.root_certs(authorities(file)?);
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            // A database is reached directly; a proxy of the environment is meant for the web.
            .proxy(None)
            .user_agent("tripod")
            .build()
            .new_agent();
        let (password, token) = (config.password.expose_secret(), config.token.expose_secret());
        let authorization = match (token.is_empty(), password.is_empty()) {
            (false, _) => Some(format!("Bearer {token}").into()),
            (true, false) => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{password}", config.user))).into())
            }
            (true, true) => None,
        };
        Ok(Self {
            agent,
            base: format!("{scheme}://{}", config.http),
            address: config.http.clone(),
            authorization,
            timeout,
        })
    }

    /// Runs one statement and reads the whole answer. When DDL returns Ok, the server has taken it; on a WAL table an
    /// ALTER is applied a moment later.
    ///
    /// # Errors
    /// [`Error::Refused`] with QuestDB's own words and the position in `sql`, or where the login is wrong;
    /// [`Error::Busy`] where the server failed; [`Error::Unreachable`]; [`Error::Deadline`], after which the statement may
    /// still be carried out.
    pub fn exec(&self, sql: &str) -> Result<Rows> {
        self.send(self.agent.get(format!("{}/exec", self.base)).query("query", sql))
    }

    /// [`QuestDbHttp::exec`] for a question: no more than `rows_max` rows, and the server gives it up after `give_up`,
    /// where the client would only stop listening.
    ///
    /// # Errors
    /// As [`QuestDbHttp::exec`]; [`Error::Deadline`] after `give_up`, too.
    pub(crate) fn read(&self, sql: &str, rows_max: usize, give_up: Duration) -> Result<Rows> {
        let request = self
            .agent
            .get(format!("{}/exec", self.base))
            .query("query", sql)
            .query("limit", rows_max.to_string())
            .header("Statement-Timeout", give_up.as_millis().to_string());
        self.send(request).map_err(|error| match error {
            Error::Refused { what, .. } | Error::Busy { what, .. } if what.starts_with("timeout, query aborted") => {
                Error::Deadline {
                    server: Server::QuestDb,
                    what: format!("a query at {}", self.address),
                    after: give_up,
                }
            }
            other => other,
        })
    }

    fn send(&self, mut request: ureq::RequestBuilder<ureq::typestate::WithoutBody>) -> Result<Rows> {
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.expose_secret());
        }
        let mut response = request.call().map_err(|e| self.failed(e))?;
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .lossy_utf8(true)
            .read_to_string()
            .map_err(|e| self.failed(e))?;
        if (200..300).contains(&status) { answer(&body) } else { Err(refusal(status, &body)) }
    }

    /// The server's version, as in `9.3.4`. Needs a good login, so it tells whether that works, too.
    ///
    /// # Errors
    /// As [`QuestDbHttp::exec`].
    pub fn version(&self) -> Result<String> {
        let rows = self.exec("SELECT build")?;
        let build = rows.rows.first().and_then(|row| row.first()).and_then(Value::as_str).unwrap_or_default();
        // "Build Information: QuestDB 9.3.4, JDK 24.0.2, Commit Hash …"
        let version = build.split_once("QuestDB ").and_then(|(_, rest)| rest.split([',', ' ']).next());
        version.filter(|version| !version.is_empty()).map(str::to_owned).ok_or_else(|| Error::Refused {
            server: Server::QuestDb,
            what: format!("its build says no version: `{}`", shortened(build)),
            code: None,
            source: None,
        })
    }

    /// How a [`Sender`] to this server is built: ILP over HTTP; no retry of its own, because the sink decides what is
    /// sent again; one request ends within `request_timeout`, whatever its size; protocol version 3, the first with
    /// decimals, said and not asked for, so that a sender can be built while the server is away. A wrong login shows at
    /// the first flush.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `config.http` is not `host:port`, or the driver refuses user, password or timeout.
    pub fn sender_conf(config: &QuestDb, request_timeout: Duration) -> Result<SenderConf> {
        // The driver's error may quote what it refuses; a login is not passed on.
        let refused = |_| {
            Error::invalid(format!("questdb `{}`", config.name), "user, password or timeout is refused by the driver")
        };
        let (host, port) = host_and_port(config)?;
        let protocol = if config.tls { Protocol::Https } else { Protocol::Http };
        let mut builder = SenderBuilder::new(protocol, host, port)
            .protocol_version(ProtocolVersion::V3)
            .and_then(|builder| builder.retry_timeout(Duration::ZERO))
            .and_then(|builder| builder.request_min_throughput(0))
            .and_then(|builder| builder.request_timeout(request_timeout))
            .map_err(refused)?;
        if let (true, Some(file)) = (config.tls, &config.ca_file) {
            builder = builder.tls_roots(file).map_err(refused)?;
        }
        let (password, token) = (config.password.expose_secret(), config.token.expose_secret());
        if !token.is_empty() {
            builder = builder.token(token).map_err(refused)?;
        } else if !password.is_empty() {
            builder = builder.username(&config.user).and_then(|builder| builder.password(password)).map_err(refused)?;
        }
        Ok(SenderConf { builder, address: config.http.clone() })
    }

    /// The deadline of each call.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    fn failed(&self, error: ureq::Error) -> Error {
        match error {
            ureq::Error::Timeout(_) => self.deadline(),
            // A body cut off by the deadline comes as an io::Error of that kind.
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => self.deadline(),
            ureq::Error::BodyExceedsLimit(bytes) => Error::Refused {
                server: Server::QuestDb,
                what: format!("the answer is larger than {bytes} bytes; add a LIMIT"),
                code: None,
                source: None,
            },
            error => {
                Error::Unreachable { server: Server::QuestDb, address: self.address.clone(), source: Box::new(error) }
            }
        }
    }

    fn deadline(&self) -> Error {
        Error::Deadline {
            server: Server::QuestDb,
            what: format!("a statement at {}", self.address),
            after: self.timeout,
        }
    }
}

/// Builds senders to one server. The driver's own builder prints the password; this one does not.
pub struct SenderConf {
    builder: SenderBuilder,
    address: String,
}

impl fmt::Debug for SenderConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderConf").field("address", &self.address).finish_non_exhaustive()
    }
}

impl SenderConf {
    /// A sender. Connects to nothing yet: that is done by its first flush.
    ///
    /// # Errors
    /// The driver's, where TLS cannot be set up.
    pub fn build(&self) -> questdb::Result<Sender> {
        self.builder.build()
    }
}

/// The certificates of a PEM file, as the only ones to trust.
fn authorities(file: &Path) -> Result<RootCerts> {
    let pem = std::fs::read(file).map_err(|source| Error::File { what: "read", path: file.to_owned(), source })?;
    let found: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(Error::invalid(format!("ca_file {}", file.display()), "holds no certificate in PEM"));
    }
    Ok(RootCerts::from(found))
}

fn host_and_port(config: &QuestDb) -> Result<(&str, u16)> {
    config
        .http
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .ok_or_else(|| {
            Error::invalid(format!("questdb `{}`: http", config.name), format!("`{}` is not host:port", config.http))
        })
}

/// A 2xx answer. QuestDB starts to answer before it has all rows, so an error can still follow, or the end be missing.
fn answer(body: &str) -> Result<Rows> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<String>,
        #[serde(flatten)]
        rows: Rows,
    }
    let broken = |source| Error::Busy {
        server: Server::QuestDb,
        what: "its answer broke off or is not JSON".into(),
        source: Some(Box::new(source)),
    };
    let answer: Answer = serde_json::from_str(body).map_err(broken)?;
    match answer.error {
        Some(what) => Err(Error::Busy { server: Server::QuestDb, what: shortened(&what), source: None }),
        None => Ok(answer.rows),
    }
}

/// An answer with another status than 2xx.
fn refusal(status: u16, body: &str) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        position: Option<u64>,
    }
    let what = match (status, serde_json::from_str::<Refusal>(body)) {
        (401 | 403, _) => "the login; check user and password".to_owned(),
        (_, Ok(Refusal { error, position: Some(position) })) => format!("{} (at {position})", shortened(&error)),
        (_, Ok(Refusal { error, position: None })) => shortened(&error),
        (_, Err(_)) if body.trim().is_empty() => format!("HTTP status {status} without a word"),
        (_, Err(_)) => shortened(body.trim()),
    };
    if status >= 500 {
        return Error::Busy { server: Server::QuestDb, what, source: None };
    }
    Error::Refused { server: Server::QuestDb, what, code: Some(status.to_string()), source: None }
}

/// The server's words in one line. Whoever answers at this address may be no QuestDB at all: a page of a web server, or
/// bytes that would steer a terminal, go no further.
fn shortened(words: &str) -> String {
    // More than is kept, because blanks are drawn together; a large page is not walked to its end.
    let start: String = words.chars().take(WORDS_CHARS_MAX * 8).map(|c| if steers(c) { ' ' } else { c }).collect();
    let line = start.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(WORDS_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Control characters, and those that turn the direction of writing.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
