//! Waiting until every row is visible, quarantined or dropped, for as long as it gets better.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Legs;

/// One look waits this long.
const LOOK: Duration = Duration::from_secs(1);
/// Without any progress for this long the rest is left to the journal: long enough for a QuestDB that is restarted.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether everything settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Rows of all sinks that are not visible, quarantined or dropped yet.
    pub(crate) left: u64,
}

/// Waits until nothing is left, nothing moves any more, or ^C came.
pub(super) async fn wait(legs: &Arc<Legs>, stop: &watch::Receiver<bool>) -> anyhow::Result<Settled> {
    let mut least = u64::MAX;
    let mut progress = Instant::now();
    loop {
        let asked = Arc::clone(legs);
        let visible = tokio::task::spawn_blocking(move || asked.tape.wait_visible(LOOK)).await??;
        if visible {
            return Ok(Settled { left: 0 });
        }
        let left = left(legs)?;
        if left < least {
            least = left;
            progress = Instant::now();
        }
        if progress.elapsed() > PATIENCE || *stop.borrow() {
            return Ok(Settled { left });
        }
    }
}

fn left(legs: &Legs) -> tripod::Result<u64> {
    Ok(legs.tape.ledger()?.iter().map(|row| row.pending + row.delivered).sum())
}
