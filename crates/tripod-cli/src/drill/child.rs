//! One life of the load, as the drill sees it: started, watched, killed or ended.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow, bail};

use super::load::Order;
use super::row::{Place, THREADS};
use super::scene::Scene;
use super::witness::{self, Reached, RecordNanos};

/// The rows of one thread in one life of the load that the witness saw: `from` up to, not with, `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) thread: usize,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// What one life of the load leaves in the drill's memory.
#[derive(Debug)]
pub(super) struct Witnessed {
    pub(super) spans: Vec<Span>,
    pub(super) record_ns: RecordNanos,
}

/// A running load. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Load {
    child: Child,
    input: Option<ChildStdin>,
    reached: Arc<Reached>,
    from: [u64; THREADS],
    watcher: Option<JoinHandle<anyhow::Result<RecordNanos>>>,
}

impl Load {
    /// Starts it.
    pub(super) fn start(scene: &Scene, order: &Order) -> anyhow::Result<Self> {
        // The kernel's own name for this program, also where it has been replaced on disk since.
        let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let mut command = Command::new(program);
        command.arg("drill-load").arg("--config").arg(&scene.config_path);
        // Its log goes beside its journals: the operator's screen is the drill's.
        let log = scene.load_log()?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start the load, which is this program itself")?;
        let reached = Arc::new(Reached::new(order.from));
        let output = child.stdout.take().context("the load has no standard output")?;
        let seen = Arc::clone(&reached);
        let watcher = std::thread::Builder::new()
            .name("witness".to_owned())
            .spawn(move || witness::watch(output, &seen))
            .context("cannot start the witness")?;
        let mut load = Self { input: child.stdin.take(), child, reached, from: order.from, watcher: Some(watcher) };
        let line = serde_json::to_string(order).context("the order has no JSON form")? + "\n";
        let input = load.input.as_mut().context("the load has no standard input")?;
        input.write_all(line.as_bytes()).context("the load does not take its order")?;
        Ok(load)
    }

    /// The newest witnessed row of thread 0, or what stands before its first.
    pub(super) fn newest(&self) -> u64 {
        self.reached.of(0).saturating_sub(1)
    }

    /// How far its threads are, and what else it said.
    pub(super) fn reached(&self) -> &Reached {
        &self.reached
    }

    /// Rows that the witness has seen of this life.
    pub(super) fn recorded(&self) -> u64 {
        self.from.iter().enumerate().map(|(thread, from)| self.reached.of(thread).saturating_sub(*from)).sum()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails where it has ended by itself.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().context("cannot look at the load")? {
            None => Ok(()),
            Some(status) => bail!("the load ended by itself ({status})"),
        }
    }

    /// kill -9, and what it had recorded.
    pub(super) fn kill(mut self) -> anyhow::Result<Witnessed> {
        self.check_alive()?;
        self.child.kill().context("cannot kill the load")?;
        self.child.wait().context("cannot await the load")?;
        self.witnessed()
    }

    /// Lets it record no more and waits until it has seen every row visible.
    pub(super) fn end(mut self) -> anyhow::Result<(Witnessed, ExitStatus)> {
        drop(self.input.take());
        let status = self.child.wait().context("cannot await the load")?;
        Ok((self.witnessed()?, status))
    }

    fn witnessed(&mut self) -> anyhow::Result<Witnessed> {
        let watcher = self.watcher.take().context("the witness was heard already")?;
        let record_ns = watcher.join().map_err(|_| anyhow!("the witness panicked"))??;
        let spans = self.from.iter().enumerate();
        let spans = spans.map(|(thread, from)| Span { thread, from: *from, to: self.reached.of(thread) }).collect();
        Ok(Witnessed { spans, record_ns })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Ended already in the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the next life begins: past the row that may have been recorded without a witness, so that it is told apart.
pub(super) fn next_from(spans: &[Span]) -> [u64; THREADS] {
    let mut from = [0; THREADS];
    for span in spans {
        if let Some(next) = from.get_mut(span.thread) {
            *next = (*next).max(span.to + 1);
        }
    }
    from
}

impl Span {
    /// The row that may have been recorded though nobody saw it.
    pub(super) fn unwitnessed(self) -> Place {
        Place { thread: self.thread, number: self.to }
    }
}
