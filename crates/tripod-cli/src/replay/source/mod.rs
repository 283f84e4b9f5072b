//! Recorded market data as a stream of [`Record`]s.
//!
//! Constraints: numbers and times keep every digit of the file (no float is ever made of them). A line that cannot be
//! read is named by file, line number and what is wrong with it; the lines behind it are still readable. One line at a
//! time is in memory, and a line has a limit, so that neither a large file nor a file of garbage is a danger.
//!
//! Picture:
//! ```text
//! file ─▶ plain or gzip (by its first bytes) ─▶ lines ─▶ format (by its first line) ─▶ time plausible? ─▶ Record
//! ```

mod barter;
mod columns;
mod format;
mod lines;
mod plausible;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tripod::{Decimal, Timestamp, Token};

use format::Format;
use lines::Lines;
pub(crate) use plausible::Plausible;

/// One thing that happened on a market, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Position of the file among those given.
    pub(crate) file: usize,
    /// Line number in it, from 1; the header is line 1.
    pub(crate) line: u64,
    /// The exchange's time where the file has it, else the recorder's.
    pub(crate) at: Timestamp,
    /// What happened.
    pub(crate) event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Two parties traded.
    Trade(Trade),
    /// The best bid and ask of a book.
    Quote(Quote),
    /// A price without a size: an on-chain pool's.
    Price(Price),
}

/// One fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trade {
    pub(crate) venue: Token,
    pub(crate) token: Token,
    pub(crate) id: Token,
    pub(crate) price: Decimal,
    pub(crate) size: Decimal,
    pub(crate) taker: Taker,
}

/// Which side took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taker {
    Buy,
    Sell,
}

/// The best bid and ask; a size is absent where the venue sends none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) venue: Token,
    pub(crate) token: Token,
    pub(crate) bid_price: Decimal,
    pub(crate) bid_size: Option<Decimal>,
    pub(crate) ask_price: Decimal,
    pub(crate) ask_size: Option<Decimal>,
}

/// A price of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Price {
    pub(crate) token: Token,
    pub(crate) price: Decimal,
}

/// A line, or a whole file, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {what}", file.display(), line.map(|n| format!(" line {n}")).unwrap_or_default())]
pub(crate) struct Broken {
    /// The file.
    pub(crate) file: PathBuf,
    /// Its line, from 1; none where the file as a whole is meant.
    pub(crate) line: Option<u64>,
    /// What is wrong.
    pub(crate) what: String,
}

/// One file, read from its start to its end.
#[derive(Debug)]
pub(crate) struct Source {
    path: Arc<Path>,
    file: usize,
    lines: Lines,
    format: Format,
}

impl Source {
    /// Opens `path`, which is number `file` among those given, and recognises its format by its first line.
    pub(crate) fn open(path: &Path, file: usize) -> Result<Self, Broken> {
        let whole = |what: String| Broken { file: path.to_owned(), line: None, what };
        let mut lines = Lines::open(path).map_err(whole)?;
        let first = match lines.next() {
            Some(Ok((_, text))) => text,
            Some(Err((line, what))) => return Err(Broken { file: path.to_owned(), line: Some(line), what }),
            None => return Err(whole("is empty".into())),
        };
        let format = Format::recognise(&first).map_err(whole)?;
        if !format.has_header() {
            lines.put_back(first);
        }
        Ok(Self { path: path.into(), file, lines, format })
    }
}

impl Iterator for Source {
    type Item = Result<Record, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (line, read) = match self.lines.next()? {
                Ok((_, text)) if text.is_empty() => continue,
                Ok((line, text)) => (line, self.format.read(&text)),
                Err((line, what)) => (line, Err(what)),
            };
            return Some(match read {
                Ok((at, event)) => Ok(Record { file: self.file, line, at, event }),
                Err(what) => Err(Broken { file: self.path.to_path_buf(), line: Some(line), what }),
            });
        }
    }
}
