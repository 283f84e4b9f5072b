//! Gives events to a handler, and decides what becomes of each.
//!
//! Constraints: a handler that fails, panics or hangs harms its own event alone. An event is acknowledged after its handler
//! succeeded; it comes again otherwise, at most `tries_max` times, then it is a dead letter with the last reason. Events
//! that wait behind a slow one are not claimed by another consumer meanwhile: the server is told that they are worked at.
//!
//! ```text
//! batch ─▶ event ─▶ handler ─ ok ──────────────────────────▶ acknowledged, with its batch
//!            │         └ error, panic, handler_deadline ─┬─▶ tries < tries_max: stays pending, claimed after claim_after
//!            │                                           └─▶ else: dead letter
//!            └ every claim_after / 3: renew what is not acknowledged of the batch, acknowledge what is done
//! ```

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::poll_immediate;
use tokio::time::{sleep, timeout};

use super::{Consumer, Event, EventId};
use crate::error::{Advice, Result};
use crate::redis::backoff;

impl Consumer {
    /// Gives each event to `handler` and acknowledges those it succeeds with, until `until` is done; the event in hand is
    /// finished first. An event whose handler fails, panics or takes longer than `events.handler_deadline_ms` is delivered
    /// again after `claim_after`, to this consumer or another; after `events.tries_max` deliveries it goes to the dead
    /// letters. Trouble with the server is logged and waited out.
    ///
    /// # Errors
    /// What no waiting mends: [`crate::Error::Refused`] and the like.
    pub async fn run<H, F, E>(&mut self, mut handler: H, until: impl Future<Output = ()> + Send) -> Result<()>
    where
        H: FnMut(Event) -> F + Send,
        F: Future<Output = Result<(), E>> + Send,
        E: Display + Send,
    {
        let mut until = std::pin::pin!(until);
        let mut pauses = None;
        let mut done = Done::default();
        loop {
            // What was decided and not yet told comes before anything new, or a crash would do all of it again. It is never
            // cut short: the server would have it and `counts` would not.
            let step = match self.tell(&mut done).await {
                Ok(()) => {
                    tokio::select! {
                        biased;
                        () = &mut until => break,
                        step = self.next() => step,
                    }
                }
                Err(error) => Err(error),
            };
            let events = match step {
                Ok(events) => {
                    pauses = None;
                    events
                }
                Err(error) if error.advice() == Advice::Fix => return Err(error),
                Err(error) => {
                    tracing::warn!(topic = %self.topic.name, group = %self.group, %error, "reading events; trying again");
                    let pause = pauses.get_or_insert_with(|| Box::new(backoff())).next().unwrap_or(self.options.block);
                    tokio::select! {
                        biased;
                        () = &mut until => break,
                        () = sleep(pause) => continue,
                    }
                }
            };
            let mut waiting: Vec<EventId> = events.iter().map(|event| event.id).collect();
            let (mut renewed, mut told) = (Instant::now(), Instant::now());
            for event in events {
                let (id, tries) = (event.id, event.tries);
                if !waiting.contains(&id) {
                    self.counts.taken_over += 1;
                    continue;
                }
                match self.handle(&mut handler, event, &mut waiting, &done.ids, &mut renewed).await {
                    Ok(()) => done.ids.push(id),
                    Err(reason) => {
                        self.counts.failed += 1;
                        tracing::warn!(topic = %self.topic.name, group = %self.group, %id, tries, reason, "event not handled");
                        if tries >= self.settings.tries_max {
                            done.dead.push((id, reason));
                        }
                    }
                }
                if told.elapsed() > self.claim_after() / 3 && self.tell(&mut done).await.is_ok() {
                    told = Instant::now();
                }
                if poll_immediate(&mut until).await.is_some() {
                    return self.tell(&mut done).await;
                }
            }
        }
        self.tell(&mut done).await
    }

    /// Acknowledges, and buries; what the server has taken is not told again.
    async fn tell(&mut self, done: &mut Done) -> Result<()> {
        self.ack(&done.ids).await?;
        done.ids.clear();
        while let Some((id, reason)) = done.dead.last() {
            self.bury(*id, reason).await?;
            done.dead.pop();
        }
        Ok(())
    }

    /// Runs the handler within its deadline; the rest of the batch stays this consumer's meanwhile.
    async fn handle<H, F, E>(
        &mut self,
        handler: &mut H,
        event: Event,
        waiting: &mut Vec<EventId>,
        done: &[EventId],
        renewed: &mut Instant,
    ) -> Result<(), String>
    where
        H: FnMut(Event) -> F + Send,
        F: Future<Output = Result<(), E>> + Send,
        E: Display + Send,
    {
        let id = event.id;
        let deadline = Duration::from_millis(self.settings.handler_deadline_ms);
        let every = self.claim_after() / 3;
        // A handler may also panic before it gives a future.
        let started = std::panic::catch_unwind(AssertUnwindSafe(|| handler(event)));
        let work = async {
            match started {
                Ok(future) => match AssertUnwindSafe(future).catch_unwind().await {
                    Ok(done) => done.map_err(|error| error.to_string()),
                    Err(panic) => Err(words_of(&*panic)),
                },
                Err(panic) => Err(words_of(&*panic)),
            }
        };
        let mut work = std::pin::pin!(timeout(deadline, work));
        let result = loop {
            let due = every.saturating_sub(renewed.elapsed());
            tokio::select! {
                biased;
                result = &mut work => break result,
                () = sleep(due) => {
                    // Where it fails the events may be claimed: then they are handled twice, which is at least once.
                    // What is done and not acknowledged yet must not be claimed either.
                    if let Ok(kept) = self.renew(&[waiting.as_slice(), done].concat()).await {
                        waiting.retain(|id| kept.contains(id));
                    }
                    *renewed = Instant::now();
                }
            }
        };
        waiting.retain(|waits| *waits != id);
        result.unwrap_or_else(|_| Err(format!("its handler did not finish within {deadline:?}")))
    }
}

/// Decided, and not told to the server yet.
#[derive(Default)]
struct Done {
    ids: Vec<EventId>,
    dead: Vec<(EventId, String)>,
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("its handler panicked: {}", words.unwrap_or("without words"))
}
