use std::collections::BTreeMap;

use super::*;
use crate::tape::schema::LiveColumn;
use crate::tape::spec::Kind;

fn spec() -> TableSpec {
    let column =
        |name: &str, kind, key| ColumnSpec { name: name.into(), kind, key, optional: false, doc: String::new() };
    TableSpec {
        name: "fills".into(),
        importance: Importance::Standard,
        retain_days: 30,
        columns: vec![
            column("at", Kind::Timestamp, true),
            column("id", Kind::Uuid, true),
            column("price", Kind::Decimal { precision: 28, scale: 18 }, false),
        ],
        doc: String::new(),
    }
}

/// A server's table as the spec wants it.
fn live() -> LiveTable {
    let column = |name: &str, type_name: &str, key| LiveColumn { name: name.into(), type_name: type_name.into(), key };
    LiveTable {
        writable: true,
        designated: Some("at".into()),
        partition_by: "DAY".into(),
        wal: true,
        ttl_hours: Some(720),
        columns: vec![
            column("at", "TIMESTAMP_NS", true),
            column("id", "UUID", true),
            column("price", "DECIMAL(28,18)", false),
        ],
    }
}

fn planned(spec: &TableSpec, live: LiveTable) -> Vec<Action> {
    plan(&LiveTables(BTreeMap::from([("p_fills".to_owned(), live)])), [spec], "p_")
}

fn only(actions: Vec<Action>) -> Action {
    assert_eq!(actions.len(), 1, "{actions:?}");
    actions.into_iter().next().unwrap()
}

#[test]
fn a_missing_table_is_created_and_an_equal_one_left_alone() {
    let create = only(plan(&LiveTables::default(), [&spec()], "p_"));
    assert_eq!((create.object.as_str(), create.action), ("p_fills", ActionKind::Create));
    assert_eq!(create.sql.as_deref(), Some(spec().ddl("p_").as_str()));
    let none = only(planned(&spec(), live()));
    assert_eq!((none.action, none.sql), (ActionKind::None, None));
}

#[test]
fn columns_of_others_and_names_in_capitals_are_no_difference() {
    let mut live = live();
    live.columns[2].name = "Price".into();
    live.columns.push(LiveColumn { name: "mine".into(), type_name: "INT".into(), key: false });
    assert_eq!(only(planned(&spec(), live)).action, ActionKind::None);
}

#[test]
fn a_missing_column_is_added() {
    let mut live = live();
    live.columns.remove(2);
    let add = only(planned(&spec(), live));
    assert_eq!((add.object.as_str(), add.action), ("p_fills.price", ActionKind::AddColumn));
    assert_eq!(add.sql.as_deref(), Some("ALTER TABLE \"p_fills\" ADD COLUMN IF NOT EXISTS \"price\" DECIMAL(28,18)"));
}

#[test]
fn a_ttl_is_set_but_a_critical_table_is_never_shortened() {
    let with =
        |importance, ttl_hours| only(planned(&TableSpec { importance, ..spec() }, LiveTable { ttl_hours, ..live() }));
    for importance in Importance::ALL {
        let longer = with(importance, Some(24));
        assert_eq!(longer.action, ActionKind::SetTtl);
        assert_eq!(longer.sql.as_deref(), Some("ALTER TABLE \"p_fills\" SET TTL 30 DAYS"));
        assert_eq!(longer.detail, "kept 1 day, to be 30 days");
    }
    for ttl_hours in [Some(31 * 24), None] {
        let shorter = with(Importance::Standard, ttl_hours);
        assert_eq!(shorter.action, ActionKind::SetTtl);
        assert!(shorter.detail.contains("drops"), "{}", shorter.detail);
        let critical = with(Importance::Critical, ttl_hours);
        assert_eq!((critical.action, critical.sql), (ActionKind::None, None));
        assert!(critical.detail.contains("retention run"), "{}", critical.detail);
    }
}

/// Each way a table can be in the way, and the words that must stand in the conflict.
#[test]
fn what_cannot_be_reached_by_adding_is_a_conflict_with_the_way_out() {
    type Break = fn(&mut LiveTable);
    let cases: &[(&str, &str, &str, Break)] = &[
        ("p_fills.price", "is DOUBLE, not DECIMAL(28,18)", "rename", |t| t.columns[2].type_name = "DOUBLE".into()),
        ("p_fills", "keys are at, not at, id", "RENAME TABLE", |t| t.columns[1].key = false),
        ("p_fills", "keys are at, id, price, not at, id", "RENAME TABLE", |t| t.columns[2].key = true),
        ("p_fills", "keys are at, not at, id", "RENAME TABLE", |t| {
            t.columns.remove(1);
        }),
        ("p_fills", "keys are none", "RENAME TABLE", |t| t.columns.iter_mut().for_each(|c| c.key = false)),
        ("p_fills", "a view of this name", "table_prefix", |t| t.writable = false),
        ("p_fills", "designated timestamp is none", "table_prefix", |t| t.designated = None),
        ("p_fills", "designated timestamp is ts", "table_prefix", |t| t.designated = Some("ts".into())),
        ("p_fills", "no write-ahead log", "table_prefix", |t| t.wal = false),
        ("p_fills", "partitioned by HOUR", "table_prefix", |t| t.partition_by = "HOUR".into()),
    ];
    for (object, what, way_out, break_it) in cases {
        let mut live = live();
        break_it(&mut live);
        let conflict = only(planned(&spec(), live));
        assert_eq!((conflict.object.as_str(), conflict.action, &conflict.sql), (*object, ActionKind::Conflict, &None));
        assert!(conflict.detail.contains(what) && conflict.detail.contains(way_out), "{}", conflict.detail);
    }
}

#[test]
fn the_json_of_an_action_is_the_one_that_scripts_read() {
    let json = serde_json::to_value(only(planned(&spec(), LiveTable { ttl_hours: Some(24), ..live() }))).unwrap();
    assert_eq!(json["action"], "set ttl");
    assert_eq!(json["object"], "p_fills");
    assert_eq!(json["detail"], "kept 1 day, to be 30 days");
}
