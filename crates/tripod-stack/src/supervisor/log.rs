//! The supervisor's own log, and the bound of every log.

use std::fs::File;
use std::io::Write as _;

use crate::error::Result;
use crate::layout::Layout;
use crate::server::open_log;
use crate::state::Stack;

/// Size at which a log is put aside; with the one before it a server keeps at most twice this, and what it writes in
/// the five seconds between two looks.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// The supervisor's own log.
pub(crate) struct Log {
    file: File,
}

impl Log {
    pub(crate) fn open(layout: &Layout) -> Result<Self> {
        Ok(Self { file: open_log(&layout.supervisor_log())? })
    }

    /// Writes a line with the time before it.
    pub(crate) fn line(&mut self, text: &str) {
        // A full disk must not end the supervisor.
        let _ = writeln!(self.file, "{:.3} {text}", jiff::Timestamp::now());
    }

    /// Keeps each log of the stack below its bound: copied aside and emptied. The writers append, so they go on at the
    /// new end; what they write between the copy and the emptying is lost, which a log can bear.
    pub(crate) fn bound_all(&mut self, stack: &Stack) {
        let servers = stack.state.servers.iter().map(|server| stack.layout.log(server));
        for path in servers.chain([stack.layout.supervisor_log()]) {
            if std::fs::metadata(&path).map_or(0, |meta| meta.len()) < LOG_BYTES_MAX {
                continue;
            }
            let aside = path.with_extension("log.1");
            let cut = std::fs::copy(&path, &aside).and_then(|_| File::options().write(true).open(&path)?.set_len(0));
            if let Err(error) = cut {
                self.line(&format!("{} cannot be cut: {error}", path.display()));
            }
        }
    }
}
