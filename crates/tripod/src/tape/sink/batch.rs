//! The rows of one round: read from the journal, judged, encoded, and kept until each of them is settled.
//!
//! Constraints: bounded in rows and in bytes (a `questdb-rs` buffer that grows while the server is away can never be
//! sent again once it is past 100 MiB). It keeps its own copy of the payloads, so that a refused request can be cut and
//! encoded again without asking the journal for exactly the same rows. Batches are reused: nothing is allocated per row.

use std::time::{Duration, Instant};

use questdb::ingress::{Buffer, ProtocolVersion};
use tripod_journal::{Cursor, Position, Record, SchemaId};

use super::catalog::{Catalog, Table};
use crate::config;
use crate::error::Result;
use crate::tape::encode;
use crate::value::Timestamp;

/// The line protocol's version: 3 is the one that carries decimals, and QuestDB 9 takes it. Set here rather than asked
/// from the server, because rows are encoded while the server is away.
pub(super) const PROTOCOL: ProtocolVersion = ProtocolVersion::V3;

const DAY: Duration = Duration::from_hours(24);

/// When a batch is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    rows: usize,
    bytes: usize,
    interval: Duration,
}

impl Limits {
    pub(super) fn of(config: &config::Tape) -> Self {
        Self {
            rows: config.flush_rows.max(1),
            bytes: config.flush_kib.saturating_mul(1024),
            interval: Duration::from_millis(config.flush_interval_ms),
        }
    }
}

/// Why a row is not sent, or was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tape) enum Unfit {
    /// Sent, it would be answered OK, vanish, and wipe the rollup bucket it belongs to.
    Expired(String),
    /// Its bytes do not match its spec.
    Unreadable(String),
    /// The server refused it, in these words.
    Refused(String),
}

/// One row of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) schema: SchemaId,
    pub(super) position: Position,
    start: usize,
    end: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Batch {
    /// Counts from 1 in this process.
    pub(super) number: u64,
    entries: Vec<Entry>,
    payloads: Vec<u8>,
    /// The encoding of every row that is not unfit.
    pub(super) buffer: Buffer,
    /// Rows that do not go to the server, by index, in order.
    pub(super) unfit: Vec<(usize, Unfit)>,
    /// Everything up to here is in this batch or an earlier one; set when it is handed over.
    pub(super) cursor: Option<Cursor>,
    /// No row of this batch was recorded before this; `None` where the sink had not caught up with the journal yet.
    pub(super) recorded_after: Option<Instant>,
}

impl Batch {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            number: 0,
            entries: Vec::with_capacity(limits.rows.min(1024)),
            payloads: Vec::new(),
            buffer: Buffer::new(PROTOCOL),
            unfit: Vec::new(),
            cursor: None,
            recorded_after: None,
        }
    }

    /// Empties it for the next round.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.payloads.clear();
        self.buffer.clear();
        self.unfit.clear();
        self.cursor = None;
        self.recorded_after = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entry(&self, row: usize) -> Option<&Entry> {
        self.entries.get(row)
    }

    pub(super) fn payload(&self, entry: &Entry) -> &[u8] {
        self.payloads.get(entry.start..entry.end).unwrap_or_default()
    }

    /// No further row fits.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.entries.len() >= limits.rows || self.buffer.len() >= limits.bytes
    }

    /// It is time to send.
    pub(super) fn is_due(&self, limits: &Limits, now: Instant) -> bool {
        !self.is_empty() && (self.is_full(limits) || self.due_in(limits, now).is_zero())
    }

    /// How long rows may still be added. Rows that waited already, of an unknown age, are due at once.
    pub(super) fn due_in(&self, limits: &Limits, now: Instant) -> Duration {
        self.recorded_after
            .map_or(Duration::ZERO, |at| limits.interval.saturating_sub(now.saturating_duration_since(at)))
    }

    /// Takes a record in. One that cannot be sent is kept too, as unfit.
    pub(super) fn push(&mut self, record: &Record<'_>, table: Option<&Table>, now: Timestamp) {
        let start = self.payloads.len();
        self.payloads.extend_from_slice(record.payload);
        let row = self.entries.len();
        let end = self.payloads.len();
        self.entries.push(Entry { schema: record.schema, position: record.position, start, end });
        let judged = match table {
            None => Err(Unfit::Unreadable(format!("the journal has no spec of schema {}", record.schema.0))),
            Some(table) => judge(table, record.payload, now).and_then(|()| {
                encode::append_line(&table.spec, &table.name, record.payload, &mut self.buffer)
                    .map_err(|e| Unfit::Unreadable(e.to_string()))
            }),
        };
        if let Err(why) = judged {
            self.unfit.push((row, why));
        }
    }

    /// Encodes some of the rows again, for a request that is not the whole batch.
    pub(super) fn encode(&self, rows: &[usize], catalog: &Catalog, into: &mut Buffer) -> Result<()> {
        into.clear();
        for entry in rows.iter().filter_map(|row| self.entries.get(*row)) {
            if let Some(table) = catalog.table(entry.schema) {
                encode::append_line(&table.spec, &table.name, self.payload(entry), into)?;
            }
        }
        Ok(())
    }
}

/// The time window, checked when the row is sent and not only when it was recorded: it may have waited for days.
fn judge(table: &Table, payload: &[u8], now: Timestamp) -> Result<(), Unfit> {
    let at = encode::timestamp_of(payload);
    if is_expired(at, now, table.spec.retain_days) {
        return Err(Unfit::Expired(format!("{at} is within a day of its table's {} days", table.spec.retain_days)));
    }
    Ok(())
}

/// Whether the day of `at` leaves the table within a day (half a day where a row is kept for one day only, so that what
/// is recorded just before midnight can still be sent just after it). The server drops a day once its *end* is
/// `retain_days` old.
fn is_expired(at: Timestamp, now: Timestamp, retain_days: u16) -> bool {
    let margin = if retain_days == 1 { DAY / 2 } else { DAY };
    let day_ns = i128::try_from(DAY.as_nanos()).unwrap_or(i128::MAX);
    let margin_ns = i128::try_from(margin.as_nanos()).unwrap_or(i128::MAX);
    let day_end = (i128::from(at.as_nanos()) / day_ns + 1) * day_ns;
    let dropped_at = day_end + i128::from(retain_days) * day_ns;
    i128::from(now.as_nanos()) >= dropped_at - margin_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_row_is_expired_a_day_before_the_server_would_drop_it() {
        let row = at("2026-03-01T12:00:00Z");
        // 30 days: the day of the row ends 2026-03-02 and is dropped 2026-04-01.
        assert!(!is_expired(row, at("2026-03-01T12:00:00Z"), 30));
        assert!(!is_expired(row, at("2026-03-30T23:59:59Z"), 30));
        assert!(is_expired(row, at("2026-03-31T00:00:00Z"), 30));
        assert!(is_expired(row, at("2027-01-01T00:00:00Z"), 30));
    }

    #[test]
    fn what_is_recorded_before_midnight_can_be_sent_after_it_even_where_a_day_is_all() {
        let row = at("2026-03-01T23:59:59.999Z");
        assert!(!is_expired(row, at("2026-03-02T00:00:00.100Z"), 1));
        assert!(is_expired(row, at("2026-03-02T12:00:00Z"), 1));
        assert!(!is_expired(row, at("2026-03-02T23:00:00Z"), 2));
        assert!(is_expired(row, at("2026-03-03T00:00:00Z"), 2));
    }

    #[test]
    fn a_row_of_the_future_is_not_expired() {
        assert!(!is_expired(at("2100-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"), 30));
    }
}
