//! PostgreSQL: settings, schema, who the bot's login is, what each group really may, archiving, room, the clock.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::{Departure, Finding, clock};
use crate::config;
use crate::error::{Error, Result};
use crate::postgres::{Failure, Postgres, migrations, timestamp};
use crate::value::Timestamp;

/// The major version that everything here was tried with.
pub const TESTED: i32 = 15;
/// The expected end state; a test compares it with a migrated database.
const SCHEMA: &str = include_str!("../../migrations/postgres/schema.sql");
/// Of all connections, in percent.
const CONNECTIONS_PERCENT_MAX: i64 = 80;
/// A file of the log that has waited so long for the archive waits for something else.
const WAITING_MINUTES_MAX: i64 = 5;

/// What each grantee may on each object: (`object`, `grantee`) to privileges, a column's as `UPDATE(value)`.
type Grants = BTreeMap<(String, String), BTreeSet<String>>;

/// Looks at one server through its operator's login.
///
/// # Errors
/// As [`Postgres::call`], where the server does not answer at all.
pub async fn look(postgres: &Postgres, config: &config::Postgres) -> Result<Vec<Departure>> {
    let schema = match migrations::check(postgres).await {
        Ok(()) => None,
        Err(Error::Schema { what, .. }) => Some(Departure::wrong(
            Finding::PostgresSchema,
            what,
            "a bot refuses to start on another schema than its own",
            "`tripod migrate`",
        )),
        Err(error) => return Err(error),
    };
    // Without the schema nothing can be said of its grants.
    let migrated = schema.is_none();
    let mut found: Vec<_> = schema.into_iter().collect();
    found.extend(
        postgres
            .call("look at the server", async |client| {
                let before = Timestamp::now();
                let now = client.query_one("SELECT clock_timestamp()", &[]).await?;
                let theirs = timestamp(now.try_get(0)?)?;
                let mut found: Vec<_> =
                    clock(Finding::PostgresClock, "PostgreSQL", before, theirs, Timestamp::now()).into_iter().collect();
                found.extend(settings(&settings_of(client).await?));
                found.extend(room(client).await?);
                found.extend(archiving(client).await?);
                found.extend(login(client, &config.user).await?);
                if migrated {
                    found.extend(compare(&granted(SCHEMA), &live_grants(client).await?));
                }
                Ok(found)
            })
            .await?,
    );
    Ok(found)
}

async fn settings_of(client: &Client) -> std::result::Result<BTreeMap<String, String>, Failure> {
    let names = [
        "server_version_num",
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "data_checksums",
        "listen_addresses",
        "ssl",
        "wal_level",
    ];
    let rows =
        client.query("SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY($1)", &[&&names[..]]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The part that needs no server.
fn settings(known: &BTreeMap<String, String>) -> Vec<Departure> {
    let value = |name: &str| known.get(name).map(String::as_str).unwrap_or_default();
    let set = |name: &str, to: &str| format!("ALTER SYSTEM SET {name} = {to}; SELECT pg_reload_conf();");
    let mut found = Vec::new();
    let version: i32 = value("server_version_num").parse().unwrap_or(0);
    if version / 10_000 != TESTED {
        found.push(Departure::advice(
            Finding::PostgresVersion,
            format!("PostgreSQL {}", version / 10_000),
            "only what was tested is promised",
            format!("use PostgreSQL {TESTED}, or run `tripod drill run stall-postgres` against this one"),
        ));
    }
    for (name, id) in [("fsync", Finding::PostgresFsync), ("full_page_writes", Finding::PostgresFullPageWrites)] {
        if value(name) == "off" {
            found.push(Departure::wrong(
                id,
                format!("{name} is off"),
                "a power loss may leave a database that cannot be read any more",
                set(name, "on"),
            ));
        }
    }
    if value("synchronous_commit") == "off" {
        found.push(Departure::wrong(
            Finding::PostgresSynchronousCommit,
            "synchronous_commit is off",
            "a setting or a token that was answered as stored may be gone after a crash of the machine",
            set("synchronous_commit", "on"),
        ));
    }
    if value("data_checksums") == "off" {
        found.push(Departure::advice(
            Finding::PostgresChecksums,
            "pages have no checksums",
            "a disk that flips a bit is not noticed, and the backup keeps the flipped one",
            "stop the server and run pg_checksums --enable on its data directory",
        ));
    }
    let listens_beyond = value("listen_addresses").split(',').any(|at| matches!(at.trim(), "*" | "0.0.0.0" | "::"));
    if listens_beyond && value("ssl") != "on" {
        found.push(Departure::wrong(
            Finding::PostgresPlainNetwork,
            "it listens on every address and has no TLS",
            "passwords' proofs and all data cross the network readable",
            "set ssl = on with a certificate, or listen_addresses = '127.0.0.1', and restart it",
        ));
    }
    if value("wal_level") == "minimal" {
        found.push(Departure::wrong(
            Finding::PostgresWalLevel,
            "wal_level is minimal",
            "no base backup can be taken and no standby can follow",
            "ALTER SYSTEM SET wal_level = replica; then restart it",
        ));
    }
    found
}

async fn room(client: &Client) -> std::result::Result<Option<Departure>, Failure> {
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'),
                    current_setting('max_connections')::bigint",
            &[],
        )
        .await?;
    let (used, most): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok((used.saturating_mul(100) > most.saturating_mul(CONNECTIONS_PERCENT_MAX)).then(|| {
        Departure::advice(
            Finding::PostgresConnections,
            format!("{used} of {most} connections are in use"),
            "the next bot that starts is refused",
            "raise max_connections and restart it, or lower `pool_size` of the bots",
        )
    }))
}

/// What the archiver says of itself, and what it leaves undone without a word.
async fn archiving(client: &Client) -> std::result::Result<Option<Departure>, Failure> {
    let row = client
        .query_one(
            "SELECT current_setting('archive_mode'),
                    -- Either does; the library is there from version 15 on.
                    current_setting('archive_command') || coalesce(current_setting('archive_library', true), ''),
                    coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false), failed_count,
                    coalesce(last_failed_wal, ''),
                    has_function_privilege('pg_catalog.pg_ls_archive_statusdir()', 'EXECUTE')
             FROM pg_catalog.pg_stat_archiver",
            &[],
        )
        .await?;
    let archiver = Archiver {
        mode: row.try_get(0)?,
        how: row.try_get(1)?,
        failing: row.try_get(2)?,
        failures: row.try_get(3)?,
        file: row.try_get(4)?,
    };
    let waiting = match row.try_get(5)? {
        false => None,
        true => {
            let sql = "SELECT count(*), (extract(epoch FROM clock_timestamp() - min(modification)) / 60)::bigint
                       FROM pg_catalog.pg_ls_archive_statusdir() WHERE name LIKE '%.ready'";
            let row = client.query_one(sql, &[]).await?;
            Some((row.try_get(0)?, row.try_get::<_, Option<i64>>(1)?.unwrap_or(0)))
        }
    };
    Ok(judge(&archiver, waiting))
}

/// What PostgreSQL tells about its archiver.
struct Archiver {
    mode: String,
    /// The command or the library; empty where there is neither.
    how: String,
    /// Whether the last thing it did was to fail.
    failing: bool,
    failures: i64,
    file: String,
}

/// `waiting`: how many files wait, and how many minutes the oldest has; none where that must not be asked.
fn judge(archiver: &Archiver, waiting: Option<(i64, i64)>) -> Option<Departure> {
    let why = "a restore ends where the archive does, and the log that waits fills the disk";
    if archiver.mode == "off" {
        return Some(Departure::advice(
            Finding::PostgresArchiveOff,
            "archive_mode is off",
            "nothing after the last base backup can be restored",
            "set archive_mode = on and an archive_command, and restart it; `tripod up` does that for a local stack",
        ));
    }
    if archiver.how.trim().is_empty() {
        return Some(Departure::wrong(
            Finding::PostgresArchive,
            "archive_mode is on, and there is no archive_command and no archive_library",
            why,
            "ALTER SYSTEM RESET archive_command; SELECT pg_reload_conf(); or set one that works",
        ));
    }
    if archiver.failing {
        return Some(Departure::wrong(
            Finding::PostgresArchive,
            format!("archiving fails, {} times so far, last of {}", archiver.failures, archiver.file),
            why,
            "the server's log has archive_command's own words (`tripod up` puts a local stack's archive directory in \
             order); mend what they say, and it goes on by itself within a minute",
        ));
    }
    let (files, minutes) = waiting.filter(|(_, minutes)| *minutes >= WAITING_MINUTES_MAX)?;
    Some(Departure::wrong(
        Finding::PostgresArchive,
        format!(
            "{files} files of the log wait to be archived, the oldest for {minutes} minutes; no failure is reported"
        ),
        why,
        "look whether archive_command hangs (`ps`, a network drive) and end it; it is tried again by itself",
    ))
}

/// Who the bot's login is.
async fn login(client: &Client, bot: &str) -> std::result::Result<Vec<Departure>, Failure> {
    let row = client
        .query_opt(
            "SELECT r.rolsuper, r.rolcreaterole OR r.rolcreatedb OR r.rolbypassrls OR r.rolreplication,
                    coalesce((SELECT array_agg(g.rolname::text ORDER BY g.rolname) FROM pg_catalog.pg_roles AS g
                              WHERE g.rolname IN ('tripod_owner', 'tripod_operator', 'tripod_writer')
                                AND pg_has_role(r.oid, g.oid, 'MEMBER')), '{}')
             FROM pg_catalog.pg_roles AS r WHERE r.rolname = $1",
            &[&bot],
        )
        .await?;
    let Some(row) = row else {
        return Ok(vec![Departure::wrong(
            Finding::PostgresBotLogin,
            format!("there is no login {bot}"),
            "the bot cannot log in",
            format!("CREATE ROLE {bot} LOGIN PASSWORD '…'; then `tripod migrate`"),
        )]);
    };
    let (superuser, more, groups): (bool, bool, Vec<String>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let mut found = Vec::new();
    if superuser || more {
        let (is, no) = if superuser {
            ("a superuser", "NOSUPERUSER")
        } else {
            ("more than a login", "NOCREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION")
        };
        found.push(Departure::wrong(
            Finding::PostgresBotRights,
            format!("the bot's login {bot} is {is}"),
            "a stolen or broken bot can do everything to the server",
            format!("ALTER ROLE {bot} {no}"),
        ));
    }
    // A superuser is a member of everything.
    for group in groups.iter().filter(|group| !superuser && *group != "tripod_writer") {
        found.push(Departure::wrong(
            Finding::PostgresBotRights,
            format!("the bot's login {bot} is a member of {group}"),
            "settings are the operator's: a bot that may change them can raise its own limits",
            format!("REVOKE {group} FROM {bot}"),
        ));
    }
    if !superuser && !groups.iter().any(|group| group == "tripod_writer") {
        found.push(Departure::wrong(
            Finding::PostgresBotRights,
            format!("the bot's login {bot} is no member of tripod_writer"),
            "it can read and write nothing",
            "`tripod migrate`",
        ));
    }
    Ok(found)
}

async fn live_grants(client: &Client) -> std::result::Result<Grants, Failure> {
    let rows = client
        .query(
            "SELECT c.oid::regclass::text, coalesce(r.rolname::text, 'PUBLIC'), g.privilege_type
             FROM pg_catalog.pg_class AS c, aclexplode(c.relacl) AS g
                  LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = g.grantee
             WHERE c.relnamespace = 'tripod'::regnamespace AND g.grantee <> c.relowner
             UNION ALL
             SELECT c.oid::regclass::text, coalesce(r.rolname::text, 'PUBLIC'),
                    g.privilege_type || '(' || a.attname || ')'
             FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid,
                  aclexplode(a.attacl) AS g LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = g.grantee
             WHERE c.relnamespace = 'tripod'::regnamespace AND g.grantee <> c.relowner",
            &[],
        )
        .await?;
    let mut grants = Grants::new();
    for row in rows {
        grants.entry((row.try_get(0)?, row.try_get(1)?)).or_default().insert(row.try_get(2)?);
    }
    Ok(grants)
}

/// The GRANTs on tables and sequences in `sql`, as pg_dump writes them.
fn granted(sql: &str) -> Grants {
    let mut grants = Grants::new();
    for line in sql.lines() {
        let Some((privileges, rest)) = line.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON ")) else {
            continue;
        };
        let Some((object, grantee)) = rest
            .strip_prefix("TABLE ")
            .or_else(|| rest.strip_prefix("SEQUENCE "))
            .and_then(|rest| rest.trim_end_matches(';').split_once(" TO "))
        else {
            continue;
        };
        let all = grants.entry((object.to_owned(), grantee.to_owned())).or_default();
        all.extend(privileges.split(',').map(|privilege| privilege.trim().to_owned()));
    }
    grants
}

/// What lacks, and what is too much. Objects that are not Tripod's are not judged.
fn compare(wanted: &Grants, live: &Grants) -> Vec<Departure> {
    let mut found = Vec::new();
    let list = |privileges: &BTreeSet<String>| privileges.iter().cloned().collect::<Vec<_>>().join(", ");
    for ((object, grantee), privileges) in wanted {
        let there = live.get(&(object.clone(), grantee.clone()));
        let lacking: BTreeSet<_> =
            privileges.iter().filter(|one| !there.is_some_and(|there| there.contains(*one))).cloned().collect();
        if !lacking.is_empty() {
            found.push(Departure::wrong(
                Finding::PostgresGrants,
                format!("{grantee} lacks {} on {object}", list(&lacking)),
                "what needs it fails with 42501 when it is needed, and not before",
                format!("GRANT {} ON {object} TO {grantee}", list(&lacking)),
            ));
        }
    }
    let ours: BTreeSet<_> = wanted.keys().map(|(object, _)| object).collect();
    for ((object, grantee), privileges) in live.iter().filter(|((object, _), _)| ours.contains(object)) {
        let due = wanted.get(&(object.clone(), grantee.clone()));
        let extra: BTreeSet<_> =
            privileges.iter().filter(|one| !due.is_some_and(|due| due.contains(*one))).cloned().collect();
        // Whoever somebody lets read on purpose is that somebody's matter; who may write is ours.
        let group = grantee.starts_with("tripod_") || grantee == "PUBLIC";
        if !extra.is_empty() && (group || extra.iter().any(|one| !one.starts_with("SELECT"))) {
            found.push(Departure::wrong(
                Finding::PostgresGrants,
                format!("{grantee} may {} on {object}", list(&extra)),
                "histories are only worth something where nobody can rewrite them",
                format!("REVOKE {} ON {object} FROM {grantee}", list(&extra)),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_the_dump_writes_them() {
        let grants = granted(
            "GRANT USAGE ON SCHEMA tripod TO tripod_writer;\nGRANT SELECT,INSERT ON TABLE tripod.health TO tripod_writer;\n\
             GRANT INSERT(value),UPDATE(value) ON TABLE tripod.settings TO tripod_operator;\n",
        );
        let of = |object: &str, who: &str| {
            grants[&(object.to_owned(), who.to_owned())].iter().map(String::as_str).collect::<Vec<_>>()
        };
        assert_eq!(of("tripod.health", "tripod_writer"), ["INSERT", "SELECT"]);
        assert_eq!(of("tripod.settings", "tripod_operator"), ["INSERT(value)", "UPDATE(value)"]);
        assert_eq!(grants.len(), 2);
        assert!(granted(SCHEMA).len() >= 20, "the expected schema has lost its grants");
    }

    #[test]
    fn what_lacks_and_what_is_too_much_are_both_said_with_their_statement() {
        let wanted = granted("GRANT SELECT,INSERT ON TABLE tripod.health TO tripod_writer;");
        let live = granted(
            "GRANT SELECT,DELETE ON TABLE tripod.health TO tripod_writer;\nGRANT SELECT ON TABLE tripod.health TO grafana;\n\
             GRANT DELETE ON TABLE tripod.somebodys TO tripod_writer;",
        );
        let remedies: Vec<_> = compare(&wanted, &live).into_iter().map(|found| found.remedy).collect();
        assert_eq!(
            remedies,
            ["GRANT INSERT ON tripod.health TO tripod_writer", "REVOKE DELETE ON tripod.health FROM tripod_writer"]
        );
        assert!(compare(&wanted, &wanted).is_empty());
    }

    #[test]
    fn an_archive_that_does_not_work_is_found_and_an_old_failure_is_not() {
        let archiver = |mode: &str, how: &str, failing: bool| Archiver {
            mode: mode.to_owned(),
            how: how.to_owned(),
            failing,
            failures: 3,
            file: "000000010000000000000001".to_owned(),
        };
        let id = |archiver: &Archiver, waiting| judge(archiver, waiting).map(|found| found.id);
        assert_eq!(id(&archiver("on", "cp", false), Some((0, 0))), None);
        assert_eq!(id(&archiver("on", "cp", false), Some((3, 4))), None, "a burst is no failure");
        assert_eq!(id(&archiver("on", "cp", false), None), None);
        assert_eq!(id(&archiver("on", "cp", true), Some((1, 0))), Some("postgres.archive"));
        assert_eq!(id(&archiver("on", "cp", false), Some((1, 5))), Some("postgres.archive"));
        assert_eq!(id(&archiver("always", " ", false), Some((0, 0))), Some("postgres.archive"));
        // What failed before archiving was switched off is over.
        assert_eq!(id(&archiver("off", "(disabled)", true), Some((9, 99))), Some("postgres.archive-off"));
    }

    #[test]
    fn settings_that_lose_data_are_wrong_and_those_that_cost_are_advice() {
        let known = |pairs: &[(&str, &str)]| {
            settings(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
                .iter()
                .map(|found| found.id)
                .collect::<Vec<_>>()
        };
        let fine = [("server_version_num", "150018"), ("fsync", "on"), ("listen_addresses", "127.0.0.1")];
        assert!(known(&fine).is_empty());
        assert_eq!(
            known(&[
                ("server_version_num", "160002"),
                ("fsync", "off"),
                ("synchronous_commit", "off"),
                ("data_checksums", "off"),
                ("listen_addresses", "localhost, *"),
                ("ssl", "off"),
            ]),
            [
                "postgres.version",
                "postgres.fsync",
                "postgres.synchronous-commit",
                "postgres.checksums",
                "postgres.plain-network"
            ]
        );
    }
}
