//! The sinks: what each says of itself, in whatever process it runs, and what of that an operator has to act on.
//!
//! Constraints: pure but for the clock that it is given. A server that is away is said by the server's own line and is
//! no second alarm; a sink that waits for somebody to do something is one, with since when and why.

use std::time::Duration;

use tripod::Timestamp;
use tripod::ledger::LedgerRow;
use tripod::tape::{SinkState, SinkStatus};

use super::rows::Found;
use crate::backup::swap::LastRestore;
use crate::output;

/// A sink that lives says something each second.
const SILENT_AFTER: Duration = Duration::from_secs(10);

pub(super) fn judge(
    sinks: &[SinkStatus],
    ledger: &[LedgerRow],
    restored: Option<&LastRestore>,
    now: Timestamp,
) -> Found {
    let mut found = Found::default();
    for sink in sinks {
        let who = format!("sink {} ({})", sink.sink, sink.class.as_str());
        match sink.state {
            SinkState::Schema
            | SinkState::Login
            | SinkState::Certificate
            | SinkState::DiskFull
            | SinkState::Quarantine
            | SinkState::Journal
            | SinkState::Detached => {
                found.alarms.push(format!("{who}: {} since {}: {}", word(sink.state), sink.since, sink.why));
            }
            SinkState::Unavailable => {
                found.notes.push(format!("{who}: QuestDB is away since {}: {}", sink.since, sink.why));
            }
            _ => {}
        }
        let silent = now.since(sink.said_at);
        if let Some(pid) = sink.pid.filter(|_| silent > SILENT_AFTER) {
            let seconds = silent.as_secs();
            found.alarms.push(format!("{who}: process {pid} has said nothing for {seconds} s; is it stopped?"));
        }
        // What it said last, where nobody runs it, is not what is.
        if sink.pid.is_some() {
            for table in &sink.suspended {
                let (name, since) = (&table.table, table.since);
                let why = Some(table.why.as_str()).filter(|why| !why.is_empty()).unwrap_or("by hand");
                found.alarms.push(format!(
                    "{who}: table {name} is suspended since {since} ({why}): its rows are answered OK and stay \
                     invisible until RESUME WAL"
                ));
            }
        }
        for place in &sink.damaged {
            found.alarms.push(format!("{who}: cannot read the journal at {place}"));
        }
    }
    let mut idle: Vec<&str> = sinks.iter().filter(|sink| sink.pid.is_none()).map(|sink| sink.sink.as_str()).collect();
    idle.dedup();
    for name in idle {
        let waiting: u64 = ledger.iter().filter(|row| row.sink == name).map(|row| row.pending).sum();
        if waiting > 0 {
            found.notes.push(format!("{waiting} rows wait for sink {name}: {}", SinkStatus::NOBODY));
        }
    }
    found.notes.extend(restored.and_then(|restored| older_than(restored, sinks)));
    found
}

/// Those that have not run since QuestDB's data were replaced: what they and the ledger say is of the data before.
fn older_than(restored: &LastRestore, sinks: &[SinkStatus]) -> Option<String> {
    let is_older =
        |sink: &&SinkStatus| sink.pid.is_none() && sink.said_at > Timestamp::EPOCH && sink.said_at < restored.at;
    let mut names: Vec<&str> = sinks.iter().filter(is_older).map(|sink| sink.sink.as_str()).collect();
    names.dedup();
    (!names.is_empty()).then(|| {
        let LastRestore { backup, at } = restored;
        format!(
            "sink {} has not run since backup {backup} was restored at {at}: what the ledger calls visible was so \
             before that; it delivers again what the server lacks when a bot or `tripod deliver` runs",
            names.join(", ")
        )
    })
}

pub(super) fn word(state: SinkState) -> &'static str {
    match state {
        SinkState::Starting => "starting",
        SinkState::Delivering => "delivering",
        SinkState::Unavailable => "QuestDB away",
        SinkState::Schema => "waits for `tripod migrate`",
        SinkState::Login => "login refused",
        SinkState::Certificate => "certificate not trusted",
        SinkState::DiskFull => "QuestDB's disk is full",
        SinkState::Quarantine => "quarantine full",
        SinkState::Journal => "journal unreadable",
        SinkState::Detached => "DETACHED, rows are missed",
        SinkState::NotRunning => "not running",
        _ => "closed",
    }
}

/// A line each; nothing where no bot has ever run.
pub(super) fn words(sinks: &[SinkStatus]) -> String {
    if sinks.is_empty() {
        return String::new();
    }
    let mut table = output::table(&["sink", "class", "state", "since", "process"]);
    for sink in sinks {
        let since = sink.since.to_string();
        let since = since.split('.').next().unwrap_or(&since);
        let pid = sink.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let is_known = sink.said_at > Timestamp::EPOCH;
        let since = if is_known { since } else { "-" };
        table.add_row([sink.sink.as_str(), sink.class.as_str(), word(sink.state), since, &pid]);
    }
    format!("\n{}", output::table_text(&table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sink(state: &str, pid: Option<u32>, said_at: &str) -> SinkStatus {
        serde_json::from_value(json!({
            "sink": "main", "class": "standard", "required": true, "pid": pid, "said_at": said_at, "state": state,
            "since": "2026-01-01T00:00:00Z", "why": "words", "suspended": [], "rewinds": 0, "last_rewind": null,
            "damaged": [], "missed_segments": 0, "requests": 0, "visible_p50": null, "visible_p99": null
        }))
        .unwrap()
    }

    fn counts(sink: SinkStatus) -> (usize, usize) {
        let found = judge(&[sink], &[], None, "2026-01-01T00:01:00Z".parse().unwrap());
        (found.alarms.len(), found.notes.len())
    }

    #[test]
    fn a_word_that_is_older_than_a_restore_is_said_to_be_until_the_sink_has_run() {
        let at = "2026-01-01T00:00:30Z".parse().unwrap();
        let restored = LastRestore { backup: "b".to_owned(), at };
        let notes =
            |sinks: &[SinkStatus]| judge(sinks, &[], Some(&restored), "2026-01-01T00:01:00Z".parse().unwrap()).notes;
        let (before, since) = ("2026-01-01T00:00:29Z", "2026-01-01T00:00:59Z");
        let one = notes(&[sink("not_running", None, before), sink("not_running", None, before)]);
        assert!(one.len() == 1 && one[0].starts_with("sink main has not run since backup b was restored"), "{one:?}");
        assert_eq!(notes(&[sink("not_running", None, since)]), Vec::<String>::new());
        assert_eq!(notes(&[sink("delivering", Some(1), since)]), Vec::<String>::new());
        assert_eq!(notes(&[sink("not_running", None, "1970-01-01T00:00:00Z")]), Vec::<String>::new(), "it never ran");
    }

    #[test]
    fn what_waits_for_a_hand_is_an_alarm_what_waits_for_a_server_a_note_and_silence_is_noticed() {
        let fresh = "2026-01-01T00:00:59Z";
        assert_eq!(counts(sink("delivering", Some(1), fresh)), (0, 0));
        assert_eq!(counts(sink("unavailable", Some(1), fresh)), (0, 1));
        for state in ["schema", "login", "certificate", "disk_full", "quarantine", "journal", "detached"] {
            assert_eq!(counts(sink(state, Some(1), fresh)), (1, 0), "{state}");
        }
        assert_eq!(counts(sink("delivering", Some(1), "2026-01-01T00:00:30Z")), (1, 0), "it is stopped");
        assert_eq!(counts(sink("not_running", None, "2026-01-01T00:00:30Z")), (0, 0), "it is no more");
        let mut suspended = json!(sink("delivering", Some(1), fresh));
        suspended["suspended"] = json!([{"table": "a", "since": fresh, "why": "DISK FULL", "resumed": 1}]);
        assert_eq!(counts(serde_json::from_value(suspended).unwrap()), (1, 0));
    }
}
