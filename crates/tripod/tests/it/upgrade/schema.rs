//! A database that was filled under an older schema, for each schema there was: brought to this one, with every row in it.

use refinery::{Migration, Runner, Target};
use tokio_postgres::Client;
use tripod::health::Health;
use tripod::postgres::migrations;
use tripod::settings::{Change, Settings};

use crate::postgres::dump;
use crate::postgres_server::Database;

/// The files as they are in the folder: name and number, oldest first.
fn files() -> Vec<(i32, Migration)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let Some((number, _)) = name.strip_prefix('V').and_then(|rest| rest.split_once("__")) else { continue };
        let sql = std::fs::read_to_string(&path).unwrap();
        files.push((number.parse().unwrap(), Migration::unapplied(&name, &sql).unwrap()));
    }
    files.sort_by_key(|(number, _)| *number);
    files
}

/// A database at schema `number`, as the release of then left it.
async fn at(number: i32) -> Database {
    // The groups belong to the server.
    drop(Database::migrated().await);
    let database = Database::empty().await;
    let mut admin = database.admin_login().await;
    admin.batch_execute("CREATE SCHEMA tripod AUTHORIZATION tripod_owner; SET ROLE tripod_owner").await.unwrap();
    let files: Vec<Migration> = files().into_iter().map(|(_, file)| file).collect();
    Runner::new(&files)
        .set_target(Target::Version(number))
        .set_migration_table_name("tripod.migrations")
        .run_async(&mut admin)
        .await
        .unwrap();
    database
}

/// Rows in every table that schema has, by statements that every later schema takes too.
async fn fill(client: &Client, number: i32) {
    if number >= 2 {
        client
            .batch_execute(
                "INSERT INTO tripod.tokens (mint, slot, write_version, decimals, name, symbol, symbol_normalised, named_by,
                                            source)
                 SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), 0, 0, 6, 'Token ' || n, 'T' || n, 't' || n, 'list', 'list'
                 FROM generate_series(1, 200) AS n;
                 UPDATE tripod.tokens SET program = decode(repeat('ab', 32), 'hex'), supply = 18446744073709551615,
                        slot = 7, on_chain_at = now() - interval '1 day' WHERE slot = 0 AND symbol < 'T2';
                 INSERT INTO tripod.token_extensions (mint, number, occurrence, position, name, raw, fields)
                 SELECT mint, 1, 0, 0, 'transferFeeConfig', '\\x0102',
                        '{\"olderTransferFee\": {\"transferFeeBasisPoints\": 25}, \"newerTransferFee\": {\"transferFeeBasisPoints\": 30}}'
                 FROM tripod.tokens WHERE program IS NOT NULL;
                 UPDATE tripod.tokens SET decimals = 9, slot = 8 WHERE symbol = 'T1'",
            )
            .await
            .unwrap();
    }
    if number >= 3 {
        client
            .batch_execute(
                "INSERT INTO tripod.settings (namespace, key, value, changed_by, reason)
                 VALUES ('risk', 'limit', '5', 'me', 'first'), ('risk', 'on', 'true', 'me', 'first');
                 UPDATE tripod.settings SET value = '7', changed_by = 'you', reason = 'second' WHERE key = 'limit'",
            )
            .await
            .unwrap();
    }
    if number >= 4 {
        client
            .batch_execute(
                "INSERT INTO tripod.health (component, status, details, deadline_ms) VALUES ('bot', 'ok', '{\"a\": 1}', 9000);
                 UPDATE tripod.health SET status = 'failed', heartbeat_at = clock_timestamp() WHERE component = 'bot'",
            )
            .await
            .unwrap();
    }
    if number >= 6 {
        client
            .batch_execute(
                "INSERT INTO tripod.settings_applied (bot, namespace, revisions, refused, deadline_ms)
                 VALUES ('bot', 'risk', '{\"limit\": 2}', '[]', 9000)",
            )
            .await
            .unwrap();
    }
}

/// What every schema from `number` on says of those rows.
async fn content(client: &Client, number: i32) -> Vec<String> {
    let mut questions = Vec::new();
    if number >= 2 {
        questions.extend([
            "SELECT mint, program, supply, slot, decimals, name, symbol, named_by, first_seen_at, on_chain_at
             FROM tripod.tokens ORDER BY mint",
            "SELECT * FROM tripod.token_extensions ORDER BY mint",
            "SELECT * FROM tripod.token_changes ORDER BY id",
        ]);
    }
    if number >= 3 {
        questions.extend([
            "SELECT * FROM tripod.settings ORDER BY namespace, key",
            "SELECT * FROM tripod.settings_history ORDER BY namespace, key, revision",
        ]);
    }
    if number >= 4 {
        questions.extend([
            "SELECT * FROM tripod.health ORDER BY component",
            "SELECT id, component, before, after, details, changed_at FROM tripod.health_changes ORDER BY id",
        ]);
    }
    if number >= 6 {
        questions.push("SELECT * FROM tripod.settings_applied");
    }
    let mut rows = Vec::new();
    for question in questions {
        let found = client.query(&format!("SELECT q::text FROM ({question}) AS q"), &[]).await.unwrap();
        assert!(!found.is_empty(), "{question}");
        rows.extend(found.iter().map(|row| row.get::<_, String>(0)));
    }
    rows
}

#[tokio::test]
async fn a_filled_database_of_each_older_schema_comes_to_this_one_with_every_row() {
    let fresh = {
        let database = Database::empty().await;
        migrations::apply(&database.config).await.unwrap();
        dump(&database)
    };
    let numbers: Vec<i32> = files().iter().map(|(number, _)| *number).collect();
    assert!(numbers.len() >= 8);
    for number in &numbers {
        let database = at(*number).await;
        let client = database.superuser().await;
        fill(&client, *number).await;
        let before = content(&client, *number).await;
        let newest = number == numbers.last().unwrap();
        assert_eq!(migrations::check(&database.bot()).await.is_ok(), newest, "{number}");

        migrations::apply(&database.config).await.unwrap();
        migrations::check(&database.bot()).await.unwrap();
        assert_eq!(content(&client, *number).await, before, "from schema {number}");
        assert!(dump(&database) == fresh, "schema {number} comes to another schema than an empty database");
        // And it is at work: a change goes on from the revision that was there.
        let settings = Settings::new(database.operator());
        let expected = (*number >= 3).then_some(2);
        let change = Change { expected, who: "me", why: "after the upgrade" };
        let written = settings.set("risk", "limit", &9, change).await.unwrap();
        assert_eq!(written.revision, expected.unwrap_or(0) + 1);
        if *number >= 4 {
            let listed = Health::new(database.bot()).list().await.unwrap();
            assert_eq!((listed.len(), listed[0].name.as_str()), (1, "bot"));
            assert_eq!(Health::new(database.bot()).changes(Some("bot"), 10).await.unwrap().len(), 2);
        }
    }
}
