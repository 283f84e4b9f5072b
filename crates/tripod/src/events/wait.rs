//! Waits for an entry on a connection of its own: a read that blocks would stall everybody on the shared one.

use std::time::Duration;

use ::redis::{Value, cmd};

use crate::error::Result;
use crate::redis::{Dedicated, Link};

/// Keeps its connection while it works; the next wait after an error makes a new one.
pub(super) struct Waiter {
    connection: Option<Dedicated>,
    block: Duration,
}

impl Waiter {
    pub(super) fn new(block: Duration) -> Self {
        Self { connection: None, block }
    }

    /// Whether the stream got an entry after `position` within the block time.
    pub(super) async fn await_event(&mut self, link: &Link, stream: &str, position: &str) -> Result<bool> {
        if self.connection.as_ref().is_none_or(Dedicated::is_broken) {
            self.connection = None;
            self.connection = Some(link.dedicated().await?);
        }
        let Some(connection) = &mut self.connection else {
            return Ok(false);
        };
        // 0 would mean to wait for ever.
        let block_ms = u64::try_from(self.block.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(1).arg("BLOCK").arg(block_ms).arg("STREAMS").arg(stream).arg(position);
        let answer: Value = connection.query("await events", &command, self.block).await?;
        Ok(answer != Value::Nil)
    }
}
