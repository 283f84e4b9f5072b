//! QuestDB: parameters, tables against their specs, what is suspended, views, an open checkpoint, the clock.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::{Departure, Finding, clock};
use crate::error::Result;
use crate::tape::questdb::QuestDbHttp;
use crate::tape::schema::{self, Action, ActionKind, LiveView, rollups};
use crate::tape::spec::TableSpec;
use crate::value::Timestamp;

/// A view takes its table's newest transactions in within this, also on a busy machine.
pub const VIEW_LOOK_AGAIN: Duration = Duration::from_secs(4);
/// The version that everything here was tried with.
pub const TESTED: &str = "9.3.4";
/// Append pages beyond this make each table cost hundreds of megabytes on the disk.
const APPEND_PAGE_MAX: u64 = 1 << 20;

/// Looks at one server. `specs` are the tables that it should have, `prefix` stands before their names.
///
/// # Errors
/// As [`QuestDbHttp::exec`], where the server does not answer at all.
pub fn look(http: &QuestDbHttp, specs: &[TableSpec], prefix: &str) -> Result<Vec<Departure>> {
    let mut found: Vec<_> = version(&http.version()?).into_iter().collect();
    found.extend(parameters(&parameters_of(http)?));
    found.extend(tables(http, specs, prefix)?);
    found.extend(suspended(http)?);
    found.extend(views(http)?);
    found.extend(checkpoint(http)?);
    let before = Timestamp::now();
    let answer = http.exec("SELECT systimestamp()")?;
    let after = Timestamp::now();
    if let Some(theirs) = text(&answer.rows, 0).and_then(|time| time.parse().ok()) {
        found.extend(clock(Finding::QuestDbClock, "QuestDB", before, theirs, after));
    }
    Ok(found)
}

/// Looks at the rollups of the tables in `specs`: that they are there as specified, and that they follow. One that is
/// behind is looked at again after [`VIEW_LOOK_AGAIN`]: to be behind for a moment is how a view works.
///
/// # Errors
/// As [`look`].
pub fn look_at_rollups(
    http: &QuestDbHttp,
    specs: &[TableSpec],
    prefix: &str,
    rollup_days: u16,
) -> Result<Vec<Departure>> {
    let (live, views) = (schema::read_live(http)?, schema::read_views(http)?);
    // One that is invalid has a finding of its own.
    let invalid = |action: &Action| views.0.get(&action.object).is_some_and(|view| view.invalid.is_some());
    let plan = schema::plan_rollups(&live, &views, specs, prefix, rollup_days);
    let mut found = due(plan.into_iter().filter(|action| !invalid(action)).collect());
    let ours: Vec<String> = rollups().iter().map(|rollup| rollup.view(prefix)).collect();
    let behind: Vec<(&String, u64)> = ours
        .iter()
        .filter_map(|name| Some((name, views.0.get(name)?)))
        .filter(|(_, view)| view.invalid.is_none() && view.behind > 0)
        .map(|(name, view)| (name, view.at_txn))
        .collect();
    if !behind.is_empty() {
        #[expect(clippy::disallowed_methods, reason = "whether it moves shows only after a while, and nobody tells")]
        std::thread::sleep(VIEW_LOOK_AGAIN);
        let again = schema::read_views(http)?;
        found.extend(behind.into_iter().filter_map(|(name, at_txn)| standing(name, at_txn, again.0.get(name)?)));
    }
    Ok(found)
}

fn version(version: &str) -> Option<Departure> {
    (version != TESTED).then(|| {
        Departure::advice(
            Finding::QuestDbVersion,
            format!("QuestDB {version}"),
            "only what was tested is promised; the statements and answers of other versions may differ",
            format!("run the drills against it (`tripod drill run kill-questdb`), or use {TESTED}"),
        )
    })
}

/// A view that is behind its table and has not moved since it was at `at_txn`.
fn standing(name: &str, at_txn: u64, now: &LiveView) -> Option<Departure> {
    (now.behind > 0 && now.at_txn == at_txn).then(|| {
        Departure::wrong(
            Finding::QuestDbViewBehind,
            format!("view {name} stands {} transactions behind {} and does not move", now.behind, now.base),
            "candles and quality lack the newest rows, and retention holds their days back",
            format!("see the server's log for {name}; REFRESH MATERIALIZED VIEW \"{name}\" INCREMENTAL gives it a push (never FULL)"),
        )
    })
}

fn text(rows: &[Vec<Value>], column: usize) -> Option<&str> {
    rows.first()?.get(column)?.as_str()
}

fn parameters_of(http: &QuestDbHttp) -> Result<HashMap<String, String>> {
    let answer = http.exec("SELECT property_path, value FROM (SHOW PARAMETERS)")?;
    let pair = |row: &Vec<Value>| Some((row.first()?.as_str()?.to_owned(), row.get(1)?.as_str()?.to_owned()));
    Ok(answer.rows.iter().filter_map(pair).collect())
}

/// The part that needs no server.
fn parameters(known: &HashMap<String, String>) -> Vec<Departure> {
    let value = |name: &str| known.get(name).map(String::as_str).unwrap_or_default();
    let set = |name: &str, to: &str| format!("`{name}={to}` in the server's server.conf, then restart it");
    let mut found = Vec::new();
    for name in ["line.auto.create.new.tables", "line.auto.create.new.columns"] {
        if value(name) == "true" {
            found.push(Departure::wrong(
                Finding::QuestDbAutoCreate,
                format!("{name} is true"),
                "whoever writes a misspelt name makes a new table or column, without DEDUP keys, and nobody is told",
                set(name, "false"),
            ));
        }
    }
    if value("cairo.wal.enabled.default") == "false" {
        found.push(Departure::wrong(
            Finding::QuestDbWal,
            "cairo.wal.enabled.default is false",
            "a table without WAL has no DEDUP: rows that are sent twice are there twice",
            set("cairo.wal.enabled.default", "true"),
        ));
    }
    if value("dev.mode.enabled") == "true" {
        found.push(Departure::advice(
            Finding::QuestDbDevMode,
            "dev.mode.enabled is true",
            "anybody with a login can suspend tables",
            set("dev.mode.enabled", "false"),
        ));
    }
    for name in ["cairo.writer.data.append.page.size", "cairo.wal.writer.data.append.page.size"] {
        if bytes(value(name)).is_some_and(|page| page > APPEND_PAGE_MAX) {
            found.push(Departure::advice(
                Finding::QuestDbAppendPage,
                format!("{name} is {}", value(name)),
                "a page is set aside per column and table: ten tables with a row each take gigabytes of disk",
                set(name, "128k"),
            ));
        }
    }
    if value("telemetry.enabled") == "true" && value("telemetry.disable.completely") != "true" {
        found.push(Departure::advice(
            Finding::QuestDbTelemetry,
            "telemetry is on",
            "the server writes of its use, and the telemetry table costs disk",
            set("telemetry.enabled", "false"),
        ));
    }
    if value("ram.usage.limit.bytes") == "0" && value("ram.usage.limit.percent") == "0" {
        found.push(Departure::advice(
            Finding::QuestDbMemory,
            "there is no limit of memory",
            "a large question may take what the bot beside it needs, and the kernel ends one of them",
            set("ram.usage.limit.percent", "70"),
        ));
    }
    found.extend(open_to_all(known));
    found
}

/// Addresses that others reach, without a login.
fn open_to_all(known: &HashMap<String, String>) -> Vec<Departure> {
    let value = |name: &str| known.get(name).map(String::as_str).unwrap_or_default();
    // The older name of the property holds where only that was set; the newer one is what a default server shows.
    let bound = value("http.net.bind.to");
    let everywhere = bound.starts_with("0.0.0.0") || bound.starts_with("[::]");
    if everywhere && value("http.user").is_empty() {
        return vec![Departure::wrong(
            Finding::QuestDbOpen,
            format!("HTTP listens on {bound} and asks for no password"),
            "whoever reaches the machine can read, write and drop every table",
            "set http.net.bind.to=127.0.0.1:9000, or http.user and http.password, in server.conf; then restart it",
        )];
    }
    Vec::new()
}

/// `128k`, `16777216`, `1M`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn tables(http: &QuestDbHttp, specs: &[TableSpec], prefix: &str) -> Result<Vec<Departure>> {
    Ok(due(schema::plan(&schema::read_live(http)?, specs, prefix)))
}

/// The steps that are to do, as departures.
fn due(plan: Vec<Action>) -> Vec<Departure> {
    plan.into_iter()
        .filter(|action| action.action != ActionKind::None)
        .map(|action| {
            let remedy = match action.action {
                ActionKind::Conflict => format!("by hand: {}", action.detail),
                _ => "`tripod migrate`".to_owned(),
            };
            let what = format!("{}: {} ({})", action.object, action.action, action.detail);
            let why =
                "rows of a table that is not as specified stay in the journal, or are kept longer or shorter than said";
            Departure::wrong(Finding::QuestDbSchema, what, why, remedy)
        })
        .collect()
}

fn suspended(http: &QuestDbHttp) -> Result<Vec<Departure>> {
    let answer = http.exec("SELECT name, errorTag, errorMessage FROM wal_tables() WHERE suspended ORDER BY name")?;
    let word = |row: &Vec<Value>, n: usize| row.get(n).and_then(Value::as_str).unwrap_or_default().to_owned();
    let one = |row: &Vec<Value>| {
        let (name, reason) = (word(row, 0), format!("{} {}", word(row, 1), word(row, 2)));
        let reason = Some(reason.trim()).filter(|words| !words.is_empty()).map(|words| format!(": {words}"));
        Departure::wrong(
            Finding::QuestDbSuspended,
            format!("table {name} is suspended{}", reason.unwrap_or_default()),
            "writes are answered OK and nothing becomes visible until it goes on",
            format!("mend the cause (often a full disk), then: ALTER TABLE \"{name}\" RESUME WAL"),
        )
    };
    Ok(answer.rows.iter().map(one).collect())
}

fn views(http: &QuestDbHttp) -> Result<Vec<Departure>> {
    let answer =
        http.exec("SELECT view_name, view_status, invalidation_reason FROM materialized_views() ORDER BY view_name")?;
    let word = |row: &Vec<Value>, n: usize| row.get(n).and_then(Value::as_str).unwrap_or_default().to_owned();
    let one = |row: &Vec<Value>| {
        let (name, status, reason) = (word(row, 0), word(row, 1), word(row, 2));
        (status == "invalid").then(|| {
            Departure::wrong(
                Finding::QuestDbView,
                format!("view {name} is {status}: {reason}"),
                "what it sums up stands still while its table goes on",
                // A full refresh would also wipe the buckets whose rows have expired.
                format!("save what it holds if it is older than its table, then DROP MATERIALIZED VIEW \"{name}\" and `tripod migrate`"),
            )
        })
    };
    Ok(answer.rows.iter().filter_map(one).collect())
}

fn checkpoint(http: &QuestDbHttp) -> Result<Option<Departure>> {
    let answer = http.exec("SELECT in_progress, started_at FROM checkpoint_status()")?;
    let open = answer.rows.first().and_then(|row| row.first()).and_then(Value::as_bool).unwrap_or(false);
    Ok(open.then(|| {
        Departure::wrong(
            Finding::QuestDbCheckpoint,
            format!("a checkpoint is open since {}", text(&answer.rows, 1).unwrap_or("an unknown time")),
            "nothing that was deleted or replaced gives its disk back while it is open",
            "if no backup is running: CHECKPOINT RELEASE",
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(pairs: &[(&str, &str)]) -> Vec<&'static str> {
        let known = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parameters(&known).iter().map(|found| found.id).collect()
    }

    #[test]
    fn a_default_server_departs_in_what_matters() {
        assert_eq!(
            ids(&[
                ("line.auto.create.new.tables", "true"),
                ("cairo.writer.data.append.page.size", "16M"),
                ("cairo.wal.writer.data.append.page.size", "1M"),
                ("http.net.bind.to", "0.0.0.0:9000"),
                ("telemetry.enabled", "true"),
                ("ram.usage.limit.bytes", "0"),
                ("ram.usage.limit.percent", "90"),
            ]),
            ["questdb.auto-create", "questdb.append-page", "questdb.telemetry", "questdb.open"]
        );
        assert_eq!(ids(&[("http.net.bind.to", "0.0.0.0:9000"), ("http.user", "tripod")]), Vec::<&str>::new());
    }

    #[test]
    fn another_version_is_said() {
        assert_eq!(version(TESTED), None);
        assert_eq!(version("9.4.0").unwrap().id, "questdb.version");
    }

    #[test]
    fn a_view_stands_where_it_is_behind_and_at_the_same_place() {
        let view = |behind, at_txn| LiveView {
            base: "trades".into(),
            sql: String::new(),
            invalid: None,
            behind,
            at_txn,
            limit_hours: None,
            immediate: true,
        };
        assert!(standing("candles_1s", 7, &view(3, 7)).is_some());
        assert_eq!(standing("candles_1s", 7, &view(3, 8)), None, "it moves");
        assert_eq!(standing("candles_1s", 7, &view(0, 7)), None, "there is nothing new");
    }

    #[test]
    fn sizes_are_read_in_the_servers_way_of_writing() {
        assert_eq!([bytes("128k"), bytes("1M"), bytes("16777216")], [Some(128 << 10), Some(1 << 20), Some(16 << 20)]);
        assert_eq!([bytes(""), bytes("k"), bytes("3 parsecs")], [None, None, None]);
    }
}
