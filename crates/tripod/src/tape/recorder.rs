//! The hot path: one row into the journal.
//!
//! Constraints: `record()` never waits: no network, no disk, no lock held over anything, no allocation unless it fails.
//! What is wrong with a row is found here, before anything is published, and named with table and column.
//!
//! Operation: claim room in the class's journal for the longest row that the table can have → check and encode straight into
//! its mapping → publish as much as was used. Only a row that could be very long is measured first, lest the ends of
//! segments stay empty. One call of [`TIMED_EVERY`] is timed, for [`crate::tape::record_times`].

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tripod_journal::AppendError;

use super::directory::{Directory, Registered};
use super::encode;
use super::permit::TradingPermit;
use super::row::Row;
use super::spec::Importance;
use crate::error::{Error, Result};

/// Rows that may be longer than this are measured before they are written.
const ROOM_BYTES_MAX: usize = 4096;
/// One of so many calls of a thread is timed: two looks at the clock cost a fifth of a call.
pub(crate) const TIMED_EVERY: u32 = 1024;

thread_local! {
    /// Calls of this thread.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// What became of a row that was fit to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is in the journal: it survives a kill -9 of this process and reaches QuestDB whether or not this process ever
    /// comes back. Power loss takes at most the journal's sync interval.
    Kept,
    /// Its class's journal is full (or its disk is), and the class is not critical: the row is gone, and counted as
    /// dropped in the ledger.
    Dropped,
}

/// Records rows. Cheap to clone; any number of threads, sync or async, use it at once.
#[derive(Clone)]
pub struct Recorder {
    directory: Arc<Directory>,
    permit: Arc<TradingPermit>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    pub(super) fn new(directory: Arc<Directory>, permit: Arc<TradingPermit>) -> Self {
        Self { directory, permit }
    }

    /// Records one row.
    ///
    /// When it returns `Ok(Recorded::Kept)` the row survives a kill -9 and will be in QuestDB exactly once.
    /// When it returns `Ok(Recorded::Dropped)` the row is lost and counted; never so for a critical table.
    /// When it returns an error nothing was written.
    ///
    /// # Errors
    /// - [`Error::Invalid`] where QuestDB would refuse or silently alter a value, or the row's type was not registered
    ///   ([`crate::tape::Tape::register`]).
    /// - [`Error::CannotRecord`] where the row is critical and its journal is full or its disk fails. Stop trading, and
    ///   wait for [`crate::tape::Tape::trading_allowed`].
    /// - [`Error::Closed`] after the tape was closed.
    pub fn record<R: Row>(&self, row: &R) -> Result<Recorded> {
        let calls = CALLS.get().wrapping_add(1);
        CALLS.set(calls);
        if calls.is_multiple_of(TIMED_EVERY) { self.timed(row) } else { self.keep(row) }
    }

    #[cold]
    fn timed<R: Row>(&self, row: &R) -> Result<Recorded> {
        let started = Instant::now();
        let recorded = self.keep(row);
        let took = started.elapsed();
        if let Some(table) = self.directory.find(R::spec()) {
            table.journal.note_took(took);
        }
        recorded
    }

    #[inline]
    fn keep<R: Row>(&self, row: &R) -> Result<Recorded> {
        let spec = R::spec();
        let Some(table) = self.directory.find(spec) else {
            return Err(Error::invalid(&*spec.name, "is not registered; call `Tape::register` for its row type first"));
        };
        let appended = if table.bytes_max <= ROOM_BYTES_MAX {
            table.journal.append_within(table.schema, table.bytes_max, |out| encode::fill_front(row, out))
        } else {
            let len = encode::measure(row)?;
            table.journal.append(table.schema, len, |out| encode::fill(row, out))
        };
        match appended {
            Ok(()) => Ok(Recorded::Kept),
            Err(e) => self.not_kept(table, row, e),
        }
    }

    /// Records one row at once, as [`Recorder::record`] does; the future then waits until it is on the disk. `Ok(Kept)`
    /// from it means that the row survives a power loss. Whoever waits at the same time shares one sync of the disk. Call
    /// it inside a tokio runtime, with any `sync` setting; a row that is dropped is told at once.
    ///
    /// # Errors
    /// As [`Recorder::record`]; [`Error::Journal`] where the disk refused or did not answer within `deadline`. The row is
    /// then in the journal all the same: it survives a kill -9 and reaches QuestDB, but a power loss may take it.
    pub fn record_synced<R: Row>(
        &self,
        row: &R,
        deadline: Duration,
    ) -> impl Future<Output = Result<Recorded>> + Send + use<R> {
        let recorded = self.record(row);
        let journal = self.directory.find(R::spec()).map(|table| table.journal.clone());
        async move {
            let (Recorded::Kept, Some(journal)) = (recorded?, journal) else { return Ok(Recorded::Dropped) };
            // The journal's wait is a thread's; it ends by the deadline.
            match tokio::task::spawn_blocking(move || journal.sync(deadline)).await {
                Ok(synced) => synced.map(|()| Recorded::Kept).map_err(Error::from),
                Err(_) => Err(Error::Closed("the runtime")),
            }
        }
    }

    #[cold]
    fn not_kept<R: Row>(&self, table: &Registered, row: &R, error: AppendError<Error>) -> Result<Recorded> {
        let name = &table.spec.name;
        let withdraw = match error {
            AppendError::Fill(e) => return Err(e),
            AppendError::Closed => return Err(Error::Closed("the tape")),
            AppendError::TooLarge { .. } | AppendError::Schema { .. } => {
                return Err(Error::invalid(name.as_str(), error.to_string()));
            }
            AppendError::Full { .. } | AppendError::Disk(_) => true,
            // As many threads as there are lanes are in `append` at this instant: the next call most likely succeeds.
            _ => false,
        };
        // A row that is wrong is told so also where it would not have been kept.
        encode::measure(row)?;
        if table.spec.importance != Importance::Critical {
            table.journal.count_dropped(table.schema);
            return Ok(Recorded::Dropped);
        }
        let why = error.to_string();
        if withdraw {
            self.permit.withdraw(&why);
        }
        Err(Error::CannotRecord { table: name.clone(), why })
    }
}
