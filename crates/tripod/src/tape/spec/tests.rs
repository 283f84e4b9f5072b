use super::*;

fn column(name: &str, kind: Kind) -> ColumnSpec {
    ColumnSpec { name: name.into(), kind, key: false, optional: false, doc: String::new() }
}

fn sound() -> TableSpec {
    TableSpec {
        name: "fills".into(),
        importance: Importance::Critical,
        retain_days: 30,
        columns: vec![
            ColumnSpec { key: true, ..column("at", Kind::Timestamp) },
            ColumnSpec { key: true, ..column("id", Kind::Uuid) },
            column("price", Kind::Decimal { precision: 28, scale: 18 }),
            ColumnSpec { optional: true, ..column("slot", Kind::Unsigned) },
            column("note", Kind::Text { max_bytes: 100 }),
        ],
        doc: "What was filled.".into(),
    }
}

#[test]
fn the_ddl_has_its_clauses_in_the_order_that_questdb_takes() {
    assert_eq!(
        sound().ddl("dev_"),
        "CREATE TABLE IF NOT EXISTS \"dev_fills\" (\"at\" TIMESTAMP_NS, \"id\" UUID, \"price\" DECIMAL(28,18), \
         \"slot\" DECIMAL(20,0), \"note\" VARCHAR) TIMESTAMP(\"at\") PARTITION BY DAY TTL 30 DAYS WAL \
         DEDUP UPSERT KEYS(\"at\", \"id\")"
    );
}

#[test]
fn a_spec_survives_its_json_and_ignores_what_a_newer_version_adds() {
    let spec = sound();
    assert_eq!(TableSpec::from_json(&spec.to_json().unwrap()).unwrap(), spec);
    let newer = spec.to_json().unwrap().replacen('{', "{\"colour\":\"red\",", 1);
    assert_eq!(TableSpec::from_json(&newer).unwrap(), spec);
    let older = r#"{"name":"t","importance":"debug","retain_days":1,"columns":[
        {"name":"at","kind":{"type":"timestamp"},"key":true},{"name":"id","kind":{"type":"uuid"},"key":true}]}"#;
    assert_eq!(TableSpec::from_json(older).unwrap().columns.len(), 2);
}

#[test]
fn json_that_is_no_sound_spec_is_refused() {
    let mut spec = sound();
    spec.retain_days = 0;
    let text = serde_json::to_string(&spec).unwrap();
    assert!(TableSpec::from_json(&text).unwrap_err().to_string().contains("retain_days"));
    assert!(TableSpec::from_json("{}").is_err());
    assert!(spec.to_json().is_err());
}

/// Each way to break a sound spec, and the words that must stand in the refusal.
#[test]
fn check_names_the_column_and_what_to_change() {
    type Break = fn(&mut TableSpec);
    let cases: &[(&str, Break)] = &[
        ("table ``", |s| s.name.clear()),
        ("lower-case", |s| s.name = "Fills".into()),
        ("lower-case", |s| s.name = "2fills".into()),
        ("lower-case", |s| s.name = "fil\"ls".into()),
        ("at most 64", |s| s.name = "f".repeat(65)),
        ("retain_days", |s| s.retain_days = 0),
        ("no columns", |s| s.columns.clear()),
        ("fills.id: is the first column", |s| {
            s.columns.remove(0);
        }),
        ("fills.at: is the designated timestamp", |s| s.columns[0].key = false),
        ("fills.at: is a key and optional", |s| s.columns[0].optional = true),
        ("no key besides", |s| s.columns[1].key = false),
        ("fills.id: is a key and optional", |s| s.columns[1].optional = true),
        ("fills.price: stands twice", |s| s.columns[3].name = "price".into()),
        ("lower-case", |s| s.columns[3].name = "Slot".into()),
        ("precision of 1 to 38", |s| s.columns[2].kind = Kind::Decimal { precision: 39, scale: 2 }),
        ("precision of 1 to 38", |s| s.columns[2].kind = Kind::Decimal { precision: 0, scale: 0 }),
        ("scale above 28", |s| s.columns[2].kind = Kind::Decimal { precision: 38, scale: 29 }),
        ("scale above its precision", |s| s.columns[2].kind = Kind::Decimal { precision: 4, scale: 5 }),
        ("no NULL boolean", |s| {
            s.columns[3].kind = Kind::Boolean;
        }),
        ("fills.price: is a double and a key", |s| {
            s.columns[2].kind = Kind::Double;
            s.columns[2].key = true;
        }),
        ("0 bytes", |s| s.columns[4].kind = Kind::Text { max_bytes: 0 }),
        ("at most 256", |s| {
            s.columns.extend((0..300).map(|i| column(&format!("c{i}"), Kind::Long)));
        }),
    ];
    sound().check().unwrap();
    for (words, break_it) in cases {
        let mut spec = sound();
        break_it(&mut spec);
        let error = spec.check().expect_err(words).to_string();
        assert!(error.contains(words), "expected `{words}` in `{error}`");
    }
}

#[test]
fn a_prefix_is_plain_or_refused() {
    for good in ["", "dev_", "_x", "a1_"] {
        check_prefix(good).unwrap();
    }
    for bad in ["Dev_", "1_", "a-b", "a b", "a\"", &"x".repeat(33)] {
        assert!(check_prefix(bad).is_err(), "{bad:?} was accepted");
    }
}
