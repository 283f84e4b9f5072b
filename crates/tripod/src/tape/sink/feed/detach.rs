//! A server that is not required and falls too far behind: its journal segments go, and what went is counted.
//!
//! Constraints: such a sink holds nothing back, so the journal deletes what the required ones have passed, by age or for
//! want of disk. The rows of it that this sink had not settled are *missed*: a term of their own in the ledger, stored
//! with the cursor, so the sums hold at each moment. A sink whose server answers goes on with what is left; one whose
//! server does not is *detached*: it passes what is recorded and counts it, until it is attached again or started anew.
//!
//! Operation: a segment behind the cursor is gone → the batches that are under way are given up (what they brought is
//! there all the same, and counts as missed) → what is recorded, not pending and not passed is missed → one commit.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tripod_journal::Snapshot;

use super::super::status::SinkState;
use super::Feed;
use crate::error::Result;

/// Between looks whether segments are gone, and while detached between two rounds of counting.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a feed of a server that is not required keeps in mind.
#[derive(Debug)]
pub(in super::super) struct Tether {
    look_at: Instant,
    detached: bool,
}

impl Tether {
    pub(super) fn new() -> Self {
        Self { look_at: Instant::now(), detached: false }
    }
}

impl Feed {
    /// Whether rows are passed and counted instead of delivered.
    pub(super) fn is_detached(&self) -> bool {
        self.tether.as_ref().is_some_and(|tether| tether.detached)
    }

    /// Looks whether segments are gone; for a server that is not required.
    pub(super) fn mind_the_gap(&mut self) {
        let attach = self.parts.barrier.take_attach();
        let (now, healthy) = (Instant::now(), self.parts.board.state() == SinkState::Delivering);
        let Some(tether) = &mut self.tether else { return };
        if attach && tether.detached {
            tether.detached = false;
            self.parts.board.enter(SinkState::Starting, "attached again");
            return;
        }
        if now < tether.look_at {
            return;
        }
        tether.look_at = now + LOOK_EVERY;
        let was_detached = tether.detached;
        let done = match self.parts.journal.gone_segments() {
            Ok(0) if !was_detached => Ok(()),
            Ok(_) if was_detached || !healthy => self.pass_all(),
            Ok(_) => self.pass_gone().map(drop),
            Err(e) => Err(e.into()),
        };
        if let Err(e) = done {
            self.cannot_store(&e);
        }
    }

    /// What went while nobody looked: between two processes, or in the middle of a count.
    pub(super) fn count_gone(&mut self) -> Result<u64> {
        let snapshot = Snapshot::read(&self.parts.dir, &self.parts.name)?;
        let mut missed = 0;
        for (schema, recorded) in &snapshot.recorded {
            let of = |list: &[(tripod_journal::SchemaId, u64)]| {
                list.iter().find(|(id, _)| id == schema).map_or(0, |(_, count)| *count)
            };
            let known = of(&snapshot.dropped) + of(&snapshot.pending) + self.tally.of(*schema).passed;
            let gone = recorded.saturating_sub(known);
            self.tally.missed(*schema, gone);
            missed += gone;
        }
        Ok(missed)
    }

    /// Goes on behind what is gone; how many rows those were.
    fn pass_gone(&mut self) -> Result<u64> {
        self.start_over();
        let reached = self.reached.clone();
        self.parts.journal.rewind(&reached)?;
        // Counted after: what goes in between is counted already, and found to be so the next time.
        let missed = self.count_gone()?;
        self.reached = self.parts.journal.mark();
        self.commit();
        self.parts.board.missed(missed);
        Ok(missed)
    }

    /// Passes everything that is recorded, and counts it.
    fn pass_all(&mut self) -> Result<()> {
        let gone = self.pass_gone()?;
        let Self { parts, tally, .. } = self;
        let mut passed = 0;
        parts.journal.read(|record| {
            tally.missed(record.schema, 1);
            passed += 1;
            ControlFlow::Continue(())
        })?;
        self.reached = self.parts.journal.mark();
        self.commit();
        // What went while it was read.
        let gone = gone + self.count_gone()?;
        self.commit();
        self.parts.board.missed(passed);
        if let Some(tether) = self.tether.as_mut().filter(|tether| !tether.detached) {
            tether.detached = true;
            let why = self.parts.board.status().why;
            let why = format!(
                "it is not required and fell behind what the journal keeps ({gone} rows were gone); it was: {why}; \
                 bring the server back, then restart the process that delivers, and copy what is missing"
            );
            self.parts.board.enter(SinkState::Detached, &why);
        }
        Ok(())
    }
}
