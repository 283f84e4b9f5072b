//! What the shell is told, and what the operator is told when it went wrong.
//!
//! Constraints: five exit codes and no other; scripts branch on them. An error is one clear sentence, its causes each
//! once, and a `hint:` line with the next step. The library's typed errors decide the code; nobody parses text.

mod stack;

use std::io::ErrorKind;
use std::process::ExitCode;

use tripod::{Advice, Error};

use crate::output;

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
        if let Some(hint) = cause.downcast_ref::<std::io::Error>().and_then(hint_of_file) {
            return (Exit::False, hint.to_owned());
        }
    }
    (Exit::False, "run the same command with -vv; the log on stderr says what it was doing".into())
}

/// What the operating system refuses, and somebody has to mend first.
fn hint_of_file(error: &std::io::Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("make room on that disk, then run the same command again")
        }
        ErrorKind::PermissionDenied => Some("run it as the user that owns the file, or give this user the right to it"),
        ErrorKind::ReadOnlyFilesystem => Some("that disk is read-only: mount it for writing, or name another place"),
        ErrorKind::NotADirectory => Some("name a directory there, or another place in the config"),
        _ => None,
    }
}

fn code_of(error: &Error) -> Exit {
    match error {
        Error::Config { .. } | Error::Invalid { .. } => Exit::Usage,
        // The password stands in the config.
        Error::Refused { code, .. } if refused(code.as_deref()) == Refused::Login => Exit::Usage,
        Error::Unreachable { .. } | Error::Busy { .. } | Error::Deadline { .. } => Exit::Unreachable,
        _ => Exit::False,
    }
}

/// What a server's refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Who asks: user or password.
    Login,
    /// What this user may do.
    Right,
    /// The statement or the value.
    Other,
}

/// By the code of PostgreSQL (SQLSTATE), Redis (its error word) or QuestDB (HTTP).
fn refused(code: Option<&str>) -> Refused {
    match code {
        Some("WRONGPASS" | "NOAUTH" | "401") => Refused::Login,
        Some(state) if state.len() == 5 && state.starts_with("28") => Refused::Login,
        Some("NOPERM" | "42501" | "403") => Refused::Right,
        _ => Refused::Other,
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
        Error::Refused { what, code, .. } => match refused(code.as_deref()) {
            Refused::Login | Refused::Right => "check user, password and grants in the config (`tripod config show`)",
            Refused::Other if what.contains("invalid peer certificate") => {
                "`ca_file` of that section names who is trusted (`tripod config reference`); `tripod status` tries it"
            }
            Refused::Other if what.contains("table does not exist") => {
                "`tripod migrate` brings the servers to this version's schema"
            }
            Refused::Other => "that is the server's own answer; its log says more",
        }
        .into(),
        Error::Journal(tripod_journal::Error::Locked { pid, .. }) => {
            let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            format!("{holder} has this bot's journals: end it first, or give this bot another name by TRIPOD__BOT")
        }
        Error::Journal(tripod_journal::Error::Newer { .. }) => {
            "install the release that wrote it; its `tripod deliver --until-empty` empties it for an older one".into()
        }
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

/// Characters of a foreign error at most; ours are as long as they must be.
const FOREIGN_CHARS_MAX: usize = 200;

/// An error and its causes, each once, each in one line.
fn parts(error: &anyhow::Error) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for (depth, cause) in error.chain().enumerate() {
        // What a driver or a server says may be a whole page.
        let ours = depth == 0 || is_ours(cause);
        let words = output::one_line(&cause.to_string(), if ours { usize::MAX } else { FOREIGN_CHARS_MAX });
        // A cause that its outer error already quotes is not said twice.
        if parts.last().is_none_or(|said| !said.contains(&words)) {
            parts.push(words);
        }
    }
    parts
}

fn is_ours(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<Stop>()
        || error.is::<Error>()
        || error.is::<tripod_stack::Error>()
        || error.is::<tripod_journal::Error>()
}

/// An error and its causes as one sentence.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    parts(error).join(": ")
}

/// The whole text of an error: the sentence, its causes (each once), the hint.
pub(crate) fn render(error: &anyhow::Error) -> String {
    let (_, hint) = verdict(error);
    format!("error: {}\nhint: {hint}", parts(error).join("\n  because: "))
}

#[cfg(test)]
mod tests {
    use tripod::Server;

    use super::*;
    use anyhow::Context as _;

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
    fn a_refused_login_is_wrong_config_and_other_refusals_are_not() {
        let said = |what: &str, code: Option<&str>| {
            let code = code.map(str::to_owned);
            verdict(&Error::Refused { server: Server::QuestDb, what: what.into(), code, source: None }.into())
        };
        for code in ["28P01", "28000", "WRONGPASS", "NOAUTH", "401"] {
            let (exit, hint) = said("the login", Some(code));
            assert!(exit == Exit::Usage && hint.starts_with("check user, password"), "{code}: {hint}");
        }
        for (what, code, words) in [
            ("no", Some("NOPERM"), "grants"),
            ("no", Some("42501"), "grants"),
            ("table does not exist [table=x]", Some("400"), "`tripod migrate`"),
            ("unexpected token", Some("400"), "its log says more"),
            ("no", Some("285"), "its log says more"),
            ("no", None, "its log says more"),
        ] {
            let (exit, hint) = said(what, code);
            assert!(exit == Exit::False && hint.contains(words), "{code:?}: {hint}");
        }
    }

    #[test]
    fn a_journal_that_somebody_has_names_the_process_and_the_way_out() {
        let newer = tripod_journal::Error::Newer { path: "x".into(), format: 2 };
        assert!(hint_of(&Error::Journal(newer)).contains("--until-empty"));
        let locked = tripod_journal::Error::Locked { path: "x".into(), pid: Some(7) };
        let (exit, hint) = verdict(&Error::Journal(locked).into());
        assert_eq!(exit, Exit::False);
        assert!(hint.contains("process 7 ") && hint.contains("TRIPOD__BOT"), "{hint}");
    }

    #[test]
    fn what_the_operating_system_refuses_has_a_next_step_of_its_own() {
        use anyhow::Context as _;
        let failed = |kind: ErrorKind| Err::<(), _>(std::io::Error::from(kind)).context("cannot write x").unwrap_err();
        assert!(verdict(&failed(ErrorKind::StorageFull)).1.contains("make room"));
        assert!(verdict(&failed(ErrorKind::PermissionDenied)).1.contains("owns"));
        assert!(verdict(&failed(ErrorKind::BrokenPipe)).1.contains("-vv"));
    }

    #[test]
    fn a_page_of_a_foreign_server_is_one_short_line() {
        let inner = std::io::Error::other("<html>\n".repeat(500));
        let text = render(&Err::<(), _>(inner).context("cannot ask").unwrap_err());
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.chars().count() < 400, "{text}");
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
