//! Ports of one stack: found free once, kept, and given up only when somebody else has taken one.
//!
//! Constraints: a port is chosen outside the range from which the kernel gives ports to outgoing connections (32768 and
//! up on Linux), or one of those would sit on it at the next start. A listener that is held keeps a found port until
//! just before its server binds it; what happens in between is seen as "address in use" and tried again with new ones.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::wait::{Deadline, pause};

const FIRST: u16 = 20_000;
const SPAN: u16 = 10_000;
const TRIES: u32 = 200;
/// Between two tries to take a port that is wanted again.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// A port that nobody else can take until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    listener: TcpListener,
}

impl Held {
    /// Takes `port`; none where somebody listens on it.
    pub(crate) fn take(port: u16) -> Option<Self> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|listener| Self { listener })
    }

    /// Takes `port` as soon as it is free: a server that was killed a moment ago still has it. None where somebody listens
    /// on it at the deadline.
    pub(crate) fn take_again(port: u16, deadline: Deadline) -> Option<Self> {
        loop {
            let held = Self::take(port);
            if held.is_some() || deadline.over() {
                return held;
            }
            pause(TRY_EVERY.min(deadline.left()));
        }
    }

    /// Takes a free one.
    pub(crate) fn find() -> Result<Self> {
        for _ in 0..TRIES {
            let mut bytes = [0_u8; 2];
            getrandom::fill(&mut bytes).map_err(|e| Error::Random { what: e.to_string() })?;
            if let Some(held) = Self::take(FIRST + u16::from_ne_bytes(bytes) % SPAN) {
                return Ok(held);
            }
        }
        Err(Error::NoPort { tries: TRIES })
    }

    /// Its number.
    pub(crate) fn number(&self) -> Result<u16> {
        self.listener.local_addr().map(|address| address.port()).map_err(|_| Error::NoPort { tries: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_becomes_free_is_taken_again_and_one_that_does_not_is_given_up() {
        let held = Held::find().unwrap();
        let port = held.number().unwrap();
        assert!(Held::take_again(port, Deadline::after(Duration::from_millis(50))).is_none());
        let again = std::thread::scope(|scope| {
            let again = scope.spawn(|| Held::take_again(port, Deadline::after(Duration::from_secs(60))));
            std::thread::park_timeout(Duration::from_millis(50));
            drop(held);
            again.join().unwrap()
        });
        assert_eq!(again.unwrap().number().unwrap(), port);
    }

    #[test]
    fn a_held_port_cannot_be_taken_and_is_free_afterwards() {
        let held = Held::find().unwrap();
        let port = held.number().unwrap();
        assert!((FIRST..FIRST + SPAN).contains(&port));
        assert!(Held::take(port).is_none());
        drop(held);
        assert!(Held::take(port).is_some());
    }
}
