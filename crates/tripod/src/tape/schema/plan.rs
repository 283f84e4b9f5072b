//! From what is there and what should be to what is to do. Pure.

use crate::tape::schema::{Action, ActionKind, LiveTable, LiveTables};
use crate::tape::spec::{ColumnSpec, Importance, TableSpec};

/// What brings the live tables to the specs, in the order of the specs. A table that is as specified has one action of
/// kind [`ActionKind::None`]. Live tables and columns without a spec are left alone.
pub fn plan<'a>(live: &LiveTables, specs: impl IntoIterator<Item = &'a TableSpec>, prefix: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    for spec in specs {
        let table = spec.server_name(prefix);
        match live.0.get(&table) {
            None => actions.push(Action {
                detail: format!("{} columns, kept for {}", spec.columns.len(), days(spec.retain_days)),
                sql: Some(spec.ddl(prefix)),
                action: ActionKind::Create,
                object: table,
            }),
            Some(live) => {
                let before = actions.len();
                let note = bring(&table, live, spec, &mut actions);
                if actions.len() == before {
                    let detail = note.unwrap_or_else(|| "as specified".into());
                    actions.push(Action { object: table, action: ActionKind::None, detail, sql: None });
                }
            }
        }
    }
    actions
}

/// What is to do at a table that exists. The text is a remark for where nothing is.
fn bring(table: &str, live: &LiveTable, spec: &TableSpec, actions: &mut Vec<Action>) -> Option<String> {
    if let Some(what) = in_the_way(live, spec) {
        actions.push(conflict(
            table.to_owned(),
            format!(
                "{what}; rename it (RENAME TABLE \"{table}\" TO \"{table}_old\") and migrate again, or set another \
                 tape.table_prefix"
            ),
        ));
        return None;
    }
    for column in &spec.columns {
        bring_column(table, live, column, actions);
    }
    if let Some(what) = other_keys(live, spec) {
        actions.push(conflict(
            table.to_owned(),
            format!(
                "{what}; rows that are there may be doubled under other keys, so rename it (RENAME TABLE \"{table}\" TO \
                 \"{table}_old\"), migrate again, and copy what is needed with INSERT INTO … SELECT"
            ),
        ));
    }
    bring_ttl(table, live, spec, actions)
}

/// What makes the table one that a sink could not write to, or not without losing rows.
fn in_the_way(live: &LiveTable, spec: &TableSpec) -> Option<String> {
    let designated = spec.columns.first().map_or("", |column| &column.name);
    if !live.writable {
        return Some("a view of this name is in the way".into());
    }
    if !live.designated.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(designated)) {
        let is = live.designated.as_deref().unwrap_or("none");
        return Some(format!("its designated timestamp is {is}, not {designated}"));
    }
    if !live.wal {
        return Some("it has no write-ahead log, and so no DEDUP".into());
    }
    if live.partition_by != "DAY" {
        return Some(format!("it is partitioned by {}, not DAY", live.partition_by));
    }
    None
}

fn bring_column(table: &str, live: &LiveTable, column: &ColumnSpec, actions: &mut Vec<Action>) {
    let object = format!("{table}.{}", column.name);
    match live.column(&column.name) {
        Some(there) if there.type_name == column.kind.to_string() => {}
        Some(there) => {
            let detail = format!(
                "is {}, not {}; give the field another column with #[row(rename = \"…\")], or ALTER TABLE \"{table}\" \
                 RENAME COLUMN \"{name}\" TO \"{name}_old\" and migrate again",
                there.type_name,
                column.kind,
                name = column.name,
            );
            actions.push(conflict(object, detail));
        }
        // A key that is missing is told of once, with the other keys.
        None if column.key => {}
        None => actions.push(Action {
            detail: format!("{}, NULL in the rows that are there", column.kind),
            // IF NOT EXISTS: two migrations at once, or one that was cut off, must end the same.
            sql: Some(format!("ALTER TABLE \"{table}\" ADD COLUMN IF NOT EXISTS {}", column.definition())),
            action: ActionKind::AddColumn,
            object,
        }),
    }
}

fn other_keys(live: &LiveTable, spec: &TableSpec) -> Option<String> {
    let mut there: Vec<_> =
        live.columns.iter().filter(|column| column.key).map(|column| column.name.to_ascii_lowercase()).collect();
    let mut wanted: Vec<_> = spec.keys().map(|column| column.name.clone()).collect();
    there.sort_unstable();
    wanted.sort_unstable();
    let list = |keys: &[String]| if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
    (there != wanted).then(|| format!("its DEDUP keys are {}, not {}", list(&there), list(&wanted)))
}

fn bring_ttl(table: &str, live: &LiveTable, spec: &TableSpec, actions: &mut Vec<Action>) -> Option<String> {
    let wanted_hours = u64::from(spec.retain_days) * 24;
    if live.ttl_hours == Some(wanted_hours) {
        return None;
    }
    let there = live.ttl_hours.map_or_else(|| "for ever".into(), hours);
    let longer = live.ttl_hours.is_none_or(|there| there > wanted_hours);
    if longer && spec.importance == Importance::Critical {
        return Some(format!(
            "kept {there}, longer than {}; `tripod tape retention run` shortens it once the archive is verified",
            days(spec.retain_days)
        ));
    }
    let loss = if longer { "; the server drops the days that are older" } else { "" };
    actions.push(Action {
        object: table.to_owned(),
        action: ActionKind::SetTtl,
        detail: format!("kept {there}, to be {}{loss}", days(spec.retain_days)),
        sql: Some(format!("ALTER TABLE \"{table}\" SET TTL {} DAYS", spec.retain_days)),
    });
    None
}

fn conflict(object: String, detail: String) -> Action {
    Action { object, action: ActionKind::Conflict, detail, sql: None }
}

fn hours(hours: u64) -> String {
    match (hours / 24, hours % 24) {
        (whole, 0) => days(whole),
        _ => format!("{hours} hours"),
    }
}

fn days(days: impl Into<u64>) -> String {
    match days.into() {
        1 => "1 day".into(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests;
