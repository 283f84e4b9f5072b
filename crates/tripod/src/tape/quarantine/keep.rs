//! What becomes of quarantined rows once somebody has looked: dropped for good, or recorded again.
//!
//! Constraints: a file is changed only under its sink's lock, so never beside a sink that adds to it. The new file
//! replaces the old one whole (temporary file, sync, rename): a crash leaves one of the two. A row is recorded again
//! before it is taken out, so that a crash in between leaves it in both places, which DEDUP makes harmless.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tripod_journal::{Catalog, Sink};

use super::{BASE64, Engine as _, Quarantined, as_text, failed, path, read};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::tape::encode;
use crate::tape::open_journal;
use crate::tape::spec::{Importance, TableSpec};

/// A quarantine file and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuarantineFile {
    /// The sink whose server refused the rows.
    pub sink: String,
    /// The class of their journal.
    pub class: Importance,
    /// The file.
    pub path: PathBuf,
    /// Its rows, oldest first.
    pub rows: Vec<Quarantined>,
}

/// Every quarantine file of a bot, by class and sink.
///
/// # Errors
/// As [`read`].
pub fn files(journal_dir: &Path) -> Result<Vec<QuarantineFile>> {
    let dir = journal_dir.join("quarantine");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("list", &dir, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| failed("list", &dir, e))?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let Some((sink, class)) = path.file_stem().and_then(|stem| stem.to_str()).and_then(sink_and_class) else {
            continue;
        };
        let (sink, rows) = (sink.to_owned(), read(&path)?);
        found.push(QuarantineFile { sink, class, path, rows });
    }
    found.sort_by(|a, b| (a.class, &a.sink).cmp(&(b.class, &b.sink)));
    Ok(found)
}

fn sink_and_class(stem: &str) -> Option<(&str, Importance)> {
    let (sink, class) = stem.rsplit_once('-')?;
    let class = Importance::ALL.into_iter().find(|known| known.as_str() == class)?;
    Some((sink, class))
}

/// Takes rows out of a sink's quarantine for good. The ledger goes on counting them as quarantined: that is what became
/// of them. Gives how many were taken out; when it returns Ok that is on the disk.
///
/// # Errors
/// [`Error::Conflict`] while the sink runs; [`Error::File`], [`Error::Invalid`] where the file cannot be read or written.
pub fn drop_rows(
    journal_dir: &Path,
    sink: &str,
    class: Importance,
    wanted: impl Fn(&Quarantined) -> bool,
) -> Result<usize> {
    let _lock = lock(journal_dir, sink, class)?;
    take_out(&path(journal_dir, sink, class), wanted)
}

/// Records rows of a sink's quarantine again, exactly as they were, and takes them out. They go to every sink of the
/// bot; where a row is already, DEDUP makes one of the two. The ledger counts them once more as recorded. The next
/// start of the bot, or `tripod deliver`, delivers them. Gives how many were recorded.
///
/// # Errors
/// As [`drop_rows`]; [`Error::Conflict`] while the bot runs; [`Error::Invalid`] naming the first row that no spec of the
/// journal fits: nothing is recorded then.
pub fn retry_rows(
    config: &Config,
    sink: &str,
    class: Importance,
    wanted: impl Fn(&Quarantined) -> bool,
) -> Result<usize> {
    let journal_dir = config.journal_dir();
    let _lock = lock(&journal_dir, sink, class)?;
    let path = path(&journal_dir, sink, class);
    let specs = specs(&journal_dir.join(class.as_str()))?;
    let mut again = Vec::new();
    for row in read(&path)?.into_iter().filter(&wanted) {
        let payload = BASE64
            .decode(&row.payload)
            .map_err(|e| Error::invalid(place(&row), format!("has a payload that is not base64: {e}")))?;
        let spec = specs.iter().rev().find(|spec| fits(spec, &row, &payload)).ok_or_else(|| {
            Error::invalid(place(&row), "fits no table that the journal knows; it can only be dropped")
        })?;
        again.push((spec, payload));
    }
    if again.is_empty() {
        return Ok(0);
    }
    let journal = open_journal(config, class).map_err(held)?;
    for (spec, payload) in &again {
        let schema = journal.register(&spec.name, &spec.to_json()?)?;
        let fill = |out: &mut [u8]| -> Result<(), std::convert::Infallible> {
            out.copy_from_slice(payload);
            Ok(())
        };
        journal
            .append(schema, payload.len(), fill)
            .map_err(|e| Error::CannotRecord { table: spec.name.clone(), why: e.to_string() })?;
    }
    journal.close(std::time::Duration::from_secs(10))?;
    take_out(&path, wanted)?;
    Ok(again.len())
}

/// A spec under which the bytes read as the columns that were noted beside them.
fn fits(spec: &TableSpec, row: &Quarantined, payload: &[u8]) -> bool {
    spec.name == row.table
        && spec.columns.len() == row.row.len()
        && encode::decode(spec, payload).is_ok_and(|values| {
            spec.columns.iter().zip(&values).all(|(column, value)| row.row.get(&column.name) == Some(&as_text(value)))
        })
}

fn place(row: &Quarantined) -> String {
    format!("the quarantined row of `{}` from segment {} byte {}", row.table, row.segment, row.offset)
}

fn specs(dir: &Path) -> Result<Vec<TableSpec>> {
    Catalog::read(dir)?.entries().iter().map(|entry| TableSpec::from_json(&entry.text)).collect()
}

fn lock(journal_dir: &Path, sink: &str, class: Importance) -> Result<Sink> {
    Sink::open(&journal_dir.join(class.as_str()), sink).map_err(|e| held(e.into()))
}

fn held(error: Error) -> Error {
    let Error::Journal(tripod_journal::Error::Locked { pid, path }) = error else { return error };
    let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Error::conflict(
        "the quarantine",
        format!("is in use: {holder} holds {}; end the bot (or `tripod deliver`) first", path.display()),
    )
}

fn take_out(path: &Path, wanted: impl Fn(&Quarantined) -> bool) -> Result<usize> {
    let (gone, kept): (Vec<_>, Vec<_>) = read(path)?.into_iter().partition(wanted);
    if gone.is_empty() {
        return Ok(0);
    }
    let mut text = Vec::new();
    for row in &kept {
        serde_json::to_writer(&mut text, row).map_err(|e| Error::invalid("quarantined row", e.to_string()))?;
        text.push(b'\n');
    }
    let new = path.with_extension("new");
    File::create(&new)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .map_err(|e| failed("write", &new, e))?;
    std::fs::rename(&new, path).map_err(|e| failed("replace", path, e))?;
    if let Some(dir) = path.parent() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| failed("sync", dir, e))?;
    }
    Ok(gone.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_tells_sink_and_class() {
        assert_eq!(sink_and_class("main-critical"), Some(("main", Importance::Critical)));
        assert_eq!(sink_and_class("replica-2-debug"), Some(("replica-2", Importance::Debug)));
        assert_eq!(sink_and_class("main-urgent"), None);
        assert_eq!(sink_and_class("main"), None);
    }
}
