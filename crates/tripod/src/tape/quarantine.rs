//! Rows that QuestDB refused, kept with the reason until somebody has looked at them.
//!
//! Constraints: a row is durable here (written and synced) before the cursor passes it. The file has its own budget; at
//! the limit the sink waits rather than losing a row. One JSON document a line, so that `grep` and `jq` read it at
//! 3 a.m. without Tripod. A row is in it once, also where the process died between the quarantine and the cursor.
//!
//! Picture: `JOURNALS/<bot>/quarantine/<sink>-<class>.jsonl`
//! ```text
//! {"quarantined_at":"2026-…Z","table":"executions","reason":"refused","words":"…",
//!  "position":"…","row":{"price":"1.5","route":null,…},"payload":"base64"}
//! ```
//! `row` is for people; `payload` is the row's own bytes, with which it can be sent again exactly.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
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
    /// Where the journal has it.
    pub position: String,
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
    /// The positions in the file: bounded by the budget.
    held: HashSet<String>,
}

/// The file of one sink and class.
pub(crate) fn path(journal_dir: &Path, sink: &str, class: Importance) -> PathBuf {
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
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("open", &path, e))?;
        let mut held = HashSet::new();
        let whole = whole_lines(BufReader::new(&file), &path, |number, line| {
            let row: Quarantined = serde_json::from_str(line).map_err(|e| {
                Error::invalid(format!("{} line {number}", path.display()), format!("is not a quarantined row: {e}"))
            })?;
            held.insert(row.position);
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
        let mut positions = Vec::new();
        for (position, spec, payload, why) in rows {
            let position = format!("{position:?}");
            if self.held.contains(&position) {
                continue;
            }
            let line = describe(position.clone(), spec, payload, why);
            serde_json::to_writer(&mut text, &line).map_err(|e| Error::invalid("quarantined row", e.to_string()))?;
            text.push(b'\n');
            positions.push(position);
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
        self.held.extend(positions);
        Ok(())
    }
}

fn describe(position: String, spec: Option<&TableSpec>, payload: &[u8], why: &Unfit) -> Quarantined {
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
        position,
        row: row.collect(),
        payload: BASE64.encode(payload),
    }
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
