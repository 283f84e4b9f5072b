//! How a server stands, from the answers that it gives or does not.
//!
//! Constraints: pure. A connection that is refused or breaks is an absence at once; a deadline that passes once may be a
//! busy machine, and is an absence when it passes again. `since` is of the state, not of its words.

use tripod::{Error, Timestamp};

use crate::monitor::snapshot::State;
use crate::output;

/// Deadlines in a row after which a server is down.
const LATE_MAX: u32 = 2;
/// Characters of what is said: somebody else's server may answer with a whole page.
const DETAIL_CHARS_MAX: usize = 300;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::monitor) struct Standing {
    pub(in crate::monitor) state: State,
    pub(in crate::monitor) since: Timestamp,
    /// Empty while all is well.
    pub(in crate::monitor) detail: String,
    late: u32,
}

impl Standing {
    /// Down until it has answered.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { state: State::Down, since: now, detail: "was not asked yet".to_owned(), late: 0 }
    }

    pub(super) fn is_down(&self) -> bool {
        self.state == State::Down
    }

    /// It answered; `wrong` is what is not as it should be.
    pub(super) fn answered(&mut self, wrong: Option<String>, now: Timestamp) {
        self.late = 0;
        let state = if wrong.is_some() { State::Degraded } else { State::Up };
        self.enter(state, wrong.unwrap_or_default(), now);
    }

    /// It did not give what it was asked for.
    pub(super) fn failed(&mut self, error: &Error, now: Timestamp) {
        let words = words(error);
        match error {
            Error::Deadline { .. } => {
                self.late = self.late.saturating_add(1);
                let down = self.is_down() || self.late >= LATE_MAX;
                self.enter(if down { State::Down } else { State::Degraded }, words, now);
            }
            Error::Unreachable { .. } => {
                self.late = 0;
                self.enter(State::Down, words, now);
            }
            // It is there and refuses: what it would tell is not known, so it is no better than away.
            _ => {
                self.late = 0;
                self.enter(State::Down, format!("it answers, and refuses: {words}"), now);
            }
        }
    }

    fn enter(&mut self, state: State, detail: String, now: Timestamp) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
        self.detail = detail;
    }
}

/// An error and its causes in one line.
pub(super) fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    output::one_line(&text, DETAIL_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tripod::Server;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000).unwrap()
    }

    fn late() -> Error {
        Error::Deadline { server: Server::QuestDb, what: "a statement".into(), after: Duration::from_secs(1) }
    }

    fn gone() -> Error {
        let source = std::io::Error::other("connection refused").into();
        Error::Unreachable { server: Server::QuestDb, address: "h:1".into(), source }
    }

    #[test]
    fn one_late_answer_is_no_absence_and_a_second_one_is() {
        let mut standing = Standing::new(at(0));
        assert!(standing.is_down());
        standing.answered(None, at(1));
        standing.failed(&late(), at(2));
        assert_eq!((standing.state, standing.since), (State::Degraded, at(2)));
        standing.answered(None, at(3));
        standing.failed(&late(), at(4));
        assert_eq!(standing.state, State::Degraded, "they were not in a row");
        standing.failed(&late(), at(5));
        assert_eq!((standing.state, standing.since), (State::Down, at(5)));
        standing.failed(&late(), at(6));
        assert_eq!((standing.state, standing.since), (State::Down, at(5)), "since it is down");
        standing.answered(None, at(7));
        assert_eq!((standing.state, standing.since, standing.detail.as_str()), (State::Up, at(7), ""));
    }

    #[test]
    fn who_is_not_there_is_down_at_once_and_says_why() {
        let mut standing = Standing::new(at(0));
        standing.answered(None, at(1));
        standing.failed(&gone(), at(2));
        assert_eq!((standing.state, standing.since), (State::Down, at(2)));
        assert_eq!(standing.detail, "QuestDB at h:1 is not reachable: connection refused");
        let refused = Error::Refused { server: Server::Postgres, what: "no".into(), code: None, source: None };
        standing.answered(Some("a table is suspended".into()), at(3));
        assert_eq!((standing.state, standing.detail.as_str()), (State::Degraded, "a table is suspended"));
        standing.failed(&refused, at(4));
        assert!(standing.is_down() && standing.detail.starts_with("it answers, and refuses"), "{standing:?}");
    }
}
