//! Brings one batch to QuestDB, however long that takes.
//!
//! Constraints: on a thread of its own, so that the next batch is read and encoded while this one is in flight. Never
//! gives up on a row: it comes back when every row is either answered OK or refused in the server's own words. Every
//! request has a timeout, every pause ends when the sink is closed.
//!
//! Sending a row twice is harmless: each table has DEDUP keys and client-assigned timestamps. So whatever is in doubt is
//! sent again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use questdb::ingress::{Buffer, Sender};

use super::answer::{self, Answer};
use super::backoff::{self, Backoff};
use super::batch::{Batch, PROTOCOL, Unfit};
use super::catalog::Catalog;
use super::feed::Event;
use super::split::Split;
use super::status::{Board, SinkState};
use super::stop::Stop;
use crate::config;
use crate::error::{Error, Result};
use crate::tape::questdb::QuestDbHttp;
use crate::value::Timestamp;

/// Between probes of a server whose disk is full: it dies at the third or fourth write after the first refusal.
const PROBE_DISK: Duration = Duration::from_secs(30);
/// Between tries with a refused login: faster ones only fill the server's log.
const PROBE_LOGIN: Duration = Duration::from_secs(2);
/// Rows that have waited longer than this are judged again before they are sent: they may be too old for their table by
/// now. Short against the day of room that the judgement leaves.
const JUDGE_AGAIN: Duration = Duration::from_mins(10);

/// What the feed hands over.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Box<Batch>,
    pub(super) catalog: Catalog,
    /// By a new connection: QuestDB keeps a table's writer with the connection, and goes on taking rows into one that was
    /// dropped and made anew meanwhile.
    pub(super) reconnect: bool,
}

/// The thread's own things.
pub(super) struct Courier {
    /// Makes a connection's sender; called again after each failure that may have broken it.
    pub(super) connect: Box<dyn Fn() -> Result<Sender> + Send>,
    pub(super) retry_longest: Duration,
    pub(super) stop: Arc<Stop>,
    pub(super) board: Arc<Board>,
}

impl Courier {
    /// Body of the thread: one batch at a time, until the feed is gone or the stop's deadline has passed.
    pub(super) fn run(self, jobs: &Receiver<Job>, events: &SyncSender<Event>) {
        let mut line = Line { sender: None, backoff: Backoff::new(self.retry_longest), scratch: Buffer::new(PROTOCOL) };
        while let Ok(mut job) = jobs.recv() {
            if job.reconnect {
                line.sender = None;
            }
            let settled = self.deliver(&mut job, &mut line);
            if !settled || events.send(Event::Settled(job.batch)).is_err() {
                return;
            }
        }
    }

    /// True when every row of the batch is settled; false when the sink is closed before.
    fn deliver(&self, job: &mut Job, line: &mut Line) -> bool {
        let mut split = Split::new(job.batch.len(), job.batch.unfit.iter().map(|(row, _)| *row));
        let mut judged_at = Instant::now();
        loop {
            if judged_at.elapsed() >= JUDGE_AGAIN {
                judged_at = Instant::now();
                let late = job.batch.judge_again(split.next(), &job.catalog, Timestamp::now());
                late.into_iter().for_each(|row| split.exclude(row));
            }
            let Some(rows) = split.request() else { break };
            if self.stop.is_over() {
                return false;
            }
            let answer = if split.is_whole() {
                self.request(line, |_| Ok(()), Some(&job.batch.buffer))
            } else {
                self.request(line, |scratch| job.batch.encode(&rows, &job.catalog, scratch), None)
            };
            let Some(pause) = self.digest(answer, &mut split, &mut job.batch, line) else { continue };
            self.stop.pause(pause);
        }
        job.batch.unfit.sort_by_key(|(row, _)| *row);
        true
    }

    /// Sends `whole`, or what `encode` puts into the scratch buffer.
    fn request(
        &self,
        line: &mut Line,
        encode: impl FnOnce(&mut Buffer) -> Result<()>,
        whole: Option<&Buffer>,
    ) -> Answer {
        if let Err(e) = encode(&mut line.scratch) {
            // These rows were encoded once already, so this is memory or a defect, not a row.
            return Answer::Unavailable(format!("a request could not be encoded again: {e}"));
        }
        let sender = match &mut line.sender {
            Some(sender) => sender,
            none => match (self.connect)() {
                Ok(sender) => none.insert(sender),
                Err(e) => return Answer::Unavailable(e.to_string()),
            },
        };
        answer::of(sender.flush_and_keep(whole.unwrap_or(&line.scratch)))
    }

    /// Moves on according to the answer; returns the pause before the next request, if there is to be one.
    fn digest(&self, answer: Answer, split: &mut Split, batch: &mut Batch, line: &mut Line) -> Option<Duration> {
        let pause = match answer {
            Answer::Accepted => {
                self.board.answered();
                line.backoff.reset();
                split.accepted();
                return None;
            }
            Answer::Refused { line: number, words } => {
                // The server is well: it is the row.
                line.backoff.reset();
                if let Some(row) = split.refused(number) {
                    tracing::error!(row, words, "QuestDB refused a row: it goes to quarantine");
                    batch.unfit.push((row, Unfit::Refused(words)));
                }
                return None;
            }
            Answer::Behind(what) => {
                self.board.enter(SinkState::Schema, &format!("{what}; run `tripod migrate`"));
                line.backoff.pause(backoff::random())
            }
            Answer::Login(words) => {
                let why = format!("{words}; check `user` and `password` of this [[questdb]]");
                self.board.enter(SinkState::Login, &why);
                PROBE_LOGIN
            }
            Answer::Certificate(words) => {
                let why = format!("{words}; check the server's certificate, and `ca_file` of this [[questdb]]");
                self.board.enter(SinkState::Certificate, &why);
                PROBE_LOGIN
            }
            Answer::DiskFull(words) => {
                self.board.enter(SinkState::DiskFull, &format!("{words}; free space on QuestDB's disk"));
                PROBE_DISK
            }
            Answer::Unavailable(words) => {
                self.board.enter(SinkState::Unavailable, &words);
                line.backoff.pause(backoff::random())
            }
        };
        // Whatever it was, the next try gets a fresh connection: a half-dead one in the pool costs a whole timeout.
        line.sender = None;
        Some(pause)
    }
}

/// What lasts from one request to the next.
struct Line {
    sender: Option<Sender>,
    backoff: Backoff,
    scratch: Buffer,
}

/// A sender to `server`: one request per flush, no retries of its own (the courier's back-off knows more).
pub(super) fn connect(server: &config::QuestDb, timeout: Duration) -> Result<Sender> {
    QuestDbHttp::sender_conf(server, timeout)?.build().map_err(|e| {
        Error::invalid(format!("questdb `{}`", server.name), format!("no sender can be made: {}", e.msg()))
    })
}
