//! What drills have shown: a line each in `DATA/drills.jsonl`, the newest last; the monitor shows them.
//!
//! Constraints: bounded; whole or not at all, by a rename. A drill is not failed by a record that cannot be written.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Drills that are kept.
const KEPT_MAX: usize = 200;
const FILE_NAME: &str = "drills.jsonl";

/// One drill that came to a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) drill: String,
    /// When it ended, RFC 3339.
    pub(crate) at: String,
    /// Every promise was kept.
    pub(crate) ok: bool,
    /// None where the drill counts nothing of the kind.
    pub(crate) lost: Option<u64>,
    pub(crate) doubled: Option<u64>,
}

/// Those of this data directory, the oldest first. A line that is none is passed over: it may be a later version's.
pub(crate) fn read(data: &Path) -> anyhow::Result<Vec<Record>> {
    let path = data.join(FILE_NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Adds one; beyond so many the oldest go.
pub(crate) fn add(data: &Path, record: Record) -> anyhow::Result<()> {
    let mut records = read(data)?;
    records.push(record);
    records.drain(..records.len().saturating_sub(KEPT_MAX));
    let (path, aside) = (data.join(FILE_NAME), data.join(format!("{FILE_NAME}.new")));
    let mut file = File::create(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    for record in &records {
        let line = serde_json::to_string(record).context("a drill's record has no JSON form")?;
        writeln!(file, "{line}").with_context(|| format!("cannot write {}", aside.display()))?;
    }
    std::fs::rename(&aside, &path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_a_line_that_is_none_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let record = |n: u64| Record {
            drill: "kill-bot".into(),
            at: format!("2026-01-01T00:00:{:02}Z", n % 60),
            ok: n.is_multiple_of(2),
            lost: Some(n),
            doubled: None,
        };
        std::fs::write(dir.path().join(FILE_NAME), "nonsense\n").unwrap();
        for n in 0..205 {
            add(dir.path(), record(n)).unwrap();
        }
        let kept = read(dir.path()).unwrap();
        assert_eq!((kept.len(), kept.first(), kept.last()), (200, Some(&record(5)), Some(&record(204))));
    }
}
