//! What a drill asks of QuestDB: its table, the rows in it, nothing that Tripod itself has counted.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tripod::tape::Row as _;
use tripod::tape::questdb::{QuestDbHttp, Rows};
use tripod::tape::spec::{Kind, TableSpec};
use tripod::{Error, Timestamp};

use super::patience::{Wait, may_pass, patiently_here};
use super::row::{DrillRow, Place, Recipe, SELECTED};
use crate::exit::Stop;

/// Between two looks whether a row is visible.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Between two looks whether the table has taken anything on.
const MOVES_EVERY: Duration = Duration::from_secs(1);
/// Numbers of each thread in one answer.
const WINDOW_NUMBERS: u64 = 5_000;

/// The drill's table on the server.
#[derive(Debug)]
pub(super) struct Table {
    http: QuestDbHttp,
    pub(super) name: String,
    recipe: Recipe,
}

impl Table {
    pub(super) fn new(http: QuestDbHttp, prefix: &str, recipe: Recipe) -> Self {
        Self { http, name: DrillRow::spec().server_name(prefix), recipe }
    }

    /// Makes it; narrower than the rows where the drill wants some of them refused.
    pub(super) fn create(&self, prefix: &str) -> tripod::Result<()> {
        let spec = DrillRow::spec();
        let ddl = if self.recipe.poison { narrowed(spec).ddl(prefix) } else { spec.ddl(prefix) };
        self.ask(&ddl).map(drop)
    }

    pub(super) fn remove(&self) -> tripod::Result<()> {
        self.ask(&format!("DROP TABLE IF EXISTS \"{}\"", self.name)).map(drop)
    }

    fn ask(&self, sql: &str) -> tripod::Result<Rows> {
        patiently_here(|| self.http.exec(sql))
    }

    /// How far the table's log was written and applied: what is delivered again moves it, too.
    fn log_position(&self) -> tripod::Result<String> {
        let sql = format!("SELECT sequencerTxn, writerTxn FROM wal_tables() WHERE name = '{}'", self.name);
        Ok(format!("{:?}", self.http.exec(&sql)?.rows))
    }

    /// Whether a row of thread 0 behind `number` is visible.
    pub(super) fn is_past(&self, number: u64) -> tripod::Result<bool> {
        let from = self.recipe.at(Place { thread: 0, number: number + 1 })?;
        let sql = format!("SELECT number FROM \"{}\" WHERE at >= '{from}' AND worker = 'w0' LIMIT 1", self.name);
        Ok(!self.http.exec(&sql)?.rows.is_empty())
    }

    pub(super) fn count(&self) -> anyhow::Result<u64> {
        let rows = self.ask(&format!("SELECT count() FROM \"{}\"", self.name))?.rows;
        rows.first()
            .and_then(|row| row.first())
            .and_then(Value::as_u64)
            .context("QuestDB answered a count with no number")
    }

    /// The number behind the greatest one that any thread has in it.
    pub(super) fn numbers_end(&self) -> anyhow::Result<u64> {
        let rows = self.ask(&format!("SELECT max(number) FROM \"{}\"", self.name))?.rows;
        let greatest = rows.first().and_then(|row| row.first()).and_then(Value::as_u64);
        Ok(greatest.map_or(0, |greatest| greatest + 1))
    }

    /// Hands over every row whose time is one that numbers below `to` have, in answers of bounded size.
    pub(super) fn read(&self, to: u64, mut meet: impl FnMut(&[Value])) -> anyhow::Result<()> {
        let at = |number| self.recipe.at(Place { thread: 0, number });
        let mut from = 0;
        while from < to {
            let end = from + WINDOW_NUMBERS;
            let sql =
                format!("SELECT {SELECTED} FROM \"{}\" WHERE at >= '{}' AND at < '{}'", self.name, at(from)?, at(end)?);
            self.ask(&sql)?.rows.iter().for_each(|row| meet(row));
            from = end;
        }
        Ok(())
    }
}

/// What waiting for a row behind the break has shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// From the break to the first answer.
    pub(super) answered: Option<Duration>,
    /// From the break to a row behind it.
    pub(super) visible: Option<Duration>,
    /// From the break to the end of the wait.
    waited: Duration,
}

impl Seen {
    /// From the break to a row behind it; where there is none that is the drill's end.
    pub(super) fn visible(self, after: &str, hint: &str) -> anyhow::Result<Duration> {
        let waited = self.waited.as_secs();
        self.visible.ok_or_else(|| Stop::untrue(format!("{after} no new row was visible for {waited} s"), hint).into())
    }
}

/// Looks until a row of thread 0 behind `number` is visible, or until the wait is over; `between` is called between two
/// looks.
pub(super) fn watch(
    table: &Table,
    number: u64,
    broken_at: Instant,
    mut wait: Wait,
    mut between: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    let mut moves_at = Instant::now();
    while !wait.is_over() {
        between()?;
        if wait.wants_marks() && Instant::now() >= moves_at {
            // Without an answer there is no progress to see.
            if let Ok(position) = table.log_position() {
                wait.note(position);
            }
            moves_at = Instant::now() + MOVES_EVERY;
        }
        seen.waited = broken_at.elapsed();
        match table.is_past(number) {
            Ok(past) => {
                seen.answered.get_or_insert_with(|| broken_at.elapsed());
                if past {
                    seen.visible = Some(broken_at.elapsed());
                    return Ok(seen);
                }
            }
            // That is what is measured.
            Err(error) if may_pass(&error) => {}
            // Just restarted, QuestDB may not know its tables yet.
            Err(Error::Refused { .. }) if seen.answered.is_none() => {}
            Err(error) => bail!(error),
        }
        pause(LOOK_EVERY.min(wait.remaining()));
    }
    Ok(seen)
}

/// Nothing to wait for but time itself: the moment of a break, the next look.
pub(crate) fn pause(time: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a drill breaks at a moment of its own choice; QuestDB tells nobody when a row is visible"
    )]
    std::thread::sleep(time);
}

/// The table as somebody may have made it by hand: with no room for a large price.
fn narrowed(spec: &TableSpec) -> TableSpec {
    let mut spec = spec.clone();
    for column in spec.columns.iter_mut().filter(|column| column.name == "price") {
        column.kind = Kind::Decimal { precision: 6, scale: 2 };
    }
    spec
}

/// The first number that no row of the windows up to `to` has.
pub(super) fn windows_end(spans: impl Iterator<Item = u64>) -> u64 {
    spans.max().unwrap_or(0) + 1
}

/// The time from which a drill's rows count: now.
pub(super) fn base_now() -> i64 {
    Timestamp::now().as_nanos()
}

/// A handle on exactly this process.
pub(super) fn hold(pid: u32) -> anyhow::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("the server has no process id")?;
    pidfd_open(pid, PidfdFlags::empty()).context("the server has ended by itself")
}

/// kill -9 of a process of the drill's own.
pub(super) fn kill_process(pid: u32) -> anyhow::Result<()> {
    pidfd_send_signal(hold(pid)?, Signal::KILL).context("the server cannot be killed")
}
