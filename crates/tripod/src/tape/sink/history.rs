//! What a server had at which place of the journal: from it a sink knows how far to go back when the server forgot.
//!
//! Constraints: bounded in memory and on disk (one entry a second for [`FINE`], one a minute for as long as segments are
//! kept, at most [`ENTRIES_MAX`]). Beside the journal, so that a restarted bot has it too. A torn or damaged line is left
//! out, never believed: each carries its checksum. Losing the file costs a longer way back, never a row.
//!
//! Picture: `JOURNALS/<bot>/<class>/sinks/<sink>.history`, oldest first
//! ```text
//! 1f0c55aa {"at_ns":…,"started":"2026-…Z","server_at":"2026-…Z","cursor":"base64",
//!           "tables":{"executions":{"id":7,"txn":512,"rows":90100,…}},"tally":{"3":{…}}}
//! ```
//! Operation: each look at the server that finds something new adds a line; a file with twice the lines that are wanted
//! is written anew beside itself and renamed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};
use tripod_journal::Cursor;

use super::tally::Settled;
use crate::error::{Error, Result};
use crate::value::Timestamp;

/// Between two entries, at least.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// How far back each second has its entry; before that each minute.
const FINE: Duration = Duration::from_mins(10);
const COARSE: Duration = Duration::from_mins(1);
/// Entries at most, about 1 KiB each: two days of minutes. With `keep_hours` beyond that the minutes become longer.
const ENTRIES_MAX: u128 = 2_880;
/// Lines that a file may have more than the entries that are wanted, before it is written anew.
const LINES_SPARE: usize = 600;

/// What a server had when the journal was read up to `cursor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// This machine's clock when the look was asked for.
    pub(super) at_ns: i64,
    /// The same by a clock that nobody sets; none in a line of an older release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) steady: Option<Steady>,
    /// When the server said it was started: another text is another run.
    pub(super) started: String,
    /// The server's clock at the look.
    pub(super) server_at: String,
    /// Every row that it passes is answered OK, or in quarantine.
    #[serde(with = "cursor_text")]
    pub(super) cursor: Cursor,
    /// The server's tables, by the name there.
    pub(super) tables: BTreeMap<String, Mark>,
    /// The counts that belong to the cursor, by schema id.
    pub(super) tally: BTreeMap<u16, Settled>,
}

/// The time since the machine was started, and which start that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Steady {
    /// The first half of the kernel's boot id.
    pub(super) boot: u64,
    pub(super) ms: u64,
}

/// A moment by both clocks of this machine: the one that people set, and the one that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    pub(super) steady: Option<Steady>,
}

impl Moment {
    pub(super) fn now() -> Self {
        static BOOT: LazyLock<Option<u64>> = LazyLock::new(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            u64::from_str_radix(&id.replace('-', "").get(..16)?.to_ascii_lowercase(), 16).ok()
        });
        let since_boot = clock_gettime(ClockId::Boottime);
        let ms = |time: Timespec| {
            let seconds = u64::try_from(time.tv_sec).ok()?.checked_mul(1000)?;
            seconds.checked_add(u64::try_from(time.tv_nsec / 1_000_000).ok()?)
        };
        let steady = BOOT.and_then(|boot| Some(Steady { boot, ms: ms(since_boot)? }));
        Self { at: Timestamp::now(), steady }
    }

    /// Whether it was at least so long before `later`: by the clock that people set, and where both are of one start of the
    /// machine by the other too. A clock that was put on makes nothing old.
    pub(super) fn is_before(self, later: Self, by: Duration) -> bool {
        let steady = match (self.steady, later.steady) {
            (Some(this), Some(that)) if this.boot == that.boot => {
                u128::from(that.ms.saturating_sub(this.ms)) >= by.as_millis()
            }
            _ => true,
        };
        steady && later.at.checked_sub(by).is_some_and(|limit| self.at <= limit)
    }
}

/// One table of a server at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The server's number of it; a table that is made anew gets another one. [`GONE`] where it had gone.
    pub(super) id: i64,
    /// Every row before the cursor is in this transaction or an earlier one.
    pub(super) txn: i64,
    /// Rows that a SELECT counted, where the server knew.
    pub(super) rows: Option<i64>,
    /// The oldest row: when it moves, a day's end of life took rows.
    pub(super) oldest: Option<String>,
}

/// The id of a table that was there and is not.
pub(super) const GONE: i64 = -1;

impl Entry {
    /// This machine's clock when the look was asked for.
    pub(super) fn at(&self) -> Timestamp {
        Timestamp::from_nanos(self.at_ns).unwrap_or(Timestamp::EPOCH)
    }

    /// The same by both clocks.
    pub(super) fn moment(&self) -> Moment {
        Moment { at: self.at(), steady: self.steady }
    }

    /// Whether it says anything that `before` did not.
    fn is_news(&self, before: &Self) -> bool {
        self.started != before.started || self.cursor != before.cursor || self.tables != before.tables
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    keep: Duration,
    entries: Vec<Entry>,
    /// In the file, with those that are not wanted any more.
    lines: usize,
    /// The last write failed; said once.
    failing: bool,
}

impl History {
    /// Reads the history of `sink` of the journal in `dir`, of which `keep` is wanted. Lines that are not whole are left
    /// out, and so are entries that lie ahead of `counts`, which belong to the committed cursor: that was put back.
    ///
    /// # Errors
    /// [`Error::File`] where there is a file that cannot be read.
    pub(super) fn open(dir: &Path, sink: &str, keep: Duration, counts: &BTreeMap<u16, Settled>) -> Result<Self> {
        let path = dir.join("sinks").join(format!("{sink}.history"));
        let (mut entries, lines, whole) = read(&path)?;
        if !whole {
            tracing::warn!(path = %path.display(), "a part of a sink's history is damaged and left out");
        }
        entries.retain(|entry| {
            let behind = |(id, then): (&u16, &Settled)| then.passed <= counts.get(id).map_or(0, |now| now.passed);
            entry.tally.iter().all(behind)
        });
        Ok(Self { path, keep, entries, lines, failing: false })
    }

    /// Oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn newest(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// Adds an entry, unless the newest one says the same or is younger than [`EVERY`]. A file that cannot be written is
    /// said and not waited for.
    pub(super) fn add(&mut self, entry: Entry) {
        if let Some(newest) = self.newest() {
            let same_run = newest.started == entry.started;
            let due = entry.at_ns < newest.at_ns || entry.at().since(newest.at()) >= EVERY;
            if !entry.is_news(newest) || (same_run && !due) {
                return;
            }
        }
        let now = entry.at();
        let written = line(&entry).and_then(|line| append(&self.path, &line));
        self.entries.push(entry);
        self.lines += 1;
        thin(&mut self.entries, now, self.keep);
        let written = written.and_then(|()| self.shorten());
        self.note(written);
    }

    /// Forgets all but the first `len` entries: the sink goes back to the last of them. On the disk when it returns, so
    /// that a crash before the cursor is put back leaves an older history and not a false one.
    ///
    /// # Errors
    /// [`Error::File`] where the disk fails.
    pub(super) fn cut(&mut self, len: usize) -> Result<()> {
        self.entries.truncate(len);
        self.lines = self.entries.len();
        rewrite(&self.path, &self.entries).map_err(|source| self.failed(source))
    }

    fn shorten(&mut self) -> io::Result<()> {
        if self.lines > self.entries.len() * 2 + LINES_SPARE {
            rewrite(&self.path, &self.entries)?;
            self.lines = self.entries.len();
        }
        Ok(())
    }

    fn note(&mut self, written: io::Result<()>) {
        match written {
            Err(e) if !self.failing => {
                let path = self.path.display();
                tracing::warn!(%path, error = %e, "a sink's history cannot be kept; after a restart of QuestDB more is sent again");
                self.failing = true;
            }
            Err(_) => {}
            Ok(()) => self.failing = false,
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::File { what: "write", path: self.path.clone(), source }
    }
}

/// Keeps the newest entry of each second or minute, and nothing older than `keep`, but always one.
fn thin(entries: &mut Vec<Entry>, now: Timestamp, keep: Duration) {
    let coarse_ns = (keep.as_nanos() / ENTRIES_MAX).max(COARSE.as_nanos());
    let slot = |entry: &Entry| {
        let step_ns = if now.since(entry.at()) <= FINE { EVERY.as_nanos() } else { coarse_ns };
        (step_ns, i128::from(entry.at_ns) / i128::try_from(step_ns).unwrap_or(i128::MAX))
    };
    let total = entries.len();
    let mut slots = entries.iter().map(slot).collect::<Vec<_>>().into_iter().peekable();
    let mut at = 0;
    entries.retain(|entry| {
        at += 1;
        let last_of_slot = slots.next() != slots.peek().copied();
        at == total || (last_of_slot && now.since(entry.at()) <= keep.max(FINE))
    });
}

fn line(entry: &Entry) -> io::Result<String> {
    let text = serde_json::to_string(entry)?;
    Ok(format!("{:08x} {text}\n", crc32c::crc32c(text.as_bytes())))
}

fn parse(line: &str) -> Option<Entry> {
    let (sum, text) = line.split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (crc32c::crc32c(text.as_bytes()) == sum).then(|| serde_json::from_str(text).ok()).flatten()
}

/// The whole entries of the history of `sink` of the journal in `dir`, oldest first, as they are in the file now.
pub(super) fn entries(dir: &Path, sink: &str) -> Result<Vec<Entry>> {
    Ok(read(&dir.join("sinks").join(format!("{sink}.history")))?.0)
}

/// The whole entries, how many lines there are, and whether all of them are whole.
fn read(path: &Path) -> Result<(Vec<Entry>, usize, bool)> {
    let failed = |source| Error::File { what: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0, true)),
        Err(e) => return Err(failed(e)),
    };
    let (mut entries, mut lines, mut whole) = (Vec::new(), 0, true);
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(failed)?;
        lines += 1;
        match std::str::from_utf8(&line).ok().and_then(parse) {
            Some(entry) => entries.push(entry),
            None => whole = false,
        }
    }
    Ok((entries, lines, whole))
}

/// A line that a crash cut off is ended first, so that it does not spoil this one too.
fn append(path: &Path, line: &str) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut last = *b"\n";
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let start = if last == *b"\n" { "" } else { "\n" };
    file.write_all(format!("{start}{line}").as_bytes())
}

fn rewrite(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let beside = path.with_extension("history.new");
    let mut file = BufWriter::new(File::create(&beside)?);
    for entry in entries {
        file.write_all(line(entry)?.as_bytes())?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&beside, path)
}

/// A cursor in JSON.
mod cursor_text {
    use super::{BASE64, Cursor, Engine};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(cursor: &Cursor, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(cursor.to_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cursor, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text).map_err(D::Error::custom)?;
        Cursor::from_bytes(&bytes).ok_or_else(|| D::Error::custom("not a cursor"))
    }
}

#[cfg(test)]
mod tests;
