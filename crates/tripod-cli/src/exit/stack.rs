//! Exit codes and hints for what goes wrong while servers are started and stopped.

use tripod_stack::Error;

use super::Exit;

pub(super) fn verdict(error: &Error) -> (Exit, String) {
    let exit = match error {
        Error::DataDir { .. } | Error::Config { .. } | Error::Missing { .. } => Exit::Usage,
        Error::NotOurs { .. } | Error::Copied { .. } => Exit::Refused,
        Error::Failed { .. } | Error::NotReady { .. } => Exit::Unreachable,
        _ => Exit::False,
    };
    (exit, error.hint().unwrap_or_else(|| "run the same command again; with -vv it says what it was doing".to_owned()))
}
