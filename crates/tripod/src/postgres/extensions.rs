//! What the server's own extensions give: `pg_trgm`, by which a part of a name is found through an index.
//!
//! Constraints: a server without it still works, and nothing fails for it. It is made where the administrator may make
//! it (it is a trusted extension: CREATE on the database is enough); where not, names are read one after the other and
//! [`NAMES_UNINDEXED`] says what to do. Looked at by each run, not by a numbered file: the extension may come later.

use tokio_postgres::Client;

use super::class::Failure;
use super::migrations::Step;

/// What an operator is told where names have no index.
pub const NAMES_UNINDEXED: &str = "the server has no pg_trgm, so names are read one after the other (about a second for \
                                   a million); `CREATE EXTENSION pg_trgm` by its administrator, then `tripod migrate`";

/// Is it there, could this login make it, is the index there?
const STATE: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_trgm'),
       EXISTS (SELECT FROM pg_catalog.pg_available_extension_versions AS v
               WHERE v.name = 'pg_trgm'
                 AND (v.trusted AND has_database_privilege(current_database(), 'CREATE')
                      OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user))),
       to_regclass('tripod.tokens_by_name') IS NOT NULL";

/// The operators' schema is asked for: whoever made the extension chose it.
const OPERATORS_SCHEMA: &str = "
SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'";

struct State {
    is_there: bool,
    can_be_made: bool,
    is_used: bool,
}

async fn state(client: &Client) -> Result<State, Failure> {
    let row = client.query_one(STATE, &[]).await?;
    Ok(State { is_there: row.try_get(0)?, can_be_made: row.try_get(1)?, is_used: row.try_get(2)? })
}

fn step(object: &str, detail: &str) -> Step {
    Step { object: object.to_owned(), action: "create", detail: detail.to_owned() }
}

fn extension() -> Step {
    step("extension pg_trgm", "parts of a token's name are found through an index")
}

fn index() -> Step {
    step("index tokens_by_name", "by the three-letter pieces of each name")
}

/// What [`make_extension`] and [`make_index`] would do.
pub(super) async fn missing(client: &Client) -> Result<Vec<Step>, Failure> {
    let state = state(client).await?;
    let mut steps = Vec::new();
    if !state.is_there && state.can_be_made {
        steps.push(extension());
    }
    if !state.is_used && (state.is_there || state.can_be_made) {
        steps.push(index());
    }
    Ok(steps)
}

/// As the administrator.
pub(super) async fn make_extension(client: &Client) -> Result<Option<Step>, Failure> {
    let state = state(client).await?;
    if state.is_there {
        return Ok(None);
    }
    if !state.can_be_made {
        tracing::warn!("{NAMES_UNINDEXED}");
        return Ok(None);
    }
    client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public").await?;
    Ok(Some(extension()))
}

/// As the tables' owner, once the tables are there.
pub(super) async fn make_index(client: &Client) -> Result<Option<Step>, Failure> {
    let state = state(client).await?;
    if state.is_used || !state.is_there {
        return Ok(None);
    }
    let schema: String = client.query_one(OPERATORS_SCHEMA, &[]).await?.try_get(0)?;
    client
        .batch_execute(&format!(
            "CREATE INDEX tokens_by_name ON tripod.tokens USING gin (lower(name) {schema}.gin_trgm_ops)
             WHERE name IS NOT NULL"
        ))
        .await?;
    Ok(Some(index()))
}
