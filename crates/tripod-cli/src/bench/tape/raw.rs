//! The raw client beside it: `questdb-rs` as its documentation shows it, one thread, one request after the other.
//!
//! Constraints: names are checked once, the buffer is reused, nothing is retried: as fast as the driver goes without
//! a journal, a second thread, a count, or a promise. Requests are as large as the sink's, and where rows trickle they are
//! sent as often.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use questdb::ingress::{Buffer, ColumnName, Sender, TableName, TimestampNanos};
use tripod::tape::Row as _;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::row::AsText as _;
use tripod::tape::tables::{Execution, MarketTrade};
use tripod::{Decimal, config};

use super::rows::Stock;

pub(super) struct Raw {
    sender: Sender,
    buffer: Buffer,
    trades: String,
    executions: String,
    /// As the sink's.
    request_rows_max: usize,
    request_bytes_max: usize,
    interval: Duration,
    /// When the first row that waits was put in.
    waits_since: Option<Instant>,
    text: [u8; UUID_TEXT_BYTES],
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`
const UUID_TEXT_BYTES: usize = 36;

const REFUSED: &str = "the raw client refuses a row";

impl Raw {
    pub(super) fn connect(server: &config::QuestDb, prefix: &str, limits: &config::Tape) -> anyhow::Result<Self> {
        let timeout = Duration::from_millis(limits.request_timeout_ms);
        let sender = QuestDbHttp::sender_conf(server, timeout)?.build().context("the raw client cannot connect")?;
        Ok(Self {
            buffer: sender.new_buffer(),
            sender,
            trades: MarketTrade::spec().server_name(prefix),
            executions: Execution::spec().server_name(prefix),
            request_rows_max: limits.flush_rows.max(1),
            request_bytes_max: limits.flush_kib.saturating_mul(1024),
            interval: Duration::from_millis(limits.flush_interval_ms),
            waits_since: None,
            text: [0; UUID_TEXT_BYTES],
        })
    }

    /// Sends them as fast as it goes; when it returns, QuestDB has answered OK to the last.
    pub(super) fn send(&mut self, stock: &Stock, numbers: Range<u64>) -> anyhow::Result<()> {
        let mut id = String::new();
        for number in numbers {
            self.put_trade(&stock.trade(number, &mut id))?;
            if self.is_full() {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Sends what waits when it has waited for the interval, or is a full request.
    pub(super) fn flush_if_due(&mut self) -> anyhow::Result<()> {
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        if self.is_full() || since.elapsed() >= self.interval { self.flush() } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.waits_since = None;
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.sender.flush(&mut self.buffer).context("the raw client's request failed")
    }

    fn is_full(&self) -> bool {
        self.buffer.row_count() >= self.request_rows_max || self.buffer.len() >= self.request_bytes_max
    }

    pub(super) fn put_trade(&mut self, trade: &MarketTrade<'_>) -> anyhow::Result<()> {
        encode_trade(&mut self.buffer, &self.trades, trade).context(REFUSED)
    }

    pub(super) fn put_execution(&mut self, execution: &Execution<'_>) -> anyhow::Result<()> {
        let id = execution.id.hyphenated().encode_lower(&mut self.text);
        encode_execution(&mut self.buffer, &self.executions, execution, id).context(REFUSED)
    }
}

fn encode_trade(buffer: &mut Buffer, table: &str, trade: &MarketTrade<'_>) -> questdb::Result<()> {
    let name = ColumnName::new_unchecked;
    buffer.table(TableName::new_unchecked(table))?.symbol(name("venue"), trade.venue)?;
    buffer.symbol(name("token"), trade.token.as_str())?;
    if let Some(side) = trade.side {
        buffer.symbol(name("side"), side.as_text())?;
    }
    buffer
        .column_str(name("trade_id"), trade.trade_id)?
        .column_dec(name("price"), &trade.price)?
        .column_dec(name("size"), &trade.size)?;
    if let Some(slot) = trade.slot {
        buffer.column_dec(name("slot"), &Decimal::from(slot))?;
    }
    buffer.at(TimestampNanos::new(trade.at.as_nanos()))
}

/// The columns that the bench's executions have set.
fn encode_execution(buffer: &mut Buffer, table: &str, row: &Execution<'_>, id: &str) -> questdb::Result<()> {
    let name = ColumnName::new_unchecked;
    buffer
        .table(TableName::new_unchecked(table))?
        .symbol(name("strategy"), row.strategy)?
        .symbol(name("venue"), row.venue)?
        .symbol(name("token"), row.token.as_str())?
        .symbol(name("status"), row.status.as_text())?;
    if let Some(route) = row.route {
        buffer.symbol(name("route"), route)?;
    }
    buffer.symbol(name("token_in"), row.token_in.as_str())?.symbol(name("token_out"), row.token_out.as_str())?;
    buffer.column_str(name("id"), id)?;
    if let Some(at) = row.attempted_at {
        buffer.column_ts(name("attempted_at"), TimestampNanos::new(at.as_nanos()))?;
    }
    if let Some(signature) = row.signature {
        buffer.column_str(name("signature"), signature)?;
    }
    if let Some(profit) = row.profit_lamports {
        buffer.column_i64(name("profit_lamports"), profit)?;
    }
    for (column, value) in [
        ("expected_price", row.expected_price),
        ("realised_price", row.realised_price),
        ("slippage_bps", row.slippage_bps),
    ] {
        if let Some(value) = value {
            buffer.column_dec(name(column), &value)?;
        }
    }
    for (column, value) in [
        ("amount_in", Some(row.amount_in)),
        ("amount_out", row.amount_out),
        ("expected_amount_out", row.expected_amount_out),
        ("fee_lamports", row.fee_lamports),
        ("priority_fee_lamports", row.priority_fee_lamports),
        ("tip_lamports", row.tip_lamports),
        ("compute_units", row.compute_units),
        ("slot_seen", row.slot_seen),
        ("slot_sent", row.slot_sent),
        ("slot_landed", row.slot_landed),
        ("decide_ns", row.decide_ns),
        ("build_ns", row.build_ns),
        ("send_ns", row.send_ns),
        ("land_ns", row.land_ns),
    ] {
        if let Some(value) = value {
            buffer.column_dec(name(column), &Decimal::from(value))?;
        }
    }
    buffer.at(TimestampNanos::new(row.at.as_nanos()))
}
