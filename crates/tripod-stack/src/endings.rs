//! How often each server ended by itself since the last start of the stack, and how it did last.
//!
//! Constraints: counted by the supervisor, begun anew by `up`; read by `up` (which stops waiting for a server that keeps ending) and by
//! `check` (which says so). One small file per server, replaced each time, so it does not grow.

use serde::{Deserialize, Serialize};

use crate::ServerName;
use crate::error::{During as _, Error, Result};
use crate::layout::Layout;
use crate::secrets::write_private;

/// The ends of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endings {
    /// How many.
    pub(crate) count: u32,
    /// The last one, in words.
    pub(crate) last: String,
}

/// Those recorded; none where nothing can be read.
pub(crate) fn of(layout: &Layout, server: ServerName) -> Endings {
    let text = std::fs::read_to_string(layout.endings(server)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Adds one.
pub(crate) fn add(layout: &Layout, server: ServerName, last: &str) -> Result<()> {
    let path = layout.endings(server);
    let endings = Endings { count: of(layout, server).count.saturating_add(1), last: last.to_owned() };
    let text = serde_json::to_string(&endings)
        .map_err(|e| Error::State { path: path.clone(), what: format!("cannot be written: {e}") })?;
    write_private(&path, &text, None)
}

/// Begins anew.
pub(crate) fn forget(layout: &Layout, server: ServerName) -> Result<()> {
    let path = layout.endings(server);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).during("remove", &path),
        _ => Ok(()),
    }
}
