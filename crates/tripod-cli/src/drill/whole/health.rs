//! Heartbeats, and what the list says of them: of one that has just come, and of one that never came again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tripod::Config;
use tripod::health::{Component, Health, Status};
use tripod::postgres::Postgres;

use super::super::patience::patiently;
use super::Pulse;

const NAME: &str = "drill/alive";
const EVERY: Duration = Duration::from_millis(100);
/// A heartbeat and the question about it are two calls; on a busy machine that is what lies between them at most.
const DEADLINE: Duration = Duration::from_secs(5);
/// What falls silent promised to be back within this.
const SILENT_DEADLINE: Duration = Duration::from_millis(500);

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Pulses {
    counts: Mutex<HealthCounts>,
    /// When each component fell silent.
    silent: Mutex<Vec<(String, Instant)>>,
    pub(super) pulse: Pulse,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct HealthCounts {
    pub(super) heartbeats: u64,
    /// Called overdue right after a heartbeat that was answered, and after the one before it, too: where the server's clock
    /// is set between a heartbeat and the question, one answer must be wrong, and only one.
    pub(super) wrongly_stale: u64,
    /// Components that fell silent.
    pub(super) silent: u64,
    /// Looks at one that was silent for longer than it had promised and was not called overdue.
    pub(super) wrongly_fresh: u64,
}

pub(super) async fn beat(pulses: Arc<Pulses>, config: Config, over: Arc<AtomicBool>) -> anyhow::Result<()> {
    let health = Health::new(Postgres::open(&config.postgres)?);
    let mut was_stale = false;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        if health.heartbeat(NAME, Status::Ok, &json!({}), DEADLINE).await.is_ok()
            && let Ok(listed) = health.list().await
            && let Some(found) = find(&listed, NAME)
        {
            let is_stale = found.is_stale() && began.elapsed() < DEADLINE;
            let mut counts = pulses.counts_mut();
            counts.heartbeats += 1;
            counts.wrongly_stale += u64::from(is_stale && was_stale);
            drop(counts);
            was_stale = is_stale;
            pulses.pulse.beat(began);
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

fn find<'a>(listed: &'a [Component], name: &str) -> Option<&'a Component> {
    listed.iter().find(|component| component.name == name)
}

impl Pulses {
    fn counts_mut(&self) -> MutexGuard<'_, HealthCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> HealthCounts {
        *self.counts_mut()
    }

    /// One heartbeat of a component that sends no other.
    pub(super) async fn fall_silent(&self, config: &Config) -> anyhow::Result<()> {
        let name = format!("drill/silent-{}", self.counts().silent);
        let health = Health::new(Postgres::open(&config.postgres)?);
        patiently(async || health.heartbeat(&name, Status::Ok, &json!({}), SILENT_DEADLINE).await).await?;
        self.counts_mut().silent += 1;
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).push((name, Instant::now()));
        Ok(())
    }

    /// Each one that has been silent for longer than it promised must be called overdue, whatever the clocks say.
    pub(super) async fn look_for_silent(&self, config: &Config) -> anyhow::Result<()> {
        let overdue: Vec<String> = {
            let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
            silent.iter().filter(|(_, at)| at.elapsed() > SILENT_DEADLINE * 2).map(|(name, _)| name.clone()).collect()
        };
        let health = Health::new(Postgres::open(&config.postgres)?);
        let listed = patiently(async || health.list().await).await?;
        let fresh = overdue.iter().filter(|name| find(&listed, name).is_none_or(|found| !found.is_stale())).count();
        self.counts_mut().wrongly_fresh += u64::try_from(fresh)?;
        Ok(())
    }
}
