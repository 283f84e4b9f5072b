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

    /// How long nobody needs to look for the first row of a batch: a part of the interval after which it is sent.
    pub(super) fn idle(&self) -> Duration {
        (self.interval / 4).max(Duration::from_millis(1))
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

    /// Judges the rows from `first` on once more, which have waited since they were encoded; returns those that have
    /// become unfit meanwhile.
    pub(super) fn judge_again(&mut self, first: usize, catalog: &Catalog, now: Timestamp) -> Vec<usize> {
        let mut late = Vec::new();
        for (row, entry) in self.entries.iter().enumerate().skip(first) {
            let Some(table) = catalog.table(entry.schema) else { continue };
            let known = self.unfit.iter().any(|(unfit, _)| *unfit == row);
            if !known && let Err(why) = judge(table, self.payload(entry), now) {
                late.push((row, why));
            }
        }
        let rows = late.iter().map(|(row, _)| *row).collect();
        self.unfit.extend(late);
        rows
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
    use crate::tape::Row;
    use crate::tape::tables::Sample;

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

    fn sample(at: Timestamp, seq: u64) -> Vec<u8> {
        let row = Sample { at, source: "test", seq, name: "age", value: 1.5, note: None };
        let mut payload = vec![0; encode::measure(&row).unwrap()];
        encode::fill(&row, &mut payload).unwrap();
        payload
    }

    #[test]
    fn rows_that_waited_are_judged_again_and_the_rest_can_be_encoded_without_them() {
        let limits = Limits { rows: 10, bytes: 1 << 20, interval: Duration::ZERO };
        let catalog = Catalog::of([(SchemaId(3), Sample::spec().clone())]);
        let (now, mut batch) = (at("2026-03-31T12:00:00Z"), Batch::new(&limits));
        let days = u64::from(Sample::spec().retain_days);
        let old = now.checked_sub(DAY * u32::try_from(days - 2).unwrap()).unwrap();
        let expired = now.checked_sub(DAY * u32::try_from(days + 1).unwrap()).unwrap();
        for (seq, at) in [now, old, expired, now].into_iter().enumerate() {
            let seq = u64::try_from(seq).unwrap();
            let (payload, position) = (sample(at, seq), Position { segment: 1, offset: seq });
            let record = Record { schema: SchemaId(3), payload: &payload, position };
            batch.push(&record, catalog.table(SchemaId(3)), now);
        }
        let unreadable = Record {
            schema: SchemaId(3),
            payload: &sample(now, 9)[..12],
            position: Position { segment: 1, offset: 9 },
        };
        batch.push(&unreadable, catalog.table(SchemaId(3)), now);
        assert_eq!(batch.buffer.row_count(), 3);
        assert!(matches!(batch.unfit[..], [(2, Unfit::Expired(_)), (4, Unfit::Unreadable(_))]), "{:?}", batch.unfit);

        assert_eq!(batch.judge_again(0, &catalog, now), [0; 0]);
        let later = now.checked_add(DAY * 2).unwrap();
        assert_eq!(batch.judge_again(2, &catalog, later), [0; 0], "settled already");
        assert_eq!(batch.judge_again(0, &catalog, later), [1]);
        assert_eq!(batch.judge_again(0, &catalog, later), [0; 0], "known already");
        let mut rest = Buffer::new(PROTOCOL);
        batch.encode(&[0, 3], &catalog, &mut rest).unwrap();
        assert_eq!(rest.row_count(), 2);
    }

    #[test]
    fn a_batch_is_due_after_the_interval_or_when_it_is_full() {
        let limits = Limits { rows: 2, bytes: 1 << 20, interval: Duration::from_millis(100) };
        let catalog = Catalog::of([(SchemaId(0), Sample::spec().clone())]);
        let (wall, start, mut batch) = (Timestamp::now(), Instant::now(), Batch::new(&limits));
        let payload = sample(wall, 1);
        let record = Record { schema: SchemaId(0), payload: &payload, position: Position { segment: 1, offset: 8 } };
        assert!(!batch.is_due(&limits, start + Duration::from_secs(9)), "an empty one is never due");
        batch.push(&record, catalog.table(SchemaId(0)), wall);
        assert!(batch.is_due(&limits, start), "rows of unknown age are due at once");
        batch.recorded_after = Some(start);
        assert!(!batch.is_due(&limits, start + Duration::from_millis(99)));
        assert!(batch.is_due(&limits, start + Duration::from_millis(100)));
        batch.push(&record, catalog.table(SchemaId(0)), wall);
        assert!(batch.is_full(&limits) && batch.is_due(&limits, start));
        batch.clear();
        assert!(batch.is_empty() && batch.buffer.is_empty() && batch.recorded_after.is_none());
    }

    #[test]
    fn a_row_of_the_future_is_not_expired() {
        assert!(!is_expired(at("2100-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"), 30));
    }
}
