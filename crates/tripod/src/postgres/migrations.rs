//! The schema's numbered files, applied once, in order, by one runner at a time.
//!
//! Constraints: [`plan`] changes nothing. [`apply`] runs under one advisory lock, so that of ten runners one works and
//! nine find nothing to do; each file and its entry in the history commit together. A database that was migrated by a
//! newer, an older-but-different, or an edited set of files is an error that says which and what to do; nothing is
//! ever skipped. Objects belong to `tripod_owner`, whoever ran the migration.
//!
//! `migrations/postgres/schema.sql` is the expected end state; a test migrates an empty database and compares.

use std::time::Duration;

use refinery::{Migration, Runner};

use super::class::{Class, Failure, classify};
use super::connect::Login;
use super::pool::Postgres;
use super::{extensions, roles};
use crate::config;
use crate::error::{Error, Result, Server};

/// The files, oldest first. Listed by hand: a new file that is not listed fails a test, while a macro that reads the
/// folder would not notice it until something else makes it compile again.
const FILES: [(&str, &str); 9] = [
    ("V0001__access", include_str!("../../migrations/postgres/V0001__access.sql")),
    ("V0002__tokens", include_str!("../../migrations/postgres/V0002__tokens.sql")),
    ("V0003__settings", include_str!("../../migrations/postgres/V0003__settings.sql")),
    ("V0004__health", include_str!("../../migrations/postgres/V0004__health.sql")),
    ("V0005__token_sync", include_str!("../../migrations/postgres/V0005__token_sync.sql")),
    ("V0006__settings_watch", include_str!("../../migrations/postgres/V0006__settings_watch.sql")),
    ("V0007__health_days", include_str!("../../migrations/postgres/V0007__health_days.sql")),
    ("V0010__token_questions", include_str!("../../migrations/postgres/V0010__token_questions.sql")),
    ("V0011__health_days_whole", include_str!("../../migrations/postgres/V0011__health_days_whole.sql")),
];

/// Where refinery keeps what was applied.
const HISTORY: &str = "tripod.migrations";

/// The key of the advisory lock: "tripod" in ASCII.
const LOCK: i64 = 0x7472_6970_6f64;

/// One runner, lock and all, ends within this; half of it may go into waiting for the lock.
const DEADLINE: Duration = Duration::from_secs(60);

/// One thing that [`plan`] found missing or [`apply`] made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// What it is about: `role tripod_writer`, `migration 2`.
    pub object: String,
    /// `create`, `grant` or `apply`.
    pub action: &'static str,
    /// In words.
    pub detail: String,
}

/// What [`apply`] would do now. Changes nothing.
///
/// # Errors
/// [`Error::Schema`] where the database's history is newer than, missing from, or different from this program's files;
/// [`Error::Refused`] where the bot's login does not exist; otherwise as [`Postgres::call`].
pub async fn plan(config: &config::Postgres) -> Result<Vec<Step>> {
    let known = known()?;
    let admin = Postgres::open_as(config, Login::Admin, DEADLINE)?;
    admin
        .call("plan the migration", async |client| {
            let mut steps: Vec<Step> =
                roles::missing(client, config).await?.into_iter().map(|missing| missing.step).collect();
            let pending = pending(&applied(client).await?, &known)?;
            steps.extend(pending.into_iter().map(step_of));
            steps.extend(extensions::missing(client).await?);
            Ok(steps)
        })
        .await
}

/// Brings the database to this program's schema: groups, memberships, then the pending files. Gives back what it did;
/// nothing where there was nothing to do.
///
/// # Errors
/// As [`plan`]; [`Error::Busy`] where another runner held the lock for half a minute. A file that fails is rolled back
/// whole, the ones before it stay.
pub async fn apply(config: &config::Postgres) -> Result<Vec<Step>> {
    let known = known()?;
    // One connection: the lock, the role and the files must share a session.
    let single = config::Postgres { pool_size: 1, ..config.clone() };
    let admin = Postgres::open_as(&single, Login::Admin, DEADLINE)?;
    admin
        .call("migrate", async |client| {
            client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
            // Whatever happens now, this handle ends with the function, and with its session the lock.
            let mut steps = roles::apply(client, config).await?;
            steps.extend(extensions::make_extension(client).await?);
            let pending: Vec<Step> = pending(&applied(client).await?, &known)?.into_iter().map(step_of).collect();
            if !pending.is_empty() {
                client.batch_execute("SET ROLE tripod_owner").await?;
                Runner::new(&known)
                    .set_migration_table_name(HISTORY)
                    .run_async(&mut ***client)
                    .await
                    .map_err(explain)?;
                client.batch_execute("RESET ROLE").await?;
                steps.extend(pending);
            }
            if !extensions::missing(client).await?.is_empty() {
                client.batch_execute("SET ROLE tripod_owner").await?;
                steps.extend(extensions::make_index(client).await?);
                client.batch_execute("RESET ROLE").await?;
            }
            // Bots do that, too; here it is done where none has run for long. One day more or less is no step.
            client.batch_execute(crate::health::KEEP_DAYS).await?;
            client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
            Ok(steps)
        })
        .await
}

/// For the bot at its start: is the schema the one this program was written for?
///
/// # Errors
/// [`Error::Schema`] naming what is pending and `tripod migrate`, or that the program is older than the database;
/// otherwise as [`Postgres::call`].
pub async fn check(postgres: &Postgres) -> Result<()> {
    let known = known()?;
    postgres
        .call("check the schema", async |client| {
            let pending = pending(&applied(client).await?, &known)?;
            match pending.as_slice() {
                [] => Ok(()),
                [first, ..] => Err(schema(format!(
                    "{} of {} migrations are missing, the first is {} ({}); run `tripod migrate`",
                    pending.len(),
                    known.len(),
                    first.version(),
                    first.name(),
                ))
                .into()),
            }
        })
        .await
}

/// One line of the database's history.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Applied {
    version: i32,
    name: String,
    checksum: String,
}

async fn applied(client: &tokio_postgres::Client) -> Result<Vec<Applied>, Failure> {
    let there: bool = client.query_one("SELECT to_regclass('tripod.migrations') IS NOT NULL", &[]).await?.try_get(0)?;
    if !there {
        return Ok(Vec::new());
    }
    let rows = client.query("SELECT version, name, checksum FROM tripod.migrations ORDER BY version", &[]).await?;
    rows.iter()
        .map(|row| Ok(Applied { version: row.try_get(0)?, name: row.try_get(1)?, checksum: row.try_get(2)? }))
        .collect()
}

fn known() -> Result<Vec<Migration>> {
    FILES
        .iter()
        .map(|(name, sql)| {
            Migration::unapplied(name, sql).map_err(|e| Error::invalid(format!("migration {name}"), e.to_string()))
        })
        .collect()
}

/// Compares the database's history with the files. Pure: all the ways in which they can disagree are tested without a
/// server.
fn pending<'a>(applied: &[Applied], known: &'a [Migration]) -> Result<Vec<&'a Migration>> {
    let newest = known.iter().map(Migration::version).max().unwrap_or(0);
    for have in applied {
        let Applied { version, name, checksum } = have;
        let Some(file) = known.iter().find(|m| m.version() == *version) else {
            return Err(schema(if *version > newest {
                format!(
                    "the database has migration {version} ({name}), this program knows {newest}; upgrade the program"
                )
            } else {
                format!(
                    "the database has migration {version} ({name}), which this program does not have; \
                     use the program that applied it"
                )
            }));
        };
        if file.name() != name || file.checksum().to_string() != *checksum {
            return Err(schema(format!(
                "migration {version} ({name}) was changed after it was applied here; \
                 restore the file and put the change into a new migration"
            )));
        }
    }
    let last = applied.iter().map(|a| a.version).max().unwrap_or(0);
    let pending: Vec<&Migration> = known.iter().filter(|m| !applied.iter().any(|a| a.version == m.version())).collect();
    match pending.iter().find(|m| m.version() < last) {
        Some(late) => Err(schema(format!(
            "migration {} ({}) is missing from the database, which already has {last}; give the file a higher number",
            late.version(),
            late.name(),
        ))),
        None => Ok(pending),
    }
}

fn step_of(migration: &Migration) -> Step {
    Step {
        object: format!("migration {}", migration.version()),
        action: "apply",
        detail: migration.name().replace('_', " "),
    }
}

fn schema(what: String) -> Error {
    Error::Schema { server: Server::Postgres, what }
}

/// Digs the server's own code out of refinery's error, which only lends it.
fn explain(error: refinery::Error) -> Failure {
    let refinery::error::Kind::Connection(_, source) = error.kind() else {
        return schema(error.to_string()).into();
    };
    let driver = source.downcast_ref::<tokio_postgres::Error>();
    let code = driver.and_then(tokio_postgres::Error::code).map(|c| c.code().to_owned());
    let said = driver.and_then(|e| e.as_db_error()).map_or_else(|| source.to_string(), |e| e.message().to_owned());
    let what = format!("migrate: {said}");
    let server = Server::Postgres;
    let busy =
        code.as_deref().is_none_or(|c| matches!(classify(c), Class::Connection | Class::Retry | Class::ReadOnly));
    Failure::Ours(if busy {
        Error::Busy { server, what, source: Some(Box::new(error)) }
    } else {
        Error::Refused { server, what, code, source: Some(Box::new(error)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(known: &[Migration]) -> Vec<Applied> {
        known
            .iter()
            .map(|m| Applied { version: m.version(), name: m.name().to_owned(), checksum: m.checksum().to_string() })
            .collect()
    }

    fn refusal(applied: &[Applied], known: &[Migration]) -> String {
        match pending(applied, known) {
            Err(e @ Error::Schema { .. }) => e.to_string(),
            other => panic!("expected a schema error, got {other:?}"),
        }
    }

    #[test]
    fn every_file_of_the_folder_is_listed_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "schema.sql")
            .collect();
        files.sort();
        let listed: Vec<String> = FILES.iter().map(|(name, _)| format!("{name}.sql")).collect();
        assert_eq!(files, listed);
        // Rising; a number may be left out.
        let versions: Vec<i32> = known().unwrap().iter().map(Migration::version).collect();
        assert!(versions.is_sorted_by(|one, two| one < two), "{versions:?}");
    }

    #[test]
    fn what_was_not_applied_is_pending_and_nothing_else() {
        let known = known().unwrap();
        assert_eq!(pending(&[], &known).unwrap().len(), known.len());
        assert_eq!(pending(&history(&known[..1]), &known).unwrap()[0].version(), 2);
        assert!(pending(&history(&known), &known).unwrap().is_empty());
    }

    #[test]
    fn each_disagreement_has_its_name_and_its_next_step() {
        let known = known().unwrap();
        let mut edited = history(&known);
        edited[1].checksum = "1".into();
        assert!(refusal(&edited, &known).contains("was changed after it was applied"));
        assert!(refusal(&history(&known), &known[..2]).contains("upgrade the program"));
        assert!(refusal(&history(&known), &known[1..]).contains("use the program that applied it"));
        assert!(refusal(&history(&known[1..]), &known).contains("give the file a higher number"));
    }
}
