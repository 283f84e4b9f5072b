//! The reader: one consumer of the group; an event counts once it is acknowledged.

use std::time::Instant;

use tokio::sync::watch;
use tripod::Uuid;
use tripod::events::{Consumer, Event, EventId};

use super::{Own, PATIENCE, RETRY_PAUSE, Unread};

/// What the group was given.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// Different events of this run, acknowledged.
    pub(super) read: u64,
    /// Events of this run that had been read before.
    pub(super) repeated: u64,
    /// Events of somebody else.
    pub(super) foreign: u64,
    pub(super) gave_up: Option<String>,
}

/// Reads until everything is published (`ending`) and read.
pub(super) async fn run(consumer: &mut Consumer, run: Uuid, unread: &Unread, ending: watch::Receiver<bool>) -> Inbound {
    let mut inbound = Inbound::default();
    let mut progress = Instant::now();
    loop {
        // Asked before the reading: what is published afterwards is in a later round.
        let ended = *ending.borrow();
        match consumer.next().await {
            Ok(batch) if batch.is_empty() => {
                let left = unread.len();
                if left == 0 {
                    if ended {
                        return inbound;
                    }
                    progress = Instant::now();
                } else if progress.elapsed() > PATIENCE {
                    inbound.gave_up = Some(format!("{left} events were not given to the group within {PATIENCE:?}"));
                    return inbound;
                }
            }
            Ok(batch) => {
                if let Err(error) = acknowledge(consumer, &batch).await {
                    inbound.gave_up = Some(format!("could not acknowledge events: {error}"));
                    return inbound;
                }
                inbound.count(&batch, run, unread);
                unread.taken.notify_one();
                progress = Instant::now();
            }
            Err(error) => {
                if progress.elapsed() > PATIENCE {
                    inbound.gave_up = Some(format!("could not read events for {PATIENCE:?}: {error}"));
                    return inbound;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn acknowledge(consumer: &mut Consumer, batch: &[Event]) -> tripod::Result<()> {
    let ids: Vec<EventId> = batch.iter().map(|event| event.id).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.ack(&ids).await {
            Err(error) if Instant::now() < deadline => {
                tracing::debug!(%error, "acknowledging again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            result => return result,
        }
    }
}

impl Inbound {
    fn count(&mut self, batch: &[Event], run: Uuid, unread: &Unread) {
        let mut unread = unread.lock();
        for event in batch {
            match event.decode::<Own>() {
                Ok(own) if own.run == run && unread.remove(&own.n) => self.read += 1,
                Ok(own) if own.run == run => self.repeated += 1,
                _ => self.foreign += 1,
            }
        }
    }
}
