//! The bot's own thread: takes one step after the other, at the chosen rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;
use tripod::tape::{Recorded, Recorder};

use super::super::pace::Rate;
use super::super::rows::TapeRow;
use super::super::script::{Script, Step};
use super::super::source::Event;
use super::events::TradeEvent;
use super::prices::NewestPrices;

/// Pauses shorter than this are not made: timers are not finer. Rows then go in small bursts at the right rate.
const PAUSE_LEAST: Duration = Duration::from_millis(1);
/// Rows between two steps of the progress bar.
const BAR_ROWS: u64 = 256;

pub(super) struct Producer {
    pub(super) script: Arc<Script>,
    pub(super) recorder: Recorder,
    pub(super) rate: Rate,
    pub(super) newest: NewestPrices,
    pub(super) drafts: Sender<TradeEvent>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) bar: ProgressBar,
    pub(super) handle: Handle,
}

pub(super) struct Produced {
    pub(super) recorded: u64,
    pub(super) dropped: u64,
    pub(super) record_ns: Histogram<u64>,
    pub(super) stopped: bool,
}

impl Producer {
    pub(super) fn run(mut self) -> anyhow::Result<Produced> {
        let script = Arc::clone(&self.script);
        let mut produced = Produced {
            recorded: 0,
            dropped: 0,
            // Three digits, up to ten seconds.
            record_ns: Histogram::new_with_max(10_000_000_000, 3)?,
            stopped: false,
        };
        let started = Instant::now();
        let mut first = None;
        for (index, step) in (0_u64..).zip(script.steps()?.flatten()) {
            let due = self.rate.due(index, *first.get_or_insert(step.at), step.at);
            if !self.wait(due.saturating_sub(started.elapsed())) {
                produced.stopped = true;
                break;
            }
            if let Some(row) = step.tape_row() {
                self.record(&row, &mut produced).with_context(|| format!("at {} line {}", step.source, step.line))?;
            }
            if let Some(point) = step.price() {
                self.newest.put(point);
            }
            self.publish(index, &step)?;
            if index % BAR_ROWS == 0 {
                self.bar.set_position(index);
            }
        }
        Ok(produced)
    }

    fn record(&self, row: &TapeRow<'_>, produced: &mut Produced) -> tripod::Result<()> {
        let started = Instant::now();
        let recorded = match row {
            TapeRow::Trade(row) => self.recorder.record(row),
            TapeRow::Quote(row) => self.recorder.record(row),
        }?;
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        produced.record_ns.saturating_record(nanos);
        produced.recorded += 1;
        if recorded == Recorded::Dropped {
            produced.dropped += 1;
        }
        Ok(())
    }

    /// False where ^C came.
    fn wait(&mut self, pause: Duration) -> bool {
        if *self.stop.borrow() {
            return false;
        }
        if pause < PAUSE_LEAST {
            return true;
        }
        let stop = &mut self.stop;
        let stopped = async { stop.wait_for(|stop| *stop).await.is_ok() };
        !self.handle.block_on(async { tokio::time::timeout(pause, stopped).await.unwrap_or(false) })
    }

    /// Hands a trade to the publisher. It has its own deadlines and goes away where Redis stays away, which the report
    /// says; the tape goes on.
    fn publish(&self, number: u64, step: &Step) -> anyhow::Result<()> {
        let Event::Trade(trade) = &step.event else { return Ok(()) };
        let event = TradeEvent::new(number, step, trade);
        if let Err(TrySendError::Full(event)) = self.drafts.try_send(event) {
            // Waits for the publisher, whose own waits are bounded; it closes the queue when it gives up.
            let _ = self.drafts.blocking_send(event);
        }
        Ok(())
    }
}
