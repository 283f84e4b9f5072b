//! The publisher: pipelines, never further ahead of the reader than the stream can hold.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::Receiver;
use tripod::Uuid;
use tripod::events::{Draft, Publisher};

use super::{KIND, PATIENCE, PIPELINE_EVENTS_MAX, Payload, RETRY_PAUSE, TradeEvent, Unread};

pub(super) struct Outbound {
    pub(super) run: Uuid,
    pub(super) publisher: Publisher,
    /// Published and unread at most.
    pub(super) unread_max: usize,
    pub(super) unread: Arc<Unread>,
}

impl Outbound {
    /// Publishes until the queue is closed: how many, and why it gave up, if it did. Giving up closes the queue.
    pub(super) async fn run(self, mut queue: Receiver<TradeEvent>) -> (u64, Option<String>) {
        let mut published = 0;
        let mut batch = Vec::new();
        loop {
            batch.clear();
            if queue.recv_many(&mut batch, PIPELINE_EVENTS_MAX.min(self.unread_max)).await == 0 {
                return (published, None);
            }
            match self.publish(&batch).await {
                Ok(count) => published += count,
                Err(why) => {
                    // Nobody knows whether these are there; what the reader finds of them counts as repeated.
                    let mut unread = self.unread.lock();
                    batch.iter().for_each(|event| {
                        unread.remove(&event.n);
                    });
                    return (published, Some(why));
                }
            }
        }
    }

    async fn publish(&self, batch: &[TradeEvent]) -> Result<u64, String> {
        self.wait_for_room(batch.len()).await?;
        let drafts: Vec<Draft> = batch
            .iter()
            .map(|trade| Draft::new(KIND, &Payload { run: self.run, trade }))
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        // Before the call: the reader may be faster than the answer.
        self.unread.lock().extend(batch.iter().map(|event| event.n));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.publisher.publish_many(&drafts).await {
                Ok(ids) => return Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX)),
                Err(error) if Instant::now() > deadline => {
                    return Err(format!("could not publish for {PATIENCE:?}: {error}"));
                }
                Err(error) => {
                    tracing::debug!(%error, "publishing again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn wait_for_room(&self, events: usize) -> Result<(), String> {
        let mut before = self.unread.len();
        while before + events > self.unread_max {
            if tokio::time::timeout(PATIENCE, self.unread.taken.notified()).await.is_err() {
                return Err(format!("the group read nothing for {PATIENCE:?} with {before} events unread"));
            }
            before = self.unread.len();
        }
        Ok(())
    }
}
