//! Mint accounts from a node, by JSON-RPC: `getMultipleAccounts`, a hundred at a time.
//!
//! Constraints: the node's address may hold a key (in its path, its query or before its host), so only scheme and host are
//! ever shown, and nothing of the address or of a driver's words about it reaches an error or a log. Each attempt has a
//! deadline, each answer a limit. What may pass (429, 5xx, no answer, a node that is behind) is asked again after a
//! growing pause, or the one that the node asks for, a bounded number of times; what will not pass is an error at once.
//! The slot is the one that the answer names, so an answer of a node that is behind never replaces a newer one.
//!
//! ```text
//! mints ─▶ Node::accounts(≤ 100) ─▶ attempt ─▶ 200: Answer { slot, observations, refused }
//!                                     ▲   │ 429, 5xx, no answer
//!                                     └ pause
//! ```

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::import::{Refused, observation};
use super::{Address, Observation};

/// Accounts of one question at most: what nodes allow.
pub const ACCOUNTS_MAX: usize = 100;
/// Bytes of one answer at most. A hundred mints have 100 KB; a node that sends more than this is not asked again.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Characters of a node's own words that an error shows.
const WORDS_CHARS_MAX: usize = 200;

/// How a node is asked.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct NodeOptions {
    /// One attempt ends within this. Default 15 s. Shorter gives up on slow nodes, longer waits for dead ones.
    pub attempt_deadline: Duration,
    /// Attempts for one question. Default 6: with the pauses below about a quarter of a minute of trouble is outlasted.
    pub attempts: u32,
    /// The pause after the first attempt that failed; each further one is twice as long. Default 500 ms.
    pub pause: Duration,
    /// No pause is longer, also where the node asks for one. Default 20 s.
    pub pause_max: Duration,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            attempt_deadline: Duration::from_secs(15),
            attempts: 6,
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(20),
        }
    }
}

/// Why a node gave no accounts. None of the words holds the node's path, query or login.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The address is none that can be asked.
    #[error("the node's address {0}")]
    Address(&'static str),
    /// The node did not answer, or said each time that it could not now. Try again later.
    #[error("{node} did not answer: {why}; {attempts} attempts")]
    Away {
        /// Scheme and host.
        node: String,
        /// Of the last attempt.
        why: String,
        /// How often it was asked.
        attempts: u32,
    },
    /// The node refuses, and will again: a wrong key, a wrong path, a method that it does not have.
    #[error("{node} refuses: {why}")]
    Refused {
        /// Scheme and host.
        node: String,
        /// In its words.
        why: String,
    },
    /// What answers is no node.
    #[error("{node} answers with something else than accounts: {why}")]
    Answer {
        /// Scheme and host.
        node: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What a node answered to one question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Answer {
    /// The slot that it answered for.
    pub slot: u64,
    /// The mints.
    pub observations: Vec<Observation>,
    /// What is not there or is no mint; the place counts within the question.
    pub refused: Vec<Refused>,
}

/// A node of the cluster; a cheap handle. Its address is never shown whole.
#[derive(Clone)]
pub struct Node {
    agent: ureq::Agent,
    url: SecretString,
    shown: String,
    options: NodeOptions,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("node", &self.shown).field("options", &self.options).finish_non_exhaustive()
    }
}

/// How one attempt failed.
enum Failed {
    /// It may pass; after this pause where the node said one.
    Passing {
        why: String,
        after: Option<Duration>,
    },
    Final(FetchError),
}

impl Node {
    /// A node by its address, `https://host/…`. Nothing is sent yet. The proxy of the environment is used, redirects are
    /// not followed: they would carry the key elsewhere.
    ///
    /// # Errors
    /// [`FetchError::Address`] where it is no `http://` or `https://` address.
    pub fn new(url: SecretString, options: NodeOptions) -> Result<Self, FetchError> {
        let shown = shown(url.expose_secret())?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(options.attempt_deadline))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("tripod")
            .build()
            .new_agent();
        Ok(Self { agent, url, shown, options })
    }

    /// Scheme and host: what may be shown.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The accounts of `mints`, at most [`ACCOUNTS_MAX`], with the slot of the answer. `waiting` is told before each pause
    /// why, and for how long.
    ///
    /// # Errors
    /// As [`FetchError`] says; it ends within the attempts' deadlines and pauses.
    pub async fn accounts(
        &self,
        mints: &[Address],
        mut waiting: impl FnMut(&str, Duration) + Send,
    ) -> Result<Answer, FetchError> {
        if mints.is_empty() {
            return Ok(Answer::default());
        }
        if mints.len() > ACCOUNTS_MAX {
            return Err(
                self.answer(&format!("{} accounts were asked for at once; at most {ACCOUNTS_MAX}", mints.len()))
            );
        }
        let mut pause = self.options.pause;
        let attempts = self.options.attempts.max(1);
        for attempt in 1.. {
            let (node, asked) = (self.clone(), mints.to_vec());
            // The driver waits on its thread.
            let outcome = tokio::task::spawn_blocking(move || node.attempt_unlogged(&asked))
                .await
                .unwrap_or_else(|_| Err(Failed::Final(self.answer("the thread that asks it ended"))));
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::Passing { why, .. }) if attempt >= attempts => {
                    return Err(FetchError::Away { node: self.shown.clone(), why, attempts });
                }
                Err(Failed::Passing { why, after }) => {
                    let wait = after.unwrap_or(pause).min(self.options.pause_max);
                    tracing::debug!(node = %self.shown, why, attempt, wait_ms = wait.as_millis(), "asks again");
                    waiting(&why, wait);
                    tokio::time::sleep(wait).await;
                    pause = pause.saturating_mul(2);
                }
            }
        }
        Err(self.answer("it was never asked"))
    }

    /// The driver logs whole addresses at its debug level; while it works, nothing on its thread reaches a subscriber.
    fn attempt_unlogged(&self, mints: &[Address]) -> Result<Answer, Failed> {
        tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || self.attempt(mints))
    }

    fn attempt(&self, mints: &[Address]) -> Result<Answer, Failed> {
        let addresses: Vec<String> = mints.iter().map(ToString::to_string).collect();
        let question = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "getMultipleAccounts",
            "params": [addresses, {"encoding": "base64", "commitment": "confirmed"}],
        });
        let mut answer = self
            .agent
            .post(self.url.expose_secret())
            .content_type("application/json")
            .send(question.to_string())
            .map_err(|error| self.failed(&error))?;
        let status = answer.status().as_u16();
        let after =
            answer.headers().get("retry-after").and_then(|h| h.to_str().ok()).and_then(|s| s.trim().parse().ok());
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let passing = |why: String| Failed::Passing { why, after: after.map(Duration::from_secs) };
        match status {
            200 => {}
            408 | 429 | 500..=599 => return Err(passing(format!("HTTP status {status}"))),
            _ => {
                let words = body.map(|body| words(&String::from_utf8_lossy(&body))).unwrap_or_default();
                return Err(Failed::Final(self.refused(format!("HTTP status {status} {words}").trim_end())));
            }
        }
        let body = body.map_err(|error| self.failed(&error))?;
        let document: Value =
            serde_json::from_slice(&body).map_err(|e| Failed::Final(self.answer(&format!("no JSON: {e}"))))?;
        if let Some(error) = document.get("error").filter(|error| !error.is_null()) {
            let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
            let said = words(error.get("message").and_then(Value::as_str).unwrap_or("no message"));
            let said = self.without_secret(&said);
            // Behind, rate limited, out of order for the moment; the rest is about the question.
            return Err(match code {
                429 | -32005 | -32004 | -32014 | -32016 | -32603 => passing(format!("{said} ({code})")),
                _ => Failed::Final(self.refused(&format!("{said} ({code})"))),
            });
        }
        self.read(&document, mints).map_err(|why| Failed::Final(self.answer(&why)))
    }

    fn read(&self, document: &Value, mints: &[Address]) -> Result<Answer, String> {
        let slot = document.pointer("/result/context/slot").and_then(Value::as_u64).ok_or("it names no slot")?;
        let accounts = document.pointer("/result/value").and_then(Value::as_array).ok_or("it has no `value`")?;
        if accounts.len() != mints.len() {
            return Err(format!("{} accounts where {} were asked for", accounts.len(), mints.len()));
        }
        let mut answer = Answer { slot, ..Answer::default() };
        for (place, (account, mint)) in accounts.iter().zip(mints).enumerate() {
            let entry = mint.to_string();
            let why = match account {
                Value::Null => "there is no account at this address".to_owned(),
                account => match observation(account, &entry, slot) {
                    Ok(Some(seen)) => {
                        answer.observations.push(seen);
                        continue;
                    }
                    Ok(None) => "is a token account, somebody's balance, not a mint".to_owned(),
                    Err(why) => why,
                },
            };
            answer.refused.push(Refused { place, entry, why });
        }
        Ok(answer)
    }

    /// The driver's own words may quote the address; these do not.
    fn failed(&self, error: &ureq::Error) -> Failed {
        let why = match error {
            ureq::Error::Timeout(_) => format!("no answer within {:?}", self.options.attempt_deadline),
            ureq::Error::Io(e) => format!("{}", e.kind()),
            ureq::Error::HostNotFound => "its host has no address".to_owned(),
            ureq::Error::ConnectionFailed => "connection failed".to_owned(),
            ureq::Error::BodyExceedsLimit(limit) => {
                return Failed::Final(self.answer(&format!("it is longer than {limit} bytes")));
            }
            ureq::Error::BadUri(_) => return Failed::Final(FetchError::Address("is not one that can be asked")),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "TLS failed".to_owned(),
            _ => "the request failed".to_owned(),
        };
        Failed::Passing { why, after: None }
    }

    fn refused(&self, why: &str) -> FetchError {
        FetchError::Refused { node: self.shown.clone(), why: self.without_secret(why) }
    }

    fn answer(&self, why: &str) -> FetchError {
        FetchError::Answer { node: self.shown.clone(), why: self.without_secret(why) }
    }

    /// Gateways quote the path or the key that they refuse.
    fn without_secret(&self, words: &str) -> String {
        let url = self.url.expose_secret();
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let login = authority.rsplit_once('@').map_or("", |(login, _)| login);
        let mut clean = words.to_owned();
        let parts = [behind, login].into_iter().flat_map(|part| part.split(['/', '?', '&', '=', ':', '@', '#']));
        for secret in parts.filter(|part| part.len() >= SECRET_CHARS_LEAST) {
            clean = clean.replace(secret, "***");
        }
        clean
    }
}

/// Shorter parts of an address are words like `v2` and `rpc`.
const SECRET_CHARS_LEAST: usize = 6;

/// Scheme and host of an address.
fn shown(url: &str) -> Result<String, FetchError> {
    let (scheme, rest) = url.split_once("://").ok_or(FetchError::Address("has no http:// or https:// before it"))?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return Err(FetchError::Address("is neither http:// nor https://"));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]_".contains(c)) {
        return Err(FetchError::Address("names no host"));
    }
    Ok(format!("{scheme}://{host}"))
}

/// One line of what somebody else says.
fn words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(url: &str) -> Result<Node, FetchError> {
        Node::new(url.to_owned().into(), NodeOptions::default())
    }

    #[test]
    fn only_scheme_and_host_are_shown() {
        for (url, shown) in [
            ("https://mainnet.example.com/v2/SECRETKEY", "https://mainnet.example.com"),
            ("https://rpc.example.com/?api-key=SECRETKEY", "https://rpc.example.com"),
            ("http://user:SECRETKEY@127.0.0.1:8899/x", "http://127.0.0.1:8899"),
            ("HTTPS://rpc.example.com#SECRETKEY", "https://rpc.example.com"),
        ] {
            let node = node(url).unwrap();
            assert_eq!(node.shown(), shown);
            assert!(!format!("{node:?}").contains("SECRETKEY"));
            let said = node.refused("the key SECRETKEY of user is wrong").to_string();
            assert!(said.contains("*** of user"), "{said}");
        }
        for wrong in ["", "rpc.example.com", "ftp://x", "https://", "https:///SECRETKEY", "https://a b/SECRETKEY"] {
            let error = node(wrong).unwrap_err();
            assert!(matches!(error, FetchError::Address(_)) && !error.to_string().contains("SECRETKEY"), "{error}");
        }
    }
}
