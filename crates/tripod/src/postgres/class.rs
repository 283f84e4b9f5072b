//! What a PostgreSQL error means for the caller: one pure table over SQLSTATE, and its way into [`Error`].
//!
//! Constraints: every error is classed here and nowhere else; the text names the next step where there is one; the
//! server's DETAIL (which may hold row values) stays in the source chain and out of the text.

use std::error::Error as _;
use std::time::Duration;

use crate::error::{Error, Server};

/// What the server's five-letter code asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The connection is gone or could not be made: wait, the pool reconnects.
    Connection,
    /// Restarting, crowded, or lost against another writer: the same call may succeed next time.
    Retry,
    /// This server does not take writes (a replica, or a primary that was failed over): reconnect to the primary.
    ReadOnly,
    /// The server itself ended the statement at its time limit.
    Deadline,
    /// The value or the statement's input is wrong.
    Caller,
    /// A table, column or function is not there: `tripod migrate`.
    Schema,
    /// Rights, configuration, disk or corruption: somebody has to act on the server.
    Operator,
}

/// The class of a SQLSTATE. Unknown codes need the operator: retrying what nobody understands helps nobody.
#[must_use]
pub fn classify(code: &str) -> Class {
    match code {
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout, too_many_connections,
        // out_of_memory, serialization_failure, deadlock_detected, lock_not_available, object_in_use,
        // idle_in_transaction_session_timeout.
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "53200" | "40001" | "40P01" | "55P03" | "55006" | "25P03" => {
            Class::Retry
        }
        "25006" => Class::ReadOnly,
        "57014" => Class::Deadline,
        // undefined_table, undefined_column, undefined_function, invalid_schema_name
        "42P01" | "42703" | "42883" | "3F000" => Class::Schema,
        _ => match code.get(..2) {
            Some("08") => Class::Connection,
            Some("21" | "22" | "23") => Class::Caller,
            _ => Class::Operator,
        },
    }
}

/// Why the work inside [`Postgres::call`](super::Postgres::call) stopped: the driver's error, or one of our own. Both
/// come in with `?`.
#[derive(Debug)]
pub enum Failure {
    /// From the driver or the server; classed by the pool.
    Driver(tokio_postgres::Error),
    /// Already classed.
    Ours(Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// True where the connection can be given back: the server itself ended the statement and waits for the next one. Two
/// exceptions: a cached plan that no longer fits its table, which only a fresh connection forgets, and a server that
/// takes no writes any more, beside which another one may.
pub(super) fn connection_is_good(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|e| e.parsed_severity() == Some(tokio_postgres::error::Severity::Error))
        && !is_stale_plan(error)
        && !is_read_only(error)
}

/// True where nobody answered, or only to say that the server is going, coming or not the primary.
pub(super) fn is_absence(error: &tokio_postgres::Error) -> bool {
    match error.code().map(tokio_postgres::error::SqlState::code) {
        None => error.is_closed() || error.source().is_some_and(|s| s.is::<std::io::Error>()),
        Some(code) => {
            code.starts_with("57P") || classify(code) == Class::Connection || classify(code) == Class::ReadOnly
        }
    }
}

/// True where this server is not, or no longer, the one that takes writes.
pub(super) fn is_read_only(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => classify(code.code()) == Class::ReadOnly,
        // The driver asks while it connects, and answers itself.
        None => error.source().is_some_and(|source| {
            source.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
                && source.to_string().contains("does not allow writes")
        }),
    }
}

fn is_stale_plan(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|e| e.code().code() == "0A000" && e.message().starts_with("cached plan"))
}

/// The driver's error as ours. `what` is the call, `address` where it went, `deadline` the call's own.
pub(super) fn explain(error: tokio_postgres::Error, what: &str, address: &str, deadline: Duration) -> Error {
    let server = Server::Postgres;
    let Some(answer) = error.as_db_error() else {
        return without_code(error, what, address);
    };
    let code = answer.code().code().to_owned();
    let said = answer.message().to_owned();
    if is_stale_plan(&error) {
        return Error::Busy { server, what: format!("{what}: {said}"), source: Some(error.into()) };
    }
    match classify(&code) {
        Class::Connection => Error::Unreachable { server, address: address.to_owned(), source: error.into() },
        Class::Retry | Class::ReadOnly => {
            Error::Busy { server, what: format!("{what}: {said}"), source: Some(error.into()) }
        }
        Class::Deadline => Error::Deadline { server, what: what.to_owned(), after: deadline },
        Class::Schema => Error::Schema { server, what: format!("{what}: {said}; run `tripod migrate`") },
        Class::Caller | Class::Operator => {
            let step = next_step(&code);
            Error::Refused {
                server,
                what: format!("{what}: {said}{step}"),
                code: Some(code),
                source: Some(error.into()),
            }
        }
    }
}

/// What the driver says by itself. A socket that failed or closed is the server's absence; everything else (a column
/// of another type than the code reads, a parameter it cannot send) fails the same way each time.
fn without_code(error: tokio_postgres::Error, what: &str, address: &str) -> Error {
    let server = Server::Postgres;
    let source = error.source();
    let io = source.and_then(|s| s.downcast_ref::<std::io::Error>());
    if is_read_only(&error) {
        return Error::Busy {
            server,
            what: format!("{what}: no server of {address} takes writes"),
            source: Some(error.into()),
        };
    }
    // A certificate that does not fit comes as an I/O error too, and no waiting mends it.
    let certificate = io.and_then(std::io::Error::get_ref).is_some_and(|e| e.is::<rustls::Error>());
    if !certificate && (error.is_closed() || io.is_some()) {
        return Error::Unreachable { server, address: address.to_owned(), source: error.into() };
    }
    let said = source.map_or_else(|| error.to_string(), |s| format!("{error}: {s}"));
    let step = if said.contains("invalid peer certificate") {
        "; renew the certificate, or name its authority in postgres.ca_file"
    } else {
        ""
    };
    Error::Refused { server, what: format!("{what}: {said}{step}"), code: None, source: Some(error.into()) }
}

fn next_step(code: &str) -> &'static str {
    match code {
        "28P01" | "28000" => "; check the login and its password in [postgres]",
        "3D000" => "; create the database, or correct postgres.database",
        "42501" => "; `tripod doctor` compares this login's rights with what they must be",
        "53100" => "; make room on the server's disk",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_class_that_its_next_step_needs() {
        for (class, codes) in [
            (Class::Connection, &["08000", "08001", "08003", "08006", "08P01"][..]),
            (Class::Retry, &["57P01", "57P02", "57P03", "53300", "40001", "40P01", "55P03"]),
            (Class::ReadOnly, &["25006"]),
            (Class::Deadline, &["57014"]),
            (Class::Caller, &["21000", "22003", "22021", "22P05", "23505", "23514"]),
            (Class::Schema, &["42P01", "42703", "42883", "3F000"]),
            (Class::Operator, &["28P01", "42501", "3D000", "53100", "58030", "XX001", "XX002", "0A000", "", "é€"]),
        ] {
            for code in codes {
                assert_eq!(classify(code), class, "{code}");
            }
        }
    }
}
