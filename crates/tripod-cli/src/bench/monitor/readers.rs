//! Browsers as far as the monitor sees them: each holds a connection to `/api/events` and reads every frame to its end.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

/// A monitor that says nothing for so long is not measured any further.
const SAY_WITHIN: Duration = Duration::from_secs(20);

/// What one of them got.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Of frames, with what frames them.
    pub(super) bytes: u64,
    pub(super) frames: u64,
    /// By the numbers of the frames.
    pub(super) skipped: u64,
    /// Between two frames.
    pub(super) longest_gap: Duration,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Readers {
    ended: Arc<AtomicBool>,
    streams: Vec<TcpStream>,
    threads: Vec<JoinHandle<anyhow::Result<Heard>>>,
}

impl Readers {
    /// Returns when each has its connection.
    pub(super) fn start(address: &str, count: usize) -> anyhow::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let mut readers = Self { ended: Arc::clone(&ended), streams: Vec::new(), threads: Vec::new() };
        for _ in 0..count {
            let mut stream = TcpStream::connect(address).context("a reader cannot connect")?;
            stream.set_read_timeout(Some(SAY_WITHIN))?;
            // 1.0 has no chunks: what comes is what was said.
            stream.write_all(format!("GET /api/events HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes())?;
            readers.streams.push(stream.try_clone()?);
            let ended = Arc::clone(&ended);
            let thread = std::thread::Builder::new().name("reader".to_owned());
            readers.threads.push(thread.spawn(move || read(stream, &ended)).context("cannot start a reader")?);
        }
        Ok(readers)
    }

    /// What each got until now.
    pub(super) fn end(mut self) -> anyhow::Result<Vec<Heard>> {
        self.hang_up();
        let threads = std::mem::take(&mut self.threads);
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a reader panicked"))?).collect()
    }

    fn hang_up(&self) {
        self.ended.store(true, Ordering::Relaxed);
        for stream in &self.streams {
            // One that the monitor has closed is closed.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// To its end: with the reader's own end what was heard, without it an error.
fn read(stream: impl Read, ended: &AtomicBool) -> anyhow::Result<Heard> {
    let (mut input, mut line) = (BufReader::new(stream), Vec::new());
    let (mut heard, mut number, mut at) = (Heard::default(), None::<u64>, None::<Instant>);
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) if ended.load(Ordering::Relaxed) => return Ok(heard),
            Ok(0) => bail!("the monitor hung up on a reader"),
            Ok(_) => {}
            Err(error) => return Err(error).context("a reader heard nothing"),
        }
        if let Some(id) = line.strip_prefix(b"id: ") {
            let id: u64 = std::str::from_utf8(id)?.trim().parse().context("a frame has no number")?;
            heard.skipped += number.map_or(0, |before| id.saturating_sub(before + 1));
            number = Some(id);
        }
        // Before the first frame stands the head of the answer.
        if number.is_some() {
            heard.bytes += u64::try_from(line.len())?;
        }
        if line.starts_with(b"data: ") {
            heard.frames += 1;
            let now = Instant::now();
            heard.longest_gap = heard.longest_gap.max(at.map_or(Duration::ZERO, |before| now - before));
            at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn frames_are_counted_with_their_bytes_and_those_that_are_left_out() {
        let frame = |id: u32| format!("id: {id}\nevent: snapshot\ndata: {{}}\n\n");
        let frames = [frame(7), frame(8), frame(11)].concat();
        let all = format!("HTTP/1.0 200 OK\r\ndate: now\r\n\r\n{frames}");
        let heard = read(all.as_bytes(), &AtomicBool::new(true)).unwrap();
        assert_eq!((heard.frames, heard.skipped), (3, 2));
        assert_eq!(heard.bytes, u64::try_from(frames.len()).unwrap());
    }

    #[test]
    fn a_monitor_that_hangs_up_is_an_error_and_a_reader_that_does_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let readers = Readers::start(&address, 2).unwrap();
        let held: Vec<_> = (0..2).map(|_| listener.accept().unwrap()).collect();
        assert_eq!(readers.end().unwrap().len(), 2);
        drop(held);
        let readers = Readers::start(&address, 1).unwrap();
        // With its request read: an answer that never comes, and no reset connection.
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 16];
        stream.read_exact(&mut request).unwrap();
        drop(stream);
        while !readers.threads.iter().all(JoinHandle::is_finished) {
            std::thread::yield_now();
        }
        assert!(readers.end().is_err());
    }
}
