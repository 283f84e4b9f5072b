//! Rollups on a real QuestDB: views that follow, tables that outlive, both compared with the rows.

use std::time::Duration;

use tripod::Timestamp;
use tripod::tape::retention::{Day, Kept, keep_day};
use tripod::tape::schema::{self, Action, ActionKind, Rollup, rollups};
use tripod::tape::tables::builtin;

use crate::questdb_server::{DEADLINE, await_applied, http};

const DAY: Duration = Duration::from_hours(24);

fn planned(prefix: &str) -> Vec<Action> {
    let (live, views) = (schema::read_live(&http()).unwrap(), schema::read_views(&http()).unwrap());
    let mut plan = schema::plan(&live, builtin(), prefix);
    plan.extend(schema::plan_rollups(&live, &views, builtin(), prefix, 3650));
    plan
}

fn migrate(prefix: &str) {
    schema::apply(&http(), &planned(prefix)).unwrap();
}

fn days_ago(days: u32) -> Day {
    Day::of(Timestamp::now().checked_sub(DAY * days).unwrap())
}

fn insert_trades(prefix: &str, begin: Timestamp, trades: u32) {
    let nanos = begin.as_nanos();
    http()
        .exec(&format!(
            "INSERT INTO {prefix}market_trades (at, venue, token, trade_id, price, size) SELECT \
             ({nanos} + x * 7000000001)::timestamp_ns, CASE WHEN x % 2 = 0 THEN 'orca' ELSE 'raydium' END, 'SOL', \
             x::varchar, 1.000000000000000001m, 2.5m FROM long_sequence({trades})"
        ))
        .unwrap();
    await_applied(&format!("{prefix}market_trades"));
}

fn insert_executions(prefix: &str, begin: Timestamp) {
    let (a, b) = (begin.as_nanos() + 1, begin.as_nanos() + 2);
    http()
        .exec(&format!(
            "INSERT INTO {prefix}executions (at, id, strategy, venue, token, status, amount_in, slippage_bps, \
             profit_lamports, fee_lamports, land_ns) VALUES \
             ({a}::timestamp_ns, '11111111-1111-1111-1111-111111111111', 's', 'orca', 'SOL', 'landed', \
             18446744073709551615m, -1.5m, -7, 5000m, 18446744073709551615m), \
             ({b}::timestamp_ns, '11111111-1111-1111-1111-111111111112', 's', 'orca', 'SOL', 'failed', \
             18446744073709551615m, null, -7, null, null)"
        ))
        .unwrap();
    await_applied(&format!("{prefix}executions"));
}

fn one(sql: &str) -> String {
    serde_json::to_string(&http().exec(sql).unwrap().rows).unwrap()
}

/// Waits until the views have taken in all that their tables have.
fn await_views(prefix: &str) {
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let views = schema::read_views(&http()).unwrap();
        let mut ours = views.0.iter().filter(|(name, _)| name.starts_with(prefix));
        if ours.all(|(name, view)| {
            assert_eq!(view.invalid, None, "{name}");
            view.behind == 0
        }) {
            return;
        }
        assert!(std::time::Instant::now() < end, "{views:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn of(name: &str) -> Rollup {
    rollups().into_iter().find(|rollup| rollup.name == name).unwrap()
}

#[test]
fn migrate_makes_views_and_their_tables_and_then_nothing_more() {
    migrate("ra_");
    assert!(planned("ra_").iter().all(|action| action.action == ActionKind::None), "{:?}", planned("ra_"));
    let (views, live) = (schema::read_views(&http()).unwrap(), schema::read_live(&http()).unwrap());
    for rollup in rollups() {
        let view = &views.0[&rollup.view("ra_")];
        let base_ttl = live.0[&view.base].ttl_hours.unwrap();
        assert!(view.limit_hours.unwrap() < base_ttl, "{view:?}");
        assert!(live.0[&format!("ra_{}_kept", rollup.name)].ttl_hours.unwrap() > base_ttl * 100);
    }
}

#[test]
fn a_day_of_every_rollup_is_kept_equal_to_its_rows_and_again_changes_nothing() {
    migrate("rb_");
    let day = days_ago(3);
    insert_trades("rb_", day.begin(), 5000);
    insert_executions("rb_", day.begin());
    await_views("rb_");
    for rollup in rollups() {
        let kept = keep_day(&http(), &rollup, "rb_", day).unwrap();
        assert!(kept.written && kept.view_agrees && kept.buckets > 0, "{}: {kept:?}", rollup.name);
        let again = keep_day(&http(), &rollup, "rb_", day).unwrap();
        assert_eq!(again, Kept { written: false, ..kept });
    }
    // By the server's own sums: 5000 trades of 2.5, and two executions whose u64 do not fit 64 bits together.
    let totals = r#"[[5000,"12500.000000000000000000"]]"#;
    for every in ["1s", "1m", "1h"] {
        assert_eq!(one(&format!("SELECT sum(trades), sum(volume) FROM rb_candles_{every}_kept")), totals, "{every}");
    }
    assert_eq!(
        one("SELECT executions, landed, failed, amount_in, fee_lamports, tip_lamports, profit_lamports, slippages, \
             slippage_sum_bps, lands, land_max_ns FROM rb_quality_1h_kept"),
        r#"[[2,1,1,"36893488147419103230","5000",null,-14,1,"-1.5000",1,"18446744073709551615"]]"#
    );
    // A late row makes the day due again, and only its bucket changes.
    insert_trades("rb_", day.begin().checked_add(Duration::from_hours(20)).unwrap(), 1);
    await_views("rb_");
    let kept = keep_day(&http(), &of("candles_1m"), "rb_", day).unwrap();
    assert!(kept.written && kept.view_agrees, "{kept:?}");
    assert_eq!(one("SELECT sum(trades) FROM rb_candles_1m_kept"), "[[5001]]");
}

/// A row older than the refresh limit is in its table and not in the view: the table that is kept has it.
#[test]
fn what_a_view_left_out_is_told_and_the_kept_table_follows_the_rows() {
    migrate("rc_");
    let day = days_ago(30);
    insert_trades("rc_", day.begin(), 10);
    await_views("rc_");
    let kept = keep_day(&http(), &of("candles_1h"), "rc_", day).unwrap();
    assert!(kept.written && !kept.view_agrees, "{kept:?}");
    assert_eq!(one("SELECT sum(trades) FROM rc_candles_1h_kept"), "[[10]]");
}

#[test]
fn what_is_in_the_way_of_a_view_is_refused_and_nothing_is_dropped() {
    let http = http();
    migrate("rd_");
    http.exec("DROP MATERIALIZED VIEW rd_candles_1s").unwrap();
    http.exec("CREATE TABLE rd_candles_1s (at TIMESTAMP_NS) TIMESTAMP(at) PARTITION BY DAY WAL").unwrap();
    http.exec("DROP MATERIALIZED VIEW rd_candles_1m").unwrap();
    http.exec("CREATE MATERIALIZED VIEW rd_candles_1m AS (SELECT at, venue, token, count() n FROM rd_market_trades SAMPLE BY 1m) PARTITION BY DAY")
        .unwrap();
    let plan = planned("rd_");
    let conflicts: Vec<_> = plan.iter().filter(|action| action.action == ActionKind::Conflict).collect();
    assert_eq!(conflicts.len(), 2, "{conflicts:?}");
    assert!(conflicts[0].object == "rd_candles_1s" && conflicts[0].detail.contains("RENAME TABLE"), "{conflicts:?}");
    assert!(conflicts[1].object == "rd_candles_1m" && conflicts[1].detail.contains("another query"), "{conflicts:?}");
    assert!(plan.iter().all(|action| action.sql.as_ref().is_none_or(|sql| !sql.contains("DROP"))));
    schema::apply(&http, &plan).unwrap_err();
    // The ways out work as they are said.
    http.exec("RENAME TABLE \"rd_candles_1s\" TO \"rd_candles_1s_old\"").unwrap();
    http.exec("DROP MATERIALIZED VIEW \"rd_candles_1m\"").unwrap();
    migrate("rd_");
    assert!(planned("rd_").iter().all(|action| action.action == ActionKind::None), "{:?}", planned("rd_"));
}
