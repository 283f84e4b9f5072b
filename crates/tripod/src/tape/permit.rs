//! The kill switch: whether what the bot does next can still be recorded.
//!
//! Constraints: turns false at the first critical row that cannot be kept, and true again by itself once there is room;
//! reading it is a `watch`, so a bot can wait for either. Looked at on the hot path only after a failure.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tripod_journal::Journal;

/// See the module.
#[derive(Debug)]
pub(super) struct TradingPermit {
    journal: Journal,
    allowed: watch::Sender<bool>,
    /// Set when a row was refused; the journal may not call itself full although the next row does not fit.
    refused: AtomicBool,
}

impl TradingPermit {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal, allowed: watch::Sender::new(true), refused: AtomicBool::new(false) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.allowed.subscribe()
    }

    /// A critical row could not be kept.
    pub(super) fn withdraw(&self, why: &str) {
        self.refused.store(true, Ordering::Release);
        let changed = self.allowed.send_if_modified(|allowed| std::mem::replace(allowed, false));
        if changed {
            tracing::error!(why, "stop trading: critical rows cannot be recorded");
        }
    }

    /// Looks again, where it was withdrawn. Called by the sink that empties the journal.
    pub(super) fn review(&self) {
        if !self.refused.load(Ordering::Acquire) || self.journal.usage().full {
            return;
        }
        self.refused.store(false, Ordering::Release);
        let changed = self.allowed.send_if_modified(|allowed| !std::mem::replace(allowed, true));
        if changed {
            tracing::warn!("trading may go on: critical rows can be recorded again");
        }
    }
}
