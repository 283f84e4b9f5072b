//! The monitor as a component of its own: whoever reads the health records sees that somebody watches.
//!
//! Constraints: best effort; a PostgreSQL that is away is said by its own line. One monitor of a machine sends it, the one
//! that works the schedule. A monitor that was killed is missed after [`DEADLINE`]; one that was ended says so.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tripod::Config;
use tripod::health::{Health, Status};
use tripod::postgres::{Login, Postgres};

use super::snapshot::Job;

/// Its name in the health records.
const COMPONENT: &str = "monitor";
const EVERY: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(30);
/// One heartbeat ends within this.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);

/// Sends until it is stopped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    health: Option<Health>,
    address: SocketAddr,
    jobs: watch::Receiver<Vec<Job>>,
    task: Option<JoinHandle<()>>,
}

impl Heartbeat {
    pub(super) fn start(config: &Config, address: SocketAddr, jobs: watch::Receiver<Vec<Job>>) -> Self {
        let mut settings = config.postgres.clone();
        settings.pool_size = 1;
        let health = Postgres::open_as(&settings, Login::Bot, ANSWER_WITHIN).ok().map(Health::new);
        let task = health.clone().map(|health| tokio::spawn(send(health, address, jobs.clone())));
        Self { health, address, jobs, task }
    }

    /// Says that it ends on purpose.
    pub(super) async fn stop(self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        let (details, _) = words(self.address, &self.jobs.borrow());
        if let Some(health) = &self.health
            && let Err(error) = health.heartbeat(COMPONENT, Status::Stopped, &details, DEADLINE).await
        {
            tracing::debug!(%error, "the last heartbeat was not taken");
        }
    }
}

async fn send(health: Health, address: SocketAddr, jobs: watch::Receiver<Vec<Job>>) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let (details, status) = words(address, &jobs.borrow().clone());
        if let Err(error) = health.heartbeat(COMPONENT, status, &details, DEADLINE).await {
            tracing::debug!(%error, "a heartbeat was not taken");
        }
    }
}

/// A job that failed makes it degraded: it works, with something missing.
fn words(address: SocketAddr, jobs: &[Job]) -> (Value, Status) {
    let failed = jobs.iter().any(|job| job.ok == Some(false));
    let jobs: serde_json::Map<String, Value> = jobs
        .iter()
        .map(|job| (job.name.to_owned(), json!({"ok": job.ok, "last_at": job.last_at, "detail": job.detail})))
        .collect();
    let details = json!({"address": address.to_string(), "version": env!("CARGO_PKG_VERSION"), "jobs": jobs});
    (details, if failed { Status::Degraded } else { Status::Ok })
}
