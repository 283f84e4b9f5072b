//! What one `append` of 200 bytes costs its caller: 1 thread at 100,000/s, and 4 threads at 20,000/s each.
//!
//! `cargo bench -p tripod-journal --bench append`. Each call is timed on its own, the clock's own cost included
//! (printed beside). Paced, because a journal that is filled as fast as memory allows measures the disk instead.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // A benchmark prints, and ends at the first surprise.

use std::time::{Duration, Instant};

use tripod_journal::{Journal, Options};

const PAYLOAD_BYTES: usize = 200;
const WARM_UP: usize = 2_000;

fn main() {
    let clock = measure_clock();
    println!("clock alone: p50 {} ns", percentile(&clock, 0.5));
    for (threads, per_second, count) in [(1u32, 100_000u32, 400_000usize), (4, 20_000, 80_000)] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(Options { budget_bytes: 4 << 30, ..Options::new(dir.path()) }).unwrap();
        let schema = journal.register("bench", "").unwrap();
        let mut times: Vec<u64> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..threads)
                .map(|_| {
                    let journal = &journal;
                    scope.spawn(move || {
                        let payload = [7; PAYLOAD_BYTES];
                        paced(per_second, count, || {
                            journal
                                .append(schema, PAYLOAD_BYTES, |out| {
                                    out.copy_from_slice(&payload);
                                    Ok::<(), ()>(())
                                })
                                .unwrap();
                        })
                    })
                })
                .collect();
            runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
        });
        times.sort_unstable();
        let usage = journal.usage();
        println!(
            "{threads} thread(s) at {per_second}/s: p50 {} ns, p99 {} ns, p99.9 {} ns, p99.99 {} ns, max {} ns; \
             lanes {}, stalls {}",
            percentile(&times, 0.5),
            percentile(&times, 0.99),
            percentile(&times, 0.999),
            percentile(&times, 0.9999),
            times.last().unwrap(),
            usage.lanes,
            usage.stalls
        );
    }
}

fn measure_clock() -> Vec<u64> {
    let mut times: Vec<u64> = (0..10_000).map(|_| elapsed_ns(Instant::now())).collect();
    times.sort_unstable();
    times
}

fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap()
}

/// Calls `work` at a steady rate and times each call.
fn paced(per_second: u32, count: usize, mut work: impl FnMut()) -> Vec<u64> {
    let pause = Duration::from_secs(1) / per_second;
    let mut times = Vec::with_capacity(count);
    let mut next = Instant::now();
    for n in 0..count + WARM_UP {
        while Instant::now() < next {
            std::thread::yield_now();
        }
        next += pause;
        let started = Instant::now();
        work();
        let took = elapsed_ns(started);
        if n >= WARM_UP {
            times.push(took);
        }
    }
    times
}

fn percentile(sorted: &[u64], share: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = ((sorted.len() - 1) as f64 * share) as usize;
    sorted[at]
}
