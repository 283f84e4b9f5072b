//! A network that misbehaves on command: a TCP proxy in front of a server that delays, and cuts without a word.
//!
//! Constraints: loopback only; connections and their buffers are bounded; the order of bytes in a connection is kept.
//! A cut is the worst kind: no FIN and no RST reaches either end, as when a NAT or a cloud's network has forgotten the
//! flow. What was connected stays silent for ever, also after [`Proxy::heal`]; what connects afterwards works.
//!
//! Picture: client ──▶ 127.0.0.1:PORT ── one thread a direction: read, wait until it is due, write ──▶ server
//!
//! Operation: each piece is given its due time when it is read, and pieces in flight do not hold up the reading, so that
//! a delay costs no throughput.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wait::pause;

/// Connections at once; further ones are closed.
const CONNECTIONS_MAX: usize = 256;
/// Pieces of one direction on their way, each of [`PIECE_BYTES`] at most.
const PIECES_MAX: usize = 1024;
const PIECE_BYTES: usize = 16 * 1024;
/// Between two looks at what the proxy is told. A cut or an end is noticed within this.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// A proxy in front of one server. Dropping it closes what it has.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    delay_us: AtomicU64,
    jitter_us: AtomicU64,
    /// How many cuts there were. A connection of an earlier count is silent.
    cuts: AtomicU64,
    is_cut: AtomicBool,
    ended: AtomicBool,
    connections: AtomicUsize,
}

impl Proxy {
    /// Listens on a free port of its own and passes everything to `server` (`127.0.0.1:port`), as it is.
    ///
    /// # Errors
    /// The operating system's, where no port or no thread is to be had, or the address is none.
    pub fn start(server: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let server: SocketAddr = server.parse().map_err(|e| std::io::Error::new(ErrorKind::InvalidInput, e))?;
        let shared = Arc::new(Shared::default());
        let body = {
            let shared = Arc::clone(&shared);
            move || accept(&listener, server, &shared)
        };
        let thread = std::thread::Builder::new().name("proxy".to_owned());
        let acceptor = Some(thread.spawn(body)?);
        Ok(Self { address, shared, acceptor })
    }

    /// `127.0.0.1:port` to connect to.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on each piece, in each direction, takes `delay` and up to `jitter` more.
    pub fn slow(&self, delay: Duration, jitter: Duration) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.shared.delay_us.store(micros(delay), Ordering::Relaxed);
        self.shared.jitter_us.store(micros(jitter), Ordering::Relaxed);
    }

    /// From now on nothing passes and nobody is told; connections of before never speak again.
    pub fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::SeqCst);
        self.shared.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// From now on new connections work, and those that were made while it was cut.
    pub fn heal(&self) {
        self.shared.is_cut.store(false, Ordering::SeqCst);
    }

    /// Connections now, silent ones with them.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.acceptor.take() {
            // It cannot panic; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn delay(&self, dice: &mut u64) -> Duration {
        // xorshift: only has to differ from piece to piece.
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        let jitter = self.jitter_us.load(Ordering::Relaxed);
        let more = if jitter == 0 { 0 } else { *dice % jitter };
        Duration::from_micros(self.delay_us.load(Ordering::Relaxed).saturating_add(more))
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, shared: &Arc<Shared>) {
    let mut number = 0_u64;
    while !shared.ended() {
        let Ok((client, _)) = listener.accept() else {
            pause(LOOK_EVERY);
            continue;
        };
        if shared.connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            continue;
        }
        number += 1;
        let connection = Connection { shared: Arc::clone(shared), born: shared.cuts.load(Ordering::SeqCst), number };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::Builder::new().name("proxy-connection".to_owned());
        if thread.spawn(move || connection.run(&client, server)).is_err() {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct Connection {
    shared: Arc<Shared>,
    /// Cuts before it.
    born: u64,
    number: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn is_silent(&self) -> bool {
        self.shared.cuts.load(Ordering::SeqCst) != self.born
    }

    fn run(&self, client: &TcpStream, server: SocketAddr) {
        // A SYN gets through when the network does.
        while self.shared.is_cut.load(Ordering::SeqCst) {
            if self.shared.ended() || self.is_silent() {
                return;
            }
            pause(LOOK_EVERY);
        }
        let Ok(server) = TcpStream::connect_timeout(&server, CONNECT_WITHIN) else { return };
        for stream in [client, &server] {
            let set = stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true));
            if set.and_then(|()| stream.set_read_timeout(Some(LOOK_EVERY))).is_err() {
                return;
            }
        }
        std::thread::scope(|scope| {
            for (from, to, dice) in [(client, &server, 1), (&server, client, 2)] {
                let (sender, receiver) = sync_channel(PIECES_MAX);
                scope.spawn(move || self.read(from, &sender, self.number * 2 + dice));
                scope.spawn(move || self.write(to, &receiver));
            }
        });
    }

    fn read(&self, mut from: &TcpStream, pieces: &SyncSender<(Instant, Vec<u8>)>, mut dice: u64) {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut due = Instant::now();
        while !self.shared.ended() {
            match from.read(&mut buffer) {
                // Held open without a word for as long as the other end does.
                _ if self.is_silent() => {
                    let _ = from.set_read_timeout(Some(LOOK_EVERY * 20));
                    let gone = matches!(from.read(&mut buffer), Ok(0));
                    if gone {
                        return;
                    }
                }
                Ok(0) => return,
                Ok(count) => {
                    // Never before the piece in front of it.
                    due = due.max(Instant::now() + self.shared.delay(&mut dice));
                    let piece = buffer.get(..count).unwrap_or_default().to_vec();
                    if pieces.send((due, piece)).is_err() {
                        return;
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }

    fn write(&self, mut to: &TcpStream, pieces: &Receiver<(Instant, Vec<u8>)>) {
        loop {
            let (due, piece) = match pieces.recv_timeout(LOOK_EVERY) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout) if !self.shared.ended() => continue,
                // The end of one side is the end of the other's, unless nobody is to hear of anything.
                Err(_) => {
                    if !self.is_silent() || self.shared.ended() {
                        let _ = to.shutdown(Shutdown::Both);
                    }
                    return;
                }
            };
            while Instant::now() < due && !self.shared.ended() && !self.is_silent() {
                pause(due.saturating_duration_since(Instant::now()).min(LOOK_EVERY));
            }
            if !self.is_silent() && to.write_all(&piece).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A server that says back what it hears.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn say(mut stream: &TcpStream, word: &[u8; 4]) -> std::io::Result<Duration> {
        let began = Instant::now();
        stream.write_all(word)?;
        let mut heard = [0; 4];
        stream.read_exact(&mut heard)?;
        assert_eq!(&heard, word);
        Ok(began.elapsed())
    }

    #[test]
    fn what_passes_is_what_was_said_and_takes_its_delay() {
        let proxy = Proxy::start(&echo()).unwrap();
        let stream = connect(&proxy);
        say(&stream, b"fast").unwrap();
        proxy.slow(Duration::from_millis(30), Duration::from_millis(10));
        assert!(say(&stream, b"slow").unwrap() >= Duration::from_millis(60));
        // Pieces on their way do not wait for one another.
        let mut sent = Vec::new();
        for n in 0..200_u32 {
            sent.extend(n.to_be_bytes());
            (&stream).write_all(&n.to_be_bytes()).unwrap();
        }
        let mut heard = vec![0; sent.len()];
        (&stream).read_exact(&mut heard).unwrap();
        assert_eq!(heard, sent);
        drop(stream);
        let end = Instant::now() + LONG;
        while proxy.connections() > 0 {
            assert!(Instant::now() < end, "the connection stays");
            pause(LOOK_EVERY);
        }
    }

    #[test]
    fn a_cut_connection_is_silent_for_ever_and_a_new_one_works_when_it_is_healed() {
        let proxy = Proxy::start(&echo()).unwrap();
        let old = connect(&proxy);
        say(&old, b"open").unwrap();
        proxy.cut();
        old.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let silent = |stream: &TcpStream| {
            let error = say(stream, b"cut?").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}: told of the cut");
        };
        silent(&old);
        // Connects, since it is this machine that answers the SYN, and hears nothing until the network is back.
        let new = connect(&proxy);
        new.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        silent(&new);
        proxy.heal();
        new.set_read_timeout(Some(LONG)).unwrap();
        let mut late = [0; 4];
        (&new).read_exact(&mut late).unwrap();
        assert_eq!(&late, b"cut?");
        say(&new, b"heal").unwrap();
        silent(&old);
    }
}
