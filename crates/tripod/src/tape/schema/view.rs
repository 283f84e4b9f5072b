//! The views: what a server has of them, what is to do, what is wrong with them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::live::{number, text, ttl_hours};
use super::{Action, ActionKind, LiveTables, Rollup, rollups};
use crate::error::Result;
use crate::tape::questdb::QuestDbHttp;
use crate::tape::spec::TableSpec;

/// A server's materialised views by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveViews(pub BTreeMap<String, LiveView>);

/// One materialised view of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveView {
    /// The table that it follows.
    pub base: String,
    /// Its query.
    pub sql: String,
    /// Why it does not follow any more.
    pub invalid: Option<String>,
    /// Transactions of the base that it has not taken in yet. Normal for a moment.
    pub behind: u64,
    /// The base's transaction that it has taken in.
    pub at_txn: u64,
    /// Buckets older than this are left alone; `None`: none is.
    pub limit_hours: Option<u64>,
    /// It follows each transaction at once.
    pub immediate: bool,
}

/// Reads the views: one statement.
///
/// # Errors
/// As [`QuestDbHttp::exec`].
pub fn read_views(http: &QuestDbHttp) -> Result<LiveViews> {
    let listed = http.exec(
        "SELECT view_name, base_table_name, view_sql, view_status, invalidation_reason, refresh_base_table_txn, \
         base_table_txn, refresh_limit, refresh_limit_unit, refresh_type FROM materialized_views()",
    )?;
    let mut views = BTreeMap::new();
    for row in &listed.rows {
        let of = |column: &str| text(&listed, row, column);
        let txn = |column: &str| -> Result<u64> {
            // NULL, or below zero, before the first refresh.
            Ok(row.get(listed.column(column)?).and_then(Value::as_u64).unwrap_or(0))
        };
        let (at_txn, base_txn) = (txn("refresh_base_table_txn")?, txn("base_table_txn")?);
        let invalid = match of("view_status")?.as_str() {
            "invalid" => Some(of("invalidation_reason")?),
            _ => None,
        };
        let view = LiveView {
            base: of("base_table_name")?,
            sql: of("view_sql")?,
            invalid,
            behind: base_txn.saturating_sub(at_txn),
            at_txn,
            limit_hours: ttl_hours(number(&listed, row, "refresh_limit")?, &of("refresh_limit_unit")?),
            immediate: of("refresh_type")? == "immediate",
        };
        views.insert(of("view_name")?, view);
    }
    Ok(LiveViews(views))
}

/// What brings the rollups of the tables in `specs` to what they should be: their views, and the tables that keep them for
/// `rollup_days`. A rollup whose table is not among `specs` is left out. Put its actions behind those of
/// [`super::plan()`]: a view needs its base.
#[must_use]
pub fn plan_rollups<'a>(
    live: &LiveTables,
    views: &LiveViews,
    specs: impl IntoIterator<Item = &'a TableSpec>,
    prefix: &str,
    rollup_days: u16,
) -> Vec<Action> {
    let bases: BTreeMap<&str, &TableSpec> = specs.into_iter().map(|spec| (spec.name.as_str(), spec)).collect();
    let mut actions = Vec::new();
    for rollup in rollups() {
        let Some(base) = bases.get(rollup.base) else { continue };
        bring_view(live, views, &rollup, base.retain_days, prefix, &mut actions);
        actions.extend(super::plan(live, [&rollup.kept(rollup_days)], prefix));
    }
    actions
}

fn bring_view(
    live: &LiveTables,
    views: &LiveViews,
    rollup: &Rollup,
    base_days: u16,
    prefix: &str,
    actions: &mut Vec<Action>,
) {
    let name = rollup.view(prefix);
    let (days, limit) = (Rollup::view_days(base_days), Rollup::limit_days(base_days));
    let mut push = |action, detail: String, sql| actions.push(Action { object: name.clone(), action, detail, sql });
    let set_limit = Some(format!("ALTER MATERIALIZED VIEW \"{name}\" SET REFRESH LIMIT {limit} DAYS"));
    let limit_words = format!("rows older than {limit} days leave it as it is");
    let Some(view) = views.0.get(&name) else {
        if live.0.contains_key(&name) {
            let way_out = format!(
                "a table of this name is in the way; rename it (RENAME TABLE \"{name}\" TO \"{name}_old\") and migrate again"
            );
            return push(ActionKind::Conflict, way_out, None);
        }
        let detail = format!("every {} of {prefix}{}, kept for {days} days", rollup.every, rollup.base);
        push(ActionKind::CreateView, detail, Some(rollup.ddl(prefix, base_days)));
        return push(ActionKind::SetLimit, limit_words, set_limit);
    };
    let differs = if view.base != format!("{prefix}{}", rollup.base) {
        Some(format!("it is of {}", view.base))
    } else if view.sql != rollup.query(prefix) {
        Some("it has another query".into())
    } else if !view.immediate {
        Some("it does not refresh at once".into())
    } else {
        view.invalid.as_ref().map(|why| format!("it is invalid ({why})"))
    };
    if let Some(differs) = differs {
        let way_out = format!(
            "{differs}; after `tripod tape retention run` has kept its days, DROP MATERIALIZED VIEW \"{name}\" and migrate \
             again, which builds it from the rows that are there (never REFRESH … FULL)"
        );
        return push(ActionKind::Conflict, way_out, None);
    }
    let before = live.0.get(&name).and_then(|table| table.ttl_hours);
    let mut fine = true;
    // The shorter limit first: what the base drops meanwhile must not be computed anew.
    if view.limit_hours != Some(u64::from(limit) * 24) {
        push(ActionKind::SetLimit, limit_words, set_limit);
        fine = false;
    }
    if before != Some(u64::from(days) * 24) {
        let sql = format!("ALTER MATERIALIZED VIEW \"{name}\" SET TTL {days} DAYS");
        push(ActionKind::SetTtl, format!("to be {days} days"), Some(sql));
        fine = false;
    }
    if fine {
        push(ActionKind::None, "as specified".into(), None);
    }
}
