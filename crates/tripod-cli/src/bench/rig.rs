//! What the bench stands on: the own stack's QuestDB, journals and tables of its own, and the clock around a delivery.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tripod::Config;
use tripod::config::Delivery;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::tables::{Execution, MarketTrade};
use tripod::tape::{Recorded, Row as _, Tape};

use super::raw::Raw;
use super::rows::Stock;
use crate::args::Global;
use crate::drill::{own_questdb, pause, remove_dir};

/// Tripod's tables, and the raw client's.
const TRIPOD_PREFIX: &str = "bench_tripod_";
const RAW_PREFIX: &str = "bench_raw_";
/// One statement.
const STATEMENT_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks how many rows are visible. The same for both sides.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Nothing that is measured here takes longer.
const VISIBLE_WITHIN: Duration = Duration::from_secs(120);
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) stock: Stock,
    config: Config,
    http: QuestDbHttp,
    dir: PathBuf,
    /// How many trades each side has sent: their numbers go on from there.
    tripod_trades: u64,
    raw_trades: u64,
    executions: u64,
}

impl Rig {
    /// Refuses servers that are not this data directory's own; makes tables and journals.
    pub(super) fn set(global: &Global) -> anyhow::Result<Self> {
        let mut config = global.load()?;
        own_questdb(&config, &global.data)?;
        let dir = global.data.join("bench");
        remove_dir(&dir)?;
        config.bot = "bench".to_owned();
        config.journal.dir = dir.join("journals");
        config.tape.table_prefix = TRIPOD_PREFIX.to_owned();
        config.tape.delivery = Delivery::Inside;
        let http = QuestDbHttp::new(config.questdb.first().context("the config names no QuestDB")?, STATEMENT_WITHIN)?;
        let stock = Stock::new()?;
        let rig = Self { stock, config, http, dir, tripod_trades: 0, raw_trades: 0, executions: 0 };
        rig.remove_tables()?;
        for (spec, prefix) in rig.tables() {
            rig.http.exec(&spec.ddl(prefix))?;
        }
        Ok(rig)
    }

    fn tables(&self) -> [(&'static tripod::tape::spec::TableSpec, &'static str); 3] {
        let (trades, executions) = (MarketTrade::spec(), Execution::spec());
        [(trades, TRIPOD_PREFIX), (executions, TRIPOD_PREFIX), (trades, RAW_PREFIX)]
    }

    fn remove_tables(&self) -> tripod::Result<()> {
        for (spec, prefix) in self.tables() {
            self.http.exec(&format!("DROP TABLE IF EXISTS \"{}\"", spec.server_name(prefix)))?;
        }
        Ok(())
    }

    /// Removes tables and journals.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        self.remove_tables()?;
        remove_dir(&self.dir)
    }

    pub(super) fn version(&self) -> tripod::Result<String> {
        self.http.version()
    }

    pub(super) fn open(&self) -> tripod::Result<Tape> {
        Tape::open(&self.config)
    }

    /// The next numbers of trades that Tripod records.
    pub(super) fn take_trades(&mut self, rows: u64) -> std::ops::Range<u64> {
        self.tripod_trades += rows;
        self.tripod_trades - rows..self.tripod_trades
    }

    pub(super) fn take_executions(&mut self, rows: u64) -> std::ops::Range<u64> {
        self.executions += rows;
        self.executions - rows..self.executions
    }

    /// Visible trades of Tripod's table, by the server.
    pub(super) fn visible_trades(&self) -> anyhow::Result<u64> {
        self.count(&MarketTrade::spec().server_name(TRIPOD_PREFIX))
    }

    fn count(&self, table: &str) -> anyhow::Result<u64> {
        let rows = self.http.exec(&format!("SELECT count() FROM \"{table}\""))?.rows;
        rows.first()
            .and_then(|row| row.first())
            .and_then(Value::as_u64)
            .context("QuestDB gave a count that is no number")
    }

    /// Waits until everything recorded is visible, then ends the tape.
    pub(super) fn settle(&self, tape: Tape) -> anyhow::Result<()> {
        ensure!(tape.wait_visible(VISIBLE_WITHIN)?, "not every row was visible within {VISIBLE_WITHIN:?}");
        close(tape)?;
        let trades = self.visible_trades()?;
        ensure!(trades == self.tripod_trades, "{trades} trades are visible of {}", self.tripod_trades);
        let executions = self.count(&Execution::spec().server_name(TRIPOD_PREFIX))?;
        ensure!(executions == self.executions, "{executions} executions are visible of {}", self.executions);
        Ok(())
    }

    /// Records rows while QuestDB is away, then: from opening the tape to the last row visible.
    pub(super) fn drain(&mut self, rows: u64) -> anyhow::Result<Duration> {
        let numbers = self.take_trades(rows);
        let mut away = self.config.clone();
        // Nobody delivers meanwhile; the cursor of the sink stays where it is.
        away.questdb.clear();
        let tape = Tape::open(&away)?;
        self.record_trades(&tape, numbers)?;
        close(tape)?;
        let started = Instant::now();
        let tape = self.open()?;
        let took = self.await_trades(TRIPOD_PREFIX, self.tripod_trades, started)?;
        close(tape)?;
        Ok(took)
    }

    /// From the first `record()` to the last row visible, recording as fast as it goes.
    pub(super) fn deliver(&mut self, rows: u64) -> anyhow::Result<Duration> {
        let numbers = self.take_trades(rows);
        let tape = self.open()?;
        let started = Instant::now();
        self.record_trades(&tape, numbers)?;
        let took = self.await_trades(TRIPOD_PREFIX, self.tripod_trades, started)?;
        close(tape)?;
        Ok(took)
    }

    /// From the first row encoded to the last row visible, by the raw client.
    pub(super) fn send_raw(&mut self, rows: u64) -> anyhow::Result<Duration> {
        let server = self.config.questdb.first().context("the config names no QuestDB")?;
        let mut raw = Raw::connect(server, &MarketTrade::spec().server_name(RAW_PREFIX), &self.config.tape)?;
        let numbers = self.raw_trades..self.raw_trades + rows;
        self.raw_trades = numbers.end;
        let started = Instant::now();
        raw.send(&self.stock, numbers)?;
        self.await_trades(RAW_PREFIX, self.raw_trades, started)
    }

    fn record_trades(&self, tape: &Tape, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
        let (recorder, mut id) = (tape.recorder(), String::new());
        for number in numbers {
            let recorded = recorder.record(&self.stock.trade(number, &mut id))?;
            ensure!(recorded == Recorded::Kept, "the journal is full: row {number} was dropped");
        }
        Ok(())
    }

    fn await_trades(&self, prefix: &str, rows: u64, started: Instant) -> anyhow::Result<Duration> {
        let table = MarketTrade::spec().server_name(prefix);
        let end = Instant::now() + VISIBLE_WITHIN;
        loop {
            let visible = self.count(&table)?;
            if visible >= rows {
                return Ok(started.elapsed());
            }
            if Instant::now() >= end {
                bail!("{visible} of {rows} rows of {table} are visible after {VISIBLE_WITHIN:?}");
            }
            pause(LOOK_EVERY);
        }
    }
}

fn close(tape: Tape) -> anyhow::Result<()> {
    let report = tape.close(CLOSE_WITHIN);
    ensure!(report.troubles.is_empty(), "the tape did not close well: {:?}", report.troubles);
    Ok(())
}
