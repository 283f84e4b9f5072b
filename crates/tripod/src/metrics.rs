//! Every metric of the library: name, unit, help text, labels; in one place, as values, so that no name is typed twice.
//!
//! Constraints: labels are closed sets (bots and tables of the journals, servers of the config, classes, states), never a
//! token. Nothing is measured on the hot path but one call of `record()` in 1024: each figure is read from what is kept
//! anyway, by whoever wants it, in the bot or beside it. Goes out through the `metrics` facade: without an exporter it
//! costs next to nothing.
//!
//! Operation: install an exporter → [`describe`] → [`publish`] each few seconds (in a bot [`crate::tape::Tape::publish`],
//! which adds what only the bot knows). Ratios, rates and alerts are the monitoring system's. What `tripod monitor` adds
//! of the servers stands in [`servers`].

use std::time::Duration;

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder, Unit};
use tripod_journal::{Inventory, Segment, SegmentState, Usage};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::ledger::{self, LedgerRow};
use crate::tape::spec::Importance;
use crate::tape::{RecordTimes, SinkState, SinkStatus, statuses};
use crate::value::Timestamp;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows, while its source lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name; the unit stands last.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Of its values.
    pub unit: Unit,
    /// One sentence.
    pub help: &'static str,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
}

const METADATA: Metadata<'static> = Metadata::new("tripod", Level::INFO, Some(module_path!()));

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $id:ident = $kind:ident $name:literal $unit:ident [$($label:literal),*];)*) => {
        $($(#[doc = $doc])+ pub const $id: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            help: concat!($($doc),+),
            labels: &[$($label),*],
        };)*

        /// All of them.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

pub mod servers;

metrics! {
    /// Rows that record() took or dropped.
    ROWS_RECORDED = Counter "tripod_rows_recorded_total" Count ["bot", "table", "sink"];
    /// Rows in the journal that the server has not answered yet.
    ROWS_PENDING = Gauge "tripod_rows_pending" Count ["bot", "table", "sink"];
    /// Rows that the server answered OK and no SELECT returns yet.
    ROWS_DELIVERED = Gauge "tripod_rows_delivered" Count ["bot", "table", "sink"];
    /// Rows that a SELECT returns; falls where a server forgot some.
    ROWS_VISIBLE = Gauge "tripod_rows_visible" Count ["bot", "table", "sink"];
    /// Rows that the server refused, kept in a file with the reason.
    ROWS_QUARANTINED = Gauge "tripod_rows_quarantined" Count ["bot", "table", "sink"];
    /// Rows that a server which is not required was not given, because it fell behind what the journal keeps.
    ROWS_MISSED = Gauge "tripod_rows_missed" Count ["bot", "table", "sink"];
    /// Rows of a class that is not critical, lost because its journal was full.
    ROWS_DROPPED = Counter "tripod_rows_dropped_total" Count ["bot", "table", "sink"];
    /// 1 where every row of the table is accounted for, 0 where one is missing or counted twice.
    LEDGER_ADDS_UP = Gauge "tripod_ledger_adds_up" Count ["bot", "table", "sink"];

    /// 1 for the state that the sink is in, 0 for all others.
    SINK_STATE = Gauge "tripod_sink_state" Count ["bot", "sink", "class", "state"];
    /// How long it has been in its state.
    SINK_STATE_SECONDS = Gauge "tripod_sink_state_seconds" Seconds ["bot", "sink", "class"];
    /// How long ago the sink said how it is; a sink that lives does each second.
    SINK_SILENT_SECONDS = Gauge "tripod_sink_silent_seconds" Seconds ["bot", "sink", "class"];
    /// 1 where a process runs the sink.
    SINK_RUNS = Gauge "tripod_sink_runs" Count ["bot", "sink", "class"];
    /// Tables whose rows are answered OK and stay invisible until they are resumed.
    SINK_SUSPENDED_TABLES = Gauge "tripod_sink_suspended_tables" Count ["bot", "sink", "class"];
    /// Requests answered OK since the sink's process started.
    SINK_REQUESTS = Counter "tripod_sink_requests_total" Count ["bot", "sink", "class"];
    /// How often the server had forgotten something, or may have, and was told again, since the sink's process started.
    SINK_REWINDS = Counter "tripod_sink_rewinds_total" Count ["bot", "sink", "class"];
    /// Places of the journal that the sink cannot read.
    SINK_DAMAGED_PLACES = Gauge "tripod_sink_damaged_places" Count ["bot", "sink", "class"];
    /// From recorded to visible, an upper bound; the label says for how many of the rows.
    SINK_VISIBLE_SECONDS = Gauge "tripod_sink_visible_seconds" Seconds ["bot", "sink", "class", "quantile"];
    /// Bytes of journal segments that the sink has not finished.
    SINK_UNDELIVERED_BYTES = Gauge "tripod_sink_undelivered_bytes" Bytes ["bot", "sink", "class"];

    /// Bytes of all segments of a journal on the disk, spare ones included.
    JOURNAL_DISK_BYTES = Gauge "tripod_journal_disk_bytes" Bytes ["bot", "class"];
    /// Bytes that they may take.
    JOURNAL_BUDGET_BYTES = Gauge "tripod_journal_budget_bytes" Bytes ["bot", "class"];
    /// Segments whose header cannot be read.
    JOURNAL_DAMAGED_SEGMENTS = Gauge "tripod_journal_damaged_segments" Count ["bot", "class"];

    /// What record() takes; the label says for how many of the calls. Of one call in 1024, since the bot opened its journals.
    RECORD_SECONDS = Gauge "tripod_record_seconds" Seconds ["bot", "class", "quantile"];

    /// 1 while the bot may trade, 0 from the first critical row that could not be kept until there is room again.
    TRADING_ALLOWED = Gauge "tripod_trading_allowed" Count ["bot"];
    /// 1 while appends to a journal are refused: its budget is used up, or its disk full.
    JOURNAL_FULL = Gauge "tripod_journal_full" Count ["bot", "class"];
    /// Bytes of segments that some required server has not got.
    JOURNAL_UNDELIVERED_BYTES = Gauge "tripod_journal_undelivered_bytes" Bytes ["bot", "class"];
    /// How often record() had to make a segment itself because no spare one was ready.
    JOURNAL_STALLS = Counter "tripod_journal_stalls_total" Count ["bot", "class"];
    /// The most threads that were inside record() at one instant.
    JOURNAL_LANES = Gauge "tripod_journal_lanes" Count ["bot", "class"];
}

impl Metric {
    fn key(&self, values: &[&str]) -> Key {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        let pairs = self.labels.iter().zip(values);
        Key::from_parts(
            self.name,
            pairs.map(|(name, value)| Label::new(*name, (*value).to_owned())).collect::<Vec<_>>(),
        )
    }

    /// Sets it at the recorder in force; `values` are its labels', in order.
    pub fn set(&self, values: &[&str], value: u64) {
        let key = self.key(values);
        metrics::with_recorder(|recorder: &dyn Recorder| match self.kind {
            Kind::Counter => {
                let counter: Counter = recorder.register_counter(&key, &METADATA);
                counter.absolute(value);
            }
            Kind::Gauge => {
                let gauge: Gauge = recorder.register_gauge(&key, &METADATA);
                gauge.set(float(value));
            }
        });
    }

    /// The same for a time; only gauges are times.
    pub fn set_seconds(&self, values: &[&str], value: Duration) {
        let key = self.key(values);
        metrics::with_recorder(|recorder: &dyn Recorder| {
            recorder.register_gauge(&key, &METADATA).set(value.as_secs_f64());
        });
    }
}

/// Exporters take floats; beyond 2^53 the last digits go.
fn float(value: u64) -> f64 {
    let low = u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    let high = u32::try_from(value >> 32).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// Tells the installed exporter each metric's unit and help text.
pub fn describe() {
    describe_all(ALL);
}

fn describe_all(all: &[Metric]) {
    metrics::with_recorder(|recorder| {
        for metric in all {
            let (name, unit, help) = (metric.name.into(), Some(metric.unit), metric.help.trim().into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
            }
        }
    });
}

/// Reads the files of `config`'s bot and sets every metric but those that only the bot knows.
///
/// # Errors
/// As [`ledger::of`] and [`statuses`].
pub fn publish(config: &Config) -> Result<()> {
    BotFacts::read(config)?.publish();
    Ok(())
}

/// What the files of one bot's journals tell: read once, published as often as somebody asks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BotFacts {
    /// The bot.
    pub bot: String,
    /// What became of its rows.
    pub ledger: Vec<LedgerRow>,
    /// What its sinks say.
    pub sinks: Vec<SinkStatus>,
    /// Its journals that are there, one a class.
    pub journals: Vec<JournalFacts>,
}

/// One journal on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalFacts {
    /// Whose rows it holds.
    pub class: Importance,
    /// Bytes of all its segments, spare ones included.
    pub disk_bytes: u64,
    /// Bytes that they may take, by the config that was read; a bot with a config of its own may have another budget.
    pub budget_bytes: u64,
    /// Segments whose header cannot be read.
    pub damaged_segments: u64,
    /// Per sink: bytes of segments that it has not finished.
    pub undelivered_bytes: Vec<(String, u64)>,
    /// When the oldest segment that holds rows was written last, by its file; none where there is none.
    pub oldest_at: Option<Timestamp>,
    /// What `record()` took of late; none where the journal says nothing of it.
    pub record: Option<RecordTimes>,
}

impl BotFacts {
    /// Reads all of it for `config`'s bot.
    ///
    /// # Errors
    /// As [`ledger::of`] and [`statuses`].
    pub fn read(config: &Config) -> Result<Self> {
        let mut facts = Self { bot: config.bot.clone(), ledger: Vec::new(), sinks: Vec::new(), journals: Vec::new() };
        facts.read_progress(config)?;
        facts.read_journals(config)?;
        Ok(facts)
    }

    /// Reads ledger and sinks again: some small files, and what is pending in open segments.
    ///
    /// # Errors
    /// As [`ledger::of`] and [`statuses`].
    pub fn read_progress(&mut self, config: &Config) -> Result<()> {
        self.ledger = ledger::of(config)?;
        self.sinks = statuses(config)?;
        Ok(())
    }

    /// Reads the journals again: the header of every segment on the disk, which are thousands where many are kept.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub fn read_journals(&mut self, config: &Config) -> Result<()> {
        let each = Importance::ALL.into_iter().map(|class| JournalFacts::read(config, class));
        self.journals = each.filter_map(Result::transpose).collect::<Result<_>>()?;
        Ok(())
    }

    /// Sets every metric but those that only the bot itself knows.
    pub fn publish(&self) {
        let bot = self.bot.as_str();
        for row in &self.ledger {
            let labels = [bot, row.table.as_str(), row.sink.as_str()];
            for (metric, value) in [
                (ROWS_RECORDED, row.recorded),
                (ROWS_PENDING, row.pending),
                (ROWS_DELIVERED, row.delivered),
                (ROWS_VISIBLE, row.visible),
                (ROWS_QUARANTINED, row.quarantined),
                (ROWS_MISSED, row.missed),
                (ROWS_DROPPED, row.dropped),
                (LEDGER_ADDS_UP, u64::from(row.adds_up)),
            ] {
                metric.set(&labels, value);
            }
        }
        let now = Timestamp::now();
        for sink in &self.sinks {
            publish_sink(bot, sink, now);
        }
        for journal in &self.journals {
            journal.publish(bot);
        }
    }
}

fn publish_sink(bot: &str, sink: &SinkStatus, now: Timestamp) {
    let labels = [bot, sink.sink.as_str(), sink.class.as_str()];
    let with = |last| [labels[0], labels[1], labels[2], last];
    for state in SinkState::ALL {
        SINK_STATE.set(&with(state.as_str()), u64::from(*state == sink.state));
    }
    SINK_STATE_SECONDS.set_seconds(&labels, now.since(sink.since));
    SINK_SILENT_SECONDS.set_seconds(&labels, now.since(sink.said_at));
    for (metric, value) in [
        (SINK_RUNS, u64::from(sink.pid.is_some())),
        (SINK_SUSPENDED_TABLES, wide(sink.suspended.len())),
        (SINK_REQUESTS, sink.requests),
        (SINK_REWINDS, sink.rewinds),
        (SINK_DAMAGED_PLACES, wide(sink.damaged.len())),
    ] {
        metric.set(&labels, value);
    }
    for (quantile, value) in [("0.5", sink.visible_p50), ("0.99", sink.visible_p99)] {
        if let Some(value) = value {
            SINK_VISIBLE_SECONDS.set_seconds(&with(quantile), value);
        }
    }
}

impl JournalFacts {
    /// The journal of one class of `config`'s bot; none where no bot has made it yet.
    fn read(config: &Config, class: Importance) -> Result<Option<Self>> {
        let inventory = match Inventory::read(&config.journal_dir().join(class.as_str())) {
            Ok(inventory) => inventory,
            Err(tripod_journal::Error::Missing { .. }) => return Ok(None),
            Err(e) => return Err(Error::from(e)),
        };
        let damaged = inventory.segments.iter().filter(|segment| segment.state == SegmentState::Damaged).count();
        let holds_rows = |segment: &&Segment| matches!(segment.state, SegmentState::Open | SegmentState::Sealed);
        let oldest = inventory.segments.iter().find(holds_rows);
        // A sink that has never run has no cursor: everything that holds rows waits for it.
        let all_bytes = inventory.segments.iter().filter(holds_rows).map(|segment| segment.bytes).sum();
        let never_ran =
            config.questdb.iter().filter(|server| inventory.sinks.iter().all(|sink| sink.name != server.name));
        let never_ran: Vec<_> = never_ran.map(|server| (server.name.clone(), all_bytes)).collect();
        Ok(Some(Self {
            class,
            disk_bytes: inventory.segments.iter().map(|segment| segment.bytes).sum(),
            budget_bytes: config.journal.budget_mib(class).saturating_mul(1024 * 1024),
            damaged_segments: wide(damaged),
            undelivered_bytes: inventory
                .sinks
                .into_iter()
                .map(|sink| (sink.name, sink.undelivered_bytes))
                .chain(never_ran)
                .collect(),
            oldest_at: oldest.and_then(written_at),
            record: RecordTimes::read(&config.journal_dir(), class)?,
        }))
    }

    fn publish(&self, bot: &str) {
        let class = self.class.as_str();
        JOURNAL_DISK_BYTES.set(&[bot, class], self.disk_bytes);
        JOURNAL_BUDGET_BYTES.set(&[bot, class], self.budget_bytes);
        JOURNAL_DAMAGED_SEGMENTS.set(&[bot, class], self.damaged_segments);
        for (sink, bytes) in &self.undelivered_bytes {
            SINK_UNDELIVERED_BYTES.set(&[bot, sink, class], *bytes);
        }
        if let Some(times) = &self.record {
            for (quantile, value) in [("0.5", times.p50), ("0.99", times.p99), ("0.999", times.p999)] {
                RECORD_SECONDS.set_seconds(&[bot, class, quantile], value);
            }
        }
    }
}

/// By the file; one that is deleted meanwhile has no time.
fn written_at(segment: &Segment) -> Option<Timestamp> {
    let at = std::fs::metadata(&segment.path).ok()?.modified().ok()?;
    let nanos = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos();
    Timestamp::from_nanos(i64::try_from(nanos).ok()?).ok()
}

/// What only the bot's own process knows.
pub(crate) fn publish_recorder(bot: &str, is_trading_allowed: bool, journals: &[(Importance, Usage)]) {
    TRADING_ALLOWED.set(&[bot], u64::from(is_trading_allowed));
    for (class, usage) in journals {
        let labels = [bot, class.as_str()];
        JOURNAL_FULL.set(&labels, u64::from(usage.full));
        JOURNAL_UNDELIVERED_BYTES.set(&labels, usage.undelivered_bytes);
        JOURNAL_STALLS.set(&labels, usage.stalls);
        JOURNAL_LANES.set(&labels, wide(usage.lanes));
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are_and_none_is_there_twice() {
        let all: Vec<_> = ALL.iter().chain(servers::ALL).collect();
        let mut names: Vec<_> = all.iter().map(|metric| metric.name).collect();
        for metric in &all {
            assert!(metric.name.starts_with("tripod_"), "{metric:?}");
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{metric:?}");
            assert_eq!(metric.name.ends_with("_bytes"), metric.unit == Unit::Bytes, "{metric:?}");
            assert_eq!(metric.name.ends_with("_seconds"), metric.unit == Unit::Seconds, "{metric:?}");
            assert!(metric.help.trim().ends_with('.'), "{metric:?}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn whole_numbers_become_the_same_floats() {
        for value in [0, 1, 4_294_967_295, 4_294_967_296, 1 << 53] {
            assert_eq!(format!("{:.0}", float(value)), value.to_string());
        }
    }
}
