//! A row that grew too old in the backlog: it goes to quarantine, and the bucket it belongs to stays as it was.

use std::time::Duration;

use tripod::tape::quarantine::{self, Reason};
use tripod::tape::retention::Day;
use tripod::tape::schema::{self, ActionKind};
use tripod::tape::spec::Importance;
use tripod::tape::{Tape, tables};
use tripod::{Timestamp, tape::spec::TableSpec};

use super::rig::{LONG, Rig, trade, until};

/// Days that the raw rows stay here.
const KEPT_DAYS: u16 = 2;

/// What an hour's candle says, or nothing where it is gone.
fn bucket(rig: &Rig, table: &str) -> String {
    let answer = rig.http().exec(&format!("SELECT trades, volume, open, close FROM {table}")).unwrap();
    serde_json::to_string(&answer.rows).unwrap()
}

/// Tables and views under `prefix`, with a candle of a day whose rows the server has dropped since.
fn with_an_expired_day(rig: &Rig, prefix: &str, day: Day, limited: bool) {
    let http = rig.http();
    let specs: Vec<TableSpec> =
        tables::builtin().into_iter().map(|spec| rig.config.retention.applied_to(spec)).collect();
    let (live, views) = (schema::read_live(&http).unwrap(), schema::read_views(&http).unwrap());
    let mut plan = schema::plan(&live, &specs, prefix);
    plan.extend(schema::plan_rollups(&live, &views, &specs, prefix, 3650));
    let (limits, rest): (Vec<_>, Vec<_>) = plan.into_iter().partition(|step| step.action == ActionKind::SetLimit);
    schema::apply(&http, &rest).unwrap();
    let (table, candles) = (format!("{prefix}market_trades"), format!("{prefix}candles_1h"));
    http.exec(&format!("ALTER TABLE {table} SET TTL 30 DAYS")).unwrap();
    let insert = |id: u32| {
        let at = day.begin().checked_add(Duration::from_mins(10 + u64::from(id))).unwrap().as_nanos();
        http.exec(&format!(
            "INSERT INTO {table} (at, venue, token, trade_id, price, size) VALUES ({at}::timestamp_ns, 'raydium', 'SOL', \
             '{id}', 1.5m, 2m)"
        ))
        .unwrap();
    };
    (0..3).for_each(insert);
    until("the candle is there", LONG, || bucket(rig, &candles).starts_with("[[3,"));
    if limited {
        schema::apply(&http, &limits).unwrap();
    }
    http.exec(&format!("ALTER TABLE {table} SET TTL {KEPT_DAYS} DAYS")).unwrap();
    // The TTL is looked at when something is committed.
    let now = Timestamp::now().as_nanos();
    http.exec(&format!(
        "INSERT INTO {table} (at, venue, token, trade_id, price, size) VALUES ({now}::timestamp_ns, 'raydium', 'SOL', \
         'now', 1.5m, 2m)"
    ))
    .unwrap();
    let end = day.end();
    until("the server has dropped the day", LONG, || {
        rig.ask(&format!("SELECT count() FROM {table} WHERE at < '{end}'")) == ["0"]
    });
    until("the new candle is there, too", LONG, || bucket(rig, &candles).matches('[').count() == 3);
}

#[test]
fn a_row_that_expired_in_the_backlog_is_quarantined_and_its_rollup_stays() {
    let mut rig = Rig::start("expired");
    rig.config.retention.standard_days = KEPT_DAYS;
    let day = Day::of(Timestamp::now().checked_sub(Duration::from_hours(24 * 6)).unwrap());
    let prefix = rig.config.tape.table_prefix.clone();
    with_an_expired_day(&rig, &prefix, day, true);
    let candles = rig.table("candles_1h");
    let before = bucket(&rig, &candles);
    assert!(before.contains("[3,\"6.0"), "{before}");

    let tape = Tape::open(&rig.config).unwrap();
    let base = day.begin().checked_add(Duration::from_mins(20)).unwrap();
    tape.recorder().record(&trade(base, 0, "late")).unwrap();
    assert!(tape.wait_visible(LONG).unwrap());
    let ledger = rig.ledger_of(&tape, "market_trades");
    assert_eq!((ledger.recorded, ledger.quarantined, ledger.visible), (1, 1, 0));
    let path = quarantine::path(&rig.config.journal_dir(), &rig.config.questdb[0].name, Importance::Standard);
    let rows = quarantine::read(&path).unwrap();
    assert_eq!((rows.len(), rows[0].reason), (1, Reason::Expired), "{rows:?}");
    assert_eq!(rows[0].row["trade_id"], "late");
    // A row of now is taken, so the view has had every reason to be computed anew.
    tape.recorder().record(&trade(Timestamp::now(), 1, "fresh")).unwrap();
    assert!(tape.wait_visible(LONG).unwrap());
    until("the view has followed", LONG, || {
        let views = schema::read_views(&rig.http()).unwrap();
        views.0[&candles].behind == 0 && bucket(&rig, &candles) != before
    });
    let after = rig.ask(&format!("SELECT trades, volume, open, close FROM {candles} ORDER BY at LIMIT 1"));
    assert_eq!(after, ["3", "6.000000000000000000", "1.500000000000000000", "1.500000000000000000"]);
    drop(tape.close(LONG));

    // The same row sent to the same tables, in a view that nobody told to leave old buckets alone: answered OK, gone, and
    // the candle with it. This is what the quarantine is there for.
    with_an_expired_day(&rig, "sent_", day, false);
    let at = base.as_nanos();
    rig.http()
        .exec(&format!(
            "INSERT INTO sent_market_trades (at, venue, token, trade_id, price, size) VALUES ({at}::timestamp_ns, \
             'raydium', 'SOL', 'late', 1.5m, 2m)"
        ))
        .unwrap();
    until("the candle of the old day is gone", LONG, || {
        rig.ask(&format!("SELECT count() FROM sent_candles_1h WHERE at < '{}'", day.end())) == ["0"]
    });
    assert_eq!(rig.ask(&format!("SELECT count() FROM sent_market_trades WHERE at < '{}'", day.end())), ["0"]);
}
