//! How a drill waits and asks: what it proves is strict, its own questions are not in a hurry.
//!
//! Constraints: a busy machine lets a call miss its deadline, and a drill that ended by that would say something about the
//! machine and nothing about the promise. So a question of the drill's own is asked again where its error says so, until
//! [`PATIENCE`] is over; a wait for rows goes on for as long as the server takes something on, [`WAIT_MOST`] at most. What
//! is measured is never repeated in secret: a recovery is told from its break to its end, however long the wait.

use std::time::{Duration, Instant};

use tripod::Advice;

use super::server::pause;

/// A question of the drill's own is asked again for this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// A server that takes nothing on for this long has stopped. Started again it may first need half a minute's pause.
pub(super) const STANDS_STILL: Duration = Duration::from_secs(120);
/// No backlog of a drill takes longer.
const WAIT_MOST: Duration = Duration::from_secs(900);

/// Asks again where the error says that this may help.
pub(super) async fn patiently<T>(mut ask: impl AsyncFnMut() -> tripod::Result<T>) -> tripod::Result<T> {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if may_pass(&error) && began.elapsed() < PATIENCE => tokio::time::sleep(TRY_EVERY).await,
            done => return done,
        }
    }
}

/// The same without a runtime.
pub(super) fn patiently_here<T>(mut ask: impl FnMut() -> tripod::Result<T>) -> tripod::Result<T> {
    let began = Instant::now();
    loop {
        match ask() {
            Err(error) if may_pass(&error) && began.elapsed() < PATIENCE => pause(TRY_EVERY),
            done => return done,
        }
    }
}

pub(super) fn may_pass(error: &tripod::Error) -> bool {
    matches!(error.advice(), Advice::Retry | Advice::Wait)
}

/// The end of a wait.
#[derive(Debug)]
pub(super) struct Wait {
    end: Instant,
    /// It is also over where nothing has moved for this long.
    still: Option<Duration>,
    moved_at: Instant,
    mark: String,
}

impl Wait {
    /// A moment, whatever happens until then.
    pub(super) fn until(end: Instant) -> Self {
        Self { end, still: None, moved_at: Instant::now(), mark: String::new() }
    }

    /// For as long as [`Wait::note`] is told of something new at least this often.
    pub(super) fn while_it_moves(still: Duration) -> Self {
        let now = Instant::now();
        Self { end: now + WAIT_MOST, still: Some(still), moved_at: now, mark: String::new() }
    }

    /// How far things are; only whether that has changed matters.
    pub(super) fn note(&mut self, mark: String) {
        self.note_at(Instant::now(), mark);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over_at(Instant::now())
    }

    /// Whether [`Wait::note`] can prolong it.
    pub(super) fn wants_marks(&self) -> bool {
        self.still.is_some()
    }

    /// To its end, at most.
    pub(super) fn remaining(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    fn note_at(&mut self, now: Instant, mark: String) {
        if self.mark != mark {
            (self.mark, self.moved_at) = (mark, now);
        }
    }

    fn is_over_at(&self, now: Instant) -> bool {
        now >= self.end || self.still.is_some_and(|still| now.saturating_duration_since(self.moved_at) >= still)
    }
}

#[cfg(test)]
mod tests {
    use tripod::{Error, Server};

    use super::*;

    fn busy() -> Error {
        Error::Deadline { server: Server::Postgres, what: "a question".to_owned(), after: Duration::from_secs(1) }
    }

    #[test]
    fn a_wait_goes_on_while_it_moves_and_has_an_end_all_the_same() {
        let now = Instant::now();
        let mut wait = Wait::while_it_moves(Duration::from_secs(10));
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(!wait.is_over_at(at(5)));
        assert!(wait.is_over_at(at(11)), "nothing came");
        wait.note_at(at(9), "1".to_owned());
        assert!(!wait.is_over_at(at(18)));
        wait.note_at(at(18), "1".to_owned());
        assert!(wait.is_over_at(at(19)), "the same again is no progress");
        wait.note_at(at(900), "2".to_owned());
        assert!(wait.is_over_at(at(901)), "longer than any backlog takes");
        let mut fixed = Wait::until(at(5));
        fixed.note_at(at(4), "1".to_owned());
        assert!(!fixed.is_over_at(at(4)) && fixed.is_over_at(at(5)));
    }

    #[tokio::test]
    async fn a_question_is_asked_again_where_its_error_says_so_and_only_then() {
        let mut tries = 0;
        let answer = patiently(async || {
            tries += 1;
            if tries < 3 { Err(busy()) } else { Ok(tries) }
        });
        assert_eq!(answer.await.unwrap(), 3);
        let mut tries = 0;
        let answer = patiently_here(|| {
            tries += 1;
            if tries < 3 { Err(busy()) } else { Ok(tries) }
        });
        assert_eq!(answer.unwrap(), 3);
        let mut tries = 0;
        let answer: tripod::Result<()> = patiently_here(|| {
            tries += 1;
            Err(tripod::Token::new("").unwrap_err())
        });
        assert!(answer.is_err());
        assert_eq!(tries, 1, "a wrong question stays wrong");
    }
}
