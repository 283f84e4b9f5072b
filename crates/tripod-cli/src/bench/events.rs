//! `tripod bench events`: publishing and handling, beside `redis-benchmark` on the same server in the same run.
//!
//! Constraints: on a Redis of the bench's own, so that nobody's events are trimmed. Both sides send events of the same size
//! with the same exact cap, one connection each, in turns. From publishing to the handler is measured by one clock: the
//! event carries when its publishing began. It is no test: a missed bar is printed as missed, and the exit code is 0.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tripod::events::{ConsumerOptions, Draft, Event, Events, Publisher};
use tripod::{Config, Error};
use tripod_stack::{ServerName, Servers};

use super::machine;
use super::pair::{Pair, Side, turns};
use super::report::{Figure, Report};
use crate::args::Global;
use crate::drill::OwnStack;

const CAP: u64 = 10_000;
/// Of the events of the throughput turns; the fields around it are the same on both sides.
const PAYLOAD_BYTES: usize = 120;
/// Events of one turn, and in one round trip.
const TURN_EVENTS: u64 = 200_000;
const BATCH: u64 = 500;
const TURNS: u32 = 3;
const WARM_UP: u64 = 50_000;
/// Beside the steady rate of 10 events a second: this many, in bursts of as many as are due.
const LOAD_PER_SECOND: u64 = 5_000;
const LOAD_S: u64 = 10;
const RATE_PER_SECOND: u64 = 10;
/// The last events are handled within this.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn events(global: &Global, seconds: u64, bar: &ProgressBar) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&global.data).with_context(|| format!("cannot make {}", global.data.display()))?;
    let data = global.data.canonicalize().with_context(|| format!("cannot open {}", global.data.display()))?;
    let own = OwnStack::start(&data.join("bench-events"), Servers::only(ServerName::RedisEvents))?;
    let mut config = own.config()?;
    config.events.cap = CAP;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let results = runtime.block_on(measure(&config, seconds, bar))?;
    let version = runtime.block_on(async {
        let events = Events::connect(&config).await?;
        events.link().instance().await
    });
    Ok(Report { results, machine: machine::describe(format!("Redis {}", version?.version))? })
}

async fn measure(config: &Config, seconds: u64, bar: &ProgressBar) -> anyhow::Result<Vec<Figure>> {
    let raw = Raw::prepare(config)?;
    let events = Events::connect(config).await?;
    let publisher = events.publisher("bench")?;
    bar.set_message("warming up");
    pipelined(&publisher, WARM_UP).await?;
    raw.run(WARM_UP)?;
    bar.set_message("one topic, pipelined");
    let mut pair = Pair::default();
    for side in turns(TURNS) {
        match side {
            Side::Tripod => pair.tripod.add(TURN_EVENTS, pipelined(&publisher, TURN_EVENTS).await?),
            Side::Raw => pair.raw.add(TURN_EVENTS, raw.run(TURN_EVENTS)?),
        }
    }
    bar.set_message("10 events a second");
    let steady = paced(&events, "steady", RATE_PER_SECOND, seconds).await?;
    bar.set_message("5,000 events a second");
    let load = paced(&events, "load", LOAD_PER_SECOND, LOAD_S).await?;
    let mut results = vec![Figure::of_events_pair("events_pipelined", &pair)];
    results.extend(Figure::of_micros("publish_10_hz", &steady.publish, Some(1_000)));
    results.extend(Figure::of_micros("to_handler_10_hz", &steady.handled, Some(5_000)));
    results.push(Figure::at_most("longest_stream", steady.longest.max(load.longest), "events", CAP));
    results.push(Figure::at_most("publishes_without_answer", steady.failed + load.failed, "events", 0));
    results.extend(Figure::of_micros("publish_5000_per_s", &load.publish, None));
    results.extend(Figure::of_micros("to_handler_5000_per_s", &load.handled, None));
    Ok(results)
}

async fn pipelined(publisher: &Publisher, count: u64) -> anyhow::Result<Duration> {
    // Made before the clock runs, as the raw client's are.
    let drafts: Vec<Draft> = (0..BATCH).map(|_| Draft::new("bench", &payload())).collect::<Result<_, _>>()?;
    let began = Instant::now();
    for _ in 0..count / BATCH {
        publisher.publish_many(&drafts).await?;
    }
    Ok(began.elapsed())
}

fn payload() -> String {
    // With the quotes that JSON puts around it.
    "x".repeat(PAYLOAD_BYTES - 2)
}

/// What a steady rate gave, in microseconds.
struct Paced {
    publish: Histogram<u64>,
    handled: Histogram<u64>,
    longest: u64,
    /// Publishes without an answer within their deadline.
    failed: u64,
}

/// Three digits, up to a minute in microseconds. One without a bound would take what lies beyond its first two thousand
/// for the least there is: `saturating_record` does not let it grow.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(60_000_000, 3)?)
}

async fn paced(events: &Events, topic: &str, per_second: u64, seconds: u64) -> anyhow::Result<Paced> {
    let publisher = events.publisher(topic)?;
    let clock = Instant::now();
    let micros = |since: Duration| u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    let handled = Arc::new(Mutex::new(histogram()?));
    let (stop, mut stopped) = watch::channel(false);
    let mut consumer = events.consumer(topic, "bench", ConsumerOptions::default()).await?;
    let seen = Arc::clone(&handled);
    let consuming = tokio::spawn(async move {
        let handler = |event: Event| {
            let began = event.decode::<u64>().unwrap_or(0);
            let took = micros(clock.elapsed()).saturating_sub(began);
            seen.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
            std::future::ready(Ok::<_, std::convert::Infallible>(()))
        };
        let until = async move { drop(stopped.wait_for(|stop| *stop).await) };
        consumer.run(handler, until).await?;
        consumer.close().await
    });
    let mut publish = histogram()?;
    let (mut longest, mut failed, total, began) = (0, 0, per_second * seconds, Instant::now());
    for number in 0..total {
        let due = began + Duration::from_micros(number * 1_000_000 / per_second);
        tokio::time::sleep_until(due.into()).await;
        let at = micros(clock.elapsed());
        match publisher.publish("bench", &at).await {
            Ok(_) => {}
            // A stalled machine: told, and the rest is measured all the same.
            Err(Error::Deadline { .. } | Error::Unreachable { .. } | Error::Busy { .. }) => failed += 1,
            Err(error) => return Err(error.into()),
        }
        publish.saturating_record(micros(clock.elapsed()) - at);
        if number % (per_second * 5) == 0 || number + 1 == total {
            longest = longest.max(events.info(topic).await?.map_or(0, |info| info.length));
        }
    }
    let end = Instant::now() + SETTLE_WITHIN;
    // One without an answer may be there or not.
    while handled.lock().unwrap_or_else(PoisonError::into_inner).len() < total - failed {
        ensure!(Instant::now() < end, "events of {topic} were not handled within {SETTLE_WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Gone where the consumer has ended by itself: then its error follows.
    let _ = stop.send(true);
    consuming.await.context("the consumer panicked")??;
    let handled = handled.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Paced { publish, handled, longest, failed })
}

/// `redis-benchmark`, as a user of its own who needs no secret: a command line is no place for one.
struct Raw {
    port: String,
}

impl Raw {
    fn prepare(config: &Config) -> anyhow::Result<Self> {
        let redis = &config.redis.events;
        let address = redis.addresses.first().context("the bench's Redis has no address")?;
        let mut stream = TcpStream::connect(address).context("cannot connect to the bench's Redis")?;
        stream.set_read_timeout(Some(SETTLE_WITHIN))?;
        let (user, password) = (&redis.admin_user, redis.admin_password.expose_secret());
        let rules = "ACL SETUSER bench reset on nopass ~raw -@all +xadd +ping +config|get +auth";
        stream.write_all(format!("AUTH {user} {password}\r\n{rules}\r\n").as_bytes())?;
        for line in BufReader::new(stream).lines().take(2) {
            ensure!(line? == "+OK", "the bench's Redis takes no user for redis-benchmark");
        }
        let (_, port) = address.rsplit_once(':').context("the bench's Redis has no port")?;
        Ok(Self { port: port.to_owned() })
    }

    /// How long it takes for so many.
    fn run(&self, count: u64) -> anyhow::Result<Duration> {
        let (count_text, cap) = (count.to_string(), CAP.to_string());
        let connection = ["-h", "127.0.0.1", "-p", &self.port, "--user", "bench", "-a", "none", "-c", "1", "-P", "500"];
        let mut command = Command::new("redis-benchmark");
        command.args(connection).args(["-n", &count_text, "--csv", "XADD", "raw", "MAXLEN", "=", &cap, "*"]);
        command.args(["type", "bench", "time", "1763902800123", "payload", &payload()]);
        let output = command.output().context("cannot run redis-benchmark (Debian: redis-tools)")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let row = text.lines().last().unwrap_or_default();
        let rate = row.split("\",\"").nth(1).and_then(|rate| rate.trim_matches('"').parse::<f64>().ok());
        let rate =
            rate.filter(|rate| *rate > 0.0).with_context(|| format!("redis-benchmark said `{}`", text.trim()))?;
        let count = u32::try_from(count).context("too many")?;
        Ok(Duration::from_secs_f64(f64::from(count) / rate))
    }
}
