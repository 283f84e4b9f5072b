//! Plans against a real QuestDB: what they say is what the server then has.

use questdb::ingress::{Buffer, ProtocolVersion};
use tripod::tape::schema::{self, Action, ActionKind, LiveTable};
use tripod::tape::spec::{ColumnSpec, Importance, Kind, TableSpec};
use tripod::{Error, Timestamp};

use crate::questdb_server::{await_applied, http, send};

fn spec(importance: Importance) -> TableSpec {
    let column =
        |name: &str, kind, key, optional| ColumnSpec { name: name.into(), kind, key, optional, doc: String::new() };
    TableSpec {
        name: "fills".into(),
        importance,
        retain_days: 30,
        columns: vec![
            column("at", Kind::Timestamp, true, false),
            column("id", Kind::Unsigned, true, false),
            column("price", Kind::Decimal { precision: 28, scale: 18 }, false, true),
            column("note", Kind::Text { max_bytes: 100 }, false, true),
        ],
        doc: String::new(),
    }
}

fn planned(spec: &TableSpec, prefix: &str) -> Vec<Action> {
    schema::plan(&schema::read_live(&http()).unwrap(), [spec], prefix)
}

fn migrate(spec: &TableSpec, prefix: &str) -> Vec<ActionKind> {
    let plan = planned(spec, prefix);
    schema::apply(&http(), &plan).unwrap();
    plan.iter().map(|action| action.action).collect()
}

fn live(table: &str) -> LiveTable {
    schema::read_live(&http()).unwrap().0.remove(table).unwrap()
}

#[test]
fn an_empty_server_gets_the_table_and_then_nothing_more() {
    let spec = spec(Importance::Standard);
    assert_eq!(migrate(&spec, "sa_"), [ActionKind::Create]);
    let table = live("sa_fills");
    assert!(table.writable && table.wal);
    assert_eq!((table.designated.as_deref(), table.partition_by.as_str()), (Some("at"), "DAY"));
    assert_eq!(table.ttl_hours, Some(720));
    let columns: Vec<_> = table.columns.iter().map(|c| (c.name.as_str(), c.type_name.as_str(), c.key)).collect();
    assert_eq!(
        columns,
        [
            ("at", "TIMESTAMP_NS", true),
            ("id", "DECIMAL(20,0)", true),
            ("price", "DECIMAL(28,18)", false),
            ("note", "VARCHAR", false)
        ]
    );
    assert_eq!(migrate(&spec, "sa_"), [ActionKind::None]);
}

/// Applied when apply returns: the next plan says none at once, and rows with the new column are taken.
#[test]
fn a_column_that_is_new_is_added_and_written_to() {
    let new = spec(Importance::Standard);
    let mut old = new.clone();
    old.columns.truncate(3);
    migrate(&old, "sb_");
    assert_eq!(migrate(&new, "sb_"), [ActionKind::AddColumn]);
    assert_eq!(migrate(&new, "sb_"), [ActionKind::None]);
    let mut buffer = Buffer::new(ProtocolVersion::V3);
    let payload = {
        let at = Timestamp::now().as_nanos().to_le_bytes();
        [&at[..], &[0b0100], &7_u64.to_le_bytes(), &[2, 0], b"hi"].concat()
    };
    tripod::tape::encode::append_line(&new, "sb_fills", &payload, &mut buffer).unwrap();
    send(&mut buffer, "sb_fills");
    let rows = http().exec("SELECT id, price, note FROM sb_fills").unwrap().rows;
    assert_eq!(serde_json::to_string(&rows).unwrap(), r#"[["7",null,"hi"]]"#);
    // A bot of the older version still finds its table as it wants it.
    assert_eq!(migrate(&old, "sb_"), [ActionKind::None]);
}

#[test]
fn a_ttl_follows_the_spec_but_never_shortens_a_critical_table() {
    for (importance, prefix) in [(Importance::Standard, "sc_"), (Importance::Critical, "sd_")] {
        let days = |retain_days| TableSpec { retain_days, ..spec(importance) };
        let table = format!("{prefix}fills");
        migrate(&days(10), prefix);
        assert_eq!(migrate(&days(30), prefix), [ActionKind::SetTtl]);
        assert_eq!(live(&table).ttl_hours, Some(720));
        let (expected, hours) = match importance {
            Importance::Critical => (ActionKind::None, 720),
            _ => (ActionKind::SetTtl, 240),
        };
        assert_eq!(migrate(&days(10), prefix), [expected]);
        assert_eq!(live(&table).ttl_hours, Some(hours));
    }
}

#[test]
fn a_table_kept_for_ever_is_seen_as_such() {
    let http = http();
    let spec = spec(Importance::Critical);
    http.exec(&spec.ddl("se_").replace(" TTL 30 DAYS", "")).unwrap();
    assert_eq!(live("se_fills").ttl_hours, None);
    assert_eq!(planned(&spec, "se_")[0].action, ActionKind::None);
}

/// Refused whole: the column that could have been added is not.
#[test]
fn a_conflict_is_refused_with_the_way_out_and_nothing_is_changed() {
    let http = http();
    let wanted = spec(Importance::Standard);
    let mut other = wanted.clone();
    other.columns.truncate(3);
    other.columns[2].kind = Kind::Double;
    migrate(&other, "sf_");
    let before = live("sf_fills");
    let plan = planned(&wanted, "sf_");
    let kinds: Vec<_> = plan.iter().map(|action| (action.object.as_str(), action.action)).collect();
    assert_eq!(kinds, [("sf_fills.price", ActionKind::Conflict), ("sf_fills.note", ActionKind::AddColumn)]);
    let error = schema::apply(&http, &plan).unwrap_err();
    assert!(matches!(error, Error::Schema { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("sf_fills.price: is DOUBLE, not DECIMAL(28,18)"), "{words}");
    assert_eq!(live("sf_fills"), before);
    // The way out works as it is said.
    let way_out = "ALTER TABLE \"sf_fills\" RENAME COLUMN \"price\" TO \"price_old\"";
    assert!(words.contains(way_out), "{words}");
    http.exec(way_out).unwrap();
    await_applied("sf_fills");
    assert_eq!(migrate(&wanted, "sf_"), [ActionKind::AddColumn, ActionKind::AddColumn]);
    assert_eq!(migrate(&wanted, "sf_"), [ActionKind::None]);
}

#[test]
fn other_keys_a_view_and_a_table_without_a_log_are_in_the_way() {
    let http = http();
    let wanted = spec(Importance::Standard);
    http.exec(&wanted.ddl("sg_").replace("KEYS(\"at\", \"id\")", "KEYS(\"at\")")).unwrap();
    let cases = [
        ("sg_", "keys are at, not at, id"),
        ("sh_", "a view of this name"),
        ("si_", "no write-ahead log"),
        ("sj_", "partitioned by HOUR"),
        ("sk_", "designated timestamp is none"),
    ];
    http.exec(
        "CREATE MATERIALIZED VIEW sh_fills AS (SELECT at, count() n FROM sg_fills SAMPLE BY 1m) PARTITION BY DAY",
    )
    .unwrap();
    http.exec("CREATE TABLE si_fills (at TIMESTAMP_NS) TIMESTAMP(at) PARTITION BY DAY BYPASS WAL").unwrap();
    http.exec("CREATE TABLE sj_fills (at TIMESTAMP_NS) TIMESTAMP(at) PARTITION BY HOUR WAL").unwrap();
    http.exec("CREATE TABLE sk_fills (at TIMESTAMP_NS)").unwrap();
    for (prefix, words) in cases {
        let plan = planned(&wanted, prefix);
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert_eq!(plan[0].action, ActionKind::Conflict);
        assert!(plan[0].detail.contains(words), "{}", plan[0].detail);
        assert!(schema::apply(&http, &plan).unwrap_err().to_string().contains(words));
    }
    // The way out works as it is said.
    http.exec("RENAME TABLE \"si_fills\" TO \"si_fills_old\"").unwrap();
    assert_eq!(migrate(&wanted, "si_"), [ActionKind::Create]);
}
