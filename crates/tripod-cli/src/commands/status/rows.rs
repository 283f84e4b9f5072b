//! The rows: what the ledger says that nobody should have to find in its columns.
//!
//! Constraints: a row that is delivered and not visible is normal for a moment. So it is looked at twice: where neither
//! the count nor the server's table moved meanwhile, and the table has not applied all that it was given, that is wrong.
//! Where the server has applied everything, the rows only wait to be counted: a bot, or `tripod deliver`, does that.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tripod::Config;
use tripod::ledger::{self, LedgerRow};
use tripod::tape::retention::{RetentionState, TableState};

use super::super::ask_questdb;
use super::servers::ANSWER_WITHIN;

/// Between the two looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// What is to be said about the rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) alarms: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Found {
    pub(super) fn extend(&mut self, other: Self) {
        self.alarms.extend(other.alarms);
        self.notes.extend(other.notes);
    }
}

/// How far a server's table is: what it has applied, and what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    applied: u64,
    given: u64,
}

/// Per sink, per table with its prefix; none for a sink that did not answer.
type Servers = BTreeMap<String, Option<BTreeMap<String, Progress>>>;

/// What is judged of a row of the ledger.
#[derive(Debug)]
struct Standing {
    table: String,
    sink: String,
    delivered: u64,
    visible: u64,
    quarantined: u64,
    adds_up: bool,
}

fn standings(ledger: &[LedgerRow]) -> Vec<Standing> {
    let standing = |row: &LedgerRow| Standing {
        table: row.table.clone(),
        sink: row.sink.clone(),
        delivered: row.delivered,
        visible: row.visible,
        quarantined: row.quarantined,
        adds_up: row.adds_up,
    };
    ledger.iter().map(standing).collect()
}

/// What one look at the ledger tells.
pub(super) fn judge(ledger: &[LedgerRow]) -> Found {
    judge_all(&standings(ledger))
}

fn judge_all(rows: &[Standing]) -> Found {
    let mut found = Found::default();
    for row in rows {
        let Standing { table, sink, quarantined, .. } = row;
        if !row.adds_up {
            found.alarms.push(format!("{table} ({sink}): its counts do not add up; a row is missing or counted twice"));
        }
        if *quarantined > 0 {
            found
                .notes
                .push(format!("{table} ({sink}): {quarantined} in quarantine; `tripod journal quarantine` shows why"));
        }
    }
    found
}

/// What the last `tape retention run` left behind. A day that holds its table's TTL up is wrong; one that has time is not.
pub(super) fn retention(config: &Config) -> tripod::Result<Found> {
    let state = RetentionState::read(&config.retention.archive_dir)?;
    let mut found = Found::default();
    for table in state.tables.iter().filter(|table| !table.uncovered.is_empty()) {
        let TableState { server, table: name, wanted_days, ttl_days, uncovered } = table;
        let first = uncovered.first().map(|day| format!("{}: {}", day.day, day.why)).unwrap_or_default();
        let days = crate::output::counted(uncovered.len(), "day");
        let words = format!("{name} ({server}): {days} covered by no archive or rollup; {first}");
        match table.held() {
            true => found.alarms.push(format!("{words}; kept {ttl_days} days instead of {wanted_days} because of it")),
            false => found.notes.push(words),
        }
    }
    Ok(found)
}

/// Looks once more a moment later: the later ledger, and what did not move.
pub(super) async fn look_again(config: &Config, first: &[LedgerRow]) -> tripod::Result<(Vec<LedgerRow>, Found)> {
    let before = progress(config).await;
    tokio::time::sleep(BETWEEN_LOOKS).await;
    let later = ledger::of(config)?;
    let after = progress(config).await;
    let found = compare(&config.tape.table_prefix, (&standings(first), &before), (&standings(&later), &after));
    Ok((later, found))
}

fn compare(prefix: &str, before: (&[Standing], &Servers), after: (&[Standing], &Servers)) -> Found {
    let mut found = Found::default();
    for row in after.0.iter().filter(|row| row.delivered > 0) {
        let Standing { table, sink, delivered, .. } = row;
        let still = before
            .0
            .iter()
            .any(|old| (&old.table, &old.sink, old.delivered, old.visible) == (table, sink, *delivered, row.visible));
        if !still {
            continue;
        }
        let name = format!("{prefix}{table}");
        let at = |servers: &Servers| Some(servers.get(sink)?.as_ref()?.get(&name).copied());
        match (at(before.1), at(after.1)) {
            // A server that does not answer has said so above.
            (_, None) | (None, _) => {}
            (_, Some(Some(now))) if now.applied >= now.given => found.notes.push(format!(
                "{table} ({sink}): {delivered} delivered and not counted as visible yet; the server has applied all \
                 that it was given, a running bot or `tripod deliver` counts them"
            )),
            (Some(Some(then)), Some(Some(now))) if now.applied > then.applied => {}
            (_, Some(Some(now))) => found.alarms.push(format!(
                "{table} ({sink}): {delivered} delivered and not visible, and the server's table does not move \
                 ({} of {} transactions applied); see the server's log",
                now.applied, now.given
            )),
            (_, Some(None)) => found.alarms.push(format!(
                "{table} ({sink}): {delivered} delivered and not visible, and the server has no table {name}; run \
                 `tripod migrate`"
            )),
        }
    }
    found
}

async fn progress(config: &Config) -> Servers {
    let mut servers = Servers::new();
    for server in &config.questdb {
        let asked = ask_questdb(server, ANSWER_WITHIN, |http| {
            http.exec("SELECT name, writerTxn, sequencerTxn FROM wal_tables()")
        });
        let tables = asked.await.ok().map(|answer| answer.rows.iter().filter_map(|row| table_of(row)).collect());
        servers.insert(server.name.clone(), tables);
    }
    servers
}

fn table_of(row: &[Value]) -> Option<(String, Progress)> {
    let [name, applied, given] = row else { return None };
    Some((name.as_str()?.to_owned(), Progress { applied: applied.as_u64()?, given: given.as_u64()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(delivered: u64, visible: u64) -> Vec<Standing> {
        let (table, sink) = ("quotes".to_owned(), "main".to_owned());
        vec![Standing { table, sink, delivered, visible, quarantined: 0, adds_up: true }]
    }

    fn server(applied: u64, given: u64) -> Servers {
        let tables = BTreeMap::from([("x_quotes".to_owned(), Progress { applied, given })]);
        Servers::from([("main".to_owned(), Some(tables))])
    }

    fn counts(before: &(Vec<Standing>, Servers), after: &(Vec<Standing>, Servers)) -> (usize, usize) {
        let found = compare("x_", (&before.0, &before.1), (&after.0, &after.1));
        (found.alarms.len(), found.notes.len())
    }

    #[test]
    fn only_what_stands_still_on_a_server_that_is_behind_is_an_alarm() {
        assert_eq!(counts(&(row(5, 1), server(3, 7)), &(row(5, 1), server(3, 7))), (1, 0), "nothing moves");
        assert_eq!(counts(&(row(5, 1), server(3, 7)), &(row(5, 1), server(4, 7))), (0, 0), "the table catches up");
        assert_eq!(counts(&(row(5, 1), server(3, 7)), &(row(5, 9), server(3, 7))), (0, 0), "rows move");
        assert_eq!(counts(&(row(5, 1), server(7, 7)), &(row(5, 1), server(7, 7))), (0, 1), "only not counted");
        assert_eq!(counts(&(row(5, 1), server(7, 7)), &(row(0, 6), server(7, 7))), (0, 0), "all is visible");
    }

    #[test]
    fn a_table_that_is_gone_is_an_alarm_and_a_server_that_is_away_is_not_said_twice() {
        let none = || Servers::from([("main".to_owned(), Some(BTreeMap::new()))]);
        assert_eq!(counts(&(row(5, 1), none()), &(row(5, 1), none())), (1, 0));
        let away = || Servers::from([("main".to_owned(), None)]);
        assert_eq!(counts(&(row(5, 1), away()), &(row(5, 1), away())), (0, 0));
    }

    #[test]
    fn counts_that_do_not_add_up_are_an_alarm_and_a_quarantine_is_a_note() {
        let mut ledger = row(0, 1);
        assert_eq!(judge_all(&ledger), Found::default());
        ledger[0].quarantined = 2;
        ledger[0].adds_up = false;
        let found = judge_all(&ledger);
        assert!(found.alarms[0].starts_with("quotes (main): "), "{found:?}");
        assert!(found.notes[0].contains("2 in quarantine"), "{found:?}");
    }
}
