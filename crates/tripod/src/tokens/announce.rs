//! A change of assessment, told to whoever listens: an event of the topic [`TOPIC`].
//!
//! Constraints: told is what a write to the token changed, judged before and after it with the same epoch, time and
//! policy; a token that was never known before is no change. Each event has a key made of the write and the two verdicts,
//! so any number of bots that see the same write publish one event. Memory never waits for Redis: what happens while
//! Redis is away is kept in order, up to [`WAITING_MAX`] changes, and published when it is back; those beyond are not
//! announced, and counted. The change itself is in the store in any case (`tripod tokens changes`).
//!
//! An epoch that begins changes fees without a write: that is foreseen, not announced. The event of the write that set the
//! fee has the reason `transfer_fee_next` with its epoch.
//!
//! ```text
//! memory: (before, after) ─▶ queue ─▶ task: assess both ─▶ different? ─▶ Publisher, again and again until Redis has it
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::assess::{Assessment, Policy, Reason, Verdict};
use super::cache::{KnownToken, TokenCache};
use crate::error::{Advice, Result};
use crate::events::{Draft, Publisher};
use crate::value::Timestamp;

/// The usual topic of these events.
pub const TOPIC: &str = "tokens";
/// The kind of the event.
pub const KIND: &str = "assessment";
/// Changes that wait while Redis is away; about a kilobyte each. Those beyond are counted as missed.
pub const WAITING_MAX: usize = 10_000;

/// Between two attempts while Redis is away.
const PAUSE_LEAST: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(5);

/// A token before and after a write.
pub(super) type Changed = (Arc<KnownToken>, Arc<KnownToken>);

/// By what is judged. The bot has the epoch from its node and the policy from the settings, and sends a new one when one of
/// them changes.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The epoch whose fee counts.
    pub epoch: u64,
    /// How much each finding weighs.
    pub policy: Policy,
}

/// The payload of the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AssessmentChange {
    /// The mint, in base58.
    pub mint: String,
    /// The short name, where it is known; shared by many tokens.
    pub symbol: Option<String>,
    /// The slot of the write, as text.
    pub slot: String,
    /// The epoch that it was judged for, as text.
    pub epoch: String,
    /// When it was judged.
    pub at: String,
    /// The verdict before.
    pub before: Verdict,
    /// The verdict now.
    pub after: Verdict,
    /// Findings that are new, or changed their words: `code: detail`.
    pub found: Vec<String>,
    /// Findings that are no more.
    pub gone: Vec<String>,
}

/// Announces until it is dropped.
#[derive(Debug)]
pub struct Announcer {
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    published: AtomicU64,
    missed: AtomicU64,
}

impl Counts {
    /// The queue was full.
    pub(super) fn miss(&self) {
        if self.missed.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(limit = WAITING_MAX, "changes of assessment are not announced: too many wait for Redis");
        }
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Announcer {
    /// Announces what changes in `cache` from now on, in a task of the current runtime. One per cache: a second one takes
    /// the place of the first.
    #[must_use]
    pub fn start(cache: &TokenCache, publisher: Publisher, terms: watch::Receiver<Terms>) -> Self {
        let counts = Arc::new(Counts::default());
        let (sender, changes) = mpsc::channel(WAITING_MAX);
        cache.tell(sender, Arc::clone(&counts));
        let task = tokio::spawn(run(changes, publisher, terms, Arc::clone(&counts)));
        Self { counts, task }
    }

    /// Events that are in the stream.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.counts.published.load(Ordering::Relaxed)
    }

    /// Changes that were not judged because [`WAITING_MAX`] waited, or whose event Redis will never take.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.counts.missed.load(Ordering::Relaxed)
    }
}

async fn run(
    mut changes: mpsc::Receiver<Changed>,
    publisher: Publisher,
    terms: watch::Receiver<Terms>,
    counts: Arc<Counts>,
) {
    while let Some((before, after)) = changes.recv().await {
        let draft = {
            let terms = terms.borrow();
            draft_of(&before, &after, &terms, Timestamp::now())
        };
        match draft {
            Ok(None) => {}
            Ok(Some(draft)) => publish(&publisher, &draft, &counts).await,
            Err(error) => {
                tracing::error!(%error, mint = %after.mint, "a change of assessment makes no event");
                counts.miss();
            }
        }
    }
}

/// Until Redis has it. Its key makes the repetition harmless.
async fn publish(publisher: &Publisher, draft: &Draft, counts: &Counts) {
    let mut pause = PAUSE_LEAST;
    loop {
        match publisher.publish_draft(draft).await {
            Ok(_) => {
                counts.published.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) if matches!(error.advice(), Advice::Fix | Advice::StopTrading) => {
                tracing::error!(%error, "Redis refuses a change of assessment; it is not announced");
                counts.miss();
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "a change of assessment waits for Redis");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(PAUSE_MOST);
            }
        }
    }
}

/// The event of a change; none where the judgement is the same.
fn draft_of(before: &KnownToken, after: &KnownToken, terms: &Terms, now: Timestamp) -> Result<Option<Draft>> {
    let judge = |token: &KnownToken| token.assess(terms.epoch, now, &terms.policy);
    let Some(change) = change_of(&judge(before), &judge(after), after) else { return Ok(None) };
    let (from, to) = (change.before.as_str(), change.after.as_str());
    let key = format!("{}:{}.{}:{from}>{to}", after.mint, after.slot, after.write_version);
    Draft::new(KIND, &change)?.with_key(&key).map(Some)
}

fn change_of(before: &Assessment, after: &Assessment, token: &KnownToken) -> Option<AssessmentChange> {
    let only_in = |these: &[Reason], those: &[Reason]| -> Vec<String> {
        these.iter().filter(|reason| !those.contains(reason)).map(ToString::to_string).collect()
    };
    let found = only_in(&after.reasons, &before.reasons);
    let gone = only_in(&before.reasons, &after.reasons);
    if found.is_empty() && gone.is_empty() {
        return None;
    }
    Some(AssessmentChange {
        mint: after.mint.to_string(),
        symbol: token.symbol.as_deref().map(str::to_owned),
        slot: token.slot.to_string(),
        epoch: after.epoch.to_string(),
        at: after.at.to_string(),
        before: before.verdict,
        after: after.verdict,
        found,
        gone,
    })
}
