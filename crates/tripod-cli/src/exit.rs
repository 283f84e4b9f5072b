//! What the shell is told, and what the operator is told when it went wrong.
//!
//! Constraints: five exit codes and no other; scripts branch on them. An error is one clear sentence, its causes each
//! once, and a `hint:` line with the next step. The library's typed errors decide the code; nobody parses text.

mod stack;

use std::fmt::Write as _;
use std::process::ExitCode;

use tripod::{Advice, Error};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done and true.
    Done = 0,
    /// Checked and false: rows missing, a server ill, a restore that differs.
    False = 1,
    /// Wrong usage, config or input.
    Usage = 2,
    /// A server could not be reached.
    Unreachable = 3,
    /// Refused for safety.
    Refused = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::False => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
        }
    }
}

/// An error of the command itself that knows its exit code and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) hint: String,
}

impl Stop {
    /// Wrong usage or input.
    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, what: what.into(), hint: hint.into() }
    }

    /// Refused for safety.
    pub(crate) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, what: what.into(), hint: hint.into() }
    }

    /// Checked, and it is not so.
    pub(crate) fn untrue(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::False, what: what.into(), hint: hint.into() }
    }
}

/// The exit code and the next step for any error that reached the edge.
pub(crate) fn verdict(error: &anyhow::Error) -> (Exit, String) {
    for cause in error.chain() {
        if let Some(stop) = cause.downcast_ref::<Stop>() {
            return (stop.exit, stop.hint.clone());
        }
        if let Some(error) = cause.downcast_ref::<Error>() {
            return (code_of(error), hint_of(error));
        }
        if let Some(error) = cause.downcast_ref::<tripod_stack::Error>() {
            return stack::verdict(error);
        }
    }
    (Exit::False, "run the same command with -vv; the log on stderr says what it was doing".into())
}

fn code_of(error: &Error) -> Exit {
    match error {
        Error::Config { .. } | Error::Invalid { .. } => Exit::Usage,
        Error::Unreachable { .. } | Error::Busy { .. } | Error::Deadline { .. } => Exit::Unreachable,
        _ => Exit::False,
    }
}

fn hint_of(error: &Error) -> String {
    match error {
        Error::Config { what, .. } if what.contains("tripod up") => {
            "`tripod up` starts a local stack; --config FILE names another config".into()
        }
        Error::Config { .. } => "`tripod config reference` prints every key with its meaning and default".into(),
        Error::Schema { .. } => "`tripod migrate` brings the servers to this version's schema".into(),
        Error::Unreachable { .. } => {
            "`tripod status` shows which servers answer; `tripod up` starts or heals the local stack".into()
        }
        Error::Refused { .. } => "check user, password and grants in the config (`tripod config show`)".into(),
        Error::Invalid { .. } => "correct the value and run the command again; nothing was written".into(),
        Error::Conflict { .. } => {
            "read it again (`tripod settings get`), decide again, and write with --revision of what you read".into()
        }
        other => match other.advice() {
            Advice::Retry | Advice::Wait => {
                "run the same command again in a moment; `tripod status` shows the servers".into()
            }
            Advice::StopTrading => {
                "make room on the journal's disk or raise its budget ([journal] in the config)".into()
            }
            Advice::Fix => "`tripod status` shows what state everything is in".into(),
        },
    }
}

/// The whole text of an error: the sentence, its causes (each once), the hint.
pub(crate) fn render(error: &anyhow::Error) -> String {
    let (_, hint) = verdict(error);
    let mut text = format!("error: {error}");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let words = cause.to_string();
        // A cause that its outer error already quotes is not said twice.
        if !said.contains(&words) {
            let _ = write!(text, "\n  because: {words}");
            said = words;
        }
    }
    let _ = write!(text, "\nhint: {hint}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use tripod::Server;

    fn unreachable() -> Error {
        Error::Unreachable {
            server: Server::QuestDb,
            address: "127.0.0.1:9000".into(),
            source: std::io::Error::other("connection refused").into(),
        }
    }

    #[test]
    fn an_error_is_a_sentence_its_causes_once_and_a_hint() {
        let error = anyhow::Error::from(unreachable()).context("cannot read the ledger");
        assert_eq!(
            render(&error),
            "error: cannot read the ledger\n  \
             because: QuestDB at 127.0.0.1:9000 is not reachable\n  \
             because: connection refused\n\
             hint: `tripod status` shows which servers answer; `tripod up` starts or heals the local stack"
        );
    }

    #[test]
    fn a_cause_that_is_already_quoted_is_not_repeated() {
        let inner = std::io::Error::other("no space left");
        let error = Err::<(), _>(inner).context("cannot write: no space left").unwrap_err();
        assert_eq!(render(&error).matches("no space left").count(), 1);
    }

    #[test]
    fn the_typed_error_decides_the_code_under_any_context() {
        let cases = [
            (unreachable(), Exit::Unreachable),
            (Error::Config { path: "x.toml".into(), what: "no such file".into() }, Exit::Usage),
            (Error::Schema { server: Server::QuestDb, what: "table missing".into() }, Exit::False),
            (
                Error::Deadline { server: Server::Postgres, what: "SELECT 1".into(), after: std::time::Duration::ZERO },
                Exit::Unreachable,
            ),
        ];
        for (error, exit) in cases {
            let error = anyhow::Error::from(error).context("a").context("b");
            assert_eq!(verdict(&error).0, exit, "{error:#}");
        }
        assert_eq!(verdict(&Stop::refused("x", "y").into()).0, Exit::Refused);
    }
}
