//! A lock file: one writer per journal, one process per sink.
//!
//! Constraints: the lock is the kernel's (`flock`), so it ends with its process however that dies; the file stays, and
//! holds the owner's process id only for the words of the error.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::Error;

/// Held as long as this value lives.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
}

impl LockFile {
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(Error::io("open the lock", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // The holder may be writing it just now: then the error says "another process".
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(Error::Locked { path: path.to_owned(), pid });
            }
            Err(errno) => return Err(Error::io("lock", path)(errno.into())),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(Error::io("write", path))?;
        Ok(Self { file })
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing is not enough: while another thread starts a process, the fork holds a copy of this descriptor for a
        // moment, and with it the lock. Unlocking ends it for all copies. Where it fails, closing is what is left.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}
