//! What Redis or the driver said, as one of the library's errors.
//!
//! The classes follow what the caller can do: an answer that another moment or another primary changes is `Busy`, one
//! that only a person changes is `Refused`, no answer is `Unreachable`.

use ::redis::{ErrorKind, RedisError};

use crate::error::{Error, Server};

/// Answers that go away by themselves: a restart, a failover, a script that hogs the server, a replica that lags.
const TRANSIENT: &[&str] =
    &["LOADING", "READONLY", "BUSY", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS"];

/// The server's own error word, e.g. `NOGROUP`.
pub(crate) fn code_of(error: &Error) -> Option<&str> {
    match error {
        Error::Refused { code, .. } => code.as_deref(),
        _ => None,
    }
}

/// Whether the connection is worth nothing after this: it broke, or it leads to a server that no longer is the primary.
pub(super) fn breaks_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// Whether the server said that it is not, or not yet, the one to talk to.
pub(super) fn suggests_failover(error: &RedisError) -> bool {
    matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN" | "MOVED" | "NOREPLICAS"))
}

/// Whether the server's certificate is of an unknown authority, of another name, or expired: no waiting mends it.
pub(super) fn is_certificate(error: &RedisError) -> bool {
    error.is_io_error() && error.to_string().contains("invalid peer certificate")
}

pub(super) fn classify(server: Server, address: &str, error: RedisError) -> Error {
    let (code, detail) = first_of(&error);
    let words = words_of(&error, code.as_deref(), detail.as_deref());
    if error.kind() == ErrorKind::AuthenticationFailed
        || matches!(code.as_deref(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
    {
        let what = match code.as_deref() {
            Some("NOPERM") => format!("{words}; the user's ACL rules lack it, see `tripod doctor`"),
            _ => "the login; check user and password of this section of the config".to_owned(),
        };
        // The driver keeps the server's word to itself where the login is part of connecting.
        let code = code.or_else(|| Some("WRONGPASS".to_owned()));
        return Error::Refused { server, what, code, source: Some(Box::new(error)) };
    }
    if is_certificate(&error) {
        let what = format!("{words}; renew the certificate, or name its authority in `ca_file` of this section");
        return Error::Refused { server, what, code: None, source: Some(Box::new(error)) };
    }
    match code.as_deref() {
        Some(code) if TRANSIENT.contains(&code) => Error::Busy { server, what: words, source: Some(Box::new(error)) },
        Some("OOM") => Error::Refused {
            server,
            what: "memory is used up; raise maxmemory, or lower the caps of the streams".into(),
            code,
            source: Some(Box::new(error)),
        },
        Some(_) => Error::Refused { server, what: words, code, source: Some(Box::new(error)) },
        None if matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType) => {
            Error::Refused { server, what: format!("an answer nobody expected: {words}"), code, source: None }
        }
        None => Error::Unreachable { server, address: address.to_owned(), source: Box::new(error) },
    }
}

/// Code and text of what the server said; of a pipeline, the first refusal.
fn first_of(error: &RedisError) -> (Option<String>, Option<String>) {
    match error.clone().into_server_errors().as_deref() {
        Some([(_, first), ..]) => (Some(first.code().to_owned()), first.details().map(str::to_owned)),
        _ => (error.code().map(str::to_owned), error.detail().map(str::to_owned)),
    }
}

/// The server's text, one line, shortened.
fn words_of(error: &RedisError, code: Option<&str>, detail: Option<&str>) -> String {
    let text = match (code, detail) {
        (Some(code), Some(detail)) if code != "ERR" => format!("{code} {detail}"),
        (_, Some(detail)) => detail.to_owned(),
        _ => error.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use ::redis::{FromRedisValue, Value};

    use super::*;
    use crate::error::Advice;

    /// The error that the driver makes of one line from the server.
    fn said(line: &str) -> RedisError {
        let reply: Value = ::redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        match reply.extract_error() {
            Err(error) => error,
            Ok(value) => panic!("not an error: {:?}", String::from_redis_value(value)),
        }
    }

    #[test]
    fn each_answer_gets_the_advice_that_helps() {
        for (line, advice) in [
            ("LOADING Redis is loading the dataset in memory", Advice::Retry),
            ("READONLY You can't write against a read only replica.", Advice::Retry),
            ("BUSY Redis is busy running a script.", Advice::Retry),
            ("NOREPLICAS Not enough good replicas to write.", Advice::Retry),
            ("WRONGPASS invalid username-password pair or user is disabled.", Advice::Fix),
            ("NOAUTH Authentication required.", Advice::Fix),
            ("NOPERM this user has no permissions to run the 'set' command", Advice::Fix),
            ("OOM command not allowed when used memory > 'maxmemory'.", Advice::Fix),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Advice::Fix),
            ("NOGROUP No such key 'events:x' or consumer group 'g'", Advice::Fix),
        ] {
            let error = classify(Server::RedisPrices, "here:1", said(line));
            assert_eq!(error.advice(), advice, "{line} became {error:?}");
        }
        let gone = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(breaks_connection(&gone));
        assert!(matches!(classify(Server::RedisEvents, "here:1", gone), Error::Unreachable { .. }));
    }
}
