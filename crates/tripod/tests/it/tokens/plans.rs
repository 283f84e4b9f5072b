//! Each question goes through its index, asked of the server: with the plan for these values and with the one for any.

use serde_json::Value;
use tokio_postgres::Client;

use crate::postgres_server::Database;

/// Enough that reading everything is dearer than an index for every question here.
const TOKENS: u32 = 50_000;

/// Question, indexes that must be in the plan (`a|b`: one of the two), values.
const QUESTIONS: [(&str, &[&str], &str); 14] = [
    ("by mint", &["tokens_pkey", "token_extensions_pkey"], "sha256('7')"),
    ("by mints", &["tokens_pkey"], "ARRAY[sha256('7'), sha256('8')]"),
    ("by symbol", &["tokens_by_symbol"], "'sym7', 1000"),
    ("search", &["tokens_by_symbol", "tokens_by_name"], "'sym7', 'sym7' || chr(1114111), '%token 77%', 50"),
    ("changes of a token", &["token_changes_by_mint"], "sha256('7'), 100"),
    ("changed since", &["tokens_by_change"], "pg_snapshot_xmin(pg_current_snapshot())::text, ''"),
    ("by extension", &["token_extensions_by_number"], "'', 100, 14"),
    ("by authority", &["token_extensions_by_key", "tokens_by_mint_authority"], "'', 100, sha256('a7'), 'authority7'"),
    ("by hook program", &["token_extensions_by_key|token_extensions_by_number"], "'', 100, 'program50'"),
    ("by permanent delegate", &["token_extensions_by_key|token_extensions_by_number"], "'', 100, 'delegate700'"),
    ("by group", &["token_extensions_by_key|token_extensions_by_number"], "'', 100, 'group1000'"),
    ("by fee", &["token_extensions_by_fee"], "'', 100, 990, '700'"),
    ("paused", &["token_extensions_paused"], "'', 100"),
    ("unread", &["token_extensions_unread"], "'', 100"),
];

/// A market's worth of tokens: most with nothing, some with a fee, fewer with a hook, a delegate, a group.
async fn fill(client: &Client, tokens: u32) {
    let sql = format!(
        "INSERT INTO tripod.tokens (mint, program, mint_authority, supply, slot, write_version, decimals, name, symbol,
                                    symbol_normalised, named_by, source, on_chain_at)
         SELECT sha256(i::text::bytea), decode(repeat('06', 32), 'hex'),
                CASE WHEN i % 3 = 0 THEN sha256(('a' || i / 10)::bytea) END, i, i, 0, 6,
                CASE WHEN i % 2 = 0 THEN 'token ' || i END, CASE WHEN i % 2 = 0 THEN 'SYM' || i END,
                CASE WHEN i % 2 = 0 THEN 'sym' || i END, CASE WHEN i % 2 = 0 THEN 'chain' END, 'made', now()
         FROM generate_series(1, {tokens}) AS i;
         INSERT INTO tripod.token_extensions (mint, number, occurrence, position, name, raw, fields, decode_error)
         SELECT sha256(i::text::bytea), e.number, 0, e.number, 'x', '', e.fields, e.error
         FROM generate_series(1, {tokens}) AS i
         CROSS JOIN LATERAL (VALUES
             (19, i % 2 = 0, jsonb_build_object('name', 'token ' || i), NULL),
             (18, i % 2 = 0, jsonb_build_object('authority', 'authority' || i), NULL),
             (1, i % 10 = 0, jsonb_build_object('transferFeeConfigAuthority', 'fees' || i % 100,
                 'olderTransferFee', jsonb_build_object('epoch', '600', 'transferFeeBasisPoints', i / 10 % 1000),
                 'newerTransferFee', jsonb_build_object('epoch', '698', 'transferFeeBasisPoints', i / 10 % 997)), NULL),
             (14, i % 50 = 0, jsonb_build_object('authority', NULL, 'programId', 'program' || i), NULL),
             (12, i % 100 = 0, jsonb_build_object('delegate', 'delegate' || i), NULL),
             (26, i % 200 = 0, jsonb_build_object('authority', 'p', 'paused', i % 5000 = 0), NULL),
             (23, i % 1000 = 0, jsonb_build_object('group', 'group' || i), NULL),
             (99, i % 5000 = 0, NULL, 'number 99 is unknown')
         ) AS e (number, there, fields, error)
         WHERE e.there;
         INSERT INTO tripod.token_changes (mint, field, after, slot, source)
         SELECT sha256(i::text::bytea), 'decimals', '7', i, 'made' FROM generate_series(1, {tokens} / 2) AS i;
         ANALYZE tripod.tokens, tripod.token_extensions, tripod.token_changes"
    );
    client.batch_execute(&sql).await.unwrap();
}

/// Node types and the indexes they read, all of a plan's.
fn nodes(plan: &Value, found: &mut Vec<String>) {
    match plan {
        Value::Object(fields) => {
            for key in ["Node Type", "Index Name"] {
                if let Some(text) = fields.get(key).and_then(Value::as_str) {
                    found.push(text.to_owned());
                }
            }
            fields.values().for_each(|value| nodes(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| nodes(value, found)),
        _ => {}
    }
}

async fn every_question_has_its_index(tokens: u32) {
    let database = Database::migrated().await;
    let client = database.superuser().await;
    fill(&client, tokens).await;
    let statements = tripod::tokens::find::statements();
    assert_eq!(statements.len(), QUESTIONS.len(), "a question without its plan here");
    for (number, (name, sql)) in statements.iter().enumerate() {
        let (_, indexes, values) = QUESTIONS.iter().find(|question| question.0 == *name).unwrap();
        client.batch_execute(&format!("PREPARE question{number} AS {sql}")).await.unwrap();
        for mode in ["force_custom_plan", "force_generic_plan"] {
            client.batch_execute(&format!("SET plan_cache_mode = {mode}")).await.unwrap();
            let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE question{number} ({values})");
            let rows = client.query(&explain, &[]).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            let plan: Value = rows[0].get(0);
            let mut found = Vec::new();
            nodes(&plan, &mut found);
            assert!(!found.iter().any(|node| node == "Seq Scan"), "{name}, {mode}: {plan:#}");
            for index in *indexes {
                assert!(
                    found.iter().any(|node| index.split('|').any(|index| node == index)),
                    "{name}, {mode}: not by {index}: {plan:#}"
                );
            }
        }
    }
}

#[tokio::test]
async fn every_question_goes_through_its_index() {
    every_question_has_its_index(TOKENS).await;
}

#[tokio::test]
#[ignore = "a million tokens take minutes to make; `make soak` runs it"]
async fn every_question_goes_through_its_index_at_a_million_tokens() {
    every_question_has_its_index(1_000_000).await;
}
