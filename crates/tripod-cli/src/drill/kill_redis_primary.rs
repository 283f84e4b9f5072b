//! The primary of highly available events is killed again and again, under a publisher and a consumer that go on.
//!
//! Constraints: on servers of the drill's own; what is lost is known as in `events_witness`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use tripod::events::{ConsumerOptions, Event, Events};

use super::Drill;
use super::events_report::EventsReport;
use super::events_witness::{GROUP, Seen, TOPIC, count, publish};
use super::own_stack::OwnStack;
use super::patience::{may_pass, patiently};
use super::scene::millis;

/// Events at least between two kills, and after the last.
const EVENTS_BETWEEN: usize = 300;
/// The promise.
const RECOVERY_MAX_MS: u64 = 4_000;
/// A failover that takes longer has not happened.
const FAILOVER_WITHIN: Duration = Duration::from_secs(60);
/// The last events are handled within this.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) async fn run(own: &OwnStack, rounds: u32, bar: &ProgressBar) -> anyhow::Result<EventsReport> {
    let mut config = own.config()?;
    // Nothing is trimmed: what is not there is lost.
    (config.events.cap, config.events.claim_after_ms) = (10_000_000, 1000);
    let events = patiently(async || Events::connect(&config).await).await?;
    let seen = Arc::new(Seen::default());
    let publishing = tokio::spawn(publish(events.clone(), Arc::clone(&seen)));
    let mut consumer = patiently(async || events.consumer(TOPIC, GROUP, ConsumerOptions::default()).await).await?;
    let handler = |event: Event| {
        seen.handle(&event);
        std::future::ready(Ok::<_, std::convert::Infallible>(()))
    };
    // A connection of its own: it is the server's word, not the load's.
    let probe = patiently(async || Events::connect(&config).await).await?;
    let breaking = async {
        let broken = break_it(own, &probe, &seen, rounds, bar).await;
        seen.over.store(true, Ordering::Relaxed);
        // First: what it publishes last has to be handled too.
        let published = publishing.await;
        let end = Instant::now() + SETTLE_WITHIN;
        while Instant::now() < end && !seen.all_handled() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        (broken, published)
    };
    let mut ended = None;
    let until = async { ended = Some(breaking.await) };
    let consumed = Box::pin(consumer.run(handler, until)).await;
    seen.over.store(true, Ordering::Relaxed);
    consumed?;
    let (recoveries, published) = ended.context("the consumer ended before the drill did")?;
    published.context("the publisher panicked")??;
    report(&events, &seen, rounds, recoveries?).await
}

async fn break_it(
    own: &OwnStack,
    probe: &Events,
    seen: &Seen,
    rounds: u32,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<u64>> {
    let mut recoveries = Vec::new();
    for round in 1..=rounds {
        let whole = Instant::now() + FAILOVER_WITHIN;
        while !own.is_whole()? {
            ensure!(
                Instant::now() < whole,
                "the stack is not whole again within {FAILOVER_WITHIN:?} before round {round}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        goes_on(seen).await?;
        let old = own.primary()?;
        let run_id = loop {
            match probe.link().instance().await {
                Ok(instance) => break instance.run_id,
                Err(error) if may_pass(&error) && Instant::now() < whole => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => return Err(error).context("the primary does not answer"),
            }
        };
        let killed = Instant::now();
        own.kill(old)?;
        loop {
            ensure!(
                killed.elapsed() < FAILOVER_WITHIN,
                "nobody takes writes within {FAILOVER_WITHIN:?} after kill {round}"
            );
            let written = probe.publisher("probe")?.publish("probe", &round).await.is_ok();
            if written && probe.link().instance().await.is_ok_and(|now| now.run_id != run_id) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        recoveries.push(millis(killed.elapsed()));
        bar.inc(1);
    }
    goes_on(seen).await?;
    Ok(recoveries)
}

/// Waits until so many more events are acknowledged that there is something to lose.
async fn goes_on(seen: &Seen) -> anyhow::Result<()> {
    let (wanted, end) = (seen.acknowledged().len() + EVENTS_BETWEEN, Instant::now() + FAILOVER_WITHIN);
    while seen.acknowledged().len() < wanted {
        ensure!(Instant::now() < end, "{EVENTS_BETWEEN} events are not published within {FAILOVER_WITHIN:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn report(events: &Events, seen: &Seen, rounds: u32, recoveries_ms: Vec<u64>) -> anyhow::Result<EventsReport> {
    let counts = count(events, seen).await?;
    let recovery_ms = recoveries_ms.iter().copied().max().unwrap_or(0);
    let mut broken = counts.broken();
    if recovery_ms > RECOVERY_MAX_MS {
        broken.push(format!("writes were refused for {recovery_ms} ms"));
    }
    Ok(EventsReport {
        drill: Drill::KillRedisPrimary,
        rounds,
        recorded: counts.acknowledged,
        lost: counts.lost,
        doubled: counts.doubled,
        unhandled: counts.unhandled,
        max_stall_us: seen.longest_us.load(Ordering::Relaxed),
        recovery_ms,
        recoveries_ms,
        promise: Drill::KillRedisPrimary.promise(),
        ok: broken.is_empty(),
        republished: events.kept().republished,
        trimmed: None,
        broken,
    })
}
