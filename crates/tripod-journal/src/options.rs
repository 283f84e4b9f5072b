//! What a journal is opened with.
//!
//! Constraints: every limit has its unit in its name, a default, and a sentence on what more and less of it cost.

use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use crate::layout::{PAGE_BYTES, narrow, wide};

/// Most lanes a journal can have: the counts file has room for that many.
pub const LANES_MAX: usize = 64;
/// Smallest segment. Small ones are for tests: each costs a file, a mapping and a page of header.
pub const SEGMENT_BYTES_MIN: u64 = 32 * 1024;
/// Largest segment.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Segments kept ready beyond those in use.
pub(crate) const SPARES: u64 = 2;

/// When records reach the disk itself. All of them survive a kill -9; they differ in what a power loss takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Left to the kernel: up to about 30 s may be lost with the power.
    Process,
    /// The keeper syncs every interval: at most that interval, and the time one sync takes, may be lost. Recorders never
    /// wait for it.
    Periodic(Duration),
    /// As `Process`, and [`crate::Journal::append_synced`] and [`crate::Journal::sync`] wait until the disk has it;
    /// callers that wait at the same time share one sync.
    Each,
}

/// How a journal is opened. Start from [`Options::new`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The journal's directory; made when missing.
    pub dir: PathBuf,
    /// Bytes per segment (default 16 MiB). Larger: fewer files. Smaller: space comes back sooner.
    pub segment_bytes: u64,
    /// Disk to use at most, spares included (default 1 GiB, at least four segments). Only what a required sink has not
    /// passed counts towards a refusal; passed segments are deleted early instead.
    pub budget_bytes: u64,
    /// Segments open at once at most (default 16): so many threads may be inside `append` at the same instant.
    pub lanes_max: usize,
    /// Passed segments are kept this long after they were sealed, for redelivery (default 24 h).
    pub keep: Duration,
    /// When records reach the disk (default every 100 ms).
    pub sync: Sync,
    /// The sinks that hold segments back. One that never opened its cursor holds everything.
    pub required_sinks: Vec<String>,
    /// Move a file that cannot be read aside (`*.damaged`) and start without it, instead of refusing to start.
    pub set_aside_damaged: bool,
}

impl Options {
    /// The defaults, for a journal in `dir` that no sink holds back.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 16 << 20,
            budget_bytes: 1 << 30,
            lanes_max: 16,
            keep: Duration::from_secs(24 * 3600),
            sync: Sync::Periodic(Duration::from_millis(100)),
            required_sinks: Vec::new(),
            set_aside_damaged: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |name: &'static str, why: String| Err(Error::Option { name, why });
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            || !self.segment_bytes.is_multiple_of(wide(PAGE_BYTES))
        {
            return refuse(
                "segment_bytes",
                format!(
                    "{} is not a multiple of {PAGE_BYTES} from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}",
                    self.segment_bytes
                ),
            );
        }
        if self.budget_bytes < self.segment_bytes.saturating_mul(4) {
            return refuse("budget_bytes", format!("{} is less than four segments", self.budget_bytes));
        }
        if !(1..=LANES_MAX).contains(&self.lanes_max) {
            return refuse("lanes_max", format!("{} is not from 1 to {LANES_MAX}", self.lanes_max));
        }
        if matches!(self.sync, Sync::Periodic(interval) if interval < Duration::from_millis(1)) {
            return refuse("sync", "an interval under 1 ms would sync all the time; use Sync::Each".to_owned());
        }
        for name in &self.required_sinks {
            crate::slots::check_name(name)?;
        }
        Ok(())
    }

    pub(crate) fn segment_len(&self) -> usize {
        narrow(self.segment_bytes)
    }

    /// How many segments may be held back by required sinks; the rest of the budget is for spares.
    pub(crate) fn held_max(&self) -> u64 {
        (self.budget_bytes / self.segment_bytes).saturating_sub(SPARES).max(1)
    }
}
