//! A stream is trimmed before its group has read it: how many were missed is told exactly, and to the consumer.
//!
//! Constraints: on a server of the drill's own. What is in truth missing is known from the numbers in the events that come.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use tripod::events::{Consumer, ConsumerOptions, Draft, Events};

use super::Drill;
use super::events_report::EventsReport;
use super::own_stack::OwnStack;
use super::patience::patiently;

const TOPIC: &str = "drill";
const GROUP: &str = "drill";
const CAP: u64 = 1_000;
/// Events that pass while the group sleeps, each round a little more.
const PASS: u64 = 5_000;
/// Events in one round trip.
const BATCH: u64 = 500;

pub(super) async fn run(own: &OwnStack, rounds: u32, bar: &ProgressBar) -> anyhow::Result<EventsReport> {
    let mut config = own.config()?;
    (config.events.cap, config.events.claim_after_ms) = (CAP, 200);
    let events = patiently(async || Events::connect(&config).await).await?;
    let publisher = events.publisher(TOPIC)?;
    let options = ConsumerOptions { block: Duration::from_millis(50), ..ConsumerOptions::default() };
    let mut consumer = patiently(async || events.consumer(TOPIC, GROUP, options.clone()).await).await?;
    let (mut published, mut seen, mut longest) = (0_u64, 0_u64, Duration::ZERO);
    let mut broken = Vec::new();
    for round in 1..=rounds {
        let upto = published + PASS + u64::from(round) * 37;
        while published < upto {
            let end = upto.min(published + BATCH);
            let drafts: Vec<Draft> =
                (published..end).map(|number| Draft::new("drill", &number)).collect::<Result<_, _>>()?;
            let began = Instant::now();
            publisher.publish_many(&drafts).await?;
            longest = longest.max(began.elapsed());
            published = end;
        }
        let group = info(&events).await?;
        if group.0 > CAP {
            broken.push(format!("the stream held {} events in round {round}; its cap is {CAP}", group.0));
        }
        // Asleep: what the cap has taken until now, said before the group reads.
        let missing = published - CAP - seen_or_missed(&consumer, seen);
        let said = group.1.context("the count of trimmed events is unknown")?;
        let expected = consumer.counts().trimmed_unread + missing;
        if said != expected {
            broken.push(format!("round {round}: {said} are said to be trimmed unread, {expected} are"));
        }
        seen += drain(&mut consumer).await?;
        bar.inc(1);
    }
    let counted = consumer.counts().trimmed_unread;
    let real = published - seen;
    if counted != real {
        broken.push(format!("the consumer was told of {counted} missing events; {real} are missing"));
    }
    consumer.close().await?;
    Ok(EventsReport {
        drill: Drill::TrimUnread,
        rounds,
        recorded: published,
        // Trimmed by the cap as it was set, and told: that is the promise.
        lost: real.abs_diff(counted),
        doubled: 0,
        unhandled: 0,
        max_stall_us: u64::try_from(longest.as_micros()).unwrap_or(u64::MAX),
        recovery_ms: 0,
        recoveries_ms: Vec::new(),
        promise: Drill::TrimUnread.promise(),
        ok: broken.is_empty(),
        republished: 0,
        trimmed: Some([counted, real]),
        broken,
    })
}

fn seen_or_missed(consumer: &Consumer, seen: u64) -> u64 {
    seen + consumer.counts().trimmed_unread
}

/// The stream's length, and what the group's count says.
async fn info(events: &Events) -> anyhow::Result<(u64, Option<u64>)> {
    let info = patiently(async || events.info(TOPIC).await).await?.context("the stream is gone")?;
    let group = info.groups.iter().find(|group| group.name == GROUP).context("the group is gone")?;
    Ok((info.length, group.trimmed_unread))
}

async fn drain(consumer: &mut Consumer) -> anyhow::Result<u64> {
    let mut seen = 0;
    let mut last = None;
    loop {
        let batch = consumer.next().await?;
        if batch.is_empty() {
            return Ok(seen);
        }
        for event in &batch {
            let number: u64 = event.decode()?;
            ensure!(last.is_none_or(|last| last < number), "event {number} came behind {last:?}");
            last = Some(number);
            seen += 1;
        }
        let ids: Vec<_> = batch.iter().map(|event| event.id).collect();
        patiently(async || consumer.ack(&ids).await).await?;
    }
}
