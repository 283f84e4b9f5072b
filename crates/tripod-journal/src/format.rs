//! The form of a journal's files: one number for all of them together.
//!
//! # Constraints
//! - Whoever changes the form of any file raises [`FORMAT`], goes on reading the older forms, and adds a journal of the
//!   form before to the fixtures (`crates/tripod/tests/fixtures`), where a test delivers it row for row.
//! - A release that meets a newer form refuses it, names it, and changes nothing. For that the first sixteen bytes of
//!   `counts` (magic, number) stay where they are for ever, and so does the fixed part of a segment's header with its
//!   checksum.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::layout::Fields;
use crate::segment::{self, View};
use crate::{Error, counts};

/// What this release writes.
pub(crate) const FORMAT: u32 = 1;

/// Refuses a journal of a newer form: one whose counts say so, and a segment too, whose header has a checksum. A number
/// that stands alone is damage, and left to those who read the file.
pub(crate) fn check(dir: &Path) -> Result<(), Error> {
    let path = counts::path_in(dir);
    let mut head = [0; 16];
    match File::open(&path).and_then(|file| file.read_exact_at(&mut head, 0)) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => return Ok(()),
        Err(error) => return Err(Error::io("read", &path)(error)),
    }
    let mut fields = Fields(&head);
    let (magic, number) = (fields.u64(), fields.u64());
    if magic != Some(counts::MAGIC) || number.is_none_or(|number| number <= u64::from(FORMAT)) {
        return Ok(());
    }
    let segments = dir.join("segments");
    for id in segment::list(&segments)? {
        // What else is wrong with a segment is said where it is read.
        if let Ok(Some(mut view)) = View::open(&segments, id)
            && let Err(Error::Newer { format, .. }) = view.header()
        {
            return Err(Error::Newer { path, format });
        }
    }
    Ok(())
}
