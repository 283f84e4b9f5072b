//! What the figures were measured on: a number without its machine is no number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;
use tripod::Timestamp;

/// Between two looks at this process's memory.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Pairs of clock readings.
const CLOCK_READINGS: u32 = 100_000;

/// The machine and the build.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_mib: u64,
    pub(super) kernel: String,
    /// The servers, with their versions; on the same machine.
    pub(super) servers: String,
    /// `release`, or `debug`: then the figures are not the product's.
    pub(super) build: &'static str,
    pub(super) at: String,
    /// Processes that wanted a core, over the last minute, when the bench began: figures of a busy machine are too high.
    pub(super) load_at_start: String,
    /// What two clock readings with nothing between them take; it is in every `record()` figure.
    pub(super) clock_p50_ns: u64,
    pub(super) clock_p99_ns: u64,
}

impl Machine {
    /// In two lines.
    pub(super) fn words(&self) -> String {
        format!(
            "{} cores of {}, {} MiB, Linux {}; {} on the same machine; {} build; {}\n\
             load at the start {} ({} cores); two clock readings take {} ns (p50), {} ns (p99): it is in every figure in ns",
            self.cores,
            self.cpu,
            self.memory_mib,
            self.kernel,
            self.servers,
            self.build,
            self.at,
            self.load_at_start,
            self.cores,
            self.clock_p50_ns,
            self.clock_p99_ns,
        )
    }

    pub(super) fn is_of_release(&self) -> bool {
        self.build == "release"
    }
}

/// Called before anything is measured; `servers` as in `QuestDB 9.3.4`.
pub(super) fn describe(servers: String) -> anyhow::Result<Machine> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let clock = clock()?;
    Ok(Machine {
        cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: kib(&read("/proc/meminfo"), "MemTotal").unwrap_or(0) / 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        servers,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        at: Timestamp::now().to_string(),
        load_at_start: read("/proc/loadavg").split_whitespace().next().unwrap_or("unknown").to_owned(),
        clock_p50_ns: clock.value_at_quantile(0.5),
        clock_p99_ns: clock.value_at_quantile(0.99),
    })
}

fn clock() -> anyhow::Result<Histogram<u64>> {
    let mut nanos = Histogram::new_with_max(1_000_000_000, 3)?;
    for _ in 0..CLOCK_READINGS {
        let took = Instant::now().elapsed();
        nanos.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(nanos)
}

/// The value of the first line `name: value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The same where it is `N kB`.
pub(super) fn kib(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.split_whitespace().next()?.parse().ok()
}

/// Watches this process's anonymous memory. Mapped journals are the page cache's and not counted.
#[derive(Debug)]
pub(super) struct MemoryWatch {
    most_kib: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    pub(super) fn start() -> anyhow::Result<Self> {
        let (most_kib, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (most, end) = (Arc::clone(&most_kib), Arc::clone(&ended));
        let body = move || {
            while !end.load(Ordering::Relaxed) {
                let now = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| kib(&text, "RssAnon"));
                most.fetch_max(now.unwrap_or(0), Ordering::Relaxed);
                std::thread::park_timeout(LOOK_EVERY);
            }
        };
        let thread =
            std::thread::Builder::new().name("memory".to_owned()).spawn(body).context("cannot watch the memory")?;
        Ok(Self { most_kib, ended, thread: Some(thread) })
    }

    /// The most so far.
    pub(super) fn most_bytes(&self) -> u64 {
        self.most_kib.load(Ordering::Relaxed) * 1024
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic; if it did, there is no figure to lose any more.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_proc_is_read_by_its_whole_name() {
        let text = "Name:\ttripod\nRssAnonHuge:\t1 kB\nRssAnon:\t   5124 kB\n";
        assert_eq!((kib(text, "RssAnon"), kib(text, "RssFile")), (Some(5124), None));
        assert_eq!(field(text, "Name").as_deref(), Some("tripod"));
    }
}
