//! What a sink says to other processes, and what they ask of it: two small files beside its cursor.
//!
//! Constraints: whoever reads needs no lock and cannot hold the sink up; a sink that died says nothing wrong, because
//! the kernel tells whether it lives (a lock on the file that ends with its process), not its last words. A full disk
//! does not stop a delivery: the file has its blocks from the start, and a notice that cannot be written is only old.
//!
//! Picture:
//! ```text
//! sinks/NAME.status   crc, length, JSON, blanks    written by the sink: at each change, and each second
//! sinks/NAME.asked    number, its complement       raised by whoever waits until all before now is visible
//! ```
//! Operation of the second: raise the number → the sink notes it, reads the journal to its end, and says the number in
//! its status once all up to there is settled and visible. It counts on after a restart of either side.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::status::{Board, SinkState, SinkStatus};
use crate::error::{Error, Result};
use crate::tape::spec::Importance;
use crate::value::Timestamp;

/// A sink that lives says something at least this often.
pub(crate) const SAYS_EVERY: Duration = Duration::from_secs(1);
/// Whoever looks at the file holds its lock for a moment.
const LOCK_WITHIN: Duration = Duration::from_secs(2);
/// The file grows in steps of this, so that a notice of the usual size needs no new block of the disk.
const BLOCK_BYTES: usize = 8192;
/// A notice is larger only where hundreds of tables are suspended; nobody reads more.
const NOTICE_BYTES_MAX: u64 = 4 << 20;
/// Reading beside a writer that writes once a second.
const TRIES_MAX: usize = 50;
const HEAD_BYTES: usize = 22;

#[derive(Debug, Serialize, Deserialize)]
struct Notice {
    pid: u32,
    at_ns: i64,
    /// Everything recorded before this number was asked for is visible or in quarantine.
    #[serde(default)]
    reached: u64,
    status: SinkStatus,
}

fn file_of(dir: &Path, sink: &str, what: &str) -> PathBuf {
    dir.join("sinks").join(format!("{sink}.{what}"))
}

/// Takes a lock that others hold for a moment only.
fn lock(file: &File, path: &Path) -> Result<()> {
    let end = Instant::now() + LOCK_WITHIN;
    loop {
        let source = match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(std::fs::TryLockError::Error(e)) => e,
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < end => {
                std::thread::park_timeout(Duration::from_millis(1));
                continue;
            }
            Err(std::fs::TryLockError::WouldBlock) => std::io::ErrorKind::WouldBlock.into(),
        };
        return Err(Error::File { what: "lock", path: path.to_owned(), source });
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(|source| Error::File {
        what: "open",
        path: path.to_owned(),
        source,
    })
}

/// The sink's own end. Held as long as it runs.
#[derive(Debug)]
pub(super) struct Crier {
    status: File,
    asked: File,
    said_at: Option<Instant>,
    /// The board's changes when it was said last.
    said_changes: u64,
    reached: u64,
    failing: bool,
}

impl Crier {
    /// Takes the place of whoever ran this sink before; the caller holds the sink's own lock.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(super) fn open(dir: &Path, sink: &str) -> Result<Self> {
        let path = file_of(dir, sink, "status");
        let status = open(&path)?;
        lock(&status, &path)?;
        let reached = read_notice(&status).map_or(0, |notice| notice.reached);
        let asked = open(&file_of(dir, sink, "asked"))?;
        Ok(Self { status, asked, said_at: None, said_changes: 0, reached, failing: false })
    }

    /// The newest number that another process has asked for; 0 where none ever has.
    pub(super) fn asked(&self) -> u64 {
        read_asked(&self.asked).unwrap_or(0)
    }

    /// Says what has changed, or after a while that nothing has.
    pub(super) fn say(&mut self, board: &Board) {
        let changes = board.changes();
        if changes != self.said_changes || self.said_at.is_none_or(|at| at.elapsed() >= SAYS_EVERY) {
            self.write(board, changes);
        }
    }

    /// All that was recorded before `number` was asked for is visible.
    pub(super) fn reach(&mut self, number: u64, board: &Board) {
        if number > self.reached {
            self.reached = number;
            self.write(board, board.changes());
        }
    }

    fn write(&mut self, board: &Board, changes: u64) {
        let (pid, at_ns) = (std::process::id(), Timestamp::now().as_nanos());
        let notice = Notice { pid, at_ns, reached: self.reached, status: board.status() };
        let written = encode(&notice)
            .map_err(|e| e.to_string())
            .and_then(|bytes| self.status.write_all_at(&bytes, 0).map_err(|e| e.to_string()));
        match written {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(error, "other processes cannot be told how this sink is");
            }
            Err(_) => {}
        }
        (self.said_at, self.said_changes) = (Some(Instant::now()), changes);
    }
}

impl Drop for Crier {
    fn drop(&mut self) {
        // A fork in another thread may hold a copy of the descriptor for a moment: unlocking ends it for all copies.
        let _ = self.status.unlock();
    }
}

fn encode(notice: &Notice) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_vec(notice)?;
    let mut bytes = format!("{:08x} {:012}\n", crc32c::crc32c(&body), body.len()).into_bytes();
    bytes.extend_from_slice(&body);
    bytes.push(b'\n');
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), b' ');
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<Notice> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (crc, len) = std::str::from_utf8(head).ok()?.trim_end().split_once(' ')?;
    let body = rest.get(..len.parse().ok()?)?;
    let whole = u32::from_str_radix(crc, 16).ok()? == crc32c::crc32c(body);
    whole.then(|| serde_json::from_slice(body).ok())?
}

fn read_notice(file: &File) -> Option<Notice> {
    for _ in 0..TRIES_MAX {
        let len = usize::try_from(file.metadata().ok()?.len().min(NOTICE_BYTES_MAX)).ok()?;
        if len == 0 {
            return None;
        }
        let mut bytes = vec![0; len];
        if file.read_exact_at(&mut bytes, 0).is_ok()
            && let Some(notice) = decode(&bytes)
        {
            return Some(notice);
        }
        std::thread::yield_now();
    }
    None
}

fn read_asked(file: &File) -> Option<u64> {
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (number, complement) = bytes.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    (u64::from_le_bytes(complement.try_into().ok()?) == !number).then_some(number)
}

/// A sink as another process sees it.
#[derive(Debug)]
pub(in crate::tape) struct Said {
    /// What it says, or that no process runs it.
    pub(in crate::tape) status: SinkStatus,
    /// See [`ask`].
    pub(in crate::tape) reached: u64,
}

/// What the sink `sink` of the journal in `dir` says, and whether anybody runs it.
///
/// # Errors
/// [`Error::File`] where its file cannot be read.
pub(in crate::tape) fn look(dir: &Path, sink: &str, class: Importance) -> Result<Said> {
    let path = file_of(dir, sink, "status");
    let failed = |source| Error::File { what: "read", path: path.clone(), source };
    let never = || SinkStatus::new(sink, class);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Said { status: never(), reached: 0 }),
        Err(e) => return Err(failed(e)),
    };
    let lives = match file.try_lock_shared() {
        Ok(()) => {
            file.unlock().map_err(failed)?;
            false
        }
        Err(std::fs::TryLockError::WouldBlock) => true,
        Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
    };
    let Some(notice) = read_notice(&file) else { return Ok(Said { status: never(), reached: 0 }) };
    let mut status = notice.status;
    status.said_at = Timestamp::from_nanos(notice.at_ns).unwrap_or(Timestamp::EPOCH);
    status.pid = lives.then_some(notice.pid);
    if !lives {
        (status.state, status.since, status.why) =
            (SinkState::NotRunning, status.said_at, SinkStatus::NOBODY.to_owned());
    }
    Ok(Said { status, reached: notice.reached })
}

/// Asks the sink, in whatever process it runs or will run, to say when everything recorded before now is visible or in
/// quarantine; returns the number that [`Said::reached`] has to come to.
///
/// # Errors
/// [`Error::File`].
pub(in crate::tape) fn ask(dir: &Path, sink: &str, class: Importance) -> Result<u64> {
    let path = file_of(dir, sink, "asked");
    let file = open(&path)?;
    lock(&file, &path)?;
    // Where the file was lost, its numbers do not begin again below what was reached.
    let number = read_asked(&file).unwrap_or(0).max(look(dir, sink, class)?.reached).saturating_add(1);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&(!number).to_le_bytes());
    let written = file.write_all_at(&bytes, 0);
    let _ = file.unlock();
    written.map_err(|source| Error::File { what: "write", path, source })?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sinks")).unwrap();
        dir
    }

    #[test]
    fn a_sink_that_lives_is_told_from_one_that_is_gone_by_the_lock_and_not_by_its_last_words() {
        let dir = dir();
        let look = || look(dir.path(), "main", Importance::Critical).unwrap();
        assert_eq!((look().status.state, look().status.pid), (SinkState::NotRunning, None));
        let (mut crier, board) =
            (Crier::open(dir.path(), "main").unwrap(), Board::new("main", Importance::Critical, true));
        board.enter(SinkState::Unavailable, "Connection refused");
        crier.say(&board);
        let said = look().status;
        assert_eq!((said.state, said.why.as_str()), (SinkState::Unavailable, "Connection refused"));
        assert_eq!(said.pid, Some(std::process::id()));
        assert_eq!(said.since, board.status().since);
        drop(crier);
        let said = look().status;
        assert_eq!((said.state, said.pid), (SinkState::NotRunning, None));
        assert!(said.why.contains("deliver"), "{}", said.why);
    }

    #[test]
    fn numbers_go_on_after_a_restart_of_either_side_and_never_begin_below_what_was_reached() {
        let dir = dir();
        let ask = || ask(dir.path(), "main", Importance::Debug).unwrap();
        assert_eq!((ask(), ask()), (1, 2));
        let board = Board::new("main", Importance::Debug, true);
        let mut crier = Crier::open(dir.path(), "main").unwrap();
        assert_eq!(crier.asked(), 2);
        crier.reach(2, &board);
        drop(crier);
        let reached = || look(dir.path(), "main", Importance::Debug).unwrap().reached;
        assert_eq!(reached(), 2);
        std::fs::remove_file(file_of(dir.path(), "main", "asked")).unwrap();
        assert_eq!(ask(), 3);
        let mut crier = Crier::open(dir.path(), "main").unwrap();
        crier.say(&board);
        assert_eq!(reached(), 2, "a new process has forgotten what was reached");
    }

    #[test]
    fn a_torn_notice_is_no_notice() {
        let board = Board::new("main", Importance::Debug, true);
        let bytes = encode(&Notice { pid: 1, at_ns: 2, reached: 3, status: board.status() }).unwrap();
        assert_eq!(bytes.len() % BLOCK_BYTES, 0);
        assert_eq!(decode(&bytes).unwrap().reached, 3);
        for at in [0, 9, HEAD_BYTES, HEAD_BYTES + 20] {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert!(decode(&torn).is_none(), "byte {at}");
        }
        assert!(decode(&bytes[..HEAD_BYTES + 4]).is_none());
    }
}
