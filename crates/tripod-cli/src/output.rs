//! Data on stdout, words on stderr.
//!
//! Constraints: with `--json` stdout carries exactly one JSON document: the command's own, or, where it failed before
//! there was one, `{"error":{"message","hint","exit"}}`. A reader that goes away (`tripod status | head -1`) ends the
//! output quietly and changes no exit code. Progress is drawn on a terminal only. What files and servers say reaches no
//! terminal as it is: control characters and those that turn the direction of writing are written out.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Whether this process has written its document.
static DOCUMENT_IS_OUT: AtomicBool = AtomicBool::new(false);

/// Where a command's words and data go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// One sentence for the operator.
    pub(crate) fn say(self, words: impl AsRef<str>) {
        if !self.quiet {
            complain(words.as_ref());
        }
    }

    /// The command's result: `human()` as it is, or `document` as JSON.
    pub(crate) fn result(self, document: &impl Serialize, human: impl FnOnce() -> String) -> anyhow::Result<()> {
        let mut text = if self.json { as_json(document)? } else { harmless(&human()).into_owned() };
        DOCUMENT_IS_OUT.store(true, Ordering::Relaxed);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        print(&text)
    }

    /// One of many results, as they come: `human()` as it is, or `document` as JSON on a line of its own.
    pub(crate) fn line(self, document: &impl Serialize, human: impl FnOnce() -> String) -> anyhow::Result<()> {
        self.result(document, human)
    }

    /// As [`Output::line`], for a command that goes on by itself: false where nobody reads any more.
    pub(crate) fn line_to_reader(self, document: &impl Serialize, human: impl FnOnce() -> String) -> anyhow::Result<bool> {
        let text = if self.json { as_json(document)? } else { harmless(&human()).into_owned() };
        DOCUMENT_IS_OUT.store(true, Ordering::Relaxed);
        print_to_reader(&(text + "\n"))
    }

    /// The document of a command that failed; nothing where its own is out already, or none is asked for.
    pub(crate) fn failure(self, message: &str, hint: &str, exit: u8) {
        if !self.json || DOCUMENT_IS_OUT.swap(true, Ordering::Relaxed) {
            return;
        }
        let document = serde_json::json!({"error": {"message": message, "hint": hint, "exit": exit}});
        // The words on stderr and the exit code say it in any case.
        let _ = as_json(&document).and_then(|text| print(&(text + "\n")));
    }

    /// A bar of `total` steps; it draws only on a terminal.
    pub(crate) fn progress(self, what: &str, total: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(total), self.draw_target());
        bar.set_style(
            ProgressStyle::with_template("{msg:<24} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(what.to_owned());
        bar
    }

    /// A spinner for work of unknown length; it draws only on a terminal.
    pub(crate) fn spinner(self, what: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.draw_target());
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    fn draw_target(self) -> ProgressDrawTarget {
        if self.quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        }
    }
}

/// Writes to stdout; a reader that has gone away is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_to_reader(text).map(drop)
}

/// The same, and whether somebody still reads.
pub(crate) fn print_to_reader(text: &str) -> anyhow::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}

/// Writes one line to stderr; there is nobody to tell when that fails.
pub(crate) fn complain(text: &str) {
    complain_in_colour(&harmless(text));
}

/// [`complain`] with the colours that the caller put in.
pub(crate) fn complain_in_colour(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `text` with everything that would steer a terminal written out, as in `\u{1b}`.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            let _ = write!(clean, "{}", c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// JSON escapes most control characters by itself. The others stand in strings only, where `\uXXXX` means the same.
fn as_json(document: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(document).context("cannot write the result as JSON")?;
    if !text.chars().any(steers) {
        return Ok(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            let _ = write!(clean, "\\u{:04x}", u32::from(c));
        } else {
            clean.push(c);
        }
    }
    Ok(clean)
}

/// Control characters but for the end of a line and the tab, and those that turn the direction of writing.
fn steers(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Somebody else's words in one line of at most `chars_max` characters.
pub(crate) fn one_line(words: &str, chars_max: usize) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// `1 row`, `2 rows`.
pub(crate) fn counted(count: impl TryInto<u64>, what: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A table without lines, as wide as it needs to be.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// The table as text, without the blanks around it.
pub(crate) fn table_text(table: &Table) -> String {
    table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned() + "\n").collect()
}

/// Numbers under one another.
pub(crate) fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
}

/// Bytes as mebibytes, for people.
pub(crate) fn mebibytes(bytes: u64) -> String {
    const MEBIBYTE: u64 = 1024 * 1024;
    // Rounded up: what is not nothing does not look like it.
    let tenths = bytes.saturating_mul(10).div_ceil(MEBIBYTE);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_written_out_and_lines_stay() {
        assert_eq!(harmless("a\tb\nc é"), "a\tb\nc é");
        assert_eq!(harmless("\u{1b}[2J\r\u{202e}x\u{9b}"), "\\u{1b}[2J\\u{d}\\u{202e}x\\u{9b}");
    }

    #[test]
    fn json_means_the_same_and_has_nothing_raw_in_it() {
        let words = "\u{1b}[2J\u{7f}\u{9b}\u{202e}\n";
        let text = as_json(&words).unwrap();
        assert!(text.is_ascii() && !text.chars().any(char::is_control), "{text:?}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), words);
    }

    #[test]
    fn words_of_others_are_one_line_of_a_limited_length() {
        assert_eq!(one_line("a\r\n  b\tc", 9), "a b c");
        assert_eq!(one_line(&"é".repeat(500), 3), "ééé…");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n: u64| counted(n, "row")), ["0 rows", "1 row", "2 rows"]);
    }
}
