//! The bench's tables on the server: made as `tripod migrate` makes them, rollup views and all, found and removed by their prefix.

use serde_json::Value;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::schema;
use tripod::tape::tables::builtin;

/// How long the rollups are kept, days: the default of the config; nothing is kept that long here.
const KEPT_DAYS: u16 = 3650;

/// All built-in tables with everything that belongs to them.
pub(super) fn make(http: &QuestDbHttp, prefix: &str) -> tripod::Result<()> {
    let (live, views) = (schema::read_live(http)?, schema::read_views(http)?);
    let mut plan = schema::plan(&live, builtin(), prefix);
    plan.extend(schema::plan_rollups(&live, &views, builtin(), prefix, KEPT_DAYS));
    schema::apply(http, &plan).map(drop)
}

/// Views first: a table goes with or without them, but then they would stay behind, invalid.
pub(super) fn remove(http: &QuestDbHttp, prefix: &str) -> anyhow::Result<()> {
    for view in views(http, prefix)? {
        http.exec(&format!("DROP MATERIALIZED VIEW IF EXISTS \"{}\"", view.name))?;
    }
    for table in names(http, "SELECT table_name FROM tables()", prefix)? {
        http.exec(&format!("DROP TABLE IF EXISTS \"{table}\""))?;
    }
    Ok(())
}

/// Those that are kept up by the server, also those at work at this moment (`refreshing`).
pub(super) fn live_views(http: &QuestDbHttp, prefix: &str) -> anyhow::Result<u64> {
    let valid = views(http, prefix)?.iter().filter(|view| view.is_valid).count();
    Ok(u64::try_from(valid)?)
}

struct View {
    name: String,
    is_valid: bool,
}

fn views(http: &QuestDbHttp, prefix: &str) -> tripod::Result<Vec<View>> {
    let rows = http.exec("SELECT view_name, base_table_name, view_status FROM materialized_views()")?.rows;
    let text = |row: &[Value], at: usize| row.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let all = rows.iter().filter(|row| text(row, 1).starts_with(prefix));
    Ok(all.map(|row| View { name: text(row, 0), is_valid: text(row, 2) != "invalid" }).collect())
}

fn names(http: &QuestDbHttp, sql: &str, prefix: &str) -> tripod::Result<Vec<String>> {
    let rows = http.exec(sql)?.rows;
    let all = rows.iter().filter_map(|row| row.first()).filter_map(Value::as_str);
    Ok(all.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
}
