//! Connecting when any of several servers may be the one that takes writes, and any may be frozen.
//!
//! Constraints: a frozen server accepts TCP and answers nothing, and the driver's own limit ends with the socket: asked
//! one after the other, it hides all behind it. So all are asked at once, names resolved anew each time. The first that
//! takes writes wins. A primary that was replaced while it was frozen or cut off still takes writes when it is back: the
//! timeline, which each promotion raises, tells the two apart, and once this process has seen the newer one it goes back
//! to no older one. What a process that starts after that sees of only one of them, it must believe: shutting the old one
//! out (fencing) is the operator's.
//!
//! Picture:
//! ```text
//! host a ── resolve ─ socket ─ TLS ─ login ─ takes writes? ─ timeline ─┐ first, or newest of those
//! host b ── …                                                          ├─ that answer within the grace ─▶ connection
//! host c ── frozen: nobody waits for it                                ┘
//! ```
//! While one is silent, those that said no are asked again: a standby may be promoted meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::class::{Class, classify, is_read_only};
use super::connect::{Address, Login, addresses, driver_config, tls_connector};
use super::listen::hear;
use crate::config;
use crate::error::Result as OurResult;

/// A server that said no is asked again after this, while another one is silent.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Longest wait for the other servers once one takes writes: it may be the one that was replaced.
const GRACE_MAX: Duration = Duration::from_millis(50);

/// Which cluster this is, and how often it was promoted. Not every managed server tells.
const STANDING: &str = "
SELECT system_identifier, pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())
FROM pg_catalog.pg_control_system()";

/// The newest timeline of each cluster that this process has written to.
static NEWEST: Mutex<Option<HashMap<String, u32>>> = Mutex::new(None);
/// How often one of them rose: connections that were made before may lead to a server that was replaced.
static PROMOTIONS: AtomicU64 = AtomicU64::new(0);

/// How many promotions this process has seen.
pub(super) fn promotions() -> u64 {
    PROMOTIONS.load(Ordering::Acquire)
}

/// Everything that a connection needs, whichever server it will be to.
pub(super) struct Race {
    driver: Config,
    servers: Vec<Address>,
    tls: Option<MakeRustlsConnect>,
    /// No answer within this is no answer.
    patience: Duration,
    grace: Duration,
    /// Whether these servers stand apart from what this process knows about primaries.
    apart: bool,
}

impl Race {
    /// `deadline` is that of one call.
    pub(super) fn new(config: &config::Postgres, login: Login, deadline: Duration) -> OurResult<Self> {
        Ok(Self {
            driver: driver_config(config, login, deadline),
            servers: addresses(config)?,
            tls: config.tls.then(|| tls_connector(config.ca_file.as_deref())).transpose()?,
            patience: deadline * 4 / 9,
            grace: GRACE_MAX.min(deadline / 18),
            apart: false,
        })
    }

    /// To copies of a server: their timelines are newer than that of the server that is in use, and replace nothing.
    pub(super) fn apart(self) -> Self {
        Self { apart: true, ..self }
    }

    /// The driver's configuration, without servers.
    pub(super) fn driver(&self) -> Config {
        self.driver.clone()
    }

    /// A connection to the server that takes writes; `heard` is notified of each notice, and when the connection ends.
    /// Gives the most telling error when all have answered or patience is over. Never returns while nobody has said
    /// anything: the caller's deadline ends that.
    pub(super) async fn connect(&self, heard: Option<&Arc<Notify>>) -> Result<Reached, Error> {
        let attempt = |number: usize, pause: Duration| async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            (number, self.reach(number, heard).await)
        };
        let mut silent: Vec<usize> = (0..self.servers.len()).collect();
        let mut racing: FuturesUnordered<_> = silent.iter().map(|number| attempt(*number, Duration::ZERO)).collect();
        let (mut best, mut telling): (Option<Reached>, Option<Error>) = (None, None);
        let mut end = Instant::now() + self.patience;
        loop {
            tokio::select! {
                Some((number, outcome)) = racing.next() => {
                    silent.retain(|other| *other != number);
                    match outcome {
                        Ok(reached) => {
                            end = end.min(Instant::now() + self.grace);
                            best = Some(Reached::newer(best.take(), reached));
                        }
                        Err(error) => {
                            racing.push(attempt(number, ASK_AGAIN));
                            telling = Some(more_telling(telling.take(), error));
                        }
                    }
                    if silent.is_empty() {
                        end = Instant::now();
                    }
                }
                () = sleep_until(end) => return match (best, telling) {
                    (Some(best), _) => Ok(best.noted()),
                    (None, Some(error)) => Err(error),
                    (None, None) => std::future::pending().await,
                },
            }
        }
    }

    /// One server, at whichever of its addresses answers first.
    async fn reach(&self, number: usize, heard: Option<&Arc<Notify>>) -> Result<Reached, Error> {
        let mut driver = self.driver.clone();
        match self.servers.get(number) {
            Some(Address::Socket { directory, port }) => {
                driver.host_path(directory).port(*port);
            }
            Some(Address::Tcp { host, port }) => {
                driver.host(host).port(*port);
                if let Ok(found) = tokio::net::lookup_host((host.as_str(), *port)).await {
                    let logins = found.map(|address| {
                        let mut driver = driver.clone();
                        driver.hostaddr(address.ip());
                        async move { self.log_in(driver, heard).await }
                    });
                    let mut logins: FuturesUnordered<_> = logins.collect();
                    let mut telling = None;
                    while let Some(outcome) = logins.next().await {
                        match outcome {
                            Ok(reached) => return Ok(reached),
                            Err(error) => telling = Some(more_telling(telling, error)),
                        }
                    }
                    if let Some(error) = telling {
                        return Err(error);
                    }
                }
                // A name that nobody knows: the driver finds that out in its own words.
            }
            // Without a server the driver says so.
            None => {}
        }
        self.log_in(driver, heard).await
    }

    async fn log_in(&self, driver: Config, heard: Option<&Arc<Notify>>) -> Result<Reached, Error> {
        match &self.tls {
            Some(tls) => log_in(driver, tls.clone(), heard, self.apart).await,
            None => log_in(driver, NoTls, heard, self.apart).await,
        }
    }
}

impl Connect for Race {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async { Ok(self.connect(None).await?.into_parts()) })
    }
}

async fn log_in<T>(driver: Config, tls: T, heard: Option<&Arc<Notify>>, apart: bool) -> Result<Reached, Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    // Asks for read-write itself: a standby is an error from here.
    let (client, connection) = driver.connect(tls).await?;
    let task = Task(Some(tokio::spawn(hear(connection, heard.cloned()))));
    let standing = if apart { None } else { standing(&client).await? };
    if let Some(standing) = &standing
        && let Some(newest) = newest_known(&standing.cluster).filter(|newest| *newest > standing.timeline)
    {
        client.batch_execute(&refusal(standing.timeline, newest)).await?;
    }
    Ok(Reached { client, task, standing })
}

/// None where the server does not tell.
async fn standing(client: &Client) -> Result<Option<Standing>, Error> {
    match client.simple_query(STANDING).await {
        Ok(messages) => Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Standing::parse(row.get(0)?, row.get(1)?),
            _ => None,
        })),
        // It takes no logins any more, or is gone: the connection is of no use.
        Err(error) if error.as_db_error().is_none() => Err(error),
        Err(_) => Ok(None),
    }
}

/// What a replaced primary is made to say about itself: only the server can make an error with a code, and its log
/// is where somebody looks who wonders why nobody writes to it.
fn refusal(timeline: u32, newest: u32) -> String {
    format!(
        "DO $tripod$ BEGIN RAISE EXCEPTION 'this server is a replaced primary (timeline {timeline}, another one is at \
         {newest}); Tripod does not write to it' USING ERRCODE = 'read_only_sql_transaction'; END $tripod$"
    )
}

/// A cluster by its identifier, and its timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    cluster: String,
    timeline: u32,
}

impl Standing {
    /// A segment's name begins with the timeline in eight hexadecimal digits.
    fn parse(cluster: &str, segment: &str) -> Option<Self> {
        let timeline = u32::from_str_radix(segment.get(..8)?, 16).ok()?;
        Some(Self { cluster: cluster.to_owned(), timeline })
    }
}

fn newest_known(cluster: &str) -> Option<u32> {
    NEWEST.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(cluster).copied()
}

/// A connection that won, or may.
pub(super) struct Reached {
    client: Client,
    task: Task,
    standing: Option<Standing>,
}

impl Reached {
    /// The one with the newer timeline; the earlier one where that does not decide.
    fn newer(one: Option<Self>, two: Self) -> Self {
        let timeline = |reached: &Self| reached.standing.as_ref().map(|standing| standing.timeline);
        match one {
            Some(one) if timeline(&one) >= timeline(&two) => one,
            _ => two,
        }
    }

    /// Remembers whose it is.
    fn noted(self) -> Self {
        if let Some(Standing { cluster, timeline }) = &self.standing {
            let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
            let known = newest.get_or_insert_default().entry(cluster.clone()).or_insert(*timeline);
            if *known < *timeline {
                *known = *timeline;
                PROMOTIONS.fetch_add(1, Ordering::AcqRel);
                tracing::warn!(timeline, "another PostgreSQL server is the primary now");
            }
        }
        self
    }

    /// The client, and the task that moves its bytes.
    pub(super) fn into_parts(self) -> (Client, JoinHandle<()>) {
        let Self { client, mut task, .. } = self;
        // The task is there until here; a finished one stands in for what cannot be.
        let task = task.0.take().unwrap_or_else(|| tokio::spawn(async {}));
        (client, task)
    }
}

/// Ends with the attempt that made it: a connection that lost sends nothing more.
struct Task(Option<JoinHandle<()>>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

fn more_telling(one: Option<Error>, two: Error) -> Error {
    match one {
        Some(one) if weight(&one) >= weight(&two) => one,
        _ => two,
    }
}

/// What an operator has to know outweighs what passes, and what a server says outweighs silence.
fn weight(error: &Error) -> u8 {
    match error.code().map(|code| classify(code.code())) {
        Some(Class::ReadOnly) => 1,
        Some(Class::Retry | Class::Connection | Class::Deadline) => 2,
        Some(Class::Operator | Class::Caller | Class::Schema) => 4,
        None if is_read_only(error) => 1,
        None if super::class::is_absence(error) => 0,
        // TLS, a protocol that is not PostgreSQL's.
        None => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_is_in_a_segments_name() {
        let standing = Standing::parse("7", "0000000A00000000000000FF").unwrap();
        assert_eq!(standing, Standing { cluster: "7".into(), timeline: 10 });
        for bad in ["", "0000000", "zzzzzzzz00"] {
            assert_eq!(Standing::parse("7", bad), None, "{bad:?}");
        }
    }
}
