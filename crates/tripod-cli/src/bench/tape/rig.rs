//! What the bench stands on: the own stack's QuestDB, journals and tables of its own, and the clock around a delivery.
//!
//! Constraints: the tables are made as `tripod migrate` makes them, so they have the same keys, TTL and views as a bot's.
//! Both sides write into the same table, each row under a number of its own, so neither has the smaller one.

use std::ops::Range;
use std::path::{Path, PathBuf};
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
use super::tables;
use crate::args::Global;
use crate::drill::{own_questdb, pause, remove_dir};

/// All of the bench's tables.
const PREFIX: &str = "tripod_bench_";
/// One statement.
const STATEMENT_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks how many rows are visible. The same for both sides.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Nothing that is measured here takes longer.
const VISIBLE_WITHIN: Duration = Duration::from_secs(180);
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) stock: Stock,
    pub(super) config: Config,
    pub(super) http: QuestDbHttp,
    dir: PathBuf,
    /// How many trades and executions were sent so far: numbers go on from there.
    trades: u64,
    executions: u64,
    /// Rows of days past, in each of the two tables.
    pub(super) history: u64,
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
        config.tape.table_prefix = PREFIX.to_owned();
        config.tape.delivery = Delivery::Inside;
        let http = QuestDbHttp::new(config.questdb.first().context("the config names no QuestDB")?, STATEMENT_WITHIN)?;
        let rig = Self { stock: Stock::new()?, config, http, dir, trades: 0, executions: 0, history: 0 };
        tables::remove(&rig.http, PREFIX)?;
        tables::make(&rig.http, PREFIX)?;
        Ok(rig)
    }

    /// The same servers, and journals and tables apart: what is left of them concerns nobody.
    pub(super) fn apart(&self, name: &str) -> anyhow::Result<(Config, String)> {
        let mut config = self.config.clone();
        config.journal.dir = self.dir.join(name);
        config.tape.table_prefix = format!("{PREFIX}{name}_");
        tables::make(&self.http, &config.tape.table_prefix)?;
        let prefix = config.tape.table_prefix.clone();
        Ok((config, prefix))
    }

    /// Removes tables and journals.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        tables::remove(&self.http, PREFIX)?;
        remove_dir(&self.dir)
    }

    /// Where the journals are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Rollup views on the bench's tables that are valid.
    pub(super) fn live_views(&self) -> anyhow::Result<u64> {
        tables::live_views(&self.http, PREFIX)
    }

    pub(super) fn open(&self) -> tripod::Result<Tape> {
        Tape::open(&self.config)
    }

    pub(super) fn raw(&self) -> anyhow::Result<Raw> {
        let server = self.config.questdb.first().context("the config names no QuestDB")?;
        Raw::connect(server, PREFIX, &self.config.tape)
    }

    /// The next numbers of trades.
    pub(super) fn take_trades(&mut self, rows: u64) -> Range<u64> {
        self.trades += rows;
        self.trades - rows..self.trades
    }

    pub(super) fn take_executions(&mut self, rows: u64) -> Range<u64> {
        self.executions += rows;
        self.executions - rows..self.executions
    }

    /// The trades' table, as the server calls it.
    pub(super) fn trades_table() -> String {
        MarketTrade::spec().server_name(PREFIX)
    }

    pub(super) fn executions_table() -> String {
        Execution::spec().server_name(PREFIX)
    }

    /// Visible trades of today, by the server.
    pub(super) fn visible_trades(&self) -> anyhow::Result<u64> {
        self.visible(&Self::trades_table())
    }

    fn visible(&self, table: &str) -> anyhow::Result<u64> {
        Ok(self.count(table)?.saturating_sub(self.history))
    }

    pub(super) fn count(&self, table: &str) -> anyhow::Result<u64> {
        let rows = self.http.exec(&format!("SELECT count() FROM \"{table}\""))?.rows;
        rows.first()
            .and_then(|row| row.first())
            .and_then(Value::as_u64)
            .context("QuestDB gave a count that is no number")
    }

    /// Waits until everything recorded is visible, ends the tape, and has the server count: no row more or less.
    pub(super) fn settle(&self, tape: Tape) -> anyhow::Result<()> {
        ensure!(tape.wait_visible(VISIBLE_WITHIN)?, "not every row was visible within {VISIBLE_WITHIN:?}");
        close(tape)?;
        // What the raw client sent beside it may come a moment later.
        self.await_rows(&Self::trades_table(), self.trades)?;
        self.await_rows(&Self::executions_table(), self.executions)
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
        self.await_rows(&Self::trades_table(), self.trades)?;
        let took = started.elapsed();
        close(tape)?;
        Ok(took)
    }

    /// From the first `record()` to the last row visible, recording as fast as it goes.
    pub(super) fn deliver(&mut self, rows: u64) -> anyhow::Result<Duration> {
        let numbers = self.take_trades(rows);
        let tape = self.open()?;
        let started = Instant::now();
        self.record_trades(&tape, numbers)?;
        self.await_rows(&Self::trades_table(), self.trades)?;
        let took = started.elapsed();
        close(tape)?;
        Ok(took)
    }

    /// From the first row encoded to the last row visible, by the raw client.
    pub(super) fn send_raw(&mut self, rows: u64) -> anyhow::Result<Duration> {
        let numbers = self.take_trades(rows);
        let mut raw = self.raw()?;
        let started = Instant::now();
        raw.send(&self.stock, numbers)?;
        self.await_rows(&Self::trades_table(), self.trades)?;
        Ok(started.elapsed())
    }

    /// From `record()` to visible of one row, after silence.
    pub(super) fn deliver_one(&mut self, tape: &Tape) -> anyhow::Result<Duration> {
        let numbers = self.take_trades(1);
        let started = Instant::now();
        self.record_trades(tape, numbers)?;
        self.await_rows(&Self::trades_table(), self.trades)?;
        Ok(started.elapsed())
    }

    fn record_trades(&self, tape: &Tape, numbers: Range<u64>) -> anyhow::Result<()> {
        let (recorder, mut id) = (tape.recorder(), String::new());
        for number in numbers {
            let recorded = recorder.record(&self.stock.trade(number, &mut id))?;
            ensure!(recorded == Recorded::Kept, "the journal is full: row {number} was dropped");
        }
        Ok(())
    }

    /// Waits until the server counts so many rows of today; more is an error.
    fn await_rows(&self, table: &str, rows: u64) -> anyhow::Result<()> {
        let end = Instant::now() + VISIBLE_WITHIN;
        loop {
            let visible = self.visible(table)?;
            ensure!(visible <= rows, "{visible} rows of {table} are visible, though {rows} were sent");
            if visible == rows {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("{visible} of {rows} rows of {table} are visible after {VISIBLE_WITHIN:?}");
            }
            pause(LOOK_EVERY);
        }
    }
}

pub(super) fn close(tape: Tape) -> anyhow::Result<()> {
    let report = tape.close(CLOSE_WITHIN);
    ensure!(report.troubles.is_empty(), "the tape did not close well: {:?}", report.troubles);
    Ok(())
}
