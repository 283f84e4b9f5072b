//! One sample, and the stream of them to browsers.
//!
//! Constraints: each form of a sample (JSON, server-sent event, Prometheus text) is made once, when the first one asks, and
//! the same bytes are shared by all. A client that does not read holds up nobody and costs one event of memory: when it
//! reads again it gets the newest sample, and sees by the `id:` what it skipped.
//!
//! Picture: sampler ── watch (the newest only) ──▶ each client's stream ──▶ its socket

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::body::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use tripod::metrics::BotFacts;

use super::history::History;
use super::metrics;
use super::snapshot::Snapshot;

/// One second's sample with everything that is shown of it.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) snapshot: Snapshot,
    bots: Arc<Vec<BotFacts>>,
    json: OnceLock<Bytes>,
    event: OnceLock<Bytes>,
    metrics: OnceLock<Bytes>,
    history: OnceLock<Bytes>,
}

impl Frame {
    pub(super) fn new(snapshot: Snapshot, bots: Arc<Vec<BotFacts>>) -> Self {
        let (json, event, metrics, history) = (OnceLock::new(), OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { snapshot, bots, json, event, metrics, history }
    }

    /// `/api/snapshot`.
    pub(super) fn json(&self) -> Bytes {
        self.json.get_or_init(|| encode(&self.snapshot)).clone()
    }

    /// The same as a server-sent event. JSON has no line breaks, so one `data:` line holds it.
    pub(super) fn event(&self) -> Bytes {
        let event = || {
            let (json, seq) = (self.json(), self.snapshot.seq);
            let mut event = format!("id: {seq}\nevent: snapshot\ndata: ").into_bytes();
            event.extend_from_slice(&json);
            event.extend_from_slice(b"\n\n");
            Bytes::from(event)
        };
        self.event.get_or_init(event).clone()
    }

    /// `/metrics`.
    pub(super) fn metrics(&self) -> Bytes {
        self.metrics.get_or_init(|| metrics::render(&self.snapshot, &self.bots).into()).clone()
    }

    /// `/api/history`.
    pub(super) fn history(&self, history: &Mutex<History>) -> Bytes {
        let encoded = || encode(&history.lock().unwrap_or_else(PoisonError::into_inner).document());
        self.history.get_or_init(encoded).clone()
    }
}

/// Our own types: the encoder has nothing to refuse in them.
fn encode(document: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(document).unwrap_or_else(|_| b"null".to_vec()).into()
}

/// The newest sample now, and each newest one from then on, until `stop` says so.
pub(super) fn events(
    mut frames: watch::Receiver<Arc<Frame>>,
    stop: watch::Receiver<bool>,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static {
    frames.mark_changed();
    unfold((frames, stop), |(mut frames, mut stop)| async move {
        let changed = tokio::select! {
            changed = frames.changed() => changed,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        changed.ok()?;
        let event = frames.borrow_and_update().event();
        Some((Ok(event), (frames, stop)))
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::super::samples;
    use super::*;

    fn frame(seq: u64) -> Arc<Frame> {
        let snapshot = Snapshot { seq, ..samples::quiet() };
        Arc::new(Frame::new(snapshot, Arc::default()))
    }

    fn id(event: &Bytes) -> String {
        String::from_utf8_lossy(event).lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_slow_client_skips_to_the_newest_and_all_share_the_same_bytes() {
        let (sender, frames) = watch::channel(frame(1));
        let (_stop, stopped) = watch::channel(false);
        let mut slow = Box::pin(events(frames.clone(), stopped.clone()));
        let mut quick = Box::pin(events(frames, stopped));
        let first = slow.next().await.unwrap().unwrap();
        assert_eq!(id(&first), "id: 1");
        assert_eq!(quick.next().await.unwrap().unwrap().as_ptr(), first.as_ptr(), "made twice");
        for seq in 2..=5 {
            sender.send_replace(frame(seq));
            assert_eq!(id(&quick.next().await.unwrap().unwrap()), format!("id: {seq}"));
        }
        assert_eq!(id(&slow.next().await.unwrap().unwrap()), "id: 5");
        drop(sender);
        assert!(slow.next().await.is_none(), "the sampler has ended");
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_monitor_does() {
        let (_sender, frames) = watch::channel(frame(1));
        let (stop, stopped) = watch::channel(false);
        let mut client = Box::pin(events(frames, stopped));
        client.next().await;
        stop.send_replace(true);
        assert!(client.next().await.is_none());
    }

    #[test]
    fn an_event_is_one_line_of_data() {
        let event = frame(7).event();
        let text = std::str::from_utf8(&event).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines[0], lines[1], lines.len()), ("id: 7", "event: snapshot", 4), "{text}");
        let data: serde_json::Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["seq"], 7);
    }
}
