//! A gate on the way to QuestDB, which can be shut: then connections are refused, and those that were open are cut, as
//! with a server that is not there.
//!
//! Constraints: on loopback, for the load alone; the drill's own questions go to QuestDB itself. A thread per connection
//! and direction; the load has a handful.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;

#[derive(Debug, Default)]
struct Ways {
    shut: bool,
    open: Vec<TcpStream>,
}

/// See the module. Shut when dropped.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) address: SocketAddr,
    server: String,
    ways: Arc<Mutex<Ways>>,
    keeper: Option<JoinHandle<()>>,
}

impl Gate {
    /// An open gate to `server`, at an address of its own.
    pub(super) fn open(server: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        let address = listener.local_addr().context("cannot listen on loopback")?;
        let mut gate = Self { address, server: server.to_owned(), ways: Arc::default(), keeper: None };
        gate.keep(listener)?;
        Ok(gate)
    }

    fn keep(&mut self, listener: TcpListener) -> anyhow::Result<()> {
        let (server, ways) = (self.server.clone(), Arc::clone(&self.ways));
        let body = move || {
            for client in listener.incoming().flatten() {
                let mut held = ways.lock().unwrap_or_else(PoisonError::into_inner);
                if held.shut {
                    return;
                }
                // Where the server is gone the client sees its connection end.
                let Ok(to) = TcpStream::connect(&server) else { continue };
                let copies = [(client.try_clone(), to.try_clone()), (to.try_clone(), client.try_clone())];
                held.open.extend([client, to]);
                for (from, to) in copies {
                    if let (Ok(from), Ok(to)) = (from, to) {
                        // Ends with its connection; where it cannot be started that one stays silent and times out.
                        let _ = std::thread::Builder::new().name("gate".to_owned()).spawn(move || copy(from, to));
                    }
                }
            }
        };
        let keeper = std::thread::Builder::new().name("gate".to_owned()).spawn(body);
        self.keeper = Some(keeper.context("cannot start a thread")?);
        Ok(())
    }

    /// From now on nobody comes through.
    pub(super) fn shut(&mut self) {
        let open = {
            let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
            ways.shut = true;
            std::mem::take(&mut ways.open)
        };
        for way in open {
            // Gone already, perhaps.
            let _ = way.shutdown(Shutdown::Both);
        }
        // Wakes the keeper, which then lets the port go.
        drop(TcpStream::connect(self.address));
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }

    /// Opens it again, at the same address.
    pub(super) fn reopen(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.address).context("cannot listen where the gate was")?;
        self.ways.lock().unwrap_or_else(PoisonError::into_inner).shut = false;
        self.keep(listener)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.shut();
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if to.write_all(bytes.get(..read).unwrap_or_default()).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shut_gate_refuses_and_cuts_and_a_reopened_one_lets_through_at_the_same_address() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut gate = Gate::open(&server.local_addr().unwrap().to_string()).unwrap();
        let through = |gate: &Gate| {
            let mut client = TcpStream::connect(gate.address).unwrap();
            client.write_all(b"hello").unwrap();
            let (mut met, _) = server.accept().unwrap();
            let mut bytes = [0; 5];
            met.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
            (client, met)
        };
        let (mut client, _met) = through(&gate);
        gate.shut();
        assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)), "it was not cut");
        assert!(TcpStream::connect(gate.address).is_err(), "it was not refused");
        gate.reopen().unwrap();
        through(&gate);
    }
}
