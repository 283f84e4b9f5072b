//! The four groups that own, write, read and operate, and who belongs to them.
//!
//! Constraints: idempotent, and read first: a second run changes nothing and needs no rights to change anything. Roles
//! belong to the whole server while the migration lock belongs to one database, so two databases that are migrated at
//! once may race here; the loser looks again.
//!
//! Picture:
//! ```text
//! admin login ──▶ tripod_owner (owns schema `tripod` and all in it), tripod_operator (settings, retention)
//! bot login ────▶ tripod_writer (tokens, health; reads settings)
//! dashboards ───▶ tripod_reader (reads)
//! ```
//! Logins and passwords are made by `tripod up` or by whoever runs the server; this module never sees a password.

use tokio_postgres::Client;

use super::class::Failure;
use super::migrations::Step;
use crate::config;
use crate::error::{Error, Result, Server};

/// The NOLOGIN groups.
pub const GROUPS: [&str; 4] = ["tripod_owner", "tripod_writer", "tripod_reader", "tripod_operator"];

/// How often the loser of a race looks again. Each round something of the other side's work is done, so a handful is
/// plenty.
const ROUNDS_MAX: usize = 5;

/// duplicate_object, unique_violation, and internal_error (`tuple concurrently updated`): somebody else was faster.
const RACES: [&str; 3] = ["42710", "23505", "XX000"];

/// One thing that is missing, and the statement that makes it.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) step: Step,
    sql: String,
}

/// What the catalogues say, as far as this module cares.
#[derive(Debug, Default)]
struct Live {
    groups: Vec<String>,
    admin_memberships: Vec<String>,
    bot_exists: bool,
    bot_writes: bool,
    schema_owner: Option<String>,
}

/// What is missing; changes nothing.
pub(super) async fn missing(client: &Client, config: &config::Postgres) -> Result<Vec<Missing>, Failure> {
    Ok(compare(&read(client, config).await?, config)?)
}

/// Makes what is missing. Gives back what it did.
pub(super) async fn apply(client: &Client, config: &config::Postgres) -> Result<Vec<Step>, Failure> {
    let mut done = Vec::new();
    let mut round = 0;
    loop {
        round += 1;
        let missing = missing(client, config).await?;
        if missing.is_empty() {
            return Ok(done);
        }
        for Missing { step, sql } in missing {
            match client.batch_execute(&sql).await {
                Ok(()) => done.push(step),
                Err(e) if round < ROUNDS_MAX && e.code().is_some_and(|c| RACES.contains(&c.code())) => break,
                Err(e) => return Err(e.into()),
            }
        }
    }
}

async fn read(client: &Client, config: &config::Postgres) -> Result<Live, Failure> {
    let groups = client
        .query("SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY($1::text[])", &[&&GROUPS[..]])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<Vec<String>, _>>()?;
    let admin_memberships = client
        .query(
            "SELECT rolname::text FROM pg_catalog.pg_roles
             WHERE rolname = ANY($1::text[]) AND pg_has_role(session_user, oid, 'MEMBER')",
            &[&&GROUPS[..]],
        )
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<Vec<String>, _>>()?;
    let bot = client
        .query_opt(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles AS g
                            WHERE g.rolname = 'tripod_writer' AND pg_has_role(r.oid, g.oid, 'USAGE'))
             FROM pg_catalog.pg_roles AS r WHERE r.rolname = $1",
            &[&config.user],
        )
        .await?;
    let schema_owner = client
        .query_opt("SELECT nspowner::regrole::text FROM pg_catalog.pg_namespace WHERE nspname = 'tripod'", &[])
        .await?
        .map(|row| row.try_get(0))
        .transpose()?;
    Ok(Live {
        groups,
        admin_memberships,
        bot_exists: bot.is_some(),
        bot_writes: bot.map(|row| row.try_get(0)).transpose()?.unwrap_or(false),
        schema_owner,
    })
}

fn compare(live: &Live, config: &config::Postgres) -> Result<Vec<Missing>> {
    if !live.bot_exists {
        return Err(Error::Refused {
            server: Server::Postgres,
            what: format!(
                "the login `{0}` of postgres.user does not exist; create it first: CREATE ROLE {1} LOGIN PASSWORD '…'",
                config.user,
                quoted(&config.user)
            ),
            code: None,
            source: None,
        });
    }
    if let Some(owner) = live.schema_owner.as_deref().filter(|owner| *owner != "tripod_owner") {
        return Err(Error::Schema {
            server: Server::Postgres,
            what: format!(
                "the schema tripod belongs to {owner}, not to tripod_owner; give it over (ALTER SCHEMA tripod OWNER TO \
                 tripod_owner), or use another database"
            ),
        });
    }
    let mut missing = Vec::new();
    let mut add = |object: String, action: &'static str, detail: String, sql: String| {
        missing.push(Missing { step: Step { object, action, detail }, sql });
    };
    for group in GROUPS.iter().filter(|g| !live.groups.iter().any(|have| have == *g)) {
        add(format!("role {group}"), "create", "a group without login".into(), format!("CREATE ROLE {group} NOLOGIN"));
    }
    for group in ["tripod_owner", "tripod_operator"] {
        if !live.admin_memberships.iter().any(|have| have == group) {
            let (admin, name) = (&config.admin_user, quoted(&config.admin_user));
            add(format!("role {admin}"), "grant", format!("member of {group}"), format!("GRANT {group} TO {name}"));
        }
    }
    if !live.bot_writes {
        let (bot, name) = (&config.user, quoted(&config.user));
        add(format!("role {bot}"), "grant", "member of tripod_writer".into(), format!("GRANT tripod_writer TO {name}"));
    }
    if live.schema_owner.is_none() {
        let sql = "CREATE SCHEMA tripod AUTHORIZATION tripod_owner";
        add("schema tripod".into(), "create", "owned by tripod_owner".into(), sql.into());
    }
    Ok(missing)
}

/// A name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_there() -> Live {
        Live {
            groups: GROUPS.map(str::to_owned).to_vec(),
            admin_memberships: GROUPS.map(str::to_owned).to_vec(),
            bot_exists: true,
            bot_writes: true,
            schema_owner: Some("tripod_owner".into()),
        }
    }

    #[test]
    fn an_empty_server_needs_everything_and_a_complete_one_nothing() {
        let config = config::Postgres::default();
        assert!(compare(&all_there(), &config).unwrap().is_empty());
        let empty = Live { bot_exists: true, ..Live::default() };
        let sql: Vec<String> = compare(&empty, &config).unwrap().into_iter().map(|m| m.sql).collect();
        assert_eq!(
            sql,
            [
                "CREATE ROLE tripod_owner NOLOGIN",
                "CREATE ROLE tripod_writer NOLOGIN",
                "CREATE ROLE tripod_reader NOLOGIN",
                "CREATE ROLE tripod_operator NOLOGIN",
                "GRANT tripod_owner TO \"tripod_admin\"",
                "GRANT tripod_operator TO \"tripod_admin\"",
                "GRANT tripod_writer TO \"tripod_bot\"",
                "CREATE SCHEMA tripod AUTHORIZATION tripod_owner",
            ]
        );
    }

    #[test]
    fn a_missing_login_and_a_foreign_schema_are_named() {
        let config = config::Postgres::default();
        let error = compare(&Live { bot_exists: false, ..all_there() }, &config).unwrap_err();
        assert!(error.to_string().contains("CREATE ROLE \"tripod_bot\" LOGIN"), "{error}");
        let foreign = Live { schema_owner: Some("somebody".into()), ..all_there() };
        assert!(matches!(compare(&foreign, &config), Err(Error::Schema { .. })));
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"; DROP ROLE x; --"), "\"a\"\"; DROP ROLE x; --\"");
    }
}
