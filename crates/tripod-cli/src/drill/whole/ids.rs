//! Ids as a bot makes them for its attempts: version 7, by time, rising within a process whatever its clock does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tripod::Uuid;

use super::super::server::pause;

const EVERY: Duration = Duration::from_millis(1);

/// Makes them until it is over; gives how many, and how many were not greater than the one before.
pub(super) struct Ids(JoinHandle<(u64, u64)>);

impl Ids {
    pub(super) fn start(over: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let body = move || {
            let (mut made, mut out_of_order, mut last) = (0, 0, Uuid::nil());
            while !over.load(Ordering::Relaxed) {
                let next = Uuid::now_v7();
                made += 1;
                out_of_order += u64::from(next <= last);
                last = next;
                pause(EVERY);
            }
            (made, out_of_order)
        };
        std::thread::Builder::new().name("ids".to_owned()).spawn(body).map(Self).context("cannot start a thread")
    }

    pub(super) fn end(self) -> anyhow::Result<(u64, u64)> {
        self.0.join().map_err(|_| anyhow!("the maker of ids panicked"))
    }
}
