//! Doing what a plan says.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Error, Result, Server};
use crate::tape::questdb::QuestDbHttp;
use crate::tape::schema::{Action, ActionKind};

/// Pause between two looks at whether a table has caught up; a server applies an ALTER within about 10 ms.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Carries out the actions in order and gives how many statements were run. A plan with a conflict is refused whole,
/// before anything is changed. When this returns Ok, the tables are changed, and a new plan says none. When it fails on
/// the way, what was done stays done; plan and apply again.
///
/// # Errors
/// [`Error::Schema`] naming each conflict with its way out, or a table that does not take changes;
/// [`Error::Deadline`] where a change was taken and is not applied within the client's deadline; otherwise as
/// [`QuestDbHttp::exec`].
pub fn apply(http: &QuestDbHttp, actions: &[Action]) -> Result<usize> {
    let conflicts: Vec<_> = actions
        .iter()
        .filter(|action| action.action == ActionKind::Conflict)
        .map(|action| format!("{}: {}", action.object, action.detail))
        .collect();
    if !conflicts.is_empty() {
        return Err(Error::Schema {
            server: Server::QuestDb,
            what: format!("nothing was changed, because {}", conflicts.join("; and ")),
        });
    }
    let mut done = 0;
    for action in actions {
        if let Some(sql) = &action.sql {
            http.exec(sql)?;
            done += 1;
        }
    }
    for action in actions.iter().filter(|action| action.sql.is_some()) {
        wait_applied(http, action)?;
    }
    Ok(done)
}

/// An ALTER on a WAL table is a transaction like rows are: waits until the table has applied all that it had been given.
fn wait_applied(http: &QuestDbHttp, action: &Action) -> Result<()> {
    let table = action.object.split('.').next().unwrap_or_default();
    let started = Instant::now();
    let mut target = None;
    loop {
        let rows =
            http.exec(&format!("SELECT suspended, writerTxn, sequencerTxn FROM wal_tables() WHERE name = '{table}'"))?;
        let (suspended, writer, sequencer) = match rows.rows.first().map(Vec::as_slice) {
            Some([Value::Bool(suspended), writer, sequencer]) => (*suspended, writer.as_i64(), sequencer.as_i64()),
            _ => (false, None, None),
        };
        if suspended {
            return Err(Error::Schema {
                server: Server::QuestDb,
                what: format!(
                    "table {table} is suspended and applies no change; ALTER TABLE \"{table}\" RESUME WAL first"
                ),
            });
        }
        // Rows that come in meanwhile move the sequencer on; only what was there at the first look counts.
        let target = target.get_or_insert(sequencer);
        if writer.is_some() && writer >= *target {
            return Ok(());
        }
        if started.elapsed() >= http.timeout() {
            return Err(Error::Deadline {
                server: Server::QuestDb,
                what: format!("{} of {}", action.action, action.object),
                after: http.timeout(),
            });
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "QuestDB tells nobody when it has applied; looked at within the deadline"
        )]
        std::thread::sleep(LOOK_EVERY);
    }
}
