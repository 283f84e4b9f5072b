//! The screen.

use std::fmt::Write as _;

use tripod::events::EventInfo;
use tripod::ledger::LedgerRow;
use tripod::tape::RecordTimes;

use super::servers::{ServerStatus, State};
use super::{Status, health, sinks};
use crate::output;

pub(super) fn words(status: &Status) -> String {
    let mut text = servers_words(&status.servers);
    text += "\n";
    text += &ledger_words(&status.ledger);
    text += &sinks::words(&status.sinks);
    text += &record_words(&status.record);
    if !status.streams.is_empty() {
        text += "\n";
        text += &streams_words(&status.streams);
    }
    if !status.components.is_empty() {
        text += "\n";
        text += &health::words(&status.components);
    }
    text += "\nlast proven backup  none\n";
    for note in &status.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for alarm in &status.alarms {
        let _ = writeln!(text, "WRONG: {alarm}");
    }
    text += if status.ok { "all is well" } else { "something is wrong: see above" };
    text
}

fn servers_words(servers: &[ServerStatus]) -> String {
    let mut table = output::table(&["server", "state", "version", "address", ""]);
    for server in servers {
        let state = match server.state {
            State::Running => "running",
            State::Wrong => "wrong",
            State::Unreachable => "unreachable",
        };
        table.add_row([
            server.name.as_str(),
            state,
            server.version.as_deref().unwrap_or("-"),
            &server.address,
            &server.detail,
        ]);
    }
    output::table_text(&table)
}

fn ledger_words(ledger: &[LedgerRow]) -> String {
    if ledger.is_empty() {
        return "nothing was recorded here yet\n".to_owned();
    }
    let mut table = output::table(&[
        "table",
        "sink",
        "recorded",
        "pending",
        "delivered",
        "visible",
        "quarantined",
        "missed",
        "dropped",
        "adds up",
    ]);
    for row in ledger {
        let counts = [row.recorded, row.pending, row.delivered, row.visible, row.quarantined, row.missed, row.dropped];
        let mut cells = vec![row.table.clone(), row.sink.clone()];
        cells.extend(counts.iter().map(ToString::to_string));
        cells.push(if row.adds_up { "yes" } else { "NO" }.to_owned());
        table.add_row(cells);
    }
    output::align_right(&mut table, 2..9);
    output::table_text(&table)
}

fn record_words(times: &[RecordTimes]) -> String {
    let mut text = String::new();
    for RecordTimes { class, timed, p50, p99, p999, .. } in times {
        let class = class.as_str();
        let _ = writeln!(text, "record() {class}: p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}, of {timed} calls timed");
    }
    text
}

fn streams_words(streams: &[EventInfo]) -> String {
    let mut table =
        output::table(&["topic", "length", "cap", "group", "lag", "pending", "trimmed unread", "trimmed pending"]);
    for stream in streams {
        let head = [stream.topic.clone(), stream.length.to_string(), stream.cap.to_string()];
        if stream.groups.is_empty() {
            table.add_row(head.iter().map(String::as_str).chain(["-"; 5]));
        }
        for group in &stream.groups {
            let mut cells = head.to_vec();
            let unread = group.trimmed_unread.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
            cells.extend([group.name.clone(), group.lag.to_string(), group.pending.to_string(), unread]);
            cells.push(group.trimmed_pending.to_string());
            table.add_row(cells);
        }
    }
    output::align_right(&mut table, 1..3);
    output::align_right(&mut table, 4..8);
    output::table_text(&table)
}
