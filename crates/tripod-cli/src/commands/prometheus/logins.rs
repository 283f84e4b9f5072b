//! The exporters' login on PostgreSQL and on each Redis: to read figures, and nothing else.
//!
//! Constraints: made anew each time, with a new password. No server is sent that password: PostgreSQL gets what SCRAM
//! stores of it, Redis its SHA-256, so that no log of statements holds it either.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tripod::config::{Config, Redis};
use tripod::postgres::{Login, Postgres};
use tripod::{Server, Uuid};

use super::nodes::{Nodes, connect};

/// Its name everywhere.
pub(super) const USER: &str = "tripod_exporter";

/// What it may do on Redis: what the exporter asks, but for the server's settings and the slow log, which shows values.
const REDIS_RULES: [&str; 7] =
    ["resetchannels", "-@all", "+ping", "+info", "+client|setname", "+latency|latest", "+select"];

const STATEMENT_WITHIN: Duration = Duration::from_secs(10);

/// A password that nobody else has: 122 random bits.
pub(super) fn password() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Makes the login on PostgreSQL's primary; standbys follow it.
pub(super) async fn on_postgres(config: &Config, password: &str) -> anyhow::Result<()> {
    let stored = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let sql = format!(
        "DO $$ BEGIN
           IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{USER}') THEN
             CREATE ROLE {USER};
           END IF;
         END $$;
         ALTER ROLE {USER} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 5 PASSWORD '{stored}';
         ALTER ROLE {USER} SET default_transaction_read_only = on;
         ALTER ROLE {USER} SET statement_timeout = '10s';
         GRANT pg_monitor TO {USER}"
    );
    let postgres = Postgres::open_as(&config.postgres, Login::Admin, STATEMENT_WITHIN)?;
    let made = postgres.call("make the exporter's login", async |client| Ok(client.batch_execute(&sql).await?)).await;
    made.with_context(|| format!("PostgreSQL: the login {USER} cannot be made as {}", config.postgres.admin_user))
}

/// Makes the user on each of these nodes. Gives those that keep their users in memory alone and forget this one when
/// they end.
pub(super) async fn on_redis(
    redis: &Redis,
    server: Server,
    nodes: &[String],
    password: &str,
) -> anyhow::Result<Vec<String>> {
    let mut forgetful = Vec::new();
    for node in nodes {
        let mut admin = connect(node, redis, server).await?;
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(USER).arg("reset").arg("on").arg(format!("#{}", sha256(password)));
        let made = command.arg(&REDIS_RULES).exec_async(&mut admin).await;
        made.with_context(|| format!("{node}: the user {USER} cannot be made as {}", redis.admin_user))?;
        // Into the file of the users where there is one, else into the config.
        let saved = redis::cmd("ACL").arg("SAVE").exec_async(&mut admin).await.is_ok()
            || redis::cmd("CONFIG").arg("REWRITE").exec_async(&mut admin).await.is_ok();
        if !saved {
            forgetful.push(node.clone());
        }
    }
    Ok(forgetful)
}

/// Every node with its password, as the exporter reads them: up to Debian's 1.45 it looks for the bare address, newer ones
/// for the address with the user.
pub(super) fn redis_secret(nodes: &Nodes, prices: &str, events: &str) -> String {
    let with_user = |node: &String| node.replacen("://", &format!("://{USER}@"), 1);
    let all = nodes.prices.iter().map(|node| (node, prices)).chain(nodes.events.iter().map(|node| (node, events)));
    let both = all.flat_map(|(node, password)| [(node.clone(), password), (with_user(node), password)]);
    let object: serde_json::Map<_, _> = both.map(|(node, password)| (node, password.into())).collect();
    serde_json::Value::Object(object).to_string()
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Into a String it cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_names_each_node_as_the_exporter_looks_for_it() {
        let nodes = Nodes { prices: vec!["redis://h:1".into()], events: vec!["rediss://h:2".into()] };
        let secret: serde_json::Value = serde_json::from_str(&redis_secret(&nodes, "p", "e")).unwrap();
        let wanted = serde_json::json!({"redis://h:1": "p", "redis://tripod_exporter@h:1": "p",
                                        "rediss://h:2": "e", "rediss://tripod_exporter@h:2": "e"});
        assert_eq!(secret, wanted);
    }

    #[test]
    fn two_passwords_are_two_and_a_hash_is_the_known_one() {
        assert_ne!(password(), password());
        assert_eq!(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
