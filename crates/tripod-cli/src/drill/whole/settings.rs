//! A setting that is written again and again, each time on the revision before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tripod::Config;
use tripod::postgres::{Login, Postgres};
use tripod::settings::{Change, Settings};

use super::super::patience::patiently;
use super::Pulse;

const NAMESPACE: &str = "drill";
const KEY: &str = "counter";
/// Between two writes: the history of a drill stays below what one question answers.
const EVERY: Duration = Duration::from_millis(20);
const HISTORY_MAX: u32 = 10_000;

/// What was answered as stored: revision and value.
#[derive(Debug, Default)]
pub(super) struct Book {
    acknowledged: Mutex<Vec<(i64, u64)>>,
    pub(super) pulse: Pulse,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct SettingCounts {
    pub(super) acknowledged: u64,
    /// Acknowledged, and not in the history as it was.
    pub(super) lost: u64,
}

pub(super) async fn write(book: Arc<Book>, config: Config, over: Arc<AtomicBool>) -> anyhow::Result<()> {
    let settings = Settings::new(Postgres::open_as(&config.postgres, Login::Admin, config.postgres.deadline())?);
    let (mut expected, mut value) = (None, 0_u64);
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let change = Change { expected, who: "drill", why: "a drill" };
        match settings.set(NAMESPACE, KEY, &value, change).await {
            Ok(stored) => {
                book.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((stored.revision, value));
                book.pulse.beat(began);
                (expected, value) = (Some(stored.revision), value + 1);
            }
            // It may have been stored: the next write is based on what is there.
            Err(_) => {
                if let Ok(there) = settings.get::<u64>(NAMESPACE, KEY).await {
                    expected = there.map(|setting| setting.revision);
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

impl Book {
    /// Asks the server, on a connection of its own.
    pub(super) async fn count(&self, config: &Config) -> anyhow::Result<SettingCounts> {
        let settings = Settings::new(Postgres::open(&config.postgres)?);
        let history = patiently(async || settings.history(NAMESPACE, KEY, HISTORY_MAX).await).await?;
        let there: HashMap<i64, Option<u64>> =
            history.iter().map(|revision| (revision.revision, revision.after.as_u64())).collect();
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = acknowledged.iter().filter(|(revision, value)| there.get(revision) != Some(&Some(*value))).count();
        Ok(SettingCounts { acknowledged: u64::try_from(acknowledged.len())?, lost: u64::try_from(lost)? })
    }
}
