//! Ports of one stack: found free once, kept, and given up only when somebody else has taken one.
//!
//! Constraints: a port is chosen outside the range from which the kernel gives ports to outgoing connections (32768 and
//! up on Linux), or one of those would sit on it at the next start. A listener that is held keeps a found port until
//! just before its server binds it; what happens in between is seen as "address in use" and tried again with new ones.

use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Error, Result};

const FIRST: u16 = 20_000;
const SPAN: u16 = 10_000;
const TRIES: u32 = 200;

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
    fn a_held_port_cannot_be_taken_and_is_free_afterwards() {
        let held = Held::find().unwrap();
        let port = held.number().unwrap();
        assert!((FIRST..FIRST + SPAN).contains(&port));
        assert!(Held::take(port).is_none());
        drop(held);
        assert!(Held::take(port).is_some());
    }
}
