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
    wait_table(http, table, &|| format!("{} of {}", action.action, action.object))
}

/// Waits until `table` has applied all that it had been given before the call; `what` says for what, in an error.
///
/// # Errors
/// As [`apply`].
pub fn wait_table(http: &QuestDbHttp, table: &str, what: &dyn Fn() -> String) -> Result<()> {
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
            return Err(Error::Deadline { server: Server::QuestDb, what: what(), after: http.timeout() });
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "QuestDB tells nobody when it has applied; looked at within the deadline"
        )]
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::config::QuestDb;

    /// Takes every statement and says of every table what `state` is.
    fn server_that_says(state: &'static str) -> QuestDbHttp {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = QuestDb { http: listener.local_addr().unwrap().to_string(), ..QuestDb::default() };
        // Ends with the test binary.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
                let body = match head.contains("wal_tables") {
                    true => format!(r#"{{"columns":[],"dataset":[{state}]}}"#),
                    false => r#"{"ddl":"OK"}"#.to_owned(),
                };
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.get_mut().write_all((head + &body).as_bytes()).unwrap();
            }
        });
        QuestDbHttp::new(&config, Duration::from_millis(300)).unwrap()
    }

    fn set_ttl() -> Vec<Action> {
        vec![Action {
            object: "fills".into(),
            action: ActionKind::SetTtl,
            detail: String::new(),
            sql: Some("ALTER TABLE \"fills\" SET TTL 30 DAYS".into()),
        }]
    }

    #[test]
    fn a_table_that_has_caught_up_is_changed() {
        assert_eq!(apply(&server_that_says("[false,7,7]"), &set_ttl()).unwrap(), 1);
    }

    #[test]
    fn a_suspended_table_is_told_of_with_the_way_out_not_waited_for() {
        let error = apply(&server_that_says("[true,6,7]"), &set_ttl()).unwrap_err();
        assert!(matches!(error, Error::Schema { .. }), "{error:?}");
        assert!(error.to_string().contains("ALTER TABLE \"fills\" RESUME WAL"), "{error}");
    }

    #[test]
    fn a_change_that_is_not_applied_in_time_is_not_called_done() {
        let error = apply(&server_that_says("[false,6,7]"), &set_ttl()).unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
        assert!(error.to_string().contains("set ttl of fills"), "{error}");
    }
}
