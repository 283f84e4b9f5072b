//! The raw client beside it: `questdb-rs` as its documentation shows it, one thread, one request after the other.
//!
//! Constraints: names are checked once, the buffer is reused, nothing is retried: as fast as the driver goes without
//! a journal, a second thread, a count, or a promise.

use std::ops::Range;
use std::time::Duration;

use anyhow::Context as _;
use questdb::ingress::{Buffer, ColumnName, Sender, TableName, TimestampNanos};
use tripod::Decimal;
use tripod::config;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::row::AsText as _;

use super::rows::Stock;

pub(super) struct Raw {
    sender: Sender,
    buffer: Buffer,
    table: String,
    /// As the sink's.
    request_rows_max: usize,
    request_bytes_max: usize,
}

impl Raw {
    pub(super) fn connect(server: &config::QuestDb, table: &str, limits: &config::Tape) -> anyhow::Result<Self> {
        let timeout = Duration::from_millis(limits.request_timeout_ms);
        let sender = QuestDbHttp::sender_conf(server, timeout)?.build().context("the raw client cannot connect")?;
        Ok(Self {
            buffer: sender.new_buffer(),
            sender,
            table: table.to_owned(),
            request_rows_max: limits.flush_rows.max(1),
            request_bytes_max: limits.flush_kib.saturating_mul(1024),
        })
    }

    /// Sends them; when it returns, QuestDB has answered OK to the last.
    pub(super) fn send(&mut self, stock: &Stock, numbers: Range<u64>) -> anyhow::Result<()> {
        let mut id = String::new();
        for number in numbers {
            self.encode(stock, number, &mut id).context("the raw client refuses a row")?;
            if self.buffer.row_count() >= self.request_rows_max || self.buffer.len() >= self.request_bytes_max {
                self.sender.flush(&mut self.buffer).context("the raw client's request failed")?;
            }
        }
        if !self.buffer.is_empty() {
            self.sender.flush(&mut self.buffer).context("the raw client's request failed")?;
        }
        Ok(())
    }

    fn encode(&mut self, stock: &Stock, number: u64, id: &mut String) -> questdb::Result<()> {
        let trade = stock.trade(number, id);
        let name = ColumnName::new_unchecked;
        let buffer = &mut self.buffer;
        buffer.table(TableName::new_unchecked(&self.table))?.symbol(name("venue"), trade.venue)?;
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
}
