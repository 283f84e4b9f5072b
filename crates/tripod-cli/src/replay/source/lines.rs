//! Lines of a plain or gzip file, one at a time, with their numbers.
//!
//! Constraints: a line has at most [`LINE_BYTES_MAX`]; a longer one is reported and skipped without being held. A gzip
//! stream that ends early or fails its checksum is reported once, at the line where it happened, and ends the file.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read as _};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// Bytes of one line at most. The longest real one (a JSON event) has about 400.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

const BUFFER_BYTES: usize = 128 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The line's number and text, or the number and what is wrong with it.
pub(super) type Line = Result<(u64, String), (u64, String)>;

pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    number: u64,
    held_back: Option<String>,
    buffer: Vec<u8>,
    ended: bool,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => "no such file".to_owned(),
            _ => format!("cannot be opened: {error}"),
        })?;
        if file.metadata().is_ok_and(|m| m.is_dir()) {
            return Err("is a directory; name the files in it".into());
        }
        let mut plain = BufReader::with_capacity(BUFFER_BYTES, file);
        let is_gzip = plain.fill_buf().map_err(|error| format!("cannot be read: {error}"))?.starts_with(&GZIP_MAGIC);
        let reader: Box<dyn BufRead + Send> = if is_gzip {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(plain)))
        } else {
            Box::new(plain)
        };
        Ok(Self { reader, number: 0, held_back: None, buffer: Vec::new(), ended: false })
    }

    /// Makes the line just read the next one again.
    pub(super) fn put_back(&mut self, line: String) {
        self.number -= 1;
        self.held_back = Some(line);
    }

    /// Reads on to the end of a line that is too long.
    fn skip_rest(&mut self) -> std::io::Result<()> {
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                return Ok(());
            }
            if let Some(end) = chunk.iter().position(|b| *b == b'\n') {
                self.reader.consume(end + 1);
                return Ok(());
            }
            let length = chunk.len();
            self.reader.consume(length);
        }
    }

    fn broken_stream(&mut self, error: &std::io::Error) -> Line {
        self.ended = true;
        let what = match error.kind() {
            ErrorKind::UnexpectedEof => "the gzip file ends in the middle (an incomplete download or copy?)".to_owned(),
            _ => format!("cannot be read on from here: {error}"),
        };
        Err((self.number, what))
    }
}

impl Iterator for Lines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.ended {
            return None;
        }
        self.number += 1;
        if let Some(text) = self.held_back.take() {
            return Some(Ok((self.number, text)));
        }
        self.buffer.clear();
        let limit = u64::try_from(LINE_BYTES_MAX + 1).unwrap_or(u64::MAX);
        match self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer) {
            Ok(0) => {
                self.ended = true;
                return None;
            }
            Ok(_) => {}
            Err(error) => return Some(self.broken_stream(&error)),
        }
        if self.buffer.len() > LINE_BYTES_MAX && self.buffer.last() != Some(&b'\n') {
            if let Err(error) = self.skip_rest() {
                return Some(self.broken_stream(&error));
            }
            return Some(Err((
                self.number,
                format!("has more than {LINE_BYTES_MAX} bytes; this is not a line of data"),
            )));
        }
        while self.buffer.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            self.buffer.pop();
        }
        let text = match std::str::from_utf8(&self.buffer) {
            Ok(text) => text,
            Err(error) => {
                return Some(Err((
                    self.number,
                    format!("is not UTF-8 (byte {} of the line)", error.valid_up_to() + 1),
                )));
            }
        };
        if text.contains('\0') {
            return Some(Err((self.number, "has a NUL byte; this is not text".into())));
        }
        // Spreadsheets put a byte order mark before the first line.
        let text = if self.number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        Some(Ok((self.number, text.to_owned())))
    }
}
