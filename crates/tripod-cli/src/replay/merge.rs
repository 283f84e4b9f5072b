//! Several files as one stream in the order of time.
//!
//! Constraints: each file keeps its own order (real recordings have a few rows out of time order, and so has a real
//! feed); between files the earliest next row goes first, and the file named first at equal times. The same files give
//! the same stream every time: the expected rows are made from it once more at the end.

use std::path::PathBuf;

use super::source::{Broken, Plausible, Record, Source};

/// The merged stream.
#[derive(Debug)]
pub(crate) struct Merge {
    feeds: Vec<Feed>,
}

#[derive(Debug)]
struct Feed {
    source: Plausible<Source>,
    next: Option<Record>,
}

impl Merge {
    /// Opens every file; what is wrong with a whole file is an error here.
    pub(crate) fn open(files: &[PathBuf]) -> Result<Self, Broken> {
        let feeds = files
            .iter()
            .enumerate()
            .map(|(number, path)| {
                let source = Plausible::new(Source::open(path, number)?, path.clone());
                Ok(Feed { source, next: None })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { feeds })
    }
}

impl Iterator for Merge {
    type Item = Result<Record, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        // A broken line has no time: it is handed out as soon as it is met.
        for feed in self.feeds.iter_mut().filter(|feed| feed.next.is_none()) {
            match feed.source.next() {
                Some(Ok(record)) => feed.next = Some(record),
                Some(Err(broken)) => return Some(Err(broken)),
                None => {}
            }
        }
        let earliest = self
            .feeds
            .iter_mut()
            .filter(|feed| feed.next.is_some())
            .min_by_key(|feed| feed.next.as_ref().map(|record| record.at))?;
        earliest.next.take().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "ts,pool,price";

    fn file(folder: &tempfile::TempDir, name: &str, seconds: &[u32]) -> PathBuf {
        let path = folder.path().join(name);
        let rows: String = seconds.iter().map(|s| format!("2026-01-01T00:00:{s:02}Z,ts1,88.1\n")).collect();
        std::fs::write(&path, format!("{HEADER}\n{rows}")).unwrap();
        path
    }

    fn order(files: &[PathBuf]) -> Vec<(usize, u64)> {
        Merge::open(files).unwrap().map(|r| r.unwrap()).map(|r| (r.file, r.line)).collect()
    }

    #[test]
    fn rows_of_several_files_interleave_by_time_and_the_first_file_wins_a_tie() {
        let folder = tempfile::tempdir().unwrap();
        let files = [file(&folder, "a", &[1, 3, 5]), file(&folder, "b", &[2, 3, 4])];
        assert_eq!(order(&files), [(0, 2), (1, 2), (0, 3), (1, 3), (1, 4), (0, 4)]);
    }

    #[test]
    fn a_file_keeps_its_own_order_even_where_its_times_run_back() {
        let folder = tempfile::tempdir().unwrap();
        let files = [file(&folder, "a", &[5, 1, 6]), file(&folder, "b", &[2, 7])];
        assert_eq!(order(&files), [(1, 2), (0, 2), (0, 3), (0, 4), (1, 3)]);
    }
}
