//! Rows that QuestDB refused, kept with the reason until somebody has looked at them.
//!
//! Constraints: a row is durable here (written and synced) before the cursor passes it. The file has its own budget; at
//! the limit the sink waits rather than losing a row. One JSON document a line, so that `grep` and `jq` read it at
//! 3 a.m. without Tripod. A row is in it once, also where the process died between the quarantine and the cursor.
//!
//! Picture: `JOURNALS/<bot>/quarantine/<sink>-<class>.jsonl`
//! ```text
//! {"quarantined_at":"2026-…Z","table":"executions","reason":"refused","words":"…",
//!  "segment":7,"offset":4096,"row":{"price":"1.5","route":null,…},"payload":"base64"}
//! ```
//! `row` is for people; `payload` is the row's own bytes, with which it can be sent again exactly.

mod keep;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use tripod_journal::Position;

use crate::error::{Error, Result};
use crate::tape::encode::{self, Value};
use crate::tape::sink::Unfit;
use crate::tape::spec::{Importance, TableSpec};
use crate::value::Timestamp;

pub use keep::{QuarantineFile, drop_rows, files, retry_rows};

/// What one file may grow to. More room would only let a wrong schema condemn more rows before somebody looks; less
/// would stop the sink at a burst of bad rows (this holds some 60,000).
const BUDGET_BYTES: u64 = 64 * 1024 * 1024;

/// Why a row is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Reason {
    /// QuestDB refused it.
    Refused,
    /// It is too old for its table: sent, it would vanish and take its rollup bucket along.
    Expired,
    /// Its bytes do not match its spec.
    Unreadable,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quarantined {
    /// When it came here, RFC 3339.
    pub quarantined_at: String,
    /// Its table, without the prefix; empty where the journal has no spec of it.
    pub table: String,
    /// Why it is here.
    pub reason: Reason,
    /// The server's words, or Tripod's.
    pub words: String,
    /// Where the journal has it: the segment,
    pub segment: u64,
    /// and the byte in its file.
    pub offset: u64,
    /// Its columns as text; `null` is NULL. Empty where the bytes cannot be read.
    pub row: Map<String, Json>,
    /// Its bytes, base64.
    pub payload: String,
}

/// One sink's quarantine of one class, open for adding.
#[derive(Debug)]
pub(super) struct Quarantine {
    path: PathBuf,
    file: File,
    bytes: u64,
    budget_bytes: u64,
    /// The rows in the file, by place and content (a journal that was made anew uses the same places again). Bounded by
    /// the budget.
    held: HashSet<(Position, u64)>,
}

/// The file of one sink and class.
pub fn path(journal_dir: &Path, sink: &str, class: Importance) -> PathBuf {
    journal_dir.join("quarantine").join(format!("{sink}-{}.jsonl", class.as_str()))
}

/// Reads a quarantine file; one that does not exist is empty. A last line that a crash cut off is left out: its row is
/// still in the journal, before the cursor.
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::Invalid`] naming the line that is not a quarantined row.
pub fn read(path: &Path) -> Result<Vec<Quarantined>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed("open", path, source)),
    };
    let mut rows = Vec::new();
    whole_lines(BufReader::new(file), path, |number, line| {
        rows.push(serde_json::from_str(line).map_err(|e| {
            Error::invalid(format!("{} line {number}", path.display()), format!("is not a quarantined row: {e}"))
        })?);
        Ok(())
    })?;
    Ok(rows)
}

impl Quarantine {
    /// Opens the file of one sink and class, makes it where there is none, and cuts off what a crash left half written.
    ///
    /// # Errors
    /// As [`read`].
    pub(super) fn open(journal_dir: &Path, sink: &str, class: Importance) -> Result<Self> {
        Self::open_at(path(journal_dir, sink, class), BUDGET_BYTES)
    }

    fn open_at(path: PathBuf, budget_bytes: u64) -> Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|e| failed("create", dir, e))?;
        }
        let is_new = !path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("open", &path, e))?;
        if is_new && let Some(dir) = path.parent() {
            // Else a power loss could take the file's name, and with it the rows that were synced into it.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| failed("sync", dir, e))?;
        }
        let mut held = HashSet::new();
        let whole = whole_lines(BufReader::new(&file), &path, |number, line| {
            let row: Quarantined = serde_json::from_str(line).map_err(|e| {
                Error::invalid(format!("{} line {number}", path.display()), format!("is not a quarantined row: {e}"))
            })?;
            let position = Position { segment: row.segment, offset: row.offset };
            held.insert((position, fingerprint(&row.payload)));
            Ok(())
        })?;
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole))).map_err(|e| failed("cut", &path, e))?;
        Ok(Self { path, file, bytes: whole, budget_bytes, held })
    }

    /// Adds rows; when it returns Ok they are on the disk. A row that is there already is not added again.
    ///
    /// # Errors
    /// [`Error::Invalid`] at the budget, [`Error::File`] where the disk fails; then none of them is in the file.
    pub(super) fn put<'a>(
        &mut self,
        rows: impl Iterator<Item = (Position, Option<&'a TableSpec>, &'a [u8], &'a Unfit)>,
    ) -> Result<()> {
        let mut text = Vec::new();
        let mut added_rows = Vec::new();
        for (position, spec, payload, why) in rows {
            let line = describe(position, spec, payload, why);
            let row = (position, fingerprint(&line.payload));
            if self.held.contains(&row) {
                continue;
            }
            serde_json::to_writer(&mut text, &line).map_err(|e| Error::invalid("quarantined row", e.to_string()))?;
            text.push(b'\n');
            added_rows.push(row);
        }
        if text.is_empty() {
            return Ok(());
        }
        let added = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if self.bytes.saturating_add(added) > self.budget_bytes {
            return Err(Error::invalid(
                format!("quarantine {}", self.path.display()),
                format!(
                    "is at its limit of {} MiB; see why rows are refused, then retry or drop them",
                    self.budget_bytes / 1024 / 1024
                ),
            ));
        }
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        if let Err(e) = written {
            // Half a line would make the whole file unreadable for the next process.
            let cut = self.file.set_len(self.bytes).and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)));
            if let Err(e) = cut {
                tracing::error!(path = %self.path.display(), error = %e, "a half-written line could not be cut off");
            }
            return Err(failed("write", &self.path, e));
        }
        self.bytes += added;
        self.held.extend(added_rows);
        Ok(())
    }
}

fn describe(position: Position, spec: Option<&TableSpec>, payload: &[u8], why: &Unfit) -> Quarantined {
    let (reason, words) = match why {
        Unfit::Expired(words) => (Reason::Expired, words),
        Unfit::Unreadable(words) => (Reason::Unreadable, words),
        Unfit::Refused(words) => (Reason::Refused, words),
    };
    let columns = spec.map(|spec| (spec, encode::decode(spec, payload).unwrap_or_default()));
    let row = columns.iter().flat_map(|(spec, values)| {
        spec.columns.iter().zip(values).map(|(column, value)| (column.name.clone(), as_text(value)))
    });
    Quarantined {
        quarantined_at: Timestamp::now().to_string(),
        table: spec.map(|spec| spec.name.clone()).unwrap_or_default(),
        reason,
        words: words.clone(),
        segment: position.segment,
        offset: position.offset,
        row: row.collect(),
        payload: BASE64.encode(payload),
    }
}

fn fingerprint(payload: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

fn as_text(value: &Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(v) => v.to_string().into(),
        Value::Long(v) => v.to_string().into(),
        Value::Double(v) => v.to_string().into(),
        Value::Decimal(v) => v.to_string().into(),
        Value::Unsigned(v) => v.to_string().into(),
        Value::Timestamp(v) => v.to_string().into(),
        Value::Uuid(v) => v.to_string().into(),
        Value::Symbol(v) | Value::Text(v) => (*v).into(),
    }
}

/// Calls `each` with number and text of every line that ends; returns how many bytes these have.
fn whole_lines(mut reader: impl BufRead, path: &Path, mut each: impl FnMut(u64, &str) -> Result<()>) -> Result<u64> {
    let (mut whole, mut number, mut line) = (0_u64, 0_u64, String::new());
    loop {
        line.clear();
        let read = reader.read_line(&mut line).map_err(|e| failed("read", path, e))?;
        if !line.ends_with('\n') {
            return Ok(whole);
        }
        number += 1;
        each(number, line.trim_end())?;
        whole += u64::try_from(read).unwrap_or(u64::MAX);
    }
}

fn failed(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { segment: 1, offset }
    }

    fn put(quarantine: &mut Quarantine, rows: &[(u64, &[u8])]) -> Result<()> {
        let why = Unfit::Refused("cast error".into());
        quarantine.put(rows.iter().map(|(offset, payload)| (at(*offset), None, *payload, &why)))
    }

    #[test]
    fn a_row_is_in_it_once_over_a_crash_between_quarantine_and_cursor() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "main", Importance::Critical);
        let mut first = Quarantine::open(dir.path(), "main", Importance::Critical).unwrap();
        put(&mut first, &[(8, b"one"), (16, b"two")]).unwrap();
        drop(first);
        let mut again = Quarantine::open(dir.path(), "main", Importance::Critical).unwrap();
        put(&mut again, &[(8, b"one"), (16, b"two"), (24, b"three"), (8, b"of a journal made anew")]).unwrap();
        let rows = read(&path).unwrap();
        let payloads: Vec<_> = rows.iter().map(|row| BASE64.decode(&row.payload).unwrap()).collect();
        assert_eq!(payloads, [&b"one"[..], b"two", b"three", b"of a journal made anew"]);
        assert_eq!((rows[0].reason, rows[0].words.as_str()), (Reason::Refused, "cast error"));
    }

    #[test]
    fn a_half_written_line_is_cut_off_and_its_row_comes_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "main", Importance::Debug);
        let mut first = Quarantine::open(dir.path(), "main", Importance::Debug).unwrap();
        put(&mut first, &[(8, b"one")]).unwrap();
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"quarantined_at\":\"2026").unwrap();
        assert_eq!(read(&path).unwrap().len(), 1);
        let mut again = Quarantine::open(dir.path(), "main", Importance::Debug).unwrap();
        put(&mut again, &[(16, b"two")]).unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
    }

    #[test]
    fn at_the_budget_nothing_of_the_call_is_taken_and_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        let mut small = Quarantine::open_at(path.clone(), 400).unwrap();
        put(&mut small, &[(8, b"one")]).unwrap();
        let refused = put(&mut small, &[(16, b"two"), (24, b"three")]).unwrap_err();
        assert!(refused.to_string().contains("retry or drop"), "{refused}");
        assert_eq!(read(&path).unwrap().len(), 1);
    }

    #[test]
    fn a_line_that_is_no_row_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1"));
        assert!(Quarantine::open_at(path, BUDGET_BYTES).is_err());
    }
}
