//! What a replay does, step by step; the same arguments give the same steps, to the nanosecond, as often as asked.
//!
//! Constraints: the steps are never stored. They are made from the files when the input is checked, when the rows go
//! in, and when the expected rows are needed for the proof: so the proof does not rest on what the sender remembers.

use std::collections::HashMap;
use std::path::PathBuf;

use tripod::{Timestamp, Token};

use super::merge::Merge;
use super::source::{Broken, Event};
use super::timeline::Timeline;
use crate::exit::Stop;

/// The files and how they are played.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    files: Vec<PathBuf>,
    /// Each file's name: the `source` of its quotes.
    names: Vec<Token>,
    start: Timestamp,
    rows: u64,
}

/// One row's turn.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// The file's name.
    pub(crate) source: Token,
    /// The line in it.
    pub(crate) line: u64,
    /// Its recorded time, moved.
    pub(crate) at: Timestamp,
    /// What happened.
    pub(crate) event: Event,
}

impl Script {
    /// Plays `files` so that the first row stands at `start`; ends after `rows` where a number is given.
    pub(crate) fn new(files: Vec<PathBuf>, start: Timestamp, rows: Option<u64>) -> Result<Self, Stop> {
        let mut names = Vec::with_capacity(files.len());
        let mut seen: HashMap<Token, &PathBuf> = HashMap::new();
        for file in &files {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let name = Token::new(name).map_err(|error| {
                Stop::usage(
                    format!("the name of {} cannot be the source of rows: {error}", file.display()),
                    "give the file a plain name of at most 64 letters, digits and -_.",
                )
            })?;
            if let Some(other) = seen.insert(name, file) {
                return Err(Stop::usage(
                    format!(
                        "{} and {} have the same name, which is the key of their rows",
                        other.display(),
                        file.display()
                    ),
                    "name each file once, or rename one of them",
                ));
            }
            names.push(name);
        }
        Ok(Self { files, names, start, rows: rows.unwrap_or(u64::MAX) })
    }

    /// When the first row stands.
    pub(crate) fn start(&self) -> Timestamp {
        self.start
    }

    /// The files' names: the `source` of their quotes.
    pub(crate) fn names(&self) -> &[Token] {
        &self.names
    }

    /// All steps from the first on.
    pub(crate) fn steps(&self) -> Result<Steps<'_>, Broken> {
        Ok(Steps {
            script: self,
            merge: Merge::open(&self.files)?,
            timeline: Timeline::new(self.start),
            left: self.rows,
        })
    }
}

/// The steps of a [`Script`].
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    script: &'a Script,
    merge: Merge,
    timeline: Timeline,
    left: u64,
}

impl Steps<'_> {
    /// How many silences were shortened so far.
    pub(crate) fn silences_cut(&self) -> u64 {
        self.timeline.silences_cut()
    }
}

impl Iterator for Steps<'_> {
    type Item = Result<Step, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let record = match self.merge.next()? {
            Ok(record) => record,
            Err(broken) => return Some(Err(broken)),
        };
        let broken = |what: &str| Broken {
            file: self.script.files.get(record.file).cloned().unwrap_or_default(),
            line: Some(record.line),
            what: what.to_owned(),
        };
        let Some(at) = self.timeline.place(record.at) else {
            return Some(Err(broken("its time is so far from the first row's that it falls outside 1970 to 2261")));
        };
        let Some(source) = self.script.names.get(record.file).copied() else {
            return Some(Err(broken("belongs to no file that was given")));
        };
        let step = Step { source, line: record.line, at, event: record.event };
        if let Err(what) = step.check() {
            return Some(Err(broken(&what)));
        }
        self.left -= 1;
        Some(Ok(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn file(folder: &tempfile::TempDir, name: &str, rows: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("ts,pool,price\n{rows}")).unwrap();
        path
    }

    #[test]
    fn the_same_script_gives_the_same_steps_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let a = file(&folder, "a.csv", "2026-01-01T00:00:05Z,ts1,88.1\n2026-01-01T00:00:07Z,ts1,88.2\n");
        let b = file(&folder, "b.csv", "2026-01-01T00:00:06.000000001Z,ts2,88.3\nbroken\n");
        let script = Script::new(vec![a, b], start(), None).unwrap();
        let play = || {
            let steps = script.steps().unwrap();
            steps
                .map(|step| step.map(|s| (s.source.to_string(), s.line, s.at.to_string())).map_err(|b| b.line))
                .collect::<Vec<_>>()
        };
        let step = |source: &str, line, at: &str| Ok((source.to_owned(), line, at.to_owned()));
        assert_eq!(
            play(),
            [
                step("a.csv", 2, "2026-11-23T10:00:00.000000000Z"),
                step("b.csv", 2, "2026-11-23T10:00:01.000000001Z"),
                Err(Some(3)),
                step("a.csv", 3, "2026-11-23T10:00:02.000000000Z"),
            ]
        );
        assert_eq!(play(), play());
    }

    #[test]
    fn the_number_of_rows_counts_rows_and_not_broken_lines() {
        let folder = tempfile::tempdir().unwrap();
        let rows =
            "broken\n2026-01-01T00:00:05Z,ts1,1\nbroken\n2026-01-01T00:00:05Z,ts1,2\n2026-01-01T00:00:05Z,ts1,3\n";
        let script = Script::new(vec![file(&folder, "a.csv", rows)], start(), Some(2)).unwrap();
        let lines: Vec<_> = script.steps().unwrap().map(|s| s.map(|s| s.line).map_err(|b| b.line)).collect();
        assert_eq!(lines, [Err(Some(2)), Ok(3), Err(Some(4)), Ok(5)]);
    }

    #[test]
    fn two_files_of_one_name_are_refused_because_their_rows_would_replace_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let files = vec![file(&folder, "x/a.csv", ""), file(&folder, "y/a.csv", "")];
        let error = Script::new(files, start(), None).unwrap_err();
        assert!(error.to_string().contains("have the same name"), "{error}");
    }
}
